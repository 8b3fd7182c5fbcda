"""What tests of the runners share: settings and connections with a secret to look for, and scripts as spark-submit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseHook

from k2_offload.adapters.settings import load_settings

SECRET = "zq7-a-secret-to-look-for"


def set_variables(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Settings of ``[k2_offload]``."""
    for name, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{name.upper()}", value)


def set_connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """The connection ``unit_NAME``."""
    monkeypatch.setenv(f"AIRFLOW_CONN_UNIT_{name.upper()}", json.dumps(fields))


def set_up_runner(monkeypatch: pytest.MonkeyPatch, runner: str, connection: dict[str, Any], spark_host: str) -> None:
    """Services that nobody has to reach, with :data:`SECRET`, and a runner that has the image ``k2:test``.

    :param connection: the runner's own
    """
    for name, fields in {
        "clickhouse": {"conn_type": "clickhouse", "host": "ch", "password": SECRET},
        "iceberg": {"conn_type": "iceberg", "host": "http://rest", "extra": {"s3.secret-access-key": SECRET}},
        "spark": {"conn_type": "spark", "host": spark_host},
        runner: connection,
    }.items():
        set_connection(monkeypatch, name, **fields)
    set_variables(
        monkeypatch,
        runner=runner,
        spark_python="/opt/python",
        clickhouse_conn_id="unit_clickhouse",
        catalog_conn_id="unit_iceberg",
        spark_conn_id="unit_spark",
        **{f"{runner}_image": "k2:test", f"{runner}_conn_id": f"unit_{runner}"},
    )


def write_spark_submit(folder: Path, script: str) -> str:
    """A spark-submit that is a script; its last argument is ``$last``."""
    binary = folder / "spark-submit"
    binary.write_text(f"#!/bin/sh\nfor last; do :; done\n{script}\n")
    binary.chmod(0o700)
    return str(binary)


def of_this_machine() -> dict[str, str]:
    """The variables of an image that has this machine's Spark."""
    return {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}


def set_up_on_stack(
    monkeypatch: pytest.MonkeyPatch, runner: str, connection: dict[str, Any], jobs_folder: Path
) -> None:
    """A runner for the stack's services, whose ClickHouse has the password :data:`SECRET`."""
    real = BaseHook.get_connection(load_settings().clickhouse_conn_id)
    fields = {key: getattr(real, key) for key in ("conn_type", "host", "port", "login", "schema")}
    with_secret = fields | {"extra": real.extra_dejson, "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_WITH_SECRET", json.dumps(with_secret))
    monkeypatch.setenv(f"AIRFLOW_CONN_K2_{runner.upper()}", json.dumps(connection))
    set_variables(
        monkeypatch,
        runner=runner,
        clickhouse_conn_id="with_secret",
        **{f"{runner}_image": "k2:test", f"{runner}_jobs_folder": str(jobs_folder)},
    )
