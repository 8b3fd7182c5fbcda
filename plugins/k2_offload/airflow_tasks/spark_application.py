"""What the tasks have in common that start Spark applications of this package, whoever runs those."""

from __future__ import annotations

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters import spark_submit
from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.core.connections import JobConnections
from k2_offload.core.runners import RUNNERS


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

    With ``spark-submit`` its tasks are SparkSubmitOperators, with ``docker`` DockerOperators.

    :raises ConfigurationError: if a setting is wrong, or the runner is not installed
    """
    runner = RUNNERS[load_settings().runner].load_operator()
    module = {"__module__": operator.__module__}
    return types.new_class(operator.__name__, (operator, runner), exec_body=lambda names: names.update(module))  # type: ignore[return-value]


def variables(settings: Settings) -> dict[str, str]:
    """The application's environment, which holds secrets: its Python, its connections, and how its lines are written.

    :raises ConfigurationError: if a connection is missing or incomplete
    """
    return {
        **spark_submit.environment(settings.spark_python),
        JobConnections.VARIABLE: job_connections(settings).to_json(),
        FORMAT_VARIABLE: settings.log_format,
    }
