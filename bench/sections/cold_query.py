"""Questions to ninety days of cold data, and its size, before and after compaction."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from clickhouse_driver import Client
from rich.progress import track

from bench.harness.report import Bars, Figures, Section, Target, against
from bench.harness.stack import MIDNIGHT, SYMBOLS, Platform
from bench.sections.cold_data import CANDLES_TABLE, DAYS, TRADES, TRADES_TABLE, ColdData, Stored, cold_data
from bench.sections.questions import QUESTIONS, Parameters
from k2_offload.cli.console import errors

_LEAST_RUNS = 20
_RUNS_PER_ROUND = 7
_WARMING_RUNS = 2
_PATIENCE_SECONDS = 100
_SEED = 5

_COMPACTED = "compacted, a file per day"
_UNSORTED = "Iceberg's Spark writer, unsorted"

Answers = dict[tuple[str, int], list[tuple[object, ...]]]
"""By question and number of the run."""

Seconds = dict[str, list[float]]
"""Of every run, by engine."""


def measure_queries(platform: Platform, rounds: int, scratch: Path) -> Section:  # noqa: ARG001 - called as the others are
    """Five questions in two engines, each asked seven times a round and twenty times at least."""
    runs = max(_LEAST_RUNS, _RUNS_PER_ROUND * rounds)
    with cold_data(platform) as data, platform.client() as client:
        before, answers = _ask_all(data, client, runs)
        sizes = {"`export`, a file per quarter of an hour": data.stored(TRADES_TABLE)}
        sizes[_UNSORTED] = data.stored_by_spark()
        sizes["Iceberg's Spark writer, by time"] = data.stored_by_spark("exchange_timestamp, sequence_number")
        data.compact()
        data.check()
        sizes[_COMPACTED] = data.stored(TRADES_TABLE)
        after, answers_after = _ask_all(data, client, runs)
    if any(answers_after[run] != answer for run, answer in answers.items() if run in answers_after):
        raise RuntimeError("compaction changed an answer")
    bytes_per_row = {name: stored.size_bytes / stored.rows for name, stored in sizes.items()}
    bars = Bars("Bytes per row on disk", bytes_per_row, "%.1f", [_COMPACTED])
    targets = [
        Target(f"slowest p99 {when}, seconds", _slowest_p99(phase), 5)
        for when, phase in (("before compaction", before), ("compacted", after))
    ]
    targets.append(Target("size compacted, of unsorted", bytes_per_row[_COMPACTED] / bytes_per_row[_UNSORTED], 0.9))
    questions = _question_figures(before, after)
    parts = (questions, bars, _size_figures(sizes), against(targets))
    return Section("queries", f"{DAYS} days of trades and candles", parts, method(runs))


def _ask_all(data: ColdData, client: Client, runs: int) -> tuple[dict[str, Seconds], Answers]:
    """Every question, by the same parameters every time."""
    random = Random(_SEED)  # noqa: S311 - repeatable on purpose
    seconds: dict[str, Seconds] = {}
    answers: Answers = {}
    in_clickhouse = data.in_clickhouse(TRADES_TABLE), data.in_clickhouse(CANDLES_TABLE)
    in_spark = data.in_spark(TRADES_TABLE), data.in_spark(CANDLES_TABLE)

    def ask_clickhouse(question: str, each: Parameters) -> tuple[float, list[tuple[object, ...]]]:
        started = time.perf_counter()
        answer = client.execute(each.clickhouse(question, *in_clickhouse))
        return time.perf_counter() - started, answer

    def ask_spark(question: str, each: Parameters) -> tuple[float, list[tuple[object, ...]]]:
        return data.spark.timed_sql(each.spark(question, *in_spark))

    ask = {"ClickHouse": ask_clickhouse, "Spark": ask_spark}
    for question in track(QUESTIONS, "asking", console=errors, transient=True):
        parameters = [Parameters.draw(random, SYMBOLS, MIDNIGHT, DAYS) for _ in range(_WARMING_RUNS + runs)]
        taken: Seconds = {engine: [] for engine in ask}
        # Twice unmeasured: the first ones of a kind pay for what is compiled and cached.
        for number, each in enumerate(parameters, -_WARMING_RUNS):
            if sum(map(sum, taken.values())) > _PATIENCE_SECONDS:
                break
            # In turns: whoever comes second reads what is cached.
            asked = {engine: ask[engine](question, each) for engine in (list(ask) if number % 2 else reversed(ask))}
            answer = asked["ClickHouse"][1]
            if answer != asked["Spark"][1] or not answer:
                raise RuntimeError(f"{question}, {each}: ClickHouse and Spark do not agree")
            if number >= 0:
                for engine, (engine_seconds, _) in asked.items():
                    taken[engine].append(engine_seconds)
                answers[question, number] = answer
        seconds[question] = taken
    return seconds, answers


def method(runs: int) -> str:
    """How it is measured.

    :param runs: of each question
    """
    return (
        f"{TRADES:,} trades and {SYMBOLS * DAYS * 24 * 60:,} one-minute candles of {SYMBOLS} symbols over {DAYS} "
        f"days. Before compaction, each table has one file per quarter of an hour, {DAYS * 96:,} files, as `export` "
        f"writes them. Compaction is this project's own maintenance, all days of both tables at once. "
        f"Each question is asked {runs} times, each time about another "
        f"symbol, day or time, and no more after its runs have taken {_PATIENCE_SECONDS} s together. With so few "
        "runs, p99 is nearly the slowest one. ClickHouse reads the metadata file that the catalog names as the "
        "current one; Spark is one session that stays up. The benchmark fails unless both engines give the same "
        "answer to every question, before and after compaction.\n\n"
        "Sizes are those of the trades. Spark's writer has its default settings and writes one file per day; "
        "*unsorted* means that the rows are in the order in which Spark reads them from the small files."
    )


def _question_figures(before: Mapping[str, Seconds], after: Mapping[str, Seconds]) -> Figures:
    columns = (
        "question",
        "engine",
        "runs before",
        "p50 s before",
        "p99 s before",
        "p50 s compacted",
        "p99 s compacted",
    )
    lines = []
    for question in QUESTIONS:
        for engine, seconds in before[question].items():
            figures = (*p50_p99(seconds), *p50_p99(after[question][engine]))
            lines.append((question, engine, str(len(seconds)), *(f"{figure:.2f}" for figure in figures)))
    return Figures(columns, lines)


def p50_p99(seconds: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return percentiles[49], percentiles[98]


def _slowest_p99(phase: Mapping[str, Seconds]) -> float:
    return max(p50_p99(seconds)[1] for asked in phase.values() for seconds in asked.values())


def _size_figures(sizes: Mapping[str, Stored]) -> Figures:
    unsorted = sizes[_UNSORTED].size_bytes
    lines = [
        (name, f"{stored.size_bytes / unsorted:.2f}", f"{stored.size_bytes / stored.rows:.1f}", f"{stored.files:,}")
        for name, stored in sizes.items()
    ]
    return Figures(("trades, written by", "size of unsorted", "bytes/row", "files"), lines)
