"""What befalls a ledger from outside: edited, emptied, restored from an old backup."""

from __future__ import annotations

from tests.support.ledger import change_ledger, copy_ledger, restore_ledger


class LedgerDamage:
    """Damages the ledger of one stack at random."""

    def __init__(self, random, tables, dsn):
        self._random = random
        self._tables = tables
        self._dsn = dsn
        self._backup = None

    def back_up(self):
        """Keep the ledger as it is, to be restored some day."""
        self._backup = copy_ledger(self._dsn, self._tables)

    def happen(self):
        """Damage the entry of one table, or restore the whole ledger; returns what was done."""
        damages = {
            "watermark NULL": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = NULL",
            "watermark in the future": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2099-01-01'",
            "watermark in the past": "UPDATE k2_offload.offload_watermarks SET last_offload_timestamp = '2001-01-01'",
            "windows deleted": "DELETE FROM k2_offload.offload_windows",
        }
        if self._backup and self._random.random() < 0.2:
            restore_ledger(self._dsn, self._backup, self._tables)
            return "restored from a backup"
        what = self._random.choice(list(damages))
        change_ledger(self._dsn, damages[what], self._random.choice(self._tables))
        return what
