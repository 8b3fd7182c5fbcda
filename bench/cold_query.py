"""Questions to ninety days of cold data, and its size, before and after compaction."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from clickhouse_driver import Client
from rich.progress import track

from bench.cold_data import CANDLES_TABLE, DAYS, TRADES, TRADES_TABLE, ColdData, Stored, cold_data
from bench.questions import QUESTIONS, Parameters
from bench.report import Figures, Section
from bench.stack import MIDNIGHT, SYMBOLS, Platform
from k2_offload.cli.console import errors

_LEAST_RUNS = 20
_RUNS_PER_ROUND = 7
_SEED = 5

Answer = list[tuple[object, ...]]
Seconds = dict[str, list[float]]
"""Of every run, by engine."""


def measure_queries(platform: Platform, rounds: int, scratch: Path) -> Section:  # noqa: ARG001 - called as the others are
    """Five questions in two engines, each asked seven times a round and twenty times at least."""
    runs = max(_LEAST_RUNS, _RUNS_PER_ROUND * rounds)
    with cold_data(platform) as data, platform.client() as client:
        before, answers = _ask_all(data, client, runs)
        sizes = {"`export`, a file per quarter of an hour": data.stored(TRADES_TABLE)}
        sizes["Iceberg's Spark writer, unsorted"] = data.stored_by_spark()
        sizes["Iceberg's Spark writer, by time"] = data.stored_by_spark("exchange_timestamp, sequence_number")
        data.compact()
        data.check()
        sizes["compacted, a file per day"] = data.stored(TRADES_TABLE)
        after, answers_after = _ask_all(data, client, runs)
    if answers_after != answers:
        raise RuntimeError("compaction changed an answer")
    remarks, size_remarks = _remarks(runs)
    parts = (remarks, _question_figures(before, after), size_remarks, _size_figures(sizes))
    return Section("queries", f"{DAYS} days of trades and candles", parts)


def _ask_all(data: ColdData, client: Client, runs: int) -> tuple[dict[str, Seconds], list[Answer]]:
    """Every question, as often as asked for, by the same parameters every time."""
    random = Random(_SEED)  # noqa: S311 - repeatable on purpose
    seconds: dict[str, Seconds] = {}
    answers: list[Answer] = []
    in_clickhouse = data.in_clickhouse(TRADES_TABLE), data.in_clickhouse(CANDLES_TABLE)
    in_spark = data.in_spark(TRADES_TABLE), data.in_spark(CANDLES_TABLE)
    for question in track(QUESTIONS, "asking", console=errors, transient=True):
        parameters = [Parameters.draw(random, SYMBOLS, MIDNIGHT, DAYS) for _ in range(runs)]
        seconds[question] = {"ClickHouse": [], "Spark": []}
        # Once unmeasured: the first one of a kind pays for what is compiled and cached.
        for number, each in enumerate([parameters[0], *parameters]):
            started = time.perf_counter()
            answer = client.execute(each.clickhouse(question, *in_clickhouse))
            taken = time.perf_counter() - started
            spark_taken, spark_answer = data.spark.timed_sql(each.spark(question, *in_spark))
            if answer != spark_answer or not answer:
                raise RuntimeError(f"{question}, {each}: ClickHouse and Spark do not agree")
            if number > 0:
                seconds[question]["ClickHouse"].append(taken)
                seconds[question]["Spark"].append(spark_taken)
                answers.append(answer)
    return seconds, answers


def _remarks(runs: int) -> tuple[str, str]:
    return (
        f"{TRADES:,} trades and {SYMBOLS * DAYS * 24 * 60:,} one-minute candles of {SYMBOLS} symbols over {DAYS} days. "
        f"Before compaction there is a file per table and quarter of an hour, {DAYS * 96:,} each, as `export` writes "
        "them. Compaction is Iceberg's own `rewrite_data_files` in the table's sort order, then `rewrite_manifests` "
        f"and `expire_snapshots`. Each question is asked {runs} times, about another symbol, day or time every time; "
        "p99 is about the slowest. ClickHouse reads by the metadata file that the catalog calls current; Spark is one "
        "session that stays up. Every answer was the same in both engines, before and after.",
        "On disk, the trades. Spark's writer has its default settings and one file per day: unsorted, the rows come as "
        "they lie in the small files.",
    )


def _question_figures(before: Mapping[str, Seconds], after: Mapping[str, Seconds]) -> Figures:
    columns = ("question", "engine", "p50 s before", "p99 s before", "p50 s compacted", "p99 s compacted")
    lines = []
    for question in QUESTIONS:
        for engine, seconds in before[question].items():
            figures = (*_p50_p99(seconds), *_p50_p99(after[question][engine]))
            lines.append((question, engine, *(f"{figure:.2f}" for figure in figures)))
    return Figures(columns, lines)


def _p50_p99(seconds: Sequence[float]) -> tuple[float, float]:
    percentiles = statistics.quantiles(seconds, n=100, method="inclusive")
    return percentiles[49], percentiles[98]


def _size_figures(sizes: Mapping[str, Stored]) -> Figures:
    unsorted = sizes["Iceberg's Spark writer, unsorted"].size_bytes
    lines = [
        (name, f"{stored.size_bytes / unsorted:.2f}", f"{stored.size_bytes / stored.rows:.1f}", f"{stored.files:,}")
        for name, stored in sizes.items()
    ]
    return Figures(("trades, written by", "size of unsorted", "bytes/row", "files"), lines)
