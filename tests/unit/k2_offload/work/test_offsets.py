"""What ClickHouse and the broker say, as a report: not passed where something was not looked at."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import load_tables
from k2_offload.core import offset_queries
from k2_offload.core.errors import OffloadError, Refused, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.holding import Kept as KeptDays
from k2_offload.core.observation import OffsetComparison
from k2_offload.core.offsets import BrokerPartition, OffsetFinding, OffsetKind, OffsetRange, Partition, SeenEnd
from k2_offload.core.retention_queries import any_holding
from k2_offload.core.skips import Skips
from k2_offload.core.windows import Window
from k2_offload.files import TABLES_FILE
from k2_offload.work import offsets
from k2_offload.work.offsets import compare_due, compare_offsets
from k2_offload.work.tiers import WORKER

NOW = datetime(2026, 3, 10, tzinfo=UTC)
MADE = NOW - timedelta(hours=1)
TABLE = load_tables(TABLES_FILE).by_name["bronze_trades_binance"]
ZERO = Partition("t", 0)
MICROS = int(NOW.timestamp()) * 1_000_000
FINDING = OffsetFinding(ZERO, OffsetRange(3, 4), OffsetKind.REPEATED)


@dataclass
class Tiers:
    """ClickHouse that knows an answer for the beginning of a question, or for what stands in it."""

    answers: dict[str, object] = field(default_factory=dict)
    cold: object = None
    cold_reader: str = "clickhouse"
    lake_collection: str = "k2_lake"
    asked: list[str] = field(default_factory=list)
    gaps: tuple[Gap, ...] = ()
    task_timeout: timedelta = timedelta(hours=1)

    @property
    def clickhouse(self):
        return SimpleNamespace(execute=self.execute, now=self.now)

    @property
    def ledger(self):
        return SimpleNamespace(read_gaps=lambda: {TABLE.name: self.gaps})

    def now(self):
        return NOW

    def load_cold(self, _):
        return self.cold

    def execute(self, sql):
        self.asked.append(sql)
        usual = {
            "icebergLocal": [],
            any_holding(): [(0,)],
            offset_queries.kept_since(TABLE): [(int(MADE.timestamp()),)],
            offset_queries.first_received(TABLE): [(0,)],
            offset_queries.feeding_views(TABLE): [(1,)],
            offset_queries.last_offsets(TABLE): [("t", 0, 9)],
        }
        answers = {**usual, **self.answers}
        answer = next((value for key, value in answers.items() if key in sql), [])
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class Broker:
    holds: dict[Partition, BrokerPartition]
    sent: dict[int, datetime] = field(default_factory=dict)
    asked: list[list[OffsetRange]] = field(default_factory=list)
    seconds: float | None = None

    def partitions(self, _):
        return self.holds

    def messages(self, _, wanted, until=None):
        self.asked.append(wanted)
        if until is not None and self.seconds is not None and until < time.monotonic() + self.seconds:
            return {}, False
        offsets_wanted = [at for each in wanted for at in range(each.first, each.last + 1)]
        return {at: self.sent[at] for at in offsets_wanted if at in self.sent}, True


@pytest.fixture
def cold(monkeypatch):
    monkeypatch.setattr(offsets, "watermark_of", lambda _: NOW - timedelta(hours=2))
    return SimpleNamespace(
        published=object(), location="file:///l/t", metadata_location="file:///l/t/metadata/1.json", skips=Skips()
    )


def test_where_all_is_there_it_passes(cold):
    report = compare_offsets(Tiers(cold=cold), TABLE, Broker({ZERO: BrokerPartition(0, 10)}))
    assert (report.passed, report.partitions, report.findings) == (True, 1, ())


def test_a_table_that_no_view_feeds_is_not_passed():
    report = compare_offsets(Tiers({offset_queries.feeding_views(TABLE): [(0,)]}), TABLE, None)
    assert not report.passed
    assert "No view writes" in report.problems[0]


def test_a_table_of_which_nothing_was_looked_at_is_not_passed():
    report = compare_offsets(Tiers({offset_queries.last_offsets(TABLE): []}), TABLE, Broker({}))
    assert not report.passed
    assert "No partition was looked at" in report.problems[0]


@pytest.mark.parametrize(
    ("holds", "kind"),
    [({}, OffsetKind.NO_PARTITION), ({ZERO: BrokerPartition(0, 4)}, OffsetKind.ANEW)],
)
def test_a_topic_that_went_or_began_anew_is_not_passed(holds, kind):
    report = compare_offsets(Tiers(), TABLE, Broker(holds))
    assert ([each.kind for each in report.losses], report.passed) == ([kind], False)


GAP = {offset_queries.delivered(TABLE): [("t", 0, 0, 2, 1), ("t", 0, 9, 9, 2), ("t", 1, 5, 6, 0)]}


def test_a_gap_is_asked_for_from_the_logs_start_on():
    broker = Broker({ZERO: BrokerPartition(5, 10)}, dict.fromkeys(range(5, 9), NOW))
    report = compare_offsets(Tiers(GAP), TABLE, broker)
    assert broker.asked == [[OffsetRange(5, 8)]]
    assert [(each.offsets, each.kind) for each in report.findings] == [
        (OffsetRange(3, 4), OffsetKind.UNKNOWN),
        (OffsetRange(5, 8), OffsetKind.MISSING),
    ]


MANY = {
    offset_queries.delivered(TABLE): [("t", 0, 2 * each, 2 * each, each + 1) for each in range(2001)],
    offset_queries.last_offsets(TABLE): [("t", 0, 4000)],
}


def test_a_partition_of_many_gaps_is_asked_for_at_once():
    """As a transactional producer makes them: each commit takes an offset."""
    broker = Broker({ZERO: BrokerPartition(0, 4002)}, {3: NOW, 3999: NOW})
    report = compare_offsets(Tiers(MANY), TABLE, broker)
    assert [len(each) for each in broker.asked] == [1, 2000]
    assert [str(each.offsets) for each in report.findings] == ["3", "3999"]


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("seconds", "passed"), [(1799, True), (1801, False)])
def test_where_there_is_no_time_to_ask_for_all_gaps_it_says_so(seconds, passed):
    [report] = compare_due(Tiers(MANY), [TABLE], lambda: Broker({ZERO: BrokerPartition(0, 4001)}, seconds=seconds))
    assert (report.passed, report.findings) == (passed, ())
    if not passed:
        [problem] = report.problems
        assert problem.startswith("t[0]: there was no time to ask the broker for all of 2,000 ranges of offsets")


class NeverReady:
    """A broker of two topics: reading the first takes all time, and has given one message by then."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def partitions(self, topic):
        return {Partition(topic, 0): BrokerPartition(0, 10)}

    def messages(self, partition, wanted, until=None):  # noqa: ARG002
        if partition != ZERO:
            return {}, True
        self.now = until
        return {4: NOW - timedelta(hours=1)}, False


OTHER = load_tables(TABLES_FILE).by_name["bronze_trades_kraken"]
TWO = {
    offset_queries.kept_since(OTHER): [(int(MADE.timestamp()),)],
    offset_queries.first_received(OTHER): [(0,)],
    offset_queries.feeding_views(OTHER): [(1,)],
    offset_queries.last_offsets(OTHER): [("u", 0, 9)],
    offset_queries.delivered(TABLE): [("t", 0, 0, 2, 1), ("t", 0, 9, 9, 2)],
    offset_queries.delivered(OTHER): [("u", 0, 0, 2, 1), ("u", 0, 9, 9, 2)],
}


def test_a_table_that_takes_all_the_time_keeps_no_other_from_its_turn(kept, monkeypatch, caplog):
    compared = []
    for half_hour in range(4):
        broker, tiers = NeverReady(), Tiers(TWO)
        monkeypatch.setattr(offsets, "time", broker)
        monkeypatch.setattr(tiers, "now", lambda at=NOW + half_hour * timedelta(minutes=30): at)
        compared.append([report.table for report in compare_due(tiers, [TABLE, OTHER], lambda broker=broker: broker)])
    assert compared == [[TABLE.name], [OTHER.name, TABLE.name]] * 2
    assert caplog.messages == [f"{OTHER.name}: there was no time to compare its messages; the next run begins with it"]
    assert kept.found[OTHER.name].passed


def test_what_was_found_before_the_time_was_up_is_told_and_on_record(kept, monkeypatch):
    broker = NeverReady()
    monkeypatch.setattr(offsets, "time", broker)
    [report] = compare_due(Tiers(TWO), [TABLE], lambda: broker)
    assert report.losses == [OffsetFinding(ZERO, OffsetRange(4, 4), OffsetKind.MISSING)]
    assert "whether more messages of them are missing is not known" in report.problems[0]
    assert kept.found == {TABLE.name: OffsetComparison(NOW, 1, 0, 1)}


AGO = NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    "last",
    [OffsetComparison(AGO, 0, 0, 1), OffsetComparison(NOW + timedelta(hours=5), 0, 0, 0)],
    ids=["too little time in the same run", "by a clock that was ahead"],
)
def test_a_table_whose_last_comparison_says_little_comes_first(kept, last):
    kept.found = {TABLE.name: OffsetComparison(AGO, 0, 0, 0), OTHER.name: last}
    reports = compare_due(Tiers(TWO), [TABLE, OTHER], NeverReady)
    assert [report.table for report in reports] == [OTHER.name, TABLE.name]


@pytest.mark.parametrize(("first", "found"), [(0, 0), (MICROS - 7200 * 1_000_000, 1), (MICROS, 0)])
def test_offsets_are_kept_since_the_oldest_row_or_the_tables_time(first, found):
    broker = Broker({ZERO: BrokerPartition(0, 11)}, {10: NOW - timedelta(minutes=90)})
    report = compare_offsets(Tiers({offset_queries.first_received(TABLE): [(first,)]}), TABLE, broker)
    assert len(report.losses) == found


def test_a_message_without_a_row_in_iceberg_is_found(cold):
    tiers = Tiers({"icebergLocal": [("t", 0, 5, 6)]}, cold)
    report = compare_offsets(tiers, TABLE, None)
    assert report.losses == [OffsetFinding(ZERO, OffsetRange(5, 6), OffsetKind.NOT_COLD)]
    [sql] = [sql for sql in tiers.asked if "icebergLocal" in sql]
    assert "first_trade_at < fromUnixTimestamp64Micro(" + str(MICROS - 7200 * 1_000_000) in sql
    assert "message_hash NOT IN (SELECT sipHash64(raw_message) FROM icebergLocal('/l/t'" in sql
    assert "message_hash NOT IN (SELECT sipHash64(raw_message) FROM `k2`.rejected_messages)" in sql


def test_days_that_went_while_bronze_was_asked_are_not_missing_in_it(monkeypatch):
    """The first look at what is gone saw nothing, ClickHouse looked, and the second look finds a day."""
    gone = [(), ((NOW.date() - timedelta(days=2),) * 2,)]
    monkeypatch.setattr(offsets, "read_kept", lambda *_: KeptDays(gone=gone.pop(0) if len(gone) > 1 else gone[0]))
    day = Window(NOW - timedelta(days=2), NOW - timedelta(days=1))
    asked = offset_queries.without_rows(
        TABLE, TABLE.source, NOW - timedelta(days=6), NOW - timedelta(minutes=5), left_out=[day]
    )
    tiers = Tiers({asked: [], "FROM k2.bronze_trades_binance": [("t", 0, 5, 6)]})
    report = compare_offsets(tiers, TABLE, None)
    assert (report.findings, report.removed) == ((), (day,))
    assert "were not looked for in bronze" in report.notes[0]
    assert f"`k2 retention {TABLE.name}`" in report.notes[0]


HISTORY = Window(FIRST_WATERMARK, NOW - timedelta(hours=2))


@pytest.mark.parametrize(
    ("left_from", "shown"),
    [(None, ()), (NOW - timedelta(days=1), (Window(NOW - timedelta(days=1), HISTORY.high),))],
    ids=["all was brought", "a day is left out"],
)
def test_one_row_that_did_not_come_with_a_whole_history_hides_no_message(cold, left_from, shown):
    cold.skips = Skips((HISTORY,)).filling(Window(HISTORY.low, left_from or HISTORY.high), 999)
    tiers = Tiers({"icebergLocal": [("t", 0, 5, 6)]}, cold, gaps=(Gap(HISTORY, GapKind.SKIPPED, 1000, NOW),))
    report = compare_offsets(tiers, TABLE, None)
    assert report.losses == [OffsetFinding(ZERO, OffsetRange(5, 6), OffsetKind.NOT_COLD)]
    assert report.left_out == shown
    assert len(report.notes) == len(shown)
    assert all(
        "were not looked for in Iceberg" in note and f"`k2 status {TABLE.name}`" in note for note in report.notes
    )
    [sql] = [sql for sql in tiers.asked if "icebergLocal" in sql]
    assert sql.count("AND NOT ifNull(") == len(shown)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cold_reader": WORKER}, "cold_reader is worker"),
        ({"answers": {"icebergLocal": OffloadError("ClickHouse refused a query")}}, "ClickHouse refused a query"),
    ],
)
def test_where_iceberg_was_not_compared_it_says_so_and_keeps_the_rest(cold, change, sentence):
    again = {offset_queries.repeated(TABLE): [("t", 0, 3, 4)]}
    tiers = replace(Tiers(again, cold), **{**change, "answers": again | change.get("answers", {})})
    report = compare_offsets(tiers, TABLE, None)
    assert (report.findings, report.passed) == ((FINDING,), False)
    assert "Iceberg was not compared" in report.problems[0]
    assert sentence in report.problems[0]


def no_broker():
    return None


@dataclass
class Kept:
    """The ledger's record."""

    found: dict[str, OffsetComparison] = field(default_factory=dict)
    broker_since: datetime | None = None
    ends: dict[Partition, SeenEnd] = field(default_factory=dict)

    def read(self):
        return self.found

    def read_ends(self, _):
        return self.ends

    def record(self, table, found, ends):
        self.found, self.ends = {**self.found, table: found}, {**self.ends, **ends}

    def has_asked_broker(self):
        return self.broker_since is not None

    def record_broker(self, now):
        self.broker_since = self.broker_since or now


@pytest.fixture
def kept(monkeypatch):
    record = Kept()
    monkeypatch.setattr(offsets, "LedgerOffsets", lambda _: record)
    return record


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (None, True),
        (OffsetComparison(NOW - timedelta(minutes=54), 0, 3, 0), False),
        (OffsetComparison(NOW - timedelta(minutes=55), 0, 0, 0), True),
        (OffsetComparison(NOW + timedelta(hours=5), 0, 0, 0), True),
        (OffsetComparison(NOW, 1, 0, 0), True),
        (OffsetComparison(NOW, 0, 0, 1), True),
    ],
)
def test_messages_are_compared_once_an_hour_and_again_while_some_are_missing(kept, last, due):
    if last is not None:
        kept.found = {TABLE.name: last}
    reports = list(compare_due(Tiers(), [TABLE], no_broker))
    assert len(reports) == due
    assert kept.found[TABLE.name] == (OffsetComparison(NOW, 0, 0, 0) if due else last)


def test_what_was_found_is_kept(kept):
    [report] = compare_due(Tiers(GAP), [TABLE], lambda: Broker({ZERO: BrokerPartition(5, 8)}))
    assert [each.kind for each in report.losses] == [OffsetKind.UNKNOWN, OffsetKind.ANEW]
    assert kept.found == {TABLE.name: OffsetComparison(NOW, 2, 0, 1)}


def test_a_broker_that_was_asked_before_and_is_not_found_leaves_nothing_passed(kept):
    broker = Broker({ZERO: BrokerPartition(0, 10)})
    [report] = compare_due(Tiers(), [TABLE], lambda: broker)
    assert (report.broker_asked, kept.broker_since) == (True, NOW)
    kept.found = {}
    with pytest.raises(Unreachable, match=r"DELETE FROM k2_offload\.offload_broker"):
        list(compare_due(Tiers(), [TABLE], no_broker))
    assert kept.found == {}


@pytest.mark.parametrize("told", [NOW + timedelta(days=30), NOW - timedelta(days=30)], ids=["ahead", "replayed"])
def test_an_unread_message_is_missing_at_the_next_look_whatever_its_time(kept, told):
    sent = dict.fromkeys(range(10, 13), told)
    [report] = compare_due(Tiers(), [TABLE], lambda: Broker({ZERO: BrokerPartition(0, 12)}, sent))
    assert (report.passed, kept.ends) == (True, {ZERO: SeenEnd(10, 0, 12, NOW)})
    kept.ends = {ZERO: SeenEnd(10, 0, 12, NOW - timedelta(minutes=55))}
    kept.found = {}
    [report] = compare_due(Tiers(), [TABLE], lambda: Broker({ZERO: BrokerPartition(0, 13)}, sent))
    assert report.losses == [OffsetFinding(ZERO, OffsetRange(10, 11), OffsetKind.MISSING)]
    assert kept.ends == {ZERO: SeenEnd(10, 12, 13, NOW)}


def test_a_look_from_before_the_ttl_of_the_offsets_says_nothing():
    """What was read since may have been forgotten again."""
    answers = {offset_queries.first_received(TABLE): [(MICROS - 30 * 86_400 * 1_000_000,)]}
    tiers = Tiers({**answers, offset_queries.last_offsets(TABLE): [], "extract(engine_full": [("t",)]})
    sent = dict.fromkeys(range(12), NOW - timedelta(days=30))
    for days, missing in ((6.5, 0), (5, 12)):
        seen = {ZERO: SeenEnd(0, 0, 12, NOW - timedelta(days=days))}
        found = compare_offsets(tiers, TABLE, Broker({ZERO: BrokerPartition(0, 12)}, sent), seen)
        assert found.missing == missing


@pytest.mark.usefixtures("kept")
def test_a_broker_that_was_never_asked_is_not_missed_and_the_report_says_so():
    [report] = compare_due(Tiers(), [TABLE], no_broker)
    assert (report.passed, report.broker_asked) == (True, False)


def test_where_offsets_are_not_kept_nothing_is_on_record_and_no_broker_is_asked(kept):
    def open_broker():
        raise AssertionError

    [report] = compare_due(Tiers({offset_queries.kept_since(TABLE): []}), [TABLE], open_broker)
    assert (report.kept, kept.found) == (False, {})


def test_offsets_that_were_kept_and_are_not_shown_any_more_end_no_alert(kept):
    before = {TABLE.name: OffsetComparison(NOW - timedelta(hours=2), 500, 0, 0)}
    kept.found, other = before, replace(TABLE, name="other")
    hidden = Tiers({offset_queries.kept_since(TABLE): []})
    found, forget = [], rf"DELETE FROM k2_offload\.offload_offsets WHERE table_name = '{TABLE.name}'"
    with pytest.raises(OffloadError, match=rf"does not show k2\.message_offsets.*{forget}"):
        found.extend(compare_due(hidden, [TABLE, other], no_broker))
    assert ([report.table for report in found], kept.found) == (["other"], before)


def test_one_table_that_is_refused_hides_no_other(kept):
    other = replace(TABLE, name="other")
    refusing = Tiers({offset_queries.delivered(TABLE): Refused("ClickHouse", "k2_clickhouse", "no right")})
    found = []
    with pytest.raises(OffloadError, match=r"other: .*no right"):
        found.extend(compare_due(refusing, [other, replace(TABLE, layer="silver")], no_broker))
    assert (found, kept.found) == ([], {})
