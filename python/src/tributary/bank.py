"""The bank of retrained coalitions (`experiments/fixtures/bank.bin`): the truth that attribution is held against.

Twelve federations of six members were retrained without and with each member, all 64 coalitions, with five seeds each.
The file has for each of them the loss on the hold-out and on 60 queries (`experiments/src/studies/attribution/bank.rs`
describes the bytes). It has no mark of its format, so a file of another size is refused.
"""

from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import SchemaError
from .schema import PathLike

FEDERATIONS, SEEDS, MEMBERS, QUERIES = 12, 5, 6, 60
COALITIONS = 1 << MEMBERS
# Units of a nat.
UNITS = 4096.0
FINGERPRINT = 32
ROW = np.dtype([("nobody", "<f4"), ("above", "<i2", (COALITIONS - 1,))])

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bank:
    """The losses of all retrained coalitions."""

    # Of base model and recipe, in hexadecimal digits.
    fingerprint: str
    # Nats per token, by federation, seed, what it is measured on (0 is the hold-out, then each query), and coalition:
    # bit m of the last index is set where member m takes part.
    losses: Array = field(repr=False)

    def worths(self) -> Array:
        """By how many nats each coalition's loss is below nobody's; shaped as `losses`."""
        return self.losses[..., :1] - self.losses

    def shapley(self) -> Array:
        """The exact Shapley value of each member: by federation, seed, what it is measured on, and member."""
        return shapley(self.worths())

    def ceiling(self) -> Array:
        """How far seeds agree on the hold-out: by federation, the mean correlation of a seed's values with the mean of
        the others'. No method that sees one seed can be expected above it."""
        values = self.shapley()[:, :, 0]
        found = np.empty((FEDERATIONS, SEEDS))
        for seed in range(SEEDS):
            others = np.delete(values, seed, axis=1).mean(axis=1)
            found[:, seed] = [np.corrcoef(one, rest)[0, 1] for one, rest in zip(values[:, seed], others, strict=True)]
        mean: Array = found.mean(axis=1)
        return mean


def read_bank(path: PathLike) -> Bank:
    """Reads a bank."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise SchemaError(f"cannot read the bank {path}: {error.strerror}; give the file `bank.bin`") from error
    rows = FEDERATIONS * SEEDS * (1 + QUERIES)
    expected = FINGERPRINT + rows * ROW.itemsize
    if len(content) != expected:
        raise SchemaError(
            f"the bank {path} has {len(content)} bytes; this reads a bank of {expected}: "
            "install the Python package of the release that wrote it"
        )
    packed = np.frombuffer(content, ROW, offset=FINGERPRINT)
    nobody = packed["nobody"].astype(np.float64)[:, np.newaxis]
    losses = np.concatenate([nobody, nobody + packed["above"] / UNITS], axis=1)
    return Bank(content[:FINGERPRINT].hex(), losses.reshape(FEDERATIONS, SEEDS, 1 + QUERIES, COALITIONS))


def shapley(worths: Array) -> Array:
    """Exact Shapley values of games whose last axis is the coalition's bits; the empty coalition's worth counts too."""
    members = int(worths.shape[-1]).bit_length() - 1
    if worths.shape[-1] != 1 << members:
        raise ValueError(f"{worths.shape[-1]} worths are not those of all coalitions; their number is a power of two")
    values: Array = worths @ _weights(members)
    return values


def _weights(members: int) -> Array:
    """What a coalition's worth counts for each member's value (Shapley 1953)."""
    weights = np.zeros((1 << members, members))
    for member in range(members):
        others = [1 << other for other in range(members) if other != member]
        for size in range(members):
            for chosen in combinations(others, size):
                share = 1 / (members * comb(members - 1, size))
                weights[sum(chosen), member] -= share
                weights[sum(chosen) | 1 << member, member] += share
    return weights
