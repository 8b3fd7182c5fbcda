"""A file of authorities is read before a driver does, and what is wrong with a certificate is seen from here."""

from __future__ import annotations

import re
import socket
from datetime import timedelta

import pytest

from k2_offload.adapters.authorities import certificate_seen, check_authorities
from k2_offload.core.errors import ConfigurationError
from tests.tls import Authority, TlsProxy, server_context


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture
def silent():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_file_that_is_there_is_taken_and_another_is_named(ours, tmp_path):
    check_authorities("c", "")
    check_authorities("c", str(ours.file))
    for content in (None, "no certificate"):
        if content:
            (tmp_path / "a.pem").write_text(content)
        with pytest.raises(ConfigurationError, match=r"connection 'c': .* 'ca_certs' names .*a\.pem.*no row is lost"):
            check_authorities("c", str(tmp_path / "a.pem"))


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, r"seen from here, the certificate of 127\.0\.0\.1:\d+ is accepted"),
        ({"left": -timedelta(days=1)}, r"seen from here, its certificate has expired \(certificate has expired\)"),
        ({"host": "elsewhere.example"}, r"seen from here, its certificate is for another host \(IP address mismatch"),
    ],
)
def test_a_certificate_is_seen_as_it_is(ours, silent, changes, seen):
    with TlsProxy(silent, server_context(ours.sign_file(**changes))) as server:
        looks = certificate_seen(f"https://127.0.0.1:{server.port}", str(ours.file))
    assert re.match(seen, looks), looks


def test_an_unknown_authority_is_seen(ours, silent, tmp_path):
    theirs = Authority.make(tmp_path, "theirs")
    with TlsProxy(silent, theirs.sign()) as server:
        url = f"https://127.0.0.1:{server.port}"
        for file in (str(ours.file), ""):
            assert "its certificate is of an unknown authority" in certificate_seen(url, file)


def test_nothing_is_said_of_a_server_without_tls_or_without_an_answer(ours):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for url in ("", f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port}"):
        assert certificate_seen(url, str(ours.file)) == ""
