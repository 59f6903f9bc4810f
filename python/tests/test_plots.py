"""Figures show what the frames hold, or say what is missing."""

import importlib.util
import io
import sys
import unittest
from unittest import mock

from common import SAMPLES, sample

import tributary
from tributary import frames, plots

needs_matplotlib = unittest.skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")


@needs_matplotlib
class Figures(unittest.TestCase):
    def png(self, figure: object) -> bytes:
        out = io.BytesIO()
        figure.savefig(out, format="png")  # type: ignore[attr-defined]
        return out.getvalue()

    def test_the_loss_is_drawn_by_round(self) -> None:
        rounds = tributary.read_result(SAMPLES / "result").rounds
        figure = plots.loss_by_round(rounds)
        common = figure.axes[0].get_lines()[0]
        self.assertEqual(list(common.get_ydata()), rounds["common_loss"].tolist())
        self.assertTrue(self.png(figure).startswith(b"\x89PNG"))
        of_run = plots.loss_by_round(frames.history(sample("run.json")))
        self.assertEqual(list(of_run.axes[0].get_lines()[0].get_xdata()), [1, 2])

    def test_scores_have_their_intervals_and_the_greatest_stands_at_the_top(self) -> None:
        members = frames.members(sample("run.json"))
        axes = plots.scores(members).axes[0]
        names = [label.get_text() for label in axes.get_yticklabels()]
        self.assertEqual(names[-1], members.loc[members["score"].idxmax(), "name"])
        ends = sorted(value for line in axes.get_lines()[:2] for value in line.get_xdata())
        expected = sorted(members[["score_low", "score_high"]].dropna().to_numpy().ravel().tolist())
        self.assertEqual(ends, expected)

    def test_payouts_are_drawn_against_scores_with_names(self) -> None:
        participants = tributary.read_result(SAMPLES / "result").participants
        figure = plots.payouts(participants)
        scored = participants.dropna(subset=["score"])
        self.assertEqual(len(figure.axes[0].get_lines()[0].get_xdata()), len(scored))
        self.assertEqual({text.get_text() for text in figure.axes[0].texts}, set(scored["name"]))

    def test_profits_have_a_point_for_each_seed_and_a_line_at_the_median(self) -> None:
        seeds = tributary.read_economy(SAMPLES / "economy.json").seeds
        axes = plots.profits(seeds).axes[0]
        names = [label.get_text() for label in axes.get_yticklabels()]
        self.assertEqual(names, seeds["strategy"].drop_duplicates().tolist()[::-1])
        points, middle = axes.get_lines()[:2]
        last = 100 * seeds.loc[seeds["strategy"] == names[0], "profit"]
        self.assertEqual(list(points.get_xdata()), last.tolist())
        self.assertEqual(list(middle.get_xdata()), [last.median()])

    def test_a_frame_without_the_columns_is_refused_by_their_names(self) -> None:
        rounds = tributary.read_result(SAMPLES / "result").rounds
        with self.assertRaisesRegex(tributary.SchemaError, "no column name, score"):
            plots.scores(rounds)
        with self.assertRaisesRegex(tributary.SchemaError, "no loss to plot"):
            plots.loss_by_round(rounds[["round"]])


class WithoutMatplotlib(unittest.TestCase):
    def test_a_figure_without_matplotlib_says_what_to_install(self) -> None:
        rounds = tributary.read_result(SAMPLES / "result").rounds
        hidden = {name: None for name in ("matplotlib", "matplotlib.figure")}
        with mock.patch.dict(sys.modules, hidden), self.assertRaisesRegex(
            tributary.MissingError, "pip install matplotlib"
        ):
            plots.loss_by_round(rounds)


if __name__ == "__main__":
    unittest.main()
