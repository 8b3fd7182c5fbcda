"""A gateway process of the tests' own: free ports, a data path of its own."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil
import pytest
from clickhouse_driver import Client  # type: ignore[import-untyped]

from tests.support import free_ports

PROJECT = Path(__file__).resolve().parents[4]
_START_SECONDS = 60


def clickhouse_python() -> Path:
    """The interpreter of the environment that has chDB.

    K2_CLICKHOUSE_PYTHON names it; otherwise the one that set-up made for K2_CLICKHOUSE_VERSION.
    """
    state = Path(os.environ.get("K2_STATE_DIR", PROJECT / ".state"))
    version = os.environ.get("K2_CLICKHOUSE_VERSION", "26.9")
    default = state / f"clickhouse-venv-{version}" / "bin" / "python"
    python = Path(os.environ.get("K2_CLICKHOUSE_PYTHON", default))
    if not python.is_file():
        pytest.fail(f"no interpreter at {python}: run `make setup`, or name one in K2_CLICKHOUSE_PYTHON", pytrace=False)
    return python


@dataclass
class Gateway:
    """A gateway process that tests can start, stop and kill."""

    data_path: Path
    arguments: list[str] = field(default_factory=list)
    native_port: int = field(default_factory=lambda: free_ports(1)[0])
    http_port: int = field(default_factory=lambda: free_ports(1)[0])
    process: subprocess.Popen[str] | None = None
    clients: list[Client] = field(default_factory=list)

    @property
    def log_path(self) -> Path:
        return self.data_path.with_suffix(".log")

    def command(self) -> list[str]:
        ports = ["--native-port", str(self.native_port), "--http-port", str(self.http_port)]
        return [
            *(str(clickhouse_python()), "-m", "embedded.gateway", "--data-path", str(self.data_path)),
            *(ports + self.arguments),
        ]

    def start(self) -> None:
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(self.command(), cwd=PROJECT, stdout=log, stderr=log, text=True)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.get("/ping")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        pytest.fail(f"the gateway did not start:\n{self.log_path.read_text()}", pytrace=False)

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=30)

    def disconnect(self) -> None:
        """Leave no client connected."""
        while self.clients:
            self.clients.pop().disconnect()

    def rss_bytes(self) -> int:
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def connected_ports(self) -> set[int]:
        """The ports of the clients whose connections the gateway holds."""
        assert self.process is not None
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        return {connection.raddr.port for connection in connections if connection.raddr}

    def client(self, **options: Any) -> Client:
        client = Client("127.0.0.1", port=self.native_port, **options)
        self.clients.append(client)
        return client

    def get(self, path: str) -> tuple[int, str]:
        status, _, body = self.request("GET", path)
        return status, body.decode()

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        try:
            connection.request(method, path, body, headers or {}, encode_chunked=hasattr(body, "__next__"))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def query(self, sql: str, **parameters: str) -> str:
        """The result of ``sql`` over HTTP, which must succeed."""
        status, _, body = self.request("POST", "/?" + urlencode(parameters), sql.encode())
        assert status == 200, body
        return body.decode()


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One running gateway for the whole session; tests use databases of their own in it."""
    running = Gateway(tmp_path_factory.mktemp("gateway") / "data")
    running.start()
    yield running
    running.disconnect()
    assert running.stop() == 0


@pytest.fixture
def own_gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway not yet started, for tests that stop it; the data path's name has a blank and a quote in it."""
    mine = Gateway(tmp_path / "the engine's data")
    yield mine
    if mine.process is not None and mine.process.poll() is None:
        mine.process.kill()
        mine.process.wait()
    mine.disconnect()


@pytest.fixture
def database(gateway: Gateway, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own."""
    name = f"test_{abs(hash(request.node.nodeid))}"
    gateway.query(f"CREATE DATABASE {name}")
    yield name
    gateway.query(f"DROP DATABASE {name}")
