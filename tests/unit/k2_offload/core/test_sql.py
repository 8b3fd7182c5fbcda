"""Whatever a name or a text holds, it stays one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.sql import fill, is_named, literal, placeholder, qualified, quote, source_column


def unescaped(text):
    """As ClickHouse reads what stands between two quotes."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


@given(st.text())
def test_a_name_of_any_characters_ends_where_its_backquotes_do(name):
    quoted = quote(name)
    assert re.fullmatch(r"`(?:[^`\\]|\\.)*`", quoted, re.DOTALL)
    assert unescaped(quoted[1:-1]) == name
    assert source_column(name) == f"k2_source.{quoted}"


@given(st.text())
def test_a_text_of_any_characters_ends_where_its_quotes_do(text):
    quoted = literal(text)
    assert re.fullmatch(r"'(?:[^'\\]|\\.)*'", quoted, re.DOTALL)
    assert unescaped(quoted[1:-1]) == text


@given(st.text(st.characters(exclude_characters=".")), st.text())
def test_the_table_is_what_follows_the_first_dot(database, table):
    assert qualified(f"{database}.{table}") == f"{quote(database)}.{quote(table)}"
    assert is_named(f"{database}.{table}") == f"database = {literal(database)} AND name = {literal(table)}"
    assert is_named(f"{database}.{table}", "table").endswith(f" AND table = {literal(table)}")


def test_placeholders_are_filled_and_other_braces_left_alone():
    text = f"SELECT '{{x}}' WHERE at >= {placeholder('low')} AND at < {placeholder('high')}"
    assert fill(text, low=1, high=2) == "SELECT '{x}' WHERE at >= 1 AND at < 2"


@given(st.one_of(st.text(), st.just("{low}"), st.just("`{low}'")))
def test_a_name_that_looks_like_a_placeholder_stays_that_name(name):
    text = f"SELECT {quote(name)}, {literal(quote(name))}, {{low}}, {literal('/a/{low}')} AS {quote(name)}"
    parts = fill(text, low=1).split(", 1, ")
    assert parts[0].startswith(f"SELECT {quote(name)}, ")
    assert parts[1] == f"'/a/1' AS {quote(name)}"


def test_a_text_without_the_placeholder_is_a_mistake():
    with pytest.raises(KeyError, match="low"):
        fill("SELECT 1", low=1)
