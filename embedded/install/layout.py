"""Where set-up puts things below a checkout, and which lock file makes which environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedded.install.steps import SetupError

ROOT = Path(__file__).resolve().parent.parent.parent
DEFAULT_CLICKHOUSE_VERSION = "26.9"


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the lock files it is made from."""

    title: str
    path: Path
    locks: tuple[Path, ...]
    has_pip: bool = False

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.path / "bin" / "python"


@dataclass(frozen=True)
class Layout:
    """Everything set-up makes, for one checkout and one ClickHouse version."""

    root: Path
    airflow: Environment
    spark: Environment
    clickhouse: Environment
    bench: Environment
    jars: Path
    requirements: Path
    logs: Path

    @property
    def bootstrap(self) -> Path:
        """The lock file of what installs the rest: uv, and setuptools for the few packages that come as source."""
        return self.requirements / "bootstrap.txt"

    @property
    def class_archive(self) -> Path:
        """The Java classes of an offload job, ready to be mapped into memory."""
        return self.jars.with_name("class-archive") / "offload.jsa"

    @property
    def alertmanager(self) -> Path:
        """What sends alerts to people, for tests."""
        return self.jars.with_name("alertmanager") / "alertmanager"

    @property
    def object_store(self) -> Path:
        """The S3 server, for tests."""
        return self.jars.with_name("object-store") / "versitygw"

    @property
    def rest_catalog(self) -> Path:
        """The jars of the REST catalog's server, for tests."""
        return self.jars.with_name("rest-catalog")

    @property
    def s3_jars(self) -> Path:
        """What Spark loads beside :attr:`jars` for a warehouse on S3."""
        return self.jars.with_name("s3-jars")

    @property
    def spark_jars(self) -> str:
        """The jars' paths, with commas between, as the setting of the same name takes them."""
        return ",".join(str(jar) for jar in sorted(self.jars.glob("*.jar")))

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The environments in the order of their making: the first one holds the installer."""
        return (self.airflow, self.spark, self.clickhouse)

    @classmethod
    def of(cls, root: Path, clickhouse_version: str) -> Layout:
        """Return the layout of the checkout at `root`.

        :raises SetupError: no lock file for this ClickHouse version
        """
        requirements = root / "requirements"
        clickhouse_lock = requirements / f"clickhouse-{clickhouse_version}.txt"
        if not clickhouse_lock.is_file():
            known = sorted(path.stem.removeprefix("clickhouse-") for path in requirements.glob("clickhouse-*.txt"))
            raise SetupError(
                f"K2_CLICKHOUSE_VERSION={clickhouse_version}: no such version here. Choose one of: {', '.join(known)}."
            )
        state = root / ".state"
        bootstrap = requirements / "bootstrap.txt"
        return cls(
            root=root,
            airflow=Environment(
                title="Airflow, command line and tests",
                path=root / ".venv",
                locks=(root / "requirements.txt", requirements / "dev.txt", bootstrap),
                has_pip=True,
            ),
            spark=Environment(
                title="Spark",
                path=state / "spark-venv",
                locks=(requirements / "spark.txt", requirements / "coverage.txt"),
            ),
            clickhouse=Environment(
                title=f"ClickHouse {clickhouse_version}",
                path=state / f"clickhouse-venv-{clickhouse_version}",
                locks=(clickhouse_lock,),
            ),
            bench=Environment(
                title="Tools to compare with", path=state / "bench-venv", locks=(requirements / "bench.txt",)
            ),
            jars=state / "jars",
            requirements=requirements,
            logs=state / "logs",
        )
