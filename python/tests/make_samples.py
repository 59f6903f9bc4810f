#!/usr/bin/env python3
"""Writes tests/samples/ with the programs: small documents of every schema that the package reads.

    TRIBUTARY_BIN_DIR=target/debug python3 python/tests/make_samples.py

Takes a minute. Times, and in a demo the order of messages, differ from one writing to the next; the tests hold for any
of them. The samples name no folder of the machine that wrote them.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SAMPLES = HERE / "samples"
TEXT = HERE.parent.parent / "trainer" / "assets" / "shards" / "atlas.txt"
BIN = os.environ.get("TRIBUTARY_BIN_DIR") or sys.exit("set TRIBUTARY_BIN_DIR to the folder of the programs")
# Two rounds, after which nothing goes wrong any more.
SHORT = ["--set=rounds=2", "--set=calm.after_round=2"]
# Strategies that are within their bounds in any run.
ECONOMY = ["bench", "economy", "--rounds", 4, "--seeds", 2, "--only", "honest,lazy_evaluator"]
TABLES = ["result.json", "contributions.csv", "traffic.csv", "waits.csv", "events.jsonl"]


def ask(work: pathlib.Path, program: str, *words: object) -> str:
    """What a program prints with `--format json`, run in `work`."""
    command = [str(pathlib.Path(BIN).absolute() / program), *map(str, words), "--format", "json"]
    done = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed")
    return done.stdout.replace(str(work), "work")


def simulator(work: pathlib.Path) -> None:
    scenario = work / "study.toml"
    subprocess.run([pathlib.Path(BIN).absolute() / "tributary-sim", "new", scenario, "--peers", "6"], check=True)
    figures = ask(work, "tributary-sim", "run", scenario, *SHORT, "--out", "result")
    (SAMPLES / "figures.json").write_text(figures, encoding="utf-8")
    (SAMPLES / "result").mkdir()
    for name in TABLES:
        shutil.copy(work / "result" / name, SAMPLES / "result" / name)
    # What the scenario's own [sweep] table varies is fixed here.
    varied = ["--set=link.loss=0,0.1", "--set=run.aggregation=mean", "--seeds", 2]
    (SAMPLES / "sweep.json").write_text(
        ask(work, "tributary-sim", "sweep", scenario, *SHORT, *varied), encoding="utf-8"
    )
    lossy = ["--set=link.loss=0.2", "--out", "lossy"]
    ask(work, "tributary-sim", "run", scenario, *SHORT, *lossy)
    (SAMPLES / "comparison.json").write_text(ask(work, "tributary-sim", "compare", "result", "lossy"), encoding="utf-8")
    (SAMPLES / "economy.json").write_text(ask(work, "tributary-sim", *ECONOMY), encoding="utf-8")


def federation(work: pathlib.Path) -> None:
    demo = ask(work, "tributary", "demo", "--peers", 2, "--rounds", 2, "--steps", 2, "--home", "demo")
    run = json.loads(demo)["run"]
    home = ["--home", next((work / "demo" / "peers").glob("00-*")).relative_to(work)]
    statement = ask(work, "tributary", *home, "ledger", "statement")
    receipt = json.loads(statement)["runs"][0]["lines"][0]["receipt"]
    written = {
        "demo": demo,
        "statement": statement,
        "run": ask(work, "tributary", *home, "run", "show", run),
        "status": ask(work, "tributary", *home, "status"),
        "verify": ask(work, "tributary", *home, "ledger", "verify"),
        "explain": ask(work, "tributary", *home, "ledger", "explain", receipt),
        "why": ask(work, "tributary", *home, "why", "--prompt", "Of light", "--max-tokens", 8),
    }
    for name, document in written.items():
        (SAMPLES / f"{name}.json").write_text(document, encoding="utf-8")


def trainer(work: pathlib.Path) -> None:
    shutil.copy(TEXT, work / "atlas.txt")
    written = {
        "train": ask(work, "tributary", "train", "atlas.txt", "--steps", 2, "--out", "mine"),
        "eval": ask(work, "tributary", "eval", "--adapter", "mine", "--text", "atlas.txt"),
        "generate": ask(work, "tributary", "generate", "--adapter", "mine", "--prompt", "Of light", "--max-tokens", 8),
    }
    for name, document in written.items():
        (SAMPLES / f"{name}.json").write_text(document, encoding="utf-8")


def main() -> None:
    shutil.rmtree(SAMPLES, ignore_errors=True)
    SAMPLES.mkdir()
    with tempfile.TemporaryDirectory() as work:
        for part in (simulator, federation, trainer):
            part(pathlib.Path(work).resolve())


if __name__ == "__main__":
    main()
