"""The HTML templates, with what all of them use."""

from __future__ import annotations

import re

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from k2_offload.core import text
from k2_offload.files import TEMPLATES
from k2_offload.work import figures


def open_templates(**values: object) -> Environment:
    """The templates' environment; whatever they print is escaped.

    :param values: what these templates use besides the style, the figures and the filters of numbers and times
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": text.show_number,
        "bytes": text.show_bytes,
        "time": text.show_time,
        "duration": text.show_duration,
        "code": _with_code,
    }
    style = Markup((TEMPLATES / "page.css").read_text())  # noqa: S704 - a file of this package
    environment.globals |= {"style": style, "figures": figures, **values}
    return environment


def _with_code(words: str) -> Markup:
    """Words for a terminal as those of a page: what stands in backquotes is code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(words))))  # noqa: S704 - escaped
