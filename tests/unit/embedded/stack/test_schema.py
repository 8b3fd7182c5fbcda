from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_driver.errors import ErrorCodes, ServerException
from hypothesis import given
from hypothesis import strategies as st

from embedded.stack.schema import SCHEMA_DIRECTORY, apply_schema, split_statements

words = st.text("abcé1 \n,()=%", min_size=1).map(lambda text: f"x{text}")
anything = st.text("ab;-/*'\"`\n ")
texts = anything.map(lambda text: "'" + text.replace("'", "''") + "'")
backslashed_texts = anything.map(lambda text: "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'")
names = anything.map(lambda text: '"' + text.replace('"', '\\"') + '"')
backquoted_names = anything.map(lambda text: "`" + text.replace("`", "\\`") + "`")
statements = st.lists(words | texts | backslashed_texts | names | backquoted_names, min_size=1).map(
    lambda parts: "S " + " ".join(parts).strip()
)
line_comments = st.text("ab;'/*\"` -").map(lambda text: f"--{text}\n")
block_comments = st.text("ab;'\"`\n -").map(lambda text: f"/*{text}*/")
comments = st.lists(line_comments | block_comments).map("".join)


@given(st.lists(statements))
def test_statements_come_back_as_they_were_written(written: list[str]) -> None:
    assert list(split_statements(";\n".join(written))) == written


@given(st.lists(st.tuples(comments, statements, comments)))
def test_comments_around_a_statement_change_nothing(commented: list[tuple[str, str, str]]) -> None:
    script = ";".join(f"{before}\n{statement}\n{after}" for before, statement, after in commented)
    assert list(split_statements(script)) == [statement for _, statement, _ in commented]


def test_a_comment_inside_a_statement_parts_words_as_a_space_does() -> None:
    assert list(split_statements("SELECT/* one; */1 -- the end;\n, 2")) == ["SELECT 1  \n, 2"]


def test_nothing_but_comments_and_semicolons_is_no_statement() -> None:
    assert list(split_statements("-- nothing;\n;;/* here */ ; \n")) == []


def test_every_statement_of_the_schema_can_be_repeated() -> None:
    scripts = [path.read_text() for path in SCHEMA_DIRECTORY.glob("*.sql")]
    created = [statement for script in scripts for statement in split_statements(script)]
    assert len(created) == 29
    for statement in created:
        assert "IF NOT EXISTS" in statement.partition("\n")[0], statement


class Refusing:
    """A client whose CREATEs fail, whether the table came to be or not."""

    def __init__(self, code: int, exists: bool) -> None:
        self._error, self._exists = ServerException("Shutdown was called", code), exists
        self.asked: list[str] = []

    def execute(self, statement: str) -> list[tuple[int]]:
        self.asked.append(statement)
        if statement.startswith("CREATE"):
            raise self._error
        return [(int(self._exists),)]


@pytest.mark.parametrize(
    ("code", "exists", "goes_on"),
    [
        (ErrorCodes.LOGICAL_ERROR, True, True),
        (ErrorCodes.LOGICAL_ERROR, False, False),
        (ErrorCodes.UNKNOWN_TABLE, True, False),
    ],
)
def test_an_error_for_a_table_that_came_to_be_is_none(tmp_path: Path, code: int, exists: bool, goes_on: bool) -> None:
    (tmp_path / "1.sql").write_text("CREATE TABLE IF NOT EXISTS a_queue (m String) ENGINE = Kafka(k2_broker)")
    client = Refusing(code, exists)
    if goes_on:
        apply_schema(client, tmp_path)
        assert client.asked[1:] == ["EXISTS a_queue"]
    else:
        with pytest.raises(ServerException):
            apply_schema(client, tmp_path)
