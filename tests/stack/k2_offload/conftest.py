"""The workbench, and the Spark application that stays up beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import psycopg
import pytest

from embedded.spark import submit_environment
from embedded.warm_spark import WarmSpark
from k2_offload.adapters.ledger import Ledger
from tests.faults.submit import WARM_JOB
from tests.support import SharedStack
from tests.support.workbench import Workbench


@pytest.fixture(scope="session")
def start_spark(stack: SharedStack) -> Iterator[Callable[[], WarmSpark]]:
    """Gives the application that all tests of this process share; started when it is first needed."""
    with ExitStack() as resources:
        log = resources.enter_context((stack.settings.logs / "warm-spark.log").open("w"))

        environment = submit_environment()  # now: a test may point the connections elsewhere

        @cache
        def start() -> WarmSpark:
            spark = WarmSpark(log, WARM_JOB, java_options=None, variables=environment)
            return resources.enter_context(closing(spark))

        yield start


@pytest.fixture(scope="session")
def warehouse(stack: SharedStack) -> Path:
    """The folder that holds the cold tables' files."""
    return stack.settings.warehouse


@pytest.fixture
def workbench(
    stack: SharedStack,
    start_spark: Callable[[], WarmSpark],
    warehouse: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[Workbench]:
    """A workbench whose table names start with the test's own."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)[:60].strip("_").lower()
    with ExitStack() as resources:
        yield Workbench(stack, tmp_path, name, resources, start_spark, warehouse)


@pytest.fixture
def database(stack: SharedStack, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of this test's own, as a URL."""
    name = f"ledger_{abs(hash(request.node.name))}"
    with psycopg.connect(stack.ledger_dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield stack.ledger_dsn.rpartition("/")[0] + f"/{name}"
    with psycopg.connect(stack.ledger_dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def ledger(database: str) -> Ledger:
    """A ledger in that database; nobody has made its schema yet."""
    return Ledger(lambda: psycopg.connect(database), "test")
