"""A peer's home, through the program `tributary`: its daemon, its runs and its ledger.

What only reads answers whether or not a daemon runs on the home, in the forms of `contract.py`.
"""

import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from .contract import AdapterView, Explanation, Report, RunBrief, RunView, StatementView, StatusView, Why
from .daemon import Daemon
from .errors import RefusedError, TributaryError
from .programs import ask, find, refusal, tell
from .reports import explanation_of, why_of
from .schema import Document, PathLike, require

# `ledger verify`: 0 holds, 1 faults, 5 holds and proves misconduct of others. Each comes with a report.
VERIFIED = (0, 1, 5)
# How long a daemon may take to start and to stop, and how often it is looked for.
START_S, STOP_S, LOOK_S = 60.0, 60.0, 0.05


class Home:
    """One peer's folder."""

    def __init__(self, folder: PathLike, bin_dir: PathLike | None = None) -> None:
        self.folder = Path(folder)
        self._program = find("tributary", bin_dir)

    @classmethod
    def init(cls, folder: PathLike, name: str, bin_dir: PathLike | None = None) -> "Home":
        """Makes a home and its key."""
        home = cls(folder, bin_dir)
        tell(home._program, ["--home", home.folder, "init", "--name", name])
        return home

    def add_text(self, datanet: str, files: Sequence[PathLike]) -> None:
        """Adds text or rows to this peer's shard of a Datanet. They never leave this machine."""
        tell(self._program, ["--home", self.folder, "datanet", "add", datanet, *files])

    @contextmanager
    def up(self, bootstrap: Sequence[str] = (), start_s: float = START_S) -> Generator[Daemon, None, None]:
        """Runs the daemon for as long as the `with` block takes."""
        peers = [word for address in bootstrap for word in ("--bootstrap", address)]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
            command = [str(self._program), "--home", str(self.folder), "up", *peers]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said)
            try:
                yield self._started(process, start_s)
            except _Ended as error:
                said.seek(0)
                raise refusal(self._program.name, said.read()) from error
            finally:
                _end(process)

    def _started(self, process: "subprocess.Popen[bytes]", start_s: float) -> Daemon:
        until = time.monotonic() + start_s
        while time.monotonic() < until:
            if process.poll() is not None:
                raise _Ended
            try:
                # A file that an earlier daemon left names another process.
                if f'"pid":{process.pid}' in "".join(
                    (self.folder / "control.json").read_text(encoding="utf-8").split()
                ):
                    return Daemon.of_home(self.folder)
            except OSError:
                pass
            time.sleep(LOOK_S)
        raise RefusedError(
            "unreachable", f"the daemon on {self.folder} was not ready within {start_s} s", "give a longer start_s"
        )

    def create_run(self, file: PathLike, join: bool = False, holdout: PathLike | None = None) -> Document:
        """Opens a run from a TOML file, and joins it if told to; needs the daemon."""
        more = ["--join"] if join else []
        more += [] if holdout is None else ["--holdout", str(holdout)]
        return self._ask("run", "create", file, *more)

    def status(self) -> StatusView:
        """What the peer is doing, or where it stood when its daemon stopped."""
        return cast(StatusView, self._checked(StatusView.__required_keys__, "status"))

    def runs(self) -> list[RunBrief]:
        """Runs that this peer knows."""
        return cast(list[RunBrief], self._listed(RunBrief.__required_keys__, "run", "list"))

    def run(self, id: str) -> RunView:
        """One run: settings, members, rounds, credits."""
        return cast(RunView, self._checked(RunView.__required_keys__, "run", "show", id))

    def adapters(self) -> list[AdapterView]:
        """Certified adapters of the home."""
        return cast(list[AdapterView], self._listed(AdapterView.__required_keys__, "adapter", "list"))

    def statement(self) -> StatementView:
        """What the peer did and earned."""
        return cast(StatementView, self._checked(StatementView.__required_keys__, "ledger", "statement"))

    def verify(self, full: bool = False) -> Report:
        """Checks every byte that the home relies on. Faults are no error: see `verified`, `faults` and `findings`."""
        more = ["--full"] if full else []
        return cast(Report, self._checked(Report.__required_keys__, "ledger", "verify", *more))

    def explain(self, receipt: str) -> Explanation:
        """Why a contribution was paid what it was."""
        return explanation_of(self._ask("ledger", "explain", receipt), f"the ledger of {self.folder}")

    def why(self, prompt: str, answer: str | None = None, max_tokens: int = 64) -> Why:
        """Who shaped an answer of the home's adapter; without `answer`, the adapter gives one."""
        more = [] if answer is None else ["--answer", answer]
        found = self._ask("why", "--prompt", prompt, "--max-tokens", str(max_tokens), *more)
        return why_of(found, f"the answer of {self.folder}")

    def _ask(self, *words: PathLike) -> Document:
        accept = VERIFIED if words[:2] == ("ledger", "verify") else (0,)
        return cast(Document, ask(self._program, ["--home", self.folder, *words], accept))

    def _listed(self, keys: frozenset[str], *words: str) -> list[Document]:
        answer: list[Document] = ask(self._program, ["--home", self.folder, *words])
        for one in answer:
            require(one, f"the answer of `tributary {' '.join(words)}`", keys)
        return answer

    def _checked(self, keys: frozenset[str], *words: PathLike) -> Document:
        answer = self._ask(*words)
        require(answer, f"the answer of `tributary {' '.join(map(str, words))}`", keys)
        return answer


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stops a daemon as its owner would, and by force if it does not stop."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Ended(TributaryError):
    """The daemon ended before it was ready."""
