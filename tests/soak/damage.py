"""What befalls a ledger from outside: edited, emptied, restored from an old backup."""

from __future__ import annotations

from k2_offload.adapters import airflow_config

_TABLES = ("offload_watermarks", "offload_windows")


class LedgerDamage:
    """Damages the ledger of one stack."""

    def __init__(self, random):
        self._random = random
        self._ledger = airflow_config.load_ledger(airflow_config.load_settings())
        self._backup = None

    def back_up(self):
        """Keep the ledger as it is, to be restored some day."""
        with self._ledger._transaction() as cursor:
            self._backup = {}
            for table in _TABLES:
                cursor.execute(f"SELECT * FROM k2_offload.{table}")
                self._backup[table] = cursor.fetchall()

    def happen(self, table):
        """Damage the entry of one table, or restore the whole ledger; returns what was done."""
        damages = {
            "watermark NULL": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = NULL",
            "watermark in the future": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2099-01-01'",
            "watermark in the past": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2001-01-01'",
            "windows deleted": "DELETE FROM k2_offload.offload_windows",
        }
        what = self._random.choice([*damages, "restored from a backup"])
        with self._ledger._transaction() as cursor:
            if what in damages:
                cursor.execute(f"{damages[what]} WHERE table_name = %s", (table,))
            elif self._backup:
                self._restore(cursor)
        return what

    def _restore(self, cursor):
        for table in reversed(_TABLES):
            cursor.execute(f"DELETE FROM k2_offload.{table}")
        for table in _TABLES:
            for row in self._backup[table]:
                values = ", ".join(["%s"] * len(row))
                cursor.execute(f"INSERT INTO k2_offload.{table} VALUES ({values})", row)
