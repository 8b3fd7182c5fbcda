"""The app that Airflow's API server mounts at ``/k2``."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from k2_offload.web import metrics_route, page

ROUTERS: tuple[APIRouter, ...] = (page.router, metrics_route.router)
"""All that the app answers. Airflow asks nobody who they are before a plugin's app: each router does that itself."""


def build_app() -> FastAPI:
    """The app, without the routes that FastAPI would add for everybody to read."""
    app = FastAPI(title="K2 offload", docs_url=None, redoc_url=None, openapi_url=None)
    for router in ROUTERS:
        app.include_router(router)
    return app
