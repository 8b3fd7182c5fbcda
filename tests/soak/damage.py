"""What befalls a ledger from outside: edited, emptied, restored from an old backup."""

from __future__ import annotations

from k2_offload.adapters.settings import load_settings
from k2_offload.work.tiers import open_ledger

_PARTS = ("offload_watermarks", "offload_windows")


def copy_ledger(ledger, tables):
    """All the ledger says of some tables, for :func:`restore_ledger`."""
    backup = {}
    with ledger._transaction() as cursor:
        for part in _PARTS:
            cursor.execute(f"SELECT * FROM k2_offload.{part} WHERE table_name = ANY(%s)", (tables,))
            columns = [column[0] for column in cursor.description]
            backup[part] = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
    return backup


def restore_ledger(ledger, backup, tables):
    """Make the ledger say of some tables what it said when it was copied."""
    with ledger._transaction() as cursor:
        for part in reversed(_PARTS):
            cursor.execute(f"DELETE FROM k2_offload.{part} WHERE table_name = ANY(%s)", (tables,))
        for part in _PARTS:
            for row in backup[part]:
                if row["table_name"] in tables:
                    values = ", ".join(["%s"] * len(row))
                    cursor.execute(f"INSERT INTO k2_offload.{part} VALUES ({values})", tuple(row.values()))


class LedgerDamage:
    """Damages the ledger of one stack at random."""

    def __init__(self, random, tables):
        self._random = random
        self._tables = tables
        self._ledger = open_ledger(load_settings())
        self._backup = None

    def back_up(self):
        """Keep the ledger as it is, to be restored some day."""
        self._backup = copy_ledger(self._ledger, self._tables)

    def happen(self):
        """Damage the entry of one table, or restore the whole ledger; returns what was done."""
        damages = {
            "watermark NULL": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = NULL",
            "watermark in the future": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2099-01-01'",
            "watermark in the past": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2001-01-01'",
            "windows deleted": "DELETE FROM k2_offload.offload_windows",
        }
        if self._backup and self._random.random() < 0.2:
            restore_ledger(self._ledger, self._backup, self._tables)
            return "restored from a backup"
        what = self._random.choice(list(damages))
        with self._ledger._transaction() as cursor:
            cursor.execute(f"{damages[what]} WHERE table_name = %s", (self._random.choice(self._tables),))
        return what
