"""``python -m k2_offload`` is the ``k2`` command."""

from k2_offload.cli.main import app

if __name__ == "__main__":
    app(prog_name="k2")
