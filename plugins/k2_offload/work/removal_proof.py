"""Proves that a partition of ClickHouse is cold: by its seals, and by what its sources show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.core import day_queries
from k2_offload.core import retention_queries as sql
from k2_offload.core.day_comparison import first_whole_day
from k2_offload.core.errors import DamagedTable
from k2_offload.core.holding import NO_PARTS, Partition, Parts, Record
from k2_offload.core.retention import Reader, coverage, hides_rows
from k2_offload.core.schema_change import settle
from k2_offload.core.seals import Seal
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import to_micros
from k2_offload.work.combined_view import read_all_states
from k2_offload.work.holding import HoldingTable
from k2_offload.work.known_seals import newest_of
from k2_offload.work.tiers import Tiers
from k2_offload.work.verify_seals import verify_seal


@dataclass(frozen=True)
class Proof:
    """What is to be proven of a storage.

    :param tables: all that read it
    :param now: the earlier of both clocks
    :param check_alone: fails if another run may move partitions
    """

    tiers: Tiers
    storage: str
    tables: Sequence[TableSpec]
    now: datetime
    check_alone: Callable[[], None]

    def parts(self) -> dict[str, Parts]:
        """The storage's parts, by partition."""
        return HoldingTable(self.tiers, self.storage).parts(self.storage)

    def prove(self, partition: Partition, readers: Sequence[Reader]) -> tuple[dict[str, ColdTable], str | None]:
        """Compare a partition with its seals; why it is not what was sealed.

        :raises DamagedTable: if a seal is broken
        """
        before = self.parts().get(partition.partition_id, NO_PARTS)
        if (mutation := self.find_mutation()) is not None:
            return {}, f"{self.storage} has a mutation that is not done yet: {mutation}"
        [(readable,)] = self.tiers.clickhouse.execute(sql.count_storage(self.storage, partition.partition_id))
        if before.rows != readable:
            return {}, (
                f"its parts have {before.rows:,} rows, and {readable:,} can be read: deleted ones that are not merged "
                "away yet, or a row policy of ClickHouse's user"
            )
        loaded: dict[str, ColdTable] = {}
        for reader in readers:
            table = reader.table
            cold = loaded[table.name] = self.load(table)
            if (reason := self.find_far(table, partition)) is not None:
                return loaded, reason
            columns = {column.name: column for column in settle(self.tiers.clickhouse.columns(table), cold.columns)}
            for seal in seals_of(reader, partition):
                self.check_alone()
                if (reason := self.verify(cold, seal)) is not None:
                    return loaded, reason
                if lost := [column.name for column in seal.columns if column.name not in columns]:
                    return loaded, f"column {lost[0]}, which the seal of {seal.day} of {table.name} is over, is gone"
                # Unmasked: a later column may have got values of earlier rows by an UPDATE, which nobody has compared.
                sealed = [replace(columns[column.name], compared_from=None) for column in seal.columns]
                if unread := [each.name for each in sealed if each.source_type is None and each.name in reader.columns]:
                    return loaded, f"values of column {unread[0]} of {table.name} are not moved any more"
                found = self.tiers.clickhouse.execute(day_queries.warm_content(table, sealed, seal.day))[0]
                if (
                    found[0] == seal.rows
                    and seal.content != tuple(found)
                    and any(columns[column.name].compared_from is not None for column in seal.columns)
                ):
                    return loaded, (
                        f"ClickHouse does not show of {seal.day} what was sealed in {table.name}: perhaps its values "
                        "of a column that came later, which the cold tier has not got of earlier rows"
                    )
                if tuple(found) != seal.content:
                    return loaded, (
                        f"ClickHouse does not show of {seal.day} what was sealed in {table.name}: {found[0]:,} rows, "
                        f"{seal.rows:,} were sealed, or their values differ; `k2 verify {table.name}` compares them"
                    )
        if (reason := self.find_hidden(partition, readers, readable)) is not None:
            return loaded, reason
        after = self.parts().get(partition.partition_id, NO_PARTS)
        if before.digests != partition.parts or after != before:
            return loaded, "rows came in, or parts were merged, while it was compared; the next run looks anew"
        return loaded, None

    def find_far(self, table: TableSpec, partition: Partition) -> str | None:
        """Why windows of long after its days would have to bring its rows back, if the cold table were rolled back."""
        if not table.longest_interval:
            return None
        far = day_queries.far_rows(table, *partition.days[table.partition_column])
        [(rows,)] = self.tiers.clickhouse.execute(far)
        if not rows:
            return None
        return (
            f"{rows:,} rows of it in {table.name} have a {table.timestamp_column} more than a day after their "
            f"{table.partition_column}: after a rollback of the cold table nobody would know which windows lack them"
        )

    def mutations(self, before: datetime | None = None) -> set[str]:
        """The mutations (``ALTER UPDATE``, ``DELETE``) of the storage that are known.

        :param before: only those given before a time
        """
        return {name for name, _, _, at in self._mutations() if before is None or at < to_micros(before)}

    def find_mutation(self, seen: Collection[str] | None = None) -> str | None:
        """One that is not done: it does not change what is moved away meanwhile, and counts as done then.

        So does a lightweight ``UPDATE``, as long as its patch parts are not merged into the rows.

        :param seen: or that is none of these
        """
        for name, command, is_done, _ in self._mutations():
            if not is_done or (seen is not None and name not in seen):
                return f"{name} ({command})"
        patches = (name for name in self.parts() if name.startswith("patch-"))
        return next((f"{name} (patch parts of an UPDATE)" for name in patches), None)

    def _mutations(self) -> list[tuple[Any, ...]]:
        return self.tiers.clickhouse.execute(sql.mutations(self.storage))

    def find_hidden(self, partition: Partition, readers: Sequence[Reader], readable: int) -> str | None:
        """Why the tables may not show all rows of a partition; ``None`` if they do.

        :param readable: how many rows the partition has
        """
        ask, partition_id = self.tiers.clickhouse.execute, partition.partition_id
        own = [reader.table for reader in readers if reader.table.source == self.storage]
        for table in own:
            [(shown,)] = ask(sql.count_source(table, partition.days[table.partition_column]))
            if shown != readable:
                return "the tables that read it do not show all of its rows"
        if own:
            return self._find_elsewhere(partition, [reader.table for reader in readers if reader.table not in own])
        columns = HoldingTable(self.tiers, self.storage).stored_columns
        covered = coverage(columns, readers)
        if isinstance(covered, str):
            return covered
        sorting_key = [column.name for column in columns if column.is_in_sorting_key]
        [of_storage] = ask(sql.measure_storage(self.storage, partition_id, covered, sorting_key))
        return hides_rows(
            of_storage,
            [
                ask(sql.measure_source(table, partition.days[table.partition_column], covered))[0]
                for table in (reader.table for reader in readers)
            ],
        )

    def _find_elsewhere(self, partition: Partition, views: Sequence[TableSpec]) -> str | None:
        """Why a view may show rows of a partition as of days that were not compared; ``None`` if none does.

        A view may call another column by the name of its partition column. It need not show all rows.
        """
        for view in views:
            days = partition.days[view.partition_column]
            count = sql.count_shown(view, self.storage, partition.partition_id, days)
            [(shown, of_days)] = self.tiers.clickhouse.execute(count)
            if shown != of_days:
                return (
                    f"{view.source} shows {shown - of_days:,} rows of it as of other days than its own: its "
                    f"{view.partition_column} is not that of {self.storage}, or it is a view with SQL SECURITY "
                    "DEFINER, of which that cannot be known"
                )
        return None

    def verify(self, cold: ColdTable, seal: Seal) -> str | None:
        """Why a sealed day may not be relied on yet; ``None`` if it may.

        :raises DamagedTable: if its seal is broken
        """
        verified = verify_seal(self.tiers, cold, seal)
        if verified.problem is not None:
            LedgerSeals(self.tiers.ledger).record_verification(
                seal, verified.snapshot_id, verified.problem, self.tiers.now()
            )
            raise DamagedTable(verified.problem)
        return f"{seal.day} of {seal.table} was healed since it was sealed" if verified.healed else None

    def find_broken(self, record: Record, readers: Sequence[Reader]) -> str | None:
        """Why the cold tier may not hold what is held."""
        loaded = []
        for reader in readers:
            cold = self.load(reader.table)
            loaded.append((reader.table, cold))
            for day in record.seals[reader.table.name]:
                self.check_alone()
                try:
                    reason = self.verify(cold, reader.seals[day])
                except DamagedTable as damage:
                    reason = str(damage)
                if reason is not None:
                    return reason if reason.endswith(".") else f"{reason}."
        for table, cold in loaded:  # verifying takes minutes
            now = self.load(table)
            if now.uuid != cold.uuid or cold.snapshot_id not in {each.snapshot_id for each in now.chain.ancestors()}:
                return f"{table.name}: its cold table was rolled back, or made anew, while it was verified."
        return None

    def load(self, table: TableSpec) -> ColdTable:
        """The cold table as it is now.

        :raises DamagedTable: if there is none
        """
        cold = self.tiers.load_cold(table)
        if cold is None:
            raise DamagedTable(f"{table.name}: its cold table is not there. Nothing was dropped and no row is lost.")
        return cold

    def readers(self, days: Sequence[Mapping[str, tuple[date, date]]]) -> list[Reader]:
        """What is known of the tables that read the storage.

        :param days: that are looked at, by partition column
        """
        found = []
        views = [state for state in read_all_states(self.tiers) if state.valid_until > self.now]
        for table in self.tables:
            cold = self.tiers.load_cold(table)
            recorded = LedgerSeals(self.tiers.ledger).read([table.name])
            last, broken = newest_of(table, cold.uuid, recorded) if cold is not None else ({}, {})
            broken |= {day: each.problem for day, each in last.items() if each.problem is not None}
            ranges = [each[table.partition_column] for each in days if table.partition_column in each]
            count = self.tiers.clickhouse.rows_per_day
            rows = count(day_queries.rows_per_day_since(table, min(ranges)[0])) if ranges else {}
            found.append(
                Reader(
                    table,
                    first_whole_day(self.now, table.warm_retention),
                    {day: each.seal for day, each in last.items()},
                    broken,
                    rows,
                    frozenset(self.tiers.clickhouse.column_types(table)),
                    min(
                        (
                            view.boundary.date() if view.partition_column == table.partition_column else date.min
                            for view in views
                            if view.table == table.name
                        ),
                        default=None,
                    ),
                )
            )
        return found


def seals_of(reader: Reader, partition: Partition) -> list[Seal]:
    """The seals of the days of a partition."""
    first, last = partition.days[reader.table.partition_column]
    return [seal for day, seal in sorted(reader.seals.items()) if first <= day <= last]
