"""What a transport is, to the job; what planning knows of each is in :mod:`k2_offload.core.transports`."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from k2_offload.core.transports import TRANSPORTS

if TYPE_CHECKING:
    from k2_offload.adapters.clickhouse import ClickHouse
    from k2_offload.core.connections import JobConnections
    from k2_offload.core.exactly_once import Snapshot, Stamp
    from k2_offload.core.heal import HealStamp
    from k2_offload.core.plan import PlannedRows
    from k2_offload.core.splits import Split
    from offload_job.cold_table_writer import ColdTableWriter


class Transport(Protocol):
    """Brings rows into the cold table's storage and stages them as a snapshot.

    :param connections: where ClickHouse and the catalog are
    :param master: Spark's, as the application was submitted
    """

    def __init__(self, connections: JobConnections, master: str) -> None: ...

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        stamp: Stamp | HealStamp,
    ) -> Snapshot:
        """Move and stage; nothing is visible to readers afterwards.

        :param splits: they hold every row once; empty if there are no rows
        :param stamp: what the snapshot must say of itself; its attempt also names the files
        """


def load_transport(name: str, connections: JobConnections, master: str) -> Transport:
    """The transport of that name, from the module that the registry names."""
    module, _, kind = TRANSPORTS[name].implementation.partition(":")
    transport: type[Transport] = getattr(importlib.import_module(module), kind)
    return transport(connections, master)
