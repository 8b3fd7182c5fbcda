"""Runner ``docker``: the application runs in a container, so the worker of the task needs neither Java nor Spark."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from airflow.providers.docker.exceptions import DockerContainerFailedException
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk.exceptions import AirflowException
from docker import APIClient
from docker.errors import DockerException, NotFound

from k2_offload.adapters.docker_engine import (
    container_options,
    errors_told,
    find_image,
    open_engine,
)
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.spark_application import LAST_LINES, SAFE, container_command, variables

_FOLDER = PurePosixPath("/tmp")  # noqa: S108 - of a container that nobody else uses


class _Client:
    """Docker's client, with what the provider's operator has no argument for."""

    def __init__(
        self, client: APIClient, cpus: float | None, files: Mapping[str, str], is_killed: Callable[[], bool]
    ) -> None:
        self._client = client
        self._cpus = cpus
        self._files = files
        self._is_killed = is_killed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def images(self, name: str) -> list[Any]:
        """The image; the operator pulls what is not found.

        :raises ConfigurationError: if the engine has none of that name
        """
        return [find_image(self._client, name)]

    def create_host_config(self, **options: Any) -> Any:
        """With a limit of CPUs; the operator's argument is only a weight."""
        return self._client.create_host_config(nano_cpus=round(self._cpus * 1e9) if self._cpus else None, **options)

    def start(self, container: str) -> None:
        """Put the files into the container, then start it."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path, text in self._files.items():
                data = text.encode()
                entry = tarfile.TarInfo(PurePosixPath(path).name)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        self._client.put_archive(container, str(_FOLDER), content.getvalue())
        if self._is_killed():
            raise AirflowException("stopped before its container was started")
        self._client.start(container)


class RunByDocker(DockerOperator):
    """Half of an operator, see :class:`~k2_offload.airflow_tasks.spark_application.SparkApplicationOperator`.

    The container gets the plan as a file, and the connections as variables that are in no rendered field; whoever may
    use the engine can read them, as long as the container is there. It is removed at the end of the attempt, whatever
    that was.
    """

    killed: bool

    def __init__(self, *, application: Path, name: str, **kwargs: Any) -> None:
        settings = load_settings()
        super().__init__(image=settings.docker_image, mount_tmp_dir=False, labels={"k2-offload": name}, **kwargs)
        self.settings = settings
        self.application = f"{settings.docker_jobs_folder}/{application.name}"
        self.name = name
        self._client: _Client | None = None

    @property
    def cli(self) -> Any:
        """The client that the provider's operator works with."""
        return self._client

    def submit(
        self, context: Any, plan: str, arguments: Sequence[str] = (), *, short: bool, report: Path | None = None
    ) -> None:
        """Run the application to its end.

        :raises Exception: if the application fails, the engine is away, or something that it needs is missing
        """
        settings = self.settings
        options = container_options(settings)
        unique = uuid4().hex
        plan_file, report_file = (str(_FOLDER / f"k2-offload-{unique}-{kind}.json") for kind in ("plan", "report"))
        self.command = container_command(
            settings, self.application, plan_file, *arguments, *([report_file] if report else []),
            jobs=settings.docker_jobs_folder, name=self.name, short=short,
        )  # fmt: skip
        self.network_mode, self.mounts, self.mem_limit = options.network, list(options.mounts), options.memory_bytes
        self._private_environment = variables(settings)
        self.container_name = f"k2-offload-{unique}"  # known, also where the reply that it was created is lost
        engine = open_engine(settings)
        self._client = client = _Client(engine, options.cpus, {plan_file: plan}, lambda: self.killed)
        try:
            with errors_told(settings):
                super().execute(context)
        except Exception as error:
            if self.killed:
                raise AirflowException(f"The container of {self.name} was stopped before its end. {SAFE}") from None
            if isinstance(error, DockerContainerFailedException):
                raise AirflowException(self._why(error)) from None
            raise
        finally:
            self._private_environment = {}
            if report:
                self._fetch(report_file, report)
            self._remove()
            client.close()

    def on_kill(self) -> None:
        """End the container at once; one that was not started yet never is."""
        if self._client is not None:
            self._remove()

    def _why(self, failure: DockerContainerFailedException) -> str:
        """What became of the container, and the application's last words."""
        reason = ""
        try:
            if self.cli.inspect_container(self.container_name)["State"].get("OOMKilled"):
                reason = " It had no memory left: make [k2_offload] docker_memory larger, or parallel_tables smaller."
        except (DockerException, OSError):
            pass  # it is gone; what it has said is known
        said = "\n".join(map(str, (failure.logs or [])[-LAST_LINES:]))
        return (
            f"spark-submit of {self.name} in image {self.image}: {failure}.{reason} {SAFE}\n"
            f"Last spark-submit output:\n{said}"
        )

    def _fetch(self, source: str, target: Path) -> None:
        try:
            chunks, _ = self.cli.get_archive(self.container_name, source)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
                if (file := archive.extractfile(PurePosixPath(source).name)) is not None:
                    target.write_bytes(file.read())
        except NotFound:
            pass  # the application wrote none, or never began
        except (DockerException, OSError) as error:
            self.log.warning("What %s has reported could not be fetched from its container: %s", self.name, error)

    def _remove(self) -> None:
        try:
            self.cli.remove_container(self.container_name, v=True, force=True)
        except NotFound:
            pass
        except (DockerException, OSError) as error:
            self.log.warning(
                "Container %s may still be there, and run: a window that it moves is published once nevertheless. "
                "Remove it with `docker rm --force --volumes`. The engine says: %s", self.container_name, error,
            )  # fmt: skip
