"""``k2`` in this process, which has Airflow loaded: where it is not its process that is tested."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
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


def connection_variables(connections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Variables with which :func:`run_k2` uses other connections than those of this process's Airflow.

    :param connections: fields, as in a file of connections, by side: ``LEDGER``, ``CLICKHOUSE``, ``CATALOG``, ``SPARK``
    """
    variables = {}
    for side, fields in connections.items():
        variables[f"AIRFLOW__K2_OFFLOAD__{side}_CONN_ID"] = f"other_{side.lower()}"
        named = {"extra" if name == "extra_dejson" else name: value for name, value in fields.items()}
        variables[f"AIRFLOW_CONN_OTHER_{side}"] = json.dumps(named)
    return variables


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
