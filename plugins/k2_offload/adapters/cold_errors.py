"""What an error of pyiceberg means: its catalog or storage is away, lets nobody in, or one table alone is at fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from k2_offload.adapters.postgres import is_refusal
from k2_offload.core.errors import OffloadError, Refused, Unreachable, UnreadableTable, is_store_refusal
from k2_offload.core.text import first_line, first_words

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_SERVICE = "The Iceberg catalog or its storage"

_OF_ONE_FILE = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_OF_ONE_FILE_TEXT = re.compile(r"ACCESS_DENIED|Access Denied|NO_SUCH_KEY|NoSuchKey|RESOURCE_NOT_FOUND|does not exist")
"""What object stores say of an object in the text of an error that has no class of its own."""

_REFUSED_TEXT = re.compile(r"ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE|HTTP status 4(?!08|29)\d\d")
"""What pyarrow makes of an object store's refusal, in the text of an ``OSError``; 408 and 429 may pass."""

_AWAY_TEXT = re.compile(
    r"connection (?:refused|reset|aborted)|(?:unable|failed|couldn't) (?:to )?(?:connect|execute HTTP)|timed? ?out|"
    r"UncheckedSQLException|curlCode|NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|name resolution|no route to host",
    re.IGNORECASE,
)


@contextmanager
def told(connection_id: str, table: str | None, ping: Callable[[], object]) -> Iterator[None]:
    """Raise what pyiceberg and the storage raise as what it means; the package's own errors pass.

    :param connection_id: the Airflow connection of the catalog
    :param table: the one that is asked for; ``None`` if it is the catalog itself
    :param ping: asks the catalog something small, to tell whether it is only this table
    """
    try:
        yield
    except OffloadError:
        raise
    except Exception as error:
        raise _meaning(error, connection_id, table, ping) from error


def load_if_there(catalog: Catalog, target: str) -> Table | None:
    """A table of a catalog; ``None`` if the catalog has none of that name.

    :param target: ``namespace.table``
    :raises NoSuchIcebergTableError: if what has that name is no Iceberg table; pyiceberg counts that as missing, too
    """
    from pyiceberg.exceptions import (  # noqa: PLC0415 - DAG files import this module and must parse fast
        NoSuchIcebergTableError,
        NoSuchNamespaceError,
        NoSuchTableError,
    )

    try:
        return catalog.load_table(target)
    except NoSuchIcebergTableError:
        raise
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def _meaning(error: Exception, connection_id: str, table: str | None, ping: Callable[[], object]) -> OffloadError:
    from pyiceberg.exceptions import (  # noqa: PLC0415 - DAG files import this module and must parse fast
        AuthorizationExpiredError,
        ForbiddenError,
        OAuthError,
        UnauthorizedError,
    )

    said = first_words(error)
    of_driver = getattr(error, "orig", None) or error  # SQLAlchemy wraps it
    sqlstate: str | None = getattr(of_driver, "sqlstate", None) or getattr(of_driver, "pgcode", None)
    of_catalog = (UnauthorizedError, OAuthError, AuthorizationExpiredError)
    if isinstance(error, of_catalog) or is_refusal(sqlstate, str(of_driver)):
        return Refused(_SERVICE, connection_id, said)
    if _is_away(error, ping if table is not None else None):
        return Unreachable(_SERVICE, connection_id, said or type(error).__name__)
    if table is not None:
        return UnreadableTable(table, connection_id, first_line(error))
    kind = Refused if isinstance(error, (PermissionError, ForbiddenError)) or _says_refusal(error) else Unreachable
    return kind(_SERVICE, connection_id, said or type(error).__name__)


def _is_away(error: Exception, ping: Callable[[], object] | None) -> bool:
    import requests.exceptions  # noqa: PLC0415
    from pyiceberg.exceptions import (  # noqa: PLC0415
        CommitStateUnknownException,
        ServerError,
        ServiceUnavailableError,
        TooManyRequestsError,
    )
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    if isinstance(error, (SQLAlchemyError, ServiceUnavailableError, TooManyRequestsError, CommitStateUnknownException)):
        return True
    if isinstance(error, ServerError):
        # A catalog also answers 500 when the metadata file of one table is missing.
        if _AWAY_TEXT.search(str(error)):
            return True
        return not _answers(ping) if ping is not None else not _says_refusal(error)
    if isinstance(error, (ConnectionError, TimeoutError, requests.exceptions.RequestException)):
        return True
    if isinstance(error, OSError):
        of_one_file = isinstance(error, _OF_ONE_FILE) or _OF_ONE_FILE_TEXT.search(str(error))
        return not of_one_file and not _says_refusal(error)
    return False


def _says_refusal(error: Exception) -> bool:
    return bool(_REFUSED_TEXT.search(str(error))) or is_store_refusal(str(error))


def _answers(ping: Callable[[], object]) -> bool:
    try:
        ping()
    except Exception:  # noqa: BLE001 - whatever it is, the first error is told
        return False
    return True
