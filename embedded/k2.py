"""The ``k2`` command of the embedded stack: production's, and ``feed``."""

from embedded.feed.cli import app as feed
from k2_offload.cli.main import app

__all__ = ["app"]

app.add_typer(feed, name="feed")

if __name__ == "__main__":
    app(prog_name="k2")
