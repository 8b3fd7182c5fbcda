"""The pod that runs a Spark application where setting ``runner`` is ``kubernetes``: what it is, and what became of it.

Manifests are what Kubernetes' API takes as JSON. They name a Secret and hold none.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from k2_offload.core.errors import ConfigurationError, OffloadError, wrong_setting
from k2_offload.core.job_connections import JobConnections

CONTAINER = "base"
"""As the provider's operator calls the container whose output it follows."""

LABEL = "k2-offload"
"""Of every pod, with the application's name."""

_LONGEST_LABEL = 63
_LARGEST_ANNOTATIONS = 256 * 1024
_PLAN = f"{LABEL}/plan"
_REPORT = "K2-OFFLOAD-REPORT "
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUANTITY = re.compile(r"(\d+(\.\d+)?|\.\d+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")

_SCRIPT = f"""\
packed=$1 plan=$2 report=$3; shift 3
base64 -d "$packed" | gzip -dc > "$plan" && [ -s "$plan" ] || {{ echo "the plan is not readable" >&2; exit 1; }}
"$@"; code=$?
if [ -s "$report" ]; then printf '\\n{_REPORT}'; gzip -c "$report" | base64 -w 0; echo; fi
exit $code
"""
"""A pod takes no files and gives none back: the plan comes as an annotation, the report goes as a line of the log."""


@dataclass(frozen=True)
class PodOptions:
    """What the settings say of a pod, in Kubernetes' own words.

    :param secret: name of the Secret whose key :attr:`JobConnections.VARIABLE` holds the connections
    :param service_account: empty for the namespace's own
    :param memory: of the container, asked for and limit; empty for none
    :param cpus: the same
    """

    namespace: str
    image: str
    secret: str
    service_account: str = ""
    memory: str = ""
    cpus: str = ""

    def check(self) -> None:
        """Refuse what Kubernetes would.

        :raises ConfigurationError: naming the setting
        """
        if not self.image or re.search(r"\s", self.image):
            raise wrong_setting("kubernetes_image", f"'{self.image}': name the image with Spark, its jars and the job")
        if not _DNS_LABEL.fullmatch(self.namespace):
            raise wrong_setting("kubernetes_namespace", f"'{self.namespace}', not a name of a-z, 0-9 and hyphens")
        for setting, name in (("secret", self.secret), ("service_account", self.service_account or "none")):
            if not _DNS_NAME.fullmatch(name):
                raise wrong_setting(f"kubernetes_{setting}", f"'{name}', not a name of a-z, 0-9, hyphens and dots")
        for setting, amount, example in (("memory", self.memory, "2Gi"), ("cpus", self.cpus, "1500m or 2")):
            if amount and not (_QUANTITY.fullmatch(amount) and re.search("[1-9]", amount)):
                raise wrong_setting(f"kubernetes_{setting}", f"'{amount}', not an amount above 0 such as {example}")


def pod_name(application: str, unique: str) -> str:
    """A name that no other pod has, as short as a host's may be.

    :param unique: lower-case letters and digits
    """
    readable = re.sub(r"[^a-z0-9]+", "-", application.lower())[: _LONGEST_LABEL - len(unique) - 1]
    return f"{readable.strip('-') or LABEL}-{unique}"


def label_value(text: str) -> str:
    """The text if a label may have it; otherwise what is like it, and differs where the text does."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", text).strip("-_.")
    if safe == text and len(text) <= _LONGEST_LABEL:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{safe[: _LONGEST_LABEL - 9]}-{digest}".lstrip("-_.")


def plan_file(name: str) -> str:
    """Where the application finds its plan.

    :param name: the pod's
    """
    return f"/tmp/{name}.plan.json"  # noqa: S108 - of a container that nobody else uses


def report_file(name: str) -> str:
    """Where it may leave a report."""
    return f"/tmp/{name}.report.json"  # noqa: S108


def pod(
    options: PodOptions,
    name: str,
    application: str,
    plan: str,
    variables: Mapping[str, str],
    command: Sequence[str],
    seconds: int | None = None,
) -> dict[str, Any]:
    """The manifest.

    The application is no root, gets no token of Kubernetes, and nothing starts it again.

    :param name: of the pod, see :func:`pod_name`
    :param plan: the content of :func:`plan_file`
    :param variables: of its environment; no secrets
    :param command: what runs in it
    :param seconds: after which Kubernetes ends it, whoever else is still there; ``None`` for never
    :raises OffloadError: if the plan is too large for a pod
    """
    folder = f"/tmp/{name}"  # noqa: S108
    packed = base64.b64encode(gzip.compress(plan.encode(), mtime=0)).decode()
    if len(packed) + len(_PLAN) > _LARGEST_ANNOTATIONS:
        raise OffloadError(
            f"The plan of {application} is too large for a pod: {len(packed):,} bytes packed, of "
            f"{_LARGEST_ANNOTATIONS:,}. Nothing was moved and no row is lost. Choose fewer tables or days, or set "
            "[k2_offload] runner to spark-submit; then run it again."
        )
    arguments = [f"{folder}/plan", plan_file(name), report_file(name), *command]
    resources = {key: value for key, value in (("memory", options.memory), ("cpu", options.cpus)) if value}
    secret = {"secretKeyRef": {"name": options.secret, "key": JobConnections.VARIABLE}}
    environment = [{"name": key, "value": value} for key, value in variables.items()]
    container = {
        "name": CONTAINER,
        "image": options.image,
        "command": ["/bin/sh", "-c", _SCRIPT, "k2-offload"],
        "args": [argument.replace("$(", "$$(") for argument in arguments],  # Kubernetes would put variables in
        "env": [*environment, {"name": JobConnections.VARIABLE, "valueFrom": secret}],
        "resources": {"limits": resources, "requests": resources} if resources else {},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "plan", "mountPath": folder, "readOnly": True}],
    }
    from_annotation = {"path": "plan", "fieldRef": {"fieldPath": f"metadata.annotations['{_PLAN}']"}}
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "plan", "downwardAPI": {"items": [from_annotation]}}],
    }
    if seconds is not None:
        spec["activeDeadlineSeconds"] = seconds
    if options.service_account:
        spec["serviceAccountName"] = options.service_account
    metadata = {
        "name": name,
        "namespace": options.namespace,
        "labels": {LABEL: label_value(application)},
        "annotations": {_PLAN: packed},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def secret(options: PodOptions, connections: JobConnections) -> dict[str, Any]:
    """The manifest of the Secret that the pods refer to; holds secrets."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": options.secret, "namespace": options.namespace},
        "type": "Opaque",
        "data": {JobConnections.VARIABLE: base64.b64encode(connections.to_json().encode()).decode()},
    }


def check_secret(options: PodOptions, found: Mapping[str, Any], connections: JobConnections) -> None:
    """Whether a Secret holds what the connections say now.

    :param found: its manifest, as Kubernetes shows it
    :raises ConfigurationError: if it does not; the message holds no secrets
    """
    if (found.get("data") or {}).get(JobConnections.VARIABLE) != secret(options, connections)["data"][
        JobConnections.VARIABLE
    ]:
        raise ConfigurationError(
            f"Secret '{options.secret}' in namespace '{options.namespace}' does not hold what Airflow's connections "
            "and settings say now, so jobs would use other servers or passwords. Nothing was moved. Write it anew: "
            "`k2 kubernetes-secret | kubectl apply --server-side -f -`; then run `k2 validate`."
        )


def read_report(line: str) -> str | None:
    """The report that the application has left; ``None`` if the line of the log is another one, or was cut off."""
    if not line.startswith(_REPORT):
        return None
    try:
        return gzip.decompress(base64.b64decode(line[len(_REPORT) :])).decode()
    except (ValueError, EOFError, OSError, zlib.error):
        return None


_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")


def what_became(status: Mapping[str, Any]) -> str | None:
    """Why a pod did not do its work, with what helps; ``None`` if only the application knows.

    :param status: its status, as Kubernetes shows it
    """
    [container] = [each for each in status.get("containerStatuses") or [] if each["name"] == CONTAINER] or [{}]
    state = container.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    said = str(waiting.get("message") or status.get("message") or "").strip().rstrip(".")
    if ended.get("reason") == "OOMKilled":
        return "It had no memory left: make [k2_offload] kubernetes_memory larger, or parallel_tables smaller."
    if status.get("reason") == "Evicted":
        return f"Its node has evicted it: {said}. Ask for what it needs: [k2_offload] kubernetes_memory."
    if status.get("reason") == "DeadlineExceeded":
        return "It took longer than a task may (task_timeout_seconds), and Kubernetes has ended it."
    if waiting.get("reason") in _IMAGE:
        return (
            f"Its image cannot be pulled ({waiting['reason']}): {said}. Look at [k2_offload] kubernetes_image, and at "
            "imagePullSecrets in kubernetes_pod_template."
        )
    if waiting.get("reason") == "CreateContainerConfigError":
        return (
            f"Something that it refers to is missing: {said}. A Secret is written by "
            "`k2 kubernetes-secret | kubectl apply --server-side -f -`; then run `k2 validate`."
        )
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return (
                f"No node takes it ({condition.get('reason')}): {condition.get('message', '').rstrip('.')}. Make "
                "[k2_offload] kubernetes_memory or kubernetes_cpus smaller, or add a node."
            )
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return f"Kubernetes has taken it away ({condition.get('reason')}): {condition.get('message', '')}"
    if waiting:
        return f"Its container does not start ({waiting.get('reason')}): {said}"
    return f"Exit code {ended['exitCode']}." if ended else said or None
