"""Makes the synthetic trainings of `families.py` importable under any import mode."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
