"""The capture engine against a `run_with_cache` loop, Hugging Face's hidden states, and the floor: what the arithmetic costs.

    python benchmarks/capture.py [--only speed,many,memory,kill,bf16,gpu] [--items 512] [--repeats 3] [--baselines 1]

Random weights in the shape of GPT-2 small, UDHR contrast pairs, all 12 layers, last token, store on disk. The ways are run
in turn, side by side in one process; numbers are medians. Nothing here is asserted.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers as tf

import workbench as wb
from workbench.activations.planner import build
from workbench.models import wrap
from workbench.models.tokens import encode_pairs
from workbench.prompts import ContrastPair, PromptSet

TEMPLATES = {"base_long": None, "since_claim": "harm"}
SHAPES = [(768, 2304), (768, 768), (768, 3072), (3072, 768)]  # the matrices of one block of GPT-2 small


def clock(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def small(dtype=torch.float32):
    """GPT-2 small with random weights; its tokens are those of the bundled model."""
    tokens = wb.load_model("bundled", device="cpu").tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = tf.GPT2Config(bos_token_id=0, eos_token_id=1)
        models = [tf.AutoModelForCausalLM.from_config(config, attn_implementation=a).to(dtype).eval() for a in ("eager", "sdpa")]
    models[1].load_state_dict(models[0].state_dict())
    return wrap(models[0], tokens, name="GPT-2 small, random", bos=0, device="cpu"), models[1]


def rows_of(model, prompts):
    return [row for x in encode_pairs(model, prompts) for row in (x.negative, x.positive)]


def padded(rows, size):
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(rows), size):
        some = [rows[i] for i in order[start : start + size]]
        width = max(map(len, some))
        ids = torch.tensor([r + [2] * (width - len(r)) for r in some])
        mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in some])
        yield ids, mask, torch.tensor([len(r) - 1 for r in some])


def with_cache(model, rows, size):
    """TransformerLens: every layer's residual stream at the last token, unpadded position by position."""
    out = []
    for ids, mask, last in padded(rows, size):
        _, cache = model.run_with_cache(ids, attention_mask=mask, names_filter=lambda n: n.endswith("hook_resid_post"))
        out.append(torch.stack([cache[f"blocks.{i}.hook_resid_post"][torch.arange(len(ids)), last] for i in range(12)], 1))
    return torch.cat(out)


def hidden(hf, rows, size):
    out = []
    with torch.no_grad():
        for ids, mask, last in padded(rows, size):
            states = hf(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            out.append(torch.stack([s[torch.arange(len(ids)), last] for s in states[1:]], 1))
    return torch.cat(out)


def best_size(function, rows, sizes):
    some = random.Random(0).sample(rows, min(len(rows), max(sizes)))
    return min(sizes, key=lambda size: clock(lambda: function(some, size)))


def rate(tokens=2048, dtype=torch.float32, device="cpu", shapes=SHAPES, repeats=7):
    """FLOP per second of one block's matrices at `tokens` rows, as the model multiplies them (with bias)."""
    pairs = [(torch.randn(tokens, i, dtype=dtype, device=device), torch.randn(i, o, dtype=dtype, device=device)) for i, o in shapes]
    bias = [torch.zeros(o, dtype=dtype, device=device) for _, o in shapes]

    def once():
        for (x, w), b in zip(pairs, bias, strict=True):
            torch.addmm(b, x, w)
        if device == "cuda":
            torch.cuda.synchronize()

    once()
    return 2 * tokens * sum(i * o for i, o in shapes) / statistics.median(clock(once) for _ in range(repeats))


def floor(trie, flops, layers=12, width=768, parameters=None):
    """Seconds that the arithmetic takes: matrices once per distinct prefix, scores and weighted sums over its ancestors."""
    parameters = parameters or layers * sum(i * o for i, o in SHAPES)
    attention = 4 * layers * width * float((trie.depth + 1).sum())
    return (2 * parameters * len(trie) + attention) / flops


def compare(name, model, hf, prompts, args, share=1.0):
    rows = rows_of(model, prompts)
    some = rows if share == 1.0 else random.Random(0).sample(rows, int(len(rows) * share))
    trie = build(rows, [()] * len(rows))
    tries = (8, 16, 32, 64) if len(rows[0]) < 200 else (1, 4)
    sizes = {
        "run_with_cache": best_size(lambda r, s: with_cache(model, r, s), some, tries),
        "hidden_states": best_size(lambda r, s: hidden(hf, r, s), some, tries),
    }
    times = {"workbench": [], "run_with_cache": [], "hidden_states": [], "floor": []}
    with tempfile.TemporaryDirectory() as folder:
        wb.capture(model, prompts.subset(range(8)), progress=False)  # warm up: the trial of the trunk
        for turn in range(args.repeats):
            times["floor"].append(floor(trie, rate()))
            store = Path(folder) / f"{turn}"
            times["workbench"].append(clock(lambda store=store: wb.capture(model, prompts, store=store, progress=False)))
            if turn < args.baselines:
                times["run_with_cache"].append(clock(lambda: with_cache(model, some, sizes["run_with_cache"])) / share)
                times["hidden_states"].append(clock(lambda: hidden(hf, some, sizes["hidden_states"])) / share)
        again = clock(lambda: wb.capture(model, prompts, store=store, progress=False))
        acts = wb.capture(model, prompts, store=store, progress=False)
        index = [rows.index(r) for r in some[:64]]
        want = with_cache(model, [rows[i] for i in index], 1)
        order = sorted(range(len(index)), key=lambda i: len(rows[index[i]]))
        got = acts.values.flatten(0, 1)[[index[i] for i in order]]
        error = float(((got - want).abs().amax((0, 2)) / want.abs().amax((0, 2))).max())
    median = {k: statistics.median(v) for k, v in times.items()}
    print(
        f"\n{name}: {len(prompts)} items x 2 variants, {trie.total:,} tokens, {len(trie):,} distinct prefixes ({trie.total / len(trie):.2f}x)"
    )
    said = "" if share == 1.0 else f", on a {share:.0%} sample of the rows, scaled"
    for way in ("run_with_cache", "hidden_states"):
        print(f"  {way:<28}{median[way]:8.1f} s   batch {sizes[way]}, {args.baselines} run(s){said}")
    print(
        f"  {'workbench.capture, to a store':<28}{median['workbench']:7.1f} s   {args.repeats} runs: {', '.join(f'{t:.1f}' for t in times['workbench'])}"
    )
    print(f"  {'floor':<28}{median['floor']:8.1f} s   at the matrix rate measured between the runs")
    print(
        f"  => {median['run_with_cache'] / median['workbench']:.1f}x run_with_cache, {median['hidden_states'] / median['workbench']:.1f}x "
        f"hidden_states, {median['workbench'] / median['floor']:.2f}x the floor"
    )
    print(
        f"  rerun of the finished capture: {again:.2f} s; largest difference from run_with_cache: {error:.1e} of the layer's largest value"
    )


def many_shot():
    """64 shared demonstrations, 256 endings."""
    shown = wb.prompts.udhr("base_short", n=64, seed=5)
    head = " ".join(f'"{p.right}" {(p.negative, p.positive)[p.label].strip()}.' for p in shown)
    asked = wb.prompts.udhr("base_short", n=256, seed=6)
    return PromptSet(
        [ContrastPair(stem=f"{head} {p.stem}", negative=p.negative, positive=p.positive, label=p.label) for p in asked], "many-shot"
    )


MEMORY = """
import json, resource, sys, tempfile
sys.path.insert(0, sys.argv[2])
import capture as bench, workbench as wb
model, hf = bench.small(); del hf
prompts = wb.prompts.udhr("base_short", n=int(sys.argv[1]), seed=0)
with tempfile.TemporaryDirectory() as folder:
    acts = wb.capture(model, prompts, store=folder + "/s", progress=False)
    print(json.dumps([len(prompts), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def memory(sizes=(512, 8192)):
    peaks = []
    for size in sizes:
        out = subprocess.run(
            [sys.executable, "-c", MEMORY, str(size), str(Path(__file__).parent)], capture_output=True, text=True, check=True
        )
        peaks.append(json.loads(out.stdout.strip().splitlines()[-1])[1])
    print("\npeak memory of a whole process (GPT-2 small, 12 layers, store on disk)")
    for size, peak in zip(sizes, peaks, strict=True):
        print(f"  {size:>6,} items{peak:10.0f} MiB")
    print(f"  => {peaks[-1] / peaks[0]:.3f}x for {sizes[-1] // sizes[0]}x the items")


CHILD = """
import sys, workbench as wb
wb.capture(wb.load_model("bundled", device="cpu"), wb.prompts.udhr("since_claim", "harm", n=600), store=sys.argv[1], shard_items=10, progress=False)
"""


def kill(times=10, seed=0):
    """Kill a capture at ten random moments, let it finish, compare with an undisturbed one byte by byte."""
    draw = random.Random(seed)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", CHILD, f"{folder}/whole"], env=environment, check=True, capture_output=True)
        moments = []
        for _ in range(times):
            process = subprocess.Popen([sys.executable, "-c", CHILD, f"{folder}/killed"], env=environment, stderr=subprocess.DEVNULL)
            more = len(list(Path(folder).glob("killed/*.safetensors"))) + draw.randint(1, 6)
            while len(list(Path(folder).glob("killed/*.safetensors"))) < more and process.poll() is None:
                time.sleep(0.002)
            time.sleep(draw.uniform(0, 0.1))  # in the midst of a pass, a write, a rename
            process.send_signal(signal.SIGKILL)
            process.wait()
            moments.append(len(list(Path(folder).glob("killed/*.safetensors"))))
        subprocess.run([sys.executable, "-c", CHILD, f"{folder}/killed"], env=environment, check=True, capture_output=True)
        shards = [{p.name: p.read_bytes() for p in Path(folder).glob(f"{k}/*.safetensors")} for k in ("whole", "killed")]
    print(f"\nkilled at {times} random moments (shards there after each: {', '.join(map(str, moments))} of {len(shards[0])})")
    print(f"  => the same files, the same bytes: {shards[0] == shards[1]}")


def bf16():
    prompts = wb.prompts.udhr("base_long", n=256)
    out, times, rates = {}, {}, {}
    for dtype in (torch.float32, torch.bfloat16):
        model, _ = small(dtype)
        wb.capture(model, prompts.subset(range(8)), progress=False)
        times[dtype] = statistics.median(clock(lambda model=model: wb.capture(model, prompts, progress=False)) for _ in range(3))
        out[dtype] = wb.capture(model, prompts, progress=False).values
        rates[dtype] = rate(dtype=dtype)
    a, b = out.values()
    error = ((a - b).abs().amax((0, 1, 3)) / a.abs().amax((0, 1, 3))).max()
    amx = "amx_bf16" in Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else False
    print(f"\nbfloat16 on this processor ({'with' if amx else 'without'} AMX), base_long, 256 items")
    for dtype in times:
        print(f"  {dtype!s:<18}{times[dtype]:7.1f} s   matrix rate {rates[dtype] / 1e9:,.0f} GFLOP/s")
    fast, slow = times[torch.bfloat16], times[torch.float32]
    print(f"  => {slow / fast:.2f}x; largest difference from float32 {float(error):.1e} of the layer's largest value")


def gpu():
    """A 7B shape in bfloat16, as a fraction of the matrix rate measured there."""
    tokens = wb.load_model("bundled", device="cpu").tokenizer
    config = tf.LlamaConfig(hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32000)
    with torch.device("cuda"):
        hf = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.bfloat16)
    model = wrap(hf.eval(), tokens, name="7B shape, random", bos=0, device="cuda")
    shapes = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    for template, claim in TEMPLATES.items():
        prompts = wb.prompts.udhr(template, claim, n=2048)
        trie = build(rows := rows_of(model, prompts), [()] * len(rows))
        wb.capture(model, prompts.subset(range(8)), layers=[31], progress=False)
        seconds = statistics.median(clock(lambda p=prompts: wb.capture(model, p, layers=[8, 16, 24, 31], progress=False)) for _ in range(3))
        flops = rate(16384, torch.bfloat16, "cuda", shapes)
        least = floor(trie, flops, layers=32, width=4096, parameters=32 * sum(i * o for i, o in shapes))
        print(
            f"\n{torch.cuda.get_device_name()}, {template}: {len(trie) / seconds:,.0f} distinct tokens/s, {seconds / least:.2f}x the floor"
        )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="speed,many,memory,kill,bf16,gpu")
    parser.add_argument("--items", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--baselines", type=int, default=1, help="runs of each baseline (they are slow)")
    parser.add_argument("--sample", type=float, default=1.0, help="share of the rows that a baseline run reads, scaled up")
    args = parser.parse_args(arguments)
    parts = args.only.split(",")
    if {"speed", "many"} & set(parts):
        model, hf = small()
        if "speed" in parts:
            for template, claim in TEMPLATES.items():
                compare(template, model, hf, wb.prompts.udhr(template, claim, n=args.items), args, args.sample)
        if "many" in parts:
            compare("many-shot", model, hf, many_shot(), args, share=1 / 32)
    if "memory" in parts:
        memory()
    if "kill" in parts:
        kill()
    if "bf16" in parts:
        bf16()
    if "gpu" in parts and torch.cuda.is_available():
        gpu()


if __name__ == "__main__":
    main()
