"""What the tasks have in common that submit a Spark application of this package."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.configuration import conf
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import job_connections, spark_master
from k2_offload.adapters.java import check_java
from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.adapters.settings import load_settings
from k2_offload.core.connections import JobConnections

log = logging.getLogger(__name__)


class SparkApplicationOperator(SparkSubmitOperator):
    """Submits one application with a plan in a file.

    Secrets travel in the application's environment only, which it inherits from the task's process: they are in no
    rendered template, argument or log. The provider's ``env_vars`` would put them on the command line for some masters.
    Everything else of the application comes from the package's settings.
    """

    def __init__(self, *, application: Path, name: str, **kwargs: Any) -> None:
        settings = load_settings()
        super().__init__(
            application=str(application),
            name=name,
            conn_id=settings.spark_conn_id,
            spark_binary=settings.spark_binary,
            **kwargs,
        )
        self.settings = settings

    def submit(self, context: Any, plan: str, arguments: Sequence[str], *, short: bool) -> None:
        """Run the application to its end.

        :param arguments: those after the plan's file
        :param short: whether the application is over in seconds
        :raises Exception: if the application fails
        """
        settings = self.settings
        spark_master(settings)
        check_java()
        java_options = spark_submit.driver_options(settings.spark_class_archive, short=short)
        self.driver_class_path = spark_submit.classpath(settings.spark_jars)
        self.conf = {
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": java_options,
        } | (self.conf or {})
        variables = {
            **spark_submit.environment(settings.spark_python),
            JobConnections.VARIABLE: job_connections(settings).to_json(),
            FORMAT_VARIABLE: settings.log_format,
            **_full_log(context["ti"]),
        }
        with tempfile.TemporaryDirectory(prefix="k2-offload-") as folder, _environment(variables):
            plan_file = Path(folder) / "plan.json"
            plan_file.write_text(plan)
            self.application_args = [str(plan_file), *arguments]
            super().execute(context)


def _full_log(task: Any) -> dict[str, str]:
    """Variables that let Spark keep its whole log in a file beside the task's, which goes when that goes."""
    mapped = [f"map_index={task.map_index}"] if task.map_index >= 0 else []
    names = [f"dag_id={task.dag_id}", f"run_id={task.run_id}", f"task_id={task.task_id}", *mapped]
    file = Path(conf.get("logging", "base_log_folder"), *names, f"attempt={task.try_number}.spark.log")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        log.warning("Spark's whole log is not kept: %s", error)
        return {}
    log.info("Spark's whole log: %s", file)
    return spark_submit.full_log(file)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process, which runs one task, and of what it starts."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
