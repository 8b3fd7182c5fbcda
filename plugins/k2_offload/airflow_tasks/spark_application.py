"""What the tasks have in common that start Spark applications of this package, whoever runs those."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import container_master, job_connections
from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.runners import RUNNERS

LAST_LINES = 500
"""So many of the application's last words are told with its failure."""

SAFE = "No row is lost: the next attempt finds out what was published, and moves the rest."


class SparkApplicationOperator(BaseOperator):
    """A task that runs an application with a plan in a file; incomplete without a runner, see :func:`with_runner`.

    The next class in line is the runner's.

    Secrets travel in the application's environment only: they are in no rendered template, argument or log.
    Everything else of the application comes from the package's settings.

    :param application: one of ``include/spark_jobs``
    """

    killed = False
    """Whether :meth:`on_kill` was called: Airflow lets the task go on for a while, and it must start nothing more."""

    def __init__(self, *, application: Path, name: str, **kwargs: Any) -> None:
        self.settings = load_settings()
        super().__init__(application=application, name=name, **kwargs)

    def submit(
        self, context: Any, plan: str, arguments: Sequence[str] = (), *, short: bool, report: Path | None = None
    ) -> None:
        """Run the application to its end.

        :param arguments: those after the plan's file
        :param short: whether the application is over in seconds
        :param report: where to leave the file that the application writes, also one that fails; its last argument
        :raises Exception: if the application fails, or the task was killed
        """
        if self.killed:
            raise AirflowException("The task was killed; nothing more was started. No row is lost.")
        super().submit(context, plan, arguments, short=short, report=report)  # type: ignore[misc]

    def on_kill(self) -> None:
        """End the application that runs, and start no other."""
        self.killed = True
        super().on_kill()


Operator = TypeVar("Operator", bound=type[SparkApplicationOperator])


def with_runner(operator: Operator) -> Operator:
    """The operator's class, completed by the runner that the settings name.

    With ``spark-submit`` its tasks are SparkSubmitOperators, with ``docker`` DockerOperators,
    with ``kubernetes`` KubernetesPodOperators.

    :raises ConfigurationError: if a setting is wrong, or the runner is not installed
    """
    runner = RUNNERS[load_settings().runner].load_operator()
    module = {"__module__": operator.__module__}
    return types.new_class(operator.__name__, (operator, runner), exec_body=lambda names: names.update(module))  # type: ignore[return-value]


def variables(settings: Settings) -> dict[str, str]:
    """The application's environment, which holds secrets: its connections, and :func:`plain_variables`.

    :raises ConfigurationError: if a connection is missing or incomplete
    """
    return {**plain_variables(settings), JobConnections.VARIABLE: job_connections(settings).to_json()}


def plain_variables(settings: Settings) -> dict[str, str]:
    """What everybody may see of the application's environment: its Python, and how its lines are written."""
    return {**spark_submit.environment(settings.spark_python), FORMAT_VARIABLE: settings.log_format}


def container_command(
    settings: Settings, application: str, *arguments: str, jobs: str, name: str, short: bool
) -> list[str]:
    """The command line of an application in a container.

    :param application: its path there
    :param jobs: where ``include/spark_jobs`` is there
    :raises ConfigurationError: if the Spark connection is missing, or its master cannot be used there
    """
    configuration = spark_submit.configuration(settings.spark_class_archive, short=short, jobs=PurePosixPath(jobs))
    return spark_submit.command(
        settings.spark_binary, container_master(settings), configuration, settings.spark_jars, application, *arguments,
        name=name,
    )  # fmt: skip
