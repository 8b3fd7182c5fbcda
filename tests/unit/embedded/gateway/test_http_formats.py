from __future__ import annotations

import pytest

from embedded.gateway.http_formats import can_stream, content_type, has_header, header_length


@pytest.mark.parametrize("name", ["Native", "TSV", "JSONEachRow", "CSVWithNames", "RowBinaryWithNamesAndTypes"])
def test_rows_can_be_sent_as_they_come(name: str) -> None:
    assert can_stream(name)


@pytest.mark.parametrize("name", ["JSON", "JSONCompact", "Parquet", "Arrow", "XML", "PrettyCompact", "Values", "ORC"])
def test_documents_can_only_be_sent_whole(name: str) -> None:
    assert not can_stream(name)


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("CSVWithNames", b'"a","b"\n', b"1,2\n"),
        ("TabSeparatedWithNamesAndTypes", b"a\\n\tb\nUInt8\tString\n", b"1\tx\n"),
        ("JSONCompactEachRowWithNamesAndTypes", b'["a"]\n["UInt8"]\n', b"[1]\n"),
        ("RowBinaryWithNames", b"\x01\x01a", b"\x07"),
        ("RowBinaryWithNamesAndTypes", b"\x02\x01a\x01b\x05UInt8\x05UInt8", b"\x01\x02"),
    ],
)
def test_header_length(name: str, header: bytes, rows: bytes) -> None:
    assert has_header(name)
    assert header_length(name, header + rows) == len(header)


@pytest.mark.parametrize(
    ("name", "start"),
    [("JSON", "application/json"), ("JSONEachRow", "application/x-ndjson"), ("Parquet", "application/octet-stream")],
)
def test_content_type(name: str, start: str) -> None:
    assert content_type(name).startswith(start)
