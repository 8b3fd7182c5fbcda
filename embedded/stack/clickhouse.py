"""The ClickHouse gateway as a service, and its schema."""

from __future__ import annotations

import http.client
from pathlib import Path

from embedded.stack.errors import StackError
from embedded.stack.service import Service
from embedded.stack.settings import HOST, StackSettings

DATABASE = "k2"


def service(settings: StackSettings) -> Service:
    """The gateway, which holds one ClickHouse engine."""
    ports = settings.ports

    def answers() -> bool:
        connection = http.client.HTTPConnection(HOST, ports.clickhouse_http, timeout=5)
        try:
            connection.request("GET", "/ping")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def command() -> list[str | Path]:
        return [
            *(settings.layout.clickhouse.python, "-m", "embedded.gateway"),
            *("--data-path", settings.clickhouse_data),
            *("--host", HOST),
            *("--native-port", str(ports.clickhouse_native)),
            *("--http-port", str(ports.clickhouse_http)),
            *(("--config-file", settings.clickhouse_config) if settings.clickhouse_config.is_file() else ()),
        ]

    return Service(
        name="clickhouse",
        address=f"{HOST}:{ports.clickhouse_native} (HTTP {ports.clickhouse_http})",
        ports={"clickhouse_native": ports.clickhouse_native, "clickhouse_http": ports.clickhouse_http},
        command=command,
        probe=answers,
        folder=settings.state,
        stop_order=2,
    )


def require_same_version(settings: StackSettings) -> None:
    """Keep one state folder to one ClickHouse version: an older engine may not read what a newer one wrote.

    :raises StackError: the folder was made by another version
    """
    marker = settings.clickhouse_data.with_name("clickhouse-version")
    made_by = marker.read_text().strip() if marker.exists() else settings.clickhouse_version
    if made_by != settings.clickhouse_version:
        raise StackError(
            f"{settings.clickhouse_data} was made by ClickHouse {made_by}, not {settings.clickhouse_version}. "
            "Nothing was started or changed.\n"
            f"Go on with K2_CLICKHOUSE_VERSION={made_by}, or give the other one a folder of its own (K2_STATE_DIR=…)."
        )
    marker.write_text(settings.clickhouse_version)


def apply_schema(settings: StackSettings) -> None:
    """Create the database and whatever tables and views are missing in it."""
    from clickhouse_driver import Client  # noqa: PLC0415 - `status` and `down` do without it

    from embedded.stack import schema  # noqa: PLC0415

    with Client(HOST, port=settings.ports.clickhouse_native) as client:
        client.execute(f"CREATE DATABASE IF NOT EXISTS {DATABASE}")
    with Client(HOST, port=settings.ports.clickhouse_native, database=DATABASE) as client:
        schema.apply_schema(client)
