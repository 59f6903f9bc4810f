"""Documents are read by their schemas, and others refused by a sentence."""

import json
import pathlib
import tempfile
import unittest

import pandas as pd
from common import SAMPLES, sample

import tributary
from tributary.reading import READERS


class Samples(unittest.TestCase):
    def test_a_result_folder_becomes_frames_that_agree_with_its_metrics(self) -> None:
        result = tributary.read_result(SAMPLES / "result")
        self.assertEqual(result.rounds["round"].tolist(), [0, 1, 2, 3])
        self.assertEqual(len(result.participants), 6)
        self.assertEqual(result.rounds["common_loss"].iloc[-1], result.metrics["final_loss"])
        earned = result.contributions.groupby("participant")["earned_open"].sum()
        for participant, total in zip(result.participants["participant"], result.participants["earned_open"]):
            self.assertAlmostEqual(earned[participant], total, places=9)
        certified = result.metrics["rounds_certified"]
        self.assertEqual((result.contributions["round"].nunique(), result.violations), (certified, []))
        self.assertEqual(result.traffic["control_sent_bytes"].sum(), result.metrics["control_bytes"])
        self.assertTrue(set(result.waits["name"]) <= set(result.participants["name"]))

    def test_an_evaluator_has_no_score_rather_than_a_score_of_zero(self) -> None:
        table = tributary.read_result(SAMPLES / "result").contributions
        self.assertTrue(table.loc[table["outcome"] == "evaluator", "score"].isna().all())
        self.assertTrue(table.loc[table["outcome"] == "included", "score"].notna().all())

    def test_events_come_in_order_of_time_with_a_kind_each(self) -> None:
        events = tributary.read_result(SAMPLES / "result").events()
        self.assertTrue(events["at_s"].is_monotonic_increasing)
        self.assertTrue({"phase", "finished"} <= set(events["kind"]))
        self.assertEqual(len(events), len((SAMPLES / "result" / "events.jsonl").read_text().splitlines()))

    def test_a_sweep_has_a_row_for_each_seed_and_one_for_each_combination(self) -> None:
        sweep = tributary.read_sweep(SAMPLES / "sweep.json")
        self.assertEqual((len(sweep.seeds), len(sweep.summary)), (4, 2))
        self.assertIn("link.loss", sweep.settings)
        medians = sweep.seeds.groupby("link.loss")["final_loss"].median()
        for loss, median in zip(sweep.summary["link.loss"], sweep.summary["final_loss_median"]):
            self.assertAlmostEqual(medians[loss], median, places=12)

    def test_a_comparison_puts_the_results_side_by_side(self) -> None:
        comparison = tributary.read_comparison(SAMPLES / "comparison.json")
        self.assertEqual(comparison.results["name"].tolist(), ["result", "lossy"])
        self.assertEqual(comparison.results["digest"].iloc[0], tributary.read_figures(SAMPLES / "figures.json").digest)
        self.assertEqual(comparison.breaches, [])

    def test_an_economy_has_a_row_for_each_strategy_and_one_for_each_of_its_seeds_in_open(self) -> None:
        economy = tributary.read_economy(SAMPLES / "economy.json")
        raw = sample("economy.json")["strategies"]
        self.assertEqual(economy.strategies["strategy"].tolist(), [case["strategy"] for case in raw])
        self.assertEqual(len(economy.seeds), sum(len(case["seeds"]) for case in raw))
        first = raw[0]["seeds"][0]
        self.assertAlmostEqual(economy.seeds["honest_open"].iloc[0] * 1e6, first["honest_micro_open"], places=3)
        worst = economy.seeds.groupby("strategy")["profit"].max()
        for name, profit in zip(economy.strategies["strategy"], economy.strategies["worst"]):
            self.assertEqual(worst[name], profit)

    def test_a_demo_is_told_in_nats_and_open(self) -> None:
        demo = tributary.read_demo(SAMPLES / "demo.json")
        raw = sample("demo.json")["credits"]
        self.assertTrue(demo.ledger_verified and demo.state_hashes_equal)
        self.assertEqual(list(demo.credits.columns), ["peer", "name", "score", "earned_open"])
        for row, (_, credit) in zip(raw, demo.credits.iterrows()):
            self.assertAlmostEqual(credit["score"] * 1e9, row["score_nanonats"], places=3)
            self.assertAlmostEqual(credit["earned_open"] * 1e6, row["micro_open"], places=3)

    def test_a_training_an_evaluation_and_an_answer_are_read(self) -> None:
        training = tributary.read_training(SAMPLES / "train.json")
        self.assertEqual((training.base, training.steps_done), ("brook", 2))
        self.assertEqual(training.data["files"][0]["path"], "atlas.txt")
        self.assertGreater(tributary.read_evaluation(SAMPLES / "eval.json").nll, 0)
        self.assertEqual(len(tributary.read_generation(SAMPLES / "generate.json").token_ids), 8)
        self.assertEqual(tributary.read_why(SAMPLES / "why.json")["prompt"], "Of light")
        self.assertEqual(tributary.read_explanation(SAMPLES / "explain.json")["round"], 1)

    def test_read_finds_the_reader_of_every_schema(self) -> None:
        made = {}
        for path in [SAMPLES / "result", *SAMPLES.glob("*.json")]:
            document = sample(f"{path.name}/result.json" if path.is_dir() else path.name)
            if "schema" in document:
                made[document["schema"]] = type(tributary.read(path)).__name__
        self.assertEqual(set(made), set(READERS))
        self.assertEqual(made["sim-result/1"], "SimulationResult")
        self.assertEqual(made["train/1"], "TrainReport")


class Refusals(unittest.TestCase):
    def refusal(self, content: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "report.json"
            path.write_text(content, encoding="utf-8")
            with self.assertRaises(tributary.SchemaError) as caught:
                tributary.read_evaluation(path)
            return str(caught.exception).replace(str(path), "FILE")

    def test_a_newer_schema_is_refused_with_what_to_install(self) -> None:
        self.assertEqual(
            self.refusal(json.dumps(sample("eval.json") | {"schema": "eval/2"})),
            "FILE has the schema eval/2; this reads eval/1: install the Python package of the release that wrote it",
        )

    def test_an_older_schema_is_refused_with_what_to_write_again(self) -> None:
        self.assertIn("write it again", self.refusal(json.dumps({"schema": "eval/0"})))

    def test_another_document_is_refused_with_what_it_is(self) -> None:
        told = self.refusal(json.dumps(sample("demo.json")))
        self.assertIn("FILE has the schema demo/1; this reads eval/1", told)

    def test_a_document_without_a_schema_is_refused(self) -> None:
        self.assertIn("names no schema; this reads eval/1", self.refusal(json.dumps(sample("run.json"))))

    def test_what_is_no_document_is_refused(self) -> None:
        self.assertIn("is not JSON", self.refusal("loss 4.9"))
        self.assertIn("is not a JSON object", self.refusal("[1, 2]"))

    def test_a_document_that_lacks_a_field_is_refused_by_its_name(self) -> None:
        self.assertIn("lacks predicted", self.refusal('{"schema": "eval/1", "nll": 4.9, "nll_base": 5.1}'))

    def test_a_table_that_lacks_a_column_is_refused_by_its_name(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for path in (SAMPLES / "result").iterdir():
                (pathlib.Path(folder) / path.name).write_bytes(path.read_bytes())
            table = pathlib.Path(folder) / "contributions.csv"
            pd.read_csv(table).drop(columns="credit").to_csv(table, index=False)
            with self.assertRaisesRegex(tributary.SchemaError, "contributions.csv lacks credit"):
                tributary.read_result(folder)
            table.unlink()
            with self.assertRaisesRegex(tributary.SchemaError, "cannot read the table"):
                tributary.read_result(folder)

    def test_a_line_that_is_no_event_is_refused_by_its_number(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "events.jsonl"
            for line, told in [('{"at_s": 1}', "line 2 of .* lacks kind"), ("3", "line 2 of .* not a JSON object")]:
                path.write_text(f'{{"kind": "finished"}}\n{line}\n', encoding="utf-8")
                with self.assertRaisesRegex(tributary.SchemaError, told):
                    tributary.read_events(path)
            with self.assertRaisesRegex(tributary.SchemaError, "cannot read the events"):
                tributary.read_events(pathlib.Path(folder) / "none.jsonl")

    def test_a_folder_that_holds_no_result_is_refused(self) -> None:
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(tributary.SchemaError, "result.json"):
            tributary.read(folder)


if __name__ == "__main__":
    unittest.main()
