"""Apache Kafka, for tests with a real broker alone: `python -m embedded.install.broker`, after the rest of set-up."""

from __future__ import annotations

import os
import sys

from embedded.install.__main__ import shared_cache
from embedded.install.jars import fetch_jars
from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.install.steps import SetupError, say


def main() -> int:
    """Fetch the pinned jars to `.state/broker` and return an exit code."""
    layout = Layout.of(ROOT, DEFAULT_CLICKHOUSE_VERSION)
    try:
        module, folder = layout.requirements / "broker.xml", layout.jars.with_name("broker")
        fetch_jars(layout, "Apache Kafka", module, folder, shared_cache(os.environ) / "ivy")
    except SetupError as error:
        say(f"Set-up stopped.\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
