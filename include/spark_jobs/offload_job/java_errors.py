"""What Iceberg's Java library throws, as this package's own errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from k2_offload.adapters.postgres import is_refusal
from k2_offload.core.errors import (
    ConfigurationError,
    OffloadError,
    Refused,
    Unreachable,
    is_certificate_refusal,
    is_store_refusal,
)
from k2_offload.core.text import first_words, without_secrets

SERVICE = "The Iceberg catalog or its storage"

_REFUSALS = ("ForbiddenException", "NotAuthorizedException", "AccessDeniedException", "AccessControlException")
"""What a REST catalog, files and Hadoop throw at a user who may not."""

_OF_OBJECT_STORES = (
    "S3Exception",
    "NoSuchBucketException",
    "NoSuchKeyException",
    "ServiceFailureException",  # a REST catalog's 500, with the words of what it met
    "RESTException",
)

_CANNOT_START = (
    "Cannot initialize FileIO",
    "Cannot initialize Catalog",
    "Unable to load region",
    "Unable to load credentials",
)


@dataclass(frozen=True)
class Thrown:
    """One exception of a chain.

    :param kind: the simple name of its class
    :param sqlstate: of Postgres' driver
    """

    kind: str
    message: str
    sqlstate: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {next(iter(self.message.splitlines()), '')}"


def translate(chain: Sequence[Thrown], connection_id: str) -> OffloadError:
    """The error that a chain of exceptions means.

    :param chain: the outermost first
    :param connection_id: the Airflow connection of the catalog
    """
    # The outermost and, where there is one, the innermost: the first rarely says what happened.
    reason = without_secrets(": ".join(dict.fromkeys(map(str, [chain[0], *chain[1:][-1:]]))))
    if any(_cannot_start(thrown) for thrown in chain):
        return ConfigurationError(
            f"{SERVICE} cannot be opened as Airflow connection '{connection_id}' describes it: {reason}. Nothing was "
            "moved and no row is lost. Correct the connection, or add the jar that is missing to [k2_offload] "
            "spark_jars; then run `k2 validate`."
        )
    return (Refused if _refused(chain) else Unreachable)(SERVICE, connection_id, reason)


def _cannot_start(thrown: Thrown) -> bool:
    return thrown.kind == "NoClassDefFoundError" or any(words in thrown.message for words in _CANNOT_START)


def _refused(chain: Sequence[Thrown]) -> bool:
    if any(is_certificate_refusal(f"{thrown.kind}: {thrown.message}") for thrown in chain):
        return True  # before SQLSTATEs: Postgres' driver calls it a failed connection
    for thrown in chain:
        if thrown.kind == "PSQLException":
            return is_refusal(thrown.sqlstate, thrown.message)
        if thrown.kind in _REFUSALS or (thrown.kind in _OF_OBJECT_STORES and is_store_refusal(str(thrown))):
            return True
    return False


def certificate_words(trace: str) -> str:
    """What a stack trace of Spark's says of a certificate, its first and last words; empty if it says nothing."""
    lines = (line.removeprefix("Caused by: ") for line in trace.splitlines() if not line.startswith("\tat "))
    found = [line for line in lines if is_certificate_refusal(line)]
    return ": ".join(dict.fromkeys([*found[:1], *found[-1:]]))


def first_line(error: Exception) -> str:
    """What Spark raises goes on for pages, and may say where its keys are."""
    return first_words(error) or type(error).__name__


@contextmanager
def failures_translated(connection_id: str) -> Iterator[None]:
    """Raise what Java throws as :func:`translate` reads it."""
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415

    try:
        yield
    except Py4JJavaError as error:
        raise translate(list(_chain(error)), connection_id) from error


def java_errors() -> tuple[type[Exception], ...]:
    """What an exception of Java may be here: while a session is up, pyspark puts some into classes of its own."""
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415

    captured = sys.modules.get("pyspark.errors.exceptions.captured")
    return (Py4JJavaError,) if captured is None else (Py4JJavaError, captured.CapturedException)


def is_conflict(error: Any) -> bool:
    """Whether a commit failed because another came first.

    :param error: one of :func:`java_errors`
    """
    if not hasattr(error, "java_exception"):  # pyspark's; Iceberg refuses a fast-forward as a wrong argument
        return "fast-forward" in str(error)
    kind = error.java_exception.getClass().getSimpleName()
    return kind == "CommitFailedException" or "fast-forward" in str(error.java_exception.getMessage())


def is_invalid(error: Any) -> bool:
    """Whether Iceberg refused an update because of what was committed since it was planned."""
    return bool(error.java_exception.getClass().getSimpleName() == "ValidationException")


def is_broken_json(error: Any) -> bool:
    """Whether a file could be read, and is no JSON."""
    return any(thrown.kind.startswith("Json") for thrown in _chain(error))


def _chain(error: Any) -> Iterator[Thrown]:
    exception = error.java_exception
    while exception is not None:
        kind = exception.getClass().getSimpleName()
        sqlstate = exception.getSQLState() if kind == "PSQLException" else None
        yield Thrown(kind, str(exception.getMessage()), sqlstate)
        exception = exception.getCause()
