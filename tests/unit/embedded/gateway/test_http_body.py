from __future__ import annotations

import gzip
from email.message import Message
from io import BufferedReader, BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedded.gateway.errors import GatewayError
from embedded.gateway.http_body import Body, BodyError


def _body(data: bytes, **headers: str) -> Body:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Body(BufferedReader(BytesIO(data)), message)  # type: ignore[arg-type]


def _chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"


@given(st.lists(st.binary(min_size=1)), st.integers(1, 50))
def test_a_chunked_body_is_its_pieces_joined(pieces: list[bytes], size: int) -> None:
    body = _body(_chunked(pieces), Transfer_Encoding="chunked")
    read = b""
    while piece := body.read(size):
        read += piece
    assert read == b"".join(pieces)


def test_a_body_ends_at_its_content_length() -> None:
    body = _body(b"12345next request", Content_Length="5")
    assert body.read(100) == b"12345"
    assert body.read(100) == b""


@given(st.binary(), st.integers(1, 1000))
@settings(deadline=None)  # the first example imports the decompressor
def test_a_compressed_body_is_read_as_it_was(data: bytes, size: int) -> None:
    packed = gzip.compress(data)
    body = _body(packed, Content_Length=str(len(packed)), Content_Encoding="gzip")
    read = b""
    while piece := body.read(size):
        read += piece
    assert read == data


@pytest.mark.parametrize(
    ("data", "headers"),
    [(b"123", {"Content_Length": "5"}), (b"5\r\n123", {"Transfer_Encoding": "chunked"})],
)
def test_a_client_that_leaves_midway_is_not_taken_for_the_end(data: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(EOFError):
        _body(data, **headers).read(100)


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "٣"])
def test_a_content_length_that_is_no_number(length: str) -> None:
    with pytest.raises(BodyError, match="not a number"):
        _body(b"", Content_Length=length)


@pytest.mark.parametrize("size", [b"x", b"", b"-5"])
def test_a_chunk_size_that_is_no_number(size: bytes) -> None:
    with pytest.raises(BodyError):
        _body(size + b"\r\nabc\r\n", Transfer_Encoding="chunked").read(10)


def test_an_encoding_not_offered_is_named() -> None:
    with pytest.raises(GatewayError, match="snappy"):
        _body(b"x", Content_Length="1", Content_Encoding="snappy").read(1)


@pytest.mark.parametrize(
    "data", [b"no gzip at all", gzip.compress(b"x" * 1000, mtime=0)[:-10]], ids=["no gzip", "cut short"]
)
def test_data_not_in_their_encoding_are_an_error(data: bytes) -> None:
    with pytest.raises(GatewayError) as raised:
        _body(data, Content_Length=str(len(data)), Content_Encoding="gzip").read(2000)
    assert raised.value.code == 354


def test_a_client_that_leaves_midway_is_noticed_through_the_compression() -> None:
    data = gzip.compress(bytes(range(256)) * 1000)
    body = _body(data[:-20], Content_Length=str(len(data)), Content_Encoding="gzip")
    with pytest.raises(EOFError):
        body.read(1 << 20)
