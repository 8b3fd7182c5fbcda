"""A table's watermark: what the cold table says of it, accepting that, and letting the table go on at a later time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, partial

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.replicas import check_replicas
from k2_offload.core.backfill import keep_left_out
from k2_offload.core.errors import ChangedTable, DamagedTable, OffloadError
from k2_offload.core.exactly_once import (
    FIRST_WATERMARK,
    Published,
    WindowId,
    adopted,
    check_cut,
    decide_publish,
    refuse_another_ledger,
    watermark_of,
)
from k2_offload.core.gaps import count_anew, find_given_up, first_contact
from k2_offload.core.schema_change import find_nulls
from k2_offload.core.skips import GivenUp, Skips, intersect, subtract
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, format_time
from k2_offload.work.cycle import commit, refuse_to_start_over
from k2_offload.work.tiers import Tiers


@dataclass(frozen=True)
class ColdReading:
    """What the cold table says of itself.

    :param cold: ``None`` if there is no such table yet
    :param published: its newest window
    :param adopt: the window it holds all the same, where its history cannot say
    :param problem: why its history cannot say
    :param old_column: what windows were cut on so far, if that is another column than now
    :param late: rows in ClickHouse that were not moved then, and that no window will move; ``None`` if there is no such
        column, or it has gone from ClickHouse
    :param skips: what is left out of ``adopt``, and may be brought
    :param skipped_rows: how many rows ClickHouse has in ``adopt``, if all of it is left out
    :param given_up: what was left out so far, or was missing of it, and cannot be brought any more
    """

    cold: ColdTable | None
    published: Published | None = None
    adopt: WindowId | None = None
    problem: str | None = None
    old_column: str | None = None
    late: int | None = None
    skips: Skips = field(default_factory=Skips)
    skipped_rows: int | None = None
    given_up: tuple[GivenUp, ...] = ()

    @property
    def watermark(self) -> datetime:
        """Where the next cycle goes on once this is accepted."""
        return self.adopt.window.high if self.adopt else watermark_of(self.published)


def read_cold_table(tiers: Tiers, table: TableSpec) -> ColdReading:
    """Ask the cold table; where its history cannot say, its newest row does, which means reading a whole column.

    :raises OffloadError: if it cannot be read
    """
    cold = tiers.catalog.load(table)
    if cold is None:
        return ColdReading(None)
    try:
        check_cut(table.name, cold.published, table.timestamp_column)
        return ColdReading(cold, cold.published)
    except (ChangedTable, DamagedTable) as error:
        tiers.clickhouse.columns(table)  # refuses a timestamp column that is none
        newest = cold.newest_row(table.timestamp_column)
        if newest is not None:
            return _by_newest_row(tiers, table, cold, newest, str(error))
        if isinstance(error, ChangedTable):
            return _without_rows(tiers, table, cold, error)
        return ColdReading(cold, problem=str(error))


def _without_rows(tiers: Tiers, table: TableSpec, cold: ColdTable, error: ChangedTable) -> ColdReading:
    """Where windows were cut on another column, and none has brought a row: all of them together are left out anew.

    The table holds no row of any time, on whatever column, and all that its windows have left out is left out still.

    :raises ChangedTable: if it has rows that lack the column
    """
    published = cold.published
    if published is None:
        raise error
    if cold.total_rows:
        raise ChangedTable(
            f"{table.name}: no row of the cold table has a value in '{table.timestamp_column}', so nothing says where "
            f"it ends by that. Nothing was changed and no row is lost. Put the old column back: timestamp_column: "
            f"{published.snapshot.cut_on}."
        )
    check_replicas(tiers.clickhouse, table, f"k2 watermark rebuild {table.name}")
    window = Window(min(FIRST_WATERMARK, published.window_id.window.low), watermark_of(published))
    rows = tiers.clickhouse.count_within(table, window)
    skips = Skips().skipping(window)
    given_up = find_given_up(tiers.ledger.read_gaps().get(table.name, ()), cold.skips, skips, ())
    adopt = WindowId(cold.uuid, window)
    return ColdReading(cold, None, adopt, str(error), skips=skips, skipped_rows=rows, given_up=given_up)


def _by_newest_row(tiers: Tiers, table: TableSpec, cold: ColdTable, newest: datetime, problem: str) -> ColdReading:
    adopt = window_to_adopt(tiers, table, cold, newest)
    cut_on, told, late = _so_far(tiers, table, cold, adopt)
    gaps = tiers.ledger.read_gaps().get(table.name, ())
    count = cache(partial(cold.rows_within, table.timestamp_column))  # it reads the lake
    if told is None:
        left_out, given_up = count_anew(gaps, adopt.window, count)
        return ColdReading(cold, None, adopt, problem, None, late, Skips(left_out), given_up=given_up)
    if cut_on == table.timestamp_column:
        skips = keep_left_out(told, adopt.window, count)
        dropped = subtract(intersect(told.left_out, adopt.window), skips.left_out)
        lost = [(each, each.rows - count(each)) for each in skips.filled]  # a part that was brought and rolled back
        given_up = tuple(GivenUp(each.low, each.high, rows) for each, rows in lost if rows > 0)
    else:  # its times mean nothing on the new one
        skips, dropped, given_up = Skips(), told.left_out, ()
    given_up = tuple(sorted((*given_up, *find_given_up(gaps, told, skips, dropped)), key=lambda each: each.low))
    old_column = cut_on if cut_on != table.timestamp_column else None
    return ColdReading(cold, None, adopt, problem, old_column, late, skips, given_up=given_up)


def _so_far(tiers: Tiers, table: TableSpec, cold: ColdTable, adopt: WindowId) -> tuple[str, Skips | None, int | None]:
    """The column that windows were cut on, what was skipped, and :attr:`ColdReading.late`: as far as history tells."""
    try:
        published, told = cold.published, cold.skips
    except DamagedTable:
        said = next((each.skips for each in cold.remembered if each.skips is not None), None)
        cut_on = next((each.cut_on for each in cold.remembered if each.cut_on is not None), None)
        return cut_on or table.timestamp_column, said, None
    cut_on = published.snapshot.cut_on if published is not None else None
    if cut_on is None:
        return table.timestamp_column, told, None
    if cut_on not in tiers.clickhouse.column_types(table):
        return cut_on, told, None
    watermark, below = watermark_of(published), adopt.window.high
    return cut_on, told, tiers.clickhouse.count_left_out(table, cut_on, watermark, told.left_out, below)


def window_to_adopt(tiers: Tiers, table: TableSpec, cold: ColdTable, newest: datetime) -> WindowId:
    """The window that the cold table holds by its newest row, as far as that can be.

    :raises DamagedTable: if the row is of the future
    """
    if newest > tiers.now() + table.future:
        raise DamagedTable(
            f"{table.name}: the newest row of the cold table is of {format_time(newest)}, which is in the future: "
            "a watermark there would stop the table until then. Nothing was changed. Take such rows out of the "
            "cold table first."
        ) from None
    return adopted(cold.uuid, newest)


def accept(tiers: Tiers, table: TableSpec, reading: ColdReading) -> None:
    """Let the ledger follow the cold table as it is; where there is none, make it, whatever its folder holds.

    :raises StaleWindow: if another writer committed to the cold table meanwhile; nothing has changed then
    """
    columns = tiers.clickhouse.columns(table) if reading.cold is None else ()
    with tiers.ledger.locked(table.name) as locked:
        if reading.cold is not None and reading.adopt is not None:
            reading.cold.publish_without_rows(
                reading.adopt, table.timestamp_column, reading.skipped_rows, reading.skips,
                ledger_id=locked.ledger_id, given_up=reading.given_up,
            )  # fmt: skip
        locked.forget_cold_table()
        if reading.cold is None:
            tiers.catalog.create(table, columns)
    commit(tiers, table, may_start_over=True)


def difference(table: str, reading: ColdReading, record: TableRecord | None) -> str | None:
    """What a person should look at, if anything: the cold table and the ledger do not say the same."""
    if reading.problem:
        return reading.problem
    if record is None or record.table_uuid is None:
        return None
    if reading.cold is None:
        return f"{table}: the cold table that the ledger has followed is not there. `k2 status {table}` says more."
    if reading.cold.uuid != record.table_uuid:
        return (
            f"{table}: the cold table was dropped and recreated since the ledger last looked. Nothing is lost yet. If "
            f"that was meant, run `k2 watermark rebuild {table}`."
        )
    try:
        refuse_another_ledger(table, reading.published, record.ledger_id, record.table_uuid, record.watermark)
    except DamagedTable as error:
        return str(error)
    if record.watermark != watermark_of(reading.published):
        return f"{table}: the ledger says another watermark. The next cycle sets it to what the cold table holds."
    return None


@dataclass(frozen=True)
class Skip:
    """What would be skipped if a table went on at a later time.

    :param cold: ``None`` if there is no such table yet
    :param columns: of its source
    :param watermark: where it would go on otherwise
    :param window: what is to count as moved though it is not; ``None`` if the watermark is there already
    :param rows: how many ClickHouse has in it
    """

    cold: ColdTable | None
    columns: tuple[Column, ...]
    watermark: datetime
    window: Window | None
    rows: int


def find_skip(tiers: Tiers, table: TableSpec, time: datetime) -> Skip:
    """What would happen if the watermark went forward to a time.

    :raises OffloadError: if that is not possible, or not safe, or the server that was asked lacks rows itself
    """
    if time < FIRST_WATERMARK:
        raise OffloadError(
            f"{table.name}: {format_time(time)} is before {format_time(FIRST_WATERMARK)}, where every table begins; no "
            "window holds earlier rows. Nothing was changed."
        )
    columns = tiers.clickhouse.columns(table)
    # How many rows are skipped is what a backfill is measured by later.
    check_replicas(tiers.clickhouse, table, f"k2 watermark set {table.name} {format_time(time)}")
    now = tiers.clickhouse.now()
    if time > now:
        raise OffloadError(
            f"{table.name}: {format_time(time)} is in the future; ClickHouse's clock says {format_time(now)}. "
            "Nothing was changed."
        )
    cold = tiers.catalog.load(table)
    record = tiers.ledger.read_tables().get(table.name)
    if record and record.table_uuid and record.table_uuid != (cold.uuid if cold else None):
        raise DamagedTable(
            f"{table.name}: the cold table that the ledger has followed was dropped. Nothing was changed. If that was "
            f"meant, run first `k2 watermark rebuild {table.name}`."
        )
    watermark = watermark_of(cold.published if cold else None)
    if cold is not None:
        check_cut(table.name, cold.published, table.timestamp_column)
    if cold is not None and time < watermark:
        raise OffloadError(_refusal_to_go_back(table, cold, watermark, time, now))
    window = Window(watermark, time) if watermark < time else None
    rows = tiers.clickhouse.count_within(table, window) if window else 0
    return Skip(cold, columns, watermark, window, rows)


def skip(tiers: Tiers, table: TableSpec, found: Skip) -> None:
    """Let the table go on at the end of what is to be skipped, if there is anything.

    :raises StaleWindow: if another writer has published, or committed, meanwhile; nothing has changed then
    """
    if found.window is None:
        return
    commit(tiers, table)  # what has been published already is to be recorded as that
    with tiers.ledger.locked(table.name) as locked:
        cold = found.cold or tiers.catalog.create(table, found.columns)
        refuse_to_start_over(tiers, table, locked.entry(), cold)
        window_id = WindowId(cold.uuid, found.window)
        decide_publish(table.name, window_id, table.timestamp_column, cold.uuid, cold.published)
        skips, ledger_id = cold.skips.skipping(found.window), locked.ledger_id
        cold.publish_without_rows(window_id, table.timestamp_column, found.rows, skips, ledger_id=ledger_id)
    commit(tiers, table)  # records what was skipped, as the next cycle would
    if found.watermark == FIRST_WATERMARK:
        with tiers.ledger.locked(table.name) as locked:
            locked.set_looked(first_contact(tiers.now(), table.warm_retention))


def _refusal_to_go_back(table: TableSpec, cold: ColdTable, watermark: datetime, time: datetime, now: datetime) -> str:
    message = (
        f"{table.name}: the cold table holds everything up to {format_time(watermark)}; from {format_time(time)} on, "
        "rows would be moved a second time. Nothing was changed. "
    )
    published = cold.published_until(time)
    if published is None:
        return message + "To take rows out and move them again, it would need a snapshot that ends there: none is left."
    end = published.window_id.window.high
    if unfilled := ", ".join(find_nulls(cold.columns, [Window(end, watermark)])):
        return message + (
            f"Its newest snapshot that ends there is of {format_time(end)}, and by now the cold table does not fill "
            f"{unfilled} any more (`k2 schema {table.name}`): rows that are moved again have NULL there, and the cold "
            "table's values may be the only ones. Going back would lose them."
        )
    if end < now - table.warm_retention:
        return message + (
            f"Its newest snapshot that ends there is of {format_time(end)}, and ClickHouse no longer has all rows from "
            f"then on: it keeps {table.warm_retention_text}. Going back would lose them."
        )
    return message + (
        f"What is safe as long as ClickHouse has all rows from {format_time(end)} on (it keeps "
        f"{table.warm_retention_text}): go back to the snapshot that ends there, with Spark: "
        f"{cold.rollback_statement(published.snapshot.snapshot_id)} - the next cycle follows by itself."
    )
