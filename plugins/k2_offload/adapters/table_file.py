"""Reads the table file: YAML with ``tables:`` and, if wanted, ``defaults:``."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.tables import LAYERS, TableOptions, Tables, TableSpec

_Kind = TypeVar("_Kind", bound=TableOptions)


def load_tables(file: Path) -> Tables:
    """Read and validate a table file.

    :raises InvalidTablesFile: with the file's name, if it is missing or wrong
    """
    try:
        return parse_tables(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidTablesFile(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidTablesFile(f"{file}: it is not UTF-8 ({error.reason} at byte {error.start})") from None
    except InvalidTablesFile as error:
        raise InvalidTablesFile(f"{file}: {error}") from None


def parse_tables(text: str) -> Tables:
    """Read the table file.

    :param text: YAML with ``tables:`` (name → :class:`TableSpec`'s fields) and optionally ``defaults:``
    :raises InvalidTablesFile: for anything a person should mend: bad YAML, a key that stands twice or is unknown,
        a missing field, an upstream that does not exist or is not of a lower layer, two tables with one target
    """
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # YAML reads 2026-13-45 as a date
        reason = re.sub(r"\s+", " ", str(error))
        raise InvalidTablesFile(f"not valid YAML: {reason}") from None
    if not isinstance(document, dict) or not isinstance(document.get("tables"), dict) or not document["tables"]:
        raise InvalidTablesFile("expected a mapping 'tables:' with at least one table")
    if unknown := set(document) - {"defaults", "tables"}:
        raise InvalidTablesFile(f"unknown key '{min(map(str, unknown))}'; expected 'defaults' and 'tables'")
    of_all = document.get("defaults")
    if of_all is not None and not isinstance(of_all, dict):
        raise InvalidTablesFile("defaults: expected a mapping of settings")
    defaults = asdict(_validated(TableOptions, "defaults", of_all or {}))
    entries: dict[str, Any] = document["tables"]
    return Tables({name: _parse_table(str(name), entry, defaults, entries) for name, entry in entries.items()})


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


def _validated(kind: type[_Kind], where: str, values: dict[str, Any]) -> _Kind:
    for field in fields(kind):
        if isinstance(values.get(field.name), bool) and "int" in str(field.type):
            raise InvalidTablesFile(f"{where}: '{field.name}': expected a number, not yes or no")
    try:
        made = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":  # of the class itself; names the key
            raise InvalidTablesFile(f"{where}: {first['ctx']['error']}") from None
        raise InvalidTablesFile(f"{where}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            raise InvalidTablesFile(f"{where}: unknown key '{key}'; known: {', '.join(known)}")
    return made


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; here the second is refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise InvalidTablesFile(f"line {key_node.start_mark.line + 1}: a key has to be a name")
            if key in seen:
                raise InvalidTablesFile(f"line {key_node.start_mark.line + 1}: '{key}' stands twice")
            seen.add(key)
        return super().construct_mapping(node, deep)
