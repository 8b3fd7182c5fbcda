"""An S3 server and an Iceberg REST catalog as processes of their own, which can be killed and started again."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from embedded.install.layout import Layout
from embedded.stack.processes import wait_until
from embedded.stack.settings import HOST

BUCKET, REGION = "k2-lake", "us-east-1"
KEY_ID, SECRET = "k2-lake", "a-secret-of-the-account"
_ROOT_KEY_ID, _ROOT_SECRET = "k2-root", "a-secret-of-root"
_START_SECONDS = 60


class Server:
    """One process.

    :param health: a URL that answers as soon as the server does
    :param log: where its output goes
    """

    def __init__(self, command: Sequence[str | Path], health: str, log: Path, variables: Mapping[str, str]) -> None:
        self._command = [str(part) for part in command]
        self._health = health
        self._log = log
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._variables},
            )
        process = self._process
        wait_until(lambda: process.poll() is not None or self._answers(), _START_SECONDS)
        assert self._answers(), f"{self._command[0]} did not start:\n{self._log.read_text()[-3000:]}"

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """It crashes, and somebody starts it again."""
        self.kill()
        self.start()

    def _answers(self) -> bool:
        try:
            return requests.get(self._health, timeout=5).ok
        except requests.RequestException:
            return False


class ObjectStore(Server):
    """versitygw with the accounts and the bucket that docker/object_store/setup.sh makes."""

    def __init__(self, layout: Layout, folder: Path, port: int, marks: Mapping[str, str]) -> None:
        self.endpoint = f"http://{HOST}:{port}"
        self.data = folder / "objects"
        accounts = folder / "accounts"
        for each in (self.data, accounts):
            each.mkdir(parents=True)
        self._layout = layout
        root = {"ROOT_ACCESS_KEY_ID": _ROOT_KEY_ID, "ROOT_SECRET_ACCESS_KEY": _ROOT_SECRET}
        self._accounts, self._root = accounts, root
        self.log, self.variables = folder / "object-store.log", {**marks, **root}
        super().__init__(self.command(layout, port), f"{self.endpoint}/health", self.log, self.variables)

    def command(self, layout: Layout, port: int, *options: str | Path) -> list[str | Path]:
        """What serves its objects at a port."""
        return [
            *(layout.object_store, "--port", f"{HOST}:{port}", "--health", "/health", *options),
            *("--iam-dir", self._accounts, "posix", self.data),
        ]

    def set_up(self) -> None:
        """Make the account and the bucket, as the containers do."""
        self.make_bucket(BUCKET)

    def make_bucket(self, name: str) -> None:
        """Make another bucket of the account."""
        variables = {
            **os.environ,
            **self._root,
            "PATH": f"{self._layout.object_store.parent}:{os.environ['PATH']}",
            "K2_S3_ENDPOINT": self.endpoint,
            "K2_S3_REGION": REGION,
            "K2_S3_BUCKET": name,
            "K2_S3_ACCESS_KEY_ID": KEY_ID,
            "K2_S3_SECRET_ACCESS_KEY": SECRET,
        }
        script = self._layout.root / "docker" / "object_store" / "setup.sh"
        subprocess.run(["sh", script], env=variables, check=True, capture_output=True)


class TlsObjectStore(Server):
    """Another versitygw for the objects of one, that ends TLS itself.

    :param certificate: file (PEM) with it and its key; may be replaced, for the next start
    """

    def __init__(self, layout: Layout, store: ObjectStore, port: int, certificate: Path) -> None:
        self.endpoint = f"https://{HOST}:{port}"
        self.certificate = certificate
        self._port = port
        self._command_of = lambda: store.command(layout, port, "--cert", self.certificate, "--key", self.certificate)
        super().__init__([], f"{self.endpoint}/health", store.log.with_name("tls-object-store.log"), store.variables)

    def start(self) -> None:
        self._command = [str(part) for part in self._command_of()]
        super().start()

    def _answers(self) -> bool:
        try:  # whatever its certificate is
            socket.create_connection((HOST, self._port), timeout=5).close()
        except OSError:
            return False
        return True


class RestCatalog(Server):
    """Iceberg's REST server on Postgres, with the variables of docker-compose.yaml."""

    def __init__(
        self, layout: Layout, folder: Path, port: int, marks: Mapping[str, str], database: Mapping[str, str], s3: str
    ) -> None:
        self.uri = f"http://{HOST}:{port}"
        java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if "JAVA_HOME" in os.environ else "java"
        super().__init__(
            [java, "-Xmx256m", "-cp", f"{layout.rest_catalog}/*", "org.apache.iceberg.rest.RESTCatalogServer"],
            f"{self.uri}/v1/config",
            folder / "rest-catalog.log",
            {
                **marks,
                "CATALOG_REST_PORT": str(port),
                "AWS_ACCESS_KEY_ID": KEY_ID,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_REGION": REGION,
                "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
                "CATALOG_URI": database["uri"],
                "CATALOG_JDBC_USER": database["user"],
                "CATALOG_JDBC_PASSWORD": database["password"],
                "CATALOG_JDBC_SCHEMA__VERSION": "V1",
                "CATALOG_WAREHOUSE": f"s3://{BUCKET}/warehouse",
                "CATALOG_IO__IMPL": "org.apache.iceberg.aws.s3.S3FileIO",
                "CATALOG_S3_ENDPOINT": s3,
                "CATALOG_S3_PATH__STYLE__ACCESS": "true",
            },
        )
