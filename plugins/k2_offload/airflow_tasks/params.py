"""What the DAGs have in common: their time zone, how their tasks are tried and speak, and a field of their forms."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.trigger import CronTriggerTimetable

from k2_offload.adapters.log_lines import JSON, AsJson
from k2_offload.adapters.settings import load_settings
from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.limits import TASK_RETRIES, TASK_RETRY_SECONDS
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers


def in_utc(cron: str | None) -> CronTriggerTimetable | None:
    """A schedule in UTC; a plain cron expression would be in Airflow's ``default_timezone``.

    :param cron: ``None`` for none
    """
    return CronTriggerTimetable(cron, timezone="UTC") if cron is not None else None


def task_defaults(timeout_seconds: int) -> dict[str, Any]:
    """How each task of a DAG is tried.

    :param timeout_seconds: of one attempt
    """
    return {
        "owner": "k2",
        "retries": TASK_RETRIES,
        "retry_delay": timedelta(seconds=TASK_RETRY_SECONDS),
        "execution_timeout": timedelta(seconds=timeout_seconds),
        "pre_execute": choose_log_format,
    }


_AS_JSON = AsJson()


def choose_log_format(context: Any) -> None:  # noqa: ARG001 - Airflow's signature
    """Make this task's own lines JSON, if the settings say so; Airflow frames them as all others."""
    change = logging.Handler.addFilter if load_settings().log_format == JSON else logging.Handler.removeFilter
    for handler in logging.getLogger().handlers:
        change(handler, _AS_JSON)


def tables_param(verb: str, names: Iterable[str]) -> Param:
    """Which tables a run is for; none chosen means all.

    :param verb: what is done with them
    :param names: of all that may be chosen
    """
    known = list(names)
    return Param(
        [],
        type="array",
        title="Tables",
        description=f"Which tables to {verb}; none chosen means all.",
        examples=known,
        items={"type": "string", "enum": known},
    )


def chosen_tables(tiers: Tiers, context: Any, layer: str | None = None) -> Sequence[TableSpec]:
    """The tables that a run is for.

    :param layer: of this layer alone
    :raises AirflowFailException: if the table file has not got one of them; another attempt would not help
    """
    try:
        return tiers.tables.select(context["params"]["tables"], layer)
    except InvalidTablesFile as error:
        raise AirflowFailException(str(error)) from None
