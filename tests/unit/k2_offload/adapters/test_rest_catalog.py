"""A REST catalog that accepts connections and stays silent is given up; one that denies a commit is asked again."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableRequest
from pyiceberg.types import NestedField, TimestamptzType
from requests import ConnectionError as RequestFailed
from requests.adapters import HTTPAdapter

from k2_offload.adapters import rest_catalog
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.connections import ConnectionFields, read_catalog
from k2_offload.core.errors import OffloadError, Refused, StaleWindow, Unreachable
from k2_offload.core.exactly_once import WindowId, watermark_of
from k2_offload.core.schema_change import ChangeKind, ColumnChange, changed
from k2_offload.core.windows import Window
from tests.tls import Authority, TlsProxy


@pytest.fixture
def silent():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("login", [None, "offload"], ids=["without a token", "with a token"])
def test_a_silent_rest_catalog_is_given_up(silent, monkeypatch, caplog, login):
    monkeypatch.setattr(rest_catalog, "CATALOG_SECONDS", 0.3)
    fields = ConnectionFields("k2_iceberg", f"http://127.0.0.1:{silent}", None, login, login, None, {})
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"'k2_iceberg'.*timed out"):
        ColdCatalog(read_catalog(fields)).ping()
    assert time.monotonic() - started < 10
    logging.getLogger("urllib3.connectionpool").warning("Retrying (Retry(total=2))")
    assert "Retrying" not in caplog.text, "the error says it once, and better"


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:1/?token=geheim", "http://me:geheim@127.0.0.1:1", "lake?key=geheim"]
)
def test_a_token_in_a_catalogs_address_is_in_no_error(host):
    settings = read_catalog(ConnectionFields("k2_iceberg", host, None, None, None, None, {}))
    with pytest.raises(OffloadError, match="k2_iceberg") as away:
        ColdCatalog(settings).ping()
    with pytest.raises(OffloadError, match="belongs into its host") as refused:
        read_catalog(ConnectionFields("k2_iceberg", host, 8181, None, None, None, {}))
    assert "geheim" not in f"{away.value} {refused.value}"


def test_a_silent_catalog_whose_requests_are_signed_is_given_up(silent, monkeypatch):
    monkeypatch.setattr(rest_catalog, "CATALOG_SECONDS", 0.3)
    retries = []

    def sign(self, session):  # as the library does, which needs boto3 for the signature alone
        retries.append(int(self.properties.get("rest.sigv4.max-retries", 10)))
        session.mount(self.uri, HTTPAdapter(max_retries=retries[0]))

    monkeypatch.setattr(RestCatalog, "_init_sigv4", sign)
    signed = {"rest.sigv4-enabled": "true"}
    fields = ConnectionFields("k2_iceberg", f"http://127.0.0.1:{silent}", None, None, None, None, signed)
    done = threading.Event()

    def ping():
        with pytest.raises(Unreachable, match=r"'k2_iceberg'.*timed out"):
            ColdCatalog(read_catalog(fields)).ping()
        done.set()

    threading.Thread(target=ping, daemon=True).start()
    assert done.wait(10)
    assert retries == [0], "who asks tries again, and no longer than the task may take"


class EmptyCatalog(BaseHTTPRequestHandler):
    """A REST catalog with nothing in it."""

    def do_GET(self):
        content = json.dumps({"defaults": {}, "overrides": {}, "namespaces": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class ImpatientCatalog(EmptyCatalog):
    """One that keeps connections, and closes each when something else is asked on it."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def handle_one_request(self):
        if getattr(self, "is_used", False):
            self.rfile.peek(1)
            self.close_connection = True
            return
        self.is_used = True
        super().handle_one_request()

    def do_GET(self):
        self.asked.append(self.path)
        super().do_GET()

    def do_POST(self):
        self.asked.append(self.path)
        self.close_connection = True


def test_a_question_on_a_connection_that_was_closed_meanwhile_is_asked_again_and_a_commit_is_not(monkeypatch):
    monkeypatch.setattr(ImpatientCatalog, "asked", [], raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), ImpatientCatalog) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        catalog = rest_catalog.LimitedRestCatalog("lake", uri=host)
        catalog.list_namespaces()
        catalog.list_namespaces()
        asked = len(ImpatientCatalog.asked)
        with pytest.raises(RequestFailed):
            catalog.create_namespace("cold")
        assert len(ImpatientCatalog.asked) == asked
        server.shutdown()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_connections_authorities_count_whatever_the_environment_names(tmp_path, monkeypatch, variable):
    ours, theirs = (Authority.make(tmp_path, name) for name in ("ours", "theirs"))
    monkeypatch.setenv(variable, str(theirs.file))
    with ThreadingHTTPServer(("127.0.0.1", 0), EmptyCatalog) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with TlsProxy(server.server_port, ours.sign()) as proxy:
            extra = {"ca_certs": str(ours.file)}
            fields = ConnectionFields("k2_iceberg", f"https://127.0.0.1:{proxy.port}", None, None, None, None, extra)
            ColdCatalog(read_catalog(fields)).ping()
            proxy.context = theirs.sign()
            with pytest.raises(Refused, match="its certificate is of an unknown authority"):
                ColdCatalog(read_catalog(fields)).ping()
        server.shutdown()


TABLE = parse_tables("tables: {trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at}}")[
    "trades"
]
EPOCH, NOON = datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 3, 4, 12, tzinfo=UTC)


class DenyingServer(ThreadingHTTPServer):
    """A REST catalog that answers 409 to each commit of the table ``cold.trades``.

    :param first: commits before that, if it is anybody
    """

    def __init__(self, lake, first):
        super().__init__(("127.0.0.1", 0), DenyingHandler)
        self.lake, self.first = lake, first

    def answer(self, method, path, body):
        if path == "/v1/config":
            return 200, {"defaults": {}, "overrides": {}}
        table = self.lake.load_table("cold.trades")
        if method == "POST":
            request = CommitTableRequest.model_validate_json(body)
            self.first(table, request)
            return 409, {"error": {"message": "a requirement failed", "type": "CommitFailedException", "code": 409}}
        metadata = json.loads(table.metadata.model_dump_json())
        return 200, {"metadata-location": table.metadata_location, "metadata": metadata, "config": {}}


class DenyingHandler(BaseHTTPRequestHandler):
    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, document = self.server.answer(self.command, self.path, body)
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = answer  # noqa: N815 - the names that the library calls

    def log_message(self, *_):
        pass


def this_writer(table, request):
    """Whose reply was lost on the way."""
    table.catalog.commit_table(table, request.requirements, request.updates)


def another_writer(table, _):
    table.transaction().set_properties({"a": "b"}).commit_transaction()


@pytest.fixture
def denying(tmp_path):
    """Starts such a catalog, and connects to it."""
    lake = load_catalog("test", type="sql", uri=f"sqlite:///{tmp_path}/catalog", warehouse=tmp_path.as_uri())
    lake.create_namespace("cold")
    lake.create_table("cold.trades", Schema(NestedField(1, "at", TimestamptzType(), required=True)))
    with closing(lake):

        def start(first):
            server = DenyingServer(lake, first)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.append(server)
            host = f"http://127.0.0.1:{server.server_port}"
            return lake, ColdCatalog(read_catalog(ConnectionFields("k2_iceberg", host, None, None, None, None, {})))

        servers = []
        yield start
        for server in servers:
            server.shutdown()
            server.server_close()


def files(lake):
    """Of snapshots, whether anybody can read them or not."""
    table = lake.load_table("cold.trades")
    folder = Path(urlparse(table.location()).path) / "metadata"
    return {f"{folder.as_uri()}/{file.name}" for file in folder.glob("*.avro")}


def test_a_commit_that_succeeded_and_is_denied_keeps_its_files(denying):
    lake, catalog = denying(this_writer)
    cold, window = catalog.load(TABLE), Window(EPOCH, NOON)
    cold.publish_without_rows(WindowId(cold.uuid, window), "at", ledger_id=None)
    assert watermark_of(catalog.load(TABLE).published) == NOON
    assert {shot.manifest_list for shot in lake.load_table("cold.trades").snapshots()} == files(lake)


def test_a_change_of_columns_that_succeeded_and_is_denied_is_believed_by_what_is_there(denying):
    lake, catalog = denying(this_writer)
    cold = catalog.load(TABLE)
    changes = [ColumnChange(ChangeKind.ADD, "note", "string")]
    columns = changed(cold.columns, changes, NOON)
    cold.change_columns(changes, columns)
    assert cold.columns == columns
    assert [field.name for field in lake.load_table("cold.trades").schema().fields] == ["at", "note"]


def test_a_change_of_columns_that_another_writer_has_come_before_is_refused(denying):
    _, catalog = denying(another_writer)
    cold = catalog.load(TABLE)
    changes = [ColumnChange(ChangeKind.ADD, "note", "string")]
    with pytest.raises(StaleWindow, match="another writer changed"):
        cold.change_columns(changes, changed(cold.columns, changes, NOON))


def test_a_commit_that_another_writer_has_come_before_leaves_nothing(denying):
    lake, catalog = denying(another_writer)
    cold = catalog.load(TABLE)
    with pytest.raises(StaleWindow):
        cold.publish_without_rows(WindowId(cold.uuid, Window(EPOCH, NOON)), "at", ledger_id=None)
    assert (lake.load_table("cold.trades").snapshots(), files(lake)) == ([], set())
