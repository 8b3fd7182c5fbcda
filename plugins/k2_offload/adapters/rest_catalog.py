"""pyiceberg's REST catalog, with a limit to waiting for it, and a look at what became of a commit that it refuses.

It goes by the authorities that the connection names, whatever the environment does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import CommitTableResponse
from pyiceberg.table.update import AddSnapshotUpdate
from requests import ConnectionError as RequestFailed
from requests import PreparedRequest, Response, Session
from urllib3.exceptions import ProtocolError

from k2_offload.core.limits import CATALOG_SECONDS, CONNECT_SECONDS

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.update import TableRequirement, TableUpdate


class LimitedRestCatalog(RestCatalog):
    """Every request fails after :data:`CONNECT_SECONDS` without a connection, :data:`CATALOG_SECONDS` in silence."""

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit, and take a conflict with this very commit for what it is: a success.

        A catalog that loses its database's reply sends the commit again, finds it done by somebody, and answers 409.
        pyiceberg would believe that, and delete the manifests of a snapshot that readers see.

        :raises CommitFailedException: if another writer came first; nothing has changed then
        """
        try:
            committed: CommitTableResponse = super().commit_table(table, requirements, updates)
        except CommitFailedException:
            added = {update.snapshot.snapshot_id for update in updates if isinstance(update, AddSnapshotUpdate)}
            current = self.load_table(table.name())
            if not added or not added <= {snapshot.snapshot_id for snapshot in current.metadata.snapshots}:
                raise
            committed = CommitTableResponse.model_validate(
                {"metadata": current.metadata, "metadata-location": current.metadata_location}
            )
        return committed

    def _config_headers(self, session: Session) -> None:
        # The first thing that is done with a new session, before a token is asked for.
        _limit(session)
        super()._config_headers(session)

    def _create_session(self) -> Session:
        session = super()._create_session()
        _limit(session)  # what signs requests has been mounted since
        return session


def _limit(session: Session) -> None:
    new = (each for each in session.adapters.values() if not isinstance(each.send, partial))
    for adapter in new:
        adapter.send = partial(_send, adapter.send, session)  # type: ignore[method-assign]


def _send(
    send: Callable[..., Response], session: Session, request: PreparedRequest, *_: Any, **options: Any
) -> Response:
    # A file of the connection's; requests would prefer one that REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE names.
    trust = {"verify": session.verify} if isinstance(session.verify, str) else {}
    options |= trust | {"timeout": (CONNECT_SECONDS, CATALOG_SECONDS)}
    try:
        return send(request, **options)
    except RequestFailed as error:
        # A proxy closes a connection on which nothing was asked for a minute, as while ClickHouse compares.
        # A question may be asked again over a new one; a commit may have been heard.
        if request.method != "GET" or not any(isinstance(each, ProtocolError) for each in error.args):
            raise
        return send(request, **options)
