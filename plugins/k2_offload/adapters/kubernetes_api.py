"""Kubernetes, whose pods run Spark applications where setting ``runner`` is ``kubernetes``: how its API is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.kubernetes_helper_functions import KubernetesApiException
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import (
    ApiClient,
    AuthorizationV1Api,
    CoreV1Api,
    V1Pod,
    V1ResourceAttributes,
    V1SelfSubjectAccessReview,
    V1SelfSubjectAccessReviewSpec,
    VersionApi,
)
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from k2_offload.adapters.connections import container_master, get_connection, job_connections
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import (
    ConfigurationError,
    OffloadError,
    Refused,
    Unreachable,
    is_certificate_refusal,
    wrong_setting,
)
from k2_offload.core.pods import CONTAINER, PodOptions, check_secret, pod, pod_name
from k2_offload.core.text import first_line

SERVICE = "The API server of Kubernetes"

_NO_MORE_RIGHTS = 403
_NOT_LET_IN = 401
_MISSING = 404
_RIGHTS = (("get", "pods", ""), ("list", "pods", ""), ("delete", "pods", ""), ("get", "pods", "log"))
"""What a task does with its pod once that is there."""


def pod_options(settings: Settings) -> PodOptions:
    """Read the settings that begin with ``kubernetes_``.

    :raises ConfigurationError: if one of them is missing or not what it should be
    """
    if not settings.kubernetes_jobs_folder.startswith("/"):
        raise wrong_setting("kubernetes_jobs_folder", f"'{settings.kubernetes_jobs_folder}', not an absolute path")
    options = PodOptions(
        namespace=settings.kubernetes_namespace,
        image=settings.kubernetes_image,
        secret=settings.kubernetes_secret,
        service_account=settings.kubernetes_service_account,
        memory=settings.kubernetes_memory,
        cpus=settings.kubernetes_cpus,
    )
    options.check()
    return options


def read_pod(manifest: dict[str, Any]) -> V1Pod:
    """The manifest as the client's own model.

    :raises ValueError: naming what the API has not, or has in another type; nothing is passed over
    """
    model = PodGenerator.deserialize_model_dict(manifest)
    if wrong := list(_lost(manifest, ApiClient().sanitize_for_serialization(model), "")):
        raise ValueError(", ".join(wrong))
    return model


def extended(manifest: dict[str, Any], template: str) -> V1Pod:
    """The pod, with what a template says besides; where both say something, the template is right.

    Name, namespace, command, deadline and restart policy stay: others would not find it, or run something else.

    :param template: path of a file with a pod, as YAML; empty for none
    :raises ConfigurationError: if there is no such file, or it is no pod
    """
    ours = read_pod(manifest)
    if not template:
        return ours
    try:
        extras = yaml.safe_load(Path(template).read_text())
        extras.setdefault("spec", {}).setdefault("containers", [{"name": CONTAINER}])
        names = [each["name"] for each in extras["spec"]["containers"]]
        if extras.get("kind") != "Pod" or names != [CONTAINER]:
            raise ValueError(f"not a Pod whose one container is called {CONTAINER}; a second one would keep it running")
        both = PodGenerator.reconcile_pods(ours, read_pod(extras))
    except OSError as error:
        raise wrong_setting("kubernetes_pod_template", f"'{template}': {error.strerror}") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise wrong_setting("kubernetes_pod_template", f"'{template}', which is not a pod: {error}") from None
    both.metadata.name, both.metadata.namespace = ours.metadata.name, ours.metadata.namespace
    both.spec.containers[0].command = ours.spec.containers[0].command
    both.spec.containers[0].args = ours.spec.containers[0].args
    both.spec.active_deadline_seconds = ours.spec.active_deadline_seconds
    both.spec.restart_policy = ours.spec.restart_policy
    return both


def _lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if value is not None:
                yield from _lost(value, kept.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for position, value in enumerate(given):
            yield from _lost(value, kept[position], f"{path}[{position}]")
    elif type(given) is not type(kept) or given != kept:
        yield f"{path} is not known" if kept is None else f"{path} is {given!r}, of a wrong type"


def open_client(settings: Settings) -> CoreV1Api:
    """A client of the API server; nothing was asked yet.

    :raises ConfigurationError: if the connection is missing, or says nothing that can be used
    """
    get_connection(settings.kubernetes_conn_id)
    try:
        return KubernetesHook(conn_id=settings.kubernetes_conn_id).core_v1_client
    except (ConfigException, AirflowException, OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"connection '{settings.kubernetes_conn_id}' does not say where Kubernetes is: {error}. Nothing was moved. "
            "Its extra needs in_cluster, kube_config_path or kube_config (docs/configuration.md); then run "
            "`k2 validate`."
        ) from None


@contextmanager
def errors_told(settings: Settings) -> Iterator[None]:
    """The client's own errors as this package's.

    :raises OffloadError: if the API server refuses what it was asked for
    :raises Unreachable: if it does not answer
    """
    try:
        yield
    except ApiException as error:
        raise _refusal(settings, error) from None
    except (HTTPError, KubernetesApiException) as error:
        if is_certificate_refusal(str(error)):
            raise Refused(SERVICE, settings.kubernetes_conn_id, str(error)) from None
        raise Unreachable(SERVICE, settings.kubernetes_conn_id, str(error)) from None


def reason_of(error: ApiException | HTTPError) -> str:
    """Why the API server refused, or does not answer, in one line; the client's own words have the reply's headers."""
    if not isinstance(error, ApiException):
        return first_line(error)
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.status} {error.reason}"


def _refusal(settings: Settings, error: ApiException) -> OffloadError:
    reason = reason_of(error)
    help_ = "Look at the settings kubernetes_… and at the cluster"
    if error.status == _NOT_LET_IN:
        help_ = "Correct the connection's token or certificate"
    elif error.status == _NO_MORE_RIGHTS:
        help_ = "Grant it, if a right is missing (docs/production.md#rights-in-kubernetes)"
    elif error.status == _MISSING and reason.startswith("pods "):
        help_ = "The pod is gone: somebody, or a node that was drained, has removed it"
    return OffloadError(
        f"{SERVICE} (Airflow connection '{settings.kubernetes_conn_id}') refused: {reason.rstrip('.')}. No row is "
        f"lost: the next attempt finds out what was published. {help_}; then run `k2 validate`."
    )


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """What a task needs of Kubernetes: each with a function that looks and says what it has found."""

    def server() -> str:
        with errors_told(settings):
            api = open_client(settings).api_client
            return f"version {VersionApi(api).get_code().git_version} at {api.configuration.host}"

    def pods() -> str:
        options = pod_options(settings)
        name = pod_name("k2-validate", "0")
        manifest = pod(options, name, "k2-validate", "{}", {}, ["true"])
        with errors_told(settings):
            client = open_client(settings)
            body = extended(manifest, settings.kubernetes_pod_template)
            client.create_namespaced_pod(options.namespace, body, dry_run="All", field_validation="Strict")
            missing = [
                f"{verb} {resource}{'/' + part if part else ''}"
                for verb, resource, part in _RIGHTS
                if not _may(client, options.namespace, verb, resource, part)
            ]
        if missing:
            raise ConfigurationError(
                f"connection '{settings.kubernetes_conn_id}' may not {', '.join(missing)} in namespace "
                f"'{options.namespace}'. Nothing was moved. Grant it (docs/production.md#rights-in-kubernetes); then "
                "run `k2 validate`."
            )
        limits = f"{options.cpus or 'no limit of'} CPUs, {options.memory or 'no limit of'} memory"
        return f"{options.image} would be accepted in namespace {options.namespace}; {limits}"

    def secret() -> str:
        options = pod_options(settings)
        connections = job_connections(settings)
        with errors_told(settings):
            client = open_client(settings)
            try:
                found = client.read_namespaced_secret(options.secret, options.namespace)
            except ApiException as error:
                if error.status == _NO_MORE_RIGHTS:
                    return f"{options.secret}: not looked at, this connection may not read it"
                if error.status != _MISSING:
                    raise
                raise ConfigurationError(
                    f"there is no Secret '{options.secret}' in namespace '{options.namespace}'. Nothing was moved. "
                    "Write it: `k2 kubernetes-secret | kubectl apply --server-side -f -`; then run `k2 validate`."
                ) from None
        check_secret(options, client.api_client.sanitize_for_serialization(found), connections)
        return f"{options.secret} holds what the connections say"

    yield "Kubernetes", server
    yield "Pods", pods
    yield "Secret", secret
    yield "Spark connection", lambda: f"master {container_master(settings)}"


def _may(client: CoreV1Api, namespace: str, verb: str, resource: str, part: str) -> bool:
    asked = V1ResourceAttributes(namespace=namespace, verb=verb, resource=resource, subresource=part or None)
    review = V1SelfSubjectAccessReview(spec=V1SelfSubjectAccessReviewSpec(resource_attributes=asked))
    api = AuthorizationV1Api(client.api_client)
    return bool(api.create_self_subject_access_review(review).status.allowed)
