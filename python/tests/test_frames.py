"""Runs, statements and explanations as frames, in nats and OPEN."""

import unittest

from common import sample

from tributary import frames


class Frames(unittest.TestCase):
    def test_members_have_their_role_and_what_they_earned(self) -> None:
        run = sample("run.json")
        members = frames.members(run)
        self.assertEqual(len(members), 5)
        self.assertEqual(set(members.loc[members["score"].notna(), "role"]), {"contributor"})
        paid = sum(credit["micro_open"] for credit in run["credits"])
        self.assertAlmostEqual(members["earned_open"].sum() * 1e6, paid, places=3)

    def test_a_run_without_credits_has_members_all_the_same(self) -> None:
        run = sample("run.json") | {"credits": [], "history": []}
        self.assertEqual(len(frames.members(run)), 5)
        self.assertTrue(frames.members(run)["score"].isna().all())
        self.assertEqual(len(frames.history(run)), 0)

    def test_the_history_has_the_losses_of_each_round(self) -> None:
        history = frames.history(sample("run.json"))
        self.assertEqual(history["round"].tolist(), [1, 2])
        self.assertTrue((history["loss_before"] > 0).all())

    def test_postings_of_a_statement_add_up_to_its_total(self) -> None:
        statement = sample("statement.json")
        postings = frames.postings(statement)
        self.assertAlmostEqual(postings["earned_open"].sum() * 1e6, statement["total_micro_open"], places=3)
        self.assertLessEqual({"contributor", "member"}, set(postings["capacity"]))

    def test_lines_of_a_statement_add_up_to_what_it_earned_as_contributor_before_the_closing(self) -> None:
        statement = sample("statement.json")
        lines = frames.lines(statement)
        (run,) = statement["runs"]
        (account,) = (one for one in run["accounts"] if one["capacity"] == "contributor")
        before = account["micro_open"] - run["closing_micro_open"]
        self.assertAlmostEqual(lines["earned_open"].sum() * 1e6, before, places=3)
        self.assertTrue((lines["score_low"] <= lines["score"]).all())
        self.assertTrue((lines["score"] <= lines["score_high"]).all())
        self.assertTrue(lines["credit"].between(0, 1).all())

    def test_causes_of_a_period_add_up_to_its_change(self) -> None:
        periods = frames.periods(sample("statement.json"))
        causes = [column for column in periods if column.startswith("because_")]
        self.assertEqual(len(causes), 8)
        change = periods["earned_open"].diff().iloc[1]
        self.assertAlmostEqual(periods[causes].iloc[1].sum(), change, places=9)
        self.assertTrue(periods[causes].iloc[0].isna().all())

    def test_an_explained_score_is_the_median_of_its_sheets(self) -> None:
        explanation = sample("explain.json")
        sheets = frames.sheets(explanation)
        self.assertAlmostEqual(sheets["score"].median() * 1e9, explanation["score"]["score_nanonats"], places=3)
        split = frames.split(explanation)
        own = split.loc[split["peer"] == explanation["peer"], "earned_open"].item()
        self.assertAlmostEqual(own * 1e6, explanation["payout"]["micro_open"], places=3)

    def test_shares_of_an_answer_and_nobodys_make_the_whole(self) -> None:
        why = sample("why.json")
        shares = frames.shares(why)
        self.assertAlmostEqual(shares["share"].sum() + why["nobody_ppb"] * 1e-9, 1.0, places=6)
        self.assertTrue((shares["share_low"] <= shares["share_high"]).all())


if __name__ == "__main__":
    unittest.main()
