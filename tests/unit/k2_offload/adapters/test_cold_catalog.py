"""Cold tables through the real pyiceberg, with a catalog that lives in this process and files in a folder."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import requests.exceptions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyiceberg.exceptions import (
    ForbiddenError,
    NoSuchIcebergTableError,
    NoSuchTableError,
    OAuthError,
    ServerError,
    ServiceUnavailableError,
    TableAlreadyExistsError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pyiceberg.table import Table
from pyiceberg.transforms import (
    BucketTransform,
    DayTransform,
    HourTransform,
    IdentityTransform,
    MonthTransform,
    TruncateTransform,
    VoidTransform,
    YearTransform,
)
from sqlalchemy.exc import OperationalError

from k2_offload.adapters import cold_catalog
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.connections import CatalogSettings
from k2_offload.core.errors import (
    ChangedTable,
    DamagedTable,
    InvalidSource,
    OffloadError,
    Refused,
    StaleWindow,
    Unreachable,
    UnreadableTable,
)
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, WindowId, adopted, watermark_of
from k2_offload.core.schema_change import changed
from k2_offload.core.skips import GivenUp, Skips
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.type_mapping import map_column
from k2_offload.core.windows import Window

TABLE = parse_tables("tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at}}")[
    "trades"
]
COLUMNS = tuple(
    map_column("trades", name, kind)
    for name, kind in {"at": "DateTime64(6, 'UTC')", "id": "UInt64", "note": "Nullable(String)"}.items()
)
DAY = datetime(2026, 3, 4, tzinfo=UTC)
NOON = DAY.replace(hour=12)


def fill(lake, *times):
    """Rows that no window brought, as another writer would add them."""
    import pyarrow as pa

    table = lake.load_table("cold.trades")
    rows = [{"at": time, "id": number, "note": None} for number, time in enumerate(times)]
    table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))


def test_a_table_is_created_at_first_contact_and_found_afterwards(catalog):
    assert catalog.load(TABLE) is None
    created = catalog.create(TABLE, COLUMNS)
    found = catalog.create(TABLE, COLUMNS)  # by two processes at the same moment
    assert (found.uuid, found.partition_field, found.published) == (created.uuid, "at_day", None)
    assert found.total_rows == 0


@pytest.mark.parametrize("io", ["pyiceberg.io.pyarrow.PyArrowFileIO", "pyiceberg.io.fsspec.FsspecFileIO"])
def test_a_full_table_that_the_catalog_has_forgotten_is_found_in_the_folder_of_an_empty_one(catalog, lake, io):
    lake.properties["py-io-impl"] = io
    assert catalog.create(TABLE, COLUMNS).other_in_folder() is None
    lake.drop_table("cold.trades")  # it was empty: nobody misses it
    assert catalog.create(TABLE, COLUMNS).other_in_folder() is None
    fill(lake, NOON)
    fill(lake, NOON, NOON)
    full = lake.load_table("cold.trades")
    assert catalog.load(TABLE).other_in_folder() is None, "its own metadata files are of no other table"
    lake.drop_table("cold.trades")

    found = catalog.create(TABLE, COLUMNS).other_in_folder()
    assert (found.metadata_file, found.rows) == (full.metadata_location, 3)


@pytest.mark.parametrize("transport", list(TRANSPORTS))
def test_it_has_the_properties_that_its_transport_needs(catalog, lake, transport):
    catalog.create(replace(TABLE, transport=transport), COLUMNS)
    properties = lake.load_table("cold.trades").properties
    assert TRANSPORTS[transport].table_properties.items() <= properties.items()
    assert properties["write.wap.enabled"] == "true"
    assert '"names": ["note"]' in properties["schema.name-mapping.default"].replace('":["', '": ["')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda columns: columns[:2], "column 'note' is missing in the source and string in the cold table"),
        (
            lambda columns: (columns[0], map_column("trades", "id", "String"), columns[2]),
            r"column 'id' is string in the source and decimal\(20, 0\) in the cold table",
        ),
    ],
)
def test_a_source_with_other_columns_is_refused_by_the_first_that_differs(catalog, change, words):
    cold = catalog.create(TABLE, COLUMNS)
    with pytest.raises(InvalidSource, match=words):
        cold.check_source(TABLE, change(COLUMNS))


def test_columns_change_in_one_commit_with_what_is_remembered_of_them(catalog, lake):
    cold = catalog.create(TABLE, COLUMNS)
    source = (
        COLUMNS[0],
        map_column("trades", "id", "Nullable(UInt64)"),
        map_column("trades", "note", "String"),
        map_column("trades", "is.new", "Bool"),
    )
    changes = cold.check_source(TABLE, source)
    assert [str(change) for change in changes] == ["allow NULL in id", "add is.new (boolean)"]
    other = catalog.load(TABLE)
    columns = changed(cold.columns, changes, NOON)
    cold.change_columns(changes, columns)
    found = catalog.load(TABLE)
    assert found.columns == cold.columns == columns
    assert found.check_source(TABLE, source) == ()
    properties = lake.load_table("cold.trades").properties
    assert '"is.new"' in properties["schema.name-mapping.default"], "files without ids have the column, too"
    assert "write.parquet.page-version" not in properties, "Spark reads no boolean from such a page"
    with pytest.raises(StaleWindow, match="another writer changed the cold table's columns"):
        other.change_columns(changes, changed(other.columns, changes, NOON + timedelta(hours=1)))


def test_another_partition_column_is_refused_until_the_cold_table_has_it_too(catalog, lake):
    columns = (*COLUMNS, map_column("trades", "ingested_at", "DateTime64(6, 'UTC')"))
    catalog.create(TABLE, columns)
    with pytest.raises(ChangedTable, match=r"day of 'at', and the table file says day of 'ingested_at'.*REPLACE"):
        catalog.load(TABLE).check_source(replace(TABLE, partition_column="ingested_at"), columns)
    with lake.load_table("cold.trades").update_spec() as spec:
        spec.remove_field("at_day")
        spec.add_field("ingested_at", DayTransform(), "ingested_at_day")
    catalog.load(TABLE).check_source(replace(TABLE, partition_column="ingested_at"), columns)
    with pytest.raises(ChangedTable):
        catalog.load(TABLE).check_source(TABLE, columns)


def test_a_table_without_partitions_is_refused_and_not_a_stack_trace(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    with lake.load_table("cold.trades").update_spec() as spec:
        spec.remove_field("at_day")
    with pytest.raises(ChangedTable, match="partitioned by nothing"):
        catalog.load(TABLE).check_source(TABLE, COLUMNS)


def test_rows_that_no_window_brought_are_not_taken_for_moved(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    cold = catalog.load(TABLE)
    with pytest.raises(DamagedTable, match="1 rows that no offloaded window brought"):
        _ = cold.published
    assert cold.newest_row("at") == NOON


def test_an_adopted_window_is_the_newest_and_has_its_branch(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    cold = catalog.load(TABLE)
    window_id = adopted(cold.uuid, NOON)
    cold.publish_without_rows(window_id, "at", skipped_rows=3, ledger_id=None)
    again = catalog.load(TABLE)
    assert again.published.window_id == window_id
    assert again.published.snapshot.skipped_rows == 3
    assert PUBLISHED_BRANCH in lake.load_table("cold.trades").refs()
    assert again.published_until(NOON) is None
    assert again.published_until(window_id.window.high).window_id == window_id


def test_what_is_given_up_stands_in_its_snapshot(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    cold, given_up = catalog.load(TABLE), (GivenUp(DAY, NOON, 3), GivenUp(NOON, NOON + timedelta(hours=1), None))
    cold.publish_without_rows(adopted(cold.uuid, NOON), "at", given_up=given_up, ledger_id=None)
    assert catalog.load(TABLE).published.snapshot.given_up == given_up


def test_a_branch_remembers_what_the_chain_does_not(catalog, lake):
    """Another writer's rows lie between the last window and what is left of the chain."""
    cold, skips = catalog.create(TABLE, COLUMNS), Skips().skipping(Window(DAY, NOON))
    cold.publish_without_rows(WindowId(cold.uuid, Window(DAY, NOON)), "at", 3, skips, ledger_id=None)
    for _ in range(2):
        fill(lake, NOON)
    table = lake.load_table("cold.trades")
    table.maintenance.expire_snapshots().by_id(table.metadata.snapshots[1].snapshot_id).commit()
    cold = catalog.load(TABLE)
    with pytest.raises(DamagedTable, match="expired past its last offloaded window"):
        _ = cold.published
    assert [(each.skips, each.cut_on) for each in cold.remembered] == [(None, None), (skips, "at")]


def test_the_rows_of_a_range_are_counted(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, DAY, NOON, NOON)
    cold, tick = catalog.load(TABLE), timedelta(microseconds=1)
    assert cold.rows_within("at", Window(DAY + tick, NOON)) == 0
    assert cold.rows_within("at", Window(DAY + tick, NOON + tick)) == 2
    assert cold.rows_within("at", Window(DAY, DAY + tick)) == 1
    assert cold.rows_within("at", Window(DAY.replace(year=2000), DAY)) == 0


def test_adopting_refuses_a_table_to_which_another_writer_has_committed_meanwhile(catalog, lake):
    cold = catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    with pytest.raises(StaleWindow, match="another writer committed"):
        cold.publish_without_rows(WindowId(cold.uuid, Window(DAY, NOON)), "at", ledger_id=None)
    with pytest.raises(DamagedTable):
        watermark_of(catalog.load(TABLE).published)


def test_what_every_load_reads_is_known(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    before = catalog.load(TABLE)
    fill(lake, NOON)
    fill(lake, DAY)
    cold = catalog.load(TABLE)
    assert (len(before.chain), len(cold.chain)) == (0, 2)
    assert cold.metadata_bytes() == Path(cold.metadata_location.removeprefix("file://")).stat().st_size
    assert cold.metadata_bytes() > before.metadata_bytes()


def test_rows_are_counted_by_day_from_metadata(catalog, lake):
    catalog.create(TABLE, COLUMNS)
    fill(lake, DAY, NOON, NOON.replace(day=5))
    cold = catalog.load(TABLE)
    assert cold.rows_per_day("at", date(2026, 3, 1)) == {date(2026, 3, 4): 2, date(2026, 3, 5): 1}
    assert cold.rows_per_day("at", date(2026, 3, 5)) == {date(2026, 3, 5): 1}
    assert cold.rows_per_day("id", date(2026, 3, 1)) is None


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        ConnectionRefusedError("refused"),
        TimeoutError("timed out"),
        requests.exceptions.ReadTimeout("30 s"),
        ServiceUnavailableError("503"),
        TooManyRequestsError("429"),
        OperationalError("SELECT 1", {}, Exception("server closed the connection")),
        ServerError("S3Exception: Unable to execute HTTP request"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_service_that_is_away_is_so_for_all_tables(catalog, lake, monkeypatch, error):
    monkeypatch.setattr(lake, "load_table", raising(error))
    monkeypatch.setattr(lake, "create_table", raising(error))
    monkeypatch.setattr(lake, "list_namespaces", raising(error))
    for ask in (lambda: catalog.load(TABLE), lambda: catalog.create(TABLE, COLUMNS), catalog.ping):
        with pytest.raises(Unreachable, match="'lake'"):
            ask()


def test_a_catalog_whose_database_has_just_come_back_is_away(catalog, lake, monkeypatch):
    error = ServerError("UncheckedSQLException: Failed to get table cold.trades from catalog rest_backend")
    monkeypatch.setattr(lake, "load_table", raising(error))
    with pytest.raises(Unreachable):
        catalog.load(TABLE)


@pytest.mark.parametrize("error", [UnauthorizedError("who are you"), OAuthError("bad client")])
def test_a_catalog_that_lets_nobody_in_does_so_for_all_tables(catalog, lake, monkeypatch, error):
    monkeypatch.setattr(lake, "load_table", raising(error))
    with pytest.raises(Refused, match="'lake'"):
        catalog.load(TABLE)


@pytest.mark.parametrize(
    "error",
    [
        ForbiddenError("not yours"),
        NoSuchIcebergTableError("a table of Hive"),
        OSError("AWS Error ACCESS_DENIED during HeadObject operation"),
        OSError("AWS Error NO_SUCH_BUCKET during CreateMultipartUpload operation: (Request ID: 7W)"),
        ServerError("NotFoundException: Location does not exist: s3://lake/cold/trades/metadata/7.metadata.json"),
        ValueError("unknown format version 9"),
        KeyError("current-schema-id"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_wrong_with_one_table_alone_is_told_of_that_table(catalog, lake, monkeypatch, error):
    monkeypatch.setattr(lake, "load_table", raising(error))
    monkeypatch.setattr(lake, "create_table", raising(error))
    for ask in (lambda: catalog.load(TABLE), lambda: catalog.create(TABLE, COLUMNS)):
        with pytest.raises(UnreadableTable, match=f"^trades: .*'lake'.*{type(error).__name__}.*other tables go on"):
            ask()
    catalog.ping()


def test_an_error_of_the_catalogs_own_counts_for_all_tables_if_the_catalog_answers_nothing_else(
    catalog, lake, monkeypatch
):
    monkeypatch.setattr(lake, "load_table", raising(ServerError("NullPointerException: null")))
    monkeypatch.setattr(lake, "list_namespaces", raising(ServerError("NullPointerException: null")))
    with pytest.raises(Unreachable):
        catalog.load(TABLE)


def test_a_name_that_is_taken_by_something_else_is_no_endless_loop(catalog, lake, monkeypatch):
    monkeypatch.setattr(lake, "create_table", raising(TableAlreadyExistsError("a view")))
    with pytest.raises(UnreadableTable, match="a view"):
        catalog.create(TABLE, COLUMNS)


def metadata_file(lake):
    return Path(lake.load_table("cold.trades").metadata_location.removeprefix("file://"))


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_text("{"), lambda file: file.write_text("{}")])
def test_a_metadata_file_that_is_missing_or_none_is_told_of_its_table(catalog, lake, damage):
    catalog.create(TABLE, COLUMNS)
    damage(metadata_file(lake))
    with pytest.raises(UnreadableTable, match=r"^trades: .*`k2 validate`"):
        catalog.load(TABLE)


transforms = st.sampled_from(
    [
        DayTransform(),
        HourTransform(),
        MonthTransform(),
        YearTransform(),
        IdentityTransform(),
        VoidTransform(),
        BucketTransform(4),
        TruncateTransform(3),
    ]
)
names = st.sampled_from(["at", "id", "note", "other"])
odd_values = st.none() | st.integers(-3, 3) | st.just("") | st.just("odd") | st.lists(st.integers(), max_size=2)
ODD_KEYS = [
    ("current-snapshot-id",),
    ("refs",),
    ("partition-specs",),
    ("default-spec-id",),
    ("schemas",),
    ("current-schema-id",),
    ("snapshots",),
    ("snapshots", 0, "summary"),
    ("snapshots", 0, "summary", "total-records"),
    ("snapshots", 0, "summary", "added-records"),
    ("snapshots", 0, "parent-snapshot-id"),
    ("snapshots", 0, "manifest-list"),
    ("schemas", 0, "fields", 0, "type"),
    ("partition-specs", 0, "fields"),
    ("partition-specs", 0, "fields", 0, "transform"),
    ("partition-specs", 0, "fields", 0, "source-id"),
    ("table-uuid",),
]


def look_at_everything(catalog):
    """All that anybody asks a cold table; whatever is odd about it must come as a sentence."""
    for ask in (
        lambda cold: cold.check_source(TABLE, COLUMNS),
        lambda cold: cold.published,
        lambda cold: cold.published_until(NOON),
        lambda cold: cold.partition_field,
        lambda cold: cold.total_rows,
        lambda cold: cold.rows_per_day("at", date(2026, 3, 1)),
        lambda cold: cold.newest_row("at"),
    ):
        with suppress(OffloadError):
            if cold := catalog.load(TABLE):
                ask(cold)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.lists(st.tuples(names, transforms), max_size=3), dropped=st.none() | names)
def test_a_cold_table_of_any_partitions_is_moved_or_refused_with_a_sentence(catalog, lake, fields, dropped):
    columns = (*COLUMNS, map_column("trades", "other", "DateTime64(6, 'UTC')"))
    with suppress(NoSuchTableError):
        lake.drop_table("cold.trades")
    catalog.create(TABLE, columns)
    with suppress(Exception), lake.load_table("cold.trades").update_spec() as spec:  # pyiceberg refuses some of them
        spec.remove_field("at_day")
        for number, (name, transform) in enumerate(fields):
            spec.add_field(name, transform, f"field_{number}")
    with suppress(Exception), lake.load_table("cold.trades").update_schema(allow_incompatible_changes=True) as schema:
        schema.delete_column(dropped)
    look_at_everything(catalog)
    made = lake.load_table("cold.trades")
    found = [(made.schema().find_column_name(field.source_id), str(field.transform)) for field in made.spec().fields]
    if found != [("at", "day")]:
        with pytest.raises(OffloadError):
            catalog.load(TABLE).check_source(TABLE, columns)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(ODD_KEYS), value=odd_values)
def test_metadata_with_any_odd_value_is_read_or_refused_with_a_sentence(catalog, lake, key, value):
    with suppress(NoSuchTableError):
        lake.drop_table("cold.trades")
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    file = metadata_file(lake)
    document = json.loads(file.read_text())
    inner = document
    for part in key[:-1]:
        inner = inner[part]
    inner[key[-1]] = value
    file.write_text(json.dumps(document))
    look_at_everything(catalog)


def test_waiting_for_a_catalog_in_postgres_has_limits():
    connected = {}

    def connect(_, **properties):
        connected.update(properties)
        raise OSError("far away")

    settings = CatalogSettings("lake", "test", {"type": "sql", "uri": "postgresql+psycopg://u:p@h:1/d"}, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyiceberg.catalog.load_catalog", connect)
        with pytest.raises(Unreachable, match="far away"):
            cold_catalog.ColdCatalog(settings).ping()
    assert connected["uri"].startswith("postgresql+psycopg://u:p@h:1/d?connect_timeout=10&")
    assert "tcp_user_timeout=60000" in connected["uri"]


def test_tags_are_changed_together_or_not_at_all(catalog, lake, monkeypatch):
    catalog.create(TABLE, COLUMNS)
    fill(lake, NOON)
    head = lake.load_table("cold.trades").current_snapshot().snapshot_id
    tags, manage = catalog.tags(TABLE), Table.manage_snapshots

    def meanwhile(act):
        def manage_late(table):
            monkeypatch.setattr(Table, "manage_snapshots", manage)
            act()
            return manage(table)

        monkeypatch.setattr(Table, "manage_snapshots", manage_late)

    meanwhile(lambda: tags.hold({"b": head}))
    with pytest.raises(StaleWindow, match="No tag was changed"):
        tags.hold({"a": head, "b": head})
    assert tags.names() == ["b"]
    tags.hold({"a": head, "b": head})
    assert tags.names() == ["a", "b"]
    meanwhile(lambda: tags.release(["b"]))
    with pytest.raises(StaleWindow, match="No tag was changed"):
        tags.release(["a", "b"])
    assert tags.names() == ["a"]
    tags.release(["a", "b"])
    assert tags.names() == []
