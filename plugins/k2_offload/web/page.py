"""The page "Cold tier": all tables at a glance, and a page for each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from functools import cache, partial
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, status
from fastapi.responses import HTMLResponse
from jinja2 import Environment
from markupsafe import Markup

from k2_offload.core import text
from k2_offload.core.dag_ids import MAINTENANCE_DAG_ID, RECONCILE_DAG_ID, dag_id
from k2_offload.core.limits import PAGE_SECONDS
from k2_offload.core.tables import LAYERS
from k2_offload.files import TEMPLATES
from k2_offload.web import view
from k2_offload.web.access import ReadableLayers, readable_layers
from k2_offload.web.shared import Shared
from k2_offload.work.overview import Overview, TableDetail, read_detail, read_overview
from k2_offload.work.templates import open_templates
from k2_offload.work.tiers import open_tiers


class Looks:
    """What the page has read, shared by all requests of this process.

    :param overview: reads all tables
    :param detail: reads one, by name
    """

    def __init__(self, overview: Callable[[], Overview], detail: Callable[[str], TableDetail]) -> None:
        self.overview = Shared(overview)
        self._detail = detail
        self._details: dict[str, Shared[TableDetail]] = {}

    def detail(self, table: str) -> Shared[TableDetail]:
        """Of one table that exists."""
        return self._details.setdefault(table, Shared(partial(self._detail, table)))


def _read_overview() -> Overview:
    with open_tiers(query_seconds=PAGE_SECONDS) as tiers:
        layers = {layer: dag_id(layer) for layer in LAYERS if tiers.tables.in_layer(layer)}
        return read_overview(tiers, layers, [RECONCILE_DAG_ID, MAINTENANCE_DAG_ID])


def _read_detail(table: str) -> TableDetail:
    with open_tiers(query_seconds=PAGE_SECONDS) as tiers:
        return read_detail(tiers, tiers.tables[table])


@cache
def shared_looks() -> Looks:
    """Those of this process."""
    return Looks(_read_overview, _read_detail)


SharedLooks = Annotated[Looks, Depends(shared_looks)]

router = APIRouter(dependencies=[Depends(readable_layers)], default_response_class=HTMLResponse)


@router.get("/")
def show_overview(layers: ReadableLayers, looks: SharedLooks) -> HTMLResponse:
    """All tables."""
    look = looks.overview.look()
    shown = view.layer_views(look.value, layers) if look.value is not None else []
    return _render("overview.html", root="../", look=look, layers=shown, states=view.count_states(shown))


@router.get("/tables/{name}")
def show_table(name: str, layers: ReadableLayers, looks: SharedLooks) -> HTMLResponse:
    """One table."""
    look = looks.overview.look()
    if look.value is None:
        return _render("overview.html", root="../../", look=look, layers=[], states=[])
    if (shown := view.table_views(look.value, layers).get(name)) is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such table, or you may not read its layer's DAG.")
    return _render("table.html", root="../../", look=look, shown=shown, detail=looks.detail(name).look())


def _render(template: str, **values: object) -> HTMLResponse:
    headers = {
        "Content-Security-Policy": _policy(),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    return HTMLResponse(_templates().get_template(template).render(**values), headers=headers)


@cache
def _templates() -> Environment:
    return open_templates(
        script=Markup(_asset("page.js")),  # noqa: S704 - a file of this package
        view=view,
        show_window=text.show_window,
        reconcile=RECONCILE_DAG_ID,
        fresh_seconds=PAGE_SECONDS,
    )


@cache
def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text()


@cache
def _policy() -> str:
    """Nothing from elsewhere, and nothing inline but this package's own style and script."""

    def own(name: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {own('page.css')}; script-src {own('page.js')}; connect-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
