"""Lines of a log: as text, or one JSON object each."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from k2_offload.core.windows import Window, format_time

JSON = "json"
FORMATS = ("text", JSON)

FORMAT_VARIABLE = "K2_OFFLOAD_LOG_FORMAT"
"""Tells an application which of :data:`FORMATS` its lines have; text if it is not there."""

_ERROR = "ERROR "
_OURS = ("k2_offload", "offload_job")


def about(phase: str, table: str, window: Window | None = None, **numbers: float) -> dict[str, Any]:
    """What a line is about: for ``extra`` of a logger's methods.

    :param window: half-open; of a day, that day
    :param numbers: ``rows``, ``bytes``, ``seconds`` and others that the line's text tells as well
    """
    bounds = {"window_start": format_time(window.low), "window_end": format_time(window.high)} if window else {}
    return {"k2_about": {"phase": phase, "table": table, **bounds, **numbers}}


def print_lines() -> None:
    """Print what this package says in this process, each line in one write: several tables speak at once."""
    handler = _Printer()
    handler.setFormatter(JsonFormatter() if os.environ.get(FORMAT_VARIABLE) == JSON else TextFormatter())
    for name, level in zip(_OURS, (logging.WARNING, logging.INFO), strict=True):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def read_job_line(line: str) -> tuple[bool, str]:
    """Whether a line of an application tells of an error, and the message; whatever form it has."""
    try:
        fields = json.loads(line)
        return fields["level"] == "error", str(fields["message"])
    except (ValueError, KeyError, TypeError):
        return line.startswith(_ERROR), line.removeprefix(_ERROR)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, what :func:`about` says, message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        exception = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        return json.dumps(_fields(record) | exception, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """The message alone; that of an error begins with ``ERROR``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it if there is one."""
        return (_ERROR if record.levelno >= logging.ERROR else "") + super().format(record)


class AsJson(logging.Filter):
    """Makes the message of this package's own records a JSON object; whoever handles them frames it as any other."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Lets all records through."""
        if any(name in record.name for name in _OURS) and not hasattr(record, "k2_json"):
            record.k2_json = True
            record.msg, record.args = json.dumps(_fields(record), ensure_ascii=False), None
        return True


class _Printer(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"{self.format(record)}\n", end="", flush=True)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        "time": format_time(datetime.fromtimestamp(record.created, UTC)),
        "level": record.levelname.lower(),
        **getattr(record, "k2_about", {}),
        "message": record.getMessage(),
    }
