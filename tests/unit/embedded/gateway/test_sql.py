from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.gateway.sql import (
    is_select,
    keyword,
    quote_identifier,
    quote_string,
    set_statement,
    single_statement,
    split_insert,
    split_output,
    tokens,
)

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(ANY_TEXT)
def test_a_quoted_string_is_one_token_whatever_is_in_it(text: str) -> None:
    assert [token.kind for token in tokens(f"SELECT {quote_string(text)};")] == ["word", "string", "other"]


@given(ANY_TEXT)
def test_a_quoted_identifier_is_one_token_whatever_is_in_it(name: str) -> None:
    assert [token.kind for token in tokens(f"USE {quote_identifier(name)};")] == ["word", "quoted", "other"]


@given(st.dictionaries(ANY_TEXT, ANY_TEXT, min_size=1))
def test_no_setting_can_add_a_statement(settings: dict[str, str]) -> None:
    assert single_statement(set_statement(settings)) == set_statement(settings)


@given(ANY_TEXT)
def test_tokens_cover_the_text_in_order(sql: str) -> None:
    found = list(tokens(sql))
    assert all(sql[token.start : token.end] == token.text for token in found)
    assert all(left.end <= right.start for left, right in pairwise(found))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1;", "SELECT 1"),
        ("SELECT ';' -- ; \n;;  ", "SELECT ';' -- ; \n"),
        ("SELECT 1 /* ; */", "SELECT 1 /* ; */"),
        ("SELECT $$;$$", "SELECT $$;$$"),
        ("SELECT 1; DROP TABLE t", None),
        ("SELECT 'a\\''; DROP TABLE t", None),
    ],
)
def test_single_statement(sql: str, expected: str | None) -> None:
    assert single_statement(sql) == expected


@pytest.mark.parametrize(
    ("sql", "expected"),
    [("", ""), ("-- only\n", ""), (" /* x */ select 1", "SELECT"), ("(SELECT 1) UNION ALL SELECT 2", "SELECT")],
)
def test_keyword(sql: str, expected: str) -> None:
    assert keyword(sql) == expected


def test_only_statements_that_read_rows_are_selects() -> None:
    assert is_select("WITH 1 AS x SELECT x")
    assert not is_select("INSERT INTO t SELECT 1")
    assert not is_select("SHOW TABLES")


@pytest.mark.parametrize(
    ("sql", "target", "columns", "input_format", "data"),
    [
        ("INSERT INTO t VALUES (1)", "t", "*", "Values", "(1)"),
        ("insert into k2.`a (b` (x, `y)`) values", "k2.`a (b`", "x, `y)`", "Values", ""),
        ("INSERT INTO TABLE t (a) FORMAT CSV\n1\n2", "t", "a", "CSV", "1\n2"),
        ("INSERT INTO t FORMAT TSV \r\n\n\tx", "t", "*", "TSV", "\n\tx"),
        ("INSERT INTO FUNCTION file('v (x', 'TSV', 'a Int8') (a) VALUES (1)",
         "file('v (x', 'TSV', 'a Int8')", "a", "Values", "(1)"),
        ("INSERT INTO format FORMAT JSONEachRow {}", "format", "*", "JSONEachRow", "{}"),
        ("INSERT INTO t (a, SELECT_b) VALUES ('; FORMAT x')", "t", "a, SELECT_b", "Values", "('; FORMAT x')"),
    ],
)  # fmt: skip
def test_split_insert(sql: str, target: str, columns: str, input_format: str, data: str) -> None:
    insert = split_insert(sql)
    assert insert is not None
    assert (insert.target, insert.columns, insert.input_format) == (target, columns, input_format)
    assert sql[insert.data_start :] == data


def test_an_insert_keeps_its_settings_when_its_rows_come_from_a_file() -> None:
    insert = split_insert("INSERT INTO t (a) SETTINGS async_insert = 1 FORMAT CSV\n1")
    assert insert is not None
    assert insert.from_file("/it's") == (
        "INSERT INTO t (a) FROM INFILE '/it\\'s' COMPRESSION 'none' SETTINGS async_insert = 1 FORMAT CSV"
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "INSERT INTO t SELECT * FROM u",
        "INSERT INTO t (a) WITH 1 AS x SELECT x",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "INSERT INTO",
        "INSERT",
        "",
    ],
)
def test_what_brings_no_data_is_no_data_insert(sql: str) -> None:
    assert split_insert(sql) is None


@pytest.mark.parametrize(
    ("sql", "format_name", "body", "rest"),
    [
        ("SELECT 1 FORMAT JSON", "JSON", "SELECT 1 ", ""),
        ("SELECT 1 format CSV SETTINGS max_threads = 1", "CSV", "SELECT 1 ", " SETTINGS max_threads = 1"),
        ("SELECT * FROM (SELECT 1) FORMAT Null -- end", "Null", "SELECT * FROM (SELECT 1) ", " -- end"),
    ],
)
def test_split_output(sql: str, format_name: str, body: str, rest: str) -> None:
    clause = split_output(sql)
    assert clause is not None
    assert (clause.format_name, clause.body, clause.rest) == (format_name, body, rest)


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "SELECT 'x FORMAT JSON'", "SELECT f(format x)", "SELECT format FROM t", ""]
)
def test_no_format_clause(sql: str) -> None:
    assert split_output(sql) is None
