"""The table file (``include/tables.yaml``): which tables are offloaded, and how."""

from __future__ import annotations

import re
from collections.abc import Hashable
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from k2_offload.core.errors import InvalidTablesFile

LAYERS = ("bronze", "silver", "gold")
"""The layers in the order in which they move; each is made of the one before."""

Layer = Literal["bronze", "silver", "gold"]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
QualifiedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*$")]


_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TableOptions(_Strict):
    """Options with a default; ``defaults:`` in the file sets them for all tables, a table for itself."""

    buffer_seconds: int = Field(default=300, ge=0, description="rows younger than this are left alone")
    out_of_order_seconds: int = Field(
        default=10, ge=0, description="how much earlier than the last row a row may be that comes after it"
    )
    idle_after_seconds: int = Field(
        default=1800, ge=0, description="silent for longer: moved to its end, holds no layer back"
    )
    max_window_rows: int = Field(default=20_000_000, ge=1, description="longer backlogs are cut into several windows")
    max_file_rows: int = Field(default=5_000_000, ge=1, description="a day with more is split into several files")
    parallel_exports: int = Field(default=2, ge=1, description="files of one window that are written at once")
    warm_retention_days: int = Field(
        default=7, ge=1, description="the source's TTL; verification looks no further back"
    )
    transport: Literal["export", "jdbc"] = Field(
        default="export", description="export: ClickHouse writes the files; jdbc: Spark reads and writes"
    )


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
    :param final: read the source with ``FINAL`` (engines that merge rows with equal keys)
    :param job_group: tables of a layer with the same group share one Spark application
    """

    name: Identifier
    layer: Layer
    source: QualifiedName
    target: QualifiedName
    timestamp_column: Identifier
    sequence_column: Identifier | None = None
    partition_column: Identifier
    sort_columns: tuple[Identifier, ...] = ()
    upstream: tuple[Identifier, ...] = ()
    final: bool = False
    job_group: Identifier

    @property
    def buffer(self) -> timedelta:
        """How far behind now the offload stays."""
        return timedelta(seconds=self.buffer_seconds)

    @property
    def out_of_order(self) -> timedelta:
        """How much earlier than the last row a row may be that comes after it."""
        return timedelta(seconds=self.out_of_order_seconds)

    @property
    def idle_after(self) -> timedelta:
        """How long a source must be silent before it is moved to its end and no longer holds back the layers above."""
        return timedelta(seconds=self.idle_after_seconds)

    @property
    def warm_retention(self) -> timedelta:
        """How long the source keeps its rows."""
        return timedelta(days=self.warm_retention_days)


class Tables(_Strict):
    """All tables of one file, by name, in the file's order."""

    by_name: dict[str, TableSpec]

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

    def select(self, names: list[str], layer: str | None = None) -> list[TableSpec]:
        """The named tables, or all when ``names`` is empty, of one layer when given.

        :raises InvalidTablesFile: if a name is unknown or belongs to another layer
        """
        chosen = [self[name] for name in names] if names else list(self.by_name.values())
        for table in chosen:
            if names and layer is not None and table.layer != layer:
                raise InvalidTablesFile(f"table '{table.name}' is of layer {table.layer}, not {layer}")
        return [table for table in chosen if layer is None or table.layer == layer]


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; here the second is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise InvalidTablesFile(f"line {key_node.start_mark.line + 1}: '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_tables(text: str) -> Tables:
    """Read the table file.

    :param text: YAML with ``tables:`` (name → :class:`TableSpec`'s fields) and optionally ``defaults:``
    :raises InvalidTablesFile: for anything a person should mend: bad YAML, a key that stands twice or is unknown,
        a missing field, an upstream that does not exist or is not of a lower layer, two tables with one target
    """
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise InvalidTablesFile(f"not valid YAML: {reason}") from None
    if not isinstance(document, dict) or not isinstance(document.get("tables"), dict) or not document["tables"]:
        raise InvalidTablesFile("expected a mapping 'tables:' with at least one table")
    if unknown := set(document) - {"defaults", "tables"}:
        raise InvalidTablesFile(f"unknown key '{min(map(str, unknown))}'; expected 'defaults' and 'tables'")
    defaults = _validated(TableOptions, "defaults", document.get("defaults") or {}).model_dump()
    entries: dict[str, Any] = document["tables"]
    specs = {name: _parse_table(str(name), entry, defaults, entries) for name, entry in entries.items()}
    _check_together(specs)
    return Tables(by_name=specs)


def _parse_table(name: str, entry: object, defaults: dict[str, Any], entries: dict[str, Any]) -> TableSpec:
    if not isinstance(entry, dict):
        raise InvalidTablesFile(f"table '{name}': expected a mapping of settings")
    if "name" in entry:
        raise InvalidTablesFile(f"table '{name}': unknown key 'name'")
    layer = entry.get("layer")
    below = LAYERS[LAYERS.index(layer) - 1] if layer in LAYERS[1:] else None
    upstream = [
        other for other, spec in entries.items() if below and isinstance(spec, dict) and spec.get("layer") == below
    ]
    derived = {
        "name": name,
        "partition_column": entry.get("timestamp_column"),
        "upstream": upstream,
        "job_group": layer,
    }
    return _validated(TableSpec, f"table '{name}'", defaults | derived | entry)


def _validated(model: type[_Model], where: str, values: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise InvalidTablesFile(f"{where}: unknown key '{key}'; known: {', '.join(model.model_fields)}") from None
        raise InvalidTablesFile(f"{where}: '{key}': {first['msg']}") from None


def _check_together(specs: dict[str, TableSpec]) -> None:
    targets: dict[str, str] = {}
    for spec in specs.values():
        if spec.target in targets:
            raise InvalidTablesFile(f"tables '{targets[spec.target]}' and '{spec.name}' share the target {spec.target}")
        targets[spec.target] = spec.name
        for upstream in spec.upstream:
            if upstream not in specs:
                raise InvalidTablesFile(f"table '{spec.name}': upstream '{upstream}' is not in the file")
            if LAYERS.index(specs[upstream].layer) >= LAYERS.index(spec.layer):
                raise InvalidTablesFile(f"table '{spec.name}': upstream '{upstream}' must be of a lower layer")
