"""A TCP proxy that breaks connections on command, for tests of what the network may do."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

HOST = "127.0.0.1"
_CHUNK = 65536


@dataclass
class Rule:
    """Something that happens once, to the connection on which it comes true.

    :param pattern: comes true when it is seen for the ``occurrence``-th time
    :param to_server: which direction is watched
    :param after_bytes: comes true, in place of the pattern, when so many bytes have passed on all connections
    :param lose_reply: only when the server has answered, and been quiet for ``quiet`` seconds; nothing of it arrives
    :param call: happens in place of a reset, in a thread of its own, just after the bytes were forwarded
    """

    pattern: re.Pattern[bytes]
    to_server: bool = True
    after_bytes: int | None = None
    occurrence: int = 1
    lose_reply: bool = False
    quiet: float = 0.05
    call: Callable[[], None] | None = None
    fired: int = 0
    _bytes: int = 0
    _seen: int = 0

    def comes_true(self, link: _Link, to_server: bool, chunk: bytes) -> bool:
        if self.fired or to_server != self.to_server:
            return False
        if self.after_bytes is not None:
            self._bytes += len(chunk)
            return self._bytes >= self.after_bytes
        text = link.unmatched.get(id(self), b"") + chunk  # a pattern may be cut in two
        end = 0
        for match in self.pattern.finditer(text):
            self._seen, end = self._seen + 1, match.end()
            if self._seen == self.occurrence:
                return True
        link.unmatched[id(self)] = text[end:][-4096:]
        return False


class _Link:
    """One client's connection and the one it was given to the server."""

    def __init__(self, client, server):
        self.client, self.server = client, server
        self.unmatched: dict[int, bytes] = {}
        self.losing: Rule | None = None

    def end(self, reset: bool) -> None:
        for writer in (self.client, self.server):
            if reset:
                with contextlib.suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()


class Proxy:
    """Forwards a port of its own to a port of this machine; use it in a ``with``.

    :param upstream_port: changes take effect on new connections
    """

    def __init__(self, upstream_port: int):
        self.upstream_port = upstream_port
        self.port = 0
        self.rules: list[Rule] = []
        self.swallowed = 0
        self._latency, self._bytes_per_second, self._swallow = 0.0, math.inf, False
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self):
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_):
        self.refuse()
        self.cut()
        self._run(self._drain())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def fired(self) -> int:
        """How often a rule has come true."""
        return sum(rule.fired for rule in self.rules)

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._links)

    def forward(self) -> None:
        """Forward everything again; rules that were added stay."""
        self._latency, self._bytes_per_second, self._swallow = 0.0, math.inf, False
        self._run(self._listen())

    def refuse(self) -> None:
        """Nobody listens any more; connections that exist stay."""
        self._run(self._stop(listening=True))

    def cut(self) -> None:
        """Reset every connection now."""
        self._run(self._stop(listening=False))

    def unplug(self, seconds: float | None = None) -> threading.Timer | None:
        """The service is gone: for good, or for some seconds."""
        self.refuse()
        self.cut()
        timer = None if seconds is None else threading.Timer(seconds, self.forward)
        if timer is not None:
            timer.start()
        return timer

    def slow(self, latency: float, bytes_per_second: float = math.inf) -> None:
        """Delay whatever passes, in both directions."""
        self._latency, self._bytes_per_second = latency, bytes_per_second

    def blackhole(self) -> None:
        """Accept connections and everything sent on them, and answer nothing."""
        self._swallow = True

    def reset_after(self, bytes_: int, *, to_server: bool = True) -> Rule:
        """Reset the connection on which so many bytes have passed, counted from now."""
        return self._add(to_server=to_server, after_bytes=bytes_)

    def lose_request(self, pattern: bytes, occurrence: int = 1) -> Rule:
        """Reset the connection on which the pattern comes; the server does not see it."""
        return self._add(pattern, occurrence=occurrence)

    def lose_reply(self, pattern: bytes, occurrence: int = 1, quiet: float = 0.05) -> Rule:
        """Let the pattern pass, and reset the connection when the server has answered; the client does not see that."""
        return self._add(pattern, occurrence=occurrence, lose_reply=True, quiet=quiet)

    def when(self, pattern: bytes, call: Callable[[], None], occurrence: int = 1) -> Rule:
        """Call a function just after the pattern was forwarded."""
        return self._add(pattern, call=call, occurrence=occurrence)

    def _add(self, pattern: bytes = b"", **values) -> Rule:
        self.rules.append(Rule(re.compile(pattern, re.DOTALL), **values))
        return self.rules[-1]

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self):
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port, reuse_address=True)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self, *, listening: bool):
        if listening and self._server is not None:
            # asyncio forgets what it has accepted when it closes meanwhile, and that client would wait for ever.
            for listener in self._server.sockets:
                self._loop.remove_reader(listener.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        for link in [] if listening else list(self._links):
            link.end(reset=True)

    async def _drain(self):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader, client):
        try:
            from_server, server = await asyncio.open_connection(HOST, self.upstream_port)
        except OSError:
            return client.transport.abort()
        link = _Link(client, server)
        if self._server is None:  # since it was accepted
            return link.end(reset=True)
        self._links.add(link)
        try:
            await asyncio.gather(self._pump(link, reader, server, True), self._pump(link, from_server, client, False))
        except (OSError, asyncio.CancelledError):
            link.end(reset=True)
        finally:
            link.end(reset=False)
            self._links.discard(link)

    async def _pump(self, link, reader, writer, to_server):
        while chunk := await self._read(link, reader, to_server):
            if self._swallow:
                self.swallowed += len(chunk)
                continue
            rule = next((rule for rule in self.rules if rule.comes_true(link, to_server, chunk)), None)
            if rule is not None and rule.lose_reply:
                link.losing = rule
            elif rule is not None:
                rule.fired += 1
                if rule.call is None:
                    raise ConnectionResetError
            await asyncio.sleep(self._latency + len(chunk) / self._bytes_per_second)
            writer.write(chunk)
            await writer.drain()
            if rule is not None and rule.call is not None:
                threading.Thread(target=rule.call, name="proxy-call", daemon=True).start()
        if writer.can_write_eof():
            writer.write_eof()

    async def _read(self, link, reader, to_server):
        chunk = await reader.read(_CHUNK)
        if to_server or link.losing is None or not chunk:
            return chunk
        with contextlib.suppress(TimeoutError):  # it has begun to answer the request whose reply is to be lost
            while await asyncio.wait_for(reader.read(_CHUNK), link.losing.quiet):
                pass
        link.losing.fired += 1
        raise ConnectionResetError
