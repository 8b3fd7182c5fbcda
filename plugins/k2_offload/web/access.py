"""Who may see what: Airflow's own login, and its own rights on the DAGs that move the tables."""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, HTTPException, Request, status

from k2_offload.core.dag_ids import dag_id
from k2_offload.core.tables import LAYERS


def readable_layers(request: Request, user: GetUserDep) -> frozenset[str]:
    """The layers whose DAG the user may read.

    :raises HTTPException: 401 without a login, 403 if there is no such layer
    """
    readable = set()
    for layer in LAYERS:
        try:
            requires_access_dag("GET", param_dag_id=dag_id(layer))(request, user)
        except HTTPException as refused:
            if refused.status_code != status.HTTP_403_FORBIDDEN:
                raise
        else:
            readable.add(layer)
    if not readable:
        raise HTTPException(status.HTTP_403_FORBIDDEN, "You may not read the DAGs of K2 offload.")
    return frozenset(readable)


ReadableLayers = Annotated[frozenset[str], Depends(readable_layers)]
