"""``make bench``: everything side by side in one run, in turns, median of several rounds."""

from __future__ import annotations

import argparse
import platform as machine
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from bench.harness import report
from bench.harness.failures import Failures
from bench.harness.report import Section
from bench.harness.stack import Platform, running
from bench.sections import (
    bulk,
    cold_query,
    cycle,
    growth,
    imports,
    job_profile,
    many_tables,
    minutes,
    sealing,
    window_sizes,
    workers,
)
from bench.sections.cold_data import DAYS
from k2_offload.cli.console import errors, screen, silence_airflow

SECTIONS = {
    "bulk": bulk.measure_bulk,
    "window": bulk.measure_window,
    "small": bulk.measure_small,
    "two": bulk.measure_two,
    "profile": job_profile.measure_profile,
    "imports": imports.measure_imports,
    "growth": growth.measure_growth,
    "windows": window_sizes.measure_windows,
    "queries": cold_query.measure_queries,
    "sealing": sealing.measure_sealing,
    "cycle": cycle.measure_cycle,
    "workers": workers.measure_workers,
    "tables": many_tables.measure_many_tables,
    "minutes": minutes.measure_minutes,
}
"""By name: measures on a running stack, in so many rounds, with a folder for its files."""


def main() -> int:
    """Run the benchmarks, print what they cost, and write it into docs/benchmarks.md and docs/benchmarks-method.md.

    :returns: 1 if anything failed, after everything else was measured
    """
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; without any, all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way takes its turn")
    parser.add_argument("--days", type=int, default=DAYS, help="how many days `sealing` has")
    parser.add_argument("--look", action="store_true", help="print only; leave the pages in docs/ as they are")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - set(SECTIONS):
        parser.error(f"there is no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if arguments.days <= 1:
        parser.error("--days: at least 2, as no question is about the first one")
    sections = dict(SECTIONS)
    if "sealing" in sections:
        sections["sealing"] = partial(sealing.measure_sealing, days=arguments.days)
    silence_airflow()
    measured_on = describe_machine()
    screen.print(measured_on)
    failures = Failures.of_run(datetime.now(UTC))
    with running(failures) as platform:
        for name in arguments.sections or sections:
            if section := measure(name, sections[name], platform, arguments.rounds):
                report.show(section)
                if not arguments.look:
                    report.write(section, measured_on)
    for failure in failures.all:
        errors.print(f"{failure.name} failed, see {failure.log}", style="red", markup=False, highlight=False)
    return 1 if failures.all else 0


def measure(
    name: str, section: Callable[[Platform, int, Path], Section], platform: Platform, rounds: int
) -> Section | None:
    """One section; ``None`` if it failed, which :attr:`Platform.failures` then tells, so that the others go on."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return section(platform, rounds, Path(scratch))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this section's
            platform.failures.keep(f"section {name}", error)
            return None


def describe_machine() -> str:
    """What it runs on, and when."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine.machine()}, {psutil.cpu_count()} cores, {memory:.0f} GiB, "
        f"{machine.system()} {machine.release()}, Python {machine.python_version()}"
    )


if __name__ == "__main__":
    sys.exit(main())
