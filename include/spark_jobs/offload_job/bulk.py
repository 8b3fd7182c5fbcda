"""Asks thousands of Java objects the same, without a call into Java for each of them.

A call that returns an object takes up to half a millisecond. Here the objects stay in a Java list, and Java itself asks
all of them at once, through its method handles: what py4j has instead of lambdas.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from offload_job.jvm import Jvm


class Bulk:
    """Method handles of one virtual machine. Each takes an object and gives one; a path of them is called in a row."""

    def __init__(self, jvm: Jvm) -> None:
        self._jvm = jvm
        self._handles = jvm.java.lang.invoke.MethodHandles
        self._collectors = jvm.java.util.stream.Collectors

    def method(self, owner: str, name: str, *arguments: Any) -> Any:
        """A public method.

        :param owner: its class or interface
        :param arguments: what it is called with: numbers and objects
        """
        kinds = [self._jvm.java.lang.Integer.TYPE if isinstance(each, int) else each.getClass() for each in arguments]
        handle = self._unreflect(owner, name, kinds)
        if arguments:
            handle = self._handles.insertArguments(handle, 1, self.array("java.lang.Object", arguments))
        return _generic(handle)

    def receiver(self, receiver: Any, owner: str, name: str, takes: str) -> Any:
        """A method of one object, which the others are given to.

        :param takes: the class or interface of what it takes
        """
        return _generic(self._unreflect(owner, name, [self.class_of(takes)]).bindTo(receiver))

    def ask(self, objects: Any, *path: Any) -> list[str]:
        """What a path gives of each object, as text.

        :param objects: a ``java.util.List``
        :raises ValueError: if one of the texts has a line break
        """
        joined = self._stream(objects, (*path, self._as_text)).collect(self._collectors.joining("\n"))
        texts = str(joined).split("\n") if objects.size() else []
        if len(texts) != objects.size():
            raise ValueError("there is a line break in the name of a file")
        return texts

    def select(self, objects: Any, wanted: Collection[str], *path: Any) -> Any:
        """A new list of the objects of which a path gives one of these texts."""
        lines = self._jvm.java.util.regex.Pattern.compile("\n").splitAsStream("\n".join(wanted))
        texts = lines.collect(self._collectors.toSet())
        chain, *others = path
        for then in (*others, self._as_text, self.receiver(texts, "java.util.Set", "contains", "java.lang.Object")):
            chain = self._handles.filterReturnValue(chain, then)
        return objects.stream().filter(self._as("Predicate", chain)).collect(self._collectors.toList())

    def give(self, objects: Any, receiver: Any, *path: Any) -> None:
        """Give what a path gives of each object to a :meth:`receiver`."""
        self._stream(objects, path).forEach(self._as("Consumer", receiver))

    def listed(self, array: Any) -> Any:
        """A Java array as a list; py4j finds no ``Arrays.asList`` for one of anything else than ``Object``."""
        as_list = self.class_of("java.util.Arrays").getMethod(
            "asList", self.array("java.lang.Class", [self.class_of("[Ljava.lang.Object;")])
        )
        return as_list.invoke(None, self.array("java.lang.Object", [array]))

    def class_of(self, name: str) -> Any:
        """A ``java.lang.Class``."""
        return self._jvm.java.lang.Class.forName(name)

    def array(self, kind: str, values: Iterable[Any]) -> Any:
        """A Java array.

        :param kind: the class of its elements
        """
        elements = list(values)
        array = self._jvm.java.lang.reflect.Array.newInstance(self.class_of(kind), len(elements))
        for position, element in enumerate(elements):
            array[position] = element
        return array

    @property
    def _as_text(self) -> Any:
        return _generic(self._unreflect("java.lang.String", "valueOf", [self.class_of("java.lang.Object")]))

    def _stream(self, objects: Any, path: Collection[Any]) -> Any:
        stream = objects.stream()
        for each in path:
            stream = stream.map(self._as("Function", each))
        return stream

    def _as(self, interface: str, handle: Any) -> Any:
        proxies = self._jvm.java.lang.invoke.MethodHandleProxies
        return proxies.asInterfaceInstance(self.class_of(f"java.util.function.{interface}"), handle)

    def _unreflect(self, owner: str, name: str, kinds: Collection[Any]) -> Any:
        method = self.class_of(owner).getMethod(name, self.array("java.lang.Class", kinds))
        return self._handles.publicLookup().unreflect(method)


def _generic(handle: Any) -> Any:
    """The same, that takes and gives any object: others can be chained to it."""
    return handle.asType(handle.type().generic())
