"""``GET /metrics``: for Prometheus, which shows a token of its own, and for people whom Airflow lets read the DAGs."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Iterator
from functools import cache, partial
from typing import Annotated

from airflow.api_fastapi.core_api.security import bearer_scheme, get_user, requires_access_dag
from airflow.sdk.log import mask_secret
from fastapi import APIRouter, Depends, HTTPException, Request, Response, status
from fastapi.concurrency import run_in_threadpool
from fastapi.security import HTTPAuthorizationCredentials
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from k2_offload.adapters.settings import load_settings
from k2_offload.core import metrics
from k2_offload.core.dag_ids import dag_id, watched_dags
from k2_offload.core.errors import OffloadError
from k2_offload.core.observation import Observation
from k2_offload.core.tables import LAYERS
from k2_offload.work.observe import LatestObservation, look

log = logging.getLogger(__name__)

router = APIRouter()

_NOTHING = (
    "Nothing could be looked at. If this goes on, the log of Airflow's API server says why, and `k2 validate` checks "
    "settings and connections."
)

_FAMILIES = {
    metrics.Kind.GAUGE: GaugeMetricFamily,
    metrics.Kind.COUNTER: CounterMetricFamily,
}


async def admitted(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]
) -> None:
    """Let in who shows the setting ``metrics_token``, or whom Airflow lets read the DAGs of all layers.

    :raises HTTPException: 401 for who says nothing, 403 for who may not
    """
    try:
        token = load_settings().metrics_token
    except OffloadError as error:
        log.error("%s", error)
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, _NOTHING) from None
    if token:
        mask_secret(token)
    if token and credentials and hmac.compare_digest(credentials.credentials.encode(), token.encode()):
        return
    user = await get_user(request, None, credentials)
    for layer in LAYERS:  # asks Airflow's database
        await run_in_threadpool(requires_access_dag("GET", param_dag_id=dag_id(layer)), request, user)


@cache
def latest_observation() -> LatestObservation:
    """What this process has seen last of everything that the settings name."""
    return LatestObservation(partial(look, watched_dags, time.monotonic), time.monotonic)


@router.get("/metrics", dependencies=[Depends(admitted)])
def get_metrics(request: Request, latest: Annotated[LatestObservation, Depends(latest_observation)]) -> Response:
    """All metrics, in the format that the caller asks for.

    :raises HTTPException: 503 while nothing could be looked at
    """
    seen = latest.get()
    if seen is None:
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE,
            _NOTHING,
        )
    return expose(seen, request.headers.get("accept", ""))


def expose(seen: Observation, accept: str) -> Response:
    """An observation in Prometheus' text format, or OpenMetrics.

    :param accept: the formats that the caller reads, as in HTTP's header
    """
    encode, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(seen))
    return Response(encode(registry), media_type=content_type)


class _Collector:
    def __init__(self, seen: Observation) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Metric]:
        for metric in metrics.METRICS:
            family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels, unit=metric.unit)
            for labels, value in metric.read(self._seen):
                family.add_metric(labels, value)
            yield family
