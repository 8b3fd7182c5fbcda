"""What the DAGs have in common: their time zone, how their tasks are tried, begin and speak, a field of their forms."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException
from airflow.timetables.trigger import CronTriggerTimetable

from k2_offload.adapters.dag_runs import PROCESS
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
        "pre_execute": begin,
    }


_AS_JSON = AsJson()
_NOT_FOR_TASKS = {PROCESS, "openlineage"}
"""What a run's conf may hold besides; the second is what Airflow's own TriggerDagRunOperator adds."""


def begin(context: Any) -> None:
    """What each task does first.

    :raises AirflowFailException: if it would not do what its run was told
    """
    _choose_log_format()
    _check_conf(context)


def _check_conf(context: Any) -> None:
    """Tasks read the DAG's parameters alone, and Airflow passes over what does not become one.

    Without this, a run for one table would be one for all, and a dry run a real one.
    """
    dag, given = context["dag"], context["params"]
    for name, told in (context["dag_run"].conf or {}).items():
        if name in _NOT_FOR_TASKS:
            continue
        if name not in dag.params:
            raise AirflowFailException(
                f"This run was told {name!r}, which is no parameter of {dag.dag_id} ({', '.join(dag.params)}). Nothing "
                "was changed. Trigger another run, with the right name."
            )
        if given[name] != told:
            raise AirflowFailException(
                f"This run was told {name} = {told!r}, and Airflow gives its tasks {given[name]!r}, because its option "
                "[core] dag_run_conf_overrides_params is off. Nothing was changed. Set it to True where the tasks run "
                "(AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS), then run the command again."
            )


def _choose_log_format() -> None:
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
