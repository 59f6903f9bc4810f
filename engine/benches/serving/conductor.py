#!/usr/bin/env python3
"""Compares the serving engine with llama.cpp: starts one process of each for a precision, gives both the same command
in turns, and reports medians, spreads and ratios. `README.md` in this folder says how to run it and what the
processes have to answer.

    python3 conductor.py --work WORK --lib LIB --engine "COMMAND" [--only decode-32] [--precision f32] [--out FILE]
"""
import argparse
import datetime
import json
import os
import shlex
import statistics
import subprocess
import sys
import time

from machine import Memory, Watch

HERE = os.path.dirname(os.path.abspath(__file__))
# The engine's name of a precision and the file that llama.cpp loads for it.
PRECISIONS = {"f32": "f32.gguf", "int8": "q8_0.gguf"}
# A measurement counts as disturbed when others had more than this share of the two processors meanwhile. The clock of
# processor times ticks at 10 ms, so that a short measurement may read 2 % too much.
DISTURBED = 0.06
# A round begins when others have been still for so long.
QUIET_SECONDS = 0.3


def cases(work, ranks, adapters):
    """Every case: its name, and the commands of one round, each with a label. The first is what others are set
    against on the same side (`share`)."""
    folder = lambda rank, number: os.path.join(work, "adapters", f"r{rank}", f"{number:02}")
    decode = {"do": "decode", "context": 32, "tokens": 64}
    batch = {"do": "batch", "rows": 32, "context": 32, "tokens": 8}
    yield "decode-32", [("base", decode)]
    yield "decode-1024", [("base", {"do": "decode", "context": 1024, "tokens": 32})]
    yield "prefill-512", [("base", {"do": "prefill", "tokens": 512})]
    for rank in ranks:
        one = {**decode, "do": "adapter", "adapter": folder(rank, 0)}
        yield f"adapter-r{rank}", [("base", decode), ("one adapter", one)]
    yield "batch-32", [("base", {**batch, "tokens": 32})]
    for rank in ranks:
        many = {**batch, "do": "adapters", "adapters": [folder(rank, number) for number in range(adapters)]}
        yield f"adapters-32-r{rank}", [("base", batch), ("32 adapters", many)]


class Side:
    """One process that answers a JSON line with a JSON line."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read(command)

    def read(self, asked):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended with status {self.process.wait()} at {asked}; what it wrote is above")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read(command)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Run:
    """The sides of one precision, measured case by case."""

    def __init__(self, options, precision, memory, patience):
        self.options, self.precision, self.memory, self.patience = options, precision, memory, patience
        with open(os.path.join(options.work, "model.json")) as file:
            self.model = json.load(file)
        llama = [sys.executable, os.path.join(HERE, "llama.py"), "--lib", options.lib, "--model",
                 os.path.join(options.work, PRECISIONS[precision]), "--cpus", options.cpus]
        self.sides = [Side("llama.cpp", llama)]
        if options.engine:
            self.sides.insert(0, Side("engine", shlex.split(options.engine) + [
                "--model", self.model["hf"], "--precision", precision, "--threads", "2", "--cpus", options.cpus]))
        self.samples = []

    def cases(self):
        for name, commands in cases(os.path.abspath(self.options.work), self.model["ranks"], self.model["adapters"]):
            if not self.options.only or name in self.options.only:
                yield name, commands

    def measure(self, case, label, side, number, command):
        """One answer, with what others took of the machine meanwhile."""
        # The side that waits counts among the others: its threads must sleep.
        watch = Watch(os.getpid(), side.process.pid)
        answer = side.ask(command)
        others = watch.others()
        if "error" in answer:
            sys.exit(f"{side.name} could not serve {case}: {answer['error']}")
        return {"precision": self.precision, "case": case, "label": label, "side": side.name, "round": number,
                "seconds": answer["seconds"], "tokens": answer["tokens"],
                "rate": answer["tokens"] / answer["seconds"], "others": others}

    def round(self, case, commands, number):
        """Every command on every side, close together in time."""
        bandwidth = self.memory.read()
        taken = [self.measure(case, label, side, number, command) for label, command in commands
                 for side in self.sides]
        for sample in taken:
            sample["bandwidth"] = bandwidth
        return taken

    def wait(self):
        """Returns when the machine is quiet, or when patience ends."""
        while time.monotonic() < self.patience:
            watch = Watch(os.getpid())
            time.sleep(QUIET_SECONDS)
            if watch.others() <= DISTURBED:
                return

    def case(self, case, commands):
        """As many rounds as were asked for. A round that others disturbed is kept aside and taken again while
        patience lasts; its own result plays no part in that."""
        for side in self.sides:
            side.ask(dict(commands[0][1], tokens=min(16, commands[0][1]["tokens"])))
        for number in range(self.options.rounds):
            while True:
                self.wait()
                taken = self.round(case, commands, number)
                disturbed = max(sample["others"] for sample in taken) > DISTURBED
                again = disturbed and time.monotonic() < self.patience
                for sample in taken:
                    sample["dropped"] = again
                self.samples += taken
                if not again:
                    break
        kept = [sample for sample in self.samples if sample["case"] == case and not sample["dropped"]]
        return [summary(case, label, commands[0][0], kept, self.sides) for label, _ in commands]

    def close(self):
        for side in self.sides:
            side.close()


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(case, label, base, samples, sides):
    """The figures of one line of the table."""
    rates = lambda name, side: [sample["rate"] for sample in samples
                                if sample["label"] == name and sample["side"] == side]
    line = {"precision": samples[0]["precision"], "case": case, "label": label,
            "bandwidth": statistics.median(sample["bandwidth"] for sample in samples),
            "others": max(sample["others"] for sample in samples if sample["label"] == label)}
    for side in sides:
        own = rates(label, side.name)
        line[side.name] = spread(own)
        if label != base:
            line[side.name]["share"] = spread([a / b for a, b in zip(own, rates(base, side.name))])
        if case.startswith("decode") and "weight_bytes" in side.about:
            line[side.name]["of_bandwidth"] = line[side.name]["median"] * side.about["weight_bytes"] / line["bandwidth"]
    if len(sides) == 2:
        pairs = [a / b for a, b in zip(rates(label, sides[0].name), rates(label, sides[1].name))]
        line["ratio"] = {**spread(pairs), "of_medians": line[sides[0].name]["median"] / line[sides[1].name]["median"]}
    return line


HEAD = ("precision", "case", "", "engine tok/s", "llama.cpp tok/s", "ratio (pairs)", "share of base", "of bandwidth",
        "others")


def row(line):
    """One line of the table in Markdown."""
    def rate(side):
        found = line.get(side)
        return f"{found['median']:.1f} ({found['min']:.1f} to {found['max']:.1f})" if found else "–"

    def both(key, text):
        found = [line[side][key] for side in ("engine", "llama.cpp") if key in line.get(side, {})]
        return " / ".join(map(text, found)) or "–"

    ratio = line.get("ratio")
    return (line["precision"], line["case"], line["label"], rate("engine"), rate("llama.cpp"),
            f"{ratio['of_medians']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else "–",
            both("share", lambda value: f"{value['median']:.2f}"), both("of_bandwidth", "{:.0%}".format),
            f"{line['others']:.0%}")


def show(cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def processor():
    with open("/proc/cpuinfo") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")


def write(path, report):
    if path:
        with open(path, "w") as out:
            json.dump({**report, "load_after": os.getloadavg()}, out, indent=1)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, help="folder that make_model.py filled")
    parser.add_argument("--lib", required=True, help="folder with llama.cpp's libraries")
    parser.add_argument("--engine", help="command of the engine's process; without it llama.cpp is measured alone")
    parser.add_argument("--only", action="append", help="a case; may be given more than once")
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpus", default="0,1", help="the two processors that both sides use")
    parser.add_argument("--patience", type=float, default=120,
                        help="seconds from the start within which rounds wait for quiet and are taken again if disturbed")
    parser.add_argument("--out", help="JSON file with every sample")
    return parser.parse_args()


def main():
    options = arguments()
    memory = Memory([int(cpu) for cpu in options.cpus.split(",")])
    report = {"date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
              "processor": processor(), "processors": os.cpu_count(), "load_before": os.getloadavg(),
              "sides": {}, "lines": [], "samples": []}
    patience = time.monotonic() + options.patience
    show(HEAD)
    show(["---"] * len(HEAD))
    for precision in options.precision or PRECISIONS:
        run = Run(options, precision, memory, patience)
        report["sides"][precision] = {side.name: side.about for side in run.sides}
        report["random_weights"] = run.model["random"]
        for name, commands in run.cases():
            lines = run.case(name, commands)
            report["lines"] += lines
            for line in lines:
                show(row(line))
            # Written after every case, so that a run that is broken off leaves what it measured.
            write(options.out, {**report, "samples": report["samples"] + run.samples})
        report["samples"] += run.samples
        run.close()
    if not report["lines"]:
        sys.exit("no case has that name; the README lists them")
    bandwidth = spread([sample["bandwidth"] / 1e9 for sample in report["samples"]])
    dropped = sum(sample["dropped"] for sample in report["samples"])
    print(f"\nRead bandwidth of two threads: {bandwidth['median']:.1f} GB/s "
          f"({bandwidth['min']:.1f} to {bandwidth['max']:.1f}). Measurements taken again because others used more than "
          f"{DISTURBED:.0%} of the two processors: {dropped} of {len(report['samples'])}.")
    write(options.out, {**report, "bandwidth": bandwidth})


if __name__ == "__main__":
    main()
