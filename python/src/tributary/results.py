"""Results of the simulator: one run, a sweep, a comparison (`simulations/README.md` explains columns and units)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from .errors import SchemaError
from .schema import Document, PathLike, expect, load, parse, require

RESULT, SWEEP, COMPARISON, FIGURES = "sim-result/1", "sim-sweep/1", "sim-compare/1", "sim/1"
ECONOMY = "sim-economy/1"

# Columns that each table must have; it may have more.
TABLES = {
    "contributions": (
        "round",
        "participant",
        "name",
        "outcome",
        "tokens",
        "update_bytes",
        "score",
        "score_low",
        "score_high",
        "credit",
        "earned_open",
    ),
    "traffic": (
        "round",
        "participant",
        "name",
        "control_sent_bytes",
        "control_received_bytes",
        "payload_sent_bytes",
        "payload_received_bytes",
    ),
    "waits": ("round", "participant", "name", "waited_s", "last", "missing"),
}


@dataclass(frozen=True)
class Figures:
    """What a simulated run comes to, without its tables: `tributary-sim run --format json`."""

    seed: int
    # Names the history to the last byte.
    digest: str
    metrics: dict[str, float]
    # Broken promises, each naming participant, round and cause.
    violations: list[str]
    wall_s: float


@dataclass(frozen=True)
class SimulationResult(Figures):
    """One simulated run: the folder that `tributary-sim run --out` writes."""

    scenario: str
    describe: str
    version: str
    folder: Path
    # A row for each certified round; round 0 is the genesis, the last one the closing height.
    rounds: pd.DataFrame = field(repr=False)
    # A row for each participant over the whole run.
    participants: pd.DataFrame = field(repr=False)
    # A row for each participant and training round.
    contributions: pd.DataFrame = field(repr=False)
    # A row for each participant and open round.
    traffic: pd.DataFrame = field(repr=False)
    # Which participant waited for which others.
    waits: pd.DataFrame = field(repr=False)
    # A folder of its own lives as long as the result.
    keeps: object = field(default=None, repr=False, compare=False)

    def events(self) -> pd.DataFrame:
        """Every event in order of time; a column that an event's kind has not is empty in its row."""
        return read_events(self.folder / "events.jsonl")


@dataclass(frozen=True)
class Sweep:
    """Several seeds of every combination of some settings."""

    scenario: str
    describe: str
    # What distinguishes the combinations: columns of both tables.
    settings: list[str]
    # A row for each combination and seed: settings, seed, digest, metrics, and how many promises were broken.
    seeds: pd.DataFrame = field(repr=False)
    # A row for each combination: settings, then METRIC_median, METRIC_low and METRIC_high.
    summary: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """Results side by side."""

    # A row for each result: name, scenario, seed, digest, metrics.
    results: pd.DataFrame = field(repr=False)
    # Broken thresholds.
    breaches: list[Any]


@dataclass(frozen=True)
class Economy:
    """Strategies beside the honest run of the same seed. Profits are parts of one, amounts are in OPEN."""

    scenario: str
    # Training rounds of each run.
    rounds: int
    # A row for each strategy: members, bound, whether it was kept, median and worst profit, what it brought the others.
    strategies: pd.DataFrame = field(repr=False)
    # A row for each strategy and seed: what its members are worth, honest and not, the profit, the same of the others.
    seeds: pd.DataFrame = field(repr=False)


def read_figures(path: PathLike) -> Figures:
    """What `tributary-sim run --format json` printed."""
    return figures_of(load(path), str(path))


def figures_of(document: Document, where: str) -> Figures:
    expect(document, where, FIGURES)
    require(document, where, ("seed", "digest", "metrics", "violations", "wall_s"))
    return Figures(**{key: document[key] for key in ("seed", "digest", "metrics", "violations", "wall_s")})


def read_result(folder: PathLike, keeps: object = None) -> SimulationResult:
    """The folder that `tributary-sim run --out` wrote."""
    folder = Path(folder)
    where = folder / "result.json"
    document = load(where)
    expect(document, str(where), RESULT)
    plain = ("scenario", "describe", "version", "seed", "digest", "metrics", "violations", "wall_s")
    require(document, str(where), (*plain, "rounds", "participants"))
    return SimulationResult(
        **{key: document[key] for key in plain},
        folder=folder,
        rounds=pd.DataFrame.from_records(document["rounds"]),
        participants=pd.DataFrame.from_records(document["participants"]),
        contributions=_table(folder, "contributions"),
        traffic=_table(folder, "traffic"),
        waits=_table(folder, "waits"),
        keeps=keeps,
    )


def _table(folder: Path, name: str) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    try:
        # An empty cell is a missing value; no other word is.
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise SchemaError(f"cannot read the table {path}: {error}; run the scenario again with --out") from error
    require(dict.fromkeys(table.columns), str(path), TABLES[name])
    return table


def read_events(path: PathLike) -> pd.DataFrame:
    """The events of a run (`events.jsonl`), or lines that `tributary run watch --format json` printed."""
    rows = []
    try:
        with open(path, encoding="utf-8") as events:
            for number, line in enumerate(events, 1):
                where = f"line {number} of {path}"
                rows.append(parse(line, where))
                require(rows[-1], where, ("kind",))
    except OSError as error:
        raise SchemaError(f"cannot read the events in {path}: {error}; run the scenario again with --out") from error
    return pd.DataFrame.from_records(rows)


def read_sweep(path: PathLike) -> Sweep:
    """A folder that `tributary-sim sweep --out` wrote, or what it printed with `--format json`."""
    path = Path(path)
    where = path / "sweep.json" if path.is_dir() else path
    return sweep_of(load(where), str(where))


def sweep_of(document: Document, where: str) -> Sweep:
    expect(document, where, SWEEP)
    require(document, where, ("scenario", "describe", "cells"))
    seeds, summary, settings = [], [], dict[str, None]()
    for cell in document["cells"]:
        require(cell, f"a cell of {where}", ("settings", "seeds", "summary"))
        chosen = {key: _hashable(value) for key, value in cell["settings"].items()}
        settings |= dict.fromkeys(chosen)
        for one in cell["seeds"]:
            seeds.append({**chosen, "seed": one["seed"], "digest": one["digest"], **one["metrics"]})
        spread = {
            f"{metric}_{which}": value for metric, found in cell["summary"].items() for which, value in found.items()
        }
        summary.append({**chosen, "seeds": len(cell["seeds"]), **spread})
    return Sweep(
        scenario=document["scenario"],
        describe=document["describe"],
        settings=list(settings),
        seeds=pd.DataFrame.from_records(seeds),
        summary=pd.DataFrame.from_records(summary),
    )


def _hashable(value: Any) -> Any:
    """A table or list as text, so that frames can be grouped by it."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def read_comparison(path: PathLike) -> Comparison:
    """What `tributary-sim compare --format json` printed."""
    return comparison_of(load(path), str(path))


def comparison_of(document: Document, where: str) -> Comparison:
    expect(document, where, COMPARISON)
    require(document, where, ("results", "breaches"))
    rows = [
        {key: value for key, value in one.items() if key != "metrics"} | one["metrics"] for one in document["results"]
    ]
    return Comparison(results=pd.DataFrame.from_records(rows), breaches=document["breaches"])


def read_economy(path: PathLike) -> Economy:
    """What `tributary-sim bench economy --format json` printed."""
    return economy_of(load(path), str(path))


def economy_of(document: Document, where: str) -> Economy:
    expect(document, where, ECONOMY)
    require(document, where, ("scenario", "rounds", "strategies"))
    strategies, seeds = [], []
    for case in document["strategies"]:
        require(case, f"a strategy of {where}", ("strategy", "median", "worst", "bound", "seeds"))
        strategies.append({key: value for key, value in case.items() if key != "seeds"})
        seeds += [{"strategy": case["strategy"], **_in_open(one)} for one in case["seeds"]]
    return Economy(
        scenario=document["scenario"],
        rounds=document["rounds"],
        strategies=pd.DataFrame.from_records(strategies),
        seeds=pd.DataFrame.from_records(seeds),
    )


def _in_open(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose amounts of micro-OPEN are in OPEN."""
    micro = "_micro_open"
    return {
        f"{key.removesuffix(micro)}_open" if key.endswith(micro) else key: value / 1e6 if key.endswith(micro) else value
        for key, value in row.items()
    }
