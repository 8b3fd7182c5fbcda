"""Cycles over tables of a test's own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from k2_offload.core.tables import parse_tables
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle


def table_file(specs: Sequence[str]) -> str:
    """A table file with these entries."""
    return "tables:\n" + textwrap.indent("\n".join(specs), "  ")


Clock = Callable[[], datetime]


def build_cycle(resources: ExitStack, now: datetime | Clock | None, tables: str, dag_run_id: str) -> Cycle:
    """A cycle over the tables of a table file, with the connections of this session's AIRFLOW_HOME.

    :param resources: closes the connections
    :param now: a clock, or the time at which it stands still; the real one when left out
    """
    clock = now if callable(now) else (lambda: now or datetime.now(UTC))
    return resources.enter_context(open_cycle(dag_run_id, parse_tables(tables), clock))
