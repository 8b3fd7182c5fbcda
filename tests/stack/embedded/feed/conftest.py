"""A database of its own for each test, with the schema in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from clickhouse_driver import Client

from embedded.feed.schema import apply_schema
from tests.support import SharedStack


@pytest.fixture
def database(stack: SharedStack) -> Iterator[str]:
    """The name of an empty database."""
    name = f"feed_{uuid.uuid4().hex}"
    with stack.clickhouse_client(database="default") as client:
        client.execute(f"CREATE DATABASE {name}")
        yield name
        client.execute(f"DROP DATABASE {name}")


@pytest.fixture
def clickhouse(stack: SharedStack, database: str) -> Iterator[Client]:
    """A client in a database that has the schema and no rows."""
    with stack.clickhouse_client(database=database) as client:
        apply_schema(client)
        yield client
