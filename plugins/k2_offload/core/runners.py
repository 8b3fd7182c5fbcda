"""The runners: ways for a task to start a Spark application, one of which the settings choose.

A new one is a class that starts it, a function that checks what it needs, and one line here.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from k2_offload.core.errors import ConfigurationError


@dataclass(frozen=True)
class Runner:
    """A runner, by the names of what it is made of; nothing of it is loaded before it is chosen.

    :param operator: ``module:Class``, an Airflow operator with the constructor and the method ``submit`` of
        :class:`k2_offload.airflow_tasks.spark_application.SparkApplicationOperator`
    :param checks: ``module:function``, which takes the settings and gives ``(subject, look)`` of each thing that
        ``k2 validate`` looks at; ``look`` says what it has found
    :param needs: the distribution that brings the operator
    """

    operator: str
    checks: str
    needs: str

    def load_operator(self) -> Any:
        """The operator's class."""
        return self._load(self.operator)

    def load_checks(self) -> Any:
        """The function that checks."""
        return self._load(self.checks)

    def _load(self, name: str) -> Any:
        module, _, attribute = name.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"[k2_offload] runner needs the package {self.needs}, which is not installed here ({error}). Nothing "
                "was moved and no row is lost. Install it where Airflow's workers, its DAG processor and `k2` run, or "
                "choose another runner; then run `k2 validate`."
            ) from None


RUNNERS = {
    "spark-submit": Runner(
        "k2_offload.airflow_tasks.run_by_spark_submit:RunBySparkSubmit",
        "k2_offload.work.validate:spark_checks",
        "apache-airflow-providers-apache-spark",
    ),
    "docker": Runner(
        "k2_offload.airflow_tasks.run_by_docker:RunByDocker",
        "k2_offload.adapters.docker_engine:checks",
        "apache-airflow-providers-docker",
    ),
    "kubernetes": Runner(
        "k2_offload.airflow_tasks.run_by_kubernetes:RunByKubernetes",
        "k2_offload.adapters.kubernetes_api:checks",
        "apache-airflow-providers-cncf-kubernetes",
    ),
}
"""By the name in the setting ``runner``."""
