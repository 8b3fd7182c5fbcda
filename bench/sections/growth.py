"""What a cycle costs as history grows, with daily maintenance and without."""

from __future__ import annotations

from pathlib import Path

from bench.harness.report import Curves, Figures, Section, Target, against
from bench.harness.stack import Platform
from bench.sections.history import CYCLES_PER_DAY, MAINTAINED, NEW, ROWS_PER_CYCLE, CycleCost, Metadata, running_history

MARKS = (1, 100, 700)
"""After so many cycles it is measured."""


def measure_growth(platform: Platform, rounds: int, scratch: Path) -> Section:
    """The same cycle after a few and after many."""
    with running_history(platform, scratch) as history:
        costs: dict[str, list[CycleCost]] = {}
        sizes: dict[str, list[Metadata]] = {}
        for mark in MARKS:
            history.go_on_until(mark)
            for name, metadata in history.metadata().items():
                sizes.setdefault(name, []).append(metadata)
            for name, runs in history.measure(rounds).items():
                costs.setdefault(name, []).append(CycleCost.median(runs))
        history.check()
        title = "Growth: a cycle of one table after many others"
        cycle_curves = {
            name: list(zip(MARKS, (cost.seconds for cost in each), strict=True)) for name, each in costs.items()
        }
        plots = (
            Curves(title, "cycles so far", "seconds", cycle_curves),
            Curves("Growth: planning one table", "cycles so far", "milliseconds", history.planning_curves()),
        )
    ratio = costs[MAINTAINED][-1].seconds / costs[NEW][-1].seconds
    target = Target(f"cycle of a maintained table after {MARKS[-1]}, of a new one", ratio, 1.2)
    parts = (_cycle_figures(costs), against([target]), _size_figures(sizes), *plots)
    return Section("growth", title, parts, method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        f"Two tables get the same {ROWS_PER_CYCLE:,} trades every 15 minutes. One of them is maintained once a day, "
        f"after {CYCLES_PER_DAY} cycles, by Iceberg's own `rewrite_data_files`, `rewrite_manifests` and "
        "`expire_snapshots`, which keep one day of snapshots. The other one is never maintained. Most cycles are "
        "moved by the same job in an application that stays up. The measured cycles are complete: plan, "
        f"`spark-submit` and commit, each with new connections; medians of {rounds} rounds. A new table, after its "
        'first cycle, takes its turn in every round: "of a new table" is a multiple of its time. At the end, both '
        "tables are compared with ClickHouse, row by row."
    )


def _cycle_figures(costs: dict[str, list[CycleCost]]) -> Figures:
    columns = (
        "table",
        "cycles so far",
        "cycle s",
        "of a new table",
        "plan s",
        "spark-submit s",
        "commit s",
        "CPU s",
    )
    lines = [
        (
            name,
            f"1, beside {mark:,}" if name == NEW else f"{mark:,}",
            f"{cost.seconds:.2f}",
            f"{cost.seconds / costs[NEW][number].seconds:.2f}",
            *(f"{seconds:.3f}" for seconds in (cost.plan, cost.submit, cost.commit, cost.cpu)),
        )
        for number, mark in enumerate(MARKS)
        for name, cost in ((name, each[number]) for name, each in costs.items())
    ]
    return Figures(columns, lines)


def _size_figures(sizes: dict[str, list[Metadata]]) -> Figures:
    columns = (
        *("maintenance", "cycles so far", "snapshots", "data files", "metadata.json KiB", "manifests", "manifests KiB"),
        *("manifest list KiB", "metadata files", "metadata files MiB"),
    )
    lines = [
        (
            name,
            *(f"{number:,}" for number in (mark, size.snapshots, size.data_files)),
            f"{size.json_bytes / 1024:,.0f}",
            f"{size.manifests:,}",
            *(f"{number / 1024:,.0f}" for number in (size.manifest_bytes, size.manifest_list_bytes)),
            f"{size.files:,}",
            f"{size.files_bytes / 2**20:,.1f}",
        )
        for name, each in sizes.items()
        for mark, size in zip(MARKS, each, strict=True)
    ]
    return Figures(columns, lines)
