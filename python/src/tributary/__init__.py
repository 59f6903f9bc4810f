"""Tributary from Python: read what its programs write, run its simulator, speak to its daemon.

    import tributary
    result = tributary.run_scenario("smoke", {"link.loss": 0.3})
    result.rounds                                        # data frames, in the simulator's columns and units
    tributary.plots.loss_by_round(result.rounds)         # a figure
    home = tributary.Home("amy")                         # a peer's runs and ledger, daemon or not
    tributary.frames.lines(home.statement())             # scores, credits and OPEN, round by round
    tributary.Daemon.of_home("amy").events()             # what happens, as it happens

Rooms: `reading` (any document by its schema), `results` (simulator), `reports` (demo, train, eval, ...), `bank`
(retrained coalitions), `frames` (runs and ledger as data frames), `scenarios`, `training` and `home` (through the
programs), `daemon` (control API), `contract` (its types), `plots`, `schema` and `errors`.
"""

from . import contract, frames, plots
from .bank import Bank, read_bank, shapley
from .daemon import Daemon
from .errors import MissingError, RefusedError, SchemaError, TributaryError
from .home import Home
from .reading import read
from .reports import (
    DemoReport,
    EvalReport,
    GenerateReport,
    TrainReport,
    read_demo,
    read_evaluation,
    read_explanation,
    read_generation,
    read_training,
    read_why,
)
from .results import (
    Comparison,
    Economy,
    Figures,
    SimulationResult,
    Sweep,
    read_comparison,
    read_economy,
    read_events,
    read_figures,
    read_result,
    read_sweep,
)
from .scenarios import run_scenario, sweep_scenario, write_scenario
from .training import demo, evaluate, generate, train

__version__ = contract.VERSION

__all__ = [
    "Bank",
    "Comparison",
    "Daemon",
    "DemoReport",
    "Economy",
    "EvalReport",
    "Figures",
    "GenerateReport",
    "Home",
    "MissingError",
    "RefusedError",
    "SchemaError",
    "SimulationResult",
    "Sweep",
    "TrainReport",
    "TributaryError",
    "contract",
    "demo",
    "evaluate",
    "frames",
    "generate",
    "plots",
    "read",
    "read_bank",
    "read_comparison",
    "read_demo",
    "read_economy",
    "read_evaluation",
    "read_events",
    "read_explanation",
    "read_figures",
    "read_generation",
    "read_result",
    "read_sweep",
    "read_training",
    "read_why",
    "run_scenario",
    "shapley",
    "sweep_scenario",
    "train",
    "write_scenario",
]
