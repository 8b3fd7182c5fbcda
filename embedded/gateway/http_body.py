"""Reading a request's body in pieces, whichever way HTTP marks its end."""

from __future__ import annotations

import zlib
from email.message import Message
from io import BufferedIOBase

from embedded.gateway.errors import NOT_IMPLEMENTED, SYNTAX_ERROR, gateway_error

_MAX_STATEMENT_BYTES = 256 << 20
_PIECE_BYTES = 1 << 16
_MAX_LINE_BYTES = 1 << 12


class BodyError(Exception):
    """The body is not what its headers say; the connection cannot be used any more."""


class Body:
    """The body of one request.

    :param stream: the connection, positioned at the body's first byte.
    :param headers: the request's headers.
    :ivar encoding: the Content-Encoding in lower case, empty when there is none (or no longer).
    :raises BodyError: for a Content-Length that is no number.
    """

    def __init__(self, stream: BufferedIOBase, headers: Message) -> None:
        self._stream = stream
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        length = headers.get("Content-Length", "0")
        if not length.isascii() or not length.isdigit():
            raise BodyError(f"Content-Length {length!r} is not a number")
        # What is left of the body, or of the current chunk of a chunked one.
        self._left_bytes = 0 if self._chunked else int(length)
        self._ended = not self._chunked and self._left_bytes == 0
        self._decompressor: zlib._Decompress | None = None
        encoding = headers.get("Content-Encoding", "").strip().lower()
        self.encoding = "" if encoding == "identity" else encoding

    def decompress(self) -> None:
        """From here on, read what the sender had compressed.

        :raises GatewayError: code 48 for an encoding other than gzip and deflate.
        """
        if not self.encoding:
            return
        if self.encoding not in ("gzip", "x-gzip", "deflate"):
            raise gateway_error(
                NOT_IMPLEMENTED,
                f"A statement in a body of Content-Encoding {self.encoding} is not offered: "
                "send the statement in the URL, or use gzip.",
            )
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self.encoding = ""

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, fewer only at the body's end.

        :raises EOFError: when the client leaves before the body's end.
        """
        pieces: list[bytes] = []
        wanted = size
        while wanted and (piece := self._read_some(wanted)):
            pieces.append(piece)
            wanted -= len(piece)
        return b"".join(pieces)

    def read_rest(self) -> bytes:
        """The rest of a body that is a statement.

        :raises GatewayError: code 62 when it is longer than 256 MiB.
        """
        rest = self.read(_MAX_STATEMENT_BYTES)
        if len(rest) == _MAX_STATEMENT_BYTES:
            raise gateway_error(SYNTAX_ERROR, "The statement is longer than 256 MiB.")
        return rest

    def skip_rest(self) -> None:
        """Read past what is left, so that the client is ready to read the answer."""
        self._decompressor = None
        while self._read_raw(_PIECE_BYTES):
            pass

    def _read_some(self, size: int) -> bytes:
        if self._decompressor is None:
            return self._read_raw(size)
        while True:
            try:
                plain = self._decompressor.decompress(self._decompressor.unconsumed_tail or self._read_raw(size), size)
            except zlib.error as error:
                raise gateway_error(SYNTAX_ERROR, f"The body is not what its Content-Encoding says: {error}.") from None
            if plain or self._ended:
                return plain

    def _read_raw(self, size: int) -> bytes:
        if self._chunked and self._left_bytes == 0 and not self._ended:
            self._begin_chunk()
        if self._ended:
            return b""
        data = self._stream.read(min(size, self._left_bytes))
        if not data:
            raise EOFError("the client left before the end of its request")
        self._left_bytes -= len(data)
        if self._left_bytes == 0:
            if self._chunked:
                self._read_line()
            else:
                self._ended = True
        return data

    def _begin_chunk(self) -> None:
        size = self._read_line().partition(b";")[0].strip()
        if not size or size.strip(b"0123456789abcdefABCDEF"):
            raise BodyError(f"a chunk of {size!r} bytes")
        self._left_bytes = int(size, 16)
        if self._left_bytes == 0:
            self._ended = True
            while self._read_line():
                pass

    def _read_line(self) -> bytes:
        line = self._stream.readline(_MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError("the client left before the end of its request")
        return line.rstrip(b"\r\n")
