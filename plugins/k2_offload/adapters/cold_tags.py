"""Tags of a cold table: snapshots that no expiry forgets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from k2_offload.core.errors import StaleWindow

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table
    from pyiceberg.table.update.snapshot import ManageSnapshots


class ColdTags:
    """The tags of one cold table. Nothing that readers of its branches see is changed.

    :param target: ``namespace.table``
    :param told: translates what the library raises
    """

    def __init__(self, catalog: Catalog, target: str, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._catalog = catalog
        self._target = target
        self._told = told

    def names(self) -> list[str]:
        """Those that are there, in order; none if there is no table."""
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415

        with self._told():
            try:
                return sorted(_tags(self._catalog.load_table(self._target)))
            except NoSuchTableError:
                return []

    def hold(self, snapshots: Mapping[str, int]) -> None:
        """Let tags point at snapshots, by name, in one commit.

        :raises StaleWindow: if another writer committed meanwhile; nothing has changed then
        """
        with self._told():
            table = self._catalog.load_table(self._target)
            found = _tags(table)
            if all(found.get(tag) == snapshot_id for tag, snapshot_id in snapshots.items()):
                return
            with self._one_commit(table) as manage:
                for tag, snapshot_id in snapshots.items():
                    manage.create_tag(snapshot_id, tag)

    def release(self, tags: Collection[str]) -> None:
        """Remove tags, those that are there.

        :raises StaleWindow: if another writer committed meanwhile; nothing has changed then
        """
        from pyiceberg.exceptions import NoSuchTableError  # noqa: PLC0415

        with self._told():
            try:
                table = self._catalog.load_table(self._target)
            except NoSuchTableError:
                return
            there = _tags(table).keys() & set(tags)
            if not there:
                return
            with self._one_commit(table) as manage:
                for tag in sorted(there):
                    manage.remove_tag(tag)

    @contextmanager
    def _one_commit(self, table: Table) -> Iterator[ManageSnapshots]:
        from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415

        try:
            with table.manage_snapshots() as manage:
                yield manage
        except CommitFailedException:
            raise StaleWindow(
                f"{self._target}: another writer committed to the cold table meanwhile. No tag was changed and no row "
                "is lost; the next run looks at it anew."
            ) from None


def _tags(table: Table) -> dict[str, int]:
    return {name: ref.snapshot_id for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == "tag"}
