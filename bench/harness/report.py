"""What a run measured, on the screen and in docs/benchmarks.md; how it was measured, in docs/benchmarks-method.md."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from k2_offload.cli.console import number_table, show_table

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Figures:
    """A table.

    :param columns: their headers; the first one names what a line is about, the others are numbers
    :param lines: one text per column
    """

    columns: Sequence[str]
    lines: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Bars:
    """Horizontal bars.

    :param values: by what they stand for, in the order shown
    :param form: how a value is written at its bar, as in ``%.1f s``
    :param highlighted: those that are this project's
    """

    title: str
    values: Mapping[str, float]
    form: str
    highlighted: Sequence[str] = ()


@dataclass(frozen=True)
class Curves:
    """Lines over a number.

    :param curves: points (x, y) by name
    :param logarithmic: whether x is shown by its order of magnitude
    """

    title: str
    across: str
    up: str
    curves: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False


@dataclass(frozen=True)
class Section:
    """One part of both pages.

    :param name: of the section on the command line, in the pages' marks and in file names
    :param title: its heading
    :param parts: the results: texts (Markdown), tables and plots in the order shown
    :param method: how they are measured (Markdown)
    """

    name: str
    title: str
    parts: Sequence[str | Figures | Bars | Curves]
    method: str


@dataclass(frozen=True)
class Target:
    """What a figure should be.

    :param measured: not a number if what is measured, or compared with, failed
    :param bound: the highest that will do; with ``at_least``, the lowest
    """

    what: str
    measured: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound


def against(targets: Sequence[Target]) -> Figures:
    """What was wanted beside what was measured."""
    return Figures(
        ("target", "wanted", "measured", "met"),
        [
            (
                target.what,
                f"{'at least' if target.at_least else 'at most'} {target.bound:g}",
                "failed" if math.isnan(target.measured) else f"{target.measured:.2f}",
                "yes" if target.met else "no",
            )
            for target in targets
        ],
    )


def show(section: Section) -> None:
    """Print the section's tables."""
    for part in section.parts:
        if isinstance(part, Figures):
            first, *numbers = part.columns
            shown = number_table([f"{section.title}: {first}"], list(numbers))
            for line in part.lines:
                shown.add_row(*line)
            show_table(shown)


def write(section: Section, measured_on: str, docs: Path = DOCS) -> None:
    """Put results and plots of the section into benchmarks.md, and how it is measured into benchmarks-method.md.

    :param measured_on: the machine, and when
    :raises RuntimeError: if a page has no place for the section
    """
    texts = [f"### {section.title}\n", f"{measured_on}.\n"]
    number = 0
    for part in section.parts:
        if isinstance(part, str):
            texts.append(f"{part}\n")
        elif isinstance(part, Figures):
            texts.append(_table(part))
        else:
            number += 1
            file = f"benchmarks-{section.name}{f'-{number}' if number > 1 else ''}.svg"
            _plot(part, docs / file)
            texts.append(f"![{part.title}]({file})\n")
    write_between_marks(docs / "benchmarks.md", section.name, "\n".join(texts))
    write_between_marks(docs / "benchmarks-method.md", section.name, f"### {section.title}\n\n{section.method}\n")


def write_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what stands between a section's marks.

    :raises RuntimeError: if the page lacks one of them
    """
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise RuntimeError(f"docs/{page.name} has no place for {name}: {begin} … {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def _table(figures: Figures) -> str:
    header = [" | ".join(figures.columns), " | ".join(["---", *["---:"] * (len(figures.columns) - 1)])]
    return "".join(f"| {line} |\n" for line in [*header, *(" | ".join(line) for line in figures.lines)])


def _plot(plot: Bars | Curves, file: Path) -> None:
    """Readable on a phone; the same figures give the same file."""
    mpl.rcParams.update({"svg.hashsalt": "k2", "svg.fonttype": "none", "font.size": 14})
    height = 0.6 * len(plot.values) + 1.2 if isinstance(plot, Bars) else 4.5
    figure, axes = plt.subplots(figsize=(7, height), layout="constrained")
    figure.suptitle(plot.title, x=0.01, horizontalalignment="left")  # over the labels, too, which may be long
    if isinstance(plot, Bars):
        names = list(plot.values)[::-1]
        colours = ["#d95f02" if name in plot.highlighted else "#7a8ba3" for name in names]
        bars = axes.barh(names, [plot.values[name] for name in names], color=colours)
        axes.bar_label(bars, fmt=plot.form, padding=4)
        axes.margins(x=0.18)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(bottom=False, labelbottom=False)
    else:
        for name, points in plot.curves.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=name)
        axes.set_xlabel(plot.across)
        axes.set_ylabel(plot.up)
        axes.set_ylim(bottom=0)
        if plot.logarithmic:
            axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)
