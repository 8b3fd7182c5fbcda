# K2 offload. `make` shows what there is to type; every target does the set-up it needs.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup ready prometheus up down status demo k2 airflow test test-unit test-stack test-stack-real test-kafka soak year month runbooks bench lint format lock wheel sbom clean

PYTHON ?=
PYTEST := .venv/bin/python -m pytest
# Coverage and its floor are those of all tests, and of nothing less.
MEASURED := --cov --cov-report=term
# Two workers, with a stack each: most tests wait for processes to start. The tests of a file stay together.
SIDE_BY_SIDE = -n $(or $(WORKERS),2) --dist loadfile --no-loadscope-reorder
RUNBOOKS := tests/stack/k2_offload/runbooks
FIVE_SCENARIOS := --ignore $(RUNBOOKS)/scenarios
LOCK   := .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header$(if $(UPGRADE), --upgrade)

# Run set-up with PYTHON=…, else with the Python that .venv has (so that what was chosen once stays chosen), else with the
# newest one on PATH that the lock files cover. Where none does, set-up itself says what is missing.
define install
for python in $(PYTHON) .venv/bin/python python3.14 python3.13 python3.12 python3.11 python3; do \
  "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && break; \
done; \
command -v "$$python" >/dev/null || \
  { echo "Python was not found. On Debian or Ubuntu: sudo apt-get install python3 python3-venv" >&2; exit 1; }; \
exec "$$python" -m embedded.install
endef

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Ports and state: K2_AIRFLOW_PORT=8080 K2_POSTGRES_PORT=15432 K2_CLICKHOUSE_NATIVE_PORT=19000"
	@echo "                   K2_CLICKHOUSE_HTTP_PORT=18123 K2_CLICKHOUSE_VERSION=26.9 K2_STATE_DIR=.state"

setup: ## Install everything below this folder (.venv, .state), pinned by checksum
	@$(install)

# What the other targets need: the same, silent when there is nothing to do.
ready:
	@$(install) --quiet

# What tests of alerts need besides.
prometheus: ready
	@.venv/bin/python -m embedded.install.prometheus

up: ready ## Start the embedded stack: Postgres, ClickHouse, Airflow with its UI
	@.venv/bin/python -m embedded.stack up $(ARGS)

down: ## Stop the embedded stack; data stays
	@if [ -x .venv/bin/python ]; then .venv/bin/python -m embedded.stack down; else echo "Nothing is installed, so nothing runs."; fi

status: ready ## Show what runs, where, and where its log is
	@.venv/bin/python -m embedded.stack status $(ARGS)

demo: ready ## Two offload cycles of all nine tables and a heal, end to end; one to two minutes
	@.venv/bin/python -m embedded.demo $(ARGS)

k2: ready ## The command line: make k2 ARGS="status"
	@.venv/bin/k2 $(ARGS)

airflow: ready ## Airflow's own command: make airflow ARGS="dags test k2_offload_bronze"
	@environment="$$(.venv/bin/python -m embedded.stack env)" && eval "$$environment" && airflow $(ARGS)

test: prometheus ## All tests: unit tests and those on an embedded stack of their own; says what they cover (WORKERS=2)
	@rm -rf .state/coverage
	@$(PYTEST) $(SIDE_BY_SIDE) $(if $(ARGS),,$(MEASURED)) tests/unit tests/stack $(FIVE_SCENARIOS) $(ARGS)

test-unit: prometheus ## Unit tests only, without the model's searches: about a minute, no stack
	@$(PYTEST) $(SIDE_BY_SIDE) -m "not search" tests/unit $(ARGS)

test-stack: prometheus ## Tests on an embedded stack only
	@$(PYTEST) $(SIDE_BY_SIDE) tests/stack $(FIVE_SCENARIOS) $(ARGS)

test-stack-real: ## Tests with a real S3 server, Iceberg REST catalog and Alertmanager; needs Go 1.25 or newer
	@$(install) --quiet --with-real-servers
	@$(PYTEST) tests/real $(ARGS)

test-kafka: ready ## Tests with a real Apache Kafka, which feeds the ClickHouse engine; four minutes
	@.venv/bin/python -m embedded.install.broker
	@$(PYTEST) tests/kafka $(ARGS)

soak: ready ## Seven days of cycles with random faults, compared row by row; three hours (SEED=1 CYCLES=60 MINUTES=30)
	@K2_MODEL_EXAMPLES=1000 $(PYTEST) tests/unit/k2_offload/test_model.py tests/unit/k2_offload/test_mutations.py
	@K2_SOAK_SEED=$(SEED) K2_SOAK_CYCLES=$(or $(CYCLES),672) K2_SOAK_MINUTES=$(MINUTES) $(PYTEST) tests/soak/test_seven_days.py tests/soak/test_at_once.py -s -p no:logging

year: ready ## A year of nine tables, brought by k2 backfill beside live cycles and killed ten times; 40 minutes (DAYS=60 KILLS=10 SEED=1)
	@K2_DAYS=$(DAYS) K2_KILLS=$(KILLS) K2_SOAK_SEED=$(SEED) $(PYTEST) tests/soak/test_year.py -s -p no:logging
month: ready ## A month in which ClickHouse forgets only what is proven, each row looked for; one to two hours (SEED=1 DAYS=6)
	@K2_SOAK_SEED=$(SEED) K2_DAYS=$(DAYS) K2_SOAK_MINUTES=$(MINUTES) $(PYTEST) tests/soak/test_month.py -s -p no:logging

runbooks: prometheus ## Break a stack by each scenario, let its alert fire, follow its runbook; writes docs/runbooks/results.md
	@.venv/bin/python -m embedded.install.broker
	@K2_RUNBOOK_RESULTS=docs/runbooks/results.md $(PYTEST) $(SIDE_BY_SIDE) $(RUNBOOKS) $(ARGS)

bench: ## This project against what else moves rows, side by side; writes docs/benchmarks*.md (ARGS="--rounds 5")
	@$(install) --quiet --with-bench
	@.venv/bin/python -m bench $(ARGS)

lint: ready ## ruff, mypy, who imports whom, and the files of the containers
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	PYTHONPATH=include/spark_jobs .venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker-compose.yaml
	.venv/bin/hadolint docker/Dockerfile

format: ready ## Put imports and layout in order
	.venv/bin/ruff check --select I --fix
	.venv/bin/ruff format

lock: ready ## Compile the lock files from pyproject.toml (UPGRADE=1 takes newer versions)
	$(LOCK) pyproject.toml --extra broker -o requirements.txt
	$(LOCK) --group dev -c requirements.txt -o requirements/dev.txt
	$(LOCK) --group bootstrap -c requirements.txt -c requirements/dev.txt -o requirements/bootstrap.txt
	$(LOCK) --group spark -o requirements/spark.txt
	$(LOCK) --group coverage -c requirements/dev.txt -o requirements/coverage.txt
	$(LOCK) --group bench -o requirements/bench.txt
	$(LOCK) --group clickhouse-26.9 -o requirements/clickhouse-26.9.txt
	$(LOCK) --group clickhouse-25.8 -o requirements/clickhouse-25.8.txt

wheel: ready ## Build the wheel in dist/: DAGs, jobs, SQL, an example of a table file and the command k2
	@.venv/bin/python -m hatchling build --target wheel

sbom: ready ## Write what ships: the bill of materials in dist/ (CycloneDX), and the licences in docs/licences.md
	@.venv/bin/python -m embedded.sbom

clean: down ## Stop the stack and remove everything it made, data included
	rm -rf .venv .state dist
