"""The Java side of the application: spark-submit's own virtual machine, without a Spark context.

A context takes seconds to start and only the JDBC transport needs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Jvm = Any
"""py4j's view of the virtual machine; its attributes are Java packages and classes."""


def start_jvm() -> Jvm:
    """The virtual machine of the spark-submit process this runs in."""
    from pyspark.java_gateway import launch_gateway  # not installed where the rest is type-checked

    return launch_gateway().jvm


def java_map(jvm: Jvm, values: Mapping[str, str]) -> Any:
    """A ``java.util.HashMap``."""
    result = jvm.java.util.HashMap()
    for key, value in values.items():
        result.put(key, value)
    return result
