"""What a Spark application is told of the outside, and whether that still leads where Airflow's connections lead."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.text import without_secrets

_WHICH_CLICKHOUSE = ("servers", "http_port", "user", "database", "secure")
_WHICH_CATALOG = ("type", "catalog-impl", "uri", "warehouse", "jdbc.user", "s3.endpoint", "s3.region")
_WHICH_PART = ("prefix", "client.region", "s3.access-key-id")
"""What else leads elsewhere within a REST catalog or a store, besides its client's id and headers (a realm's name)."""
_HEADER = re.compile(r"header\.(?!.*(?:auth|key|token|secret|cookie))", re.IGNORECASE)
"""Of a REST catalog: a name, such as a realm's, and no password, as far as its own name tells."""


@dataclass(frozen=True)
class JobConnections:
    """What the Spark application needs of the outside; it travels in its environment, never in arguments.

    :param lake_collection: ClickHouse named collection that holds the object store's address and keys
    """

    VARIABLE: ClassVar[str] = "K2_OFFLOAD_CONNECTIONS"
    SERVERS_VARIABLE: ClassVar[str] = "K2_OFFLOAD_SERVERS"

    clickhouse: ClickHouseEndpoint
    catalog: CatalogSettings
    lake_collection: str

    def to_json(self) -> str:
        """The form in which they travel; holds secrets."""
        document = asdict(self)
        if not self.catalog.ca_certs:
            del document["catalog"]["ca_certs"]  # which a job of an older version does not know
        return json.dumps(document)

    @staticmethod
    def from_json(text: str) -> JobConnections:
        """The inverse of :meth:`to_json`."""
        document = json.loads(text)
        clickhouse = document["clickhouse"]
        alternatives = tuple((host, port) for host, port in clickhouse.pop("alternatives"))
        return JobConnections(
            ClickHouseEndpoint(**clickhouse, alternatives=alternatives),
            CatalogSettings(**document["catalog"]),
            document["lake_collection"],
        )

    @property
    def servers(self) -> str:
        """A digest of where they lead, and as whom; of no password, so that everybody may see it."""
        clickhouse = [getattr(self.clickhouse, name) for name in _WHICH_CLICKHOUSE]
        catalog = [without_secrets(self.catalog.java.get(key, "")) for key in _WHICH_CATALOG]
        where = [clickhouse, self.catalog.name, catalog, self.lake_collection]
        if part := self._part_of_catalog():
            where.append(part)
        return hashlib.sha256(json.dumps(where).encode()).hexdigest()

    def _part_of_catalog(self) -> list[tuple[str, str]]:
        java = self.catalog.java
        part = {key: value for key, value in java.items() if key in _WHICH_PART or _HEADER.match(key)}
        client_id, colon, _ = java.get("credential", "").partition(":")
        return sorted((part | {"credential": client_id} if colon else part).items())

    @staticmethod
    def from_environment(variables: Mapping[str, str]) -> JobConnections:
        """Those that an application has been given.

        :raises ConfigurationError: if whoever has started it means other servers, as he may where a Secret holds them
        """
        connections = JobConnections.from_json(variables[JobConnections.VARIABLE])
        if variables.get(JobConnections.SERVERS_VARIABLE, connections.servers) != connections.servers:
            raise ConfigurationError(
                "the Secret with the connections is older than Airflow's connections, and leads to other servers, "
                "storage or users. Nothing was moved and no row is lost. Write it anew: "
                "`k2 kubernetes-secret | kubectl apply --server-side -f -`; then run `k2 validate`"
            )
        return connections
