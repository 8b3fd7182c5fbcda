"""A stand-in for a container engine: no containers, and no Docker.

It serves, at a socket of this machine, as much of Docker's HTTP API as Airflow's DockerOperator asks for, and runs the
command of each "container" as a process of this machine, with the container's variables as its whole environment.
Nothing is isolated: images are names, folders are this machine's, and limits are only written down.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import socketserver
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STREAMS = {"stdout": 1, "stderr": 2}


@dataclass
class Container:
    """One that was created.

    :param config: what it was created from
    :param when_said: by a text that it prints: what happens then, once
    :param out_of_memory: whether the engine is to say that it was ended for that
    """

    id: str
    name: str
    config: Mapping[str, Any]
    when_said: dict[str, Callable[[], Any]]
    process: subprocess.Popen[bytes] | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    attached: io.BufferedIOBase | None = None
    files: list[Path] = field(default_factory=list)
    out_of_memory: bool = False

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"] or [])

    @property
    def exit_code(self) -> int:
        code = self.process.returncode if self.process else None
        return 0 if code is None else code if code >= 0 else 128 - code

    def start(self, of_image: Mapping[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            self.config["Cmd"],
            env={**of_image, **self.environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        threading.Thread(target=self._follow, daemon=True).start()

    def kill(self) -> None:
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.ended.wait()

    def _follow(self) -> None:
        writing = threading.Lock()

        def pump(name: str) -> None:
            with getattr(self.process, name) as pipe:
                said = ""
                while chunk := os.read(pipe.fileno(), 65536):
                    said += chunk.decode(errors="replace")
                    for text in [text for text in self.when_said if text in said]:
                        threading.Thread(target=self.when_said.pop(text)).start()
                    with writing, suppress(OSError):
                        self.attached.write(struct.pack(">BxxxL", STREAMS[name], len(chunk)) + chunk)

        pumps = [threading.Thread(target=pump, args=(name,)) for name in STREAMS]
        for each in pumps:
            each.start()
        for each in pumps:
            each.join()
        self.process.wait()
        self.ended.set()


class ContainerEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Listens at a socket until it is closed; see :func:`container_engine`.

    :param images: names of those that it has
    :param of_image: variables that every image sets
    """

    daemon_threads = True

    def __init__(self, folder: Path, images: tuple[str, ...], of_image: Mapping[str, str]) -> None:
        self.folder, self.images, self.of_image = folder, images, of_image
        self.networks = {"bridge", "host", "none"}
        self.containers: dict[str, Container] = {}
        self.created: list[Container] = []
        self.requests: list[str] = []
        self.before: dict[str, Callable[[], Any]] = {}
        """By the beginning of a request: what happens before it is answered."""
        self.when_said: dict[str, Callable[[], Any]] = {}
        """By a text that a container prints: what happens then, once."""
        self.refusals: dict[str, str] = {}
        """By the beginning of a request: why it is refused."""
        self.lost_replies: set[str] = set()
        """Requests that are done, and of which nobody hears."""
        super().__init__(str(folder / "engine.sock"), _Request)

    @property
    def url(self) -> str:
        return f"unix://{self.server_address}"

    def find(self, name: str) -> Container | None:
        """By its id or its name."""
        return next((each for each in self.containers.values() if name in (each.id, each.name)), None)

    def remove(self, container: Container) -> None:
        container.kill()
        for file in container.files:
            file.unlink(missing_ok=True)
        self.containers.pop(container.id, None)


@contextmanager
def container_engine(
    folder: Path, images: tuple[str, ...] = ("k2:test",), of_image: Mapping[str, str] | None = None
) -> Iterator[ContainerEngine]:
    """An engine, and the end of all that it runs.

    :param folder: for its socket; containers work in it
    :param of_image: variables of all images; of them ``PATH`` is needed to find any program
    """
    with ContainerEngine(folder, images, of_image or {"PATH": os.defpath}) as engine:
        threading.Thread(target=engine.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield engine
        finally:
            for container in list(engine.containers.values()):
                engine.remove(container)
            engine.shutdown()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ContainerEngine

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = re.sub(r"^/v[\d.]+", "", unquote(url.path))
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked = request = f"{self.command} {path}"
        self.server.requests.append(request)
        for begins, happens in self.server.before.items():
            if request.startswith(begins):
                happens()
        for begins, why in self.server.refusals.items():
            if request.startswith(begins):
                self._json({"message": why}, 500)
                return
        for method, pattern, answer in _ROUTES:
            if method == self.command and (found := re.fullmatch(pattern, path)):
                if not pattern.startswith(_CONTAINER):
                    answer(self, *found.groups(), query, body)
                    return
                if container := self.server.find(found[1]):
                    answer(self, container, query, body)
                    return
        self._json({"message": f"No such thing: {request}"}, 404)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(
            b"" if content is None else json.dumps(content).encode(), status, {"Content-Type": "application/json"}
        )

    def _send(self, data: bytes, status: int, headers: Mapping[str, str]) -> None:
        if self.asked in self.server.lost_replies:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def version(self, *_: Any) -> None:
        self._json({"ApiVersion": "1.47", "Version": "stand-in"})

    def image(self, name: str, *_: Any) -> None:
        known = name in self.server.images
        self._json(
            {"Id": f"sha256:{'0' * 64}"} if known else {"message": f"No such image: {name}"}, 200 if known else 404
        )

    def network(self, name: str, *_: Any) -> None:
        known = name in self.server.networks
        self._json({"Name": name} if known else {"message": f"network {name} not found"}, 200 if known else 404)

    def create(self, query: Mapping[str, str], body: bytes) -> None:
        identity = f"{len(self.server.created):064x}"
        container = Container(identity, query.get("name", identity), json.loads(body), self.server.when_said)
        self.server.created.append(container)
        self.server.containers[container.id] = container
        self._json({"Id": container.id, "Warnings": []}, 201)

    def inspect(self, container: Container, *_: Any) -> None:
        running = container.process is not None and not container.ended.is_set()
        state = {"Running": running, "ExitCode": container.exit_code, "OOMKilled": container.out_of_memory}
        self._json({"Id": container.id, "Config": {**container.config, "Tty": False}, "State": state})

    def attach(self, container: Container, *_: Any) -> None:
        self.send_response(101)
        for name, value in {"Connection": "Upgrade", "Upgrade": "tcp"}.items():
            self.send_header(name, value)
        self.end_headers()
        container.attached = self.wfile
        container.ended.wait()
        self.close_connection = True

    def put(self, container: Container, query: Mapping[str, str], body: bytes) -> None:
        folder = Path(query["path"])
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            archive.extractall(folder, filter="data")
            container.files += [folder / name for name in archive.getnames()]
        self._json(None)

    def get(self, container: Container, query: Mapping[str, str], _: bytes) -> None:
        file, content = Path(query["path"]), io.BytesIO()
        if not file.exists():
            self._json({"message": f"Could not find the file {file}"}, 404)
            return
        container.files.append(file)
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.add(file, file.name)
        described = base64.b64encode(json.dumps({"name": file.name, "size": file.stat().st_size}).encode()).decode()
        self._send(content.getvalue(), 200, {"X-Docker-Container-Path-Stat": described})

    def start(self, container: Container, *_: Any) -> None:
        try:
            container.start(self.server.of_image, self.server.folder)
        except OSError as error:
            self._json({"message": f"OCI runtime create failed: {error}"}, 400)
            return
        self._json(None, 204)

    def wait(self, container: Container, *_: Any) -> None:
        container.ended.wait()
        self._json({"StatusCode": container.exit_code})

    def delete(self, container: Container, query: Mapping[str, str], _: bytes) -> None:
        assert query.get("force") == "True", query
        self.server.remove(container)
        self._json(None, 204)


_CONTAINER = "/containers/([0-9a-z-]+)"
_ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/version", _Request.version),
    ("GET", "/images/(.+)/json", _Request.image),
    ("GET", "/networks/(.+)", _Request.network),
    ("POST", "/containers/create", _Request.create),
    ("GET", f"{_CONTAINER}/json", _Request.inspect),
    ("POST", f"{_CONTAINER}/attach", _Request.attach),
    ("PUT", f"{_CONTAINER}/archive", _Request.put),
    ("GET", f"{_CONTAINER}/archive", _Request.get),
    ("POST", f"{_CONTAINER}/start", _Request.start),
    ("POST", f"{_CONTAINER}/wait", _Request.wait),
    ("DELETE", _CONTAINER, _Request.delete),
]
