#!/usr/bin/env python3
"""Writes the figures of the pages in this folder: runs the command that a page names, reads what it
prints, and replaces what stands between the page's marks. Prose outside the marks is written by hand.

    python3 docs/numbers/update.py api demo bitflip decoders economy extraction forms luck newcomers opening parity processes
        reach replay round scale strangers texts why
    python3 docs/numbers/update.py demo --report FILE --commit COMMIT
    python3 docs/numbers/update.py decoders --report FILE --commit COMMIT
    python3 docs/numbers/update.py serving --report FILE --commit COMMIT

The other forms, of which `newcomers`, `processes`, `reach`, `replay`, `scale`, `serving`, `forms` and `why` are seven more, take what `tributary demo --format json`, or the
tests of the page, printed before; for `scale` a folder with the runs of each size and what each used.
`reliability.md`, `training.md` and the pages of `tributary-lab` are written by their own commands, which they name;
those that need nothing but the command can be written from here too.
"""

import argparse
import csv
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile

# From this round of scenarios/large.toml on everybody is a member.
FULL = 22
FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


def run(*command):
    """What a command prints, standard error shown as it comes."""
    print("+", " ".join(command), file=sys.stderr)
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}")
    return done.stdout


def tests(*arguments):
    # The whole workspace, so that the build of `cargo test --workspace` is used as it is.
    command = ["cargo", "test", "--workspace", "-q", *arguments]
    own = [] if "--" in arguments else ["--"]
    printed = run(*command, *own, "--nocapture", "--test-threads", "1")
    # The runner's dots stand before the lines of the tests.
    return re.sub(r"^\.+", "", printed, flags=re.M)


def machine(commit=None):
    processor = platform.processor() or platform.machine()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    now = run("git", "rev-parse", "--short", "HEAD").strip()
    load = "" if commit else f", load at the start {os.getloadavg()[0]:.1f}"
    return (
        f"Measured on {datetime.date.today()} at {commit or now}: {processor}, {os.cpu_count()} cores{load}."
    )


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def found(pattern, text):
    every = re.findall(pattern, text, re.M)
    if not every:
        sys.exit(f"nothing printed looks like {pattern!r}:\n{text}")
    return every


def count(number):
    return f"{int(number):,}"


def demo(report=None, commit=None):
    where = machine(commit)
    if report is None:
        run("cargo", "build", "--release", "-q")
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        report = run(f"{target}/release/tributary", "demo", "--format", "json")
    report = json.loads(report)
    assert report["state_hashes_equal"] and report["ledger_verified"], report
    rounds = [
        (
            r["round"], r["included"], f"{r['loss_before']:.4f}", f"{r['loss_after']:.4f}",
            f"{r['bytes_up_max'] / 1e3:.0f} kB", f"{r['bytes_down_max'] / 1e3:.0f} kB",
            f"{r['certificate_ms'] / 1e3:.1f} s",
        )
        for r in report["rounds"]
    ]
    domains = [
        (d["name"], f"{d['loss_base']:.4f}", f"{d['loss_adapter']:.4f}",
         f"{d['loss_adapter'] - d['loss_base']:+.4f}")
        for d in report["domains"]
    ]
    credits = [
        (c["name"], f"{c['score_nanonats'] / 1e9:+.4f}", f"{c['micro_open'] / 1e6:.6f}")
        for c in report["credits"]
    ]
    first = lambda a: max(a["shares"], key=lambda s: s["share"], default={"name": "", "share": 0})
    answers = [
        (
            a["prompt"].removeprefix("Question: ").removesuffix(" Answer:"), a["base"].strip(), a["adapter"].strip(),
            a["taught_by"] or "nobody", f"{first(a)['name']} {first(a)['share']:.0%}", f"{a['nobody']:.0%}",
        )
        for a in report["answers"]
    ]
    taught = [a for a in report["answers"] if a["taught_by"]]
    right = sum(a["says_it"] for a in taught)
    paid = sum(first(a)["name"] == a["taught_by"] for a in taught)
    head = ["round", "included", "loss before", "after", "sent, busiest peer", "received", "certificate after"]
    return "\n\n".join([
        f"{where} Release build. From start to verified ledger: **{report['wall_s']:.0f} s**.",
        table(head, rounds),
        table(["domain", "base, nats a token", "adapter", "change"], domains),
        table(["contributor", "score, nats", "OPEN"], credits),
        f"{right} of {len(taught)} answers are what one contributor's text says, and in {paid} of {len(taught)} that "
        "contributor has the largest share.",
        table(["asked", "base", "adapter", "taught by", "largest share", "nobody's"], answers),
    ])


def bitflip():
    where = machine()
    text = tests("--test", "program", "bitflip")
    [(reported, flips)] = found(r"^(\d+) of (\d+) flips reported", text)
    harmless = sum(int(n) for n in re.findall(r'": (\d+)', text.split("harmless:")[1].split("}")[0]))
    if int(reported) + harmless != int(flips):
        sys.exit(f"{reported} reported and {harmless} harmless are not {flips} flips")
    head = ["flips", "reported", "harmless, in free space of the database", "silently accepted"]
    return f"{where}\n\n" + table(head, [(flips, reported, harmless, 0)])


def decoders(report=None, commit=None):
    where = machine(commit)
    if report is None:
        os.environ.setdefault("TRIBUTARY_FUZZ", "1000000")
        report = tests("--test", "mutation") + tests("--lib", "net::fuzz") + tests("--test", "node_fuzz")
        report += run(
            "cargo", "test", "--workspace", "-q", "--lib", "the_cost_is_in", "--", "--nocapture")
    text = re.sub(r"^(test .* \.\.\. |\.+)", "", report, flags=re.M)
    rows = [
        (name, count(n), count(valid), f"{peak} KiB", f"{grown} bytes")
        for name, n, valid, peak, grown in found(
            r"^(.+): (\d+) messages, (\d+) still valid, peak (\d+) KiB, grown (\d+) bytes", text)
    ]
    rows += [
        (name, count(n), count(valid), "", "")
        for name, n, valid in found(r"^(.+): (\d+) messages, (\d+) still valid$", text)
    ]
    [(n, peak, grown)] = found(r"^outsider: (\d+) messages, peak (\d+) KiB, grown (\d+) bytes", text)
    [insider] = found(r"^insider: (\d+) signed", text)
    [(sent, size, kept)] = found(r"^corrupt committee: (\d+) messages of (\d+) bytes, grown (\d+)", text)
    attacks = [
        ("outsider: mutated and repeated traffic; then the run goes on to its end",
         count(n), f"{count(peak)} KiB", f"{count(grown)} bytes"),
        ("member that signs nonsense, to three others; they finish with one state",
         f"{count(insider)} each", "", ""),
        ("the whole committee signs nonsense",
         f"{count(sent)} ({int(size) // 1000} kB)", "", f"{count(kept)} bytes"),
    ]
    sizes = re.findall(r"equal (\d+) bytes, two changed (\d+) bytes, all heads (\d+) bytes", text)
    if sizes:
        labels = ["equal", "two authors changed, one on each side", "all heads, for comparison"]
        ledgers = "Comparing two ledgers of 1,500 authors (messages of both sides without the blocks themselves):\n\n"
        ledgers += table(["ledgers", "bytes"], zip(labels, map(count, sizes[0])))
    else:
        # Saved output without that test: what was measured before stands.
        [ledgers] = re.findall(r"^Comparing two ledgers.*?(?=\n<!--)", (FOLDER / "decoders.md").read_text(), re.M | re.S)
    return "\n\n".join([
        where,
        table(["decoder", "messages", "still valid", "peak", "kept"], rows),
        table(["attack on `Node::handle`, in the middle of a run", "messages", "peak", "kept"], attacks),
        ledgers,
    ])


LONG_TESTS = [
    "hostile::a_minute_of_floods_slows_rounds_to_less_than_twice_their_time",
    "crowd::twenty_daemons_finish_a_run_with_one_state",
    "kills::two_hundred_kills_lose_nothing_that_was_acknowledged",
    "loss::rounds_certify_through_packet_loss",
]


def processes(report=None, commit=None):
    where = machine(commit)
    if report is None:
        # One after the other: each has the machine for itself.
        command = ["cargo", "test", "--workspace", "-q", "--test", "processes"]
        options = ["--", "--include-ignored", "--exact", "--nocapture"]
        report = "".join(run(*command, name, *options) for name in LONG_TESTS)
    text = re.sub(r"^(test .* \.\.\. |\.+)", "", report, flags=re.M)
    floods = [
        (kind, count(sent), "" if cut == "never" else f"{count(cut.split()[1])} ms", count(refused), f"{count(back)} ms")
        for kind, sent, cut, refused, back in found(
            r"^flood (\w+): (\d+) messages got out of .*, cut off (after \d+ ms|never), "
            r"refused (\d+) times afterwards, back for (\d+) ms", text)
    ]
    [minute] = found(r"^minute of floods: (.*)", text)
    [crowd] = found(r"^crowd: (.*)", text)
    kills, losses = found(r"^kills: (.*)", text), found(r"^loss: (.*)", text)
    head = ["flood", "messages that got out", "cut off after", "refused afterwards", "longest way back in"]

    def sentence(line):
        return f"{line[0].upper()}{line[1:]}."

    return "\n\n".join([
        f"{where} Development profile.",
        "## A hostile neighbour",
        table(head, floods),
        sentence(minute),
        "## A crowd",
        sentence(crowd),
        "## Kills",
        " ".join(map(sentence, kills)),
        "## Packet loss",
        "\n".join(f"- {sentence(line)}" for line in losses),
    ])


NEWCOMER_TESTS = [
    "newcomers::attackers_that_take_up_room_keep_nobody_out_and_slow_rounds_to_less_than_twice_their_time",
    "newcomers::newcomer_fetches_an_adapter_while_64_keys_hold_every_place_of_the_data_plane",
]

ATTACKS = {
    "MuteSockets": "mute sockets", "IdleConnections": "connections of fresh keys that say nothing",
    "GreetedConnections": "connections of fresh keys that greet", "DataKeys": "keys on the data plane",
    "Contacts": "invented contacts",
}


def newcomers(report=None, commit=None):
    where = machine(commit)
    if report is None:
        # One after the other: each has the machine for itself.
        command = ["cargo", "test", "--workspace", "-q", "--test", "processes"]
        options = ["--", "--include-ignored", "--exact", "--nocapture"]
        report = "".join(run(*command, name, *options) for name in NEWCOMER_TESTS)
    text = re.sub(r"^(test .* \.\.\. |\.+)", "", report, flags=re.M)
    cores = os.cpu_count()
    [(quiet, peace)] = found(r"^room in peace: daemons (\d+) ms of processor time; (.*)", text)
    took = r"(\d+) rounds in (\d+) s, one every (\d+) ms"
    busy = lambda ms, s: f"{100 * int(ms) / (1000 * int(s) * cores):.0f} %"
    [(_, seconds, every)] = found(took, peace)
    rows = [("none", "", "", f"{every} ms", "", "", busy(quiet, seconds), "")]
    rows += [
        (f"{size} {ATTACKS[kind]}", count(places), f"{int(ms) / 1000:.1f} s", f"{every} ms", ratio, f"{more} MiB",
         busy(daemons, seconds), busy(attackers, seconds))
        for kind, size, places, ms, ratio, more, daemons, attackers, _, seconds, every in found(
            r"^room (\w+)\((\d+)\): (\d+) places taken, newcomer connected after (\d+) ms, (\S+) times the time of a "
            r"round, (\d+) MiB more memory, daemons (\d+) ms of processor time, attackers (\d+) ms; " + took, text)
    ]
    head = ["attack", "places taken", "newcomer connected after", "a round every", "times the time in peace",
            "more memory", "processor time of the daemons", "of the attackers"]
    [(adapter, held)] = found(r"has the adapter after (\d+) ms, (\d+) connections of the attacker", text)
    return "\n\n".join([
        f"{where} Development profile. Processor times are parts of all {cores} cores.",
        table(head, rows),
        f"While 64 keys held every place of the data plane ({held} connections), a newcomer had its adapter after "
        f"{int(adapter) / 1000:.1f} s.",
    ])


def parity():
    where = machine()
    text = re.sub(r"^test .* \.\.\. ", "", tests("--test", "parity"), flags=re.M)
    losses = dict(found(r"^(\S+(?: \S+)?): loss differs by (\S+) nats", text))
    gradients = dict(found(r"^(\S+ \S+): gradients differ by at most (\S+) of", text))
    models = [(name, gap) for name, gap in losses.items() if " " not in name]
    adapters = [
        (*name.split(" "), gap, gradients.get(name, ""))
        for name, gap in losses.items() if " " in name
    ]
    return "\n\n".join([
        where,
        table(["model", "loss differs by, nats"], models),
        table(["model", "adapter", "loss differs by, nats", "gradients by, of their tensor's largest"], adapters),
    ])


def study(name):
    """The tables of `tributary-lab NAME`, as its own `--write` puts them into the page."""
    def figures():
        run("cargo", "build", "--workspace", "-q")
        built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        return run(str(built / "debug" / "tributary-lab"), name).removesuffix("\n")
    return figures


SIZES = [100, 300, 1000]


def scale(folder=None, commit=None):
    """Runs the large federation in several sizes; `folder` holds runs that were made before."""
    where = machine(commit)
    if folder is None:
        folder = pathlib.Path(tempfile.mkdtemp())
        run("cargo", "build", "--workspace", "-q")
        built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        for size in SIZES:
            out = folder / str(size)
            command = [built / "debug" / "tributary-sim", "run", "scenarios/large.toml"]
            command += ["--set", f"peers={size}", "--out", out]
            child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(child.pid, 0)
            if status != 0:
                sys.exit(f"the run with {size} peers failed")
            (out / "used.json").write_text(json.dumps({"kib": used.ru_maxrss, "s": used.ru_utime}))
    lines = []
    for size in SIZES:
        at = folder / str(size)
        rows = lambda name: list(csv.DictReader((at / name).open()))
        rounds = [r for r in rows("rounds.csv") if r["expected"] != "0"]
        full = [r["round"] for r in rounds if int(r["round"]) >= FULL]
        took = sorted(float(r["took_s"]) for r in rounds)
        traffic = [r for r in rows("traffic.csv") if r["round"] in full]
        middle = lambda column: statistics.median(int(r[column]) for r in traffic)
        most = lambda column: max(int(r[column]) for r in traffic)
        used = json.loads((at / "used.json").read_text())
        lines.append((
            size, len(rounds), f"{took[len(took) // 2]:.1f} s", f"{took[-1]:.1f} s",
            f"{middle('control_received_bytes') / 1024:.0f} KiB",
            f"{most('control_received_bytes') / 1024:.0f} KiB",
            f"{middle('payload_received_bytes') / 1024:.1f} KiB",
            f"{most('payload_received_bytes') / 1024:.1f} KiB",
            f"{most('payload_sent_bytes') / 1024:.0f} KiB",
            f"{used['kib'] / 1024:.0f} MiB", f"{used['s']:.0f} s"))
    return "\n\n".join([where, table([
        "members", "rounds", "round, p50", "slowest", "control received, p50", "most", "payload received, p50", "most",
        "payload sent, most", "memory of the simulation", "its processor time"], lines)])


def extraction():
    where = machine()
    text = run("cargo", "test", "-q", "-p", "tributary-attribution", "--test", "extraction", "--",
               "--nocapture", "--test-threads", "1")
    [(hours, asked, words)] = found(r"one word at a time: (\d+) hours, (\d+) questions, (\d+) further words", text)
    rows = [("one word at a time", hours, count(asked), "", words)]
    rows += [
        (f"likely guesses from {source}", hours, count(asked), count(guesses), words)
        for source, hours, asked, guesses, words in found(
            r"likely guesses from (.+): (\d+) hours, (\d+) questions, (\d+) guesses, (\d+) further words", text)
    ]
    [right] = found(r"right guesses among wrong ones: further words by hour \[(.+)\]", text)
    right = right.split(", ")
    rows.append(("right guesses among wrong ones", len(right), "", "", max(map(int, right))))
    head = ["reader", "hours", "questions", "guesses of eight words", "further words in an hour, most"]
    return f"{where}\n\n" + table(head, rows)


def strangers():
    where = machine()
    text = run("cargo", "test", "-q", "-p", "tributary-protocol", "--test", "memory", "--", "--nocapture",
               "--test-threads", "1")
    [(first, full, twice, joins)] = found(
        r"(\d+) strangers fill the pool: (\d+) bytes; twice as many: (\d+); joins instead: (\d+)", text)
    [(said, asked, admitted)] = found(
        r"(\d+) strangers before and after: asked after round (\d+), admitted by Some\(Round\((\d+)\)\)", text)
    mib = lambda size: f"{int(size) / 2**20:.0f} MiB"
    text = run("cargo", "test", "-q", "-p", "tributary-protocol", "--lib", "aggregate::score", "--", "--nocapture",
               "--test-threads", "1")
    sheets = found(r"(\d+) of (\d+), (\d+) sheets: (-?\d+) to (-?\d+) of (\d+) to (\d+)", text)
    inside = lambda low, high, least, most: "yes" if int(least) <= int(low) and int(high) <= int(most) else "no"
    rows = [
        (evaluators, liars, needed, f"{least} to {most}", f"{int(low):,} to {high}", inside(low, high, least, most))
        for liars, evaluators, needed, low, high, least, most in sorted(
            sheets, key=lambda row: (int(row[1]), -int(row[2])))
    ]
    return "\n\n".join([
        where,
        table(["strangers that said all they may", "memory of the pool", "after twice as many", "after 12,000 joins", ],
              [(count(first), mib(full), mib(twice), mib(joins))]),
        f"With the pool full and {count(said)} strangers in all going on, a newcomer that asked after round {asked} was "
        f"admitted by round {admitted}.",
        table(["evaluators", "liars", "fewest sheets that the proposer may take", "honest scores",
               "certified, over all lies and choices", "inside"], rows),
    ])


def opening(report=None, commit=None):
    where = machine(commit)
    if report is None:
        report = tests("--test", "program", "a_thousand_rounds", "--", "--ignored")
    [(members, rounds, records, size, blobs)] = found(
        r"(\d+) members, (\d+) rounds: (\d+) blocks and certificates, (\d+) bytes of ledger, (\d+) blobs", report)
    head = f"{members} members, {count(rounds)} rounds: {count(records)} blocks and certificates, a ledger of " \
        f"{int(size) / 1e6:.0f} MB, {count(blobs)} blobs."
    times = found(r"^((?:ledger|why) .+): ([\d.]+) s, ([\d.]+) s of processor$", report)
    return f"{where}\n\n{head}\n\n" + table(["command", "seconds", "of the processor"], times)


def round_cost(report=None, commit=None):
    where, rows = machine(commit), []
    for schedule in ("alternate", "both"):
        text = run("cargo", "bench", "-q", "-p", "tributary-protocol", "--profile", "dev", "--bench", "round", "--",
                   "64", "40000000", "3", schedule)
        [(members, parameters)] = found(r"^(\d+) members, (\d+) parameters", text)
        [(times, high, most)] = found(r"^handle: (\d+) times, p99.9 ([\d.]+) ms, most ([\d.]+) ms$", text)
        [peak] = found(r"^peak memory: ([\d.]+) adapters", text)
        took = dict(found(r"^(\w+): \d+ times, median ([\d.]+) s$", text))
        rows.append((schedule, members, count(parameters), count(times), f"{high} ms", f"{most} ms", peak,
                     f"{took['step']} s", f"{took['adapter']} s", f"{took['encoding']} s"))
    head = ["factors", "members", "numbers", "inputs", "p99.9", "most", "adapters of memory", "step", "adapter", "encoding"]
    return "\n\n".join([f"{where} Development profile; times are those of the processor.", table(head, rows)])


def why(report=None, commit=None):
    where = machine(commit)
    text = report or run("cargo", "test", "--workspace", "-q", "--test", "answer_cost", "--", "--ignored", "--nocapture", "--test-threads", "1")
    rows = []
    for tokens, *times, turns in found(
            r"answer of (\d+) tokens: losses (\S+) ms by prefixes, (\S+) ms in one pass; gradients (\S+) ms, (\S+) ms; "
            r"of (\d+) turns", text):
        losses, loss, gradients, gradient = map(float, times)
        before, after = losses + gradients, loss + gradient
        rows.append((tokens, turns, f"{losses:.0f} ms", f"{loss:.0f} ms", f"{gradients:.0f} ms", f"{gradient:.0f} ms",
                     f"{before / 1e3:.1f} s", f"{after / 1e3:.1f} s", f"{before / after:.1f}"))
    head = ["tokens", "turns", "losses before", "after", "gradients before", "after", "together before", "after", "ratio"]
    whole = [tuple(f"{time} ms" for time in times) + (f"{ratio} times",) for *times, ratio in found(
        r"shares of 200 tokens: answer (\S+) ms, losses (\S+) ms, gradients (\S+) ms, products (\S+) ms, (\S+) times", text)]
    beside = ["answer of 200 tokens", "losses", "gradients", "inner products", "shares cost"]
    return "\n\n".join([f"{where} Development profile, whose kernels are optimised.", table(head, rows), table(beside, whole)])


def forms(report=None, commit=None):
    where = machine(commit)
    text = report or run("cargo", "test", "--workspace", "-q", "--lib", "forms_of_a_model", "--", "--ignored", "--nocapture")
    rows = found(r"form (\w+) (\w+) (\w+): (\S+) ms, (\d+) MiB", text)
    head = ["model", "task", "form", "ms", "MiB beyond the model"]
    return "\n\n".join([f"{where} Development profile, whose kernels are optimised.", table(head, rows)])


def api():
    where = machine()
    command = ["cargo", "test", "--workspace", "-q", "--test", "processes", "answers", "--", "--ignored", "--nocapture"]
    rows = found(r"answers (\S+): (\d+) asked, median (\S+) ms, p99 (\S+) ms, slowest (\S+) ms, (\d+) rounds", run(*command))
    head = ["question", "times asked", "median, ms", "p99, ms", "slowest, ms", "rounds certified meanwhile"]
    return f"{where} Development profile.\n\n" + table(head, [(f"`{path}`", *rest) for path, *rest in rows])


def replay(report=None, commit=None):
    where = machine(commit)
    if report is None:
        command = ["cargo", "test", "-q", "-p", "tributary-engine", "--test", "replay", "--", "--ignored", "--nocapture"]
        # Times by themselves.
        report = run(*command, "times_of") + run(*command, "--skip", "times_of")
    honest = [(count(answers), count(tokens), count(zero), wrong) for answers, tokens, zero, wrong in found(
        r"honest (\d+) answers, (\d+) tokens: (\d+) margins of 0, (\d+) answers caught", report)]
    rows = []
    for name, way, caught, of, beyond, same, tokens, far, middle, high, most in found(
            r"fraud (.+) / (\S+): (\d+) of (\d+) caught, (\d+) beyond tolerance, (\d+) the same; tokens (\S+) (\S+); "
            r"margins (\S+) (\S+) (\S+)", report):
        rows.append((name, way, of, caught, same, f"{100 * int(caught) / int(of):.1f} %", beyond, tokens,
                     *(f"{float(margin):.2g}" for margin in (middle, most))))
    times = found(r"time (\S+): generation (\S+) ms, replay (\S+) ms, ratio (\S+)", report)
    return "\n\n".join([
        f"{where} Development profile, whose kernels are optimised.",
        table(["honest answers", "tokens", "margins of exactly 0", "answers caught"], honest),
        table(["what is wrong", "chosen by", "answers", "caught", "are the honest answer", "caught of all",
               "caught with tolerance 0.001", "wrong tokens of 200, mean", "their margins, median", "most"], rows),
        table(["model", "generation, 200 tokens, ms", "replay, ms", "ratio"], times),
    ])


def serving(report=None, commit=None):
    """From what engine/benches/serving/conductor.py wrote with --out."""
    if report is None:
        sys.exit("run engine/benches/serving/conductor.py with --out FILE, then give --report FILE --commit COMMIT")
    measured = json.loads(report)
    span = lambda found, form: "–" if not found else (
        f"{form.format(found['median'])} ({form.format(found['min'])} to {form.format(found['max'])})")
    rows = []
    for line in measured["lines"]:
        ours, theirs = line.get("engine", {}), line.get("llama.cpp", {})
        ratio = line.get("ratio", {})
        shares = [span(side.get("share"), "{:.2f}") for side in (ours, theirs)]
        rows.append((line["precision"], line["case"], line["label"], span(ours, "{:.1f}"), span(theirs, "{:.1f}"),
                     f"{ratio['of_medians']:.2f}" if ratio else "–", *shares,
                     f"{ours['of_bandwidth']:.0%}" if "of_bandwidth" in ours else "–", f"{line['others']:.0%}"))
    bandwidth = measured["bandwidth"]
    return "\n\n".join([
        f"{machine(commit)} Two threads on two processors ({measured['processor']}), read bandwidth "
        f"{bandwidth['median']:.1f} GB/s ({bandwidth['min']:.1f} to {bandwidth['max']:.1f}), "
        f"{'random' if measured['random_weights'] else 'published'} weights.",
        table(["precision", "case", "", "engine, tokens/s", "llama.cpp, tokens/s", "ratio of medians",
               "engine: share of its base", "llama.cpp: share of its base", "engine: of the bandwidth",
               "processors that others used"], rows),
    ])


def reach_pairs(cases):
    rows = []
    for case in (case for name, case in cases.items() if name.startswith("pair_")):
        time = lambda field: "" if case.get(field) is None else f"{case[field]:.1f} s"
        latency = case.get("latency_ms")
        rows.append((
            case.get("left", case["case"]), case.get("right", ""), case.get("expected", ""), case.get("way") or "**no way**",
            time("connected_s"), time("direct_s"), time("finished_s"), "" if latency is None else f"{latency:.1f} ms",
        ))
    return table(["host's router", "newcomer's router", "promised", "way", "connected", "direct", "second round",
                  "round trip"], rows)


# Case, what happens, the figures with their units, and what is promised.
REACH_CASES = [
    ("two_peers_of_one_lan_meet_without_an_address", "two devices of one router start with `up --reach lan`",
     [("connected_s", "met after {:.1f} s")], ""),
    ("two_guests_meet_through_the_relay_of_their_host", "a host with `up --relay` and two guests behind symmetric routers",
     [("connected_s", "the guests are connected after {:.1f} s"), ("finished_s", "second round after {:.1f} s")], "relayed"),
    ("without_udp_a_peer_is_relayed_and_told_so", "the newcomer's network lets no UDP out",
     [("connected_s", "connected after {:.1f} s"), ("finished_s", "second round after {:.1f} s"),
      ("warned_s", "warned {:.1f} s later")], "relayed, and `reach` warns"),
    ("a_relay_that_dies_and_returns", "the relay is killed for 40 s; three members are direct, one relayed",
     [("rounds_without_relay", "{} rounds without it"), ("resumed_s", "the relayed one resumes {:.1f} s after its return")],
     "60 s"),
    ("a_device_changes_its_router", "the newcomer is without a network for 10 s and has another router then",
     [("round_s", "a round after {:.1f} s"), ("direct_s", "direct after {:.1f} s")], "30 s"),
    ("a_device_gets_another_address", "the newcomer's address changes",
     [("round_s", "two rounds and one more after {:.1f} s"), ("direct_s", "direct after {:.1f} s")], "30 s"),
    ("a_device_loses_its_link_for_a_while", "the newcomer's link is down for 10 s",
     [("round_s", "a round after {:.1f} s"), ("direct_s", "direct after {:.1f} s")], "30 s"),
    ("a_router_forgets_its_state", "the newcomer's router is off for 10 s and has lost its mappings",
     [("round_s", "a round after {:.1f} s"), ("direct_s", "direct after {:.1f} s")], "30 s"),
    ("a_killed_peer_is_found_again", "newcomer and host in turn are killed and started with `up`",
     [("guest_round_s", "a round {:.1f} s after the newcomer's start"), ("host_round_s", "{:.1f} s after the host's")], "30 s"),
    ("a_relay_refuses_strangers_and_revoked_tickets", "nobody's guest, a guest whose ticket was revoked, a guest",
     [("stranger_told_s", "told why after {:.1f} s"), ("late_told_s", "{:.1f} s"), ("invited_served_s", "served after {:.1f} s")],
     "refused with the reason in `reach`"),
    ("a_newcomers_first_round", "`join TICKET --data FILE --yes` in an empty folder, on loopback",
     [("first_round_s", "a certified round with it after {:.1f} s"), ("round_s", "a round takes {:.2f} s")],
     "30 s beyond the round"),
]


def reach(report=None, commit=None):
    where = machine(commit)
    if report is None:
        command = ["cargo", "test", "--workspace", "-q", "--test", "networks", "--", "--all"]
        print("+", " ".join(command), file=sys.stderr)
        # A promise that does not hold is a figure of the page: the command's failure is no reason to write none.
        report = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
        report += tests("--lib", "net::tests::hops", "--", "--ignored")
    lines = [json.loads(line) for line in found(r"^networks-json (.*)", report)]
    cases = {line["case"]: line for line in lines}
    rows, misses = [], []
    for name, what, figures, promised in REACH_CASES:
        case = cases.get(name, {"skipped": "not tried"})
        if "skipped" in case:
            rows.append((what, f"skipped: {case['skipped']}", promised))
            continue
        said = [form.format(case[field]) for field, form in figures if case.get(field) is not None]
        if "direct_s" in case and case["direct_s"] is None and ("direct_s", "direct after {:.1f} s") in figures:
            said.append("relayed from then on: no direct way within 90 s")
        rows.append((what, "; ".join(said), promised))
    for case in cases.values():
        misses += [f"- `{case['case']}`: {miss.splitlines()[0]}" for miss in case.get("misses", [])]
    hops = found(r"hop (\d+) bytes: tcp (\d+) us, quic (\d+) us, ratio (\S+)", report)
    hop_rows = [(count(size), f"{count(tcp)} us", f"{count(quic)} us", ratio) for size, tcp, quic, ratio in hops]
    saved = {"schema": "reach-numbers/1", "measured": where, "cases": lines,
             "hops": [dict(zip(("bytes", "tcp_us", "quic_us", "ratio"), map(float, hop))) for hop in hops]}
    (FOLDER / "reach.json").write_text(json.dumps(saved, indent=1, sort_keys=True) + "\n")
    return "\n\n".join([
        f"{where} Development profile.",
        "## Pairs", reach_pairs(cases),
        "## Everything else", table(["what happens", "measured", "promised"], rows),
        "## A hop of gossip", table(["bytes", "TCP, median", "QUIC, median", "ratio (at most 1.5)"], hop_rows),
        "## Promises that did not hold", "\n".join(misses) or "None.",
    ])


# What a line of `measure.py` begins with, its figures, and what is promised of it.
SERVED = [
    (r"registered (\d+) of (\S+) MB, (\d+) in memory: load (\S+) ms, 95 of 100 within (\S+) ms",
     "an adapter of {1} MB is loaded from disk ({0} registered, {2} in memory)", "{3} ms (95 of 100: {4} ms)", "25 ms"),
    (r"first token of 16: in memory (\S+) ms, from disk (\S+) ms",
     "first token behind a prompt of 16, the adapter on disk", "{1} ms; in memory {0} ms", ""),
    (r"32 clients, (\d+) adapters: (\S+) tokens/s \((\S+) to (\S+)\), (\S+) of 64",
     "32 clients draw from {0} adapters", "{1} tokens/s ({2} to {3}), {4} of that with 64", "no cliff at 65"),
    (r"first token after (\d+): cold (\S+) ms, with (\d+) cached (\S+) ms, (\S+) of it",
     "first token behind a prompt of {0}, of which {2} are cached", "{3} ms; cold {1} ms: {4}", "0.1"),
    (r"(\d+) clients quiet: (\S+) tokens/s, between tokens (\S+) ms, 99 of 100 within (\S+) ms",
     "{0} clients, nobody trains", "{1} tokens/s; between tokens {2} ms (99 of 100: {3} ms)", ""),
    (r"(\d+) clients while a run trains: (\S+) tokens/s, between tokens (\S+) ms, 99 of 100 within (\S+) ms, (\S+) times",
     "{0} clients, a run trains", "{1} tokens/s; between tokens {2} ms (99 of 100: {3} ms, {4} times that)", "4 times"),
    (r"training: (\S+) steps/s alone, (\S+) while answers are given",
     "the run's training", "{0} steps/s alone, {1} while answers are given", ""),
]


def served(report=None, commit=None):
    """From what peer/tests/serve/measure.py printed."""
    if report is None:
        sys.exit("run peer/tests/serve/measure.py, save what it prints, then give --report FILE --commit COMMIT")
    where = machine(commit)
    rows = [(what.format(*figures), measured.format(*figures), promised)
            for pattern, what, measured, promised in SERVED for figures in found(pattern, report)]
    return "\n\n".join([f"{where} Development profile, whose kernels are optimised.",
                        table(["what", "measured", "promised"], rows)])


def books(report=None, commit=None):
    where = machine(commit)
    if report is None:
        ignored = ["--", "--ignored", "--nocapture", "--test-threads", "1"]
        report = run("cargo", "test", "--workspace", "-q", "--test", "books", *ignored)
        report += run("cargo", "test", "--workspace", "-q", "--test", "admission", *ignored)
        report += run("cargo", "test", "--workspace", "-q", "--test", "x402", "vouchers", *ignored)
    [(fresh, repeated, forked, senseless, crashes, seconds)] = found(
        r"books: (\d+) new, (\d+) repeated, (\d+) forked, (\d+) senseless, (\d+) crashes, (\d+) s", report)
    [(entries, rate)] = found(r"admission: (\d+) entries a block, median (\d+) entries/s", report)
    vouchers = sorted(found(r"(\d+) vouchers in a second of one core", report), key=int)[1]
    rows = [
        ("facts taken into two books, at once and late", count(fresh)),
        ("told again", count(repeated)), ("another fact under a known name, refused", count(forked)),
        ("what no certificate can say, refused", count(senseless)), ("crashes, back to the last copy", count(crashes)),
        ("seconds for all of it", seconds),
        (f"entries admitted a second and core, {entries} a block", count(rate)),
        ("vouchers verified a second and core", count(vouchers)),
    ]
    return f"{where} Development profile, whose arithmetic is optimised.\n\n" + table(["what", "measured"], rows)


def economy(report=None, commit=None):
    """From what `tributary-sim bench economy --format json` prints."""
    where = machine(commit)
    if report is None:
        run("cargo", "build", "--workspace", "-q")
        built = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        command = [str(built / "debug" / "tributary-sim"), "bench", "economy", "--format", "json"]
        print("+", " ".join(command), file=sys.stderr)
        # A strategy beyond its bound is a figure of the page: the command's failure is no reason to write none.
        report = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    played = json.loads(report)
    percent = lambda part: "–" if part is None else f"{100 * part:+.2f} %"
    rows, notes = [], []
    for case in played["strategies"]:
        middle = lambda key: statistics.median(seed[key] for seed in case["seeds"]) / 1e6
        bound = "none" if case["bound"] is None else percent(case["bound"])
        rows.append((f"`{case['strategy']}`", case["members"], f"{middle('honest_micro_open'):.4f}",
                     f"{middle('paid_micro_open'):.4f}", percent(case["median"]), percent(case["worst"]),
                     percent(case["others_median"]), bound if case["within_bound"] else f"**{bound}**"))
        if case["reason"]:
            notes.append(f"- `{case['strategy']}`: {case['reason']}.")
    seeds = len(played["strategies"][0]["seeds"])
    broken = sum(len(seed["violations"]) for case in played["strategies"] for seed in case["seeds"])
    return "\n\n".join([
        f"{where} Development profile; {played['rounds']} rounds, {seeds} seeds, {broken} promises to honest members broken.",
        table(["strategy", "members", "honest, OPEN", "with it, OPEN", "profit, median", "profit, worst seed",
               "others, median", "bound"], rows),
        "\n".join(notes),
    ])


PAGES = {
    "books": books, "economy": economy,
    "api": api, "served": served,
    "demo": demo, "extraction": extraction, "bitflip": bitflip, "decoders": decoders, "newcomers": newcomers,
    "opening": opening,
    "parity": parity, "processes": processes, "scale": scale, "strangers": strangers,
    "luck": study("luck"), "texts": study("texts"),
    "forms": forms, "why": why, "round": round_cost, "reach": reach, "replay": replay,
    "serving": serving,
}


def main():
    arguments = argparse.ArgumentParser(description="Writes the figures of pages in docs/numbers.")
    arguments.add_argument("pages", nargs="+", choices=PAGES)
    arguments.add_argument("--report", type=pathlib.Path, help="saved output, for books, decoders, demo, economy, newcomers, forms, processes, reach, replay, scale, served, serving or why")
    arguments.add_argument("--commit", help="the commit that made the report")
    given = arguments.parse_args()
    if (given.report or given.commit) and not (given.report and given.commit 
            and given.pages in (["books"], ["decoders"], ["demo"], ["economy"], ["newcomers"], ["opening"], ["processes"], ["reach"], ["replay"], ["scale"], ["served"], ["serving"], ["forms"], ["why"])):
        arguments.error("--report and --commit belong together, and to one page: decoders, demo, economy, forms, newcomers, opening, "
                        "processes, reach, replay, scale, served, serving or why")
    report = given.report
    saved = (report if report and report.is_dir() else report and report.read_text(), given.commit) if report else ()
    for name in given.pages:
        page = FOLDER / f"{name}.md"
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = page.read_text().split(begin)
        _, after = rest.split(end)
        page.write_text(f"{before}{begin}\n{PAGES[name](*saved)}\n{end}{after}")
        print(f"wrote {page.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
