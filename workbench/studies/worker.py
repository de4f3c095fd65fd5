"""A worker of a sweep as a process of its own: `python -m workbench.studies.worker FOLDER CACHE`."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from .grid import work

if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    work(Path(sys.argv[1]), Path(sys.argv[2]))
