"""Nine tables, from trades to candles to a lake on S3 behind a REST catalog, with a crash of each in the middle."""

from __future__ import annotations

import pytest
import yaml

from embedded.install.layout import ROOT
from tests.real.conftest import Lake

def feed(lake, seed, *options):
    port = str(lake.stack.settings.ports.clickhouse_native)
    lake.k2("feed", "generate", "--seed", seed, *options, "--port", port)


def test_all_tables(lake: Lake):
    print(lake.k2("validate").stdout)
    feed(lake, "5", "--rate", "20", "--starting-ago", "3000", "--for", "1500")
    cycle = lake.json("run")
    print(cycle)
    print(lake.k2("verify").stdout)
