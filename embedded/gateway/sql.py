"""Just enough reading of SQL text to route a statement, and the quoting that keeps values in their place.

Nothing here parses SQL: the engine does. These functions only find where an INSERT's data begins, where the FORMAT
clause stands, and whether there is more than one statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<space>  \s+ | --[^\n]* | \#[ !][^\n]* | /\*.*?\*/ )
    | (?P<heredoc> \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
    | (?P<string> '(?: [^'\\]++ | \\. | '' )*+' )
    | (?P<quoted> `(?: [^`\\]++ | \\. | `` )*+` | "(?: [^"\\]++ | \\. | "" )*+" )
    | (?P<word>   [A-Za-z_]\w* )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of SQL text outside comments and blanks; ``text[start:end]``, inside ``depth`` open brackets."""

    kind: str
    text: str
    start: int
    end: int
    depth: int

    def is_word(self, *words: str) -> bool:
        """Whether this is one of the keywords ``words`` (upper case), unquoted."""
        return self.kind == "word" and self.text.upper() in words


@dataclass(frozen=True)
class DataInsert:
    """An INSERT whose rows follow as data, taken apart.

    :ivar target: the table, or the table function without the word FUNCTION.
    :ivar into: the statement from INSERT up to and with the column list.
    :ivar columns: the text inside the column list's parentheses, or ``*`` when there is no list.
    :ivar settings: the statement's own SETTINGS clause, or an empty string.
    :ivar input_format: the data's format, ``Values`` for VALUES.
    :ivar data_start: where the data begin in the statement's text.
    """

    target: str
    into: str
    columns: str
    settings: str
    input_format: str
    data_start: int

    def from_file(self, path: str) -> str:
        """The same INSERT, its rows read from the file at ``path`` on the engine's machine."""
        return (
            f"{self.into} FROM INFILE {quote_string(path)} COMPRESSION 'none' "
            f"{self.settings} FORMAT {self.input_format}"
        )


@dataclass(frozen=True)
class OutputClause:
    """A statement cut at its FORMAT clause: ``body`` before it, the format's name, ``rest`` (SETTINGS) after it."""

    body: str
    format_name: str
    rest: str


def quote_string(text: str) -> str:
    """A string literal that the engine reads back as ``text``, whatever characters are in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


def quote_identifier(name: str) -> str:
    """A quoted identifier that the engine reads back as ``name``."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def set_statement(settings: Mapping[str, str]) -> str:
    """``SET a = '1', b = 'x'`` for the given settings; the engine casts each string to the setting's type."""
    return "SET " + ", ".join(f"{quote_identifier(name)} = {quote_string(value)}" for name, value in settings.items())


def tokens(sql: str) -> Iterator[Token]:
    """The tokens of ``sql``, lazily and without blanks and comments."""
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match.group()
        if kind == "space":
            continue
        if text in ")]}":
            depth = max(depth - 1, 0)
        yield Token("string" if kind == "tag" else kind, text, match.start(), match.end(), depth)
        if text in "([{":
            depth += 1


def keyword(sql: str) -> str:
    """The statement's first word in upper case (``SELECT`` for an opening bracket); empty when there is none."""
    first = next(tokens(sql), None)
    if first is None:
        return ""
    return "SELECT" if first.text == "(" else first.text.upper()


def is_select(sql: str) -> bool:
    """Whether the statement reads rows that the engine can stream."""
    return keyword(sql) in ("SELECT", "WITH", "FROM")


def single_statement(sql: str) -> str | None:
    """``sql`` without a closing semicolon, or ``None`` when another statement follows it."""
    end: int | None = None
    for token in tokens(sql):
        if end is not None and token.text != ";":
            return None
        if end is None and token.text == ";":
            end = token.start
    return sql if end is None else sql[:end]


def split_insert(sql: str) -> DataInsert | None:
    """``sql`` taken apart if it is an INSERT whose data follow; ``None`` for INSERT … SELECT and anything else."""
    stream = tokens(sql)
    head = _insert_head(stream)
    if head is None:
        return None
    first, target, is_function = head
    previous = target
    groups: list[tuple[int, int]] = []  # top-level brackets: a function's arguments, then the column list
    name_end = into_end = target.end
    settings_start: int | None = None
    for token in stream:
        if token.depth > 0:
            continue
        if token.is_word("SELECT", "WITH", "FROM", "WATCH"):
            return None
        is_values = token.is_word("VALUES")
        if is_values or (previous is not target and previous.is_word("FORMAT")):
            clause_start = token.start if is_values else previous.start
            if is_function and groups:
                name_end = groups.pop(0)[1]
            return DataInsert(
                target=sql[target.start : name_end],
                into=sql[first.start : into_end],
                columns=sql[groups[0][0] + 1 : groups[0][1] - 1] if groups else "*",
                settings="" if settings_start is None else sql[settings_start:clause_start].strip(),
                input_format="Values" if is_values else token.text,
                data_start=_after_blanks_and_one_newline(sql, token.end),
            )
        if token.is_word("SETTINGS"):
            settings_start = token.start
        elif settings_start is None and not token.is_word("FORMAT"):
            into_end = token.end
            if token.text == "(":
                groups.append((token.start, token.end))
            elif token.text == ")" and groups:
                groups[-1] = (groups[-1][0], token.end)
            elif not groups:
                name_end = token.end
        previous = token
    return None


def _insert_head(stream: Iterator[Token]) -> tuple[Token, Token, bool] | None:
    """The word INSERT, the target's first token, and whether that is a function; ``None`` for other statements."""
    first, into, target = next(stream, None), next(stream, None), next(stream, None)
    if first is None or not first.is_word("INSERT") or into is None or not into.is_word("INTO"):
        return None
    if target is not None and target.is_word("TABLE"):
        target = next(stream, None)
    is_function = target is not None and target.is_word("FUNCTION")
    if is_function:
        target = next(stream, None)
    return None if target is None else (first, target, is_function)


def _after_blanks_and_one_newline(sql: str, position: int) -> int:
    match = re.compile(r"[ \t\f]*\r?\n?").match(sql, position)
    return match.end() if match else position


def split_output(sql: str) -> OutputClause | None:
    """``sql`` cut at its FORMAT clause, or ``None`` when it has none."""
    top = [token for token in tokens(sql) if token.depth == 0]
    for position in range(len(top) - 2, 0, -1):
        clause, name = top[position], top[position + 1]
        if clause.is_word("FORMAT") and name.kind == "word":
            follows = top[position + 2] if position + 2 < len(top) else None
            if follows is None or follows.is_word("SETTINGS"):
                return OutputClause(sql[: clause.start], name.text, sql[name.end :])
    return None
