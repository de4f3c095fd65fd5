"""How long until something happens: import, help, lists; each in a process of its own, the middle of several runs.

python benchmarks/startup.py [--fast]
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
# what was asked for, in seconds; what has none is there for reading
LIMITS = {"import workbench": 1.5, "workbench --help": 0.5, "python -m workbench.cli --help": 0.5}
SLOW = "workbench.load_model, the attribute"


def processor():
    # not from `run.py`, which imports torch and the package: this process should start as lightly as those it measures
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def commands():
    python = sys.executable
    script = shutil.which("workbench", path=str(Path(python).parent))
    out = {
        "python -c pass": [python, "-c", "pass"],
        "import workbench": [python, "-c", "import workbench"],
        "python -m workbench.cli --help": [python, "-m", "workbench.cli", "--help"],
        "python -m workbench.cli studies": [python, "-m", "workbench.cli", "studies"],
        "python -m workbench.cli models": [python, "-m", "workbench.cli", "models"],
        SLOW: [python, "-c", "import workbench; workbench.load_model"],
    }
    return out | ({"workbench --help": [script, "--help"]} if script else {})


def timed(command, repeats):
    """Seconds of each run after one that warms the disk's cache, and whether it worked."""
    out = []
    for k in range(repeats + 1):
        start = time.perf_counter()
        done = subprocess.run(command, env=ENV, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return out, done.stderr.strip().splitlines()[-1:]
        if k:
            out.append(time.perf_counter() - start)
    return out, []


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true", help="three runs of each")
    repeats = 3 if parser.parse_args(arguments).fast else 7
    print(f"machine: {processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    print(f"seconds: middle of {repeats} runs after a warm-up (least to most)\n")
    over = []
    for name, command in commands().items():
        seconds, error = timed(command, repeats)
        if error:
            print(f"{name:<36}  failed: {error[0]}")
            over.append(name)
            continue
        middle, limit = statistics.median(seconds), LIMITS.get(name)
        verdict = "" if limit is None else f"limit {limit:.1f}: {'kept' if middle < limit else 'OVER'}"
        note = "imports torch and TransformerLens" if name == SLOW else ""
        print(f"{name:<36}  {middle:7.3f} ({min(seconds):.3f} to {max(seconds):.3f})  {verdict}{note}")
        over += [name] if verdict.endswith("OVER") else []
    if over:
        print(f"\nover or failed: {', '.join(over)}; python -X importtime -c 'import workbench.cli' says what takes how long")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
