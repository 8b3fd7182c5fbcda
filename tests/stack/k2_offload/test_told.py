"""What a run of a DAG tells others: lineage to an OpenLineage collector, lines that are JSON, Spark's whole log."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from embedded.stack.settings import HOST
from tests.support.collector import Collector
from tests.support.cycles import table_file


def test_lineage_json_lines_and_sparks_whole_log(workbench, tmp_path):
    table, stack = workbench.create_trades(), workbench.stack
    workbench.insert_trades(table, datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3), 1000)
    tables = tmp_path / "tables.yaml"
    tables.write_text(table_file([workbench.spec(table)]))
    with Collector() as collector:
        transport = {"type": "http", "url": collector.url, "endpoint": "api/v1/lineage"}
        environment = {
            **stack.environment,
            "AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(tables),
            "AIRFLOW__K2_OFFLOAD__LOG_FORMAT": "json",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        }
        command = ["airflow", "dags", "test", "k2_offload_bronze"]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    cold = workbench.cold_table(table)
    snapshot = cold.current_snapshot()

    told = [body for _, _, body in collector.posted if body["eventType"] == "COMPLETE"]
    [event] = [body for body in told if body["job"]["name"] == "k2_offload_bronze.commit"]
    [source], [target] = event["inputs"], event["outputs"]
    port = stack.settings.ports.clickhouse_native
    assert (source["namespace"], source["name"]) == (f"clickhouse://{HOST}:{port}", f"k2.{table}")
    assert (target["namespace"], target["name"]) == ("file", str(workbench.path_of(table)))
    [other] = target["facets"]["symlinks"]["identifiers"]
    assert other == {"namespace": f"file:{workbench.warehouse}", "name": f"cold.{table}", "type": "TABLE"}
    assert target["facets"]["version"]["datasetVersion"] == str(snapshot.snapshot_id)
    statistics = target["outputFacets"]["outputStatistics"]
    size = int(snapshot.summary["added-files-size"])
    assert (statistics["rowCount"], statistics["size"]) == (1000, size)

    lines = [json.loads(text) for text in re.findall(r'\{"time": .*\}', ran.stdout)]
    of_table = [line for line in lines if line.get("table") == table and "rows" in line]
    assert [line["phase"] for line in of_table] == ["plan", "export", "stage", "audit", "publish", "commit"]
    assert {(line["level"], line["rows"]) for line in of_table} == {("info", 1000)}
    assert len({(line["window_start"], line["window_end"]) for line in of_table}) == 1
    assert {line["bytes"] for line in of_table if "bytes" in line} == {size}

    [named] = re.findall(r"Spark's whole log: (\S+\.spark\.log)", ran.stdout)
    assert " INFO org.apache.iceberg." in Path(named).read_text()
    assert " INFO " not in "".join(line for line in ran.stdout.splitlines() if "org.apache.iceberg" in line)
