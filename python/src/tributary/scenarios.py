"""Scenarios of the simulator, run through `tributary-sim`."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .programs import ask, find, tell, toml
from .results import SimulationResult, Sweep, read_result, sweep_of
from .schema import PathLike

# 0: all promises kept; 1: some broken, which the result names.
ANSWERS = (0, 1)
# A program of your own that has its commands (`docs/extending.md`) can take its place.
SIMULATOR = "tributary-sim"


class _Passing:
    """A folder that goes away with this object."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tributary-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def run_scenario(
    scenario: PathLike,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    out: PathLike | None = None,
    bin_dir: PathLike | None = None,
    program: str = SIMULATOR,
    timeout_s: float | None = None,
) -> SimulationResult:
    """Runs one seed of a scenario: a file, or the name of a built-in one.

    `settings` changes keys of the scenario: `{"link.loss": 0.3}`. The tables go into the folder `out`, else into one
    that goes away with the result. Broken promises are no error: see the result's `violations`.
    """
    keeps = None
    if out is None:
        keeps = _Passing()
        out = keeps.folder / "result"
    changed = [f"--set={key}={toml(value)}" for key, value in (settings or {}).items()]
    seeds = [] if seed is None else ["--seed", str(seed)]
    ask(find(program, bin_dir), ["run", scenario, *seeds, *changed, "--out", out], ANSWERS, timeout_s)
    return read_result(out, keeps)


def sweep_scenario(
    scenario: PathLike,
    settings: Mapping[str, Any] | None = None,
    *,
    seeds: int | None = None,
    out: PathLike | None = None,
    bin_dir: PathLike | None = None,
    program: str = SIMULATOR,
    timeout_s: float | None = None,
) -> Sweep:
    """Runs every combination of the settings' values, several seeds each: `{"link.loss": [0, 0.1]}`.

    Without `settings` the scenario's own [sweep] table says what is varied.
    """
    varied = [f"--set={key}={','.join(map(toml, values))}" for key, values in (settings or {}).items()]
    folder = [] if out is None else ["--out", str(out)]
    count = [] if seeds is None else ["--seeds", str(seeds)]
    return sweep_of(
        ask(find(program, bin_dir), ["sweep", scenario, *count, *varied, *folder], ANSWERS, timeout_s), str(scenario)
    )


def write_scenario(path: PathLike, peers: int = 12, bin_dir: PathLike | None = None) -> Path:
    """Writes a commented scenario to begin with (`tributary-sim new`)."""
    tell(find(SIMULATOR, bin_dir), ["new", path, "--peers", str(peers)])
    return Path(path)
