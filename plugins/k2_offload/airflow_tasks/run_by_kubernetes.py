"""Runner ``kubernetes``: the application's driver is a pod, so the worker of the task needs neither Java nor Spark."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import V1Pod
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.kubernetes_api import errors_told, extended, open_client, pod_options, reason_of
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.spark_application import LAST_LINES, SAFE, container_command, plain_variables
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.limits import pod_start_seconds
from k2_offload.core.pods import CONTAINER, LABEL, plan_file, pod, pod_name, read_report, report_file, what_became

_GONE = 404


class RunByKubernetes(KubernetesPodOperator):
    """Half of an operator, see :class:`~k2_offload.airflow_tasks.spark_application.SparkApplicationOperator`.

    Each attempt has a pod of its own, and removes it at its end, whatever that was. The pod refers to a Secret:
    no password is sent with it, only a digest that tells it whether that Secret leads to the same servers.
    """

    killed: bool

    def __init__(self, *, application: Path, name: str, **kwargs: Any) -> None:
        settings = load_settings()
        super().__init__(
            kubernetes_conn_id=settings.kubernetes_conn_id,
            namespace=settings.kubernetes_namespace,
            image=settings.kubernetes_image,
            base_container_name=CONTAINER,
            random_name_suffix=False,
            durable=False,  # a window is published once, whoever is left; another attempt may have another plan
            deferrable=False,
            startup_check_interval_seconds=1,
            log_events_on_startup=False,  # one right less; the pod's status says what matters
            log_pod_spec_on_failure=False,
            container_name_log_prefix_enabled=False,
            **kwargs,
        )
        self.settings = settings
        self.application = f"{settings.kubernetes_jobs_folder}/{application.name}"
        self.application_name = name
        self._last_words: deque[str] = deque(maxlen=LAST_LINES)
        self._reported: str | None = None
        self._pod_name = ""

    def submit(
        self, context: Any, plan: str, arguments: Sequence[str] = (), *, short: bool, report: Path | None = None
    ) -> None:
        """Run the application to its end.

        :raises Exception: if the application fails, Kubernetes is away, or something that it needs is missing
        """
        settings, options = self.settings, pod_options(self.settings)
        name = pod_name(self.application_name, uuid4().hex[:12])  # known, also where the reply to its creation is lost
        command = container_command(
            settings, self.application, plan_file(name), *arguments, *([report_file(name)] if report else []),
            jobs=settings.kubernetes_jobs_folder, name=self.application_name, short=short,
        )  # fmt: skip
        seconds = None
        if self.execution_timeout:
            seconds = int(self.execution_timeout.total_seconds())
            self.schedule_timeout_seconds = self.startup_timeout_seconds = pod_start_seconds(seconds)
        servers = {JobConnections.SERVERS_VARIABLE: job_connections(settings).servers}
        variables = plain_variables(settings) | servers
        manifest = pod(options, name, self.application_name, plan, variables, command, seconds)
        self.full_pod_spec = extended(manifest, settings.kubernetes_pod_template)
        self.labels = {f"{LABEL}/pod": name}  # the provider looks for it by its labels
        self.pod = self.pod_request_obj = None
        self.remote_pod = None
        self._last_words.clear()
        self._reported, self.log_formatter = None, self._hear
        self.client = open_client(settings)
        self._pod_name = name
        try:
            with errors_told(settings):
                super().execute(context)
            ended: Any = self.remote_pod  # the provider has set it
            if ended is None or ended.status.phase != "Succeeded":
                raise AirflowException("it has failed")
        except Exception as error:
            if self.killed:
                raise AirflowException(
                    f"The pod of {self.application_name} was stopped before its end. {SAFE}"
                ) from None
            if isinstance(error, AirflowException):
                raise AirflowException(self._why(error)) from None
            raise
        finally:
            try:
                if report:
                    self._fetch(report)
            finally:
                self._remove()

    def get_or_create_pod(self, pod_request_obj: V1Pod, context: Any) -> V1Pod:
        """Start none for a task that was killed meanwhile."""
        if not self.killed:
            created = super().get_or_create_pod(pod_request_obj, context)
            if not self.killed:
                return created
        raise AirflowException("stopped before its pod has begun")

    def cleanup(self, *_: Any, **__: Any) -> None:
        """Nothing: :meth:`submit` looks at the pod and removes it, whatever became of it."""

    def on_kill(self) -> None:
        """End the pod at once; one that was not started yet never is."""
        if self._pod_name:
            self._remove()

    def _hear(self, _container: str, line: str) -> str:
        if (reported := read_report(line)) is not None:
            self._reported = reported
            return "What it has done is on record."
        self._last_words.append(line)
        return line

    def _why(self, failure: Exception) -> str:
        """What became of the pod, and the application's last words."""
        options = pod_options(self.settings)
        status: Any = {}
        try:
            found = self.client.read_namespaced_pod(self._pod_name, options.namespace)
            status = self.client.api_client.sanitize_for_serialization(found.status)
        except (ApiException, HTTPError):
            pass  # it is gone; what it has said is known
        said = "\n".join(self._last_words)
        return (
            f"Pod {self._pod_name} of {self.application_name} in image {options.image}: "
            f"{what_became(status) or failure} {SAFE}\nLast spark-submit output:\n{said}"
        )

    def _fetch(self, target: Path) -> None:
        """Leave the report, which may have been missed where the log was interrupted."""
        if self._reported is None:
            try:
                last = self.client.read_namespaced_pod_log(
                    self._pod_name, self.settings.kubernetes_namespace, container=CONTAINER, tail_lines=1,
                    _preload_content=False,
                )  # fmt: skip
                self._reported = read_report(last.data.decode(errors="replace").strip())
            except (ApiException, HTTPError):
                pass  # it never began, or is gone
        if self._reported is not None:
            target.write_text(self._reported)

    def _remove(self) -> None:
        namespace = self.settings.kubernetes_namespace
        try:
            self.client.delete_namespaced_pod(self._pod_name, namespace)
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) != _GONE:
                self.log.warning(
                    "Pod %s may still be there, and run: a window that it moves is published once nevertheless. Remove "
                    "it with `kubectl delete pod --namespace %s %s`. Kubernetes says: %s",
                    self._pod_name, namespace, self._pod_name, reason_of(error),
                )  # fmt: skip
