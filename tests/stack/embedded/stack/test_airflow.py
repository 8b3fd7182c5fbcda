"""The whole stack, Airflow's processes included."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from urllib.request import Request, urlopen

import pytest

from embedded.stack import StackSettings, airflow_home, down, status, up
from embedded.stack.processes import STACK_VARIABLE, find_marked, wait_until
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from tests.support import free_stack_ports


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, session_settings: StackSettings) -> Iterator[StackSettings]:
    state = tmp_path_factory.mktemp("whole-stack").resolve()
    settings = StackSettings(state, free_stack_ports(), session_settings.clickhouse_version)
    up(settings)
    yield settings
    down(settings)


def _request(settings: StackSettings, path: str, body: object = None) -> tuple[int, object]:
    connection = http.client.HTTPConnection(HOST, settings.ports.airflow, timeout=30)
    try:
        payload = None if body is None else json.dumps(body)
        method = "GET" if body is None else "POST"
        connection.request(method, path, body=payload, headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _read(settings: StackSettings, path: str, headers: dict[str, str]) -> str:
    with urlopen(Request(f"{airflow_home.ui_url(settings)}{path}", headers=headers), timeout=60) as answer:  # noqa: S310
        return answer.read().decode()


def test_every_service_is_up(settings: StackSettings) -> None:
    assert {each.name: each.state for each in status(settings)} == dict.fromkeys(
        ("postgres", "clickhouse", "api-server", "scheduler", "dag-processor", "triggerer"), "up"
    )


def test_shown_login_works(settings: StackSettings) -> None:
    password = Secrets.load_or_make(settings.state).airflow_password
    login = {"username": airflow_home.UI_USER, "password": password}
    assert _request(settings, "/auth/token", login)[0] == http.HTTPStatus.CREATED
    assert _request(settings, "/auth/token", login | {"password": "guess"})[0] == http.HTTPStatus.UNAUTHORIZED


def test_the_page_is_in_the_navigation_and_asks_for_the_login(settings: StackSettings) -> None:
    login = {"username": airflow_home.UI_USER, "password": Secrets.load_or_make(settings.state).airflow_password}
    _, answer = _request(settings, "/auth/token", login)
    token = {"Authorization": f"Bearer {answer['access_token']}"}
    assert _request(settings, "/k2/")[0] == http.HTTPStatus.UNAUTHORIZED
    assert wait_until(lambda: "9 silent" in _read(settings, "/k2/", token), 120), _read(settings, "/k2/", token)
    plugins = json.loads(_read(settings, "/api/v2/plugins", token))["plugins"]
    [view] = [view for plugin in plugins for view in plugin["external_views"] if plugin["name"] == "k2_offload"]
    assert (view["name"], view["href"]) == ("Cold tier", "k2/")
    assert json.loads(_read(settings, "/api/v2/plugins/importErrors", token))["total_entries"] == 0


def test_killed_scheduler_takes_no_other_service_along_and_comes_back(settings: StackSettings) -> None:
    before = {each.name: each.pid for each in status(settings)}
    scheduler = before["scheduler"]
    assert scheduler is not None
    orphans = find_marked({STACK_VARIABLE: str(settings.state), "K2_STACK_SERVICE": "scheduler"})
    assert len(orphans) > 1, "the scheduler has workers, which its death orphans"
    os.kill(scheduler, signal.SIGKILL)
    assert wait_until(lambda: {each.name for each in status(settings) if each.state == "down"} == {"scheduler"}, 10)
    assert up(settings) == ["scheduler"]
    after = {each.name: each.pid for each in status(settings)}
    assert {name for name in after if after[name] != before[name]} == {"scheduler"}
    assert not set(orphans) & set(find_marked({STACK_VARIABLE: str(settings.state)}))


def test_down_leaves_no_process(settings: StackSettings) -> None:
    assert len(down(settings)) == 6
    assert find_marked({STACK_VARIABLE: str(settings.state)}) == []
    assert {each.state for each in status(settings)} == {"down"}
