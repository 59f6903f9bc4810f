"""Rows of the ledger and of runs as data frames, in the units that papers use.

The ledger counts in integers: nano-nats, micro-OPEN, parts per billion. A frame has nats per token, OPEN and parts of
one as floats, under the names that the simulator's tables use (`score`, `score_low`, `score_high`, `earned_open`). The
exact integers stay in the rows that the frame was made of.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from .contract import Explanation, RunView, StatementView, Why

NAMES = {"low": "score_low", "high": "score_high", "open": "earned_open"}
# Units of a name's ending, and what the ending becomes.
ENDINGS = {"_nanonats": ("", 1e-9), "micro_open": ("open", 1e-6), "_ppb": ("", 1e-9)}


def frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] | None = None) -> pd.DataFrame:
    """Rows as a frame, integers of the ledger in whole units; `columns` names them where there is no row."""
    listed = [dict(row) for row in rows]
    table = pd.DataFrame.from_records(listed, columns=None if listed else list(columns or []))
    for column in list(table.columns):
        for ending, (becomes, unit) in ENDINGS.items():
            if column.endswith(ending):
                name = column.removesuffix(ending) + becomes
                table = table.rename(columns={column: NAMES.get(name, name)})
                table[NAMES.get(name, name)] *= unit
    if "credit" in table:
        # Billionths of a round.
        table["credit"] *= 1e-9
    return table


def members(run: RunView) -> pd.DataFrame:
    """A row for each member: peer, name, role, tokens, and what it earned, where it did."""
    earned = frame(
        run["credits"], ["peer", "name", "score_nanonats", "low_nanonats", "high_nanonats", "micro_open", "credit"]
    )
    roster = frame(run["roster"], ["peer", "name", "role", "tokens", "own_tokens"])
    return roster.merge(earned.drop(columns="name"), on="peer", how="outer")


def history(run: RunView) -> pd.DataFrame:
    """A row for each certified round: included updates, state, and the hold-out loss before and after."""
    return frame(run["history"], ["round", "state_hash", "adapter", "included", "loss_before", "loss_after"])


def lines(statement: StatementView) -> pd.DataFrame:
    """A row for each receipt that was scored: run, round, score with interval, credit and OPEN."""
    return frame(_of_runs(statement, "lines"), ["run", "run_name", "round", "receipt"])


def postings(statement: StatementView) -> pd.DataFrame:
    """A row for each change of the peer's accounts: run, round, capacity, receipt, OPEN, and when (milliseconds)."""
    return frame(_of_runs(statement, "postings"), ["run", "run_name", "round", "capacity", "receipt"])


def periods(statement: StatementView) -> pd.DataFrame:
    """A row for each period of a run: what it paid, and in `because_CAUSE` what each cause changed since the last."""
    rows = []
    for period in _of_runs(statement, "periods"):
        change = period.pop("change", None)
        causes = change["causes"] if change else []
        rows.append(
            period | {f"because_{one['cause'].replace('-', '_')}_micro_open": one["micro_open"] for one in causes}
        )
    return frame(rows, ["run", "run_name", "first", "last"])


def _of_runs(statement: StatementView, what: str) -> list[dict[str, Any]]:
    runs: list[Mapping[str, Any]] = list(statement["runs"])
    return [{"run": run["run"], "run_name": run["name"], **row} for run in runs for row in run[what]]


def split(explanation: Explanation) -> pd.DataFrame:
    """A row for each contributor of the explained round: score, luck, credit and OPEN."""
    return frame(explanation["split"])


def sheets(explanation: Explanation) -> pd.DataFrame:
    """A row for each score sheet behind the explained score: evaluator, score with interval, tokens."""
    return frame(explanation["score"]["sheets"])


def shares(why: Why) -> pd.DataFrame:
    """A row for each contributor to an answer: its share with interval, and the words proven to stand in its text."""
    rows = []
    for share in why["shares"]:
        plain = {key: value for key, value in share.items() if key not in ("evidence", "asked")}
        rows.append(
            plain | {"asked": share["asked"]["outcome"], "words": sum(one["words"] for one in share["evidence"])}
        )
    table = frame(rows, ["peer", "name", "share_ppb"])
    return table.rename(columns={"score_low": "share_low", "score_high": "share_high"})
