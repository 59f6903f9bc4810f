"""The programs `tributary` and `tributary-sim`: where they are, and how they are asked."""

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .errors import MissingError, RefusedError, SchemaError
from .schema import PathLike

# The folder that holds the programs.
VARIABLE = "TRIBUTARY_BIN_DIR"


def find(name: str, bin_dir: PathLike | None = None) -> Path:
    """A program: in `bin_dir`, else in the folder that TRIBUTARY_BIN_DIR names, else on the PATH."""
    folder = bin_dir if bin_dir is not None else os.environ.get(VARIABLE) or None
    found = shutil.which(name, path=None if folder is None else str(folder))
    if found is None:
        place = "the PATH" if folder is None else str(folder)
        raise MissingError(
            f"there is no program {name} in {place}; build it with `cargo build --release` and name its folder "
            f"(`target/release`) by bin_dir or {VARIABLE}"
        )
    return Path(found).absolute()


def run(
    program: Path, arguments: Sequence[PathLike], timeout_s: float | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs a program to its end."""
    command = [str(program), *map(str, arguments)]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        text = f"{program.name} {arguments[0]} took longer than {timeout_s} s"
        raise RefusedError("interrupted", text, "give a longer timeout_s") from error


def tell(program: Path, arguments: Sequence[PathLike], timeout_s: float | None = None) -> str:
    """What a program prints for people."""
    done = run(program, arguments, timeout_s)
    if done.returncode != 0:
        raise refusal(program.name, done.stderr)
    return done.stdout


def ask(
    program: Path, arguments: Sequence[PathLike], accept: Collection[int] = (0,), timeout_s: float | None = None
) -> Any:
    """What a program answers with `--format json`. An exit code of `accept` is an answer as well, if there is one."""
    done = run(program, [*arguments, "--format", "json"], timeout_s)
    if done.returncode in accept and done.stdout.strip():
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            text = f"the answer of {program.name} {arguments[0]} is not JSON ({error}); "
            raise SchemaError(text + "use the programs and the Python package of one release") from error
    raise refusal(program.name, done.stderr)


def refusal(name: str, told: str) -> RefusedError:
    """What a failed program says on standard error: a problem as JSON, or a sentence."""
    lines = [line for line in told.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("{"):
            try:
                problem = json.loads(line)
                return RefusedError(problem["code"], problem["text"], problem.get("hint"))
            except (ValueError, KeyError):
                break
    said = " ".join(lines).removeprefix("error: ") or "it ended without a word; run it by hand"
    return RefusedError("environment", f"{name}: {said}")


def toml(value: Any) -> str:
    """A value as TOML on one line: truth, number, text, table or list, and what NumPy has for them."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, Sequence | np.ndarray):
        return "[" + ", ".join(map(toml, value)) + "]"
    raise TypeError(f"a scenario holds no {type(value).__name__}; give a truth, number, text, list or table")
