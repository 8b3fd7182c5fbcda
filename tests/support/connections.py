"""Airflow connections as the core gets them."""

from __future__ import annotations

from k2_offload.core.connections import ConnectionFields


def fields(**values):
    """Of a connection to host ``h``, with nothing but what is given."""
    empty = {
        "connection_id": "c",
        "host": "h",
        "port": None,
        "login": None,
        "password": None,
        "schema": None,
        "extra": {},
    }
    return ConnectionFields(**(empty | values))
