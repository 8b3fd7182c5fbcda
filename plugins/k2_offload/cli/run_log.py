"""Finds in the log of a failed run why it failed."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile

from k2_offload.adapters.log_lines import read_job_line

_MESSAGE = re.compile(r"^\S+ \[(?P<level>\w+) *\] (?P<text>.*?)(?: +\[[\w.]+\](?: .*)?)?$")
_AIRFLOW_HEADLINES = ("Task failed with exception", "Top level error")
_EXIT_CODE = re.compile(r"Error code is: (-?\d+)\.")
_SHELL_SIGNALS = 128
"""A shell adds it to the number of the signal that has ended a command."""
_TRACEBACK = "Traceback (most recent call last):"


def find_reasons(log: str) -> list[str]:
    """What went wrong, in the words of the one who noticed, each once and in their order.

    Errors that the tasks and the Spark job report themselves come first, then exceptions that say something else.

    :param log: in the form of Airflow's console, or of :func:`as_console`
    """
    errors = [text for level, text in _messages(log) if level == "error" and text not in _AIRFLOW_HEADLINES]
    reported = [read_job_line(text)[1] for text in errors]
    said = [read_job_line(text) for _, text in _messages(log)]
    reported += [text for is_error, text in said if is_error and text not in reported]
    others = [each for each in _exceptions(log) if not any(text in each for text in reported)]
    return list(dict.fromkeys(reported + others))


def as_console(entry: str) -> Iterator[str]:
    """One line of a task's log file, which is JSON, as Airflow's console would show it."""
    try:
        fields = json.loads(entry)
        yield f"{fields['timestamp']} [{fields['level']:<9}] {fields['event']}"
        for exception in fields.get("error_detail") or []:
            yield _TRACEBACK
            yield f"{exception['exc_type']}: {exception['exc_value']}"
    except (ValueError, KeyError, TypeError):
        yield entry


def _messages(log: str) -> Iterator[tuple[str, str]]:
    for line in log.splitlines():
        if match := _MESSAGE.match(line):
            yield match["level"], match["text"].strip()


def _exceptions(log: str) -> Iterator[str]:
    lines = iter(log.splitlines())
    for line in lines:
        if not line.endswith(_TRACEBACK):
            continue
        message = next((each for each in lines if each and not each.startswith(" ")), "")
        if "spark-submit" in message:
            message = _last_words(lines, message)
        if message:
            yield message


def _last_words(lines: Iterator[str], message: str) -> str:
    """spark-submit's own last words, quoted below the exception, say more than that it failed.

    Those of a job that was killed say what it did, and not why it ended.

    :returns: nothing if the job reported its errors itself
    """
    output = list(takewhile(lambda line: not _MESSAGE.match(line), lines))
    if any(read_job_line(line)[0] for line in output):
        return ""
    last = output[-1] if output else message
    if name := _killed_by(message):
        return f"the Spark application was killed by {name}: by a person, or for want of memory. It said last: {last}"
    return last


def _killed_by(message: str) -> str | None:
    """The signal that has ended an application, by its exit code."""
    if match := _EXIT_CODE.search(message):
        code = int(match[1])
        with suppress(ValueError):
            return signal.Signals(-code if code < 0 else code - _SHELL_SIGNALS).name
    return None
