"""``k2`` in this process, which has Airflow loaded: where it is not its process that is tested."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import structlog
from click.testing import Result
from typer.testing import CliRunner

from embedded.k2 import app


def run_k2(*arguments: str, environment: Mapping[str, str] | None = None, answer: str | None = None) -> Result:
    """Run a command; what it raises besides its exit code is raised.

    :param environment: variables that it has besides those of this process
    :param answer: what a person types
    """
    with mock.patch.dict(os.environ, environment or {}), _unchanged_process():
        result = CliRunner().invoke(app, arguments, input=answer)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output, result.output
    return result


@contextmanager
def _unchanged_process() -> Iterator[None]:
    """A command silences Airflow, in what is its own process elsewhere."""
    configuration, handler = structlog.get_config(), signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        structlog.configure(**configuration)
        logging.disable(logging.NOTSET)
        signal.signal(signal.SIGTERM, handler)
