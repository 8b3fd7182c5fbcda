"""One view over both tiers: each row once, whatever goes on beside it, or an error; on the real stack."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

import pytest
from clickhouse_driver.errors import ServerException

from k2_offload.core.adoption import ADOPTED_PROPERTY
from k2_offload.core.errors import OffloadError
from k2_offload.core.lake import iceberg_table
from k2_offload.core.view_queries import create_view
from k2_offload.work.backfill import find_left_out, plan_backfills
from k2_offload.work.combined_view import apply_view, plan_view, renew_views
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.reconcile import plan_heal, reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.watermarks import find_skip, skip
from tests.support.pages import DOCS
from tests.support.readers import connect_duckdb

ZONES = ("UTC", "America/New_York", "Asia/Kolkata")


class Viewed:
    """A table of three days and the beginning of a fourth; all are cold, the three are sealed.

    :ivar today: midnight of the last
    """

    keys: ClassVar = {}

    def __init__(self, workbench, extra=""):
        self.workbench = workbench
        self.today = datetime.combine((datetime.now(UTC) - timedelta(hours=1)).date(), time(), UTC)
        self.table = workbench.create_trades(extra=extra)
        self.fill()
        self.view = f"{self.table}_all"
        self.cycle = workbench.cycle(workbench.spec(self.table, view=f"k2.{self.view}", **self.keys))
        self.spec = self.cycle.tables[self.table]
        self.tiers = self.cycle.tiers
        self.move()
        self.reconcile()
        self.renew()

    def fill(self):
        self.workbench.insert_trades(self.table, self.today - timedelta(days=3), 260, step_micros=1_000_000_000)
        self.insert(timedelta(minutes=40), 1000)

    def insert(self, after, start_sequence, count=20):
        """From so long after today's midnight on."""
        self.workbench.insert_trades(self.table, self.today + after, count, start_sequence=start_sequence)

    def move(self):
        self.workbench.move(self.cycle, self.table)

    def reconcile(self):
        list(reconcile(self.tiers, [self.spec]))
        assert seal_days(self.tiers, [self.spec]).problems == []

    def heal(self, day):
        days = count_days(self.tiers, self.spec)
        self.workbench.publish(plan_heal(days, compare_day(self.tiers, days, day), ledger_id=None))

    def renew(self):
        assert renew_views(self.tiers, [self.spec]) == []

    @property
    def boundary(self):
        return plan_view(self.tiers, self.spec).before.boundary

    @property
    def cold(self):
        return self.workbench.cold_catalog.load_table(f"cold.{self.table}")

    def ask(self, sql, **settings):
        with self.workbench.stack.clickhouse_client(settings=settings) as client:
            return client.execute(sql.format(view=self.view, source=self.table))

    def look_through(self, expressions):
        """Let the source be another view of the table, and make the view anew."""
        self.ask(f"CREATE OR REPLACE VIEW {{source}}_source AS SELECT * REPLACE ({expressions}) FROM {{source}}")
        self.spec = replace(self.spec, source=f"k2.{self.table}_source")
        self.renew()

    def put(self, **changes):
        """Make the view anew with another state than the right one."""
        days = count_days(self.tiers, self.spec)
        state = replace(plan_view(self.tiers, self.spec, by_person=True).state, **changes)
        reader = iceberg_table(days.cold_table.location, state.metadata_file, self.tiers.lake_collection)
        self.ask(create_view(self.spec, days.columns, (), state, reader).replace("{", "{{").replace("}", "}}"))


@pytest.fixture
def viewed(workbench):
    made = Viewed(workbench)
    assert made.boundary == made.today
    return made


QUESTIONS = (
    "SELECT count(), sum(price), uniqExact(sequence), min(at), max(at), count(note) FROM {0}",
    "SELECT toDate(at, 'Asia/Tokyo') AS day, symbol, count(), sum(price) FROM {0} GROUP BY day, symbol ORDER BY ALL",
    "SELECT toStartOfHour(at) AS hour, max(price) FROM {0} WHERE note IS NULL GROUP BY hour ORDER BY hour",
    "SELECT a.sequence, b.price FROM {0} AS a JOIN {0} AS b ON a.at = b.at AND a.symbol != b.symbol ORDER BY ALL",
    "SELECT symbol, count() FROM {0} WHERE toDate(at) = '{1:%Y-%m-%d}' GROUP BY symbol ORDER BY symbol",
    "SELECT count(), sum(sequence) FROM {0} WHERE at >= toDateTime('{1:%Y-%m-%d} 20:00:00')",
    "SELECT count(), sum(sequence) FROM {0} WHERE at < toDateTime('{1:%Y-%m-%d} 03:00:00')",
    "SELECT * FROM {0} WHERE at BETWEEN toDateTime('{1:%Y-%m-%d} 20:00:00') AND toDateTime('{1:%Y-%m-%d} 23:59:59') "
    "ORDER BY ALL",
    "SELECT sequence FROM {0} WHERE symbol = 'ETH/EUR' AND at > '{1:%Y-%m-%d} 22:10:00' ORDER BY sequence LIMIT 7",
)


def test_every_question_has_the_answer_of_the_source(viewed):
    day = viewed.today - timedelta(days=2)
    for zone in ZONES:
        for question in QUESTIONS:
            shown, held = (
                viewed.ask(question.format(name, day), session_timezone=zone) for name in (viewed.view, viewed.table)
            )
            assert shown == held, (zone, question)
            assert shown, (zone, question)


def test_rows_that_the_ttl_takes_stay_in_the_view(viewed):
    before = viewed.ask("SELECT * FROM {view} ORDER BY ALL")
    first = viewed.today - timedelta(days=2)
    viewed.ask(f"ALTER TABLE {{source}} DELETE WHERE at < '{first:%Y-%m-%d}' SETTINGS mutations_sync = 2")
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before


@pytest.mark.parametrize("at", [None, "at::DateTime64(3, 'UTC')", "toDateTime(at, 'UTC')"])
def test_both_sides_are_pruned(viewed, at):
    if at is not None:
        viewed.look_through(f"{at} AS at")

    def cost(condition):
        events = (f"sumIf(value, event = '{name}')" for name in ("EngineFileLikeReadFiles", "SelectedParts"))
        read = f"SELECT {', '.join(events)} FROM system.events"
        [before] = viewed.ask(read)
        rows = viewed.ask(f"SELECT count(), sum(price) FROM {{view}} WHERE {condition}")
        [after] = viewed.ask(read)
        return rows[0][0] > 0, *(new - old for new, old in zip(after, before, strict=True))

    old_day = viewed.today - timedelta(days=2)
    for zone in ("UTC", "Asia/Kolkata"):
        last_hour = f"at >= toDateTime64('{viewed.today:%Y-%m-%d}', 6, 'UTC')"
        assert cost(f"{last_hour} SETTINGS session_timezone = '{zone}'") == (True, 0, 1), "no Iceberg file"
        one_day = f"toDate(at) = '{old_day:%Y-%m-%d}'"
        assert cost(f"{one_day} SETTINGS session_timezone = '{zone}'") == (True, 1, 0), "one file, no part"
    folder = Path(unquote(urlparse(viewed.cold.location()).path)) / "data"
    folder.rename(folder.with_name("away"))
    assert viewed.ask(f"SELECT count() FROM {{view}} WHERE at >= '{viewed.today:%Y-%m-%d}'") == [(20,)]
    with pytest.raises(ServerException):
        viewed.ask("SELECT sum(price) FROM {view}")


def test_each_row_is_there_once_while_all_goes_on(viewed):
    wrong, looked, done = [], [0], threading.Event()

    def look():
        count = "SELECT count() FROM {source}"
        while not done.wait(0.3):
            [(least,)] = viewed.ask(count)
            [(rows, different)] = viewed.ask("SELECT count(), uniqExact(sequence) FROM {view}")
            [(most,)] = viewed.ask(count)
            looked[0] += 1
            if rows != different or not least - 3 <= rows <= most:  # three late rows may wait for the next comparison
                wrong.append((least, rows, different, most))

    def missing():
        [(rows,)] = viewed.ask("SELECT (SELECT count() FROM {source}) - count() FROM {view}")
        return rows

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        viewed.insert(timedelta(minutes=44), 2000)
        viewed.move()
        assert missing() == 0
        late = viewed.today - timedelta(hours=30)
        viewed.insert(timedelta(hours=-30), 3000, count=3)
        assert missing() == 3
        viewed.renew()
        assert (missing(), viewed.boundary.date()) == (0, late.date())
        viewed.heal(late.date())
        assert missing() == 0
        viewed.reconcile()
        viewed.renew()
        assert (missing(), viewed.boundary) == (0, viewed.today)
        tidied = viewed.workbench.maintain(viewed.cycle, viewed.table, expire_before=datetime(2100, 1, 1, tzinfo=UTC))
        assert tidied.problems == ()
        viewed.workbench.compact(viewed.table)
        assert missing() == 0, "made before the rewrite and the expiry"
        viewed.renew()
        assert missing() == 0
    finally:
        done.set()
        watcher.join()
    assert wrong == []
    assert looked[0] > 5


def test_rows_that_the_cold_table_loses_stay_in_it(viewed):
    before = viewed.ask("SELECT * FROM {view} ORDER BY ALL")
    first = viewed.today - timedelta(days=3)
    viewed.cold.delete(f"at < '{first + timedelta(hours=9):%Y-%m-%dT%H:%M:%S}+00:00'")
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before
    viewed.renew()
    assert viewed.boundary == first, "as ClickHouse still holds the day"
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before
    viewed.ask(f"ALTER TABLE {{source}} DELETE WHERE at < '{first:%Y-%m-%d} 01:00:00' SETTINGS mutations_sync = 2")
    [problem] = renew_views(viewed.tiers, [viewed.spec])
    assert "neither tier has all of its rows" in problem


def test_a_rollback_takes_no_row_out_of_it(viewed):
    viewed.insert(timedelta(minutes=44), 2000)
    viewed.move()
    viewed.renew()
    before = viewed.ask("SELECT * FROM {view} ORDER BY ALL")
    first = viewed.cold.metadata.snapshots[0].snapshot_id
    viewed.cold.manage_snapshots().rollback_to_snapshot(first).commit()
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before
    viewed.move()
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before
    viewed.renew()
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before


def test_a_table_made_anew_is_not_followed_without_a_person(viewed):
    before = viewed.ask("SELECT * FROM {view} ORDER BY ALL")
    viewed.workbench.cold_catalog.drop_table(f"cold.{viewed.table}")
    viewed.cycle.catalog.create(viewed.spec, viewed.cycle.clickhouse.columns(viewed.spec))
    [problem] = renew_views(viewed.tiers, [viewed.spec])
    assert "nothing of it is in the cold table" in problem
    assert viewed.ask("SELECT * FROM {view} ORDER BY ALL") == before


def test_it_fails_where_it_would_show_less(viewed):
    nothing = "SELECT count() FROM {view} WHERE at > '2100-01-01'"
    assert viewed.ask(nothing) == [(0,)]
    viewed.put(valid_until=datetime(2026, 1, 1, tzinfo=UTC))
    for question in (nothing, "SELECT count() FROM {view}", "EXPLAIN SELECT * FROM {view}"):
        with pytest.raises(ServerException, match=f"Run: k2 view {viewed.table} --apply"):
            viewed.ask(question)
    viewed.renew()
    [snapshot] = viewed.cold.metadata.snapshots
    for setting in (
        {"iceberg_snapshot_id": snapshot.snapshot_id},
        {"iceberg_timestamp_ms": snapshot.timestamp_ms + 60_000},
    ):
        with pytest.raises(ServerException, match="would take rows out of this view"):
            viewed.ask("SELECT count() FROM {view}", **setting)
    viewed.ask("ALTER TABLE {source} MODIFY COLUMN sequence Int64 SETTINGS mutations_sync = 2")
    with pytest.raises(ServerException, match=r"columns of .* have changed since"):
        viewed.ask("SELECT sum(sequence) FROM {view}")
    viewed.ask("ALTER TABLE {source} MODIFY COLUMN sequence UInt64 SETTINGS mutations_sync = 2")
    ttl = "MODIFY TTL toDateTime(at) + INTERVAL 2 DAY SETTINGS materialize_ttl_after_modify = 0"
    viewed.ask(f"ALTER TABLE {{source}} {ttl}")
    assert "the view would miss what the TTL takes" in renew_views(viewed.tiers, [viewed.spec])[0]


class LongIntervals(Viewed):
    """As the first, but windows are cut on the end of an interval, and partitions on its beginning."""

    keys: ClassVar = {"partition_column": "starts"}

    def __init__(self, workbench):
        super().__init__(workbench, ", starts DateTime64(6, 'UTC') DEFAULT at")
        self.began = self.today - timedelta(days=2)

    def insert_long(self, ends):
        """A row of an interval that has begun two days ago."""
        row = (ends, self.began + timedelta(hours=3), 5000, "BTC/USDT", 7, None)
        self.workbench.sql(f"INSERT INTO {self.table} (at, starts, sequence, symbol, price, note) VALUES", [row])

    def check(self):
        for question in ("SELECT count(), sum(sequence) FROM {0}", "SELECT sequence FROM {0} ORDER BY sequence"):
            asked, answer = (self.ask(question.format(name)) for name in ("{view}", "{source}"))
            assert asked == answer


def test_a_row_of_an_interval_longer_than_a_day_is_in_the_view_before_it_is_moved(workbench):
    viewed = LongIntervals(workbench)
    assert viewed.boundary == viewed.today - timedelta(days=1)
    viewed.insert_long(ends=viewed.today + timedelta(days=2))
    viewed.reconcile()
    viewed.renew()
    assert viewed.boundary == viewed.began
    viewed.check()


def test_a_row_of_an_interval_longer_than_a_day_is_in_the_view_where_it_was_skipped(workbench):
    viewed = LongIntervals(workbench)
    viewed.insert_long(ends=viewed.today + timedelta(minutes=46))
    skip(viewed.tiers, viewed.spec, find_skip(viewed.tiers, viewed.spec, viewed.today + timedelta(minutes=47)))
    viewed.insert(timedelta(minutes=48), 2000)
    viewed.move()
    viewed.reconcile()
    viewed.renew()
    assert viewed.boundary == viewed.began
    viewed.check()


def test_metadata_that_is_gone_is_an_error(viewed):
    file = Path(unquote(urlparse(viewed.cold.metadata_location).path))
    file.rename(file.with_suffix(".away"))
    viewed.ask("SYSTEM DROP ICEBERG METADATA CACHE")
    with pytest.raises(ServerException):
        viewed.ask("SELECT count() FROM {view}")


def test_what_is_no_view_of_the_table_is_not_replaced(viewed):
    viewed.ask("DROP VIEW {view}")
    viewed.ask("CREATE TABLE {view} (a Int8) ENGINE = Memory")
    with pytest.raises(OffloadError, match="was not replaced"):
        plan_view(viewed.tiers, viewed.spec, by_person=True, accept_unsealed=True)


def test_types_are_those_of_the_source(workbench):
    viewed = Viewed(
        workbench,
        ", a Enum8('x\\'y' = 1, 'DateTime' = 2), b UUID, c IPv6, d LowCardinality(Nullable(String)), e FixedString(3), "
        "f DateTime64(3), g DateTime, h SimpleAggregateFunction(max, UInt64), i UInt8, j Date, k Bool, "
        "l Nullable(Decimal(9, 2)), m DateTime('Europe/Berlin')",
    )
    types = "SELECT name, type FROM system.columns WHERE database = 'k2' AND table = '{0}' ORDER BY position"
    shown, source = (dict(viewed.ask(types.format(name))) for name in (viewed.view, viewed.table))
    assert shown == source | {"f": "DateTime64(3, 'UTC')", "g": "DateTime('UTC')"}
    rows = "SELECT * EXCEPT (f, g), toUnixTimestamp64Milli(f), toUnixTimestamp(g) FROM {0} ORDER BY ALL"
    assert viewed.ask(rows.format(viewed.view)) == viewed.ask(rows.format(viewed.table))
    viewed.ask("ALTER TABLE {source} ADD COLUMN n String DEFAULT 'new' SETTINGS mutations_sync = 2")
    viewed.insert(timedelta(minutes=44), 2000)
    viewed.move()
    viewed.renew()
    count = "SELECT count(), countIf(n IS NULL), countIf(n = 'new') FROM {view}"
    [(rows, old, new)] = viewed.ask(count)
    assert (rows, rows - old) == (300, new)
    assert apply_view(viewed.tiers, viewed.spec, plan_view(viewed.tiers, viewed.spec)) is None


NARROWED = {
    # column: (type, of most rows, of the oldest, for which it is set to before, type of now)
    "a": ("Int32", "7", "70000", None, "UInt16"),
    "b": ("Int64", "7", "-1", None, "UInt32"),
    "c": ("Decimal(20, 0)", "7", "-1", "0", "UInt64"),
    "d": ("Date32", "'2026-03-01'", "'1950-01-01'", None, "Date"),
    "e": (
        "DateTime64(6, 'UTC')",
        "'2026-03-01 00:00:01.002'",
        "'2026-03-01 00:00:01.0025'",
        None,
        "DateTime64(3, 'UTC')",
    ),
    "f": ("DateTime64(6, 'UTC')", "'2026-03-01 00:00:01'", "'1960-01-01'", None, "DateTime('UTC')"),
    "g": ("Enum8('old' = 1, 'it\\'s' = 2)", "'it\\'s'", "'old'", "'it\\'s'", "Enum8('it\\'s' = 2)"),
    "h": ("Nullable(String)", "NULL", "'none'", "NULL", "Nullable(UUID)"),
    "i": ("LowCardinality(String)", "'1.2.3.4'", "'none'", "'1.2.3.4'", "IPv4"),
}


def test_a_value_that_the_type_of_now_lacks_is_never_shown_as_another(workbench):
    """Each of these types has the form of the other in Iceberg, so the cold table's columns do not change."""
    columns = [
        f", {name} {kind} DEFAULT if(sequence = 0, {oldest}, {most})"
        for name, (kind, most, oldest, _, _) in NARROWED.items()
    ]
    viewed = Viewed(workbench, "".join(columns))
    everything = "SELECT * FROM {view} ORDER BY sequence"
    before = viewed.ask(everything)
    for name, (_, _, _, fitting, kind) in NARROWED.items():
        if fitting is not None:  # ClickHouse would refuse the other type
            update = f"UPDATE {name} = {fitting} WHERE sequence = 0 SETTINGS mutations_sync = 2"
            viewed.ask(f"ALTER TABLE {{source}} {update}")
        viewed.ask(f"ALTER TABLE {{source}} MODIFY COLUMN {name} REMOVE DEFAULT")
        viewed.ask(f"ALTER TABLE {{source}} MODIFY COLUMN {name} {kind} SETTINGS mutations_sync = 2")
    viewed.renew()
    assert viewed.boundary == viewed.today
    assert viewed.ask("SELECT count(), sum(sequence), max(at) FROM {view}") == viewed.ask(
        "SELECT count(), sum(sequence), max(at) FROM {source}"
    )
    for name, (*_, kind) in NARROWED.items():
        for zone in ZONES:
            for question in (f"SELECT {name} FROM {{view}}", f"SELECT count() FROM {{view}} WHERE {name} = {name}"):
                with pytest.raises(ServerException) as failed:
                    viewed.ask(question, session_timezone=zone)
                told = f"k2: column {name} of cold.{viewed.table} has values that its type in k2.{viewed.table}, {kind}"
                assert told.replace("\\", "") in failed.value.message.replace("\\", ""), (name, zone)
                assert f"run: k2 view {viewed.table} --apply" in failed.value.message
    fitting = "SELECT * FROM {0} WHERE at >= '{1:%Y-%m-%d}' ORDER BY sequence"
    shown, held = (
        viewed.ask(fitting.format(name, viewed.today - timedelta(days=2))) for name in (viewed.view, viewed.table)
    )
    assert len(shown) > 100
    assert str(shown) == str(held)
    viewed.look_through(", ".join(f"{name}::{kind} AS {name}" for name, (kind, *_) in NARROWED.items()))
    assert str(viewed.ask(everything)) == str(before), "as the message says"


class FineTimes(Viewed):
    """As the first, with microseconds."""

    def insert(self, after, start_sequence, count=20):
        super().insert(after + timedelta(microseconds=123_456), start_sequence, count)

    def fill(self):
        super().fill()
        self.insert(timedelta(days=-3), 5000)


@pytest.mark.parametrize("at", ["at::DateTime64(3, 'UTC')", "toDateTime(at, 'Europe/Berlin')"])
def test_times_of_old_rows_are_shown_as_they_were(workbench, at):
    viewed = FineTimes(workbench)
    old_rows = f"at < toDateTime64('{viewed.today:%Y-%m-%d}', 6, 'UTC')"
    old = f"SELECT toUnixTimestamp64Micro(at) FROM {{0}} WHERE {old_rows} ORDER BY sequence, at"
    before = viewed.ask(old.format(viewed.table))
    viewed.look_through(f"{at} AS at")
    assert viewed.ask(old.format(viewed.view)) == before


class LongAgo(Viewed):
    """As the first, with rows from before the first day that ClickHouse holds as a whole."""

    def fill(self):
        super().fill()
        for hours in range(3):
            self.insert(timedelta(days=-12, hours=hours), 5000 + 100 * hours)

    def check(self):
        """Whether the view shows all rows that the cold table has now."""
        rows = self.cold.scan(selected_fields=("sequence",)).to_arrow()["sequence"].to_pylist()
        assert self.ask("SELECT count(), sum(sequence) FROM {view}") == [(len(rows), sum(rows))]


def test_history_with_rows_twice_is_shown_to_those_who_have_accepted_it(workbench):
    viewed = LongAgo(workbench)
    day = (viewed.today - timedelta(days=12)).date()
    record = {"watermark": "", "rows": 1, "duplicates_kept": {}}
    for kept, reason in (({}, None), ({str(day): 2}, f"more than once: {day} has 2")):
        with viewed.cold.transaction() as change:
            change.set_properties({ADOPTED_PROPERTY: json.dumps(record | {"duplicates_kept": kept})})
        problems = renew_views(viewed.tiers, [viewed.spec])
        assert problems == [] if reason is None else reason in problems[0]
    apply_view(viewed.tiers, viewed.spec, plan_view(viewed.tiers, viewed.spec, accept_unsealed=True))
    viewed.renew()
    with viewed.cold.transaction() as change:
        change.set_properties({ADOPTED_PROPERTY: "1"})
    assert f"property {ADOPTED_PROPERTY} is not as" in renew_views(viewed.tiers, [viewed.spec])[0]


class LeftOut(LongAgo):
    """What is from before the first whole day was left out, and a person has accepted that the view lacks it."""

    def move(self):
        skip(self.tiers, self.spec, find_skip(self.tiers, self.spec, self.today - timedelta(days=11)))
        super().move()

    def renew(self):
        [problem] = renew_views(self.tiers, [self.spec])
        assert "the cold table lacks rows of" in problem
        apply_view(self.tiers, self.spec, plan_view(self.tiers, self.spec, accept_unsealed=True))
        super().renew()


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_view_goes_on_beside_a_backfill(workbench, newest_first):
    viewed = LeftOut(workbench)
    viewed.check()
    left_out = find_left_out(viewed.tiers, viewed.spec)
    planned = list(plan_backfills(viewed.tiers, left_out, max_rows=20, newest_first=newest_first))
    assert [each.rows for each in planned] == [20, 20, 20]
    for each in planned:
        viewed.workbench.publish(each)
        Viewed.renew(viewed)
        viewed.check()


class Spark:
    """What an example has under the name ``spark``: statements go to a real session in another process."""

    def __init__(self, ask):
        self._ask = ask

    def sql(self, statement):
        self.rows = [dict(zip(("at", "symbol", "price"), row, strict=True)) for row in self._ask("sql", statement)]
        return self

    def to_pylist(self):
        return self.rows


def test_the_examples_of_the_page_give_the_rows_of_the_source(viewed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "reading.md").read_text().partition("## Examples")[2]
    renamed = text.replace("k2.trades_all", f"k2.{viewed.view}").replace("'trades_all'", f"'{viewed.view}'")
    renamed = renamed.replace("cold.trades", f"cold.{viewed.table}")
    renamed = renamed.replace("FROM demo.", f"FROM {viewed.workbench.cold_catalog.name}.")
    renamed = renamed.replace("http://clickhouse.internal:8123", viewed.workbench.stack.clickhouse_http_url)
    [question] = re.findall(r"^```sql\n(.*?)^```", renamed, re.MULTILINE | re.DOTALL)
    assert viewed.ask(question) == viewed.ask(question.replace(viewed.view, viewed.table))
    viewed.ask("ALTER TABLE {source} DELETE WHERE at < now() - INTERVAL 2 DAY SETTINGS mutations_sync = 2")
    wanted = Counter(viewed.ask("SELECT at, symbol, price FROM {view}"))
    with closing(connect_duckdb()) as connection:
        monkeypatch.setattr("duckdb.connect", lambda: connection)
        monkeypatch.setattr("pyiceberg.catalog.load_catalog", lambda _: viewed.workbench.cold_catalog)
        monkeypatch.setenv("POLARS_ICEBERG_PLANNER", "pyiceberg")
        names: dict[str, Any] = {"spark": Spark(viewed.workbench.spark.ask)}
        examples = 0
        for example in re.findall(r"^```python\n(.*?)^```", renamed, re.MULTILINE | re.DOTALL):
            names.pop("both", None)
            exec(compile(example, "docs/reading.md", "exec"), names)  # noqa: S102 - the project's own page
            if "both" in names:
                rows = names["both"].to_dicts() if "polars" in example else names["both"].to_pylist()
                assert Counter((row["at"].astimezone(UTC), row["symbol"], row["price"]) for row in rows) == wanted, (
                    example
                )
                examples += 1
    assert examples == 4
