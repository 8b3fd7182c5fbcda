"""What the page says: every state, in words; nothing of what it shows is taken for HTML."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest

from k2_offload.adapters.dag_runs import ActiveRun, DagState
from k2_offload.adapters.ledger_records import RecordedDay
from k2_offload.adapters.snapshot_chain import SnapshotEntry
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.exactly_once import FIRST_WATERMARK, Snapshot
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.lag import Silence
from k2_offload.core.needs import Finding
from k2_offload.core.needs import State as Urgency
from k2_offload.core.observation import Comparisons, OffsetComparison, Records, SealedDays, UnequalDay
from k2_offload.core.schema_change import ColdColumn
from k2_offload.core.text import UNKNOWN
from k2_offload.core.ttl import TimeLeft
from k2_offload.core.windows import Upstream, Window
from k2_offload.web import page as module
from k2_offload.web.shared import Look
from k2_offload.web.view import describe_snapshot, table_views
from k2_offload.work.overview import ComparedColumn, TableDetail, compare_columns
from tests.support.html import Page
from tests.unit.k2_offload.web.pages import (
    DAY,
    GOOD,
    HOUR,
    MINUTE,
    NOON,
    TABLES,
    WINDOW,
    get,
    overview,
    page,
    record,
    table,
    table_of,
)

SNAPSHOT = Snapshot(77, None, 1, None, 5, 6)
HOSTILE = "<script>alert('&')</script>\"><img src=x>"


def test_a_healthy_table_has_its_numbers_and_no_sentence():
    shown = Page(page())
    for words in ("1 up to date", "2026-11-21 11:45:00", "15 min 00 s", "1,234, 1 min 00 s", "4,321", "98,765"):
        assert words in shown.text
    assert not [tag for tag, attributes in shown.tags if attributes.get("class") == "note"]
    assert "../dags/k2_offload_bronze/runs/scheduled__1" in shown.links()


@pytest.mark.parametrize(
    ("changes", "word", "sentence"),
    [
        ({"problem": "b: its source is gone."}, "unreadable", "b: its source is gone."),
        ({"record": record("failed", "b: too large.")}, "failed", "failed: b: too large."),
        ({"refusal": "b: another column."}, "refused", "the next cycle will refuse it: b: another column."),
        (
            {"lag": 8 * DAY, "expiry": TimeLeft(NOON - 8 * DAY, NOON - HOUR, "k2.b")},
            "rows may expire",
            "no time left until the TTL of k2.b",
        ),
        ({"lag": 8 * DAY}, "behind", "behind its target, and no run of k2_offload_bronze goes on"),
        ({"held_back_by": Upstream("x", NOON - HOUR, NOON), "lag": HOUR}, "held back", "held back by x at 2026-11-21"),
        (
            {"held_back_by": Upstream("x", FIRST_WATERMARK, NOON), "lag": HOUR},
            "held back",
            "x, which has moved nothing",
        ),
        ({"lag": HOUR}, "behind", "is Airflow's scheduler up? k2 run b moves it at once."),
        (
            {"lag": HOUR, "record": record(last_successful_run=NOON - MINUTE)},
            "behind",
            "a window was moved 1 min 00 s ago, and the next cycle moves more.",
        ),
        ({"silence": Silence(NOON - HOUR), "lag": 0 * HOUR}, "silent", "no new rows since 2026-11-21 11:00:00"),
        ({"record": None, "watermark": None, "silence": Silence(None)}, "no rows", "ClickHouse has no rows up to now"),
    ],
)
def test_what_does_not_move_says_why(changes, word, sentence):
    shown = Page(page(table(replace(GOOD, **changes))))
    assert f"1 {word}" in shown.text
    assert sentence in shown.text
    assert sentence in Page(page(table(replace(GOOD, **changes)), path="/tables/b")).text


@pytest.mark.parametrize("over", [False, True])
def test_who_has_a_longer_buffer_has_a_later_target(over):
    patient = replace(TABLES["b"], buffer_seconds=3600)
    status = replace(GOOD, table=patient, lag=80 * MINUTE + over * MINUTE / 60)
    assert f"1 {'behind' if over else 'up to date'}" in Page(page(table(status))).text
    shown = Page(page(table(status), path="/tables/b")).text
    assert "target 1 h 20 min" in shown
    assert ("what waits is moved by the next cycle" in shown) is not over


@pytest.mark.parametrize("over", [False, True])
def test_a_calmer_schedule_has_a_later_target(over):
    patient = table(replace(GOOD, table=replace(TABLES["s"], buffer_seconds=3600), lag=0 * MINUTE))
    shown = Page(page(table(replace(GOOD, lag=70 * MINUTE + over * MINUTE / 60)), patient, pause=60 * MINUTE)).text
    assert (f"{1 + (not over)} up to date" in shown, "1 behind" in shown) == (True, over)
    assert "(target by table)" in shown
    alone = Page(page(pause=60 * MINUTE)).text
    assert "(target 1 h 10 min)" in alone


@pytest.mark.parametrize(
    ("status", "word"),
    [({"record": record("running")}, "running"), ({"watermark": None, "record": None}, "not started"), ({}, "up to")],
)
def test_what_needs_nobody_says_so_in_a_word(status, word):
    assert f"1 {word}" in Page(page(table(replace(GOOD, **status)))).text


def test_a_dag_that_is_paused_or_unknown_is_a_reason():
    paused = Page(page(dags={"bronze": DagState(paused=True)})).text
    assert "1 paused" in paused
    assert "nothing moves until airflow dags unpause k2_offload_bronze" in paused
    assert (
        "Airflow knows no DAG k2_offload_bronze yet"
        in Page(page(path="/tables/b", dags={"bronze": DagState(None)})).text
    )


def test_a_run_that_goes_on_is_named():
    run = ActiveRun("k2_offload_bronze", "manual__7", "running", NOON - MINUTE, NOON, False, None)
    shown = page(table(replace(GOOD, lag=HOUR)), dags={"bronze": DagState(False, (run,))})
    assert "behind its target; k2_offload_bronze: run manual__7 has been running since" in shown


def test_a_run_that_began_after_the_look_has_not_been_running_for_less_than_nothing():
    run = ActiveRun("k2_offload_bronze", "manual__7", "running", NOON + MINUTE, NOON, False, None)
    assert "since 2026-11-21 12:01:00 (0 s)" in Page(page(dags={"bronze": DagState(False, (run,))})).text


def differing(since, late_rows=0, gone_rows=0, whole=True):
    """Records of a day that differs."""
    return Records(Comparisons(NOON, (UnequalDay(NOON.date(), NOON - since, late_rows, gone_rows, whole),)))


def test_late_rows_are_counted_and_named():
    shown = Page(page(table(records=differing(HOUR, late_rows=17)))).text
    assert "1 late rows" in shown
    assert "17 late rows: k2_reconcile heals their days, or says why not." in shown


@pytest.mark.parametrize(
    ("records", "word", "sentence"),
    [
        (differing(5 * HOUR, gone_rows=7), "differs", "days that differ: 2026-11-21, for 5 h 00 min"),
        (differing(5 * HOUR), "differs", "( k2 heal b --dry-run )"),
        (differing(5 * HOUR, late_rows=3), "differs", "days that differ: 2026-11-21"),
        (differing(MINUTE, gone_rows=7), "differs", "days that differ: 2026-11-21, for 1 min 00 s"),
        (Records(sealed=SealedDays(3, broken=2)), "seal broken", "2 sealed days are not what they were ( k2 verify"),
        (Records(offsets=OffsetComparison(NOON, 5, 0, 0)), "messages missing", "5 messages are missing"),
        (Records(offsets=OffsetComparison(NOON, 0, 0, 1)), "messages unclear", "nobody can tell if some miss"),
        (Records(offsets=OffsetComparison(NOON - 5 * HOUR, 0, 0, 0)), "messages unclear", "last compared 5 h"),
    ],
)
def test_a_table_whose_days_seals_or_messages_are_wrong_is_not_up_to_date(records, word, sentence):
    for path in ("/", "/tables/b"):
        shown = Page(page(table(records=records), path=path)).text
        assert sentence in shown
        assert "up to date" not in shown
        assert word in shown
    assert f"1 {word}" in Page(page(table(records=records))).text


def test_what_only_stays_on_record_is_a_sentence_and_no_state():
    gap = Gap(Window(NOON - DAY, NOON - HOUR), GapKind.EXPIRED, 5, NOON)
    status = replace(GOOD, gaps=[gap])
    shown = Page(page(table(status, records=replace(differing(DAY, late_rows=9, whole=False), gaps=[gap])))).text
    assert "1 up to date" in shown
    assert "9 rows came too late to be healed" in shown
    assert shown.count("rows missed") == 1


def test_the_dags_that_compare_and_tidy_stand_above_all_tables_when_they_do_not_run():
    wrong = [
        Finding("runs", Urgency.RED, "paused", "k2_reconcile", "airflow dags unpause k2_reconcile"),
        Finding("runs", Urgency.WARNING, "no comparison has run yet", "k2_reconcile", "k2 verify"),
    ]
    for path, root in (("/", "../"), ("/tables/b", "../../")):
        shown = Page(page(path=path, upkeep=wrong))
        assert "k2_reconcile : paused · airflow dags unpause k2_reconcile" in shown.text
        assert f"{root}dags/k2_reconcile" in shown.links()
    kinds = [attributes.get("class") for tag, attributes in Page(page(upkeep=wrong)).tags if tag == "p"]
    assert kinds[:2] == ["problem", "problem mild"]


def test_the_page_asks_for_the_layers_that_have_tables_and_for_both_dags_of_upkeep(monkeypatch):
    tables = SimpleNamespace(in_layer=lambda layer: layer != "silver")
    monkeypatch.setattr(module, "open_tiers", lambda **_: nullcontext(SimpleNamespace(tables=tables)))
    monkeypatch.setattr(module, "read_overview", lambda _, *asked: asked)
    look = module.shared_looks.__wrapped__().overview.look(patience_seconds=30)
    layers = {"bronze": "k2_offload_bronze", "gold": "k2_offload_gold"}
    assert look.value == (layers, ["k2_reconcile", "k2_maintenance"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lag": 8 * DAY}, "never"),
        ({"lag": 0 * DAY, "watermark": NOON - 8 * DAY}, "nothing waits"),
        ({"lag": None, "watermark": None}, UNKNOWN),
        ({"lag": None, "watermark": NOON - 8 * DAY}, "now"),
        ({"lag": None, "watermark": NOON - HOUR}, "6 d 23 h"),
        ({"lag": DAY, "expiry": TimeLeft(NOON - DAY, NOON + HOUR, "k2.b")}, "1 h 00 min"),
    ],
)
def test_what_waits_expires_by_the_ttl_and_by_the_table_file_where_nobody_looked(changes, words):
    look = overview(table(replace(GOOD, **changes)))
    [view] = table_views(look, ["bronze"]).values()
    assert view.expires_text == words


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (SnapshotEntry(NOON, "replace", SNAPSHOT, True, rewritten_days=(NOON.date(),)), "maintenance: files rewritten"),
        (SnapshotEntry(NOON, "append", replace(SNAPSHOT, backfill="b"), True), "backfill of what was skipped"),
        (SnapshotEntry(NOON, "overwrite", replace(SNAPSHOT, heal="h"), True), "heal of a day"),
        (SnapshotEntry(NOON, "append", SNAPSHOT, True), "another writer"),
    ],
)
def test_a_snapshot_is_told_by_what_made_it(entry, words):
    assert describe_snapshot(entry) == words


def test_a_service_that_is_down_is_a_sentence_and_the_rest_stays():
    sentence = "ClickHouse is not reachable through Airflow connection 'k2_clickhouse': refused."
    unknown = replace(GOOD, lag=None, cold_rows=None, metadata=None)
    shown = Page(page(table(unknown, looked_at=False, warm_rows=None), problems=[sentence])).text
    assert sentence in shown
    assert "1 unknown" in shown
    assert "2026-11-21 11:45:00" in shown, "the ledger's watermark"
    assert "up to date" not in shown


def test_without_the_ledger_nothing_is_called_up_to_date():
    shown = Page(page(table(replace(GOOD, record=None), windows=()), ledger=False, problems=["Postgres is down."])).text
    assert "1 unknown" in shown
    assert "up to date" not in shown


def test_before_the_first_answer_the_page_says_so_and_asks_again_soon():
    answer = get(Look())
    assert "are being asked" in answer.text
    assert 'data-waits="1"' in answer.text
    assert "are being asked" in get(Look(), path="/tables/b").text


@pytest.mark.parametrize("path", ["/", "/tables/b"])
def test_a_first_look_that_is_slow_blames_no_service_and_points_at_nothing(path):
    shown = Page(get(Look(pending_seconds=95), path).text).text
    assert "this one has taken 95 seconds so far" in shown
    assert "does not answer. What" not in shown
    assert "below" not in shown
    assert "95 seconds" not in Page(get(Look(overview(), pending_seconds=95, last_seconds=60), path).text).text


def test_a_look_that_failed_or_hangs_stands_above_what_was_known():
    known = overview()
    assert "k2_ledger' does not exist" in Page(get(Look(problem="connection 'k2_ledger' does not exist")).text).text
    shown = Page(get(Look(known, age_seconds=200, pending_seconds=180, problem="went wrong")).text).text
    assert "went wrong" in shown
    assert "has gone on for 180 seconds" in shown
    assert "200 seconds ago" in shown
    assert "up to date" in shown


def test_a_table_that_is_not_there_is_not_found():
    assert get(Look(overview()), "/tables/nothing").status_code == 404


def detail(text="plain"):
    window = replace(WINDOW, dag_run_id=text)
    days = (
        RecordedDay((NOON - 2 * DAY).date(), Verdict.EQUAL, NOON, 10, 10, 0, 0, None, None),
        RecordedDay(NOON.date(), Verdict.CHANGED_ROWS, NOON, 12, 11, 3, 2, NOON - HOUR, text),
    )
    snapshots = (
        SnapshotEntry(NOON, text, Snapshot(77, None, 1, None, 5, 6, rows_after=15), True),
        SnapshotEntry(NOON, "append", Snapshot(78, 77, 2, None, 5, 6, rows_after=20), False),
    )
    columns = (
        ComparedColumn(text, "UInt8", "int", ColdColumn(text, "long", False)),
        ComparedColumn("same", text, "int", ColdColumn("same", "int", True)),
    )
    return TableDetail(NOON, (window, replace(window, state="open", rows=None, committed_at=None)), days, snapshots,
                       GOOD.metadata, text, columns, [text])  # fmt: skip


def test_a_table_shows_windows_days_columns_and_snapshots():
    shown = Page(page(path="/tables/b", detail=detail()))
    for words in (
        "The last 2 windows as a table", "2026-11-21 11:00:00 to 11:45:00", "open", "11-19", "= equal",
        "changed rows, 3 rows only warm, 2 only cold, since 2026-11-21 11:00:00.", "int, may be NULL", "differs",
        "another writer", "do not see it", "0 KiB, 5 snapshots", '{"tables": ["b"]}', "k2 heal b",
    ):  # fmt: skip
        assert words in shown.text, words
    titles = [attributes["title"] for tag, attributes in shown.tags if tag == "li" and "title" in attributes]
    assert "2026-11-20: not compared" in titles
    assert (
        "2026-11-21: changed rows; 12 rows warm, 11 cold, 3 only warm, 2 only cold; compared 2026-11-21 12:00 UTC"
        in titles
    )
    assert "../../dags/k2_reconcile" in shown.links()
    assert len([tag for tag, _ in shown.tags if tag == "rect"]) == 4, "two windows in two figures"


def test_details_that_are_old_failed_or_hang_say_so():
    old = Look(TableDetail(NOON - HOUR, problems=["of both", "of it alone"]), age_seconds=3600, pending_seconds=180)
    shown = Page(get(Look(overview(problems=["of both"])), "/tables/b", old).text).text
    assert "as of 2026-11-21 11:00:00 UTC, 3600 seconds ago" in shown
    assert "has gone on for 180 seconds" in shown
    assert (shown.count("of both"), shown.count("of it alone")) == (1, 1)
    failed = Look(TableDetail(NOON - HOUR), problem="went wrong")
    assert "went wrong" in Page(get(Look(overview()), "/tables/b", failed).text).text
    assert (
        "has taken 180 seconds so far" in Page(get(Look(overview()), "/tables/b", Look(pending_seconds=180)).text).text
    )


def test_nothing_that_is_shown_is_taken_for_html():
    spec = replace(TABLES["b"])
    object.__setattr__(spec, "name", HOSTILE)  # no table file may say that
    status = replace(GOOD, table=spec, record=record("failed", HOSTILE), problem=HOSTILE, refusal=HOSTILE)
    shown = table(status, windows=(replace(WINDOW, dag_run_id=HOSTILE),))
    found = overview(shown, problems=[HOSTILE])
    name = "%3Cscript%3Ealert%28%27%26%27%29%3C%2Fscript%3E%22%3E%3Cimg%20src%3Dx%3E"
    for text in (page(shown, problems=[HOSTILE]), page(path="/tables/b", detail=detail(HOSTILE))):
        assert "&lt;script&gt;" in text
        assert [tag for tag, _ in Page(text).tags if tag == "script"] == ["script"]
        assert "<img" not in text
    assert f"runs/{name}" in page(shown)
    assert get(Look(found), f"/tables/{name}").status_code == 404, "a name with a slash is no path"


def test_only_the_packages_own_style_and_script_run_and_nothing_comes_from_elsewhere():
    answer = get(Look(overview()))
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|style=|\son\w+=|@import|url\(""", answer.text)
    assert answer.headers["cache-control"] == "no-store"


def test_a_hundred_tables_keep_their_layers_order():
    tables = [table_of(name) for name in ("g", "s", "b") for _ in range(34)]
    named = []
    for number, each in enumerate(tables):
        spec = replace(each.status.table, name=f"table_{number}", target=f"cold.t{number}")
        named.append(replace(each, status=replace(each.status, table=spec)))
    shown = Page(page(*named))
    order = [int(link.removeprefix("tables/table_")) for link in shown.links() if link.startswith("tables/")]
    assert len(order) == 102
    assert order[:34] == list(range(68, 102)), "bronze first, each layer in the file's order"
    assert all(later - earlier in (1, -67) for earlier, later in pairwise(order))


def test_columns_are_compared_as_a_cycle_would():
    cold = [ColdColumn("a", "long", False), ColdColumn("gone", "string", True)]
    found = compare_columns(TABLES["b"], {"a": "UInt32", "new": "String", "odd": "Array(String)"}, cold)
    assert [(each.name, each.expected, each.differs) for each in found] == [
        ("a", "long", False),
        ("new", "string", True),
        ("odd", None, True),
        ("gone", None, True),
    ]
