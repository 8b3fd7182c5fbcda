"""``k2 verify --offsets``: the broker's messages against ClickHouse and Iceberg."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from k2_offload.adapters.broker import BROKER_CONNECTION, open_broker
from k2_offload.adapters.ledger_offsets import LedgerOffsets
from k2_offload.cli.console import (
    FAILED,
    PASSED,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    window_document,
)
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_number
from k2_offload.work.offsets import OffsetReport, compare_offsets
from k2_offload.work.tiers import Tiers

_AGAIN = "bronze has it each time; silver and candles take a trade once as long as silver has it"


def verify_offsets(tiers: Tiers, chosen: Sequence[TableSpec], as_json: bool) -> bool:
    """Compare and print the bronze tables among those that were chosen; whether no message is missing."""
    bronze = [table for table in chosen if table.layer == "bronze"]
    if not bronze:
        raise InvalidCondition("--offsets looks at bronze tables, and none was chosen. Nothing was compared.")
    broker = open_broker()
    kept = LedgerOffsets(tiers.ledger)
    reports = [compare_offsets(tiers, table, broker, kept.read_ends(table.name)) for table in bronze]
    if as_json:
        print_json([_document(report, broker is not None) for report in reports])
    else:
        _print(reports)
        if broker is None:
            screen.print(
                f"There is no Airflow connection '{BROKER_CONNECTION}': the broker was not asked, and messages "
                "after the last one that ClickHouse has were not looked for.",
                soft_wrap=True,
            )
    return all(report.passed for report in reports)


def _document(report: OffsetReport, asked: bool) -> dict[str, object]:
    return {
        "table": report.table,
        "broker_asked": asked,
        "offsets_kept": report.kept,
        "partitions": report.partitions,
        "passed": report.passed,
        "problems": list(report.problems),
        "not_looked_for": [window_document(each) for each in report.left_out],
        "removed": [window_document(each) for each in report.removed],
        "findings": [
            {
                "topic": each.partition.topic,
                "partition": each.partition.number,
                "first": each.offsets.first,
                "last": each.offsets.last,
                "kind": each.kind.name.lower(),
            }
            for each in report.findings
        ],
    }


def _print(reports: Sequence[OffsetReport]) -> None:
    shown = number_table(["table"], ["partitions", "missing", "repeated"], ["complete"])
    for report in reports:
        numbers = (report.partitions, report.missing, report.repeated) if report.kept else (None, None, None)
        shown.add_row(report.table, *map(show_number, numbers), PASSED if report.passed else FAILED)
    show_table(shown)
    for report in reports:
        if not report.kept:
            show_error(
                f"{report.table}: ClickHouse shows no offsets of its messages, so nothing was compared. If there is a "
                "broker, apply docker/clickhouse/80_message_offsets.sql; if the table message_offsets is there, grant "
                "SELECT on it."
            )
        for note in report.notes:
            screen.print(escape(f"{report.table}: {note}."), soft_wrap=True)
        for problem in report.problems:
            show_error(f"{report.table}: {problem}")
        for each in report.findings:
            if each.kind.lost:
                show_error(f"{report.table}: {each}")
            else:
                screen.print(escape(f"{report.table}: {each}; {_AGAIN}."), soft_wrap=True)
