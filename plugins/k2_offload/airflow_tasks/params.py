"""Parameters that the trigger forms of several DAGs have."""

from __future__ import annotations

from collections.abc import Iterable

from airflow.sdk import Param


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
