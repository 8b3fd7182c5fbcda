"""Puts off what another package imports and hardly ever uses: Airflow loads a DAG file anew for every task."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Collection
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _LateModule(ModuleType):
    """Stands for a module until something of it is used."""

    def __init__(self, name: str, functions: Collection[str]) -> None:
        super().__init__(name)
        self._functions = functions

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by the import system of every module
            raise AttributeError(name)
        if name in self._functions:
            return partial(self._call, name)
        return getattr(self._load(), name)

    def _call(self, function: str, *arguments: Any, **options: Any) -> Any:
        return getattr(self._load(), function)(*arguments, **options)

    def _load(self) -> ModuleType:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return importlib.import_module(self.__name__)


def import_late(name: str, functions: Collection[str] = ()) -> None:
    """Let a module be loaded when something of it is first used, whoever imports it meanwhile.

    A module that is loaded already stays, and one that is not installed stays missing.

    :param name: with its packages, which are loaded now
    :param functions: names in it that may be imported from it, and load it only when they are called
    """
    try:
        known = name in sys.modules or find_spec(name) is None
    except ModuleNotFoundError:
        return
    if not known:
        package, _, module = name.rpartition(".")
        sys.modules[name] = _LateModule(name, functions)
        setattr(sys.modules[package], module, sys.modules[name])  # as an import does
