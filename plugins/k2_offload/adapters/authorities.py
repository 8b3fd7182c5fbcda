"""Files of authorities that may sign certificates, and what a server's certificate looks like from here.

Needs nothing but the standard library: the Spark application reads such a file, too.
"""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlparse

from k2_offload.core.errors import ConfigurationError, certificate_problem
from k2_offload.core.limits import CONNECT_SECONDS


def check_authorities(connection_id: str, file: str) -> None:
    """Read a file of authorities as drivers will: most take one that they cannot read for a server that is down.

    :param connection_id: the Airflow connection whose ``ca_certs`` names it
    :param file: (PEM); empty if there is none
    :raises ConfigurationError: if it is no file with certificates
    """
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"connection '{connection_id}': extra 'ca_certs' names {file}, which is no file with certificates that can "
            f"be read here ({error}). Nothing was sent and no row is lost."
        ) from None


def certificate_seen(url: str, authorities: str) -> str:
    """What this process makes of a server's certificate, for a client elsewhere that does not say what is wrong.

    :param authorities: file of those that may sign it; empty for this machine's own
    :returns: part of a sentence; empty without TLS, and if the server does not answer
    """
    parts = urlparse(url)
    if parts.scheme != "https" or not parts.hostname:
        return ""
    context = ssl.create_default_context(cafile=authorities or None)
    try:
        with (
            socket.create_connection((parts.hostname, parts.port or 443), CONNECT_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=parts.hostname),
        ):
            return f"seen from here, the certificate of {parts.netloc} is accepted"
    except ssl.SSLCertVerificationError as error:
        words = error.verify_message
        return f"seen from here, {certificate_problem(words) or 'its certificate is not accepted'} ({words})"
    except OSError:
        return ""
