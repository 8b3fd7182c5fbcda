"""What goes wrong in the engine or in a request, in ClickHouse's own terms: a code, a name and a message."""

from __future__ import annotations

import re

BAD_ARGUMENTS = 36
NOT_IMPLEMENTED = 48
SYNTAX_ERROR = 62
UNKNOWN_FORMAT = 73
UNEXPECTED_PACKET_FROM_CLIENT = 101
CANNOT_DECOMPRESS = 354
QUERY_WAS_CANCELLED = 394
SETTING_CONSTRAINT_VIOLATION = 452
AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002

_NAMES = {
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
    UNEXPECTED_PACKET_FROM_CLIENT: "UNEXPECTED_PACKET_FROM_CLIENT",
    CANNOT_DECOMPRESS: "INFLATE_FAILED",
    QUERY_WAS_CANCELLED: "QUERY_WAS_CANCELLED",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    UNKNOWN_EXCEPTION: "UNKNOWN_EXCEPTION",
}
_HTTP_STATUSES = {
    **dict.fromkeys([6, 26, 27, 36, 38, 41, 42, 43, 44, 53, 57, 62, 72, 117, CANNOT_DECOMPRESS, 386, 456, 457], 400),
    **dict.fromkeys([164, 497, AUTHENTICATION_FAILED], 403),
    **dict.fromkeys([16, 46, 47, 50, 56, 60, UNKNOWN_FORMAT, 81, 115, 128], 404),
    159: 408,
    NOT_IMPLEMENTED: 501,
}
_ENGINE_TEXT = re.compile(r"Code: (?P<code>\d+)\. (?P<message>DB::Exception: .*)", re.DOTALL)
_NAME_AT_END = re.compile(r"\((?P<name>[A-Z0-9_]+)\)\s*\Z")


class GatewayError(Exception):
    """A request that failed, with the code and the message a ClickHouse server gives for it.

    :param code: ClickHouse's error code, for example 60 for an unknown table.
    :param message: ClickHouse's message, from ``DB::Exception:`` to the error's name in parentheses.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def name(self) -> str:
        """The error's symbolic name, such as ``UNKNOWN_TABLE``; ``UNKNOWN_EXCEPTION`` when the message carries none."""
        match = _NAME_AT_END.search(self.message)
        return match["name"] if match else _NAMES[UNKNOWN_EXCEPTION]


def gateway_error(code: int, text: str) -> GatewayError:
    """An error the gateway itself raises, worded as the engine words its own."""
    return GatewayError(code, f"DB::Exception: {text} ({_NAMES[code]})")


def from_engine(error: BaseException) -> GatewayError:
    """The engine's exception, whose code stands in its text only, as a :class:`GatewayError`."""
    text = str(error).strip()
    match = _ENGINE_TEXT.search(text)
    if match is None:
        return gateway_error(UNKNOWN_EXCEPTION, text or type(error).__name__)
    return GatewayError(int(match["code"]), match["message"])


def http_status(code: int) -> int:
    """The HTTP status a ClickHouse server answers with for an error of this code."""
    return _HTTP_STATUSES.get(code, 500)
