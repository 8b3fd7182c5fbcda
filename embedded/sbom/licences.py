"""Which licences may ship, and those that a person has read because no metadata has them."""

from __future__ import annotations

from collections.abc import Container

_PERMISSIVE = "permissive: the notices stay where they are; nothing is asked of code that uses it"
_OWN_FILES = "copyleft of its own files, which ship unchanged; nothing is asked of code that uses them"
_LIBRARY = "copyleft of a library, which ships unchanged, in a package of its own that whoever runs it can replace"
_PROGRAM = "an unchanged program of its own; nothing is asked of what runs in it or talks to it"

# What may be loaded into one process with this project's code, and why.
ALLOWED = {
    "0BSD": _PERMISSIVE,
    "Apache-2.0": _PERMISSIVE,
    "BSD-2-Clause": _PERMISSIVE,
    "BSD-3-Clause": _PERMISSIVE,
    "CC0-1.0": _PERMISSIVE,
    "ISC": _PERMISSIVE,
    "MIT": _PERMISSIVE,
    "MIT-0": _PERMISSIVE,
    "PSF-2.0": _PERMISSIVE,
    "Unicode-3.0": _PERMISSIVE,
    "Unlicense": _PERMISSIVE,
    "Zlib": _PERMISSIVE,
    "Artistic-1.0-Perl": _OWN_FILES,
    "CDDL-1.0": _OWN_FILES,
    "CDDL-1.1": _OWN_FILES,
    "EPL-2.0": _OWN_FILES,
    "MPL-2.0": _OWN_FILES,
    "LGPL-3.0-only": _LIBRARY,
    "LGPL-3.0-or-later": _LIBRARY,
}
# What may run beside it, or below it, as a program of its own.
ALLOWED_PROGRAMS = ALLOWED | {
    "PostgreSQL": _PERMISSIVE,
    "AGPL-3.0-only": _PROGRAM,
    "GPL-2.0-only WITH Classpath-exception-2.0": _PROGRAM,
    "GPL-2.0-or-later": _PROGRAM,
    "BUSL-1.1": "**not open source**: free to use, not to be offered to others as a service. Any broker that speaks "
    "Kafka's protocol can take its place",
}

# Read in the licence's text, or on the project's page. The metadata has nothing, or says "BSD" and not which one.
REVIEWED = {
    "greenback": "MIT OR Apache-2.0",
    "itsdangerous": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "methodtools": "BSD-2-Clause",
    "openlineage-sql": "Apache-2.0",
    "protobuf": "BSD-3-Clause",
    "psycopg2-binary": "LGPL-3.0-or-later",  # and may be linked with OpenSSL
    "py4j": "BSD-3-Clause",
    "pyyaml-ft": "MIT",  # only Python 3.13 installs it
    "sqlparse": "BSD-3-Clause",
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
    "uvloop": "MIT OR Apache-2.0",
    "wirerope": "BSD-2-Clause",
    "com.clickhouse:clickhouse-jdbc": "Apache-2.0",
    "org.apache.iceberg:iceberg-aws-bundle": "Apache-2.0",
    "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13": "Apache-2.0",
    # Jars that Spark's own list does not name, or has under another licence than the jar itself.
    "ch.epfl.scala": "Apache-2.0",
    "com.github.javaparser": "Apache-2.0 OR LGPL-3.0-or-later",
    "com.google.guava:failureaccess": "Apache-2.0",
    "com.lihaoyi": "MIT",
    "com.thesamet.scalapb": "Apache-2.0",
    "io.get-coursier": "Apache-2.0",
    "io.netty": "Apache-2.0",
    "org.apache.spark": "Apache-2.0",
    "org.eclipse.lsp4j": "EPL-2.0 OR BSD-3-Clause",
    "org.eclipse.xtend": "EPL-2.0",
    "org.eclipse.xtext": "EPL-2.0",
    "org.glassfish.jersey.containers": "EPL-2.0",
    "org.glassfish.jersey.core": "EPL-2.0",
    "org.glassfish.jersey.inject": "EPL-2.0",
    "org.scalameta": "BSD-3-Clause",
    "org.slf4j:jcl-over-slf4j": "Apache-2.0",
    "org.tpolecat": "MIT",
    # Images and Debian's packages: the main program's.
    "apache/iceberg-rest-fixture": "Apache-2.0",
    "clickhouse/clickhouse-server": "Apache-2.0",
    "grafana/grafana": "AGPL-3.0-only",
    "nginxinc/nginx-unprivileged": "BSD-2-Clause",
    "openjdk-17-jre-headless": "GPL-2.0-only WITH Classpath-exception-2.0",
    "postgres": "PostgreSQL",
    "procps": "GPL-2.0-or-later",
    "prom/alertmanager": "Apache-2.0",
    "prom/prometheus": "Apache-2.0",
    "python": "PSF-2.0",
    "redpandadata/redpanda": "BUSL-1.1",
    "versity/versitygw": "Apache-2.0",
}
# The Maven groups of jars that do not tell theirs.
GROUPS = {
    "class-path-util_2.13": "io.get-coursier",
    "interface": "io.get-coursier",
    "org.eclipse.lsp4j.generator": "org.eclipse.lsp4j",
    "org.eclipse.lsp4j.jsonrpc": "org.eclipse.lsp4j",
    "org.eclipse.xtend.lib": "org.eclipse.xtend",
    "org.eclipse.xtend.lib.macro": "org.eclipse.xtend",
    "org.eclipse.xtext.xbase.lib": "org.eclipse.xtext",
}


def is_allowed(expression: str, allowed: Container[str]) -> bool:
    """Whether each licence that holds, or one of those to choose from, is allowed.

    :param expression: in SPDX's form; one with parentheses is not understood, and not allowed
    """
    return all(any(name in allowed for name in part.split(" OR ")) for part in expression.split(" AND "))
