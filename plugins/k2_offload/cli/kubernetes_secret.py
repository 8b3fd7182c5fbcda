"""``k2 kubernetes-secret``: print the Secret that pods of `runner = kubernetes` refer to."""

from __future__ import annotations

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.settings import load_settings
from k2_offload.cli.console import command, print_json
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.pods import secret


@command
def kubernetes_secret() -> None:
    """Print the Secret for `runner = kubernetes`, passwords included: for kubectl, and for no screen.

    Again after a connection, `lake_collection` or `task_timeout_seconds` has changed; `k2 validate` says when.

    Example: [bold]k2 kubernetes-secret | kubectl apply --server-side -f -[/bold]
    """
    settings = load_settings()
    if settings.runner != "kubernetes":
        raise ConfigurationError("[k2_offload] runner is not kubernetes, so there is no Secret to write")
    from k2_offload.adapters.kubernetes_api import pod_options  # noqa: PLC0415 - of a package that may not be there

    print_json(secret(pod_options(settings), job_connections(settings)))
