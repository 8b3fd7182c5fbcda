"""``make bench``: everything side by side in one run, in turns, median of several rounds."""

from __future__ import annotations

import argparse
import platform as machine
import tempfile
from pathlib import Path

import psutil
from rich.progress import track

from bench import report
from bench.bulk import Bulk, Contender
from bench.measure import Cost
from bench.stack import running
from k2_offload.cli.console import errors, number_table, screen, show_table

BULK_ROWS = 3_777_490
SMALL_ROWS = 19_600
WINDOW_ROWS = 53_000


def main() -> None:
    """Run the benchmarks, print what they cost and write it into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way takes its turn")
    parser.add_argument("--rows", type=int, default=BULK_ROWS, help="rows of the bulk table")
    parser.add_argument("--look", action="store_true", help="print only; leave docs/benchmarks.md as it is")
    arguments = parser.parse_args()
    described = describe_machine()
    screen.print(described)
    sections = {}
    sizes = {"bulk": arguments.rows, "window": WINDOW_ROWS, "small": SMALL_ROWS}
    with running() as platform, tempfile.TemporaryDirectory() as scratch:
        for name, rows in sizes.items():
            platform.create_trades(f"{name}_trades", rows)
            bulk = Bulk(platform, f"{name}_trades", rows, Path(scratch))
            runs = take_turns(bulk.contenders, arguments.rounds)
            show(f"{name}: {rows:,} rows", rows, runs)
            sections[name] = (rows, runs)
    if not arguments.look:
        report.write(described, sections)


def describe_machine() -> str:
    """What it ran on."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{machine.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, Python {machine.python_version()}"


def take_turns(contenders: list[Contender], rounds: int) -> dict[str, list[tuple[Cost, int]]]:
    """Each contender once per round, so that a slow minute of the machine hits all of them."""
    turns = [contender for _ in range(rounds) for contender in contenders]
    costs: dict[str, list[tuple[Cost, int]]] = {contender.name: [] for contender in contenders}
    for contender in track(turns, "measuring", console=errors, transient=True):
        costs[contender.name].append(contender.run())
    return costs


def show(title: str, rows: int, runs: report.Runs) -> None:
    """Print what docs/benchmarks.md will say."""
    way, *numbers = report.COLUMNS
    shown = number_table([f"{title}: {way}"], numbers)
    for line in report.figures(rows, runs):
        shown.add_row(*line)
    show_table(shown)


if __name__ == "__main__":
    main()
