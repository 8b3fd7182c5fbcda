from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from embedded.stack import StackError
from embedded.stack.ports import is_free, require_free
from tests.support import free_ports


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_busy_port_is_named_with_its_holder_and_a_way_out(busy_port: int) -> None:
    with pytest.raises(StackError) as caught:
        require_free({"airflow": busy_port})
    message = str(caught.value)
    assert f"Port {busy_port} is in use by process {os.getpid()} (" in message
    assert "Nothing was started" in message


def test_proposed_port_is_free(busy_port: int) -> None:
    with pytest.raises(StackError) as caught:
        require_free({"postgres": busy_port})
    proposed = int(str(caught.value).split("K2_POSTGRES_PORT=")[1].split()[0])
    assert proposed != busy_port
    assert is_free(proposed)


def test_free_ports_pass() -> None:
    first, second = free_ports(2)
    require_free({"airflow": first, "postgres": second})
