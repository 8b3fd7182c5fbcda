"""A fake of Kubernetes' API: no cluster, no kubelet and no containers.

It serves, on 127.0.0.1, as much of the API as Airflow's KubernetesPodOperator and `k2 validate` ask for, and runs the
command of each "pod" as a process of this machine. Its environment is that of the image and of the manifest alone:
a variable that refers to a Secret gets its value here. Volumes of the downward API become files.

A manifest is taken only if Kubernetes' own Python client knows each of its fields. Nothing is isolated; limits,
security contexts and service accounts are only written down. RBAC is a list of what is forbidden.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from k2_offload.adapters.kubernetes_api import read_pod


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Pod:
    """One that was created.

    :param manifest: what it was created from
    """

    def __init__(self, manifest: dict[str, Any], api: KubernetesApi) -> None:
        self.manifest, self.api = manifest, api
        self.name: str = manifest["metadata"]["name"]
        [self.container] = manifest["spec"]["containers"]
        self.status: dict[str, Any] = {"phase": "Pending"}
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: list[tuple[str, str]] = []
        self.changed = threading.Condition()
        self.known, self.ended = threading.Event(), threading.Event()
        """Whether others can see it, and whether it has ended."""

    def shown(self) -> dict[str, Any]:
        return {**self.manifest, "status": self.status}

    def start(self) -> None:
        if self.api.stuck:  # whoever would start it says why it does not
            self.status = {"phase": "Pending", **self.api.stuck}
            return
        environment = dict(self.api.of_image)
        for variable in self.container.get("env", []):
            value = variable.get("value")
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                secret = self.api.secrets.get(reference["name"], {})
                if reference["key"] not in secret:
                    self._waits("CreateContainerConfigError", f'secret "{reference["name"]}" not found')
                    return
                value = base64.b64decode(secret[reference["key"]]).decode()
            environment[variable["name"]] = value
        self._mount()
        arguments = [*self.container["command"], *self.container["args"]]
        self.process = subprocess.Popen(
            [text.replace("$$(", "$(") for text in arguments],
            env=environment,
            cwd=self.api.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._is("Running", {"running": {"startedAt": _now()}})
        threading.Thread(target=self._follow, daemon=True).start()

    def _mount(self) -> None:
        volumes = {volume["name"]: volume for volume in self.manifest["spec"].get("volumes", [])}
        for mount in self.container["volumeMounts"]:
            folder = Path(mount["mountPath"])
            folder.mkdir()
            for item in volumes[mount["name"]]["downwardAPI"]["items"]:
                found = re.fullmatch(r"metadata\.annotations\['(.+)'\]", item["fieldRef"]["fieldPath"])
                (folder / item["path"]).write_text(self.manifest["metadata"]["annotations"][found[1]])

    def _waits(self, reason: str, message: str) -> None:
        self._is("Pending", {"waiting": {"reason": reason, "message": message}})

    def _is(self, phase: str, state: Mapping[str, Any]) -> None:
        about = {"name": self.container["name"], "image": self.container["image"], "imageID": "", "restartCount": 0}
        self.status = {"phase": phase, "containerStatuses": [{**about, "ready": phase == "Running", "state": state}]}

    def _follow(self) -> None:
        self.known.wait()  # a program may speak before its pod can be seen, and what happens then is done to that
        with self.process.stdout as pipe:
            for raw in pipe:
                line = raw.decode(errors="replace").rstrip("\n")
                for text in [text for text in self.api.when_said if text in line]:
                    threading.Thread(target=self.api.when_said.pop(text)).start()
                with self.changed:
                    self.lines.append((_now(), line))
                    self.changed.notify_all()
        code = self.process.wait()
        code = code if code >= 0 else 128 - code
        reason = "OOMKilled" if self.api.out_of_memory else "Error" if code else "Completed"
        ended = {"exitCode": code, "reason": reason, "startedAt": _now(), "finishedAt": _now()}
        self._is("Failed" if code else "Succeeded", {"terminated": ended})
        with self.changed:
            self.ended.set()
            self.changed.notify_all()

    def said(self) -> Iterator[tuple[str, str]]:
        """Each line, until the pod has ended."""
        position = 0
        while True:
            with self.changed:
                while position == len(self.lines) and not self.ended.is_set():
                    self.changed.wait()
                if position == len(self.lines):
                    return
                found, position = self.lines[position:], len(self.lines)
            yield from found

    def remove(self) -> None:
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.ended.wait()
        for left in Path("/tmp").glob(f"{self.name}*"):
            # A second removal, of a task that was killed and ends, may be at it, too.
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


class KubernetesApi(ThreadingHTTPServer):
    """Listens until it is closed; see :func:`kubernetes_api`."""

    daemon_threads = True

    def __init__(self, folder: Path, of_image: Mapping[str, str]) -> None:
        self.folder, self.of_image = folder, of_image
        self.pods: dict[str, Pod] = {}
        self.created: list[Pod] = []
        self.requests: list[str] = []
        self.secrets: dict[str, dict[str, str]] = {}
        """Data by name, in base64 as Kubernetes has it."""
        self.before: dict[str, Callable[[], Any]] = {}
        """By the beginning of a request: what happens before it is answered."""
        self.when_said: dict[str, Callable[[], Any]] = {}
        """By a text that a pod prints: what happens then, once."""
        self.refusals: dict[str, tuple[int, str]] = {}
        """By the beginning of a request: status and message of its refusal."""
        self.lost_replies: set[str] = set()
        """Beginnings of requests that are done, and of which nobody hears."""
        self.not_granted: set[str] = set()
        """Rights, as ``delete pods`` or ``get pods/log``."""
        self.stuck: dict[str, Any] = {}
        """The status of pods that do not start."""
        self.out_of_memory = False
        super().__init__(("127.0.0.1", 0), _Request)

    def handle_error(self, *_: Any) -> None:
        pass  # a client that has gone

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": {"server": f"http://127.0.0.1:{self.server_port}"}}],
            "users": [{"name": "worker", "user": {"token": "of-the-worker"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "worker"}}],
            "current-context": "fake",
        }
        return {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}


@contextmanager
def kubernetes_api(folder: Path, of_image: Mapping[str, str] | None = None) -> Iterator[KubernetesApi]:
    """The API, and the end of all that runs by it.

    :param folder: pods work in it
    :param of_image: variables of all images; of them ``PATH`` is needed to find any program
    """
    with KubernetesApi(folder, of_image or {"PATH": os.defpath}) as api:
        threading.Thread(target=api.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield api
        finally:
            for pod in list(api.pods.values()):
                pod.remove()
            api.shutdown()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KubernetesApi

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()}
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
        assert self.headers["Authorization"] == "Bearer of-the-worker"
        short = re.sub(r"^/api/v1/namespaces/k2-offload/", "", path)
        self.asked = request = f"{self.command} {short}{' dryRun' if 'dryRun' in query else ''}"
        self.server.requests.append(request)
        for begins, happens in self.server.before.items():
            if request.startswith(begins):
                happens()
        for begins, (status, why) in self.server.refusals.items():
            if request.startswith(begins):
                self._refuse(status, why)
                return
        for method, pattern, answer in _ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, short)):
                answer(self, *found.groups(), query, body)
                return
        self._refuse(404, f"the server could not find the requested resource: {request}")

    do_POST = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass

    def _refuse(self, status: int, why: str) -> None:
        self._json({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": why, "code": status}, status)

    def _json(self, content: Any, status: int = 200) -> None:
        if any(self.asked.startswith(each) for each in self.server.lost_replies):
            self.close_connection = True
            return
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def version(self, *_: Any) -> None:
        told = dict.fromkeys(
            ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"), "of a fake"
        )
        self._json({**told, "major": "1", "minor": "34", "gitVersion": "fake"})

    def create(self, query: Mapping[str, str], manifest: dict[str, Any]) -> None:
        try:
            read_pod(manifest)
        except ValueError as error:
            self._refuse(400, f"Pod in version v1 cannot be handled as a Pod: strict decoding error: {error}")
            return
        pod = Pod(manifest, self.server)
        if pod.name in self.server.pods:
            self._refuse(409, f'pods "{pod.name}" already exists')
            return
        if "dryRun" not in query:
            self.server.created.append(pod)
            pod.start()
            self.server.pods[pod.name] = pod  # only now: half of one cannot be removed
            pod.known.set()
        self._json(pod.shown(), 201)

    def list(self, query: Mapping[str, str], _: Any) -> None:
        found = [pod.shown() for pod in self.server.pods.values() if _selected(pod, query.get("labelSelector", ""))]
        self._json({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found})

    def read(self, name: str, *_: Any) -> None:
        if pod := self._find(name):
            self._json(pod.shown())

    def delete(self, name: str, *_: Any) -> None:
        if pod := self._find(name):
            pod.remove()  # first: who finds it gone finds its process ended
            self.server.pods.pop(name, None)
            self._json(pod.shown())

    def log(self, name: str, query: Mapping[str, str], _: Any) -> None:
        if not (pod := self._find(name)):
            return
        if pod.process is None:
            self._refuse(400, f'container "base" in pod "{name}" is waiting to start')
            return
        lines = pod.said() if query.get("follow") == "True" else iter(pod.lines[-int(query.get("tailLines", 0)) :])
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for time, line in lines:
            data = f"{time + ' ' if query.get('timestamps') == 'True' else ''}{line}\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def secret(self, name: str, *_: Any) -> None:
        if name in self.server.secrets:
            self._json({"kind": "Secret", "apiVersion": "v1", "data": self.server.secrets[name]})
        else:
            self._refuse(404, f'secrets "{name}" not found')

    def review(self, _: Any, body: dict[str, Any]) -> None:
        asked = body["spec"]["resourceAttributes"]
        right = f"{asked['verb']} {asked['resource']}{'/' + asked['subresource'] if 'subresource' in asked else ''}"
        self._json({**body, "status": {"allowed": right not in self.server.not_granted}}, 201)

    def _find(self, name: str) -> Pod | None:
        if name not in self.server.pods:
            self._refuse(404, f'pods "{name}" not found')
        return self.server.pods.get(name)


def _selected(pod: Pod, selector: str) -> bool:
    labels = pod.manifest["metadata"]["labels"]
    for term in filter(None, selector.split(",")):
        if term.startswith("!"):
            fits = term[1:] not in labels
        elif "!=" in term:
            key, value = term.split("!=")
            fits = labels.get(key) != value
        else:
            key, value = term.split("=")
            fits = labels.get(key) == value
        if not fits:
            return False
    return True


_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/version/", _Request.version),
    ("POST", "pods", _Request.create),
    ("GET", "pods", _Request.list),
    ("GET", "pods/([a-z0-9-]+)", _Request.read),
    ("DELETE", "pods/([a-z0-9-]+)", _Request.delete),
    ("GET", "pods/([a-z0-9-]+)/log", _Request.log),
    ("GET", "secrets/([a-z0-9.-]+)", _Request.secret),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _Request.review),
]
