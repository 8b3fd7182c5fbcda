"""The Spark application that moves windows, and what it is made of.

It brings ``k2_offload`` along: from ``plugins/`` in a checkout, in a wheel from around this folder. There the package
has Airflow's packages as neighbours, pyspark-client among them, which Spark must not take for its own; so the package
alone is made known, not its folder. Executors get it from the driver.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def _bring_k2_offload() -> None:
    above = Path(__file__).resolve().parents[3]
    package = next((each for each in (above / "plugins" / "k2_offload", above) if (each / "core").is_dir()), None)
    if package is None or "k2_offload" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location("k2_offload", package / "__init__.py")
    if spec is not None and spec.loader is not None:
        module = sys.modules["k2_offload"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_bring_k2_offload()
