"""Which test files take longest."""

from __future__ import annotations

SLOWEST_FILES = (
    "tests/stack/k2_offload/cli/test_commands.py",
    "tests/stack/k2_offload/test_scheduler.py",
    "tests/stack/k2_offload/test_fault_matrix.py",
    "tests/stack/k2_offload/test_nine_tables.py",
    "tests/stack/k2_offload/cli/test_watermark.py",
    "tests/stack/k2_offload/test_network.py",
    "tests/stack/k2_offload/test_cycle.py",
    "tests/stack/k2_offload/test_maintenance.py",
    "tests/stack/k2_offload/test_heal.py",
    "tests/stack/k2_offload/test_damage.py",
    "tests/stack/k2_offload/cli/test_run.py",
    "tests/stack/k2_offload/cli/test_heal.py",
    "tests/stack/k2_offload/test_readers.py",
    "tests/stack/k2_offload/test_races.py",
    "tests/stack/k2_offload/test_workers.py",
    "tests/unit/k2_offload/test_mutations.py",
    "tests/unit/k2_offload/test_model.py",
    "tests/stack/k2_offload/test_stall.py",
    "tests/stack/k2_offload/test_simulation_rules.py",
    "tests/stack/embedded/test_demo.py",
)
"""They are begun first when there are several workers, so that none is left alone with a long one at the end."""
