"""Reports that `tributary demo`, `train`, `eval`, `generate`, `why` and `ledger explain` print as JSON."""

from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, cast

import pandas as pd

from . import contract
from .frames import frame
from .schema import Document, PathLike, expect, load, require

DEMO, TRAIN, EVAL, GENERATE, EXPLAIN, WHY = "demo/1", "train/1", "eval/1", "generate/1", "explain/1", "why/1"


@dataclass(frozen=True)
class DemoReport:
    """A federated run in one process."""

    run: str
    # Folder with a home for each peer (`peers/`).
    home: str
    # Id and PEFT folder of the certified adapter.
    adapter: dict[str, str]
    state_hashes_equal: bool
    ledger_verified: bool
    wall_s: float
    # Where the run's money lies: chain, deposited, paid, claimed, left (millionths of an OPEN), root, conserved.
    settlement: dict[str, Any]
    # A row for each training round: included updates, losses before and after, bytes.
    rounds: pd.DataFrame = field(repr=False)
    # A row for each contributor: the loss on its text with the base model and with the adapter.
    domains: pd.DataFrame = field(repr=False)
    # A row for each contributor: score and OPEN.
    credits: pd.DataFrame = field(repr=False)
    # A row for each prompt: what base and adapter say, what is expected, and each contributor's share of the answer.
    answers: pd.DataFrame = field(repr=False)


@dataclass(frozen=True)
class TrainReport:
    """A training on one machine."""

    # The PEFT folder.
    adapter: str
    base: str
    base_hash: str
    rank: int
    alpha: float
    steps: int
    steps_done: int
    resumed_at: int
    # Tokens predicted in training.
    predicted: int
    last_loss: float | None
    # Nats per token on what was held out; None where nothing was.
    loss_before: float | None
    loss_after: float | None
    tokens_per_second: float
    seconds: float
    # What was read: files with their rows, documents, windows and tokens.
    data: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class EvalReport:
    """A model's loss on a text."""

    # Nats per token: of the adapter if there was one, else of the base.
    nll: float
    # Nats per token of the base.
    nll_base: float
    # Tokens predicted.
    predicted: int


@dataclass(frozen=True)
class GenerateReport:
    """What a model made of a prompt."""

    text: str
    token_ids: list[int]


Report = TypeVar("Report")


def _fill(report: type[Report], document: Document, where: str, **frames: pd.DataFrame) -> Report:
    """A report from the fields of the same name; optional ones may be missing."""
    names = [one.name for one in fields(cast(Any, report)) if one.name not in frames]
    optional = [one.name for one in fields(cast(Any, report)) if str(one.type).endswith("None")]
    require(document, where, set(names) - set(optional))
    return report(**{name: document.get(name) for name in names}, **frames)


def demo_of(document: Document, where: str) -> DemoReport:
    expect(document, where, DEMO)
    names = ("rounds", "domains", "credits", "answers")
    require(document, where, names)
    tables = {name: frame(document[name]) for name in names}
    return _fill(DemoReport, document, where, **tables)


def train_of(document: Document, where: str) -> TrainReport:
    expect(document, where, TRAIN)
    return _fill(TrainReport, document, where)


def eval_of(document: Document, where: str) -> EvalReport:
    expect(document, where, EVAL)
    return _fill(EvalReport, document, where)


def generate_of(document: Document, where: str) -> GenerateReport:
    expect(document, where, GENERATE)
    return _fill(GenerateReport, document, where)


def explanation_of(document: Document, where: str) -> contract.Explanation:
    expect(document, where, EXPLAIN)
    require(document, where, contract.Explanation.__required_keys__)
    return cast(contract.Explanation, document)


def why_of(document: Document, where: str) -> contract.Why:
    expect(document, where, WHY)
    require(document, where, contract.Why.__required_keys__)
    return cast(contract.Why, document)


def read_demo(path: PathLike) -> DemoReport:
    """What `tributary demo --format json` printed."""
    return demo_of(load(path), str(path))


def read_training(path: PathLike) -> TrainReport:
    """What `tributary train --format json` printed."""
    return train_of(load(path), str(path))


def read_evaluation(path: PathLike) -> EvalReport:
    """What `tributary eval --format json` printed."""
    return eval_of(load(path), str(path))


def read_generation(path: PathLike) -> GenerateReport:
    """What `tributary generate --format json` printed."""
    return generate_of(load(path), str(path))


def read_explanation(path: PathLike) -> contract.Explanation:
    """What `tributary ledger explain --format json` printed."""
    return explanation_of(load(path), str(path))


def read_why(path: PathLike) -> contract.Why:
    """What `tributary why --format json` printed."""
    return why_of(load(path), str(path))
