"""The protocol's rules, alone and as a model: arbitrary interleavings of writers never lose or double a window."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from k2_offload.core.errors import AuditFailed, ChangedTable, DamagedTable, StaleWindow
from k2_offload.core.exactly_once import (
    FIRST_WATERMARK,
    HEALED_BRANCH,
    PUBLISHED_BRANCH,
    LedgerEntry,
    PublishDecision,
    Published,
    Snapshot,
    Stamp,
    WindowId,
    audit,
    check_cut,
    decide_publish,
    find_published,
    follow_chain,
    may_drop,
    refuse_another_ledger,
    refuse_to_recreate,
    watermark_of,
)
from k2_offload.core.windows import Window

UUID = "0b5e"
DAY = timedelta(days=1)
W1 = WindowId(UUID, Window(FIRST_WATERMARK, FIRST_WATERMARK + DAY))
W2 = WindowId(UUID, Window(FIRST_WATERMARK + DAY, FIRST_WATERMARK + 2 * DAY))


def snapshot(snapshot_id, parent_id, window_id=None, cut_on=None):
    return Snapshot(snapshot_id, parent_id, snapshot_id, window_id, rows=1, size_bytes=1, cut_on=cut_on)


def stamp(window_id, cut_on="at"):
    return Stamp(window_id, cut_on, "attempt")


@pytest.mark.parametrize(
    ("number", "last_sequence_number", "heads", "may"),
    [
        (3, 3, [], True),
        (3, 3, [1, 2], True),
        (3, 4, [], False),  # a newer snapshot may hold its files
        (3, 3, [3], False),  # a branch is at it
        (0, 0, [], False),  # format 1 numbers nothing
    ],
)
def test_only_what_nothing_else_can_refer_to_is_dropped(number, last_sequence_number, heads, may):
    assert may_drop(snapshot(number, None, W1), last_sequence_number, heads) is may


def chain(*snapshots):
    return {each.snapshot_id: each for each in snapshots}.get


PUBLISHED_W1 = Published(snapshot(1, None, W1), W1)

times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(times, st.timedeltas(timedelta(microseconds=1), timedelta(days=900)))
def test_a_window_id_survives_text(low, length):
    window_id = WindowId("7c0e1e0e-7a9e-4c66-8a77-7d8f4d5ad0ab", Window(low, low + length))
    assert WindowId.parse(str(window_id)) == window_id


@pytest.mark.parametrize("text", [None, "", "my-etl-run-7", "k2/u/2026-01-01/2026-01-02", "x" + str(W1), str(W1) + "/"])
def test_another_writers_id_is_no_window_id(text):
    assert WindowId.parse(text) is None


def test_the_newest_window_is_found_below_other_writers_snapshots():
    found = find_published("t", UUID, 3, {}, chain(snapshot(1, None, W1), snapshot(2, 1), snapshot(3, 2)))
    assert found == PUBLISHED_W1


def test_a_whole_chain_without_windows_holds_none():
    assert find_published("t", UUID, 2, {}, chain(snapshot(1, None), snapshot(2, 1))) is None
    assert find_published("t", UUID, None, {}, chain()) is None


def test_rows_that_no_window_brought_stop_the_table():
    copied = replace(snapshot(1, None), rows_after=5)
    with pytest.raises(DamagedTable, match=r"5 rows that no offloaded window brought.*k2 adopt t"):
        find_published("t", UUID, 2, {}, chain(copied, replace(snapshot(2, 1), rows_after=5)))
    emptied = replace(snapshot(2, 1), rows_after=0)
    assert find_published("t", UUID, 2, {}, chain(copied, emptied)) is None


def test_rows_that_nobody_has_counted_stop_the_table_too():
    """The spec lets a writer leave totals out (DuckDB does); those after it then leave them out as well."""
    uncounted = Snapshot.read(1, None, 1, {"operation": "append"})
    with pytest.raises(DamagedTable, match=r"does not say how many rows it holds.*if it is empty, drop it.*k2 adopt t"):
        find_published("t", UUID, 1, {}, chain(uncounted))


def test_totals_that_nobody_has_counted_lead_nowhere():
    """Main was rolled back past the last window, compacted, and the rest expired: with totals that is refused."""
    marker, compacted = snapshot(5, 4, W2), snapshot(6, 3)
    for uncounted in ((marker, replace(compacted, counted=False)), (replace(marker, counted=False), compacted)):
        with pytest.raises(DamagedTable, match="does not say which that was"):
            find_published("t", UUID, 6, {PUBLISHED_BRANCH: 5}, chain(*uncounted))


def test_a_table_that_was_replaced_is_not_a_new_one():
    """Iceberg's CREATE OR REPLACE TABLE keeps identity, snapshots and branches, and takes main away."""
    words = r"somebody has replaced it.*k2 register t --from FILE.*DROP BRANCH k2_published"
    window = replace(snapshot(1, None, W1), rows_after=5)
    with pytest.raises(DamagedTable, match=words):
        find_published("t", UUID, None, {PUBLISHED_BRANCH: 1}, chain(window))
    as_select = replace(snapshot(2, None), rows_after=3)
    with pytest.raises(DamagedTable, match=words):
        find_published("t", UUID, 3, {PUBLISHED_BRANCH: 1}, chain(window, as_select, snapshot(3, 2)))


def test_a_window_of_another_incarnation_is_not_ours():
    other = replace(W1, table_uuid="other")
    assert find_published("t", UUID, 1, {}, chain(snapshot(1, None, other))) is None


def test_the_marker_stands_in_where_expiry_has_cut_the_chain():
    found = find_published("t", UUID, 9, {PUBLISHED_BRANCH: 1}, chain(snapshot(1, None, W1), snapshot(9, 8)))
    assert found == PUBLISHED_W1


def test_a_chain_is_cut_where_its_oldest_snapshot_found_rows_though_it_names_no_parent():
    oldest = replace(snapshot(9, None), rows_before=1)
    marker = replace(snapshot(1, None, W1), rows_after=1)
    assert find_published("t", UUID, 9, {PUBLISHED_BRANCH: 1}, chain(marker, oldest)) == Published(marker, W1)
    with pytest.raises(DamagedTable):
        find_published("t", UUID, 9, {}, chain(oldest))


def test_a_chain_of_an_empty_table_is_cut_where_it_is_younger_than_the_last_window():
    """No row total tells: what was skipped would be forgotten, and be moved by the first window."""
    window = replace(snapshot(2, 1, W1), rows=0)
    branches = {PUBLISHED_BRANCH: 2}
    assert find_published("t", UUID, 4, branches, chain(window, snapshot(4, None))) == Published(window, W1)
    assert find_published("t", UUID, 1, branches, chain(window, snapshot(1, None))) is None, "main was rolled back"


def test_a_heal_that_is_left_says_which_window_it_came_after():
    """The window brought 10 rows, a first heal 2 more and has expired, a second one is left."""
    window = replace(snapshot(1, None, W1), rows_after=10)
    healed = replace(snapshot(3, 2), rows_before=12, rows_after=13, follows=W1)
    branches = {PUBLISHED_BRANCH: 1, HEALED_BRANCH: 3}
    assert find_published("t", UUID, 3, branches, chain(window, healed)) == Published(window, W1)
    assert find_published("t", UUID, 4, branches, chain(window, healed, snapshot(4, 3))) == Published(window, W1)
    with pytest.raises(DamagedTable):  # main was rolled back to before the window
        find_published("t", UUID, 3, branches, chain(window, replace(healed, follows=W2)))


def test_the_last_heal_stands_in_where_it_was_cut_off_too():
    window = replace(snapshot(1, None, W1), rows_after=10)
    healed = replace(snapshot(3, 2), rows_before=12, rows_after=13, follows=W1)
    compacted = replace(snapshot(5, 4), rows_before=13, rows_after=13)
    branches = {PUBLISHED_BRANCH: 1, HEALED_BRANCH: 3}
    assert find_published("t", UUID, 5, branches, chain(window, healed, compacted)) == Published(window, W1)
    with pytest.raises(DamagedTable):
        find_published("t", UUID, 5, {PUBLISHED_BRANCH: 1}, chain(window, healed, compacted))
    with pytest.raises(DamagedTable):
        find_published("t", UUID, 5, branches, chain(window, replace(healed, follows=W2), compacted))


@pytest.mark.parametrize("marker", [None, 7, 99])
def test_a_cut_chain_without_an_older_marker_stops_the_table(marker):
    later = snapshot(99, 98, W2)
    with pytest.raises(DamagedTable, match="k2 watermark rebuild t"):
        find_published("t", UUID, 9, {} if marker is None else {PUBLISHED_BRANCH: marker}, chain(snapshot(9, 8), later))


@pytest.mark.parametrize(
    ("window_id", "published", "decision"),
    [
        (W1, None, PublishDecision.PUBLISH),
        (W2, PUBLISHED_W1, PublishDecision.PUBLISH),
        (W1, PUBLISHED_W1, PublishDecision.ALREADY_PUBLISHED),
    ],
)
def test_a_window_follows_where_the_chain_ends(window_id, published, decision):
    assert decide_publish("t", window_id, "at", UUID, published) is decision


@pytest.mark.parametrize(
    ("window_id", "published"),
    [
        pytest.param(W2, None, id="gap before the first window"),
        pytest.param(WindowId(UUID, Window(W1.window.low, W2.window.high)), PUBLISHED_W1, id="overlap"),
        pytest.param(WindowId(UUID, Window(W2.window.high, W2.window.high + DAY)), PUBLISHED_W1, id="gap"),
    ],
)
def test_a_window_that_would_leave_a_gap_or_an_overlap_is_refused(window_id, published):
    with pytest.raises(StaleWindow, match="no row is lost"):
        decide_publish("t", window_id, "at", UUID, published)


def test_a_recreated_table_refuses_the_old_ones_window():
    with pytest.raises(StaleWindow, match="recreated"):
        decide_publish("t", W1, "at", "new-uuid", None)


def test_the_audit_refuses_any_difference():
    audit("t", W1.window, staged_rows=5, source_rows=5, planned_rows=5)
    audit("t", W1.window, staged_rows=5, source_rows=5, planned_rows=4)  # rows that came since
    for staged, source in [(4, 5), (6, 5)]:
        with pytest.raises(AuditFailed, match="Nothing was published"):
            audit("t", W1.window, staged_rows=staged, source_rows=source, planned_rows=5)


def test_the_audit_refuses_fewer_rows_than_were_planned_and_names_the_way_out():
    with pytest.raises(AuditFailed, match=r"counts 4 rows, 20 fewer than the 24.*replica that lags.*k2 accept t"):
        audit("t", W1.window, staged_rows=4, source_rows=4, planned_rows=24)


def test_windows_cut_on_another_column_are_not_gone_on_from():
    by_at = Published(snapshot(1, None, W1, "at"), W1)
    check_cut("t", by_at, "at")
    check_cut("t", None, "ingested_at")
    check_cut("t", PUBLISHED_W1, "ingested_at")  # of a version that did not say
    with pytest.raises(ChangedTable, match=r"cut on 'at'.*timestamp_column: ingested_at.*k2 watermark rebuild t"):
        check_cut("t", by_at, "ingested_at")


def test_a_forgotten_job_that_cut_on_another_column_publishes_nothing():
    by_at = Published(snapshot(1, None, W1, "at"), W1)
    assert decide_publish("t", W2, "at", UUID, by_at) is PublishDecision.PUBLISH
    with pytest.raises(StaleWindow, match=r"cut on 'ingested_at'.*by now cut on 'at'"):
        decide_publish("t", W2, "ingested_at", UUID, by_at)


def test_a_snapshot_says_what_it_is_stamped_with():
    read = Snapshot.read(7, 6, 3, stamp(W1).summary | {"added-records": "5", "total-records": "9"})
    assert (read.window_id, read.cut_on, read.rows, read.rows_before, read.rows_after) == (W1, "at", 5, 4, 9)


def test_a_staged_snapshot_that_somebody_cherry_picked_counts_as_its_window():
    read = Snapshot.read(7, 6, 3, {"published-wap-id": str(W1)})
    assert read.window_id == W1
    assert Snapshot.read(7, 6, 3, {"published-wap-id": "my-etl-run-7"}).window_id is None


def test_a_table_that_the_ledger_has_followed_is_not_made_anew():
    refuse_to_recreate("t", None)
    with pytest.raises(DamagedTable, match=r"UUID 0b5e.*not there.*k2 watermark rebuild t"):
        refuse_to_recreate("t", UUID)


def test_a_marker_that_main_was_rolled_back_past_does_not_stand_in():
    """Main went back to 1, was compacted (4), and 1 expired: the marker 3 is older than 4, and no ancestor of it."""
    marker = replace(snapshot(3, 2, W2), rows_after=2)
    compacted = replace(snapshot(4, 1), rows_before=1, rows_after=1)
    with pytest.raises(DamagedTable):
        find_published("t", UUID, 4, {PUBLISHED_BRANCH: 3}, chain(marker, compacted))


@pytest.mark.parametrize(
    ("ledger", "published", "watermark", "committed", "resume", "abandoned"),
    [
        pytest.param(LedgerEntry(None, None, None), None, FIRST_WATERMARK, None, None, None, id="first contact"),
        pytest.param(LedgerEntry(UUID, FIRST_WATERMARK, W1), None, FIRST_WATERMARK, None, W1, None, id="open"),
        pytest.param(
            LedgerEntry(UUID, FIRST_WATERMARK, W1), PUBLISHED_W1, W1.window.high, W1, None, None, id="reply lost"
        ),
        pytest.param(
            LedgerEntry(UUID, W2.window.high, None), PUBLISHED_W1, W1.window.high, None, None, None, id="ledger ahead"
        ),
        pytest.param(
            LedgerEntry(UUID, FIRST_WATERMARK, None), PUBLISHED_W1, W1.window.high, None, None, None, id="old backup"
        ),
        pytest.param(LedgerEntry(UUID, None, None), PUBLISHED_W1, W1.window.high, None, None, None, id="NULL"),
        pytest.param(
            LedgerEntry(UUID, FIRST_WATERMARK, WindowId(UUID, Window(W1.window.low, W2.window.high))),
            PUBLISHED_W1, W1.window.high, None, None, WindowId(UUID, Window(W1.window.low, W2.window.high)),
            id="another window took its place",
        ),
    ],
)  # fmt: skip
def test_the_ledger_follows_the_cold_table(ledger, published, watermark, committed, resume, abandoned):
    state = follow_chain("t", ledger, UUID, published)
    assert (state.watermark, state.committed, state.resume, state.abandoned) == (
        watermark,
        committed,
        resume,
        abandoned,
    )


def test_a_window_that_was_skipped_is_neither_committed_nor_published_though_its_name_is_the_same():
    skipped = Published(replace(PUBLISHED_W1.snapshot, skipped_rows=3), W1)
    state = follow_chain("t", LedgerEntry(UUID, FIRST_WATERMARK, W1), UUID, skipped)
    assert (state.committed, state.resume, state.abandoned) == (None, None, W1)
    with pytest.raises(StaleWindow, match="the cold table ends at"):
        decide_publish("t", W1, "at", UUID, skipped)
    assert decide_publish("t", W1, "at", UUID, PUBLISHED_W1) is PublishDecision.ALREADY_PUBLISHED


def test_a_recreated_table_stops_until_a_person_accepts_it():
    with pytest.raises(DamagedTable, match="k2 watermark rebuild t"):
        follow_chain("t", LedgerEntry("old", W1.window.high, None), UUID, None)


def published_by(ledger_id, window_id=W2):
    return Published(replace(PUBLISHED_W1.snapshot, window_id=window_id, ledger_id=ledger_id), window_id)


@pytest.mark.parametrize("opened", [None, W2], ids=["no window open", "the window of that name open"])
def test_a_window_of_another_ledger_stops_a_table_that_this_one_knows(opened):
    ledger = LedgerEntry(UUID, W1.window.high, opened, ledger_id="mine")
    with pytest.raises(DamagedTable, match=r"^t: another deployment, .* id theirs, .*`k2 watermark rebuild t`"):
        follow_chain("t", ledger, UUID, published_by("theirs"))


@pytest.mark.parametrize(
    ("ledger", "published"),
    [
        pytest.param(LedgerEntry(UUID, W1.window.high, W2, ledger_id="mine"), published_by("mine"), id="its own"),
        pytest.param(LedgerEntry(UUID, W1.window.high, W2, ledger_id="mine"), published_by(None), id="nobody's"),
        pytest.param(LedgerEntry(None, None, None, ledger_id="mine"), published_by("theirs"), id="new, or lost"),
        pytest.param(LedgerEntry(None, W1.window.high, None, ledger_id="mine"), published_by("theirs"), id="rebuilt"),
        pytest.param(LedgerEntry(UUID, None, None, ledger_id="mine"), published_by("theirs"), id="damaged"),
        pytest.param(LedgerEntry(UUID, W1.window.high, None), published_by("theirs"), id="without a name"),
        pytest.param(
            LedgerEntry(UUID, W2.window.high, None, ledger_id="mine"), published_by("theirs"), id="taken over before"
        ),
        pytest.param(
            LedgerEntry(UUID, W2.window.high, None, ledger_id="mine"), published_by("theirs", W1), id="rolled back"
        ),
        pytest.param(LedgerEntry(UUID, W1.window.high, None, ledger_id="mine"), None, id="rolled back to nothing"),
    ],
)
def test_everything_else_is_followed_whoever_published_it(ledger, published):
    assert follow_chain("t", ledger, UUID, published).watermark == watermark_of(published)


def test_the_reason_fits_into_the_ledger():
    name, ids = "a_table_of_a_long_name_indeed", ("0" * 36, "1" * 36)
    with pytest.raises(DamagedTable) as refused:
        refuse_another_ledger(name, published_by(ids[0]), ids[1], UUID, W1.window.high)
    assert len(str(refused.value)) < 1000


def test_what_is_stamped_is_read_again():
    summary = replace(stamp(W1), ledger_id="mine").summary
    assert Snapshot.read(1, None, 1, summary).ledger_id == "mine"
    assert Snapshot.read(1, None, 1, stamp(W1).summary).ledger_id is None


@dataclass
class IcebergModel:
    """A table whose catalog swaps metadata atomically: main moves by fast-forward only."""

    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    main: int | None = None

    def add(self, window_id):
        new = Snapshot(len(self.snapshots) + 1, self.main, len(self.snapshots) + 1, window_id, 1, 1)
        self.snapshots[new.snapshot_id] = new
        return new

    def ancestors(self, snapshot_id):
        while snapshot_id is not None:
            yield self.snapshots[snapshot_id]
            snapshot_id = self.snapshots[snapshot_id].parent_id

    def published(self, head):
        return find_published("t", UUID, head, {}, self.snapshots.get)

    def fast_forward(self, snapshot_id):
        if self.main is not None and self.main not in [each.snapshot_id for each in self.ancestors(snapshot_id)]:
            return False
        self.main = snapshot_id
        return True


class Protocol(RuleBasedStateMachine):
    """Schedulers plan from a ledger that may be any older state, jobs die or sleep at any step, others commit."""

    plans = Bundle("plans")
    staged = Bundle("staged")

    def __init__(self):
        super().__init__()
        self.table = IcebergModel()

    @rule(target=plans, days=st.integers(1, 3), believed=st.none() | st.integers(0, 6))
    def plan(self, days, believed):
        """From what the table holds, or from a ledger that is wrong by whole days."""
        low = (
            watermark_of(self.table.published(self.table.main))
            if believed is None
            else FIRST_WATERMARK + believed * DAY
        )
        return WindowId(UUID, Window(low, low + days * DAY))

    @rule(target=staged, window_id=plans)
    def stage(self, window_id):
        return self.table.add(window_id)

    @rule(target=staged, old=staged)
    def stage_again(self, old):
        return self.table.add(old.window_id)

    @rule(one=staged)
    def publish(self, one):
        try:
            decision = decide_publish("t", one.window_id, "at", UUID, self.table.published(one.parent_id))
        except StaleWindow:
            return
        if decision is PublishDecision.PUBLISH:
            self.table.fast_forward(one.snapshot_id)

    @rule()
    def compact(self):
        """Another writer commits on top of main."""
        self.table.main = self.table.add(None).snapshot_id

    @invariant()
    def windows_are_contiguous_and_each_once(self):
        windows = [each.window_id.window for each in self.table.ancestors(self.table.main) if each.window_id][::-1]
        expected_low = FIRST_WATERMARK
        for window in windows:
            assert window.low == expected_low
            expected_low = window.high


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
