"""Scenarios and daemons, through the real programs; skipped where they are not there."""

import os
import pathlib
import tempfile
import threading
import unittest
from collections.abc import Callable
from unittest import mock

import numpy as np
from common import SAMPLES, SHARDS, needs_programs

import tributary
from tributary import Home, frames
from tributary.programs import find, toml

# Two rounds, after which nothing goes wrong any more.
SHORT = {"rounds": 2, "calm.after_round": 2}
RUN = """
name = "alone"
base = "brook"
datanet = "notes"
rounds = 1
min_members = 1
min_contributions = 1
[training]
local_steps = 1
"""


class Finding(unittest.TestCase):
    def test_a_program_that_is_not_there_is_missed_with_what_to_do(self) -> None:
        with tempfile.TemporaryDirectory() as folder, self.assertRaisesRegex(tributary.MissingError, "cargo build"):
            find("tributary-sim", folder)

    def test_the_argument_goes_before_the_variable_and_the_variable_before_the_path(self) -> None:
        with tempfile.TemporaryDirectory() as top:
            places = {}
            for name in ("argument", "variable", "path"):
                places[name] = pathlib.Path(top, name, "tributary-sim")
                places[name].parent.mkdir()
                places[name].write_text("#!/bin/sh\n", encoding="utf-8")
                places[name].chmod(0o755)
            folder = {name: str(place.parent) for name, place in places.items()}
            with mock.patch.dict(os.environ, {"TRIBUTARY_BIN_DIR": folder["variable"], "PATH": folder["path"]}):
                self.assertEqual(find("tributary-sim", folder["argument"]), places["argument"])
                self.assertEqual(find("tributary-sim"), places["variable"])
                del os.environ["TRIBUTARY_BIN_DIR"]
                self.assertEqual(find("tributary-sim"), places["path"])

    def test_values_are_written_as_toml(self) -> None:
        self.assertEqual(toml(np.array([0.1, 0.3])), "[0.1, 0.3]")
        self.assertEqual((toml(np.float64(0.5)), toml(np.int64(3)), toml(np.bool_(True))), ("0.5", "3", "true"))
        with self.assertRaisesRegex(TypeError, "no NoneType"):
            toml(None)
        rule = {"multi_krum": {"tolerate": 0.2}}
        self.assertEqual(toml(rule), "{ multi_krum = { tolerate = 0.2 } }")
        self.assertEqual(toml([True, 3, 'a"b']), '[true, 3, "a\\"b"]')


class Arguments(unittest.TestCase):
    """A program that keeps its arguments and answers with a sample."""

    def arguments(self, answer: str, call: Callable[[pathlib.Path], object]) -> list[str]:
        with tempfile.TemporaryDirectory() as top:
            own = pathlib.Path(top, "tributary")
            own.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >"{top}/asked"\ncat "{answer}"\n', encoding="utf-8")
            own.chmod(0o755)
            call(pathlib.Path(top))
            return pathlib.Path(top, "asked").read_text(encoding="utf-8").splitlines()

    def test_options_become_flags_of_the_command(self) -> None:
        options = {"peers": 2, "rounds": 1, "seed": 3}
        asked = self.arguments(f"{SAMPLES}/demo.json", lambda top: tributary.demo("study", options, bin_dir=top))
        self.assertEqual(asked, ["demo", "--home", "study", "--peers=2", "--rounds=1", "--seed=3", "--format", "json"])
        options = {"learning_rate": 0.002, "resume": True, "force": False}
        asked = self.arguments(f"{SAMPLES}/train.json", lambda top: tributary.train(["a"], "b", options, bin_dir=top))
        self.assertEqual(asked, ["train", "a", "--out", "b", "--learning-rate=0.002", "--resume", "--format", "json"])

    def test_an_answer_of_another_command_is_refused(self) -> None:
        with self.assertRaisesRegex(tributary.SchemaError, "demo/1; this reads eval/1"):
            self.arguments(f"{SAMPLES}/demo.json", lambda top: tributary.evaluate("a", bin_dir=top))

    def test_an_answer_that_is_no_json_is_refused(self) -> None:
        with self.assertRaisesRegex(tributary.SchemaError, "the answer of tributary eval is not JSON"):
            self.arguments(f"{SAMPLES}/result/waits.csv", lambda top: tributary.evaluate("a", bin_dir=top))


@needs_programs
class Trainings(unittest.TestCase):
    def test_an_adapter_is_trained_measured_and_used(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            text, adapter = pathlib.Path(folder, "short.txt"), pathlib.Path(folder, "mine")
            text.write_text((SHARDS / "atlas.txt").read_text(encoding="utf-8")[:20_000], encoding="utf-8")
            options = {"steps": 4, "learning_rate": 5e-3, "holdout_file": text}
            report = tributary.train([text], adapter, options)
            self.assertEqual((report.steps_done, report.adapter), (4, str(adapter)))
            before, after = tributary.evaluate(text), tributary.evaluate(text, adapter)
            self.assertEqual(before.predicted, after.predicted)
            self.assertLess(after.nll, before.nll)
            self.assertEqual(len(tributary.generate("-- The", adapter, {"max_tokens": 4}).token_ids), 4)
            with self.assertRaises(tributary.RefusedError) as caught:
                tributary.train([text], adapter)
            self.assertIn("is not empty", caught.exception.text)
            self.assertIn("--force", caught.exception.hint or "")


@needs_programs
class Scenarios(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.work = pathlib.Path(folder.name)
        cls.scenario = tributary.write_scenario(cls.work / "study.toml", peers=6)

    def test_a_scenario_is_run_with_its_settings_and_its_seed(self) -> None:
        result = tributary.run_scenario(self.scenario, SHORT, seed=7)
        again = tributary.run_scenario(self.scenario, SHORT, seed=7)
        other = tributary.run_scenario(self.scenario, {**SHORT, "run.aggregation": "mean"}, seed=8)
        self.assertEqual((result.seed, result.metrics["rounds_certified"]), (7, 2))
        self.assertEqual(result.digest, again.digest)
        self.assertNotEqual(result.digest, other.digest)
        self.assertGreater(len(result.events()), 100)

    def test_tables_stay_where_they_are_asked_for_and_else_go_away_with_the_result(self) -> None:
        kept = tributary.run_scenario(self.scenario, SHORT, out=self.work / "kept")
        self.assertEqual(tributary.read(self.work / "kept").digest, kept.digest)  # type: ignore[union-attr]
        passing = tributary.run_scenario(self.scenario, SHORT)
        folder = passing.folder
        self.assertTrue((folder / "events.jsonl").exists())
        del passing
        self.assertFalse(folder.exists())

    def test_a_program_of_ones_own_takes_the_simulators_place(self) -> None:
        own = self.work / "mine"
        own.symlink_to(find("tributary-sim"))
        result = tributary.run_scenario(self.scenario, SHORT, bin_dir=self.work, program="mine")
        self.assertEqual(result.digest, tributary.run_scenario(self.scenario, SHORT).digest)

    def test_a_sweep_runs_every_combination(self) -> None:
        grid = {"rounds": [2], "calm.after_round": [2], "link.loss": [0, 0.1], "run.aggregation": ["mean"]}
        sweep = tributary.sweep_scenario(self.scenario, grid, seeds=2, out=self.work / "grid")
        self.assertEqual(sorted(sweep.seeds["link.loss"]), [0, 0, 0.1, 0.1])
        self.assertIsInstance(tributary.read(self.work / "grid"), tributary.Sweep)
        self.assertEqual(
            tributary.read_sweep(self.work / "grid").seeds["digest"].tolist(), sweep.seeds["digest"].tolist()
        )

    def test_a_key_that_is_not_known_is_refused_in_the_programs_words(self) -> None:
        with self.assertRaisesRegex(tributary.RefusedError, "did you mean") as caught:
            tributary.run_scenario(self.scenario, {"link.los": 0.1})
        self.assertEqual(caught.exception.code, "environment")


@needs_programs
class Daemons(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)
        self.home = Home.init(self.work / "home", "amy")

    def test_a_run_is_opened_watched_to_its_end_and_read_from_the_stopped_home(self) -> None:
        self.home.add_text("notes", [SHARDS / "atlas.txt"])
        (self.work / "run.toml").write_text(RUN, encoding="utf-8")
        with self.home.up() as daemon:
            self.assertTrue(daemon.status()["running"])
            events = daemon.events()
            # A stream that hangs would hang the test.
            limit = threading.Timer(120, daemon.stop)
            self.addCleanup(limit.cancel)
            limit.start()
            id = self.home.create_run(self.work / "run.toml", join=True, holdout=SHARDS / "nature.txt")["run"]
            seen = []
            for event in events:
                seen.append(event)
                if event["kind"] == "finished":
                    break
            events.close()
            self.assertIn("training", {event["kind"] for event in seen})
            live = daemon.run(id)
            self.assertIn("tributary_certified_height", daemon.metrics())
            with self.assertRaises(tributary.RefusedError) as caught:
                daemon.run("0" * 10)
            self.assertEqual(caught.exception.code, "unknown_id")
        self.assertFalse(self.home.status()["running"])
        self.assertEqual(frames.history(self.home.run(id)).to_dict(), frames.history(live).to_dict())
        self.assertEqual([run["run"] for run in self.home.runs()], [id])
        self.assertTrue(self.home.verify()["verified"])
        self.assertEqual(self.home.statement()["runs"][0]["run"], id)
        self.assertEqual(self.home.adapters()[0]["run"], id)

    def test_a_daemon_stops_with_its_block_and_a_second_one_is_refused(self) -> None:
        with self.home.up() as daemon:
            with self.assertRaises(tributary.RefusedError):
                with Home(self.home.folder).up():
                    self.fail("two daemons run on one home")
            self.assertEqual(daemon.runs(), [])
        with self.assertRaises(tributary.MissingError):
            tributary.Daemon.of_home(self.home.folder)


if __name__ == "__main__":
    unittest.main()
