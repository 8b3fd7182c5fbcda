"""Whether ClickHouse's HTTP port lets a connection in, asked of servers on sockets that answer in every wrong way."""

from __future__ import annotations

import base64
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from k2_offload.adapters.clickhouse_http import check_http_ports
from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint
from k2_offload.core.errors import ConfigurationError, Refused
from tests.tls import Authority, TlsProxy


@contextmanager
def server(status: int, body: str):
    """Gives its port, and what it was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            query = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append((self.path, query, base64.b64decode(self.headers["Authorization"].split()[1]).decode()))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as served:
        thread = threading.Thread(target=served.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield served.server_address[1], asked
        finally:
            served.shutdown()
            thread.join()


def endpoint(port: int, **changes) -> ClickHouseEndpoint:
    fields = {"host": "127.0.0.1", "native_port": 1, "user": "me", "password": "geheim é", "database": "k 2"}
    return ClickHouseEndpoint(connection_id="ch", http_port=port, **{"secure": False} | fields | changes)


def test_each_server_is_asked_as_its_user_and_no_password_is_in_the_address():
    with server(200, "1\n") as (port, asked):
        found = check_http_ports(endpoint(port, alternatives=(("localhost", 9),)), None)
    assert found == f"answers at 127.0.0.1:{port}, answers at localhost:{port}"
    assert asked == [("/?database=k+2", "SELECT 1", "me:geheim é")] * 2


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (403, "Code: 516. DB::Exception: me: Authentication failed", Refused, "Authentication failed, at 127.0.0.1:"),
        (404, "Code: 81. Database k 2 does not exist", ConfigurationError, "answers 404.*: Code: 81.*'http_port'"),
        (200, "<html>welcome</html>", ConfigurationError, "answers 200, and not as ClickHouse does: <html>"),
        (302, "", ConfigurationError, "answers 302, and not as ClickHouse does: nothing"),
    ],
)
def test_an_answer_that_is_none_is_told_with_the_connection(status, body, error, words):
    with server(status, body) as (port, _), pytest.raises(error, match=words) as told:
        check_http_ports(endpoint(port), None)
    assert "'ch'" in str(told.value)
    assert "geheim" not in str(told.value)


def test_a_port_where_nobody_listens_and_one_with_tls_are_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"127\.0\.0\.1:1, .*'ch', does not answer .*no row is lost"):
        check_http_ports(endpoint(1), None)
    authority = Authority.make(tmp_path, "ours")
    with server(200, "1") as (port, _), TlsProxy(port, authority.sign()) as proxy:
        with pytest.raises(ConfigurationError, match="does not answer"):
            check_http_ports(endpoint(proxy.port), None)
        with pytest.raises(Refused, match="unknown authority"):
            check_http_ports(endpoint(proxy.port, secure=True), None)
        trusted = endpoint(proxy.port, secure=True, ca_certs=str(authority.file))
        assert check_http_ports(trusted, None) == f"answers at 127.0.0.1:{proxy.port}"


def test_a_certificate_counts_by_the_catalog_s_authorities_where_the_job_goes_by_them(tmp_path):
    ours, theirs = (Authority.make(tmp_path, name) for name in ("ours", "theirs"))
    catalogs = {
        name: CatalogSettings("k2_iceberg", "demo", {}, {}, str(authority.file))
        for name, authority in (("ours", ours), ("theirs", theirs))
    }
    with server(200, "1") as (port, _), TlsProxy(port, ours.sign()) as proxy:
        named, unnamed = (endpoint(proxy.port, secure=True, ca_certs=each) for each in (str(ours.file), ""))
        found = f"answers at 127.0.0.1:{proxy.port}"
        assert check_http_ports(unnamed, catalogs["ours"]) == found
        assert check_http_ports(named, catalogs["theirs"]) == found, "the driver has authorities of its own then"
        with pytest.raises(Refused, match=r"'ch'.*unknown authority"):
            check_http_ports(unnamed, catalogs["theirs"])
    missing = CatalogSettings("k2_iceberg", "demo", {}, {}, str(tmp_path / "no.pem"))
    with pytest.raises(ConfigurationError, match=r"'k2_iceberg': extra 'ca_certs' names .*no\.pem"):
        check_http_ports(unnamed, missing)
