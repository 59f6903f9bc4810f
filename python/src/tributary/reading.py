"""`read`: one entrance for every document that names its schema."""

from collections.abc import Callable
from pathlib import Path

from . import reports, results
from .contract import Explanation, Why
from .reports import DemoReport, EvalReport, GenerateReport, TrainReport
from .results import Comparison, Economy, Figures, SimulationResult, Sweep
from .schema import Document, PathLike, expect, load

Read = (
    SimulationResult
    | Figures
    | Sweep
    | Comparison
    | Economy
    | DemoReport
    | TrainReport
    | EvalReport
    | GenerateReport
    | Explanation
    | Why
)

READERS: dict[str, Callable[[Document, str], Read]] = {
    results.FIGURES: results.figures_of,
    results.RESULT: lambda _, where: results.read_result(Path(where).parent),
    results.SWEEP: results.sweep_of,
    results.COMPARISON: results.comparison_of,
    results.ECONOMY: results.economy_of,
    reports.DEMO: reports.demo_of,
    reports.TRAIN: reports.train_of,
    reports.EVAL: reports.eval_of,
    reports.GENERATE: reports.generate_of,
    reports.EXPLAIN: reports.explanation_of,
    reports.WHY: reports.why_of,
}


def read(path: PathLike) -> Read:
    """Whatever a program of Tributary wrote: a result or sweep folder, or a JSON file that names its schema."""
    where = Path(path)
    if where.is_dir():
        sweep = where / "sweep.json"
        where = sweep if sweep.exists() else where / "result.json"
    document = load(where)
    return READERS[expect(document, str(where), *READERS)](document, str(where))
