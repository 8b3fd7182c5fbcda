"""Everything that ships, read from the files that pin it.

A licence is what :data:`~embedded.sbom.licences.REVIEWED` says, else what the package's own metadata declares (in
CycloneDX's words, it is *concluded* or *declared*).
"""

from __future__ import annotations

import re
import tomllib
from base64 import urlsafe_b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET
from zipfile import ZipFile

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.license import License, LicenseAcknowledgement, LicenseExpression
from cyclonedx.spdx import is_expression
from packageurl import PackageURL
from packaging.markers import Marker
from packaging.utils import canonicalize_name

from embedded.install.jars import read_checksums
from embedded.install.layout import Environment, Layout
from embedded.install.machine import NEWEST_PYTHON, OLDEST_PYTHON
from embedded.sbom.licences import GROUPS, REVIEWED

PROJECT = "k2-offload"
AIRFLOW, SPARK, JARS, SPARK_JARS = "Airflow's environment", "Spark's environment", "Jars", "Jars inside pyspark"
EXTRAS, BASE, PULLED = "Extras of the wheel", "What the image is built on", "Images that the compose file pulls"
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Headings of the list of jars in Spark's own licence.
_SPARK_HEADINGS = {
    "BSD 0-Clause": "0BSD",
    "BSD 2-Clause": "BSD-2-Clause",
    "BSD 3-Clause": "BSD-3-Clause",
    "Common Development and Distribution License (CDDL) 1.0": "CDDL-1.0",
    "Common Development and Distribution License (CDDL) 1.1": "CDDL-1.1",
    "Eclipse Distribution License (EDL) 1.0": "BSD-3-Clause",
    "Eclipse Public License (EPL) 2.0": "EPL-2.0",
    "MIT License": "MIT",
    "Unicode/ICU License": "Unicode-3.0",
}
_CLASSIFIER = "{http://ant.apache.org/ivy/maven}classifier"
_PINNED = re.compile(
    r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)(?: ; (.+?))? \\\n((?:    --hash=.*\n)+)((?:    #.*\n)*)", re.MULTILINE
)


@dataclass(frozen=True)
class Locked:
    """One pin of a lock file.

    :ivar marker: where it is installed, as PEP 508 says it; empty: everywhere
    :ivar hashes: SHA-256 of each of its files
    :ivar wanted_by: the packages that need it, or :data:`PROJECT`
    """

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    wanted_by: frozenset[str]

    @property
    def url(self) -> str:
        """What names it everywhere."""
        return str(PackageURL("pypi", name=self.name, version=self.version))

    def is_for(self, python: str) -> bool:
        """Whether this Python, of three numbers, installs it on Linux."""
        place = {"python_version": python.rpartition(".")[0], "python_full_version": python, "sys_platform": "linux"}
        return not self.marker or Marker(self.marker).evaluate(place)


def read_lock(lock: Path) -> list[Locked]:
    """What a lock file pins, without what only systems other than Linux install."""
    pins = [
        Locked(
            name,
            version,
            marker or "",
            tuple(re.findall(r"sha256:(\w+)", hashes)),
            frozenset(re.findall(r"^    # +(?:via )?([\w.-]+)", wanted_by, re.MULTILINE)),
        )
        for name, version, marker, hashes, wanted_by in _PINNED.findall(lock.read_text())
    ]
    pythons = [f"3.{minor}.0" for minor in range(OLDEST_PYTHON[1], NEWEST_PYTHON[1] + 1)]
    return [pin for pin in pins if any(map(pin.is_for, pythons))]


def named_by_extras(root: Path) -> set[str]:
    """The packages that the wheel's extras name."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    return {re.split(r"[^\w.-]", requirement)[0] for requirements in extras.values() for requirement in requirements}


def read_extras(names: set[str], lock: Path, shipped: Iterable[Locked]) -> list[Locked]:
    """What packages bring, and they themselves, beside those that ship anyway.

    :param lock: has all of them, and more
    """
    everything = read_lock(lock)
    while more := {pin.name for pin in everything if pin.wanted_by & names} - names:
        names |= more
    there = {pin.name for pin in shipped}
    return [pin for pin in everything if pin.name in names - there]


def declared_by(package: Distribution | None) -> str | None:
    """The licence that a package's metadata declares as one of SPDX's expressions; None if there is no such thing."""
    if not package:
        return None
    for field in ("License-Expression", "License"):
        text: str = (package.metadata.get_all(field) or [""])[0]
        if text and "\n" not in text and is_expression(text):
            return text
    classifiers = [text for text in package.metadata.get_all("Classifier") or () if text.startswith("License ::")]
    return _CLASSIFIERS.get(classifiers[0].rpartition(" :: ")[2]) if len(classifiers) == 1 else None


def packages_of(environment: Environment) -> dict[str, Distribution]:
    """What is installed, by its normalized name."""
    folders = [str(folder) for folder in environment.path.glob("lib/python3*/site-packages")]
    return {canonicalize_name(package.metadata["Name"]): package for package in distributions(path=folders)}


def python_components(
    pins: Iterable[Locked], installed: Mapping[str, Distribution], image_python: str | None
) -> Iterator[Component]:
    """Packages of an environment.

    :param image_python: the image's Python; None if the image does not have the environment
    """
    for pin in pins:
        files = ExternalReference(
            type=ExternalReferenceType.DISTRIBUTION, url=XsUri(pin.url), hashes=map(_sha256, pin.hashes)
        )
        yield Component(
            name=pin.name,
            version=pin.version,
            purl=PackageURL.from_string(pin.url),
            bom_ref=pin.url,
            scope=None if image_python and pin.is_for(image_python) else ComponentScope.OPTIONAL,
            licenses=[_licence(declared_by(installed.get(pin.name)), pin.name)],
            external_references=[files],
            properties=[Property(name=f"{PROJECT}:marker", value=pin.marker)] if pin.marker else (),
        )


def pinned_jars(modules: Iterable[Path], folder: Path) -> Iterator[Component]:
    """The jars of Ivy modules, with the checksums that stand beside them.

    :param folder: where set-up has put those that it needs
    :raises KeyError: a jar has no checksum
    """
    for module in modules:
        checksums = read_checksums(module.with_suffix(".sha256"))
        for jar in ET.parse(module).iter("dependency"):  # noqa: S314 - our own file
            group, name, version = (jar.attrib[key] for key in ("org", "name", "rev"))
            [classifier] = [artifact.get(_CLASSIFIER, "") for artifact in jar] or [""]
            file = f"{name}-{version}-{classifier}".rstrip("-") + ".jar"
            said = re.search(r"^Bundle-License: (\S+)$", _manifest(folder / file), re.MULTILINE)
            declared = said[1] if said and is_expression(said[1]) else None
            yield _jar((group, name, version), checksums[file], declared, classifier)


def spark_jars(pyspark: Distribution) -> Iterator[Component]:
    """The jars that pyspark carries, with the licences that Spark's own list gives them."""
    listed = _spark_licences(pyspark.read_text("licenses/LICENSE") or "")
    for file in sorted(pyspark.files or ()):
        if file.suffix == ".jar" and file.hash:
            jar = Path(str(file.locate()))
            group, name, version = _coordinates(jar) or _guessed_coordinates(jar, listed)
            declared = listed.get(name, {})
            yield _jar(
                (group, name, version),
                urlsafe_b64decode(f"{file.hash.value}=").hex(),
                declared.get(group, next(iter(declared.values()), None)),
                jar.stem.removeprefix(f"{name}-{version}").removeprefix("-"),
            )


def images(recipe: str, compose: str) -> tuple[list[Component], list[Component]]:
    """What the Dockerfile builds on, with the packages of Debian, and what the compose file pulls as it is."""
    bases = re.findall(r"^FROM ([\w./-]+):(\S+)", recipe, re.MULTILINE)
    [installed] = re.findall(r"apt-get install (?:--\S+ )*(.+?) \\$", recipe, re.MULTILINE)
    debian = [
        Component(
            name=name,
            purl=(url := PackageURL("deb", "debian", name)),
            bom_ref=str(url),
            licenses=[_licence(None, name)],
        )
        for name in installed.split()
    ]
    pulled = re.findall(r"image: (?:&\S+ )?([\w./-]+):(?:\$\{\w+:-)?([\w.-]+)", compose)
    return [*map(_image, sorted(set(bases))), *debian], [
        _image(image) for image in sorted(set(pulled)) if not image[0].startswith(PROJECT)
    ]


def _image(image: tuple[str, str]) -> Component:
    namespace, _, name = image[0].rpartition("/")
    url = PackageURL("docker", namespace or None, name, image[1])
    return Component(
        name=image[0],
        version=image[1],
        type=ComponentType.CONTAINER,
        purl=url,
        bom_ref=str(url),
        licenses=[_licence(None, image[0])],
    )


def _jar(coordinates: tuple[str, str, str], digest: str, declared: str | None, classifier: str) -> Component:
    group, name, version = coordinates
    url = PackageURL("maven", group, name, version, {"classifier": classifier})
    return Component(
        name=name,
        group=group,
        version=version,
        purl=url,
        bom_ref=str(url),
        hashes=[_sha256(digest)],
        licenses=[_licence(declared, f"{group}:{name}", group)],
    )


def _licence(declared: str | None, *names: str) -> License:
    """:raises ValueError: none is declared, and nobody has read it."""
    reviewed = next((REVIEWED[name] for name in names if name in REVIEWED), None)
    if not (expression := reviewed or declared):
        raise ValueError(
            f"{names[0]} declares no exact licence: read it, and put it into REVIEWED (embedded/sbom/licences.py)"
        )
    return exact_licence(expression, LicenseAcknowledgement.CONCLUDED if reviewed else LicenseAcknowledgement.DECLARED)


def exact_licence(expression: str, how: LicenseAcknowledgement = LicenseAcknowledgement.DECLARED) -> License:
    """A licence as the bill has it, from SPDX's expression."""
    return LicenseFactory().make_from_string(expression, license_acknowledgement=how)


def licence_of(component: Component) -> str:
    """A component's licence, as SPDX's expression."""
    [licence] = component.licenses
    return licence.value if isinstance(licence, LicenseExpression) else str(licence.id)


def _spark_licences(text: str) -> dict[str, dict[str, str]]:
    """Artifact → group → licence."""
    listed: dict[str, dict[str, str]] = defaultdict(dict)
    licence = "Apache-2.0"
    for line, below in pairwise([*text.splitlines(), ""]):
        if re.fullmatch("-{5,79}", below):
            licence = _SPARK_HEADINGS.get(line, "")
        if licence and (found := re.match(r"([\w.-]+):([\w.-]+)(?=[\s:]|$)", line)):
            listed[found[2]][found[1]] = licence
    return listed


def _coordinates(jar: Path) -> tuple[str, str, str] | None:
    """Group, artifact and version as the jar itself has them."""
    with ZipFile(jar) as opened:
        for member in opened.namelist():
            found = re.fullmatch(r"META-INF/maven/(.+)/(.+)/pom\.properties", member)
            if found and jar.name.startswith(f"{found[2]}-"):
                [version] = re.findall(r"^version=(\S+)", opened.read(member).decode(), re.MULTILINE)
                if jar.name.startswith(f"{found[2]}-{version}"):
                    return found[1], found[2], version
    return None


def _guessed_coordinates(jar: Path, listed: Mapping[str, Mapping[str, str]]) -> tuple[str, str, str]:
    """The same of a jar that does not say it all: from Spark's list, else from its name and its vendor."""
    if names := [name for name in listed if re.match(rf"{re.escape(name)}-\d", jar.stem)]:
        name = max(names, key=len)
        return next(iter(listed[name])), name, jar.stem.removeprefix(f"{name}-")
    name, _, version = jar.stem.rpartition("-")
    vendor = re.search(r"^Implementation-Vendor(?:-Id)?: ([a-z-]+\.[\w.-]+)$", _manifest(jar), re.MULTILINE)
    return vendor[1] if vendor else GROUPS[name], name, version


def _manifest(jar: Path) -> str:
    """A jar's manifest; empty if there is none, or the jar is not here."""
    if not jar.exists():
        return ""
    with ZipFile(jar) as opened:
        name = "META-INF/MANIFEST.MF"
        return opened.read(name).decode().replace("\r\n", "\n") if name in opened.namelist() else ""


def _sha256(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest)


def dependencies(
    layout: Layout, shipped: Mapping[str, Component], project: Component
) -> Iterator[tuple[Component, Component]]:
    """Which component needs which, as the lock files have it.

    :param shipped: packages by their URL
    """
    extras = named_by_extras(layout.root)
    for lock in (layout.root / "requirements.txt", layout.requirements / "spark.txt", layout.requirements / "dev.txt"):
        pins = [(pin, shipped[pin.url]) for pin in read_lock(lock) if pin.url in shipped]
        for pin, component in pins:
            if PROJECT in pin.wanted_by and (lock.stem != "dev" or pin.name in extras):
                yield project, component
            yield from ((other, component) for parent, other in pins if parent.name in pin.wanted_by)


def shipped(layout: Layout) -> dict[str, list[Component]]:
    """Everything that ships, by part of the image or the wheel; what the compose file pulls comes last.

    :raises ValueError: a component has no licence
    """
    root, requirements = layout.root, layout.requirements
    recipe = (root / "docker/Dockerfile").read_text()
    [python] = re.findall(r"^FROM python:([\d.]+)", recipe, re.MULTILINE)
    airflow, spark = read_lock(root / "requirements.txt"), read_lock(requirements / "spark.txt")
    extras = read_extras(named_by_extras(root), requirements / "dev.txt", airflow)
    for_airflow, for_spark = packages_of(layout.airflow), packages_of(layout.spark)
    base, pulled = images(recipe, (root / "docker-compose.yaml").read_text())
    return {
        AIRFLOW: [*python_components(airflow, for_airflow, python)],
        SPARK: [*python_components(spark, for_spark, python)],
        JARS: [*pinned_jars([requirements / "jars.xml", root / "docker/lake_jars.xml"], layout.jars)],
        SPARK_JARS: [*spark_jars(for_spark["pyspark"])],
        EXTRAS: [*python_components(extras, for_airflow, None)],
        BASE: base,
        PULLED: pulled,
    }
