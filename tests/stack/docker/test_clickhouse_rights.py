"""The rights that the pages name, in an engine whose one user has no others."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from embedded.stack import StackSettings
from k2_offload.core import retention_queries as retention
from k2_offload.core.queries import describe_columns

DOCS = Path(__file__).parents[3] / "docs"
STORAGE, PARTITION = "k2.silver_trades", "20260304"
PROGRAM = """
import json, sys
from chdb.session import Session
session = Session(sys.argv[1])
for statement in json.load(sys.stdin):
    try:
        answer = session.query(statement, "TSV").data()
    except Exception as error:
        answer = f"refused: {error}"
    print(json.dumps(answer))
"""
SCHEMA = [
    "CREATE DATABASE k2",
    f"CREATE TABLE {STORAGE} (at DateTime, id UInt64) ENGINE = MergeTree PARTITION BY toYYYYMMDD(at) ORDER BY id "
    "TTL at + INTERVAL 10 YEAR",
    f"INSERT INTO {STORAGE} VALUES ('2026-03-04 00:00:00', 1), ('2026-03-05 00:00:00', 2)",
]
OF_OTHERS = (f"DROP TABLE {STORAGE}", "CREATE TABLE k2.other (id UInt8) ENGINE = Log")
"""What no documented right allows."""

REPLACE_VIEW = (
    f"CREATE OR REPLACE VIEW k2.trades_all DEFINER = CURRENT_USER SQL SECURITY DEFINER AS SELECT id FROM {STORAGE}"
)
RETENTION = [
    retention.describe_table(STORAGE),
    retention.structure(STORAGE),
    retention.layout(STORAGE),
    describe_columns(STORAGE),
    retention.create_holding(STORAGE, "a record"),
    describe_columns(retention.holding_of(STORAGE)),
    retention.create_holding(STORAGE, "a record", replace=True),
    *retention.prepare_holding(STORAGE, "MergeTree", has_ttl=True),
    retention.write_comment(STORAGE, "another record"),
    retention.parts(STORAGE),
    retention.mutations(STORAGE),
    retention.partition_days(STORAGE, ["at"]),
    retention.move(STORAGE, PARTITION),
    retention.count_in_both(STORAGE, PARTITION),
    retention.move_back(STORAGE, PARTITION),
    retention.move(STORAGE, PARTITION),
    retention.drop(STORAGE, PARTITION),
]
Execute = Callable[..., list[str]]


def documented(page: str) -> list[str]:
    return re.findall(r"^(GRANT .*) TO offload;$", (DOCS / page).read_text(), re.MULTILINE)


@pytest.fixture
def execute(tmp_path: Path, session_settings: StackSettings) -> Execute:
    """Gives statements to the engine, whose user has all rights or some; returns what each answered."""
    configuration = tmp_path / "configuration.xml"

    def run(statements: Sequence[str], grants: Sequence[str] | None = None) -> list[str]:
        queries = "".join(f"<query>{escape(grant)}</query>" for grant in grants or ())
        rights = "" if grants is None else f"<grants>{queries}</grants>"
        configuration.write_text(
            f"<clickhouse><users_config>{configuration}</users_config><profiles><default/></profiles>"
            "<quotas><default/></quotas><users><default><password/><networks><ip>::/0</ip></networks>"
            f"<profile>default</profile><quota>default</quota>{rights}"
            "</default></users></clickhouse>"
        )
        command = [session_settings.layout.clickhouse.python, "-c", PROGRAM]
        command.append(f"{tmp_path / 'data'}?config-file={configuration}")
        said = subprocess.run(
            command, input=json.dumps(list(statements)), check=True, capture_output=True, text=True
        ).stdout
        return [json.loads(line) for line in said.splitlines()]

    assert run(SCHEMA) == [""] * len(SCHEMA)
    return run


def refused(answers: Sequence[str]) -> list[str]:
    return [answer for answer in answers if answer.startswith("refused: ")]


def test_the_rights_of_a_view_let_it_be_made_replaced_and_dropped_and_no_table_be_touched(execute: Execute) -> None:
    grants = [*documented("configuration.md")[:1], *documented("reading.md")]
    assert grants[0] == "GRANT SELECT ON k2.*"
    assert execute([REPLACE_VIEW, REPLACE_VIEW, "DROP VIEW k2.trades_all"], grants) == ["", "", ""]
    forbidden = [*OF_OTHERS, f"INSERT INTO {STORAGE} VALUES (0, 0)"]
    assert all("ACCESS_DENIED" in answer for answer in execute(forbidden, grants))


def test_the_rights_of_retention_let_every_statement_be_run_and_no_other_table_be_touched(execute: Execute) -> None:
    grants = [*documented("configuration.md")[:1], *documented("retention.md")]
    assert refused(execute(RETENTION, grants)) == []
    assert execute([f"SELECT count() FROM {STORAGE}"]) == ["1\n"]
    forbidden = [*OF_OTHERS, f"ALTER TABLE {STORAGE} REMOVE TTL"]
    assert all("ACCESS_DENIED" in answer for answer in execute(forbidden, grants))


def test_without_them_the_engine_refuses(execute: Execute) -> None:
    base = documented("configuration.md")[:1]
    [view, holding] = execute([REPLACE_VIEW, retention.create_holding(STORAGE, "a record")], base)
    assert "ACCESS_DENIED" in view
    assert "ACCESS_DENIED" in holding


@pytest.mark.parametrize(
    "other",
    [
        "PARTITION BY toYYYYMM(at) ORDER BY id",
        "PARTITION BY toYYYYMMDD(at) ORDER BY (id, at)",
        "PARTITION BY toYYYYMMDD(at) ORDER BY (id, at) PRIMARY KEY id",
    ],
)
def test_tables_with_other_keys_differ_in_their_layout(execute: Execute, other: str) -> None:
    statement = f"CREATE TABLE k2.other (at DateTime, id UInt64) ENGINE = MergeTree {other}"
    made, of_storage, of_other, alike = execute(
        [statement, retention.layout(STORAGE), retention.layout("k2.other"), retention.layout(STORAGE)]
    )
    assert made == ""
    assert of_storage == alike != of_other


def test_a_new_holding_table_has_its_storages_columns_and_layout(execute: Execute) -> None:
    holding = retention.holding_of(STORAGE)
    index = f"ALTER TABLE {STORAGE} ADD INDEX at_bounds at TYPE minmax GRANULARITY 4"
    made = [
        retention.create_holding(STORAGE, "a record"),
        *retention.prepare_holding(STORAGE, "MergeTree", has_ttl=True),
    ]
    questions = [of(name) for of in (retention.structure, retention.layout) for name in (STORAGE, holding)]
    *done, storage_columns, columns, storage_layout, layout = execute([index, *made, *questions])
    assert refused(done) == []
    assert columns == storage_columns != ""
    assert layout == storage_layout != ""
