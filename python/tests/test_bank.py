"""The bank is read to the byte, and Shapley values are those of the definition."""

import itertools
import pathlib
import struct
import tempfile
import unittest

import numpy as np
from common import REPOSITORY

import tributary

BANK = REPOSITORY / "experiments" / "fixtures" / "bank.bin"


def by_orders(worths: np.ndarray) -> list[float]:
    """The slow twin: a member's gain, averaged over all orders in which members can arrive."""
    members = len(worths).bit_length() - 1
    values = [0.0] * members
    orders = list(itertools.permutations(range(members)))
    for order in orders:
        there = 0
        for member in order:
            values[member] += (worths[there | 1 << member] - worths[there]) / len(orders)
            there |= 1 << member
    return values


class BankTest(unittest.TestCase):
    def test_the_bytes_are_read_where_they_stand(self) -> None:
        bank, content = tributary.read_bank(BANK), BANK.read_bytes()
        self.assertEqual(bank.losses.shape, (12, 5, 61, 64))
        self.assertEqual(bank.fingerprint, content[:32].hex())
        # Federation 7, seed 3, query 20, coalition 45.
        row = 32 + ((7 * 5 + 3) * 61 + 21) * 130
        nobody, above = (
            struct.unpack_from("<f", content, row)[0],
            struct.unpack_from("<h", content, row + 4 + 2 * 44)[0],
        )
        self.assertEqual(bank.losses[7, 3, 21, 0], nobody)
        self.assertEqual(bank.losses[7, 3, 21, 45], nobody + above / 4096)

    def test_shapley_values_are_the_means_over_all_orders(self) -> None:
        bank = tributary.read_bank(BANK)
        for place in [(0, 0, 0), (5, 2, 0), (11, 4, 60)]:
            np.testing.assert_allclose(bank.shapley()[place], by_orders(bank.worths()[place]), atol=1e-12)

    def test_shapley_values_add_up_to_what_all_are_worth(self) -> None:
        bank = tributary.read_bank(BANK)
        np.testing.assert_allclose(bank.shapley().sum(axis=-1), bank.worths()[..., -1], atol=1e-12)

    def test_a_member_that_adds_nothing_is_worth_nothing(self) -> None:
        worths = np.array([1.0 if bits & 1 else 0.0 for bits in range(8)])
        np.testing.assert_allclose(tributary.shapley(worths), [1, 0, 0], atol=1e-15)

    def test_the_ceiling_is_the_one_that_the_study_of_attribution_writes(self) -> None:
        ceiling = tributary.read_bank(BANK).ceiling()
        self.assertEqual(ceiling.shape, (12,))
        # The mean that the study itself writes into docs/numbers/attribution.md.
        page = (REPOSITORY / "docs" / "numbers" / "attribution.md").read_text(encoding="utf-8")
        self.assertIn(f"| retraining, one seed (the ceiling) | {ceiling.mean():.2f} (", page)

    def test_a_bank_of_another_size_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "bank.bin"
            path.write_bytes(BANK.read_bytes()[:-2])
            with self.assertRaisesRegex(tributary.SchemaError, "475830 bytes; this reads a bank of 475832"):
                tributary.read_bank(path)

    def test_worths_of_some_coalitions_only_are_refused(self) -> None:
        with self.assertRaisesRegex(ValueError, "power of two"):
            tributary.shapley(np.zeros(12))


if __name__ == "__main__":
    unittest.main()
