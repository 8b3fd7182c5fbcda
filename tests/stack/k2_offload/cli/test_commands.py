"""The commands against real services, as a person or a script runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock
from urllib.parse import urlparse

from airflow.models.connection import Connection
from airflow.utils.session import create_session

from k2_offload.core.exactly_once import PUBLISHED_BRANCH
from k2_offload.core.lake import iceberg_table
from k2_offload.core.windows import format_time
from tests.stack.k2_offload.cli.conftest import START, Shell
from tests.support.commands import connection_variables


def expire_history(shell: Shell, table: str, *, branch: bool) -> None:
    """Another writer commits, and all snapshots before that expire, with their branch or without it."""
    with shell.cold(table).transaction() as transaction:
        transaction.update_snapshot().fast_append().commit()
    cold = shell.cold(table)
    if branch:
        cold.manage_snapshots().remove_branch(PUBLISHED_BRANCH).commit()
    cold = shell.cold(table)
    kept = {ref.snapshot_id for ref in cold.metadata.refs.values()}
    gone = [each.snapshot_id for each in cold.metadata.snapshots if each.snapshot_id not in kept]
    if gone:
        cold.maintenance.expire_snapshots().by_ids(gone).commit()


def test_verify_is_content_with_equal_tiers_and_names_what_differs(shell, moved):
    [equal] = shell.json("verify")
    assert equal["equal"]
    assert (equal["warm_rows"], equal["cold_rows"]) == (1000, 1000)
    assert equal["warm_hash"] == equal["cold_hash"] != "0"

    shell.workbench.sql(f"ALTER TABLE {moved} UPDATE price = price + 1 WHERE sequence = 5 SETTINGS mutations_sync = 1")
    [changed] = shell.json("verify", exit_code=1)
    assert (changed["warm_rows"], changed["cold_rows"]) == (1000, 1000)
    assert changed["warm_hash"] != changed["cold_hash"]

    shell.workbench.insert_trades(moved, START, 3, start_sequence=5000)
    day = START.date().isoformat()
    result = shell.k2("verify", "--deep", "--from", day, exit_code=1)
    assert f"{moved} {day}: changed rows: 4 rows only in ClickHouse, 1 only in the cold table" in result.stderr
    assert ("late row" in result.stdout, "changed, in cold" in result.stdout) == (True, True)

    task = next(iter(shell.cold(moved).scan().plan_files()))
    Path(urlparse(task.file.file_path).path).unlink()
    result = shell.k2("verify", "--cold-only", exit_code=1)
    assert f"{moved}: data file {task.file.file_path} is missing" in result.stderr


def test_a_table_never_offloaded_is_equal_with_no_rows(shell):
    table = shell.workbench.create_trades()
    shell.tables(shell.workbench.spec(table))
    [line] = shell.json("verify")
    assert line["equal"]
    assert (line["warm_rows"], line["cold_rows"], line["low"], line["high"]) == (0, 0, None, None)


def test_clickhouse_reads_the_cold_table_as_of_the_metadata_it_is_pinned_to(shell, moved):
    cycle = shell.workbench.cycle(shell.workbench.spec(moved))
    before = cycle.catalog.load(cycle.tables[moved])
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)
    shell.workbench.move(shell.workbench.cycle(shell.workbench.spec(moved)), moved)
    after = cycle.catalog.load(cycle.tables[moved])
    newest = []
    for cold in (before, after):
        reader = iceberg_table(cold.location, cold.metadata_location, "k2_lake")
        newest.append(cycle.clickhouse.execute(f"SELECT max(at) FROM {reader}"))
        assert cycle.clickhouse.execute(f"SELECT count() FROM {reader}") == [(cold.total_rows,)]
    assert newest[0] < newest[1]


def test_one_table_in_trouble_does_not_hide_the_others(shell, moved):
    broken = f"{moved}_gone"
    shell.tables(shell.workbench.spec(moved), shell.workbench.spec(broken))
    healthy, trouble = shell.json("status", exit_code=1)
    assert (healthy["warm_rows"], healthy["cold_rows"], healthy["late_rows"]) == (1000, 1000, 0)
    assert (healthy["status"], healthy["window_rows"], healthy["problem"]) == ("success", 1000, None)
    assert f"ClickHouse has no table k2.{broken}" in trouble["problem"]

    checks = shell.json("validate", exit_code=1)
    assert {check["subject"]: check["passed"] for check in checks["checks"]} == dict.fromkeys(
        (check["subject"] for check in checks["checks"]), True
    )
    assert [(table["table"], table["columns"], table["passed"]) for table in checks["tables"]] == [
        (moved, 5, True),
        (broken, None, False),
    ]


def test_connections_are_found_in_airflows_database(shell, moved):
    connections = json.loads((shell.workbench.stack.settings.airflow_home / "connections.json").read_text())
    sides = {"LEDGER": "ledger", "CLICKHOUSE": "clickhouse", "CATALOG": "iceberg", "SPARK": "spark"}
    with create_session() as session:
        for name in sides.values():
            fields = dict(connections[f"k2_{name}"])
            extra = json.dumps(fields.pop("extra_dejson", {}))
            session.add(Connection(f"k2_{name}_stored", extra=extra, **fields))
    stored = {f"AIRFLOW__K2_OFFLOAD__{side}_CONN_ID": f"k2_{name}_stored" for side, name in sides.items()}
    said = subprocess.run(
        ["k2", "status", "--json"], env=shell.environment | stored, stdout=subprocess.PIPE, check=True
    )
    [line] = json.loads(said.stdout)
    assert (line["table"], line["problem"], line["cold_rows"]) == (moved, None, 1000)


def test_a_feed_that_is_dead_has_no_lag_and_says_so_and_lag_is_the_age_of_what_waits(shell, moved):
    shell.workbench.insert_trades(moved, datetime.now(UTC) + timedelta(hours=1), 2)  # says nothing about the feed
    [line] = shell.json("status")
    last_row = START + timedelta(seconds=998)
    assert (line["silent"], line["silent_since"]) == (True, format_time(last_row))
    assert (line["lag_seconds"], line["warm_rows"]) == (None, 1002)
    assert f"no new rows since {last_row:%Y-%m-%d %H:%M:%S} (" in shell.k2("status").stdout

    waiting = START + timedelta(hours=1)
    shell.workbench.insert_trades(moved, waiting, 1)
    shell.workbench.insert_trades(moved, START + timedelta(hours=2, minutes=50), 1)
    [line] = shell.json("status", "--no-counts")
    assert 0 <= (datetime.now(UTC) - waiting).total_seconds() - line["lag_seconds"] < 60
    assert (line["silent"], line["warm_rows"]) == (False, None)


def test_as_a_probe_status_fails_with_one_line_for_each_reason(shell, moved):
    conditions = "lag>30m,failed,refused,late,gaps,metadata"
    [line] = shell.json("status", "--fail-on", conditions)
    assert line["reasons"] == []
    assert line["snapshots"] == 1
    assert line["metadata_bytes"] > 1000

    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10, start_sequence=2000)
    shell.workbench.insert_trades(moved, START + timedelta(seconds=1), 7, start_sequence=3000)
    cycle = shell.workbench.cycle(shell.workbench.spec(moved))
    assert cycle.plan(cycle.tables[moved]) is not None
    cycle.commit(cycle.tables[moved])
    shell.workbench.sql(f"ALTER TABLE {moved} DROP COLUMN note")
    result = shell.k2("status", "--json", "--fail-on", conditions, exit_code=1)
    [line] = json.loads(result.stdout)
    assert [each["condition"] for each in line["reasons"]] == ["lag>30m", "failed", "refused", "late"]
    assert [text.removeprefix("✗ ") for text in result.stderr.splitlines()] == [
        each["reason"] for each in line["reasons"]
    ]
    assert "planned and not published" in line["failure"]
    assert "column 'note' is missing in the source and string in the cold table" in line["refusal"]
    shell.k2("status")


def test_late_rows_are_counted_but_not_those_on_time_nor_days_that_the_ttl_has_reached(shell, moved):
    long_ago = START - timedelta(days=30)
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)  # above the watermark: the next cycle's
    [line] = shell.json("status")
    assert (line["late_rows"], line["warm_rows"], line["cold_rows"]) == (0, 1010, 1000)

    shell.workbench.insert_trades(moved, long_ago, 40)  # a day of which the TTL may have taken any number
    shell.workbench.insert_trades(moved, START + timedelta(seconds=1), 7)
    [line] = shell.json("status")
    assert (line["late_rows"], line["warm_rows"], line["cold_rows"]) == (7, 1057, 1000)
    [line] = shell.json("status", "--no-counts")
    assert line["late_rows"] is None

    screen = shell.k2("status").stdout
    assert f"late: rows of {START:%Y-%m-%d} that came below the watermark" in screen
    assert "`k2 heal TABLE --dry-run`" in screen


def test_late_rows_are_counted_by_the_day_of_the_partition_whatever_the_cold_tier_has_more(shell):
    """A candle: windows are cut on its end, partitions are days of its start."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    candles = shell.workbench.create_trades(extra=", start DateTime64(6, 'UTC') DEFAULT at - INTERVAL 1 HOUR")
    spec = shell.workbench.spec(candles, partition_column="start")
    shell.tables(spec)
    for day in range(3):
        shell.workbench.insert_trades(candles, midnight + timedelta(days=day - 1, minutes=30), 100)
    shell.workbench.move(shell.workbench.cycle(spec), candles)
    assert shell.json("status")[0]["late_rows"] == 0
    shell.workbench.insert_trades(candles, midnight + timedelta(minutes=40), 3)  # started the day before
    shell.workbench.sql(
        f"ALTER TABLE {candles} DELETE WHERE at > toDateTime64('{midnight:%Y-%m-%d} 12:00:00', 6, 'UTC') "
        "SETTINGS mutations_sync = 1"
    )
    assert shell.json("status")[0]["late_rows"] == 3


def failed_checks(shell: Shell, connections: dict[str, dict], made: int = 13, **environment: str) -> dict[str, str]:
    """Subject and detail of the checks that fail with these connections, by side; so many are made."""
    changed = connection_variables(connections) | environment
    checks = shell.json("validate", exit_code=1, **changed)["checks"]
    assert len(checks) == made
    return {check["subject"]: check["detail"] for check in checks if not check["passed"]}


def test_validate_names_every_service_that_does_not_answer_by_its_connection(shell):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades()))
    nowhere = {"host": "127.0.0.1", "port": 1}
    failed = failed_checks(
        shell,
        {
            "CLICKHOUSE": {"conn_type": "clickhouse", **nowhere},
            "LEDGER": {"conn_type": "postgres", **nowhere},
            "CATALOG": {"conn_type": "iceberg", "extra": {"catalog_type": "sql"}, **nowhere},
        },
        made=11,
    )
    assert failed.keys() == {"ClickHouse", "Postgres (ledger)", "Iceberg catalog"}
    for subject, connection in zip(failed, ("other_ledger", "other_clickhouse", "other_catalog"), strict=True):
        assert f"Airflow connection '{connection}'" in failed[subject]


def test_validate_asks_clickhouses_http_port_where_spark_reads_from_it(shell):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades(), transport="jdbc"))
    checks = {check["subject"]: check for check in shell.json("validate")["checks"]}
    assert re.match(r"answers at 127\.0\.0\.1:\d+$", checks["ClickHouse's HTTP"]["detail"])
    file = shell.workbench.stack.settings.airflow_home / "connections.json"
    clickhouse = json.loads(file.read_text())["k2_clickhouse"]
    clickhouse["extra_dejson"]["http_port"] = clickhouse["port"]  # the native one
    failed = failed_checks(shell, {"CLICKHOUSE": clickhouse}, made=14)
    assert failed.keys() == {"ClickHouse's HTTP"}
    assert "'other_clickhouse'" in failed["ClickHouse's HTTP"]


def test_validate_names_everything_that_keeps_spark_from_starting(shell):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades()))
    failed = failed_checks(
        shell,
        {"SPARK": {"conn_type": "spark", "host": "yarn"}},
        AIRFLOW__K2_OFFLOAD__SPARK_BINARY="/nowhere/spark-submit",
        AIRFLOW__K2_OFFLOAD__SPARK_JARS="/nowhere/iceberg.jar",
        AIRFLOW__K2_OFFLOAD__SPARK_CLASS_ARCHIVE="/nowhere/offload.jsa",
        JAVA_HOME="/nowhere",
    )
    assert failed.keys() == {"Java", "spark-submit", "Spark jars", "Class archive", "Spark connection"}
    assert "/nowhere/offload.jsa is missing" in failed["Class archive"]
    assert "Java (JAVA_HOME=/nowhere) cannot be run" in failed["Java"]
    assert "'/nowhere/spark-submit' is not there" in failed["spark-submit"]
    assert "missing: /nowhere/iceberg.jar" in failed["Spark jars"]
    assert "'other_spark' means YARN" in failed["Spark connection"]


def test_validate_writes_into_the_warehouse_and_leaves_nothing(shell):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades()))
    checks = {check["subject"]: check for check in shell.json("validate")["checks"]}
    assert "written, read and removed" in checks["Warehouse"]["detail"]
    assert "ClickHouse wrote and read" in checks["ClickHouse's export"]["detail"]
    assert not list(shell.workbench.stack.settings.warehouse.glob("k2_validate*"))


def test_validate_names_a_warehouse_that_nobody_can_write(shell):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades()))
    file = shell.workbench.stack.settings.airflow_home / "connections.json"
    iceberg = json.loads(file.read_text())["k2_iceberg"]
    iceberg["extra_dejson"]["warehouse"] = "file:///proc/warehouse"
    failed = failed_checks(shell, {"CATALOG": iceberg})
    assert failed.keys() == {"Warehouse", "ClickHouse's export"}
    assert "/proc/warehouse" in failed["Warehouse"]
    assert "'other_catalog'" in failed["Warehouse"]
    assert "ClickHouse cannot write and read file:///proc/warehouse/k2_validate" in failed["ClickHouse's export"]


def test_class_archive_is_made_and_one_older_than_a_jar_is_told(shell, tmp_path):
    shell.tables(shell.workbench.spec(shell.workbench.create_trades()))
    file = tmp_path / "archives of mine" / "offload.jsa"
    setting = {"AIRFLOW__K2_OFFLOAD__SPARK_CLASS_ARCHIVE": str(file)}
    assert shell.json("class-archive", **setting) == {"file": str(file), "size_bytes": file.stat().st_size}
    shell.k2("validate", **setting)
    os.utime(file, (0, 0))
    assert "make it anew: `k2 class-archive`" in shell.k2("validate", exit_code=1, **setting).stdout


def test_a_job_starts_whatever_the_class_archive_is(shell, moved, tmp_path):
    broken = tmp_path / "broken.jsa"
    broken.write_bytes(b"not an archive")
    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)
    cycle = shell.workbench.cycle(shell.workbench.spec(moved))
    planned = cycle.plan(cycle.tables[moved])
    with mock.patch.dict(os.environ, {"AIRFLOW__K2_OFFLOAD__SPARK_CLASS_ARCHIVE": str(broken)}):
        code, output = shell.workbench.run_job(planned)
    assert code == 0, output
    cycle.commit(cycle.tables[moved])
    assert shell.json("verify")[0]["equal"]


def test_a_recreated_cold_table_is_accepted_by_rebuilding_and_filled_anew(shell, moved):
    shell.workbench.cold_catalog.drop_table(f"cold.{moved}")
    spec = shell.workbench.spec(moved)
    cycle = shell.workbench.cycle(spec)
    cycle.catalog.create(cycle.tables[moved], cycle.clickhouse.columns(cycle.tables[moved]))
    assert "dropped and recreated" in shell.k2("watermark", "show", moved, exit_code=1).stderr
    assert "dropped and recreated" in shell.k2("status", moved).stdout, "before a cycle has tried"

    assert shell.json("watermark", "rebuild", moved, "--dry-run")["ledger_table_uuid"] is not None
    assert shell.k2("watermark", "show", moved, exit_code=1)
    rebuilt = shell.json("watermark", "rebuild", moved, "--yes")
    assert rebuilt["ledger_table_uuid"] == rebuilt["cold_table_uuid"]
    shell.workbench.move(shell.workbench.cycle(spec), moved)
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)


def test_where_history_was_expired_the_marker_still_says_what_is_there(shell, moved):
    expire_history(shell, moved, branch=False)
    assert shell.json("watermark", "show", moved)["problem"] is None
    assert shell.workbench.move(shell.workbench.cycle(shell.workbench.spec(moved)), moved) is None


def test_where_the_marker_is_gone_too_the_newest_row_says_it(shell, moved):
    before = shell.json("watermark", "show", moved)
    expire_history(shell, moved, branch=True)
    assert "watermark rebuild" in shell.json("watermark", "show", moved, exit_code=1)["problem"]
    rebuilt = shell.json("watermark", "rebuild", moved, "--yes")
    assert rebuilt["cold_watermark"] == rebuilt["ledger_watermark"] == before["cold_watermark"]

    shell.workbench.insert_trades(moved, START + timedelta(hours=1), 10)
    assert shell.workbench.move(shell.workbench.cycle(shell.workbench.spec(moved)), moved)
    assert shell.workbench.cold_rows(moved) == shell.workbench.warm_rows(moved)


def test_without_consent_nothing_is_rebuilt(shell, moved):
    expire_history(shell, moved, branch=True)
    snapshots = len(shell.cold(moved).metadata.snapshots)
    assert "Nothing was changed" in shell.k2("watermark", "rebuild", moved, exit_code=1).stderr
    assert len(shell.cold(moved).metadata.snapshots) == snapshots


def test_a_run_moves_what_it_can_and_says_why_the_rest_stays(shell):
    good = shell.workbench.create_trades()
    shell.workbench.insert_trades(good, START, 100)
    gone = f"{good}_gone"
    shell.tables(shell.workbench.spec(good), shell.workbench.spec(gone))
    result = shell.k2("run", "--json", exit_code=1)
    document = json.loads(result.stdout)
    assert [(layer["layer"], layer["state"]) for layer in document["layers"]] == [("bronze", "failed")]
    assert {table["table"]: (table["state"], table["rows"]) for table in document["tables"]} == {
        good: ("moved", 100),
        gone: ("not_moved", None),
    }
    assert f"ClickHouse has no table k2.{gone}" in result.stderr
    assert document["log"] in result.stderr
    assert Path(document["log"]).is_file()

    chosen = shell.json("run", good)
    assert chosen["tables"] == [
        {"table": good, "state": "nothing_new", "rows": 0, "low": None, "high": None, "seconds": None}
    ]
    assert [layer["state"] for layer in chosen["layers"]] == ["success"]
