"""The Java side of the application: spark-submit's own virtual machine, without a Spark context.

A context takes seconds to start and only the JDBC transport needs one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

Jvm = Any
"""py4j's view of the virtual machine; its attributes are Java packages and classes."""


def start_jvm() -> Jvm:
    """The virtual machine of the spark-submit process this runs in.

    As ``pyspark.java_gateway.launch_gateway`` finds it, without loading pyspark, which takes longer than all the rest.
    """
    from py4j.clientserver import ClientServer, JavaParameters, PythonParameters  # noqa: PLC0415 - comes with Spark

    port, secret = int(os.environ["PYSPARK_GATEWAY_PORT"]), os.environ["PYSPARK_GATEWAY_SECRET"]
    java = JavaParameters(port=port, auth_token=secret, auto_convert=True)
    return ClientServer(java_parameters=java, python_parameters=PythonParameters(port=0, eager_load=False)).jvm


def end_with_parent() -> None:
    """End this process as soon as the spark-submit that started it has gone, whatever it is doing then.

    Airflow kills spark-submit when a task exceeds its timeout; a query under way would keep this process alive.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def call_static(jvm: Jvm, class_name: str, method: str) -> Any:
    """Call a static method without parameters.

    For classes that have another method of that name: py4j looks at the first that it finds, in no certain order, and
    says that there is none if that one is not static.
    """
    find, array = jvm.java.lang.Class.forName, jvm.java.lang.reflect.Array.newInstance
    found = find(class_name).getMethod(method, array(find("java.lang.Class"), 0))
    return found.invoke(None, array(find("java.lang.Object"), 0))


def java_map(jvm: Jvm, values: Mapping[str, str]) -> Any:
    """A ``java.util.HashMap``."""
    result = jvm.java.util.HashMap()
    for key, value in values.items():
        result.put(key, value)
    return result
