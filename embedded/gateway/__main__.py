"""Start the gateway: ``python -m embedded.gateway --data-path DIR --native-port N --http-port N``."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from embedded.gateway.authentication import Authentication
from embedded.gateway.engine import Engine
from embedded.gateway.errors import GatewayError
from embedded.gateway.http_server import HttpServer
from embedded.gateway.native_server import NativeServer

logger = logging.getLogger("embedded.gateway")


def main() -> int:
    """Run until SIGTERM or SIGINT.

    :returns: the exit code: 0 after a signal, 1 when the gateway cannot start, 2 for wrong arguments.
    """
    arguments = _parser().parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if not _is_loopback(arguments.host) and arguments.password_file is None:
        return _refuse(f"--host {arguments.host} is open to other machines: give --password-file too, or use 127.0.0.1")
    try:
        authentication = _authentication(arguments.password_file)
    except OSError as error:
        return _refuse(f"cannot read --password-file {arguments.password_file}: {error.strerror}")
    except ValueError as error:
        return _refuse(f"--password-file {arguments.password_file}: {error}")

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    data_path = arguments.data_path.resolve()
    config_file = arguments.config_file.resolve() if arguments.config_file else None
    # ClickHouse 26.9 reads icebergLocal() tables below the working directory only: make that every absolute path.
    os.chdir("/")
    try:
        engine = Engine(data_path, config_file)
    except (GatewayError, OSError) as error:
        return _refuse(f"cannot open the data path {data_path}: {error}")
    try:
        return _serve(arguments, engine, authentication, stop)
    finally:
        engine.close()
        logger.info("stopped")


def _serve(arguments: argparse.Namespace, engine: Engine, authentication: Authentication, stop: threading.Event) -> int:
    servers: list[NativeServer | HttpServer] = []
    for server_class, port in ((NativeServer, arguments.native_port), (HttpServer, arguments.http_port)):
        try:
            server = server_class((arguments.host, port), engine, authentication, arguments.send_timeout_seconds)
        except OSError as error:
            return _refuse(f"cannot listen on {arguments.host}:{port}: {error.strerror}; is another gateway running?")
        servers.append(server)
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    logger.info(
        "ClickHouse %s ready: native %s:%d, http %s:%d, data %s",
        *(engine.version, arguments.host, arguments.native_port, arguments.host, arguments.http_port),
        arguments.data_path,
    )
    while not stop.wait(3600):
        pass
    logger.info("stopping")
    for server in servers:
        server.shutdown()
        server.server_close()
        server.disconnect_clients()
    return 0


def _refuse(reason: str) -> int:
    print(f"gateway: {reason}", file=sys.stderr)
    return 1


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authentication(password_file: Path | None) -> Authentication:
    if password_file is None:
        return Authentication()
    password = password_file.read_text().rstrip("\r\n")
    if not password:
        raise ValueError("the file is empty")
    return Authentication(password)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m embedded.gateway",
        description="A ClickHouse engine that speaks the native and the HTTP protocol, until SIGTERM or SIGINT.",
        epilog="example: python -m embedded.gateway --data-path .state/clickhouse --http-port 18123",
    )
    parser.add_argument("--data-path", type=Path, required=True, help="folder of the engine's data")
    parser.add_argument("--config-file", type=Path, help="ClickHouse's configuration (XML) for the engine")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--native-port", type=int, default=19000, help="default: %(default)s")
    parser.add_argument("--http-port", type=int, default=18123, help="default: %(default)s")
    parser.add_argument("--password-file", type=Path, help="file with the password that user default must present")
    parser.add_argument(
        "--send-timeout-seconds",
        type=int,
        default=120,
        help="disconnect a client that takes none of its result for so long (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
