"""`make bench`: every number is a median of repeated runs, side by side in one process, printed with the machine.

Nothing here is asserted: timings are for reading.
"""

import os
import platform
import statistics
import subprocess
import sys
import time

import torch

import workbench as wb
from workbench.models.tokens import encode_pairs


def timed(function, repeats=5):
    function()  # warm up
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def processor():
    try:
        with open("/proc/cpuinfo") as handle:  # noqa: PTH123
            return next(line.split(":")[1].strip() for line in handle if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    print(f"machine: {processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    rows = []
    model = wb.load_model("bundled", device="cpu")
    prompts = wb.prompts.udhr("since_claim", "harm", n=256)
    ids = [row for pair in encode_pairs(model, prompts) for row in (pair.negative, pair.positive)]

    def one_by_one():
        for row in ids:
            model.run_with_cache(torch.tensor([row]), names_filter=lambda name: name.endswith("hook_resid_post"))

    ours = timed(lambda: wb.capture(model, prompts, progress=False), 3)
    loop = timed(one_by_one, 1)
    rows.append(
        ("capture 256 pairs, all layers, last token", f"{ours:.2f} s", f"{loop / ours:.1f}x a run_with_cache loop, one prompt at a time")
    )

    acts = wb.capture(model, prompts, progress=False)
    x, y = acts.values[:, 1], acts.values[:, 0]
    from workbench.probes import fit_ccs, fit_ccs_layers

    together = timed(lambda: fit_ccs_layers(x, y, epochs=300), 3)
    apart = timed(lambda: [fit_ccs(x[:, k], y[:, k], epochs=300) for k in range(x.shape[1])], 3)
    rows.append(("CCS, 6 layers x 10 restarts, 300 steps", f"{together:.2f} s", f"{apart / together:.1f}x the same layer by layer"))

    for name, code in (
        ("import workbench", "import workbench"),
        ("workbench --help", "import workbench.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: pass"),
    ):
        seconds = timed(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True))
        rows.append((name, f"{seconds:.2f} s", ""))
    width = max(len(r[0]) for r in rows)
    for name, value, note in rows:
        print(f"{name:<{width}}  {value:>8}  {note}")


if __name__ == "__main__":
    main()
