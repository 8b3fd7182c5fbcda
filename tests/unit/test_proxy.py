"""The fault proxy itself, before a small server that answers every line with its upper case."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.proxy import HOST, Proxy


class Shout(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.server.seen.append(line)
            self.wfile.write(line.upper())


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128  # the kernel makes those beyond it wait for a second

    def __init__(self):
        super().__init__((HOST, 0), Shout)
        self.seen = []

    def handle_error(self, *_):
        """Connections are reset here on purpose."""


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def proxy(server):
    with Proxy(server.server_address[1]) as proxy:
        yield proxy


def connect(proxy):
    client = socket.create_connection((HOST, proxy.port), timeout=5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def ask(client, line):
    client.sendall(line)
    return client.recv(1000)


def seen(server, line):
    deadline = time.monotonic() + 2
    while line not in server.seen and time.monotonic() < deadline:
        time.sleep(0.005)
    return line in server.seen


def test_it_forwards_both_ways(proxy):
    with connect(proxy) as client, connect(proxy) as other:
        assert ask(client, b"one\n") == b"ONE\n"
        assert ask(other, b"two\n") == b"TWO\n"
        assert proxy.connections == 2
    assert proxy.fired == 0


def test_the_end_of_one_direction_is_passed_on(proxy):
    with connect(proxy) as client:
        client.sendall(b"last\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b"LAST\n"
        assert client.recv(100) == b""


def test_it_refuses_new_connections_and_keeps_the_others_until_it_listens_again(proxy):
    with connect(proxy) as client:
        assert ask(client, b"a\n") == b"A\n"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert ask(client, b"b\n") == b"B\n"
    proxy.forward()
    with connect(proxy) as client:
        assert ask(client, b"c\n") == b"C\n"


def test_it_cuts_connections_that_exist_and_accepts_new_ones(proxy):
    with connect(proxy) as client:
        assert ask(client, b"a\n") == b"A\n"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    with connect(proxy) as client:
        assert ask(client, b"b\n") == b"B\n"


def test_an_unplugged_service_comes_back(proxy):
    proxy.unplug(0.2).join()
    with connect(proxy) as client:
        assert ask(client, b"back\n") == b"BACK\n"


def test_nobody_who_comes_while_it_is_unplugged_is_left_hanging(proxy):
    def knock():
        with contextlib.suppress(ConnectionError), connect(proxy) as client:
            client.settimeout(10)
            client.recv(1)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(40):
            proxy.forward()
            knocks = [pool.submit(knock) for _ in range(8)]
            proxy.unplug()
            for each in knocks:
                each.result()


@pytest.mark.parametrize("to_server", [True, False])
def test_it_resets_after_so_many_bytes_once(proxy, to_server):
    proxy.reset_after(5, to_server=to_server)
    with connect(proxy) as client:
        assert ask(client, b"12\n") == b"12\n"
        with pytest.raises(ConnectionResetError):
            ask(client, b"34\n")
    assert proxy.fired == 1
    with connect(proxy) as client:
        assert ask(client, b"5678\n") == b"5678\n"
    assert proxy.fired == 1


def test_a_request_is_lost_before_the_server_sees_it(proxy, server):
    proxy.lose_request(rb"COM.?MIT", occurrence=2)
    with connect(proxy) as client:
        assert ask(client, b"COMMIT 1\n") == b"COMMIT 1\n"
        with pytest.raises(ConnectionResetError):
            ask(client, b"COMMIT 2\n")
    assert proxy.fired == 1
    assert b"COMMIT 2\n" not in server.seen


def test_a_reply_is_lost_after_the_server_has_seen_the_request(proxy, server):
    proxy.lose_reply(rb"commit")
    with connect(proxy) as client:
        assert ask(client, b"begin\n") == b"BEGIN\n"
        with pytest.raises(ConnectionResetError):
            ask(client, b"commit\n")
    assert seen(server, b"commit\n")
    assert proxy.fired == 1


def test_a_pattern_that_comes_in_two_pieces_is_found(proxy, server):
    proxy.lose_reply(rb"commit")
    with connect(proxy) as client:
        client.sendall(b"com")
        time.sleep(0.05)
        with pytest.raises(ConnectionResetError):
            ask(client, b"mit\n")
    assert seen(server, b"commit\n")


def test_a_function_is_called_when_a_pattern_has_passed(proxy):
    called = threading.Event()
    proxy.when(rb"now", called.set)
    with connect(proxy) as client:
        assert ask(client, b"now\n") == b"NOW\n"
    assert called.wait(2)
    assert proxy.fired == 1


def test_it_slows_down(proxy):
    proxy.slow(0.05, bytes_per_second=1000)
    with connect(proxy) as client:
        started = time.monotonic()
        assert ask(client, b"x" * 99 + b"\n") == b"X" * 99 + b"\n"
    assert 0.3 <= time.monotonic() - started < 1.5


def test_a_black_hole_accepts_and_never_answers(proxy, server):
    proxy.blackhole()
    with connect(proxy) as client:
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            ask(client, b"hello\n")
    assert server.seen == []
    assert proxy.swallowed == 6


def test_a_server_that_is_down_closes_the_client(proxy):
    proxy.upstream_port = 1
    with connect(proxy) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(100) == b""
