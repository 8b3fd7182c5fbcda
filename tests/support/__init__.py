"""What tests share beyond fixtures: they use this instead of what the code keeps to itself."""

from tests.support.cycles import Cycle, build_cycle, table_file, table_spec
from tests.support.stack import SharedStack, free_ports, free_stack_ports

__all__ = ["Cycle", "SharedStack", "build_cycle", "free_ports", "free_stack_ports", "table_file", "table_spec"]
