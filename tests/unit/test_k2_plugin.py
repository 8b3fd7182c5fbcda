"""The plugin costs Airflow's processes nothing, and breaks none of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fastapi.testclient import TestClient

from k2_plugin import K2Plugin, LazyApp

PLUGINS = Path(__file__).parents[2] / "plugins"


STUB = """
import sys, types
sys.path.insert(0, sys.argv[1])
sys.modules["airflow"] = types.ModuleType("airflow")
sys.modules["airflow.plugins_manager"] = types.SimpleNamespace(AirflowPlugin=object)
import logging, typing, __future__
before = set(sys.modules)
import k2_plugin
print(*sorted(set(sys.modules) - before))
"""


def test_a_process_that_does_not_serve_the_page_loads_one_small_file():
    command = [sys.executable, "-I", "-S", "-c", STUB, str(PLUGINS)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["k2_plugin"]


CONFIGURATION = """
from airflow import plugins_manager
plugins_manager.get_fastapi_plugins()
from airflow.configuration import conf
assert conf.get("k2_offload", "metrics_token") == "in-clear"
print(conf.is_sensitive_option("k2_offload", "metrics_token"))
print(conf.as_dict(display_sensitive=False)["k2_offload"])
"""


def test_airflow_hides_the_token_where_it_shows_its_configuration(tmp_path):
    (tmp_path / "k2_plugin.py").write_text((PLUGINS / "k2_plugin.py").read_text())
    environment = os.environ | {
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(tmp_path),
        "AIRFLOW__K2_OFFLOAD__METRICS_TOKEN": "in-clear",
        "AIRFLOW__K2_OFFLOAD__SPARK_BINARY": "in-clear-too",
    }
    command = [sys.executable, "-c", CONFIGURATION]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    shown = result.stdout.splitlines()[-2:]
    assert shown[0] == "True"
    assert "in-clear-too" in shown[1]
    assert "in-clear'" not in shown[1]


def test_the_page_is_in_the_navigation_where_the_app_is_mounted():
    [app], [view] = K2Plugin.fastapi_apps, K2Plugin.external_views
    assert app["url_prefix"] == "/k2"
    assert view["href"] == "k2/"
    assert TestClient(app["app"]).get("/").status_code == 401


def test_an_app_that_cannot_be_loaded_is_an_answer_and_a_line_in_the_log(monkeypatch, caplog):
    app = LazyApp()
    with monkeypatch.context() as broken:
        broken.setitem(sys.modules, "k2_offload.web.app", None)
        answer = TestClient(app).get("/")
    assert answer.status_code == 503
    assert "The log of Airflow's API server says why" in answer.text
    assert "ModuleNotFoundError" in caplog.text
    assert TestClient(app).get("/").status_code == 401, "once it can be loaded, it is"
