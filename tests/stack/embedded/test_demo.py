"""``make demo`` as a stranger runs it, on a stack of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from embedded.stack import Ports, StackSettings, airflow_services, down
from embedded.stack.secrets import Secrets
from tests.support import SharedStack, free_stack_ports

README = Path(__file__).parents[3] / "README.md"
RECORDED_TRADES = {"bronze_trades_binance": 12_477, "bronze_trades_kraken": 148}


@pytest.fixture
def settings(tmp_path: Path, session_settings: StackSettings) -> Iterator[StackSettings]:
    settings = StackSettings(tmp_path.resolve(), free_stack_ports(), session_settings.clickhouse_version)
    yield settings
    down(settings)


@pytest.fixture
def environment(settings: StackSettings) -> Mapping[str, str]:
    ports = {Ports.variable(name): str(port) for name, port in asdict(settings.ports).items()}
    own = {"K2_STATE_DIR": str(settings.state), "K2_CLICKHOUSE_VERSION": settings.clickhouse_version}
    return airflow_services.without_foreign_settings(os.environ) | ports | own | {"COLUMNS": "160"}


def form(text: str) -> list[str]:
    """Its lines without what differs from run to run: numbers, hashes, widths of columns, progress."""
    lines = (line for line in text.splitlines() if not line.startswith("comparing "))
    plain = (re.sub(r"\b\d[\d,]*\b", "9", re.sub(r"\b[0-9a-f]{16}\b", "#", line)) for line in lines)
    return [" ".join(line.split()) for line in plain]


def test_demo_moves_recorded_and_fresh_trades(settings: StackSettings, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "embedded.demo"]
    demo = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert demo.returncode == 0, demo.stdout
    assert "all 9 tables equal" in demo.stdout
    assert re.search(r"is healed in [789] tables", demo.stdout), demo.stdout
    assert demo.stdout.count("✓ gold   success") == 2, demo.stdout
    [excerpt] = re.findall(r"^```text\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert "\n".join(form(excerpt)) in "\n".join(form(demo.stdout)), demo.stdout

    stack = SharedStack(settings, Secrets.load_or_make(settings.state))
    status = subprocess.run(["k2", "status", "--json"], env=stack.environment, stdout=subprocess.PIPE, check=True)
    cold = {line["table"]: line["cold_rows"] for line in json.loads(status.stdout)}
    assert all(cold[table] > recorded for table, recorded in RECORDED_TRADES.items()), cold
    assert cold["silver_trades"] == sum(cold[table] for table in RECORDED_TRADES)
    assert all(cold.values()), cold
