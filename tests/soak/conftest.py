"""The soak runs on a stack as the other tests do."""

from tests.stack.conftest import stack  # noqa: F401
