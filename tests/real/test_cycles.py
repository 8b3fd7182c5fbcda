"""Nine tables, from trades to candles to a lake on S3 behind a REST catalog."""

from __future__ import annotations

import pytest
import yaml

from embedded.install.layout import ROOT
from tests.real.conftest import Lake


@pytest.fixture(scope="module")
def nine(lake: Lake, tmp_path_factory):
    """The tables of production, one of them with the other transport, and a first cycle that has moved them."""
    document = yaml.safe_load((ROOT / "include" / "tables.yaml").read_text())
    document["tables"]["bronze_trades_kraken"]["transport"] = "jdbc"
    file = tmp_path_factory.mktemp("nine") / "tables.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    lake = lake.with_tables(file)
    port = str(lake.stack.settings.ports.clickhouse_native)
    trades = ("--seed", "5", "--rate", "20", "--starting-ago", "3000", "--for", "600")
    lake.k2("feed", "generate", *trades, "--port", port)
    assert [layer["state"] for layer in lake.json("run")["layers"]] == ["success"] * 3
    return lake


def test_what_a_cycle_needs_is_there(nine):
    validated = nine.json("validate")
    assert [each for each in validated["checks"] if not each["passed"]] == []
    assert [each for each in validated["tables"] if each["problem"]] == []
