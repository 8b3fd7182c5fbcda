"""Postgres as the ledger and a SQL catalog meet it: how long to wait for it, and what its errors mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from k2_offload.core.errors import is_certificate_refusal
from k2_offload.core.limits import CONNECT_SECONDS, LOCK_SECONDS, SILENCE_SECONDS, TASK_SECONDS

Connect = Callable[[], Any]
"""Opens a DB-API connection (psycopg 2 or 3); its transaction may have begun."""

LIBPQ_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": SILENCE_SECONDS // 2,
        "keepalives_interval": SILENCE_SECONDS // 6,
        "keepalives_count": 3,
        "tcp_user_timeout": SILENCE_SECONDS * 1000,
    }
)
"""So that a server that has vanished is noticed; a connection's extra may say otherwise."""

TRANSACTION_LIMITS = f"""
SET LOCAL lock_timeout = '{LOCK_SECONDS}s';
SET LOCAL TimeZone = 'UTC';
SET LOCAL idle_in_transaction_session_timeout = '{{task_seconds}}s';
"""
"""So that a client that has vanished frees the table it holds, nobody waits for it for ever, and every time is UTC.

In another zone of the server, times of the night in which clocks go back would compare wrongly, as Python's do there.
"""

_REFUSED_STATES = ("28", "3D", "42501")
"""SQLSTATEs, or classes of them: who logs in, the database's name, and what a user may do."""

_REFUSED_LOGINS = (
    "authentication failed",
    "no password supplied",
    "does not exist",  # the database, or a role without a password
    "pg_hba.conf",
    "not permitted to log in",
    "permission denied for database",
)


def airflow_connect(connection_id: str, task_seconds: int = TASK_SECONDS) -> Connect:
    """Opens connections with Airflow's PostgresHook, each with a transaction begun that has limits.

    :param connection_id: of an Airflow connection that exists
    :param task_seconds: how long a task may take, and so its transaction
    """
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415 - costs half a second

    hook = PostgresHook(postgres_conn_id=connection_id)
    hook.connection.extra = json.dumps({**LIBPQ_LIMITS, **hook.connection.extra_dejson})

    def connect() -> Any:
        connection = hook.get_conn()
        try:
            with connection.cursor() as cursor:
                cursor.execute(TRANSACTION_LIMITS.format(task_seconds=task_seconds))
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def is_refusal(sqlstate: str | None, message: str) -> bool:
    """Whether Postgres refused a login or a right, or its certificate was refused, rather than being down or busy.

    A failed login has no SQLSTATE in libpq and is told by its English words; in another language it is only tried
    again, in vain.
    """
    if sqlstate is not None:
        return sqlstate.startswith(_REFUSED_STATES)
    if is_certificate_refusal(message):
        return True
    return "FATAL" in message and any(words in message for words in _REFUSED_LOGINS)
