"""The pod of an application, as Kubernetes' own client reads it, and what its status means."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import ApiClient

from k2_offload.adapters.kubernetes_api import read_pod
from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint
from k2_offload.core.errors import ConfigurationError, OffloadError
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.pods import (
    PodOptions,
    check_secret,
    label_value,
    plan_file,
    pod,
    pod_name,
    read_report,
    report_file,
    secret,
    what_became,
)

OPTIONS = PodOptions("k2-offload", "k2:test", "the-secret", "lake", "2Gi", "1.5")
CONNECTIONS = JobConnections(
    ClickHouseEndpoint("ch", "ch", 9000, 8123, "u", "a-password", "k2", secure=False),
    CatalogSettings("c", "demo", {"token": "a-token"}, {}),
    "k2_lake",
)


def made(plan="{}", variables=None, command=("true",), options=OPTIONS):
    return pod(options, "k2-offload-1", "k2-offload-gold", plan, variables or {}, command, 600)


def test_the_client_of_kubernetes_knows_each_field_and_nothing_is_lost():
    manifest = made(variables={"A": "1"})
    assert ApiClient().sanitize_for_serialization(read_pod(manifest)) == manifest


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "restartpolicy"), "Never", "spec.restartpolicy is not known"),
        (("spec", "containers", 0, "env", 0, "valueFrom", "secretRef"), {}, "secretRef is not known"),
        (("spec", "containers", 0, "env", 0, "value"), 1, "value is 1, of a wrong type"),
    ],
)
def test_a_field_that_kubernetes_has_not_is_seen(path, value, told):
    manifest = at = made()
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    with pytest.raises(ValueError, match=re.escape(told)):
        read_pod(manifest)


def test_a_pod_names_its_secret_and_may_do_nothing_else():
    [container] = made()["spec"]["containers"]
    reference = {"secretKeyRef": {"name": "the-secret", "key": "K2_OFFLOAD_CONNECTIONS"}}
    assert container["env"] == [{"name": "K2_OFFLOAD_CONNECTIONS", "valueFrom": reference}]
    assert made()["spec"]["automountServiceAccountToken"] is False
    assert made()["spec"]["securityContext"]["runAsNonRoot"] is True


def test_variables_in_arguments_are_left_to_the_application():
    [container] = made(command=["job", "$(HOME)"])["spec"]["containers"]
    assert container["args"][-1] == "$$(HOME)"


def test_what_is_the_largest_plan_for_a_pod():
    noise = random.Random(1).randbytes(200_000).hex()  # noqa: S311
    with pytest.raises(OffloadError, match=r"too large for a pod.*no row is lost"):
        made(plan=noise)
    assert made(plan="x" * 10_000_000)


@pytest.mark.parametrize(("report", "code"), [("[1, 2]", 0), ("[3]", 4), ("", 0)])
def test_the_script_of_a_pod_unpacks_the_plan_and_packs_the_report(tmp_path, report, code):
    plan = '{"it\'s": "a plan"}'
    job = f'cat "$1"; printf %s \'{report}\' > "$2"; exit {code}'
    name = "k2-offload-1"
    manifest = pod(OPTIONS, name, "x", plan, {}, ["sh", "-c", job, "job", plan_file(name), report_file(name)])
    [container] = manifest["spec"]["containers"]
    (tmp_path / "plan").write_text(manifest["metadata"]["annotations"]["k2-offload/plan"])
    arguments = [each.replace(f"/tmp/{name}", str(tmp_path), 1) for each in container["args"]]
    done = subprocess.run([*container["command"], *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stdout.splitlines()[0] == plan
    found = [each for each in map(read_report, done.stdout.splitlines()) if each is not None]
    assert found == ([report] if report else [])


def test_a_plan_that_did_not_arrive_whole_starts_nothing(tmp_path):
    [container] = made(command=["echo", "began"])["spec"]["containers"]
    (tmp_path / "plan").write_text(base64.b64encode(gzip.compress(b"{}")[:-4]).decode())
    arguments = [each.replace("/tmp/k2-offload-1", str(tmp_path), 1) for each in container["args"]]
    done = subprocess.run([*container["command"], *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "the plan is not readable" in done.stderr


@given(st.text(max_size=100))
def test_names_and_labels_keep_to_the_rules_of_kubernetes(text):
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", pod_name(text, "0123456789ab"))
    assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", label_value(text))


def test_labels_of_different_texts_differ():
    assert label_value("k2-offload-gold") == "k2-offload-gold"
    assert len({label_value(text) for text in ("a b", "a/b", "a-b", "x" * 64, "x" * 65)}) == 5


@pytest.mark.parametrize(
    ("field", "value", "setting"),
    [
        ("image", "", "kubernetes_image"),
        ("image", "a b", "kubernetes_image"),
        ("namespace", "Big", "kubernetes_namespace"),
        ("namespace", "a" * 64, "kubernetes_namespace"),
        ("secret", "under_score", "kubernetes_secret"),
        ("secret", "", "kubernetes_secret"),
        ("service_account", "-a", "kubernetes_service_account"),
        ("memory", "2 GB", "kubernetes_memory"),
        ("memory", "0Gi", "kubernetes_memory"),
        ("cpus", "-1", "kubernetes_cpus"),
        ("cpus", "two", "kubernetes_cpus"),
    ],
)
def test_a_setting_that_kubernetes_would_refuse_is_refused_with_its_name(field, value, setting):
    fields = {"namespace": "k2", "image": "k2:1", "secret": "s", "memory": "2Gi", "cpus": "500m"}
    PodOptions(**fields).check()
    with pytest.raises(ConfigurationError, match=f"{setting} is .*k2 validate"):
        PodOptions(**fields | {field: value}).check()


def test_a_secret_that_is_not_what_the_connections_say_is_told_without_showing_it():
    written = secret(OPTIONS, CONNECTIONS)
    text = base64.b64decode(written["data"]["K2_OFFLOAD_CONNECTIONS"]).decode()
    assert JobConnections.from_json(text) == CONNECTIONS
    check_secret(OPTIONS, written, CONNECTIONS)
    for found in ({}, {"data": None}, {"data": {"K2_OFFLOAD_CONNECTIONS": base64.b64encode(b"{}").decode()}}):
        with pytest.raises(ConfigurationError, match=r"'the-secret' .*kubernetes-secret") as told:
            check_secret(OPTIONS, found, CONNECTIONS)
        assert "a-password" not in str(told.value)
        assert written["data"]["K2_OFFLOAD_CONNECTIONS"] not in str(told.value)


def waits(reason, message=""):
    return {"containerStatuses": [{"name": "base", "state": {"waiting": {"reason": reason, "message": message}}}]}


def ended(reason, code):
    return {"containerStatuses": [{"name": "base", "state": {"terminated": {"reason": reason, "exitCode": code}}}]}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (ended("OOMKilled", 137), "kubernetes_memory larger"),
        (ended("Error", 3), "Exit code 3."),
        ({"reason": "Evicted", "message": "low on memory"}, "evicted it: low on memory"),
        ({"reason": "DeadlineExceeded"} | ended("Error", 137), "task_timeout_seconds"),
        (waits("ImagePullBackOff", "not found"), "kubernetes_image"),
        (waits("CreateContainerConfigError", 'secret "x" not found'), "k2 kubernetes-secret"),
        (waits("RunContainerError", "no such file"), "does not start (RunContainerError): no such file"),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1."}]},
            "No node takes it (Unschedulable): 0/1. Make",
        ),
        (
            {"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]},
            "taken it away (PreemptionByScheduler)",
        ),
        ({"phase": "Failed", "message": "Pod was rejected"}, "Pod was rejected"),
    ],
)
def test_what_became_of_a_pod_is_said_with_what_helps(status, told):
    assert told in what_became(status)


def test_nothing_is_made_up_where_a_status_says_nothing():
    assert what_became({}) is None
    assert read_report(json.dumps({"level": "info"})) is None
