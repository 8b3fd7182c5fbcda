"""AIRFLOW_HOME of the embedded stack: configuration, connections and the UI's login, written anew by every `up`.

Connections that a person has changed stay as they are, so that other servers can be tried with this Airflow.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import json
import shlex
from pathlib import Path
from typing import Any

from embedded.stack import clickhouse, postgres
from embedded.stack.secrets import Secrets, write_private
from embedded.stack.settings import HOST, StackSettings

UI_USER = "admin"
ICEBERG_CATALOG = "demo"


def write(settings: StackSettings, secrets: Secrets) -> None:
    """Write every file; those with secrets are for the owner's eyes only."""
    home = settings.airflow_home
    home.mkdir(parents=True, exist_ok=True)
    write_private(home / "airflow.cfg", configuration_text(settings, secrets))
    text = json.dumps(connections(settings, secrets), indent=2)
    if not has_changed_connections(settings) or _read(connections_file(settings)) == text:
        write_private(connections_file(settings), text)
        write_private(_checksum_file(settings), _checksum(text))
    write_private(home / "ui-passwords.json", json.dumps({UI_USER: secrets.airflow_password}))
    write_private(settings.state / "env.sh", shell_environment(settings))


def connections_file(settings: StackSettings) -> Path:
    """Airflow's connections."""
    return settings.airflow_home / "connections.json"


def has_changed_connections(settings: StackSettings) -> bool:
    """Whether the connections are no longer what an `up` has written."""
    text = _read(connections_file(settings))
    return text is not None and _checksum(text) != _read(_checksum_file(settings))


def _checksum_file(settings: StackSettings) -> Path:
    return settings.airflow_home / "connections.json.sha256"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None


def ui_url(settings: StackSettings) -> str:
    """Where the UI is."""
    return f"http://{HOST}:{settings.ports.airflow}"


def shell_environment(settings: StackSettings) -> str:
    """Lines for a shell, after which `airflow` and `k2` mean this stack."""
    commands = settings.layout.airflow.path / "bin"
    return (
        f"export AIRFLOW_HOME={shlex.quote(str(settings.airflow_home))}\n"
        f'export PATH={shlex.quote(str(commands))}:"$PATH"\n'
    )


def connections(settings: StackSettings, secrets: Secrets) -> dict[str, dict[str, Any]]:
    """Airflow's connections, by id; production defines the same ids and points them at its own servers."""
    postgres_server = {
        "host": HOST,
        "port": settings.ports.postgres,
        "login": postgres.USER,
        "password": secrets.postgres_password,
    }
    return {
        "k2_ledger": {"conn_type": "postgres", **postgres_server, "schema": postgres.AIRFLOW_DATABASE},
        "k2_clickhouse": {
            "conn_type": "clickhouse",
            "host": HOST,
            "port": settings.ports.clickhouse_native,
            "schema": clickhouse.DATABASE,
            "login": "default",
            "password": "",
            "extra_dejson": {"http_port": settings.ports.clickhouse_http, "secure": False},
        },
        "k2_iceberg": {
            "conn_type": "iceberg",
            **postgres_server,
            "schema": postgres.ICEBERG_DATABASE,
            "extra_dejson": {
                "catalog_type": "sql",
                "catalog_name": ICEBERG_CATALOG,
                "warehouse": settings.warehouse.as_uri(),
                # pyarrow's, the default, would start pandas in each `plan` and `commit`: a third of a second.
                "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO",
            },
        },
        "k2_spark": {"conn_type": "spark", "host": "local[2]"},
    }


def configuration_text(settings: StackSettings, secrets: Secrets) -> str:
    """airflow.cfg: what differs from Airflow's defaults, and the section of this package."""
    # No interpolation here: Airflow's own reader wants a literal % doubled.
    parser = configparser.RawConfigParser()
    for section, values in _configuration(settings, secrets).items():
        parser[section] = {key: str(value).replace("%", "%%") for key, value in values.items()}
    text = io.StringIO("")
    text.write("# Written by the embedded stack whenever it starts: changes made here are lost.\n")
    parser.write(text)
    return text.getvalue()


def _configuration(settings: StackSettings, secrets: Secrets) -> dict[str, dict[str, object]]:
    home, layout = settings.airflow_home, settings.layout
    spark_commands = layout.spark.path / "bin"
    return {
        "core": {
            "dags_folder": settings.root / "dags",
            "plugins_folder": settings.root / "plugins",
            "executor": "LocalExecutor",
            # Each is a worker forked in advance, with everything of Airflow loaded.
            "parallelism": 4,
            "load_examples": False,
            # A cycle shall happen by itself, without anybody finding the switch first.
            "dags_are_paused_at_creation": False,
            "fernet_key": secrets.fernet_key,
            "execution_api_server_url": f"{ui_url(settings)}/execution/",
            "simple_auth_manager_users": f"{UI_USER}:admin",
            "simple_auth_manager_passwords_file": home / "ui-passwords.json",
        },
        "database": {
            "sql_alchemy_conn": _sqlalchemy_url(settings, secrets, "psycopg"),
            "sql_alchemy_conn_async": _sqlalchemy_url(settings, secrets, "psycopg_async"),
        },
        "logging": {"base_log_folder": settings.logs / "airflow"},
        "secrets": {
            "backend": "airflow.secrets.local_filesystem.LocalFilesystemBackend",
            "backend_kwargs": json.dumps({"connections_file_path": str(home / "connections.json")}),
        },
        "api": {
            "host": HOST,
            "port": settings.ports.airflow,
            "base_url": ui_url(settings),
            "workers": 1,
            "secret_key": secrets.api_secret_key,
            "instance_name": "K2 offload (embedded stack)",
        },
        "api_auth": {"jwt_secret": secrets.jwt_secret},
        "dag_processor": {"refresh_interval": 30, "min_file_process_interval": 30},
        # How soon what was killed is noticed; docs/operations.md says which one is waited for when.
        "scheduler": {
            "orphaned_tasks_check_interval": 15,
            "task_instance_heartbeat_timeout": 60,
            "task_queued_timeout": 120,
            "task_queued_timeout_check_interval": 30,
        },
        "usage_data_collection": {"enabled": False},
        "k2_offload": {
            "tables_file": settings.root / "include" / "tables.yaml",
            "ledger_conn_id": "k2_ledger",
            "clickhouse_conn_id": "k2_clickhouse",
            "catalog_conn_id": "k2_iceberg",
            "spark_conn_id": "k2_spark",
            "spark_binary": spark_commands / "spark-submit",
            "spark_python": spark_commands / "python",
            "spark_jars": layout.spark_jars,
            "spark_class_archive": layout.class_archive,
        },
    }


def _sqlalchemy_url(settings: StackSettings, secrets: Secrets, driver: str) -> str:
    return postgres.dsn(settings, secrets, postgres.AIRFLOW_DATABASE).replace("postgresql:", f"postgresql+{driver}:", 1)
