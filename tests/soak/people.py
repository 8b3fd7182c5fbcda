"""What people do to the table file and to a source's columns, and take back."""

from __future__ import annotations

import itertools

import yaml

from tests.soak.warm_tier import PROVEN

_CHANGES = {
    "buffer_seconds": (300, 360, 600),
    "out_of_order_seconds": (10, 30),
    "idle_after_seconds": (1800, 3600),
    "max_window_rows": (500, 20_000_000),
    "max_file_rows": (300, 5_000_000),
    "parallel_exports": (1, 3),
    "job_group": ("one", "another"),
}
_OTHER_TIMES = {"exchange_timestamp": "ingested_at", "window_end": "window_start", "window_start": "window_end"}
PROVEN_ENTRY = {"retention": "proven", "warm_retention_days": 3, "holding_days": 1}
_RAW = "raw_message"


class TableFile:
    """The table file in somebody's editor.

    :param proven: the tables with ``retention: proven``, by the source that holds their rows
    :param entry: what the table file says of each of them
    :ivar refused: the table whose entry no longer goes with what is in the cold tier, if any
    :ivar cut_anew: the same, where its windows would be cut on another column: nothing can go by its newest row then
    """

    def __init__(self, random, text, proven=PROVEN, entry=PROVEN_ENTRY):
        self._random = random
        self._document = yaml.safe_load(text)
        # So that a column that may be NULL is refused until it is put back.
        self._document["defaults"] = (self._document.get("defaults") or {}) | {"schema_changes": "refuse"}
        for name in itertools.chain(*proven.values()):
            self._document["tables"][name] |= entry
        self._before = None
        self.refused = self.cut_anew = None

    @property
    def text(self):
        return yaml.safe_dump(self._document, sort_keys=False)

    def _some_table(self):
        return self._random.choice(list(self._document["tables"]))

    def change(self):
        """A key that may be edited at any time; returns which."""
        key = self._random.choice(list(_CHANGES))
        self._document["tables"][self._some_table()][key] = self._random.choice(_CHANGES[key])
        return key

    def spoil(self):
        """A key by which the table is refused, until it is put back; returns which."""
        name = self._some_table()
        entry = self._document["tables"][name]
        self._before, self.refused = dict(entry), name
        times = {"partition_column": entry["timestamp_column"]} | entry
        key = self._random.choice(["timestamp_column", "partition_column"])
        self.cut_anew = name if key == "timestamp_column" else None
        self._document["tables"][name] = times | {key: _OTHER_TIMES[times[key]]}
        return key

    def put_back(self):
        self._document["tables"][self.refused] = self._before
        self.refused = self.cut_anew = None


class Columns:
    """Lets a column of a bronze table be NULL, and no longer.

    :ivar refused: the table whose column may be NULL, if any
    """

    def __init__(self, random, client, tables):
        self._random, self._client, self._tables = random, client, tables
        self.refused = None

    def spoil(self):
        self.refused = self._random.choice(self._tables)
        self._client.execute(f"ALTER TABLE {self.refused} MODIFY COLUMN {_RAW} Nullable(String)")

    def put_back(self):
        self._client.execute(
            f"ALTER TABLE {self.refused} MODIFY COLUMN {_RAW} String DEFAULT '' SETTINGS mutations_sync = 2"
        )
        self.refused = None
