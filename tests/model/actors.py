"""Lets a test decide, before every input or output of every actor, who goes on and what becomes of him."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

Result = TypeVar("Result")


class Fate(Enum):
    GO = "go"
    LOSE_REPLY = "lose the reply"
    CRASH = "crash"


class Crashed(BaseException):
    """Unwinds an actor that was killed; whatever it does on the way has no effect."""


class Blocked(Exception):
    """Another transaction holds the row."""


class Actor(greenlet):
    """Work that stops before every input or output.

    :param next_io: what it is about to do; ``None`` before the first and after the last
    :param on_crash: what the servers do when its connections break
    """

    def __init__(self, name: str, work: Callable[[], Any]):
        super().__init__(partial(_contained, work))
        self.name = name
        self.next_io: str | None = None
        self.blocked = False
        self.crashed = False
        self.on_crash: list[Callable[[], None]] = []

    def go(self, fate: Fate = Fate.GO):
        """On to the next input or output, or to the end."""
        self.blocked = False
        if not self:
            self.switch()
        else:
            self.switch(fate)
        if self.dead:
            self.next_io = None

    def proceed(self, until: tuple[str, ...] = ()):
        """To the end, to a lock that another holds, or to before the named input or output."""
        self.go()
        while not self.dead and not self.blocked and self.next_io not in until:
            self.go()

    def crash(self):
        for drop in self.on_crash:
            drop()
        if self and not self.dead:
            self.crashed = True
            self.throw(Crashed)
        self.next_io = None


def perform(name: str, effect: Callable[[], Result], lost: Callable[[], Exception]) -> Result:
    """One input or output. Outside of an actor it simply happens.

    :param effect: what it does, at once; raises :class:`Blocked` to wait
    :param lost: the error that the caller sees if the reply is lost
    """
    actor = getcurrent()
    if not isinstance(actor, Actor):
        return effect()
    while True:
        if actor.crashed:
            raise Crashed
        actor.next_io = name
        fate = _wait(actor)
        try:
            result = effect()
        except Blocked:
            if fate is Fate.LOSE_REPLY:  # it has waited for too long
                raise lost() from None
            actor.blocked = True
            continue
        if fate is Fate.LOSE_REPLY:
            raise lost()
        return result


def _contained(work: Callable[[], Any]):
    with suppress(Crashed):
        work()


def _wait(actor: Actor) -> Fate:
    try:
        return actor.parent.switch()
    except Crashed:
        actor.crashed = True
        raise


def current_actor() -> Actor | None:
    actor = getcurrent()
    return actor if isinstance(actor, Actor) else None
