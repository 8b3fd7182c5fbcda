"""What it costs to prove days, and to ask the view over both tiers instead of one of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from random import Random

from clickhouse_driver import Client
from rich.progress import track

from bench.harness.report import Figures, Section, Target, against
from bench.harness.stack import MIDNIGHT, SYMBOLS, Platform
from bench.sections.cold_data import CANDLES_TABLE, DAYS, TRADES_TABLE, VIEW, ColdData, cold_data
from bench.sections.cold_query import p50_p99
from bench.sections.questions import QUESTIONS, Parameters
from k2_offload.cli.console import errors
from k2_offload.work.combined_view import renew_views
from k2_offload.work.reconcile import reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import SealCheck, verify_sealed

_LEAST_RUNS = 20
_RUNS_PER_ROUND = 7
_WARMING_RUNS = 2
_SEED = 6
_CORES = 2
"""That maintenance uses."""
_WARM, _COLD, _VIEW = "ClickHouse alone", "Iceberg alone", "the view"


def measure_sealing(platform: Platform, rounds: int, scratch: Path, days: int = DAYS) -> Section:  # noqa: ARG001 - called as the others are
    """Compare, seal and verify all days; then ask each question of three, in turns.

    :param days: of which there are data; at least two
    """
    runs = max(_LEAST_RUNS, _RUNS_PER_ROUND * rounds)
    with cold_data(platform, days) as data, platform.client() as client:
        compaction = data.compact()
        steps, rows = _prove(data)
        seconds = _ask(data, client, runs)
    per_day = steps["sealed"] / (2 * days)
    slower = max(p50_p99(each[_VIEW])[0] - p50_p99(each[_COLD])[0] for each in seconds.values())
    megabytes = compaction.size_bytes / 1e6
    targets = [
        Target("MB/s of compaction, per core", megabytes / compaction.seconds / _CORES, 2, at_least=True),
        Target("seconds to seal a day of a table", per_day, 1),
        Target("seconds that the view adds to Iceberg alone, p50, at most", slower, 0.1),
        Target("slowest p99 of the view, seconds", max(p50_p99(each[_VIEW])[1] for each in seconds.values()), 1.5),
    ]
    steps = {"tidied": compaction.seconds, **steps}
    tidied = (
        f"`k2_maintenance` made one file of each of {compaction.days} days, out of {compaction.files:,} files and "
        f"{megabytes:,.0f} MB, in {compaction.seconds:.0f} s without Spark's start: "
        f"{megabytes / compaction.seconds:.1f} MB/s, expiry and the look for orphan files included."
    )
    parts = (_step_figures(steps, rows, days), tidied, _question_figures(seconds, days), against(targets))
    return Section("sealing", f"Sealing {days} days, and the view over both tiers", parts, _method(runs, days))


def _prove(data: ColdData) -> tuple[dict[str, float], int]:
    """Seconds of each step for all days of both tables, and how many rows those have.

    :raises RuntimeError: unless every day is sealed, and every seal holds
    """
    tables = list(data.tiers.tables.by_name.values())
    steps: dict[str, float] = {}

    def step(name: str, action: Callable[[], list[str]]) -> None:
        started = time.monotonic()
        if problems := action():
            raise RuntimeError("\n".join(problems))
        steps[name] = time.monotonic() - started

    step("compared", lambda: [problem for each in reconcile(data.tiers, tables) for problem in each.problems])
    step("sealed", lambda: seal_days(data.tiers, tables).problems)
    checks: list[SealCheck] = []

    def verify() -> list[str]:
        checks.extend(verify_sealed(data.tiers, table) for table in tables)
        return [finding for check in checks for finding in check.findings]

    step("verified", verify)
    step("views renewed", lambda: renew_views(data.tiers, tables))
    if [check.days for check in checks] != [data.days, data.days]:
        raise RuntimeError(f"not every day was sealed: {checks}")
    return steps, sum(check.rows for check in checks)


def _ask(data: ColdData, client: Client, runs: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every run, by question and by whom it was asked of.

    :raises RuntimeError: unless all give the same answer
    """
    random = Random(_SEED)  # noqa: S311 - repeatable on purpose
    names = (TRADES_TABLE, CANDLES_TABLE)
    asked = {
        _WARM: names,
        _COLD: tuple(map(data.in_clickhouse, names)),
        _VIEW: tuple(f"{name}{VIEW}" for name in names),
    }
    orders = list(permutations(asked.items()))  # whoever comes later reads what is cached
    seconds: dict[str, dict[str, list[float]]] = {}
    for question in track(QUESTIONS, "asking", console=errors, transient=True):
        parameters = [Parameters.draw(random, SYMBOLS, MIDNIGHT, data.days) for _ in range(_WARMING_RUNS + runs)]
        seconds[question] = {name: [] for name in asked}
        for number, each in enumerate(parameters, -_WARMING_RUNS):
            answers = []
            for name, tables in orders[number % len(orders)]:
                started = time.perf_counter()
                answers.append(client.execute(each.clickhouse(question, *tables)))
                if number >= 0:
                    seconds[question][name].append(time.perf_counter() - started)
            if not answers[0] or any(answer != answers[0] for answer in answers):
                raise RuntimeError(f"{question}, {each}: the tiers and the view do not agree")
    return seconds


def _step_figures(steps: Mapping[str, float], rows: int, days: int) -> Figures:
    lines = [
        (name, f"{taken:.1f}", f"{1000 * taken / (2 * days):.0f}", f"{rows / taken:,.0f}")
        for name, taken in steps.items()
    ]
    return Figures((f"{days} days of two tables", "seconds", "ms per day and table", "rows per second"), lines)


def _question_figures(seconds: Mapping[str, Mapping[str, Sequence[float]]], days: int) -> Figures:
    names = (_WARM, _COLD, _VIEW)
    columns = ("question", *(f"{percentile} s, {name}" for name in names for percentile in ("p50", "p99")))
    lines = [
        (
            question.replace(f"{DAYS} days", f"{days} days"),
            *(f"{figure:.3f}" for name in names for figure in p50_p99(by_name[name])),
        )
        for question, by_name in seconds.items()
    ]
    return Figures(columns, lines)


def _method(runs: int, days: int) -> str:
    return (
        f"{days} days of the trades and candles of [the questions above](#90-days-of-trades-and-candles), compacted. "
        "All days are compared by content, sealed, and their seals verified, as `k2_reconcile` and "
        f"`k2 verify --sealed` do; then the views are renewed. Each question is asked {runs} times of ClickHouse's own "
        "table, of the cold table read by ClickHouse, and of the view, in turns, each time about another symbol, day "
        "or time. The benchmark fails "
        "unless all three give the same answer, every time. The boundary of the view lies after the last sealed day, "
        "so all of these questions are answered by Iceberg."
    )
