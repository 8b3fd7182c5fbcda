"""``python -m embedded.feed``: the feed without the rest of the command line."""

from __future__ import annotations

from embedded.feed.cli import app

app(prog_name="python -m embedded.feed")
