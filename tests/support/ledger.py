"""The ledger as a person sees it who has a password and an editor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

_PARTS = ("offload_watermarks", "offload_windows", "offload_gaps")

Backup = Mapping[str, list[dict[str, Any]]]


def change_ledger(dsn: str, statement: str, table: str) -> None:
    """Run an UPDATE or a DELETE on what the ledger says of one table."""
    with psycopg.connect(dsn) as connection:
        connection.execute(f"{statement} WHERE table_name = %s", (table,))


def open_windows(dsn: str, tables: Sequence[str]) -> list[str]:
    """Those of the tables that have an open window."""
    sql = "SELECT table_name FROM k2_offload.offload_windows WHERE state = 'open' AND table_name = ANY(%s)"
    with psycopg.connect(dsn) as connection:
        return [name for (name,) in connection.execute(sql, (list(tables),))]


def copy_ledger(dsn: str, tables: Sequence[str]) -> Backup:
    """All the ledger says of some tables, for :func:`restore_ledger`."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        return {
            part: connection.execute(
                f"SELECT * FROM k2_offload.{part} WHERE table_name = ANY(%s)", (list(tables),)
            ).fetchall()
            for part in _PARTS
        }


def restore_ledger(dsn: str, backup: Backup, tables: Sequence[str]) -> None:
    """Make the ledger say of some tables what it said when it was copied."""
    with psycopg.connect(dsn) as connection:
        for part in reversed(_PARTS):
            connection.execute(f"DELETE FROM k2_offload.{part} WHERE table_name = ANY(%s)", (list(tables),))
        for part in _PARTS:
            for row in backup[part]:
                if row["table_name"] in tables:
                    values = ", ".join(["%s"] * len(row))
                    connection.execute(
                        f"INSERT INTO k2_offload.{part} OVERRIDING SYSTEM VALUE VALUES ({values})", tuple(row.values())
                    )
