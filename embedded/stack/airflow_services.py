"""Airflow's four processes as services, and its database schema.

They are started one by one instead of by `airflow standalone`, which leaves its children behind when it is killed,
mixes their logs, and cannot restart just the one that died.
"""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

import psycopg

from embedded.stack import postgres
from embedded.stack.airflow_home import ui_url
from embedded.stack.errors import StackError
from embedded.stack.secrets import Secrets
from embedded.stack.service import Service
from embedded.stack.settings import HOST, StackSettings

# From the caller's shell these would override airflow.cfg (at worst its database), or bring in another Spark.
_FOREIGN_PREFIXES = ("AIRFLOW__", "AIRFLOW_CONN_", "AIRFLOW_VAR_")
# Without bytecode each of Airflow's tasks, a process of its own, would compile all that it imports.
_FOREIGN_VARIABLES = ("SPARK_HOME", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "PYTHONDONTWRITEBYTECODE")


def services(settings: StackSettings) -> tuple[Service, ...]:
    """The API server with the UI, then what reports its health through it."""
    variables = own_variables(settings)
    port = settings.ports.airflow

    def daemon(
        name: str, *options: str, health_key: str, address: str = "", stop_order: int = 0, **ports: int
    ) -> Service:
        return Service(
            name=name,
            address=address,
            ports=ports,
            command=lambda: [settings.layout.airflow.python, "-m", "airflow", name, *options],
            probe=lambda: _is_healthy(port, health_key),
            folder=settings.airflow_home,
            variables=variables,
            start_timeout_seconds=180,
            stop_order=stop_order,
            stop_timeout_seconds=20,
        )

    return (
        # Running tasks finish while the scheduler is being stopped, and report to the API server: that one goes later.
        daemon("api-server", health_key="metadatabase", address=ui_url(settings), stop_order=1, airflow=port),
        # The API server reads task logs from the disk; nobody needs the two log servers and their fixed ports.
        daemon("scheduler", "--skip-serve-logs", health_key="scheduler"),
        daemon("dag-processor", health_key="dag_processor"),
        daemon("triggerer", "--skip-serve-logs", health_key="triggerer"),
    )


def own_variables(settings: StackSettings) -> dict[str, str]:
    """What Airflow's commands need in their environment."""
    commands = settings.layout.airflow.path / "bin"
    return {
        "AIRFLOW_HOME": str(settings.airflow_home),
        "PATH": f"{commands}:{os.environ.get('PATH', os.defpath)}",
        # Setting process titles would overwrite the environment, by which the stack finds its processes again.
        "SPT_NOENV": "1",
        # Where tests measure what they cover, Airflow would need half as much time again to load.
        "COVERAGE_PROCESS_CONFIG": "",
    }


def without_foreign_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment less what would make this Airflow somebody else's."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN_VARIABLES
    }


def migrate(settings: StackSettings, secrets: Secrets) -> None:
    """Bring the metadata database to this Airflow's schema, unless it is there already.

    Asking Airflow takes five seconds, so the revision it left behind is compared with what the database says.

    :raises StackError: the migration failed; the database is as Airflow left it
    """
    version = importlib.metadata.version("apache-airflow")
    stamp = settings.airflow_home / "migrated.json"
    if stamp.exists() and json.loads(stamp.read_text()) == [version, _revision(settings, secrets)]:
        return
    log = settings.log("airflow-db-migrate")
    with log.open("wb") as output:
        migrated = subprocess.run(
            [settings.layout.airflow.python, "-m", "airflow", "db", "migrate"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=without_foreign_settings(os.environ) | own_variables(settings),
            cwd=settings.airflow_home,
            check=False,
        )
    if migrated.returncode != 0:
        raise StackError(f"`airflow db migrate` failed. The end of {log}:\n{log.read_text()[-3000:]}")
    stamp.write_text(json.dumps([version, _revision(settings, secrets)]))


def _revision(settings: StackSettings, secrets: Secrets) -> str | None:
    """The schema revision in the metadata database; None if it is empty."""
    with postgres.connect(settings, secrets, postgres.AIRFLOW_DATABASE) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except psycopg.errors.UndefinedTable:
            return None
    return str(row[0]) if row else None


def _is_healthy(port: int, key: str) -> bool:
    health = _health(port)
    return bool(health and (health.get(key) or {}).get("status") == "healthy")


def _health(port: int) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("GET", "/api/v2/monitor/health")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return body if answer.status == http.HTTPStatus.OK and isinstance(body, dict) else None
