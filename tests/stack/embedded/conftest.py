"""A database with the schema in it for each module, empty at the start of each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from clickhouse_driver import Client

from embedded.stack.schema import apply_schema
from tests.support import SharedStack


@contextmanager
def new_database(stack: SharedStack) -> Iterator[str]:
    """The name of a database that has the schema."""
    name = f"feed_{uuid.uuid4().hex}"
    with stack.clickhouse_client(database="default") as client:
        client.execute(f"CREATE DATABASE {name}")
        with stack.clickhouse_client(database=name) as inside:
            apply_schema(inside)
        yield name
        client.execute(f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def database(stack: SharedStack) -> Iterator[str]:
    """The name of the module's database, which has the schema."""
    with new_database(stack) as name:
        yield name


@pytest.fixture
def clickhouse(stack: SharedStack, database: str) -> Iterator[Client]:
    """A client in the module's database, whose tables are empty."""
    with stack.clickhouse_client(database=database) as client:
        stored = "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
        for (table,) in client.execute(stored):
            client.execute(f"TRUNCATE TABLE {table}")
        yield client
