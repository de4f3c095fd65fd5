"""What the machine has: cores, memory, a browser that draws, a network that answers."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path


def cores() -> int:
    """Return how many cores this process may run on."""
    # in a container a process may run on fewer cores than the machine has
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def memory() -> tuple[int, int]:
    """Return total and available bytes of memory: of the machine, or of the container where that has less; 0 where unknown."""
    total = available = 0
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
        total, available = sizes.get("MemTotal", 0), sizes.get("MemAvailable", 0)
    if not total:
        with suppress(OSError, ValueError, AttributeError):  # elsewhere than on Linux
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # a container's own limit; caches can be given back and count as free
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        facts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        left = limit - used + int(facts.get("inactive_file", 0))
        total, available = min(total or limit, limit), min(available or left, left)
    return total, available


def draws(path: str, seconds: float = 8.0) -> bool:
    """Whether a browser starts without a window and writes a picture."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        picture = Path(folder) / "drawn.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=64,64", f"--user-data-dir={folder}/profile"]
        command = [path, *options, f"--screenshot={picture}", "data:text/html,drawn"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            # its helpers too, which it started in the same session
            (os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill())
            process.wait()
            return False
        return picture.is_file() and picture.stat().st_size > 0


def reachable(address: str, seconds: float = 3.0) -> bool:
    """Whether an address answers one request in time.

    Args:
        address: A URL.
        seconds: How long it is waited for.
    """
    import httpx

    reached: list[bool] = []

    def ask() -> None:
        with suppress(httpx.HTTPError):
            reached.append(httpx.head(address, timeout=seconds).status_code < 500)

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name has no timeout of its own
    asking.start()
    asking.join(seconds + 0.5)
    return bool(reached and reached[0])
