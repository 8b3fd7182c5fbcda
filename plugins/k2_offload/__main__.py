"""``python -m k2_offload`` is the ``k2`` command."""

from k2_offload.cli.main import app

app(prog_name="k2")
