"""The Iceberg catalog, through pyiceberg: loads cold tables, and creates them on first contact."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlparse

from k2_offload.adapters.authorities import certificate_seen, check_authorities
from k2_offload.adapters.cold_errors import load_if_there, told
from k2_offload.adapters.cold_storage import ColdStorage
from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.cold_tags import ColdTags
from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.postgres import LIBPQ_LIMITS
from k2_offload.adapters.registration import Registration
from k2_offload.adapters.table_properties import of_new_table
from k2_offload.core.connections import CatalogSettings
from k2_offload.core.tables import SEALS_TABLE, TableSpec
from k2_offload.core.type_mapping import Column

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog


class ColdCatalog:
    """The Iceberg catalog.

    :param settings: where it is
    :raises Unreachable: by every method, if the catalog or its storage does not answer
    :raises Refused: by every method, if either does not let the user in
    """

    def __init__(self, settings: CatalogSettings) -> None:
        self._settings = settings

    @cached_property
    def _catalog(self) -> Catalog:
        from pyiceberg.catalog import load_catalog  # noqa: PLC0415 - DAG files import this module and must parse fast

        check_authorities(self._settings.connection_id, self._settings.ca_certs)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # its own retries; what comes of them is an error here
        return load_catalog(self._settings.name, **_impatient(self._settings.pyiceberg))

    def close(self) -> None:
        """End its connections."""
        if "_catalog" in self.__dict__:
            self._catalog.close()

    def load(self, table: TableSpec) -> ColdTable | None:
        """The table as it is now; ``None`` if it does not exist yet.

        :raises UnreadableTable: if this table alone cannot be read
        """
        catalog = self._connected()
        with self._told(table):
            loaded = load_if_there(catalog, table.target)
            return ColdTable(loaded, table.name, partial(self._told, table)) if loaded is not None else None

    def create(self, table: TableSpec, columns: Sequence[Column]) -> ColdTable:
        """The table, made from the source's columns, or as somebody else has made it meanwhile.

        :raises UnreadableTable: if this table alone cannot be made
        """
        from pyiceberg.exceptions import TableAlreadyExistsError  # noqa: PLC0415

        catalog = self._connected()
        with self._told(table):
            catalog.create_namespace_if_not_exists(table.namespace)
            try:
                made = catalog.create_table(table.target, **_definition(table, columns))
            except TableAlreadyExistsError:
                found = self.load(table)
                if found is None:  # a view of that name, or a table that is being dropped
                    raise
                return found
            return ColdTable(made, table.name, partial(self._told, table))

    def seals(self, namespace: str) -> LakeSeals:
        """The seals of the cold tables of a namespace."""
        name = f"{namespace}.{SEALS_TABLE}"
        return LakeSeals(self._connected(), name, partial(told, self._settings.connection_id, name, self._ask))

    def tags(self, table: TableSpec) -> ColdTags:
        """The tags of a cold table."""
        return ColdTags(self._connected(), table.target, partial(self._told, table))

    def registration(self, name: str, target: str) -> Registration:
        """Which metadata file of a table is current.

        :param name: what a person calls the table
        :param target: ``namespace.table``
        """
        return Registration(self._connected(), target, partial(told, self._settings.connection_id, name, self._ask))

    def ping(self) -> None:
        """Ask the catalog something small."""
        with self._told(None):
            self._ask()

    def storage(self, tables: Iterable[TableSpec]) -> ColdStorage | None:
        """Where cold tables are: the warehouse or, where the catalog only has a name for that, a table's folder.

        :param tables: whose folders will do
        :returns: ``None`` if there is none of them either
        """
        from pyiceberg.io import load_file_io  # noqa: PLC0415

        properties = self._connected().properties
        warehouse, told = properties.get("warehouse", ""), partial(self._told, None)
        if warehouse.startswith("/") or urlparse(warehouse).scheme:
            with told():
                return ColdStorage(warehouse, load_file_io(properties, warehouse), told)
        cold = next(filter(None, map(self.load, tables)), None)
        return ColdStorage(cold.location, cold.io, told) if cold else None

    def store_certificate_seen(self) -> str:
        """What this process makes of the object store's certificate, see :func:`certificate_seen`."""
        endpoint = self._connected().properties.get("s3.endpoint", "")
        return certificate_seen(endpoint, self._settings.ca_certs)

    def _ask(self) -> None:
        self._catalog.list_namespaces()

    def _connected(self) -> Catalog:
        with self._told(None):
            return self._catalog

    def _told(self, table: TableSpec | None) -> AbstractContextManager[None]:
        name = table.name if table is not None else None
        return told(self._settings.connection_id, name, self._ask)


def _impatient(properties: Mapping[str, str]) -> dict[str, str]:
    """With limits to waiting for the catalog, and no first failure from a connection to Postgres gone stale."""
    if properties.get("type") != "sql":
        others = {key: value for key, value in properties.items() if key != "type"}
        own = "k2_offload.adapters.rest_catalog.LimitedRestCatalog"
        return {"py-catalog-impl": own, "rest.sigv4.max-retries": "0"} | others
    uri = properties["uri"]
    limited = f"{uri}{'&' if '?' in uri else '?'}{urlencode(LIBPQ_LIMITS)}"
    return {"pool_pre_ping": "true"} | dict(properties) | {"uri": limited}


def _definition(table: TableSpec, columns: Sequence[Column]) -> dict[str, Any]:
    from pyiceberg.partitioning import PartitionField, PartitionSpec  # noqa: PLC0415
    from pyiceberg.schema import Schema  # noqa: PLC0415
    from pyiceberg.table.sorting import SortField, SortOrder  # noqa: PLC0415
    from pyiceberg.transforms import DayTransform, IdentityTransform  # noqa: PLC0415

    fields = [
        {
            "id": position,
            "name": column.name,
            "type": column.iceberg_type.replace(" ", ""),
            "required": not column.nullable,
        }
        for position, column in enumerate(columns, start=1)
    ]
    schema = Schema.model_validate({"type": "struct", "fields": fields})
    field_id = {column.name: position for position, column in enumerate(columns, start=1)}
    partition = PartitionField(
        source_id=field_id[table.partition_column],
        field_id=1000,
        transform=DayTransform(),
        name=f"{table.partition_column}_day",
    )
    sort_fields = [SortField(source_id=field_id[name], transform=IdentityTransform()) for name in table.sort_columns]
    return {
        "schema": schema,
        "partition_spec": PartitionSpec(partition),
        "sort_order": SortOrder(*sort_fields),
        "properties": of_new_table(table, schema),
    }
