"""Where the time of one job goes, step by step, for a small table and for a backlog."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from bench.harness.report import Figures, Section
from bench.harness.stack import Platform
from bench.sections.bulk import BULK_ROWS, SMALL_ROWS, Bulk

_APPLICATION = Path(__file__).with_name("timed_job.py")
_REST = "everything else, until the process has ended"


def measure_profile(platform: Platform, rounds: int, scratch: Path) -> Section:
    """A job of each size, timed from within."""
    medians = {rows: _profile(platform, rounds, scratch, rows) for rows in (SMALL_ROWS, BULK_ROWS)}
    columns = ("step", *(f"s of {rows:,} rows" for rows in medians))
    steps = dict.fromkeys(step for profile in medians.values() for step in profile)
    lines = [(step, *(f"{profile.get(step, 0):.2f}" for profile in medians.values())) for step in steps]
    total = ("all", *(f"{sum(profile.values()):.2f}" for profile in medians.values()))
    parts = (Figures(columns, [*lines, total]),)
    return Section("profile", "Where the time of a job goes", parts, method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        "The job of *export* writes down when each of its steps begins and ends; the first step begins when "
        f"`spark-submit` starts. Medians of {rounds} rounds, so the sum of the steps is not exactly the time of one "
        "run."
    )


def _profile(platform: Platform, rounds: int, scratch: Path, rows: int) -> dict[str, float]:
    table, log = f"profile_trades_{rows}", scratch / "steps.json"
    platform.create_trades(table, rows)
    job, seconds = Bulk(platform, {table: rows}, scratch), list[dict[str, float]]()
    for _ in range(rounds):
        cost, _ = job.offload("export", _APPLICATION, {"K2_BENCH_STEPS": str(log)})
        profile: dict[str, float] = {}
        for step, began, ended in json.loads(log.read_text()):
            profile[step] = profile.get(step, 0) + ended - began
        profile[_REST] = cost.seconds - sum(profile.values())
        seconds.append(profile)
    platform.sql(f"DROP TABLE {table}")
    return {step: statistics.median(profile[step] for profile in seconds) for step in seconds[0]}
