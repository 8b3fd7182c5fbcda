"""The one error that the embedded stack raises on purpose."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot do what was asked. The message says what happened, what is safe, and what to type next."""
