"""Writes .env from .env.example, with a random value for every variable that is empty there.

    python3 docker/write_env.py

Needs nothing but Python. What stands in an existing .env stays, because the volumes were made with its passwords; what
it lacks (a newer version may need more) is added.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"^([A-Z0-9_]+)=", re.MULTILINE)
_EMPTY = re.compile(r"[A-Z0-9_]+=")


def fill(example: str, existing: str = "") -> str:
    """The lines ``NAME=…`` of the example that existing text lacks, with a secret where nothing follows the name.

    A secret is 32 random bytes in URL-safe base64: fits into JSON and URLs, and is the form of a Fernet key.

    :returns: all of the example, comments too, if nothing exists yet
    """
    known = set(_NAME.findall(existing))
    lines = example.splitlines()
    if existing:
        lines = [line for line in lines if (name := _NAME.match(line)) and name[1] not in known]
    return "".join(f"{line}{_secret() if _EMPTY.fullmatch(line) else ''}\n" for line in lines)


def _secret() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def main(project: Path = PROJECT) -> int:
    """Write the file, or add what an existing one lacks; only its owner may read it.

    :returns: exit code
    """
    target = project / ".env"
    existing = target.read_text() if target.exists() else ""
    added = fill((project / ".env.example").read_text(), existing)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a") as env:
        os.fchmod(env.fileno(), 0o600)
        env.write(added if not existing or existing.endswith("\n") else f"\n{added}")
    if not existing:
        print(
            f"Wrote {target}. Next: docker compose up --build --detach. The UI's password is K2_AIRFLOW_PASSWORD in it."
        )
    elif added:
        print(f"Added to {target}: {', '.join(_NAME.findall(added))}. What was there is as it was.")
    else:
        print(f"{target} has everything and was left alone. To begin anew: docker compose down --volumes, delete it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
