"""Posts a message to the webhook that an Airflow connection describes."""

from __future__ import annotations

import base64
import json
import urllib.request
from typing import Any

from k2_offload.adapters.connections import get_connection
from k2_offload.core.errors import ConfigurationError

WEBHOOK_SECONDS = 10
"""How long the other side may take."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """An answer 3xx is an error: followed, it would be a GET without the text, with the headers, wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def check(connection_id: str) -> None:
    """Look whether there is an address to post to; nothing is sent.

    :raises ConfigurationError: if the connection is missing, or describes no address of HTTP
    """
    _address(get_connection(connection_id))


def post(connection_id: str, text: str) -> None:
    """Post ``{"text": …}``, which chat services take as it is.

    :raises ConfigurationError: if the connection is missing, or describes no address of HTTP
    :raises OSError: if it is not taken, or sent elsewhere; its text may hold the address, which may be a secret
    """
    connection = get_connection(connection_id)
    request = urllib.request.Request(  # noqa: S310 - of HTTP alone, see below
        _address(connection), json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    )
    if connection.login:
        basic = base64.b64encode(f"{connection.login}:{connection.password or ''}".encode()).decode()
        request.add_header("Authorization", f"Basic {basic}")
    for name, value in (connection.extra_dejson.get("headers") or {}).items():
        request.add_header(name, value)
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=WEBHOOK_SECONDS):
        pass


def _address(connection: Any) -> str:
    host = connection.host or ""
    base = host if "://" in host else f"{connection.schema or 'https'}://{host}"
    if not host or not base.startswith(("http://", "https://")):
        raise ConfigurationError(f"connection '{connection.conn_id}' has no host that HTTP could be spoken to")
    if connection.port:
        base = f"{base.rstrip('/')}:{connection.port}"
    path = "" if connection.login else connection.password or ""  # of a webhook whose path is its secret
    return f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base
