"""Trainings on this machine and demos, through the program `tributary`.

`options` are those of the command without their dashes: `{"steps": 60, "learning_rate": 2e-3, "resume": True}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from .programs import ask, find
from .reports import DemoReport, EvalReport, GenerateReport, TrainReport, demo_of, eval_of, generate_of, train_of
from .schema import PathLike

Options = Mapping[str, Any]


def train(
    files: Sequence[PathLike],
    out: PathLike,
    options: Options | None = None,
    *,
    bin_dir: PathLike | None = None,
    timeout_s: float | None = None,
) -> TrainReport:
    """Fine-tunes an adapter on files of this machine, and writes it as a PEFT folder (`tributary train --help`)."""
    words = ["train", *files, "--out", out, *flags(options)]
    return train_of(ask(find("tributary", bin_dir), words, timeout_s=timeout_s), "the answer of `tributary train`")


def evaluate(
    text: PathLike,
    adapter: PathLike | None = None,
    options: Options | None = None,
    *,
    bin_dir: PathLike | None = None,
    timeout_s: float | None = None,
) -> EvalReport:
    """The loss on a text of the base model, or of an adapter's folder on it (`tributary eval --help`)."""
    words = ["eval", "--text", text, *_adapter(adapter), *flags(options)]
    return eval_of(ask(find("tributary", bin_dir), words, timeout_s=timeout_s), "the answer of `tributary eval`")


def generate(
    prompt: str,
    adapter: PathLike | None = None,
    options: Options | None = None,
    *,
    bin_dir: PathLike | None = None,
    timeout_s: float | None = None,
) -> GenerateReport:
    """Lets the base model, or an adapter's folder on it, go on from a prompt (`tributary generate --help`)."""
    words = ["generate", f"--prompt={prompt}", *_adapter(adapter), *flags(options)]
    return generate_of(
        ask(find("tributary", bin_dir), words, timeout_s=timeout_s), "the answer of `tributary generate`"
    )


def demo(
    home: PathLike,
    options: Options | None = None,
    *,
    bin_dir: PathLike | None = None,
    timeout_s: float | None = None,
) -> DemoReport:
    """A federated run in one process, whose homes stay in the folder `home` (`tributary demo --help`)."""
    words = ["demo", "--home", home, *flags(options)]
    return demo_of(ask(find("tributary", bin_dir), words, timeout_s=timeout_s), "the answer of `tributary demo`")


def flags(options: Options | None) -> list[str]:
    """Options as words of a command line; True is a flag alone, False none."""
    words = []
    for key, value in (options or {}).items():
        flag = "--" + key.replace("_", "-")
        if value is not False:
            words.append(flag if value is True else f"{flag}={value}")
    return words


def _adapter(folder: PathLike | None) -> list[PathLike]:
    return [] if folder is None else ["--adapter", folder]
