"""Tells others of changes to cold tables: Airflow's assets, and OpenLineage where its provider is at work."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator

from k2_offload.adapters.connections import catalog_settings, clickhouse_endpoint
from k2_offload.adapters.settings import load_settings
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.lineage import DatasetName, name_in_catalog, name_of_location, name_of_source
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.work.changes import Change

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset

log = logging.getLogger(__name__)

_NO_NEW_ROWS = ("rewrite", "seal")


def table_asset(table: TableSpec) -> Asset:
    """The Airflow asset of a cold table."""
    return Asset(name=f"k2/{table.target}", uri=f"iceberg://{table.target.replace('.', '/')}")


@dataclass(frozen=True)
class Names:
    """What a change's rows were read from, and the cold table's name in the catalog, if it has one of its own."""

    source: DatasetName
    in_catalog: DatasetName | None


class TellsChanges:
    """What an operator inherits that tells of changes; its ``outlets`` are :attr:`alias`."""

    alias: AssetAlias
    _told: tuple[tuple[Change, Names], ...] = ()

    def tell(self, context: Any, changes: Iterable[Change]) -> int:
        """Emit an asset event for each change, once the task has ended well.

        What cannot be told is in the log, and fails nobody: the cold tables say it all the same.

        :returns: how many are told
        """
        try:
            told = tuple(changes)
            names = tuple(map(_other_names, told)) if told and _lineage_is_wanted() else ()
        except Exception:
            log.warning("What has changed is not told to anybody", exc_info=True)
            return 0
        for change in told:
            context["outlet_events"][self.alias].add(
                table_asset(change.table),
                extra={
                    "kind": change.kind,
                    "low": format_time(change.window.low),
                    "high": format_time(change.window.high),
                    "rows": change.rows,
                    "snapshot_id": str(change.snapshot_id),
                },
            )
        self._told += tuple(zip(told, names, strict=False))
        return len(told)

    def get_openlineage_facets_on_complete(self, _: Any) -> OperatorLineage[Any, Any]:
        """What OpenLineage's provider asks an operator for, of a task that has ended well or not."""
        from airflow.providers.openlineage.extractors import OperatorLineage  # noqa: PLC0415 - need not be there

        inputs, outputs = [], []
        by_table: dict[str, list[Change]] = {}
        for change, _ in self._told:
            by_table.setdefault(change.table.name, []).append(change)
        names = {change.table.name: names for change, names in self._told}
        for table, changes in by_table.items():
            if any(change.kind not in _NO_NEW_ROWS for change in changes):
                inputs.append(_input(names[table].source))
            if written := [change for change in changes if change.kind != "seal"]:
                outputs.append(_output(written, names[table].in_catalog))
        return OperatorLineage(inputs=inputs, outputs=outputs)


class LayerOperator(TellsChanges, BaseOperator):
    """A task of one layer's DAG.

    :param layer: whose tables it is about
    """

    def __init__(self, *, layer: str, **kwargs: Any) -> None:
        self.layer = layer
        self.alias = AssetAlias(dag_id(layer))
        super().__init__(outlets=[self.alias], **kwargs)


def _lineage_is_wanted() -> bool:
    try:
        from airflow.providers.openlineage.conf import is_disabled  # noqa: PLC0415 - need not be there
    except ImportError:
        return False
    return not is_disabled()


def _other_names(change: Change) -> Names:
    settings = load_settings()
    clickhouse, catalog = clickhouse_endpoint(settings), catalog_settings(settings)
    return Names(
        name_of_source(clickhouse.host, clickhouse.native_port, change.table.source),
        name_in_catalog(catalog.pyiceberg, change.table.target),
    )


def _input(name: DatasetName) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset  # noqa: PLC0415

    return InputDataset(namespace=name.namespace, name=name.name)


def _output(changes: list[Change], in_catalog: DatasetName | None) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset  # noqa: PLC0415
    from openlineage.client.facet_v2 import (  # noqa: PLC0415
        dataset_version_dataset,
        output_statistics_output_dataset,
        symlinks_dataset,
    )

    newest = changes[-1]
    folder = name_of_location(newest.location)
    version = dataset_version_dataset.DatasetVersionDatasetFacet(str(newest.snapshot_id))
    facets: dict[str, Any] = {"version": version}
    if in_catalog is not None:
        identifier = symlinks_dataset.Identifier(in_catalog.namespace, in_catalog.name, "TABLE")
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet([identifier])
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=sum(change.rows for change in changes), size=sum(change.size_bytes for change in changes)
    )
    return OutputDataset(
        namespace=folder.namespace, name=folder.name, facets=facets, outputFacets={"outputStatistics": statistics}
    )
