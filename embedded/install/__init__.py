"""Set-up (`make setup`): standard library only, because it runs before anything is installed."""

import sys
from pathlib import Path

# Also before `k2_offload` can be found in any environment; of it, set-up takes what needs the standard library only.
sys.path.append(str(Path(__file__).parents[2] / "plugins"))
