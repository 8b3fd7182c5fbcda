"""The Docker engine that runs Spark applications where setting ``runner`` is ``docker``: how it is asked."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from docker import APIClient, TLSConfig
from docker.errors import APIError, DockerException, ImageNotFound, NotFound, TLSParameterError
from docker.types import Mount
from docker.utils import parse_bytes

from k2_offload.adapters.connections import container_master, docker_endpoint
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import (
    ConfigurationError,
    OffloadError,
    Refused,
    Unreachable,
    is_certificate_refusal,
    wrong_setting,
)
from k2_offload.core.limits import SILENCE_SECONDS

SERVICE = "The Docker engine"

_MOUNT = re.compile(r"(?P<source>[^:,]+):(?P<target>/[^:,]*)(?P<read_only>:ro)?")
_NETWORK_OF_A_CONTAINER = "container:"
_KEPT_ALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE_SECONDS // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_SECONDS // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_SECONDS * 1000),
]
"""A request waits for a container for as long as that runs: nobody would notice that the engine's machine has gone."""

_NOTHING_MOVED = "Nothing was moved and no row is lost."


@dataclass(frozen=True)
class ContainerOptions:
    """What the settings say of a container.

    :param cpus: how many it may use; ``None`` for no limit
    :param memory_bytes: how much it may use; ``None`` for no limit
    """

    image: str
    network: str | None
    mounts: tuple[Mount, ...]
    cpus: float | None
    memory_bytes: int | None


def container_options(settings: Settings) -> ContainerOptions:
    """Read the settings that begin with ``docker_``.

    :raises ConfigurationError: if one of them is missing or not what it should be
    """
    if not settings.docker_image:
        raise wrong_setting("docker_image", "missing: name the image that has Spark, its jars and the job")
    if not settings.docker_jobs_folder.startswith("/"):
        raise wrong_setting("docker_jobs_folder", f"'{settings.docker_jobs_folder}', not an absolute path")
    mounts = []
    for text in filter(None, map(str.strip, settings.docker_mounts.split(","))):
        if (found := _MOUNT.fullmatch(text)) is None:
            raise wrong_setting(
                "docker_mounts", f"'{text}', not SOURCE:/TARGET or SOURCE:/TARGET:ro, with commas between"
            )
        kind = "bind" if found["source"].startswith("/") else "volume"
        mounts.append(Mount(found["target"], found["source"], kind, read_only=bool(found["read_only"])))
    try:
        memory = int(parse_bytes(settings.docker_memory)) if settings.docker_memory else None
    except DockerException:
        raise wrong_setting("docker_memory", f"'{settings.docker_memory}', not an amount such as 1500m or 2g") from None
    try:
        cpus = float(settings.docker_cpus) if settings.docker_cpus else None
    except ValueError:
        cpus = 0.0
    if cpus is not None and not 0 < cpus < float("inf"):
        raise wrong_setting("docker_cpus", f"'{settings.docker_cpus}', not a number above 0 such as 1.5")
    return ContainerOptions(settings.docker_image, settings.docker_network or None, tuple(mounts), cpus, memory)


def open_engine(settings: Settings) -> APIClient:
    """Connect to the engine.

    :raises ConfigurationError: if the connection is missing, incomplete or refused
    :raises Unreachable: if the engine does not answer
    """
    endpoint = docker_endpoint(settings)
    try:
        tls: TLSConfig | bool = False
        if endpoint.tls:
            authorities, certificate, key = endpoint.tls
            tls = TLSConfig(client_cert=(certificate, key), ca_cert=authorities, verify=True)
        client = APIClient(base_url=endpoint.url, version="auto", tls=tls, timeout=SILENCE_SECONDS)
    except TLSParameterError as error:
        raise ConfigurationError(
            f"connection '{endpoint.connection_id}': {error}. {_NOTHING_MOVED} Correct the files in its extra; then "
            "run `k2 validate`."
        ) from None
    except (DockerException, OSError) as error:
        if is_certificate_refusal(str(error)):
            raise Refused(SERVICE, endpoint.connection_id, str(error)) from None
        raise Unreachable(SERVICE, endpoint.connection_id, str(error)) from None
    if endpoint.url.startswith("tcp://"):
        pools = client.get_adapter(client.base_url).poolmanager
        pools.connection_pool_kw["socket_options"] = _KEPT_ALIVE
        pools.clear()  # of the connection that has asked for the version
    return client


@contextmanager
def errors_told(settings: Settings) -> Iterator[None]:
    """The engine's own errors as this package's.

    :raises OffloadError: if the engine refuses what it was asked for
    :raises Unreachable: if it no longer answers
    """
    try:
        yield
    except APIError as error:
        raise OffloadError(
            f"{SERVICE} (Airflow connection '{settings.docker_conn_id}') refused: {error.explanation or error}. "
            "No row is lost: the next attempt finds out what was published. Look at the settings docker_… and at the "
            "engine; then run `k2 validate`."
        ) from None
    except (DockerException, OSError) as error:
        raise Unreachable(SERVICE, settings.docker_conn_id, str(error)) from None


def find_image(client: APIClient, name: str) -> Any:
    """An image that the engine has; nothing is pulled when a task runs.

    :returns: what the engine says of it
    :raises ConfigurationError: if it has none of that name
    """
    try:
        return client.inspect_image(name)
    except ImageNotFound:
        raise ConfigurationError(
            f"the Docker engine has no image '{name}'. {_NOTHING_MOVED} Build or pull it there "
            "(docs/production.md#spark-in-containers), or correct [k2_offload] docker_image; then run `k2 validate`."
        ) from None


def checks(settings: Settings) -> Iterator[tuple[str, Callable[[], str]]]:
    """What a task needs of the engine: each with a function that looks and says what it has found."""

    def engine() -> str:
        with errors_told(settings), closing(open_engine(settings)) as client:
            return f"version {client.version()['Version']} at {docker_endpoint(settings).url}"

    def image() -> str:
        with errors_told(settings), closing(open_engine(settings)) as client:
            name = container_options(settings).image
            return f"{name}, {find_image(client, name)['Id'][:19]}"

    def container() -> str:
        options = container_options(settings)
        if options.network and not options.network.startswith(_NETWORK_OF_A_CONTAINER):
            with errors_told(settings), closing(open_engine(settings)) as client:
                try:
                    client.inspect_network(options.network)
                except NotFound:
                    raise wrong_setting(
                        "docker_network", f"'{options.network}', which the Docker engine has not"
                    ) from None
        limits = [
            f"{options.cpus:g} CPUs" if options.cpus else "no limit of CPUs",
            f"{options.memory_bytes / 2**20:.0f} MiB" if options.memory_bytes else "no limit of memory",
        ]
        return f"network {options.network or 'of the engine'}, {len(options.mounts)} mounts, {', '.join(limits)}"

    yield "Docker engine", engine
    yield "Docker image", image
    yield "Containers", container
    yield "Spark connection", lambda: f"master {container_master(settings)}"
