"""Figures from the frames of results, runs and statements; they need matplotlib.

Each returns a figure that is nobody else's: `figure.savefig("loss.png")` keeps it, and a notebook shows it.
"""

from typing import TYPE_CHECKING

import pandas as pd

from .errors import MissingError, SchemaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Columns of losses by round, as the simulator, runs and the demo have them, and what the figure calls them.
LOSSES = {"common_loss": "common loss", "hold_out_loss": "hold-out loss", "loss_after": "hold-out loss after the round"}
INCHES = (7.0, 4.0)
# Members that a plane of points can name.
NAMED = 16


def loss_by_round(rounds: pd.DataFrame) -> "Figure":
    """The loss after each round; the band is what the evaluators' sheets span. Takes `rounds` or `history` frames."""
    _need(rounds, "round")
    shown = [column for column in LOSSES if column in rounds and rounds[column].notna().any()]
    if not shown:
        raise SchemaError(
            f"there is no loss to plot: the frame has none of {', '.join(LOSSES)}; give a frame of rounds"
        )
    figure, axes = _figure("round", "nats per token")
    for column in shown:
        axes.plot(rounds["round"], rounds[column].astype(float), marker="o", label=LOSSES[column])
    if "hold_out_loss" in shown and {"hold_out_loss_low", "hold_out_loss_high"} <= set(rounds):
        low, high = (rounds[f"hold_out_loss_{end}"].astype(float) for end in ("low", "high"))
        axes.fill_between(rounds["round"], low, high, alpha=0.2)
    axes.set_xticks(rounds["round"].tolist() if len(rounds) <= 12 else axes.get_xticks())
    axes.legend()
    return figure


def scores(members: pd.DataFrame) -> "Figure":
    """The score of each member with its interval, the greatest at the top."""
    _need(members, "name", "score")
    table = members.dropna(subset=["score"]).sort_values("score")
    figure, axes = _figure("score, nats per token", "")
    figure.set_figheight(1.0 + 0.3 * len(table))
    axes.set_ylim(-0.5, len(table) - 0.5)
    if {"score_low", "score_high"} <= set(table):
        ends = table[["score_low", "score_high"]].astype(float)
        for place, (low, high) in enumerate(zip(ends["score_low"], ends["score_high"], strict=True)):
            axes.plot([low, high], [place, place], color="C0", linewidth=1.5)
    axes.plot(table["score"], range(len(table)), "o", color="C0")
    axes.set_yticks(range(len(table)), table["name"].tolist())
    axes.axvline(0, color="grey", linewidth=0.8)
    return figure


def payouts(members: pd.DataFrame) -> "Figure":
    """What each member earned against its score. Names would cover each other where there are many members."""
    _need(members, "name", "score", "earned_open")
    table = members.dropna(subset=["score", "earned_open"])
    figure, axes = _figure("score, nats per token", "earned, OPEN")
    axes.plot(table["score"], table["earned_open"], "o")
    named = table if len(table) <= NAMED else table.head(0)
    for name, score, earned in zip(named["name"], named["score"], named["earned_open"], strict=True):
        axes.annotate(str(name), (score, earned), xytext=(4, 4), textcoords="offset points", fontsize=8)
    return figure


def profits(seeds: pd.DataFrame) -> "Figure":
    """What each strategy brings beyond honesty, a point for each seed and a line at the median. Takes `Economy.seeds`."""
    _need(seeds, "strategy", "profit")
    names = seeds["strategy"].drop_duplicates().tolist()[::-1]
    figure, axes = _figure("profit beside honesty, %", "")
    figure.set_figheight(1.0 + 0.3 * len(names))
    # A strategy that takes everything would press the others into one line.
    axes.set_xscale("symlog", linthresh=10.0)
    for place, name in enumerate(names):
        found = 100 * seeds.loc[seeds["strategy"] == name, "profit"].dropna().astype(float)
        axes.plot(found, [place] * len(found), "o", color="C0", alpha=0.6)
        axes.plot([found.median()], [place], "|", color="C1", markersize=14)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(0, color="grey", linewidth=0.8)
    return figure


def _figure(across: str, up: str) -> "tuple[Figure, Axes]":
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(
            "figures need matplotlib, which is not installed; install it with `pip install matplotlib`"
        ) from error
    figure = Figure(figsize=INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return figure, axes


def _need(frame: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise SchemaError(f"the frame has no column {', '.join(missing)}; give a frame that this package made")
