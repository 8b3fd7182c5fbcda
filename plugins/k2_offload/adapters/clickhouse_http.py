"""ClickHouse's HTTP port, which Spark's JDBC driver reads from: whether this connection is let in there."""

from __future__ import annotations

import base64
import http.client
import ssl
from urllib.parse import urlencode

from k2_offload.adapters.authorities import check_authorities
from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint, authority
from k2_offload.core.errors import ConfigurationError, Refused
from k2_offload.core.limits import CONNECT_SECONDS

_LONGEST_ANSWER_BYTES = 500


def check_http_ports(endpoint: ClickHouseEndpoint, catalog: CatalogSettings | None) -> str:
    """Ask each server of a connection something over HTTP, as its user.

    :param catalog: whose authorities, if it names any, the job's Java goes by where the connection has none of its own
    :returns: what was found
    :raises ConfigurationError: if one does not answer there, or answers as no ClickHouse would
    :raises Refused: if one does not let the user in, or its certificate is not accepted
    """
    named_by = endpoint if endpoint.ca_certs or catalog is None else catalog
    if endpoint.secure:
        check_authorities(named_by.connection_id, named_by.ca_certs)
    for host, _ in endpoint.servers:
        _ask(endpoint, host, named_by.ca_certs)
    return ", ".join(f"answers at {authority(host, endpoint.http_port)}" for host, _ in endpoint.servers)


def _ask(endpoint: ClickHouseEndpoint, host: str, authorities: str) -> None:
    address = authority(host, endpoint.http_port)
    port = f"{address}, the HTTP port of connection '{endpoint.connection_id}',"
    basic = base64.b64encode(f"{endpoint.user}:{endpoint.password}".encode()).decode()
    path = f"/?{urlencode({'database': endpoint.database})}"
    connection = _connection(endpoint, host, authorities)
    try:
        connection.request("POST", path, "SELECT 1", {"Authorization": f"Basic {basic}"})
        answer = connection.getresponse()
        status, words = answer.status, answer.read(_LONGEST_ANSWER_BYTES).decode(errors="replace").strip()
    except ssl.SSLCertVerificationError as error:
        raise Refused("ClickHouse", endpoint.connection_id, f"{error.verify_message}, at {address}") from None
    except (OSError, http.client.HTTPException) as error:
        raise ConfigurationError(
            f"{port} does not answer ({error or type(error).__name__}), and 'transport: jdbc' reads there. Nothing was "
            "moved and no row is lost. Correct 'http_port' or 'secure' in its extra, or start the server."
        ) from None
    finally:
        connection.close()
    if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
        raise Refused("ClickHouse", endpoint.connection_id, f"{words or status}, at {address}")
    if status != http.client.OK or words != "1":
        raise ConfigurationError(
            f"{port} answers {status}, and not as ClickHouse does: {words or 'nothing'}. Nothing was moved and no row "
            "is lost. Correct 'http_port' in its extra."
        )


def _connection(endpoint: ClickHouseEndpoint, host: str, authorities: str) -> http.client.HTTPConnection:
    if not endpoint.secure:
        return http.client.HTTPConnection(host, endpoint.http_port, timeout=CONNECT_SECONDS)
    context = ssl.create_default_context(cafile=authorities or None)
    return http.client.HTTPSConnection(host, endpoint.http_port, timeout=CONNECT_SECONDS, context=context)
