"""Writes the bill of materials and the page of licences: `make sbom`."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.install.steps import say
from embedded.sbom.components import (
    BASE,
    JARS,
    PROJECT,
    PULLED,
    SPARK_JARS,
    dependencies,
    exact_licence,
    licence_of,
    shipped,
)
from embedded.sbom.licences import ALLOWED, ALLOWED_PROGRAMS, is_allowed
from k2_offload import __version__

PAGE = ROOT / "docs" / "licences.md"
BILL = ROOT / "dist" / f"k2_offload-{__version__}.cdx.json"
_TEXT = """# Licences of what ships

`make sbom` writes this page, and the bill of materials `dist/k2_offload-VERSION.cdx.json` (CycloneDX 1.6), which has
the version and the URL of each component, and the checksums of packages and jars. Both are made from the files that pin
them. A test fails if this page is not what `make sbom` would write, or if a licence is not [allowed](#what-is-allowed).

K2 offload itself is under Apache-2.0. Its wheel holds nothing else; what it needs is in the first table, and what its
extras need is in one of their own. The image of [docker/Dockerfile](../docker/Dockerfile) holds the other parts.

{parts}
## What is allowed

{allowed}

Where there is a choice (`OR`), one allowed licence is enough. [licences.py](../embedded/sbom/licences.py) has the list,
and the licences that a person has read because a package's metadata is not exact. In the bill they are *concluded*; all
others are *declared*, by the package itself, or by Spark for the jars inside pyspark.

## What is not listed

- What a package or a jar carries inside itself: C libraries in binary packages, and other projects in
  iceberg-spark-runtime, iceberg-aws-bundle and clickhouse-jdbc. Their files `LICENSE`, `NOTICE` and `sboms` tell.
- Debian's packages in the base images. A scanner of images lists them; `/usr/share/doc` has their licences.
- Packages that Linux does not install, and those for development only (`requirements/dev.txt`).
"""
_NOTES = {
    JARS: "Pinned in `requirements/jars.xml` and `docker/lake_jars.xml`.",
    SPARK_JARS: "They come with pyspark, which is pinned as a whole. The bill names each one below pyspark.",
    BASE: "The licence is that of the main program. Debian's packages have no pinned version.",
    PULLED: "Not shipped, and not in the bill: whoever starts the compose file gets them from their publishers.",
}


def bill(layout: Layout, parts: Mapping[str, Sequence[Component]]) -> str:
    """The bill of materials; the same bytes wherever it is made."""
    project = Component(
        name=PROJECT,
        version=__version__,
        type=ComponentType.APPLICATION,
        purl=(url := PackageURL("pypi", name=PROJECT, version=__version__)),
        bom_ref=str(url),
        licenses=[exact_licence("Apache-2.0")],
    )
    known: dict[str, Component] = {}
    for part in (part for part in parts if part not in {SPARK_JARS, PULLED}):
        for component in parts[part]:
            same = known.setdefault(str(component.purl), component)
            same.properties.add(Property(name=f"{PROJECT}:part", value=part))
    [pyspark] = (component for component in known.values() if component.name == "pyspark")
    pyspark.components.update(parts[SPARK_JARS])
    tools = ToolRepository(components=[this_component()])
    made = Bom(components=known.values(), metadata=BomMetaData(component=project, tools=tools))
    made.register_dependency(project, [*parts[JARS], *parts[BASE]])
    for component, needed in dependencies(layout, known, project):
        made.register_dependency(component, [needed])
    # Both would differ each time.
    made.serial_number = None  # type: ignore[assignment]
    made.metadata.timestamp = None  # type: ignore[assignment]
    return JsonV1Dot6(made).output_as_string(indent=2) + "\n"


def page(parts: Mapping[str, Sequence[Component]]) -> str:
    """The page of licences."""
    reasons = defaultdict(list)
    for licence, why in ALLOWED_PROGRAMS.items():
        reasons[why].append(licence)
    allowed = _table("licence", "why", [(", ".join(names), why) for why, names in reasons.items()])
    return _TEXT.format(
        parts="\n".join(_section(part, components) for part, components in parts.items()),
        allowed=allowed,
    )


def disallowed(parts: Mapping[str, Sequence[Component]]) -> list[str]:
    """Components whose licence is not allowed where they are."""
    return [
        f"{component.name}: {licence_of(component)}"
        for part, components in parts.items()
        for component in components
        if not is_allowed(licence_of(component), ALLOWED_PROGRAMS if part in {BASE, PULLED} else ALLOWED)
    ]


def _section(part: str, components: Sequence[Component]) -> str:
    found = defaultdict(list)
    for component in components:
        found[licence_of(component)].append(component.name)
    rows = [(licence, ", ".join(sorted(set(names)))) for licence, names in sorted(found.items())]
    if part == SPARK_JARS:  # too many to read
        apache = "Apache-2.0"
        rows = [(licence, f"{len(found[apache])} others" if licence == apache else names) for licence, names in rows]
    note = f"{_NOTES[part]}\n\n" if part in _NOTES else ""
    return f"## {part}\n\n{note}{_table('licence', 'components', rows)}\n"


def _table(first: str, second: str, rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in [(first, second), ("---", "---"), *rows])


def main() -> int:
    """Write both, and return an exit code: 1 if a licence is not allowed."""
    layout = Layout.of(ROOT, DEFAULT_CLICKHOUSE_VERSION)
    parts = shipped(layout)
    PAGE.write_text(page(parts))
    BILL.parent.mkdir(exist_ok=True)
    BILL.write_text(bill(layout, parts))
    say(f"{BILL.relative_to(ROOT)} and {PAGE.relative_to(ROOT)} are written.")
    for problem in (problems := disallowed(parts)):
        say(f"Not allowed (embedded/sbom/licences.py): {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
