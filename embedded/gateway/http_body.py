"""Reading a request's body in pieces, whichever way HTTP marks its end."""

from __future__ import annotations

from email.message import Message
from io import BufferedIOBase, RawIOBase

from embedded.gateway.errors import CANNOT_DECOMPRESS, NOT_IMPLEMENTED, SYNTAX_ERROR, gateway_error

_MAX_STATEMENT_BYTES = 256 << 20
_PIECE_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 12
_CODECS = {"gzip": "gzip", "x-gzip": "gzip", "lz4": "lz4", "zstd": "zstd", "br": "brotli", "bz2": "bz2"}


class BodyError(Exception):
    """The body is not what its headers say; the connection cannot be used any more."""


class Body:
    """The body of one request, decompressed as its Content-Encoding asks.

    :param stream: the connection, positioned at the body's first byte.
    :param headers: the request's headers.
    :raises BodyError: for a Content-Length that is no number.
    """

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._sent = _SentBody(stream, headers)
        self._encoding = headers.get("Content-Encoding", "identity").strip().lower()
        self._plain: RawIOBase | None = None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the body's end.

        :raises EOFError: when the client leaves before the body's end.
        :raises GatewayError: code 48 for an encoding that is not offered, 354 when the data are not in that encoding.
        """
        if self._plain is None:
            self._plain = self._decoder()
        pieces: list[bytes] = []
        wanted = size
        try:
            while wanted and (piece := self._plain.read(wanted)):
                pieces.append(piece)
                wanted -= len(piece)
        except OSError as error:
            if self._sent.ended:
                raise gateway_error(CANNOT_DECOMPRESS, f"The body is not valid {self._encoding}: {error}.") from None
            raise
        return b"".join(pieces)

    def _decoder(self) -> RawIOBase:
        if self._encoding == "identity":
            return self._sent
        if self._encoding not in _CODECS:
            raise gateway_error(NOT_IMPLEMENTED, f"Content-Encoding {self._encoding} is not offered: use gzip.")
        import pyarrow as pa  # heavy, and most bodies are sent as they are

        decoder: RawIOBase = pa.CompressedInputStream(pa.PythonFile(self._sent, "r"), _CODECS[self._encoding])
        return decoder

    def read_rest(self) -> bytes:
        """The rest of a body that is a statement.

        :raises GatewayError: as :meth:`read`; code 62 when it is longer than 256 MiB.
        """
        rest = self.read(_MAX_STATEMENT_BYTES)
        if len(rest) == _MAX_STATEMENT_BYTES:
            raise gateway_error(SYNTAX_ERROR, "The statement is longer than 256 MiB.")
        return rest

    def skip_rest(self) -> None:
        """Read past what is left, so that the client is ready to read the answer."""
        while self._sent.read(_PIECE_BYTES):
            pass


class _SentBody(RawIOBase):
    """A body as sent, from its first byte to its last."""

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._stream = stream
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        length = headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit():
            raise BodyError(f"Content-Length {length!r} is not a number")
        # What is left of the body, or of the current chunk of a chunked one.
        self._left_bytes = 0 if self._chunked else int(length)
        self.ended = not self._chunked and self._left_bytes == 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = _PIECE_BYTES) -> bytes:
        if self._chunked and self._left_bytes == 0 and not self.ended:
            self._begin_chunk()
        if self.ended:
            return b""
        data = self._stream.read(min(size, self._left_bytes))
        if not data:
            raise EOFError("the client left before the end of its request")
        self._left_bytes -= len(data)
        if self._left_bytes == 0:
            if self._chunked:
                self._read_line()
            else:
                self.ended = True
        return data

    def _begin_chunk(self) -> None:
        size = self._read_line().partition(b";")[0].strip()
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise BodyError(f"a chunk of {size!r} bytes")
        self._left_bytes = int(size, 16)
        if self._left_bytes == 0:
            self.ended = True
            while self._read_line():
                pass

    def _read_line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError("the client left before the end of its request")
        return line.rstrip(b"\r\n")
