"""Who is let in, and what is said in which format."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from airflow.api_fastapi.core_api import security
from fastapi import FastAPI
from fastapi.testclient import TestClient
from jwt import InvalidTokenError
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from k2_offload.core.metrics import METRICS
from k2_offload.web.metrics_route import latest_observation, router
from tests.unit.k2_offload.core.test_metrics import SEEN

TOKEN = "of-prometheus"
DAGS = {f"k2_offload_{layer}" for layer in ("bronze", "silver", "gold")}


class AuthManager:
    """Airflow's, with two users: the tokens are their names."""

    async def get_user_from_token(self, token):
        if token not in ("reader", "guest"):
            raise InvalidTokenError
        return SimpleNamespace(name=token, dags=DAGS if token == "reader" else DAGS - {"k2_offload_gold"})

    def is_authorized_dag(self, *, method, access_entity, details, user):
        return method == "GET" and access_entity is None and details.id in user.dags


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setattr(security, "get_auth_manager", AuthManager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda _: None)
    app = FastAPI()
    app.include_router(router)
    app.dependency_overrides[latest_observation] = lambda: SimpleNamespace(get=lambda: SEEN)
    return TestClient(app)


@pytest.fixture
def _token(monkeypatch):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", TOKEN)


def status_of(client, bearer=None, **options):
    headers = {"Authorization": f"Bearer {bearer}"} if bearer is not None else {}
    return client.get("/metrics", headers=headers, **options).status_code


@pytest.mark.usefixtures("_token")
@pytest.mark.parametrize(
    ("bearer", "status"), [(TOKEN, 200), (None, 401), ("of-prometheus2", 403), ("", 401), ("reader", 200)]
)
def test_prometheus_shows_its_token(client, bearer, status):
    assert status_of(client, bearer) == status


@pytest.mark.parametrize(
    ("bearer", "status"), [("reader", 200), ("guest", 403), ("nobody", 403), (None, 401), ("", 401)]
)
def test_people_are_those_whom_airflow_lets_read_the_dags(client, bearer, status):
    assert status_of(client, bearer) == status


def test_a_person_may_come_with_the_cookie_of_the_ui(client):
    client.cookies.set(security.COOKIE_NAME_JWT_TOKEN, "reader")
    assert status_of(client) == 200


@pytest.mark.parametrize(
    ("accept", "parse"),
    [("text/plain", parse_text), ("application/openmetrics-text; version=1.0.0", parse_openmetrics)],
)
def test_every_metric_is_there_in_both_formats(client, accept, parse):
    answer = client.get("/metrics", headers={"Authorization": "Bearer reader", "Accept": accept})
    assert answer.headers["content-type"].startswith(accept.partition(";")[0])
    families = {family.name: family for family in parse(answer.text)}
    assert families.keys() == {metric.name.removesuffix("_total") for metric in METRICS}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) == set(metric.labels)
    [rows] = families["k2_moved_rows"].samples
    assert (rows.labels, rows.value) == ({"table": "trades"}, 900.0)


def test_while_nothing_was_seen_the_answer_says_so(client):
    client.app.dependency_overrides[latest_observation] = lambda: SimpleNamespace(get=lambda: None)
    assert status_of(client, "reader") == 503
