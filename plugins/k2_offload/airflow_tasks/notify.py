"""Tells a webhook that a run has failed, once, when no task of it is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.adapters.webhook import post
from k2_offload.core.dag_ids import BACKFILL_DAG_ID, MAINTENANCE_DAG_ID, RECONCILE_DAG_ID, dag_id
from k2_offload.core.errors import ConfigurationError, InvalidTablesFile
from k2_offload.core.tables import LAYERS, Tables
from k2_offload.work.tiers import open_ledger

log = logging.getLogger(__name__)

_PAGES = {
    RECONCILE_DAG_ID: "docs/runbooks/consistency.md",
    MAINTENANCE_DAG_ID: "docs/runbooks/maintenance.md",
    BACKFILL_DAG_ID: "docs/backfill.md",
}
_LAYERS_PAGE = "docs/runbooks/offload-failure.md"
_OTHER_PAGE = "docs/operations.md"
_LONGEST = 3000
"""Characters: chat services refuse much longer ones."""


def on_failure() -> Callable[[Any], None] | None:
    """What a DAG calls when a run has failed; ``None`` unless the settings name a webhook."""
    return notify if load_settings().notify_conn_id else None


def notify(context: Any) -> None:
    """Post one paragraph: which run, which tables, why, and what to read. Whatever goes wrong here fails nobody."""
    connection_id = load_settings().notify_conn_id
    dag, run = context["dag"].dag_id, context["run_id"]
    try:
        post(connection_id, message(dag, run, context.get("reason"), _reasons(dag)))
    except ConfigurationError as error:
        log.warning("%s %s has failed, and nobody was notified: %s", dag, run, error)
    except Exception as error:  # noqa: BLE001 - its text may hold the address, which may be a secret
        code = getattr(error, "code", None)
        kind = f"{type(error).__name__}{f' {code}' if code else ''}"
        log.warning("%s %s has failed, and connection '%s' did not take it: %s", dag, run, connection_id, kind)


def message(dag: str, run: str, kind: str | None, reasons: list[str]) -> str:
    """The paragraph.

    :param kind: Airflow's word for how the run has ended
    :param reasons: of the tables that did not move, as the ledger has them
    """
    layers = [dag_id(layer) for layer in LAYERS]
    page = _LAYERS_PAGE if dag in layers else _PAGES.get(dag, _OTHER_PAGE)
    why = " ".join(reasons) or "The log of its red task says why."
    head = f"{dag} has failed ({kind or 'failed'}), run {run}. "
    tail = f" What to do: {page}"
    room = _LONGEST - len(head) - len(tail)
    return head + (why if len(why) <= room else f"{why[: room - 1]}…") + tail


def _reasons(dag: str) -> list[str]:
    settings = load_settings()
    try:
        tables = _of(dag, load_tables(settings.tables_file))
    except InvalidTablesFile as error:
        return [str(error)]
    if not tables:
        return []
    try:
        records = open_ledger(settings).read_tables()
    except Exception:
        log.warning("%s: the ledger does not say why", dag, exc_info=True)
        return ["The ledger does not say why: it cannot be read."]
    failed = {name: record.reason for name, record in records.items() if record.status == "failed"}
    return [failed[name] or f"{name}: for an unknown reason." for name in tables if name in failed]


def _of(dag: str, tables: Tables) -> list[str]:
    return [table.name for layer in LAYERS if dag_id(layer) == dag for table in tables.in_layer(layer)]
