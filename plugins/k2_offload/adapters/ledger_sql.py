"""The ledger's SQL, from the files that hold it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from k2_offload.files import LEDGER_SQL


@cache
def statements() -> Mapping[str, str]:
    """The ledger's statements, by the names that queries.sql gives them."""
    parts = re.split(r"^-- name: (\w+)\n", (LEDGER_SQL / "queries.sql").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def migrations() -> Mapping[int, str]:
    """The scripts that make the schema what it is, by version; to be run in their order.

    They only add: a version of this package goes on working on a schema that a later one has migrated, so that going
    back is nothing but installing it again.
    """
    files = {int(file.name.partition("_")[0]): file for file in LEDGER_SQL.glob("migrations/*.sql")}
    return {version: files[version].read_text() for version in sorted(files)}
