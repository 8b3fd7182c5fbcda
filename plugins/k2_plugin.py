"""The page "Cold tier" in Airflow's navigation.

Each of Airflow's processes imports this file, and only the API server serves the page: the app is built at its first
request. Whatever is wrong with it then is an answer 503 and a line in the log, and no other page suffers.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.plugins_manager import AirflowPlugin

log = logging.getLogger(__name__)

_FAILED = b"K2's page could not be loaded. The log of Airflow's API server says why. Offloading is not affected.\n"


class LazyApp:
    """An ASGI app that is imported when it is first asked."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass a request on."""
        if self._app is None:
            try:
                from k2_offload.web.app import build_app  # noqa: PLC0415

                self._app = build_app()
            except Exception:
                log.exception("K2's page could not be loaded")
                headers = [(b"content-type", b"text/plain; charset=utf-8")]
                await send({"type": "http.response.start", "status": 503, "headers": headers})
                await send({"type": "http.response.body", "body": _FAILED})
                return
        await self._app(scope, receive, send)


class K2Plugin(AirflowPlugin):
    """Mounts the app, and puts the page into the navigation."""

    name = "k2_offload"
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/k2", "name": "K2 offload"}]  # noqa: RUF012 - lists, as Airflow has them
    # Without a slash before it: Airflow may be served below a path of its own.
    external_views = [{"name": "Cold tier", "href": "k2/", "url_route": "k2", "nav_top_level": True}]  # noqa: RUF012

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Let Airflow hide the secret among the settings where it shows its configuration, as the API server does."""
        try:
            from airflow.configuration import conf  # noqa: PLC0415

            conf.sensitive_config_values.add(("k2_offload", "metrics_token"))
        except Exception:
            log.exception("Airflow's page of its configuration may show [k2_offload] metrics_token")
