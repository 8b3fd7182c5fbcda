"""Which tables are offloaded, and how: what the table file (``include/tables.yaml``) says of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.transports import TRANSPORTS

LAYERS = ("bronze", "silver", "gold")
"""The layers in the order in which they move; each is made of the one before."""

Layer = Literal["bronze", "silver", "gold"]
History = Literal["in order", "backfill"]

SEALS_TABLE = "k2_seals"
"""Of each namespace with cold tables: where their seals are."""

LONGEST_CANDLE = timedelta(days=1)
"""How long after the time that partitions are days of the time may lie that windows are cut on."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUALIFIED_NAME = re.compile(rf"{_IDENTIFIER.pattern}\.{_IDENTIFIER.pattern}")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Options with a default; ``defaults:`` in the file sets them for all tables, a table for itself.

    Their bounds stand with them, and :mod:`k2_offload.adapters.table_file` holds them.
    """

    buffer_seconds: int = field(default=300, metadata={"ge": 0, "description": "younger rows wait for the next cycle"})
    out_of_order_seconds: int = field(
        default=10, metadata={"ge": 0, "description": "rows may arrive up to this many seconds out of order"}
    )
    idle_after_seconds: int = field(
        default=1800,
        metadata={"ge": 0, "description": "silent for longer: moved to its last row, holds no layer back"},
    )
    max_window_rows: int = field(
        default=20_000_000, metadata={"ge": 1, "description": "longer backlogs are cut into several windows"}
    )
    max_file_rows: int = field(
        default=5_000_000, metadata={"ge": 1, "description": "a day with more is split into several files"}
    )
    parallel_exports: int = field(
        default=2, metadata={"ge": 1, "description": "files of one window that are written at once"}
    )
    warm_retention_days: int = field(
        default=7, metadata={"ge": 1, "description": "the source's TTL; comparisons look no further back"}
    )
    retention: Literal["ttl", "proven"] = field(
        default="ttl", metadata={"description": "who removes old rows from ClickHouse: its TTL, or what is proven"}
    )
    holding_days: int = field(
        default=3,
        metadata={"ge": 1, "description": "with retention proven: how long a removed day can be brought back"},
    )
    target_file_bytes: int = field(
        default=512 * 2**20, metadata={"ge": 2**20, "description": "size of a file that maintenance writes"}
    )
    snapshot_retention_days: int = field(
        default=7, metadata={"ge": 1, "description": "time travel: older snapshots are expired by maintenance"}
    )
    orphan_retention_days: int = field(
        default=3, metadata={"ge": 2, "description": "older files that no snapshot names are removed by maintenance"}
    )
    schema_changes: Literal["follow", "refuse"] = field(
        default="follow", metadata={"description": "whether new and widened columns of the source are followed"}
    )
    transport: str = field(default="export", metadata={"description": "who moves the rows, see core/transports.py"})

    def __post_init__(self) -> None:
        if self.transport not in TRANSPORTS:
            raise ValueError(f"'transport': expected one of {', '.join(TRANSPORTS)}")


@dataclass(frozen=True, kw_only=True)
class TableSpec(TableOptions):
    """One table to offload.

    :param name: unique; names the table in the ledger, the DAGs and the CLI
    :param source: ``database.table`` in ClickHouse (a view will do)
    :param target: ``namespace.table`` in the Iceberg catalog
    :param timestamp_column: the event time that windows are cut on; its order and uniqueness do not matter
    :param sequence_column: recorded for gap reports only; may be neither monotonic nor unique
    :param partition_column: daily partitions on this timestamp; the timestamp column when left out
    :param sort_columns: order of the rows within a file; the source's own sorting key reads fastest
    :param upstream: tables this one is made of; all of the layer below when left out
    :param binary: String columns that hold bytes, not text; not every transport can write them
    :param final: read the source with ``FINAL`` (engines that merge rows with equal keys)
    :param key_columns: with ``version_column``: rows that are equal in them are versions of one row
    :param version_column: a later version of a row has no less of this: a candle's number of trades. Such rows may be
        replaced when they change; others may only be added to
    :param reconcile: whether both tiers are compared and healed day by day
    :param maintenance: whether ``k2_maintenance`` looks after the cold table; not where something else does
    :param history: how a new table begins: at its oldest row, or at the front, with what lies behind left to
        ``k2 backfill``
    :param view: ``database.view`` in ClickHouse that shows both tiers as one; none when left out
    :param future_seconds: how far ahead of now the time of a good row may be, see :attr:`future`
    :param job_group: tables of a layer with the same group share one Spark application
    :raises ValueError: if a name could not be one
    """

    name: str
    layer: Layer
    source: str
    target: str
    timestamp_column: str
    sequence_column: str | None = None
    partition_column: str
    sort_columns: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    binary: tuple[str, ...] = ()
    final: bool = False
    key_columns: tuple[str, ...] = ()
    version_column: str | None = None
    reconcile: bool = True
    maintenance: bool = True
    history: History = "in order"
    view: str | None = None
    future_seconds: int | None = field(default=None, metadata={"ge": 0})
    job_group: str

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("source", "target", "view"):
            _check_name(key, getattr(self, key), _QUALIFIED_NAME, "two names with a dot between, such as k2.trades")
        if self.target.partition(".")[2].lower() == SEALS_TABLE:
            raise ValueError(f"'target': the table {SEALS_TABLE} of a namespace holds the seals of its cold tables")
        for key in ("name", "timestamp_column", "sequence_column", "partition_column", "version_column", "job_group"):
            _check_name(key, getattr(self, key), _IDENTIFIER, "a name of letters, digits and underscores")
        for key in ("sort_columns", "key_columns", "upstream", "binary"):
            for name in getattr(self, key):
                _check_name(key, name, _IDENTIFIER, "names of letters, digits and underscores")
        if (self.version_column is None) != (not self.key_columns):
            raise ValueError(
                "'key_columns' and 'version_column' go together: rows that are equal in the key are versions of one row"
            )
        if self.is_proven and (self.final or not self.reconcile):
            raise ValueError(
                "'retention: proven' needs 'reconcile', which seals days, and a source without 'final', which reads "
                "rows of other days"
            )
        if self.view is not None and not self.reconcile:
            raise ValueError("'view' needs 'reconcile': it is renewed by what compares, heals and seals")
        if self.binary and not TRANSPORTS[self.transport].writes_binary:
            able = ", ".join(name for name, transport in TRANSPORTS.items() if transport.writes_binary)
            raise ValueError(f"'binary': transport {self.transport} cannot write bytes; set 'transport: {able}'")

    def __str__(self) -> str:
        return self.name

    @property
    def database(self) -> str:
        """Of the source."""
        return self.source.partition(".")[0]

    @property
    def namespace(self) -> str:
        """Of the target."""
        return self.target.partition(".")[0]

    @property
    def buffer(self) -> timedelta:
        """How far behind now the offload stays."""
        return timedelta(seconds=self.buffer_seconds)

    @property
    def out_of_order(self) -> timedelta:
        """How far out of order rows may arrive."""
        return timedelta(seconds=self.out_of_order_seconds)

    @property
    def idle_after(self) -> timedelta:
        """How long a source must be silent before it is moved to its end and no longer holds back the layers above."""
        return timedelta(seconds=self.idle_after_seconds)

    @property
    def future(self) -> timedelta:
        """How far ahead of now the time of a good row may be; anything beyond says nothing about the feed.

        When the file does not say: not at all where rows are partitioned by the time that windows are cut on (a
        trade), a day where they are not (a candle is cut on its end, and partitioned by its start).
        """
        if self.future_seconds is not None:
            return timedelta(seconds=self.future_seconds)
        return self.longest_interval

    @property
    def longest_interval(self) -> timedelta:
        """How long after a row's partition column its timestamp may lie: not at all where that is one column."""
        return timedelta(0) if self.partition_column == self.timestamp_column else LONGEST_CANDLE

    @property
    def is_proven(self) -> bool:
        """Whether the source's old rows are removed only when they are proven to be cold."""
        return self.retention == "proven"

    @property
    def warm_retention(self) -> timedelta:
        """How long the source keeps its rows."""
        return timedelta(days=self.warm_retention_days)

    @property
    def warm_retention_text(self) -> str:
        """The same, for a sentence."""
        return f"{self.warm_retention_days} day{'s' if self.warm_retention_days != 1 else ''}"


@dataclass(frozen=True)
class Tables:
    """All tables of one file, by name, in the file's order.

    :raises InvalidTablesFile: if two tables share a target, or an upstream is missing or not of a lower layer
    """

    by_name: Mapping[str, TableSpec]

    def __post_init__(self) -> None:
        targets: dict[str, str] = {}
        for spec in self.by_name.values():
            if spec.target in targets:
                raise InvalidTablesFile(
                    f"tables '{targets[spec.target]}' and '{spec.name}' share the target {spec.target}"
                )
            targets[spec.target] = spec.name
            for upstream in spec.upstream:
                if upstream not in self.by_name:
                    raise InvalidTablesFile(f"table '{spec.name}': upstream '{upstream}' is not in the file")
                if LAYERS.index(self.by_name[upstream].layer) >= LAYERS.index(spec.layer):
                    raise InvalidTablesFile(f"table '{spec.name}': upstream '{upstream}' must be of a lower layer")

    def in_layer(self, layer: str) -> list[TableSpec]:
        """The tables of one layer, in the file's order."""
        return [table for table in self.by_name.values() if table.layer == layer]

    def __getitem__(self, name: str) -> TableSpec:
        """The table of that name.

        :raises InvalidTablesFile: if there is none
        """
        try:
            return self.by_name[name]
        except KeyError:
            raise InvalidTablesFile(f"no table '{name}'; there are: {', '.join(self.by_name)}") from None

    def select(self, names: Sequence[str], layer: str | None = None) -> list[TableSpec]:
        """The named tables, or all when ``names`` is empty, of one layer when given.

        :raises InvalidTablesFile: if a name is unknown or belongs to another layer, or the layer has no table
        """
        chosen = [self[name] for name in names] if names else list(self.by_name.values())
        for table in chosen:
            if names and layer is not None and table.layer != layer:
                raise InvalidTablesFile(f"table '{table.name}' is of layer {table.layer}, not {layer}")
        chosen = [table for table in chosen if layer is None or table.layer == layer]
        if not chosen:
            raise InvalidTablesFile(f"no table chosen: none is of layer {layer}")
        return chosen


def _check_name(key: str, name: str | None, form: re.Pattern[str], expected: str) -> None:
    if name is not None and not form.fullmatch(name):
        raise ValueError(f"'{key}': '{name}' is not {expected}")
