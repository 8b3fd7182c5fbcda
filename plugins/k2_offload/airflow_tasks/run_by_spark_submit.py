"""Runner ``spark-submit``: the application's driver is a process beside the task's own, with this worker's Java."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow.configuration import conf

from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import spark_master
from k2_offload.adapters.java import check_java
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.late_module import import_late
from k2_offload.airflow_tasks.spark_application import variables

# The operator imports both wherever they are installed, which takes longer than all else, and uses the one for masters
# k8s:// alone, the other one where OpenLineage's settings tell it to.
import_late("airflow.providers.cncf.kubernetes.kube_client")
import_late(
    "airflow.providers.common.compat.openlineage.utils.spark",
    functions=(
        "inject_parent_job_information_into_spark_properties",
        "inject_transport_information_into_spark_properties",
    ),
)
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator  # noqa: E402

log = logging.getLogger(__name__)


class RunBySparkSubmit(SparkSubmitOperator):
    """Half of an operator, see :class:`~k2_offload.airflow_tasks.spark_application.SparkApplicationOperator`.

    The application inherits its environment from the task's process. The provider's ``env_vars`` would put secrets on
    the command line for some masters.
    """

    def __init__(self, *, application: Path, name: str, **kwargs: Any) -> None:
        settings = load_settings()
        super().__init__(
            application=str(application),
            name=name,
            conn_id=settings.spark_conn_id,
            spark_binary=settings.spark_binary,
            openlineage_inject_transport_info=False,  # its key would be on the command line
            **kwargs,
        )
        self.settings = settings

    def submit(
        self, context: Any, plan: str, arguments: Sequence[str] = (), *, short: bool, report: Path | None = None
    ) -> None:
        """Run the application to its end.

        :raises Exception: if the application fails
        """
        settings = self.settings
        spark_master(settings)
        check_java()
        self.driver_class_path = spark_submit.classpath(settings.spark_jars)
        self.conf = spark_submit.configuration(settings.spark_class_archive, short=short) | (self.conf or {})
        environment = variables(settings) | _full_log(context["ti"])
        with tempfile.TemporaryDirectory(prefix="k2-offload-") as folder, _environment(environment):
            plan_file = Path(folder) / "plan.json"
            plan_file.write_text(plan)
            self.application_args = [str(plan_file), *arguments, *([str(report)] if report else [])]
            self._hook = None  # it was made for the arguments of the application before
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
