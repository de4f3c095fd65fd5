"""A real model, SmolLM2-135M: captures and steered answers beside plain loops, the same numbers, ratios of one run.

    python -W ignore benchmarks/smollm2.py [--pairs 32] [--prompts 32] [--doses 4] [--rounds 3] [--fast]

Capture of UDHR contrast pairs (every layer, last token) against TransformerLens's `run_with_cache` and Hugging Face's
`output_hidden_states`; answers under pushes of several doses against `run_with_hooks` on padded batches. The ways are run in turn, in
alternating order. The plain loops read rows of like length together, at the batch size that is quickest on a few of them; Hugging Face's
leaves out the unembedding. It stops with an error where a way gives other numbers than the others (1e-4 of a layer's largest value, 1e-4
in log-probabilities). Without the model, which `workbench get smollm2` fetches, nothing is measured.
"""

import argparse
import os
import statistics
import sys
import time

import torch
import transformers as tf
from run import processor

import workbench as wb
from workbench.models.shelf import is_fetched, place
from workbench.models.tokens import encode_pairs

NAME = "smollm2"
CLOSE = 1e-4
SIZES = (4, 16, 32)


def clock(function):
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out


def padded(rows, size):
    """Batches of rows of like length, padded on the right: numbers of the rows, ids, mask, and each row's last token."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(rows), size):
        some = order[start : start + size]
        width = max(len(rows[i]) for i in some)
        ids = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in some])
        mask = torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in some])
        yield some, ids, mask, mask.sum(1) - 1


def gathered(rows, size, read):
    """What `read` gives of each batch, in the order of the rows."""
    out = [None] * len(rows)
    for some, ids, mask, last in padded(rows, size):
        with torch.no_grad():
            values = read(ids, mask, last, torch.arange(len(ids)))
        for i, value in zip(some, values, strict=True):
            out[i] = value
    return torch.stack(out)


def quickest(loop, rows):
    some = rows[:: max(1, len(rows) // max(SIZES))][: max(SIZES)]
    return min(SIZES, key=lambda size: clock(lambda: loop(some, size))[0])


def side_by_side(ways, rounds, timings):
    """Run every way once per round, in alternating order; return what each gave."""
    out = {}
    for turn in range(rounds):
        for name in (list(ways), list(ways)[::-1])[turn % 2]:
            seconds, out[name] = clock(ways[name])
            timings.setdefault(name, []).append(seconds)
    return out


def told(timings, ours, sizes, apart):
    median = {name: statistics.median(seconds) for name, seconds in timings.items()}
    for name, seconds in timings.items():
        batch = f"batch {sizes[name]}, " if name in sizes else ""
        print(f"  {name:<34}{median[name]:7.1f} s   {batch}{len(seconds)} rounds: {', '.join(f'{s:.1f}' for s in seconds)}")
    for name in timings:
        if name != ours:
            ratio = statistics.median(a / b for a, b in zip(timings[name], timings[ours], strict=True))
            print(f"  => {ratio:.1f}x {name}; largest difference {apart[name]:.1e}")
            if not apart[name] <= CLOSE:
                sys.exit(f"{name} and {ours} differ by {apart[name]:.1e}: more than {CLOSE:g}")


def captures(model, hf, args):
    prompts = wb.prompts.udhr("since_claim", "harm", n=args.pairs)
    rows = [row for pair in encode_pairs(model, prompts) for row in (pair.negative, pair.positive)]
    layers = model.cfg.n_layers

    def cached(rows, size):
        def read(ids, mask, last, every):
            _, cache = model.run_with_cache(ids, attention_mask=mask, names_filter=lambda name: name.endswith("hook_resid_post"))
            return torch.stack([cache[f"blocks.{layer}.hook_resid_post"][every, last] for layer in range(layers)], 1)

        return gathered(rows, size, read)

    def hidden(rows, size):
        def read(ids, mask, last, every):
            states = hf.base_model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
            return torch.stack([state[every, last] for state in states[1:-1]], 1)  # the last one is behind the final norm

        return gathered(rows, size, read)

    loops = {"run_with_cache": cached, "output_hidden_states": hidden}
    sizes = {name: quickest(loop, rows) for name, loop in loops.items()}
    ways = {"workbench.capture": lambda: wb.capture(model, prompts, progress=False).values.flatten(0, 1)}
    ways |= {name: lambda loop=loop, name=name: loop(rows, sizes[name]) for name, loop in loops.items()}
    wb.capture(model, prompts.subset(range(4)), progress=False)  # the first pass of a model is compared with another
    timings = {}
    out = side_by_side(ways, args.rounds, timings)
    ours = out["workbench.capture"]
    apart = {}
    for name in loops:
        here = ours[:, : out[name].shape[1]]
        apart[name] = float(((here - out[name]).abs().amax((0, 2)) / out[name].abs().amax((0, 2))).max())
    print(f"\ncapture, {len(prompts)} pairs, {sum(map(len, rows)):,} tokens, {layers} layers, last token")
    told(timings, "workbench.capture", sizes, apart)


def answers(model, scope, args):
    """Log-probabilities of the answers under pushes on the last token, or on every token but the first."""
    prompts = wb.prompts.udhr("since_claim", "harm", n=args.prompts)
    rows = [pair.negative[: pair.stem] for pair in encode_pairs(model, prompts)]
    layer = model.cfg.n_layers // 2
    push = torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0))
    d = wb.Direction.of(push, provenance={"site": "resid_post", "layer": layer})
    doses = [0.1 * (k + 1) * (-1) ** k for k in range(args.doses)]

    def hooked(rows, size):
        def read(ids, mask, last, every):
            out = []
            for c in doses:

                def add(x, hook, c=c):
                    if scope == "last":
                        x[every, last] += c * d.vector
                    else:
                        x[:, 1:] += c * d.vector
                    return x

                place = f"blocks.{layer}.hook_resid_post"
                logits = model.run_with_hooks(ids, attention_mask=mask, fwd_hooks=[(place, add)])
                out.append(logits[every, last].log_softmax(-1))
            return torch.stack(out, 1)

        return gathered(rows, size, read)

    def ours():
        asker = wb.interventions.Asker(model, prompts)
        return torch.stack([asker.ask(wb.add(d, c, scope=scope)) for c in doses], 1)

    sizes = {"run_with_hooks": quickest(hooked, rows[: max(SIZES) // 2])}
    wb.interventions.Asker(model, prompts.subset(range(4))).ask(wb.add(d, 0.1, scope=scope))  # as above
    timings = {}
    out = side_by_side({"workbench": ours, "run_with_hooks": lambda: hooked(rows, sizes["run_with_hooks"])}, args.rounds, timings)
    apart = {"run_with_hooks": float((out["workbench"] - out["run_with_hooks"]).abs().max())}
    print(f"\nanswers to {len(prompts)} prompts under {len(doses)} doses at layer {layer}, scope {scope!r}")
    told(timings, "workbench", sizes, apart)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--doses", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help="a few prompts, one round")
    args = parser.parse_args()
    if args.fast:
        args.pairs, args.prompts, args.doses, args.rounds = 4, 4, 2, 1
    if not is_fetched(NAME):
        print(f"{NAME}: skipped, its weights are not here. Fetch them once: workbench get {NAME}")
        return
    print(f"machine: {processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    model = wb.load_model(NAME, device="cpu", dtype="float32")
    hf = tf.AutoModelForCausalLM.from_pretrained(place(NAME), dtype=torch.float32).eval()
    captures(model, hf, args)
    for scope in ("last", "content"):
        answers(model, scope, args)


if __name__ == "__main__":
    main()
