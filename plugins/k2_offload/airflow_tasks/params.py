"""What the DAGs have in common: how their tasks are tried, and a field of their trigger forms."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow.sdk import Param

from k2_offload.core.limits import TASK_RETRIES, TASK_RETRY_SECONDS


def task_defaults(timeout_seconds: int) -> dict[str, Any]:
    """How each task of a DAG is tried.

    :param timeout_seconds: of one attempt
    """
    return {
        "owner": "k2",
        "retries": TASK_RETRIES,
        "retry_delay": timedelta(seconds=TASK_RETRY_SECONDS),
        "execution_timeout": timedelta(seconds=timeout_seconds),
    }


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
