"""Passwords and keys of the embedded stack: made once, kept where only the owner may read them."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, repr=False)
class Secrets:
    """Random per state folder."""

    postgres_password: str
    airflow_password: str
    api_secret_key: str
    jwt_secret: str
    fernet_key: str

    @classmethod
    def load_or_make(cls, state: Path) -> Secrets:
        """Read them from the state folder, or make them on first use."""
        path = state / "secrets.json"
        if path.exists():
            return cls(**json.loads(path.read_text()))
        made = cls(
            postgres_password=secrets.token_urlsafe(24),
            airflow_password=secrets.token_hex(6),
            api_secret_key=secrets.token_urlsafe(32),
            jwt_secret=secrets.token_urlsafe(64),
            fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        )
        write_private(path, json.dumps(asdict(made), indent=2))
        return made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    incoming = path.with_name(f"{path.name}.incoming")
    incoming.unlink(missing_ok=True)
    descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    incoming.replace(path)
