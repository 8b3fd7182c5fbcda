"""Airflow asks nobody who they are before a plugin's app: every route of it has to."""

from __future__ import annotations

import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from k2_offload.web.app import build_app
from k2_offload.web.page import shared_looks
from k2_offload.web.shared import Look
from tests.unit.k2_offload.web import pages

OWN_TOKEN: frozenset[str] = frozenset({"/metrics"})
"""Paths that a token of their own protects, for those who have no login of Airflow's."""


@pytest.fixture(autouse=True)
def _airflow_without_database(monkeypatch):
    create_auth_manager()
    monkeypatch.setattr(DagModel, "get_team_name", lambda *_, **__: None)


def routes(own_token=True):
    """Every path of the app with each of its methods; what is no route of ours asks nobody who they are."""
    found = []
    for route in build_app().routes:
        assert isinstance(route, APIRoute), route
        if own_token or route.path not in OWN_TOKEN:
            found += [(method, route.path.replace("{name}", "b")) for method in route.methods]
    return found


def client(role):
    app = build_app()
    user = SimpleAuthManagerUser(username="somebody", role=role)
    looks = pages.looks(Look(pages.overview(*map(pages.table_of, pages.TABLES))))
    app.dependency_overrides = {get_user: lambda: user, shared_looks: lambda: looks}
    return TestClient(app)


def test_the_list_of_routes_is_not_empty():
    assert {path for _, path in routes()} >= {"/", "/tables/b"}


@pytest.mark.parametrize(("method", "path"), routes())
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YWRtaW46YWRtaW4="}, {"Cookie": "session=1"}])
def test_nobody_gets_an_answer_without_a_login(method, path, headers):
    assert TestClient(build_app()).request(method, path, headers=headers).status_code == 401


@pytest.mark.parametrize(("method", "path"), routes(own_token=False))
def test_a_user_who_may_read_no_dag_is_refused_and_one_who_may_is_not(method, path):
    assert client(role=None).request(method, path).status_code == 403
    assert client(role="viewer").request(method, path).status_code == 200


def test_a_user_sees_the_layers_whose_dag_may_be_read(monkeypatch):
    def is_authorized_dag(_, *, method, details, **__):
        return method == "GET" and details.id == "k2_offload_silver"

    monkeypatch.setattr(SimpleAuthManager, "is_authorized_dag", is_authorized_dag)
    shown = client(role="viewer").get("/").text
    assert 'href="tables/s"' in shown
    assert 'href="tables/b"' not in shown
    assert client(role="viewer").get("/tables/s").status_code == 200
    assert client(role="viewer").get("/tables/b").status_code == 404
