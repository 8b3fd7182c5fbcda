"""pyiceberg's REST catalog, with a limit to waiting for it: by itself, it would wait for ever."""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.rest import RestCatalog
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter

from k2_offload.core.limits import CATALOG_SECONDS, CONNECT_SECONDS


class LimitedRestCatalog(RestCatalog):
    """Every request fails after :data:`CONNECT_SECONDS` without a connection, :data:`CATALOG_SECONDS` in silence."""

    def _config_headers(self, session: Session) -> None:
        # The first thing that is done with a new session, before a token is asked for.
        for scheme in ("http://", "https://"):
            session.mount(scheme, _LimitedAdapter())
        super()._config_headers(session)


class _LimitedAdapter(HTTPAdapter):
    def send(self, request: PreparedRequest, *_: Any, **options: Any) -> Response:
        return super().send(request, **options | {"timeout": (CONNECT_SECONDS, CATALOG_SECONDS)})
