"""What a table may not skip, and where it may not go back to."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.errors import ChangedTable, DamagedTable, OffloadError, ReplicaBehind
from k2_offload.core.exactly_once import FIRST_WATERMARK, Published, Snapshot, WindowId, check_cut
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.schema_change import ColdColumn, Mark
from k2_offload.core.skips import Filled, GivenUp, Skips
from k2_offload.core.windows import TICK, Window
from k2_offload.work import watermarks
from k2_offload.work.watermarks import accept, find_skip, read_cold_table

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=3)
TABLE = parse_tables("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")["t"]


def tiers_with(cold):
    return SimpleNamespace(
        clickhouse=SimpleNamespace(columns=lambda _: (), now=lambda: NOW, count_within=lambda *_: 10),
        catalog=SimpleNamespace(load=lambda _: cold),
        ledger=SimpleNamespace(read_tables=dict),
    )


def test_a_replica_that_lags_says_nothing_of_what_is_skipped(monkeypatch):
    def check(_, table, again):
        raise ReplicaBehind(f"{table.name} is behind. Then: `{again}`")

    monkeypatch.setattr(watermarks, "check_replicas", check)
    with pytest.raises(ReplicaBehind, match=r"`k2 watermark set t 2026-03-04T12:00:00[^`]*`"):
        find_skip(tiers_with(None), TABLE, NOON)


def test_before_the_first_watermark_there_is_nothing_to_begin_at(monkeypatch):
    monkeypatch.setattr(watermarks, "check_replicas", lambda *_: None)
    with pytest.raises(OffloadError, match=r"1999-12-31T23:59:59\.999999Z is before 2000-01-01.*Nothing was changed"):
        find_skip(tiers_with(None), TABLE, FIRST_WATERMARK - TICK)
    assert find_skip(tiers_with(None), TABLE, FIRST_WATERMARK).window is None


@pytest.mark.parametrize(
    ("mark", "offered"),
    [
        pytest.param(None, True, id="filled"),
        pytest.param(Mark(NOON + timedelta(hours=1)), True, id="new"),
        pytest.param(Mark(NOON - timedelta(hours=1), stopped=True), True, id="stopped before"),
        pytest.param(Mark(NOON + timedelta(hours=1), stopped=True), False, id="stopped since"),
    ],
)
def test_a_rollback_that_would_lose_values_of_a_column_is_not_offered(monkeypatch, mark, offered):
    monkeypatch.setattr(watermarks, "check_replicas", lambda *_: None)
    first, last = (
        WindowId("uuid", Window(NOON - timedelta(days=1), NOON + timedelta(hours=hours))) for hours in (0, 2)
    )
    cold = SimpleNamespace(
        uuid="uuid",
        published=Published(Snapshot(2, 1, 2, last, 0, 0), last),
        published_until=lambda _: Published(Snapshot(1, None, 1, first, 0, 0), first),
        columns=(ColdColumn("note", "string", True, mark),),
        rollback_statement=lambda snapshot_id: f"CALL rollback({snapshot_id})",
    )
    words = r"What is safe .*CALL rollback\(1\)" if offered else r"does not fill note any more .*Going back would lose"
    with pytest.raises(OffloadError, match=words) as refused:
        find_skip(tiers_with(cold), TABLE, NOON)
    assert ("CALL" in str(refused.value)) == offered


BEHIND = Window(FIRST_WATERMARK, NOON)
"""What a table with `history: backfill` leaves out at first."""
BEGUN = Snapshot(
    1, None, 1, WindowId("uuid", BEHIND), 0, 0, cut_on="old", skipped_rows=3_000_000, skips=Skips((BEHIND,))
)
REWRITE = Snapshot(9, 8, 9, None, 0, 0)


class Cold:
    """A cold table that began at the front.

    :param newest: time of its newest row by the timestamp column; ``None`` if it has none
    :param published: ``None`` where its history cannot say
    :param holds: rows of ranges of which it holds any
    """

    uuid = "uuid"

    def __init__(self, newest, published=BEGUN, remembered=(), *, rows=0, holds=None):
        self.newest, self._published, self.remembered = newest, published, [REWRITE, *remembered]
        self.total_rows, self._holds, self.made = rows, holds or {}, []

    @property
    def published(self):
        if self._published is None:
            raise DamagedTable("its history cannot say")
        return Published(self._published, self._published.window_id)

    @property
    def skips(self):
        return self.published.snapshot.skips

    def newest_row(self, _):
        return self.newest

    def rows_within(self, _, window):
        return self._holds.get(Window(window.low, window.high), 0)

    def publish_without_rows(self, window_id, cut_on, skipped_rows, skips, **how):
        said = {"cut_on": cut_on, "skipped_rows": skipped_rows, "skips": skips, "given_up": how["given_up"]}
        self.made.append(Snapshot(10, 9, 10, window_id, 0, 0, **said))
        self._published = self.made[-1]


@pytest.fixture
def rebuild(monkeypatch):
    """Reads a cold table, accepts that, and returns what was read."""
    monkeypatch.setattr(watermarks, "check_replicas", lambda *_: None)
    monkeypatch.setattr(watermarks, "commit", lambda *_, **__: None)

    def run(cold, gaps=(), table=TABLE, types=("at", "old")):
        locked = SimpleNamespace(ledger_id="mine", forget_cold_table=lambda: None)
        tiers = SimpleNamespace(
            clickhouse=SimpleNamespace(
                columns=lambda _: (),
                column_types=lambda _: types,
                count_within=lambda _, window: {BEHIND: 2_500_000}[window],
                count_left_out=lambda _, old, since, left_out, below: {
                    ("old", NOON, (BEHIND,), NOON + timedelta(hours=1) + TICK): 2_500_007
                }[old, since, left_out, below],
            ),
            catalog=SimpleNamespace(load=lambda _: cold),
            ledger=SimpleNamespace(read_gaps=lambda: {"t": list(gaps)}, locked=lambda _: nullcontext(locked)),
            now=lambda: NOW,
        )
        found = read_cold_table(tiers, table)
        accept(tiers, table, found)
        return found

    return run


BROUGHT = replace(BEGUN, cut_on="at", skips=Skips((), (Filled(BEHIND.low, BEHIND.high, 3_000_000),)))
ON_RECORD = Gap(BEHIND, GapKind.SKIPPED, 3_000_000, NOON)


def test_what_is_left_out_by_the_times_of_another_column_is_given_up_on_record(rebuild):
    cold = Cold(NOON + timedelta(hours=1), rows=9)
    found = rebuild(cold, [ON_RECORD])
    assert (found.late, found.given_up) == (2_500_007, (GivenUp(BEHIND.low, BEHIND.high, 3_000_000),))
    assert (cold.made[0].given_up, cold.made[0].skips) == (found.given_up, Skips())


def test_an_old_column_that_has_gone_from_clickhouse_is_no_dead_end(rebuild):
    found = rebuild(Cold(NOON + timedelta(hours=1), rows=9), [ON_RECORD], types=("at",))
    assert (found.old_column, found.late) == ("old", None)
    assert found.given_up == (GivenUp(BEHIND.low, BEHIND.high, 3_000_000),)


@pytest.mark.parametrize(
    ("cold", "passed_on", "given_up"),
    [
        pytest.param({}, (BEHIND,), (), id="nothing says what was left out, and it has no row of that"),
        pytest.param({"holds": {BEHIND: 1_000_000}}, (), (2_000_000,), id="it has some rows of that"),
        pytest.param({"holds": {BEHIND: 3_000_000}}, (), (), id="it has all rows of that"),
        pytest.param({"remembered": [replace(BEGUN, cut_on="at")]}, (BEHIND,), (), id="a branch says it"),
        pytest.param({"remembered": [BEGUN]}, (), (3_000_000,), id="by the times of another column"),
        pytest.param(
            {"remembered": [BROUGHT]}, (BEHIND,), (), id="a branch says that it was brought, and that was rolled back"
        ),
        pytest.param(
            {"remembered": [BROUGHT], "holds": {BEHIND: 1_000_000}}, (), (2_000_000,), id="a part of that was"
        ),
        pytest.param({"remembered": [BROUGHT], "holds": {BEHIND: 3_000_000}}, (), (), id="none of that was"),
        pytest.param(
            {"remembered": [replace(BEGUN, cut_on="at")], "holds": {BEHIND: 9}}, (), (3_000_000,), id="which is not so"
        ),
    ],
)
def test_what_branches_say_is_passed_on_where_the_chain_is_cut(rebuild, cold, passed_on, given_up):
    cold = Cold(NOON + timedelta(hours=1), None, rows=9, **cold)
    found = rebuild(cold, [ON_RECORD])
    assert (found.late, found.skips.left_out) == (None, passed_on)
    assert found.given_up == tuple(GivenUp(BEHIND.low, BEHIND.high, rows) for rows in given_up)
    assert (cold.made[0].skips, cold.made[0].given_up) == (found.skips, found.given_up)


def test_a_column_that_was_edited_before_any_row_was_moved_is_no_dead_end(rebuild):
    cold = Cold(None)
    with pytest.raises(ChangedTable):
        check_cut("t", cold.published, "at")
    found = rebuild(cold, [ON_RECORD])
    check_cut("t", cold.published, "at")
    [made] = cold.made
    assert (made.window_id.window, made.skips.left_out, made.skipped_rows) == (BEHIND, (BEHIND,), 2_500_000)
    assert (found.watermark, found.given_up) == (NOON, ())


def test_all_that_was_skipped_before_any_row_was_moved_is_left_out_by_the_new_column(rebuild):
    first = Window(NOON - timedelta(hours=1), NOON)
    again = replace(BEGUN, window_id=WindowId("uuid", first))
    cold = Cold(None, again)
    rebuild(cold)
    assert cold.made[0].window_id.window == BEHIND


def test_a_table_whose_rows_lack_the_new_column_is_not_taken_for_empty(rebuild):
    cold = Cold(None, rows=9)
    with pytest.raises(ChangedTable, match=r"has a value in 'at'.*Put the old column back: timestamp_column: old\."):
        rebuild(cold)
    assert cold.made == []
