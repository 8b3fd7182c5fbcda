"""One cycle on the real stack: what moves, what does not, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from clickhouse_driver import Client

from k2_offload.adapters.clickhouse_connection import ALL_OR_AN_ERROR
from k2_offload.core.errors import InvalidSource, OffloadError, Unreachable, UnsupportedType
from k2_offload.core.exactly_once import FIRST_WATERMARK, Published, watermark_of
from k2_offload.core.queries import expiry_of, first_expiry
from k2_offload.core.windows import to_micros
from tests.support.ledger import change_ledger

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_a_second_cycle_moves_only_what_is_new(workbench, transport):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table, transport=transport), now=LATER)
    workbench.insert_trades(table, NOON, 1000)
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    files = len(workbench.cold_table(table).inspect.files())
    snapshots = len(workbench.cold_table(table).metadata.snapshots)

    workbench.insert_trades(table, NOON + timedelta(hours=11, minutes=50), 1000)  # across midnight: two partitions
    output = workbench.move(cycle, table)
    assert "published 1000 rows" in output
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert len(workbench.cold_table(table).metadata.snapshots) == snapshots + 1
    assert len(workbench.cold_table(table).inspect.files()) == files + 2
    assert workbench.move(cycle, table) is None


def test_every_setting_that_makes_an_answer_smaller_in_silence_is_fixed(workbench):
    """So that a new one of ClickHouse's is seen."""
    cut_off = workbench.sql(
        "SELECT name FROM system.settings WHERE name LIKE '%overflow_mode%' OR name IN ('limit', 'offset')"
    )
    known = {"group_by_overflow_mode_for_any"}
    assert {name for (name,) in cut_off} - known <= ALL_OR_AN_ERROR.keys()


def under_profile(workbench, monkeypatch, table, profile):
    """Both tiers for a user with a profile: first without this project's own settings, and then with them."""
    made = Client.__init__
    fixed = False

    def making(self, *arguments, settings=None, **options):
        made(self, *arguments, settings={**profile, **((settings or {}) if fixed else {})}, **options)

    monkeypatch.setattr(Client, "__init__", making)
    for fixed in (False, True):
        yield fixed, workbench.cycle(workbench.spec(table), now=LATER).tiers


@pytest.mark.parametrize(
    "settings",
    [
        {"max_rows_in_join": 1000, "join_overflow_mode": "break"},
        {"max_rows_in_set": 1000, "set_overflow_mode": "break"},
        {"additional_table_filters": "{'k2.TABLE': 'sequence < 3'}"},
        {"apply_deleted_mask": 0},
    ],
    ids=lambda settings: list(settings)[-1],
)
def test_no_profile_changes_an_answer(workbench, monkeypatch, settings):
    """It is whole, or an error."""
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 200_000, step_micros=1000)
    workbench.sql(f"DELETE FROM {table} WHERE sequence = 50")
    workbench.sql(
        f"CREATE VIEW {table}_view AS SELECT l.* FROM {table} AS l JOIN {table} AS r ON l.sequence = r.sequence "
        f"WHERE l.sequence IN (SELECT sequence FROM {table})"
    )
    profile = {name: str(value).replace("TABLE", table) for name, value in settings.items()}
    for fixed, tiers in under_profile(workbench, monkeypatch, table, profile):
        try:
            [(rows,)] = tiers.clickhouse.execute(f"SELECT count() FROM k2.{table}_view")
        except OffloadError as error:
            assert fixed
            assert "exceeded" in str(error)  # noqa: PT017
        else:
            assert (rows == 199_999) is fixed, rows


def test_no_profile_shows_rows_as_they_were_before_an_update(workbench, monkeypatch):
    table = f"{workbench.name}_versions"
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), sequence UInt64, symbol String) "
        "ENGINE = MergeTree ORDER BY at "
        "SETTINGS enable_block_number_column = 1, enable_block_offset_column = 1"
    )
    for sequence in (1, 2):
        workbench.sql(f"INSERT INTO {table} VALUES ('2026-03-02 12:00:00', {sequence}, 'old')")
    workbench.sql(f"UPDATE {table} SET symbol = 'new' WHERE 1 SETTINGS allow_experimental_lightweight_update = 1")
    for fixed, tiers in under_profile(workbench, monkeypatch, table, {"apply_patch_parts": 0}):
        rows = tiers.clickhouse.execute(f"SELECT sequence, symbol FROM k2.{table} ORDER BY sequence")
        assert (rows == [(1, "new"), (2, "new")]) is fixed, rows


def test_no_profile_moves_the_midnight_of_a_ttl(workbench, monkeypatch):
    table = f"{workbench.name}_expiring"
    workbench.sql(
        f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), sequence UInt64, symbol String) "
        "ENGINE = MergeTree ORDER BY at TTL toDate(at) + INTERVAL 30 DAY"
    )
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    workbench.sql(f"INSERT INTO {table} VALUES", [(noon, 1, "")])
    midnight = to_micros(noon.replace(hour=0) + timedelta(days=30))
    for _, tiers in under_profile(workbench, monkeypatch, table, {"session_timezone": "America/Los_Angeles"}):
        spec = tiers.tables.by_name[table]
        for ask in (expiry_of, first_expiry):
            asked = ask(spec, tiers.clickhouse.storage(spec), to_micros(noon))
            assert tiers.clickhouse.execute(asked) == [(midnight,)]
            assert tiers.clickhouse.execute(asked.partition(" SETTINGS ")[0]) != [(midnight,)], "by the profile's zone"


def test_no_profile_makes_an_answer_to_jdbc_smaller(workbench):
    table = workbench.create_trades()
    fixed = ", ".join(f"'{name}'" for name in ALL_OR_AN_ERROR)
    workbench.sql(
        f"CREATE VIEW {table}_view AS SELECT at, sequence, symbol, price, (SELECT toString(countIf(changed)) "
        f"FROM system.settings WHERE name IN ({fixed})) AS note FROM {table}"
    )
    workbench.insert_trades(table, NOON, 2)
    spec = workbench.spec(table, source=f"k2.{table}_view", transport="jdbc")
    workbench.move(workbench.cycle(spec, now=LATER), table)
    assert {row[4] for row in workbench.cold_rows(table)} == {str(len(ALL_OR_AN_ERROR))}


@pytest.mark.parametrize("name", ["write.wap.enabled", "commit.retry.num-retries"])
def test_jdbc_refuses_an_unsafe_table(workbench, name):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table, transport="jdbc"), now=LATER)
    workbench.insert_trades(table, NOON, 10)
    planned = cycle.plan(cycle.tables[table])
    with workbench.cold_catalog.load_table(f"cold.{table}").transaction() as transaction:
        transaction.remove_properties(name)
    done, output = workbench.try_to_publish(planned)
    assert not done
    assert f"'{name}' is not" in output
    assert f"ALTER TABLE cold.{table} SET TBLPROPERTIES" in output
    assert not workbench.cold_rows(table)


def test_prices_are_kept_to_the_last_digit(workbench):
    table = workbench.create_trades()
    price = Decimal("12345678901234567890.123456789012345678")
    workbench.sql(f"INSERT INTO {table} VALUES", [(NOON, 2**64 - 1, "BTC/USDT", price, "ü'\\n")])
    workbench.move(workbench.cycle(workbench.spec(table), now=LATER), table)
    assert list(workbench.cold_rows(table)) == [(NOON, Decimal(2**64 - 1), "BTC/USDT", price, "ü'\\n")]


def test_rows_younger_than_the_buffer_wait(workbench):
    table = workbench.create_trades()
    now = NOON + timedelta(minutes=10)
    cycle = workbench.cycle(workbench.spec(table, sequence_column=None), now=now)
    workbench.insert_trades(table, NOON, 600)
    workbench.move(cycle, table)
    edge = now - timedelta(minutes=5)
    assert workbench.cold_rows(table) == workbench.warm_rows(table, until=edge)
    assert watermark_of(cycle.catalog.load(cycle.tables[table]).published) == edge


def test_an_empty_source_starts_no_spark(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    assert cycle.plan(cycle.tables[table]) is None
    assert cycle.commit(cycle.tables[table]) == FIRST_WATERMARK


def test_a_source_with_nothing_new_starts_no_spark_and_leaves_the_cold_table_alone(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 600)
    workbench.move(workbench.cycle(workbench.spec(table), now=LATER), table)
    before = workbench.cold_table(table).metadata
    # New rows, but younger than the buffer: there is something, and nothing to move.
    workbench.insert_trades(table, LATER - timedelta(minutes=2), 60)
    cycle = workbench.cycle(workbench.spec(table, idle_after_seconds=0), now=LATER)
    watermark = watermark_of(cycle.catalog.load(cycle.tables[table]).published)
    assert cycle.plan(cycle.tables[table]) is None
    assert cycle.commit(cycle.tables[table]) == watermark
    assert workbench.cold_table(table).metadata == before


@pytest.mark.parametrize(
    ("max_window_rows", "windows"),
    [
        pytest.param(4000, [3600, 7200, 10800], id="an hour is enough"),
        pytest.param(2000, [1980, 3600, 5580, 7200, 9180, 10800], id="an hour has too many, so at minutes"),
    ],
)
def test_long_backlogs_are_cut_at_whole_hours(workbench, max_window_rows, windows):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table, max_window_rows=max_window_rows), now=LATER)
    workbench.insert_trades(table, NOON, 3 * 3600)
    moved = []
    while workbench.move(cycle, table) is not None:
        moved.append(sum(workbench.cold_rows(table).values()))
    assert moved == windows
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_silver_waits_for_every_bronze_table(workbench):
    fast, slow, silver = (workbench.create_trades(suffix) for suffix in ("fast", "slow", "silver"))
    now = NOON + timedelta(minutes=40)
    specs = [
        workbench.spec(fast),
        workbench.spec(slow),
        workbench.spec(silver, layer="silver", upstream=f"[{fast}, {slow}]"),
    ]
    cycle = workbench.cycle(*specs, now=now)
    workbench.insert_trades(fast, NOON, 2000)
    workbench.insert_trades(slow, NOON, 1200)  # stalled 20 minutes ago: not idle, its backlog may still come
    workbench.insert_trades(silver, NOON, 2000)
    workbench.move(cycle, fast, slow)
    fresh = workbench.cycle(*specs, now=now)
    workbench.move(fresh, silver)
    watermarks = {name: watermark_of(fresh.catalog.load(fresh.tables[name]).published) for name in (fast, slow, silver)}
    assert watermarks[silver] == watermarks[slow] < watermarks[fast]


def test_one_failing_table_does_not_stop_the_others_of_its_job(workbench):
    good, bad = workbench.create_trades("good"), workbench.create_trades("bad")
    cycle = workbench.cycle(workbench.spec(good), workbench.spec(bad), now=LATER)
    workbench.insert_trades(good, NOON, 10)
    workbench.insert_trades(bad, NOON, 10)
    planned = [cycle.plan(cycle.tables[name]) for name in (bad, good)]
    workbench.sql(f"RENAME TABLE {bad} TO {bad}_gone")
    done, output = workbench.try_to_publish(*planned)
    assert not done
    assert "ERROR" in output
    assert workbench.cold_rows(good) == workbench.warm_rows(good)
    assert not workbench.cold_rows(bad)

    workbench.sql(f"RENAME TABLE {bad}_gone TO {bad}")
    assert "already published" in workbench.publish(*planned)
    assert workbench.cold_rows(good) == workbench.warm_rows(good)
    assert workbench.cold_rows(bad) == workbench.warm_rows(bad)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"source": "k2.nowhere"}, InvalidSource, "ClickHouse has no table k2.nowhere"),
        ({"timestamp_column": "when"}, InvalidSource, "has no column 'when'; it has: at, sequence"),
        ({"sequence_column": "number"}, InvalidSource, "has no column 'number'"),
        ({"sort_columns": "[nothing]"}, InvalidSource, "has no column 'nothing'"),
        ({"timestamp_column": "sequence"}, InvalidSource, "is UInt64, not a time"),
    ],
)
def test_a_table_that_cannot_be_moved_says_why(workbench, changes, error, message):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 10)
    cycle = workbench.cycle(workbench.spec(table, **changes), now=LATER)
    with pytest.raises(error) as refusal:
        cycle.plan(cycle.tables[table])
    assert message in str(refusal.value)
    assert "Nothing was moved" in str(refusal.value)


def test_an_unmappable_column_is_named(workbench):
    table = workbench.create_trades(extra=", tags Array(String)")
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    with pytest.raises(UnsupportedType, match=r"column 'tags' is Array\(String\)"):
        cycle.plan(cycle.tables[table])


def test_a_null_timestamp_is_refused_rather_than_lost(workbench):
    table = f"{workbench.name}_nulls"
    workbench.sql(f"CREATE TABLE {table} (at Nullable(DateTime64(6, 'UTC')), x Int32) ENGINE = MergeTree ORDER BY x")
    workbench.sql(f"INSERT INTO {table} VALUES", [(NOON, 1), (None, 2)])
    spec = workbench.spec(table, sequence_column=None, sort_columns=None)
    cycle = workbench.cycle(spec, now=LATER)
    with pytest.raises(InvalidSource, match=r"1 rows of .* have NULL in 'at'"):
        cycle.plan(cycle.tables[table])
    workbench.sql(f"ALTER TABLE {table} DELETE WHERE at IS NULL SETTINGS mutations_sync = 2")
    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


@pytest.mark.parametrize(
    ("setting", "connection", "service"),
    [
        ("clickhouse_conn_id", '{"conn_type": "clickhouse", "host": "127.0.0.1", "port": 1}', "ClickHouse"),
        ("ledger_conn_id", "postgres://u:p@127.0.0.1:1/airflow", "Postgres"),
        (
            "catalog_conn_id",
            '{"conn_type": "iceberg", "host": "127.0.0.1", "port": 1, "schema": "x", "login": "u",'
            ' "password": "sesame!",'
            ' "extra": {"catalog_type": "sql", "warehouse": "file:///tmp/x"}}',
            "catalog",
        ),
    ],
)
def test_a_service_that_is_down_is_named_with_its_connection(workbench, monkeypatch, setting, connection, service):
    table = workbench.create_trades()
    # The stack's own connections stand in a file that takes precedence over the environment: point elsewhere.
    monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{setting.upper()}", "elsewhere")
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", connection)
    with pytest.raises(Unreachable) as failure:
        plan_one(workbench, table)
    assert service in str(failure.value)
    assert "'elsewhere'" in str(failure.value)
    assert "sesame!" not in str(failure.value)


def plan_one(workbench, table):
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    return cycle.plan(cycle.tables[table])


def test_the_same_plan_run_twice_at_once_is_published_once(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.insert_trades(table, NOON, 5000)
    planned = cycle.plan(cycle.tables[table])
    jobs = [workbench.start_job(planned) for _ in range(2)]
    outputs = [job.communicate(timeout=180)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert "already published" in workbench.publish(planned)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_window_planned_before_another_took_its_place_is_refused(workbench):
    table = workbench.create_trades()
    early = workbench.cycle(workbench.spec(table), now=NOON + timedelta(minutes=20))
    workbench.insert_trades(table, NOON, 3600)
    zombie = early.plan(early.tables[table])
    with early.ledger.locked(table) as locked:
        locked.abandon(locked.entry().open_window)
    workbench.move(workbench.cycle(workbench.spec(table), now=LATER), table)
    done, output = workbench.try_to_publish(zombie)
    assert not done
    assert "no row is lost" in output
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_commit_whose_task_died_is_caught_up_by_the_next_plan(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    planned = cycle.plan(cycle.tables[table])
    workbench.publish(planned)
    assert cycle.plan(cycle.tables[table]) is None
    record = cycle.ledger.read_tables()[table]
    assert (record.status, record.rows, record.state) == ("success", 100, "committed")


def test_a_retry_resumes_the_same_window_whatever_the_clock_says(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 3600)
    early = workbench.cycle(workbench.spec(table), now=NOON + timedelta(minutes=20))
    late = workbench.cycle(workbench.spec(table), now=LATER)
    assert early.plan(early.tables[table]).window_id == late.plan(late.tables[table]).window_id


def test_a_ledger_that_was_lost_is_rebuilt_from_the_cold_table(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    published: Published = cycle.catalog.load(cycle.tables[table]).published
    for part in ("offload_windows", "offload_watermarks"):
        change_ledger(workbench.stack.ledger_dsn, f"DELETE FROM k2_offload.{part}", table)
    assert cycle.plan(cycle.tables[table]) is None
    assert cycle.ledger.read_tables()[table].watermark == watermark_of(published)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def test_a_cold_table_that_was_dropped_stops_its_table_alone(workbench):
    table = workbench.create_trades()
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.insert_trades(table, NOON, 100)
    workbench.move(cycle, table)
    workbench.cold_catalog.drop_table(f"cold.{table}")
    with pytest.raises(OffloadError, match=f"is not there.*k2 watermark rebuild {table}"):
        cycle.plan(cycle.tables[table])
