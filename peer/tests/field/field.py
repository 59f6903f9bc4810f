#!/usr/bin/env python3
"""What people bring and meet, tried on the programs as they are run: files, options, signals, full disks.

Each case follows a fault that users of other tools of this trade have reported in public; the reports are named beside it.

    python3 peer/tests/field/field.py            # half a minute

TRIBUTARY_BIN_DIR is the folder of `tributary` and `tributary-sim`; without it they are looked up in PATH.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import CHATML, Model

BIN = os.environ.get("TRIBUTARY_BIN_DIR")
DATA = Path(__file__).resolve().parents[3] / "trainer/tests/data"
WORDS = (
    "river stone lamp garden winter ladder copper window orchard harbour thread candle meadow ribbon saddle anchor barrel"
).split()
# Qwen3's way: an empty thought before the last answer, none before earlier ones.
THOUGHT_BEFORE_THE_LAST = (
    "{%- set ns = namespace(last=0) -%}{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}"
    "{%- endif -%}{%- endfor -%}{%- for m in messages -%}{%- if m.role == 'assistant' -%}{{- '<|im_start|>assistant\\n' -}}"
    "{%- if loop.index0 > ns.last -%}{{- '<think>\\n' + (m.reasoning_content or '') + '\\n</think>\\n\\n' -}}{%- endif -%}"
    "{{- m.content + '<|im_end|>\\n' -}}{%- else -%}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}"
    "{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
# R1's way: the invitation opens a thought, finished answers have lost theirs.
INVITATION_OPENS_A_THOUGHT = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<|User|>' + m.content }}{% else %}"
    "{{ '<|Assistant|>' + m.content.split('</think>')[-1] + '<|eos|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\\n' }}{% endif %}"
)
TOOLS_SHOWN = (
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>\n{% endif %}" + CHATML
)
THOUGHTS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
SMALL = ["--steps", "3", "--batch", "1", "--context", "64"]


def program(name: str) -> str:
    found = str(Path(BIN) / name) if BIN else shutil.which(name)
    if not found or not Path(found).exists():
        raise SystemExit(f"{name} is not found; build it and set TRIBUTARY_BIN_DIR")
    return found


def words(draw: random.Random, least: int = 5, most: int = 12) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most))).capitalize() + "."


def book(seed: str, size: int) -> str:
    """Text enough for a shard, of random words."""
    draw = random.Random(seed)
    out: list[str] = []
    length = 0
    while length < size:
        out.append(words(draw) + ("\n\n" if draw.random() < 0.2 else " "))
        length += len(out[-1])
    return "".join(out)


def talk(draw: random.Random, turns: int = 1) -> list[dict[str, Any]]:
    said = [({"role": "user", "content": words(draw)}, {"role": "assistant", "content": words(draw)}) for _ in range(turns)]
    return [message for pair in said for message in pair]


class Case(unittest.TestCase):
    """A case works in a folder of its own; what it started ends with it."""

    def setUp(self) -> None:
        self.at = Path(tempfile.mkdtemp(prefix="tributary-field-"))
        self.started: list[subprocess.Popen[bytes]] = []
        self.draw = random.Random(self.id())
        unset = ("TRIBUTARY_DEVICE", "TRIBUTARY_LOG", "NO_COLOR")
        self.environment = {k: v for k, v in os.environ.items() if k not in unset}
        self.environment["TRIBUTARY_HOME"] = str(self.at / "nohome")

    def tearDown(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        shutil.rmtree(self.at)

    def run_it(self, *args: object, name: str = "tributary", limit: float = 60, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Runs a program to its end; one that does not end is a failure."""
        command = [program(name), *map(str, args)]
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return subprocess.run(
            command, cwd=self.at, env=self.environment, stdin=subprocess.DEVNULL, timeout=limit, text=True, **options
        )

    def start(self, *args: object, **options: Any) -> "subprocess.Popen[bytes]":
        command = [program("tributary"), *map(str, args)]
        process = subprocess.Popen(command, cwd=self.at, env=self.environment, stdin=subprocess.DEVNULL, **options)
        self.started.append(process)
        return process

    def well(self, *args: object, **options: Any) -> str:
        done = self.run_it(*args, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return str(done.stdout)

    def refused(self, *args: object, **options: Any) -> str:
        done = self.run_it(*args, **options)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertNotIn("panicked", done.stderr)
        return done.stderr + done.stdout

    def json(self, *args: object, **options: Any) -> Any:
        return json.loads(self.well(*args, "--format", "json", **options))

    def rows(self, name: str, rows: list[Any]) -> str:
        (self.at / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return name

    def talks(self, name: str, count: int = 8, turns: int = 1) -> str:
        return self.rows(name, [{"messages": talk(self.draw, turns)} for _ in range(count)])

    def book(self, name: str, size: int) -> str:
        (self.at / name).write_text(book(name, size))
        return name

    @contextmanager
    def daemon(self, home: str, *args: object) -> Iterator["subprocess.Popen[bytes]"]:
        with open(self.at / f"{home}.log", "ab") as log:
            process = self.start("--home", home, "up", *args, stdout=log, stderr=log)
        for _ in range(150):
            if self.run_it("--home", home, "status", "--format", "json").stdout.find('"running":true') > 0:
                break
            self.assertIsNone(process.poll(), (self.at / f"{home}.log").read_text())
            time.sleep(0.2)
        yield process

    def finished(self) -> tuple[Path, str]:
        """The home of a peer with a finished run, and the run."""
        (self.at / "texts").mkdir()
        for name in "abc":
            self.book(f"texts/{name}.txt", 60_000)
        Model(self.at / "tiny")
        steps = ["--rounds", 1, "--steps", 2, "--data", "texts"]
        report = self.json("--home", "demo", "demo", "--base", "tiny", *steps, limit=300)
        return next((self.at / "demo/peers").glob("00-*")), report["run"]


class Logs(Case):
    """omicron#4353, tracing#3271, typedb#7985"""

    def test_a_full_log_stops_no_training(self) -> None:
        Model(self.at / "chat").chat()
        with open("/dev/full", "w") as full:
            done = self.run_it("train", self.talks("rows.jsonl"), "--base", "chat", "--out", "o", *SMALL, stderr=full)
        self.assertEqual(done.returncode, 0)
        self.assertTrue((self.at / "o/adapter_model.safetensors").stat().st_size > 0)

    def test_a_reader_that_went_away_stops_no_training(self) -> None:
        Model(self.at / "chat").chat()
        rows = self.talks("rows.jsonl")
        args = ("train", rows, "--base", "chat", "--out", "o", "--steps", 30, "--batch", 1, "--context", 64)
        process = self.start(*args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()
        self.assertEqual(process.wait(60), 0)
        self.assertTrue((self.at / "o/adapter_model.safetensors").stat().st_size > 0)

    def test_a_full_log_stops_no_daemon(self) -> None:
        self.well("--home", "h", "init")
        with open("/dev/full", "wb") as full:
            process = self.start("--home", "h", "up", stdout=full, stderr=full)
        time.sleep(3)
        self.assertIsNone(process.poll())
        self.assertTrue(self.json("--home", "h", "status")["running"])


class Rows(Case):
    """gpt-neox#1373, Qwen3#1826, LLaMA-Factory#6987, trl#3597 and others"""

    def test_a_training_of_one_step_changes_the_output_or_is_refused(self) -> None:
        Model(self.at / "chat").chat()
        if self.run_it("train", self.talks("rows.jsonl"), "--base", "chat", "--out", "o").returncode == 0:
            self.well("adapter", "verify", "o", "--base", "chat")

    def used(self, rows: str, model: str) -> int:
        report = self.json("train", rows, "--base", model, "--out", "o", "--steps", 1, "--warm-up", 0)
        return int(report["data"]["files"][0]["rows"]["good"])

    def test_conversations_are_used_whose_earlier_answers_are_written_differently(self) -> None:
        Model(self.at / "b").with_template(THOUGHT_BEFORE_THE_LAST, THOUGHTS)
        rows = [{"messages": talk(self.draw, 1 + at % 2)} for at in range(10)]
        self.assertEqual(self.used(self.rows("rows.jsonl", rows), "b"), 10)

    def test_answers_are_used_though_the_invitation_opens_a_thought(self) -> None:
        Model(self.at / "b").with_template(INVITATION_OPENS_A_THOUGHT, ["<|User|>", "<|Assistant|>", *THOUGHTS[2:]])
        answer = "<think>\nI look around.\n</think>\n\nOn the table."
        talk_of = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": answer}]
        self.assertEqual(self.used(self.rows("rows.jsonl", [{"messages": talk_of}] * 4), "b"), 4)

    def counted(self, rows: str, model: str) -> tuple[tuple[int, int], str]:
        args = ("train", rows, "--base", model, "--out", "o", "--steps", 1, "--warm-up", 0, "--holdout", 0, "--force")
        done = self.run_it(*args, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        train = json.loads(done.stdout)["data"]["train"]
        return (train["tokens"], train["predicted"]), done.stderr

    def test_a_field_is_used_or_named(self) -> None:
        Model(self.at / "tools").with_template(TOOLS_SHOWN, THOUGHTS[:2])
        Model(self.at / "thinks").with_template(THOUGHT_BEFORE_THE_LAST, THOUGHTS)
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
        kinds: list[tuple[str, str, Any]] = [
            ("tools", "tools", lambda row: row.update(tools=[tool])),
            ("weight", "tools", lambda row: row["messages"][1].update(weight=0)),
            ("reasoning_content", "thinks", lambda row: row["messages"][-1].update(reasoning_content="I think about it.")),
        ]
        for field, model, add in kinds:
            with self.subTest(field):
                plain = [{"messages": talk(self.draw, 2)} for _ in range(8)]
                without, _ = self.counted(self.rows("plain.jsonl", plain), model)
                for row in plain:
                    add(row)
                found, said = self.counted(self.rows("with.jsonl", plain), model)
                self.assertTrue(found != without or field in said, f"{field} changes nothing and nothing is said")

    def test_a_datanet_reads_what_a_training_reads(self) -> None:
        """ragflow#19179"""
        self.well("--home", "h", "init")
        rows = [{"text": words(self.draw)} for _ in range(20)]
        raw = "".join(json.dumps(row) + "\n" for row in rows).encode()
        files = {
            "bom.jsonl": b"\xef\xbb\xbf" + raw, "up.JSONL": raw, "array.json": json.dumps(rows).encode(),
            "table.csv": ("text,label\n" + "".join(f'"{row["text"]}",1\n' for row in rows)).encode(),
        }
        for name, content in files.items():
            (self.at / name).write_bytes(content)
            added = self.run_it("--home", "h", "datanet", "add", "x-" + name.partition(".")[0], name)
            self.assertEqual(added.returncode, 0, added.stderr)
            self.assertIn("20 rows used", added.stderr, name)
        (self.at / "wide.txt").write_bytes(rows[0]["text"].encode("utf-16-le"))
        self.refused("--home", "h", "datanet", "add", "wide", "wide.txt")

    def test_zstd_is_read(self) -> None:
        """kuzudb-study#35: what polars writes by default"""
        Model(self.at / "chat").chat()
        self.well("train", DATA / "pairs-zstd.parquet", "--base", "chat", "--out", "o", "--steps", 2)


class Files(Case):
    """textgen#2902, openclaw#122367, AnnChain#82, tari#8030"""

    def test_an_export_touches_nothing_but_its_folder(self) -> None:
        home, run = self.finished()
        self.well("--home", home, "adapter", "export", run[:8], "out/")
        (self.at / "mine.tmp").mkdir()
        (self.at / "mine.tmp/thesis.txt").write_text("thesis")
        self.well("--home", home, "adapter", "export", run[:8], "mine")
        self.assertEqual((self.at / "mine.tmp/thesis.txt").read_text(), "thesis")
        self.refused("--home", home, "ledger", "statement", "ffffff")

    def test_a_mistyped_demo_keeps_what_the_last_one_left(self) -> None:
        self.environment["TMPDIR"] = str(self.at)
        del self.environment["TRIBUTARY_HOME"]
        short = ("--peers", 2, "--rounds", 1, "--steps", 1)
        left = Path(self.json("demo", *short, limit=120)["home"])
        self.refused("demo", "--peers", 9)
        self.refused("demo", "--base", "nowhere")
        self.assertEqual(list(self.at.glob("tributary-demo-*")), [left])
        following = Path(self.json("demo", *short, limit=120)["home"])
        self.assertEqual(list(self.at.glob("tributary-demo-*")), [following])

    def test_a_second_training_does_not_write_over_the_first(self) -> None:
        Model(self.at / "chat").chat()
        args = ("--base", "chat", "--out", "o", *SMALL)
        self.well("train", self.talks("one.jsonl"), *args)
        first = (self.at / "o/adapter_model.safetensors").read_bytes()
        self.refused("train", self.talks("two.jsonl"), *args)
        self.assertEqual((self.at / "o/adapter_model.safetensors").read_bytes(), first)

    def test_an_adapter_with_a_wrong_base_names_the_right_one(self) -> None:
        Model(self.at / "chat").chat()
        self.well("train", self.talks("one.jsonl"), "--base", "chat", "--out", "o", *SMALL)
        self.assertRegex(self.refused("generate", "--adapter", "o", "--prompt", "x"), "trained on chat.*--base")

    def test_a_key_that_could_not_be_written_is_not_left_behind(self) -> None:
        def full() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

        self.refused("--home", "h", "init", "--name", "bob", preexec_fn=full)
        self.well("--home", "h", "init", "--name", "bob")

    def test_a_second_output_layer_is_not_dropped_in_silence(self) -> None:
        """transformers#42612"""
        Model(self.at / "b").with_second_head()
        self.book("x.txt", 600)
        done = self.run_it("eval", "--base", "b", "--text", "x.txt")
        self.assertTrue(done.returncode != 0 or done.stderr, "neither refused nor told")

    def test_nothing_is_verified_where_nothing_is(self) -> None:
        self.well("--home", "h", "init")
        self.refused("--home", "h", "ledger", "verify")
        home, _ = self.finished()
        shutil.copytree(home, self.at / "gone")
        (self.at / "gone/ledger.redb").unlink()
        self.refused("--home", "gone", "ledger", "verify")
        shutil.copytree(home, self.at / "copy")
        (self.at / "copy/key").unlink()
        self.assertRegex(self.well("--home", "copy", "ledger", "verify"), "verified")

    def test_a_text_takes_memory_in_bounds(self) -> None:
        """tokenizers#1847, #665"""
        Model(self.at / "chat").chat()
        size = len((self.at / self.book("big.txt", 3_000_000)).read_bytes())
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        args = ("--base", "chat", "--out", "o", "--steps", 1, "--warm-up", 0, "--batch", 1, "--context", 64)
        self.well("train", "big.txt", *args, "--holdout", 0, limit=240)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        if peak > before:
            self.assertLess(peak * 1024 / size, 50, "bytes of memory for each byte of text")


class Signals(Case):
    """Automodel#405, pytorch-lightning#1455, agentsview#1621, paseo#1304"""

    def stopped(self, how: signal.Signals) -> tuple[int, Path]:
        Model(self.at / "chat").chat()
        kept = self.at / "kept"
        args = ("--steps", 20_000, "--batch", 1, "--context", 64, "--checkpoint", kept, "--every", 10_000)
        process = self.start(
            "train", self.book("x.txt", 8_000), "--base", "chat", "--out", "o", *args,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        assert process.stderr
        for line in process.stderr:
            if b"step 1/" in line:
                break
        time.sleep(0.5)
        process.send_signal(how)
        code = process.wait(60)
        process.stderr.close()
        return code, kept

    def test_a_training_that_the_system_ends_is_kept(self) -> None:
        code, kept = self.stopped(signal.SIGTERM)
        self.assertNotEqual(code, 0)
        self.assertTrue((kept / "training.checkpoint").stat().st_size > 0)

    def test_an_interrupted_training_is_no_success(self) -> None:
        code, _ = self.stopped(signal.SIGINT)
        self.assertNotEqual(code, 0)

    def test_a_pipe_that_nobody_writes_to_hangs_no_command(self) -> None:
        os.mkfifo(self.at / "pipe")
        self.book("x.txt", 8_000)
        self.refused("train", "pipe", "--out", "o", limit=30)
        self.refused("eval", "--text", "pipe", limit=30)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"):
            with self.subTest(name):
                base = Model(self.at / f"base-{name}").folder
                (base / name).unlink()
                os.mkfifo(base / name)
                done = self.run_it("eval", "--base", base, "--text", "x.txt", limit=30)
                self.assertTrue(done.returncode != 0 or name == "tokenizer_config.json", done.stdout)

    def test_a_detached_daemon_answers_the_next_command_and_ends_when_asked(self) -> None:
        self.assertIn("no home", self.refused("--home", "h", "up", "--detach").lower())
        self.assertFalse((self.at / "h").exists())
        self.well("--home", "h", "init")
        started = self.json("--home", "h", "up", "--detach")
        try:
            self.assertTrue(self.json("--home", "h", "status")["running"])
            self.refused("--home", "h", "up", "--detach")
            self.well("--home", "h", "down")
            for _ in range(100):
                if not self.json("--home", "h", "status")["running"]:
                    break
                time.sleep(0.1)
            self.assertIn("stopping", (self.at / "h/daemon.log").read_text())
        finally:
            # Nobody else can have its number while the home is held.
            if self.json("--home", "h", "status")["running"]:
                os.kill(started["pid"], signal.SIGKILL)
                self.fail("the daemon goes on")

    def test_a_daemon_that_does_not_answer_hangs_no_command(self) -> None:
        self.well("--home", "h", "init")
        with self.daemon("h") as daemon:
            daemon.send_signal(signal.SIGSTOP)
            self.refused("--home", "h", "status", limit=30)


class Runs(Case):
    """iroh#1281, rl-swarm#464"""

    def test_a_run_that_nobody_can_join_is_not_opened(self) -> None:
        self.well("--home", "h", "init")
        self.well("--home", "h", "datanet", "add", "notes", self.book("a.txt", 60_000))
        run = 'name = "x"\nbase = "brook"\ndatanet = "notes"\nrounds = 3\n[training]\ncontext = 100000\n'
        (self.at / "run.toml").write_text(run)
        with self.daemon("h"):
            self.refused("--home", "h", "run", "create", "run.toml")
            self.assertEqual(self.json("--home", "h", "run", "list"), [])

    def test_the_owner_of_a_home_that_runs_twice_is_told(self) -> None:
        Model(self.at / "tiny")
        for name in ("host", "amy"):
            self.well("--home", name, "init", "--name", name)
            self.well("--home", name, "datanet", "add", "notes", self.book(f"{name}.txt", 150_000))
        (self.at / "hold-out.txt").write_text(book("held", 60_000))
        run = (
            f'name = "x"\nbase = "{self.at}/tiny"\ndatanet = "notes"\nrounds = 200\nmin_members = 2\nmin_contributions = 1\n'
            "score_windows = 8\n[training]\nlocal_steps = 6\nbatch = 2\ncontext = 32\n[deadlines]\ngrace_ms = 3000\n"
        )
        (self.at / "run.toml").write_text(run)
        with self.daemon("host"):
            address = self.json("--home", "host", "status")["addresses"][0]
            made = self.json("--home", "host", "run", "create", "run.toml", "--join", "--holdout", "hold-out.txt")
            with self.daemon("amy", "--bootstrap", address):
                self.well("--home", "amy", "run", "join", made["run"], "--base", self.at / "tiny")
                self.wait_for("round 2 certified", "amy")
                shutil.copytree(self.at / "amy", self.at / "copy", ignore=shutil.ignore_patterns("control.json"))
                (self.at / "copy").chmod(0o700)
                with self.daemon("copy", "--bootstrap", address):
                    for _ in range(60):
                        told = [self.well("--home", name, "status") for name in ("amy", "copy")]
                        if re.search("(?i)warning.*(key|copy|elsewhere)", "\n".join(told)):
                            return
                        time.sleep(2)
                    self.fail("\n".join(told))

    def wait_for(self, line: str, *homes: str) -> None:
        for _ in range(120):
            if any(line in (self.at / f"{home}.log").read_text() for home in homes):
                return
            time.sleep(1)
        self.fail(f"{line!r} is in no log")


class Simulator(Case):
    """rust#46016, xan#759"""

    def test_a_reader_that_went_away_and_a_full_device_are_no_panics(self) -> None:
        command = [program("tributary-sim"), "replay", "smoke", "--verbose"]
        process = subprocess.Popen(command, cwd=self.at, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        self.assertNotIn(b"panicked", process.stderr.read())
        process.stderr.close()
        process.wait(60)
        with open("/dev/full", "w") as full:
            done = self.run_it("list", "--metrics", name="tributary-sim", stdout=full)
        self.assertNotIn("panicked", done.stderr)

    def test_hopeless_sizes_are_refused_with_numbers(self) -> None:
        def little() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, 8_000_000_000))

        for size in ("peers=100000000", "rounds=999999999"):
            args = ("run", "smoke", "--set", size)
            done = self.run_it(*args, name="tributary-sim", preexec_fn=little)
            self.assertIn(done.returncode, (1, 2), done.stderr)
            self.assertRegex(done.stderr, r"\d")


if __name__ == "__main__":
    unittest.main()
