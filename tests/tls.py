"""Certificates of an authority of the tests' own, and a proxy that ends TLS before a server which has none."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import socketserver
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.proxy import HOST

_DAY = timedelta(days=1)
_POSTGRES_ASKS = {80877103: b"S", 80877104: b"N"}
"""Codes of its protocol by which a client asks for TLS, or for GSS; and what the proxy answers."""


@dataclass(frozen=True)
class Authority:
    """One that signs certificates.

    :param file: its own certificate, for those who shall trust it
    """

    file: Path
    _key: ec.EllipticCurvePrivateKey
    _certificate: x509.Certificate

    @staticmethod
    def make(folder: Path, name: str) -> Authority:
        """A new one, with its file in a folder."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        certificate = (
            _builder(subject, subject, key, timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        file = folder / f"{name}.pem"
        file.write_bytes(certificate.public_bytes(Encoding.PEM))
        return Authority(file, key, certificate)

    def sign(self, *, host: str = HOST, left: timedelta = _DAY) -> ssl.SSLContext:
        """What a server of this process needs that presents a certificate, see :meth:`sign_file`."""
        return server_context(self.sign_file(host=host, left=left))

    def sign_file(self, *, host: str = HOST, left: timedelta = _DAY) -> Path:
        """A file with a certificate for a host, and its key.

        :param left: how long it is still valid; less than nothing if it has expired
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        certificate = (
            _builder(subject, self._certificate.subject, key, left)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        file = self.file.with_name(f"server-{certificate.serial_number}.pem")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        return file


def server_context(certificate: Path) -> ssl.SSLContext:
    """What a server of this process needs that presents the certificate of a file, see :meth:`Authority.sign_file`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, left: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 30 * _DAY)
        .not_valid_after(now + left)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


class TlsProxy(socketserver.ThreadingTCPServer):
    """Speaks TLS on a port of its own, and forwards to a port of this machine without it; use it in a ``with``.

    :param context: may be replaced; new connections get the new one
    :param postgres: its protocol asks for TLS before it begins
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream_port: int, context: ssl.SSLContext, *, postgres: bool = False) -> None:
        super().__init__((HOST, 0), _Handler)
        self.upstream_port, self.context, self.postgres = upstream_port, context, postgres
        self.encrypted = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def __enter__(self) -> TlsProxy:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy = self.server
        assert isinstance(proxy, TlsProxy)
        with contextlib.suppress(OSError):
            while proxy.postgres:
                asked = self.request.recv(8)
                answer = _POSTGRES_ASKS.get(int.from_bytes(asked[4:]))
                if answer is None:
                    return  # without TLS nobody comes in
                self.request.sendall(answer)
                if answer == b"S":
                    break
            with (
                proxy.context.wrap_socket(self.request, server_side=True) as client,
                socket.create_connection((HOST, proxy.upstream_port)) as server,
            ):
                proxy.encrypted += 1
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
