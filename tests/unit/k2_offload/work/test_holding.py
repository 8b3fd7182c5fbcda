"""What was removed or is held is missed by a cold table that has not got it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import DamagedTable, InvalidSource, OffloadError, OtherRun, Overloaded, Refused, Unreachable
from k2_offload.core.gaps import Looked
from k2_offload.core.holding import Holding, Kept, Record, Step
from k2_offload.core.retention_queries import any_holding
from k2_offload.core.ttl import Removal, Storage
from k2_offload.work import holding
from k2_offload.work.holding import check_storage, find_expired, read_kept, ttl_in_the_way, what_is_held
from k2_offload.work.ttl import read_kept_for

ENTRY = """
  {name}:
    layer: bronze
    source: k2.{name}
    target: cold.{name}
    timestamp_column: {time}
    partition_column: at
    retention: proven
    warm_retention_days: 7
"""
TABLES = parse_tables("tables:" + ENTRY.format(name="trades", time="at") + ENTRY.format(name="candles", time="until"))
NOW = datetime(2026, 3, 30, 12, tzinfo=UTC)
RECORD = Record("20260304", Step.HELD, ("a",), 10, {"at": (date(2026, 3, 4), date(2026, 3, 4))}, {}, NOW)
BEGUN = Holding("k2.trades", date(2026, 3, 1))


class FakeClickHouse:
    """A storage with a holding table."""

    def __init__(self, holding, kept_for):
        self.holding = holding
        self.ttl = kept_for
        self.columns_with_ttl = {}

    def storage(self, table):  # noqa: ARG002
        return Storage("k2.trades", (Removal("at"),) if self.ttl else ())

    def column_ttls(self, name):  # noqa: ARG002
        return self.columns_with_ttl

    def kept_for(self, table, storage, row):  # noqa: ARG002
        return self.ttl

    def execute(self, sql):
        if sql == any_holding():
            return [(int(self.holding is not None),)]
        if sql.startswith("ALTER TABLE"):
            self.holding = self.written(sql)
            return []
        assert "system.tables" in sql
        return [("MergeTree", self.holding.text)]

    def written(self, sql):
        return Holding.read(sql.partition("MODIFY COMMENT ")[2][1:-1])

    def now(self):
        return NOW


def test_what_is_proven_of_one_server_is_not_removed_where_there_are_others():
    of = tiers(BEGUN)
    of.clickhouse.servers = 2
    with pytest.raises(InvalidSource, match=r"trades: 'retention: proven' needs .* one server.*Nothing is removed"):
        check_storage(of, TABLES["trades"])


class FakeLedger:
    """Another run moves partitions, or none."""

    busy = False

    def __init__(self, _):
        pass

    @contextmanager
    def alone(self, storage):
        if self.busy:
            raise OtherRun(f"{storage}: another run is moving its partitions.")
        yield lambda: None


@pytest.fixture(autouse=True)
def _ledger(monkeypatch):
    monkeypatch.setattr(holding, "LedgerRetention", FakeLedger)


def tiers(holding, kept_for=None):
    return SimpleNamespace(clickhouse=FakeClickHouse(holding, kept_for), now=lambda: NOW, ledger=None)


def expired(holding, watermark, looked=None, table="trades", kept_for=None):
    of = tiers(holding, kept_for)
    found = find_expired(of, TABLES[table], watermark, looked or Looked(), NOW)
    return found and (found.low, found.high)


TTL = replace(TABLES["trades"], retention="ttl", warm_retention_days=30)


def test_what_is_gone_stays_gone_when_a_clock_removes_again():
    gone = BEGUN.with_gone(RECORD)
    assert read_kept(tiers(gone), TTL) == Kept(None, gone.gone["at"])
    watermark = datetime(2026, 3, 4, 6, tzinfo=UTC)
    found = find_expired(tiers(gone), TTL, watermark, Looked(looked_at=NOW), NOW)
    assert (found.low, found.high) == (watermark, datetime(2026, 3, 5, tzinfo=UTC))
    assert read_kept(tiers(None), TTL) == Kept(), "and nothing else is asked where nothing was ever removed"


def test_what_was_removed_of_a_storage_that_is_not_known_stops_all():
    of = tiers(BEGUN)
    of.clickhouse.storage = lambda _: None
    with pytest.raises(InvalidSource, match="which table holds the rows of"):
        read_kept(of, TABLES["trades"])


@pytest.mark.parametrize("holding", [BEGUN.with_record(RECORD), BEGUN.with_gone(RECORD)], ids=["held", "gone"])
@pytest.mark.parametrize(("table", "high"), [("trades", 5), ("candles", 6)])
def test_a_day_that_was_removed_above_the_watermark_is_missed(holding, table, high):
    watermark, high = datetime(2026, 3, 4, 6, tzinfo=UTC), datetime(2026, 3, high, tzinfo=UTC)
    assert expired(holding, watermark, table=table) == (watermark, high)
    assert expired(holding, watermark, Looked(looked_at=NOW), table) == (watermark, high), "whatever was seen once"
    assert expired(holding, high, table=table) is None
    assert expired(holding, watermark, Looked(cleared_until=high), table) is None, "a person has accepted it"


def test_what_is_held_is_told_before_a_gap_is_accepted_whatever_the_retention_is():
    other = replace(RECORD, partition_id="20260305", days={"at": (date(2026, 3, 5), date(2026, 3, 5))})
    for table in (TABLES["trades"], TTL):
        assert what_is_held(tiers(None), table) == what_is_held(tiers(BEGUN.with_gone(RECORD)), table) == ""
        assert what_is_held(tiers(BEGUN.with_record(RECORD)), table) == (
            "2026-03-04 is still held: first, `k2 retention trades --restore 2026-03-04` brings it back. "
        )
        two = what_is_held(tiers(BEGUN.with_record(RECORD).with_record(other)), table)
        assert two.startswith("2026-03-04 is still held, the first of 2 partitions: first, `k2 retention trades")


def test_what_the_last_resort_has_taken_is_missed():
    watermark, since = datetime(2026, 3, 1, 6, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    assert expired(BEGUN, watermark) is None
    assert expired(BEGUN, watermark, kept_for=timedelta(days=28)) == (watermark, since)
    assert read_kept(tiers(BEGUN, timedelta(days=28)), TABLES["trades"]).whole_since == since.date()
    assert read_kept(tiers(replace(BEGUN, kept_for=timedelta(days=28))), TABLES["trades"]).whole_since == since.date()
    assert read_kept(tiers(BEGUN, timedelta(days=99)), TABLES["trades"]).whole_since == BEGUN.whole_since


def find(of, table, watermark, looked=None):
    found = find_expired(of, table, watermark, looked or Looked(), NOW)
    return found and (found.low, found.high)


BEHIND = NOW - timedelta(days=10)


@pytest.mark.parametrize("how", ["a TTL", "a TTL that groups", "retention: ttl"])
def test_a_clock_that_was_at_work_is_not_forgotten(how):
    of, table = tiers(BEGUN), TABLES["trades"]
    assert find(of, table, BEHIND) is None, "an outage"
    if how == "a TTL":
        of.clickhouse.ttl = timedelta(days=7)
        assert find(of, table, BEHIND) is not None
    elif how == "a TTL that groups":
        of.clickhouse.storage, of.clickhouse.reads = lambda _: None, lambda _: ({"k2.trades"}, set())
        with pytest.raises(InvalidSource):
            find(of, table, BEHIND)
        del of.clickhouse.storage
    else:
        assert find(of, replace(table, retention="ttl"), BEHIND) is not None
    of.clickhouse.ttl = None
    assert of.clickhouse.holding.whole_since is None
    assert find(of, table, BEHIND)[0] == BEHIND, "it was taken away again"
    assert find(of, table, BEHIND, Looked(cleared_until=NOW)) is None, "until a person has accepted it"


def test_the_shortest_ttl_that_was_seen_counts_until_a_run_has_looked():
    of, watermark = tiers(BEGUN), datetime(2026, 3, 1, 6, tzinfo=UTC)
    of.clickhouse.ttl = timedelta(days=28)
    missed = find(of, TABLES["trades"], watermark)
    of.clickhouse.ttl = timedelta(days=99)
    assert find(of, TABLES["trades"], watermark) == missed == (watermark, datetime(2026, 3, 3, tzinfo=UTC))
    assert of.clickhouse.holding == replace(BEGUN, whole_since=date(2026, 3, 3), kept_for=timedelta(days=28))
    assert BEGUN.with_whole(NOW, None) == BEGUN, "nothing is to be put on record without one"


def test_a_run_that_moves_partitions_looks_at_the_ttl_itself(monkeypatch):
    of = tiers(BEGUN, timedelta(days=7))
    monkeypatch.setattr(FakeLedger, "busy", True)
    assert find(of, TABLES["trades"], BEHIND) is not None
    assert of.clickhouse.holding == BEGUN


def test_a_record_that_cannot_be_written_stops_no_table(monkeypatch):
    """Of a full disk, say: then what is proven has to go, and what is new has to be moved."""
    of = tiers(BEGUN, timedelta(days=7))

    def full(_):
        raise OffloadError("NOT_ENOUGH_SPACE")

    monkeypatch.setattr(of.clickhouse, "written", full)
    assert find(of, TABLES["trades"], BEHIND) is not None

    def away(_):
        raise Unreachable("ClickHouse", "clickhouse", "timed out")

    monkeypatch.setattr(of.clickhouse, "written", away)
    with pytest.raises(Unreachable):
        find(of, TABLES["trades"], BEHIND)


def test_what_was_gone_when_it_began_is_missed_however_long_rows_are_kept_now():
    since = date(2026, 3, 24)
    of, table = tiers(replace(BEGUN, whole_since=since)), replace(TABLES["trades"], warm_retention_days=30)
    assert find(of, table, BEHIND) == (BEHIND, datetime(2026, 3, 24, tzinfo=UTC))
    assert find(of, TABLES["candles"], BEHIND) == (BEHIND, datetime(2026, 3, 25, tzinfo=UTC)), "by its end"
    assert find(of, table, datetime(2026, 3, 24, tzinfo=UTC)) is None
    assert find(of, table, BEHIND, Looked(looked_at=datetime(2026, 3, 24, tzinfo=UTC))) is None, "silent until then"
    assert find(of, table, BEHIND, Looked(looked_at=datetime(2026, 3, 23, 23, tzinfo=UTC))) is not None
    of.clickhouse.holding = replace(BEGUN, whole_since=date(2026, 3, 31))
    assert find(of, table, NOW - timedelta(hours=23)) is None, "no source keeps rows for less than a day"


def test_what_clickhouse_does_not_say_now_is_not_taken_for_a_ttl():
    of = tiers(BEGUN, timedelta(days=28))

    def kept_for(*_):
        raise Overloaded(202, "too many queries")

    of.clickhouse.kept_for = kept_for
    for look in (ttl_in_the_way, read_kept):
        with pytest.raises(Overloaded):
            look(of, TABLES["trades"])


def test_values_that_a_clock_removes_are_proven_of_nothing_however_far_it_is():
    of = tiers(BEGUN, timedelta(days=1000))
    assert ttl_in_the_way(of, TABLES["trades"]) is None
    for column, named in (("raw", "raw"), ('a "b" ', r'"a \"b\" "')):
        of.clickhouse.columns_with_ttl = {column: Removal("at")}
        assert f"`ALTER TABLE k2.trades MODIFY COLUMN {named} REMOVE TTL`" in ttl_in_the_way(of, TABLES["trades"])
    assert read_kept(of, TABLES["trades"]).whole_since is None


def test_who_may_not_see_the_ttls_of_columns_is_told_that_of_rows_and_has_nothing_proven():
    of = tiers(BEGUN, timedelta(days=1000))

    def refuse(_):
        raise Refused("ClickHouse", "k2_clickhouse", "grant SHOW COLUMNS")

    of.clickhouse.column_ttls = refuse
    assert read_kept_for(of, TABLES["trades"]) == ("k2.trades", timedelta(days=1000))
    for look in (ttl_in_the_way, read_kept):
        with pytest.raises(Refused):
            look(of, TABLES["trades"])


def test_what_is_on_record_and_cannot_be_read_stops_all():
    of = tiers(SimpleNamespace(text="a comment of somebody"))
    with pytest.raises(DamagedTable, match="its comment does not say"):
        find_expired(of, TABLES["trades"], NOW, Looked(looked_at=NOW), NOW)
