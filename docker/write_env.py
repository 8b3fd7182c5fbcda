"""Writes .env from .env.example, with a random value for every variable that is empty there.

    python3 docker/write_env.py

Needs nothing but Python. An existing .env is left alone: the volumes were made with its passwords.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def fill(example: str) -> str:
    """The example's text with a secret of 32 random bytes after every ``NAME=`` that ends there.

    URL-safe base64: fits into JSON and URLs, and is the form of a Fernet key.
    """

    def with_secret(match: re.Match[str]) -> str:
        return match[0] + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()

    return re.sub(r"^[A-Z0-9_]+=$", with_secret, example, flags=re.MULTILINE)


def main(project: Path = PROJECT) -> int:
    """Write the file, readable by its owner only.

    :returns: exit code; 1 if there is one already
    """
    target = project / ".env"
    try:
        file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        print(f"{target} exists and was left alone. To begin anew: docker compose down --volumes, then delete it.")
        return 1
    with os.fdopen(file, "w") as env:
        env.write(fill((project / ".env.example").read_text()))
    print(f"Wrote {target}. Next: docker compose up --build --detach. The UI's password is K2_AIRFLOW_PASSWORD in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
