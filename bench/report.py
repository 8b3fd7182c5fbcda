"""docs/benchmarks.md: what a run measured, as tables and plots, ratios first."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from bench.measure import Cost

DOCS = Path(__file__).parents[1] / "docs"
_BEGIN, _END = "<!-- measured -->", "<!-- /measured -->"

Runs = Mapping[str, Sequence[tuple[Cost, int]]]
"""By way: cost and bytes of data files, of every round."""


def write(machine: str, sections: Mapping[str, tuple[int, Runs]], docs: Path = DOCS) -> None:
    """Put the figures between the marks of docs/benchmarks.md, and the plots beside it.

    :param sections: title → rows, runs
    """
    parts = [f"Measured on: {machine}. Medians; every way took its turn in every round.\n"]
    for title, (rows, runs) in sections.items():
        plot = f"benchmarks-{title}.svg"
        _plot(f"{title}: {rows:,} rows", runs, docs / plot)
        parts += [f"### {title}: {rows:,} rows\n", f"![seconds by way]({plot})\n", _table(rows, runs)]
    page = docs / "benchmarks.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    page.write_text(f"{before}{_BEGIN}\n" + "\n".join(parts) + f"\n{_END}{after}")


COLUMNS = ("way", "time of export", "seconds", "CPU of export", "CPU s", "peak MiB", "ClickHouse MiB", "bytes per row")


def figures(rows: int, runs: Runs) -> list[tuple[str, ...]]:
    """One line per way, of the columns :data:`COLUMNS`: medians, their ratios to ``export``, and peaks.

    :param rows: how many each way moved
    """
    seconds = median_seconds(runs)
    cpu = {way: statistics.median(cost.cpu_seconds for cost, _ in each) for way, each in runs.items()}
    return [
        (
            way,
            f"{seconds[way] / seconds['export']:.2f}",
            f"{seconds[way]:.1f}",
            f"{cpu[way] / cpu['export']:.2f}",
            f"{cpu[way]:.1f}",
            f"{max(cost.peak_bytes for cost, _ in each) / 2**20:,.0f}",
            f"{max(cost.server_peak_bytes for cost, _ in each) / 2**20:,.0f}",
            f"{statistics.median(size for _, size in each) / rows:.1f}",
        )
        for way, each in runs.items()
    ]


def median_seconds(runs: Runs) -> dict[str, float]:
    """Wall time by way."""
    return {way: statistics.median(cost.seconds for cost, _ in each) for way, each in runs.items()}


def _table(rows: int, runs: Runs) -> str:
    header = [" | ".join(COLUMNS), "|".join(["---", *["---:"] * (len(COLUMNS) - 1)])]
    return "".join(f"| {line} |\n" for line in [*header, *(" | ".join(line) for line in figures(rows, runs))])


def _plot(title: str, runs: Runs, file: Path) -> None:
    """Horizontal bars with their figures, readable on a phone; the same figures give the same file."""
    mpl.rcParams.update({"svg.hashsalt": "k2", "svg.fonttype": "none", "font.size": 14})
    seconds = median_seconds(runs)
    figure, axes = plt.subplots(figsize=(7, 0.6 * len(seconds) + 1.2), layout="constrained")
    ways = list(seconds)[::-1]
    colours = ["#d95f02" if way == "export" else "#7a8ba3" for way in ways]
    bars = axes.barh(ways, [seconds[way] for way in ways], color=colours)
    axes.bar_label(bars, fmt="%.1f s", padding=4)
    axes.set_title(title, loc="left")
    axes.margins(x=0.15)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
