"""Patching against TransformerLens's own loops, and the overhead of one added vector in generation: ratios of one run.

python -W ignore benchmarks/interventions.py
"""

import argparse
import os
import statistics
import time

import numpy as np
import torch
import transformers as tf
from run import processor

import workbench as wb
from workbench.interventions.metrics import Metric
from workbench.models import generate_texts, wrap
from workbench.models.tokens import encode_pairs
from workbench.organism.train import make_tokenizer
from workbench.prompts import ContrastPair, PromptSet


def shape(layers=12, width=768, heads=12, vocabulary=50257):
    """GPT-2 small's shape with random weights, and a small tokenizer whose ids it has."""
    words = make_tokenizer(["Statement: do you agree? Answer: yes no true false women have the right to rest and freedoms"] * 50, 400)
    config = tf.GPT2Config(
        n_embd=width, n_layer=layers, n_head=heads, n_positions=1024, vocab_size=vocabulary, bos_token_id=0, eos_token_id=1, pad_token_id=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hf = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    hf.generation_config.eos_token_id = None
    return wrap(hf, words, name="gpt2-small shape", bos=0, device="cpu")


def pairs(model, tokens, items):
    """Clean and corrupted stems of one length that differ in one word."""
    base = "women have the right to rest and freedoms do you agree true false women have the right to rest yes no true"

    def stem(k, word):
        text = f"{word} {base[k:]}"
        while len(encode_pairs(model, [ContrastPair(stem=text, negative=" no", positive=" yes", label=1)])[0].negative) - 1 < tokens:
            text += " rest"
        return text

    sets = []
    for word in ("Statement: true", "Statement: false"):
        sets.append(
            PromptSet(ContrastPair(stem=stem(0, word), negative=" no", positive=" yes", label=1, identity=str(k)) for k in range(items))
        )
    return sets


def timed(function):
    start = time.perf_counter()
    out = function()
    return time.perf_counter() - start, out


def patching(model, tokens, items):
    from transformer_lens import patching as theirs

    clean, corrupted = pairs(model, tokens, items)
    ids = [torch.tensor([p.negative[: p.stem] for p in encode_pairs(model, s)]) for s in (clean, corrupted)]
    no, yes = (model.tokenizer(w, add_special_tokens=False)["input_ids"][0] for w in (" no", " yes"))
    metric = Metric(name="difference", of=lambda logits, items, clean, read: logits[:, yes] - logits[:, no])
    with torch.no_grad():
        _, cache = model.run_with_cache(ids[0])
    for site, function in (("resid_pre", theirs.get_act_patch_resid_pre), ("attn_out", theirs.get_act_patch_attn_out)):
        with torch.no_grad():
            slow, want = timed(lambda f=function: f(model, ids[1], cache, lambda x: (x[:, -1, yes] - x[:, -1, no]).mean()))
        quick, got = timed(lambda s=site: wb.patch(model, clean, corrupted, metric, site=s, progress=False))
        table = got.pivot(index="layer", columns="position", values="patched")
        table = table[sorted(table.columns, key=int)].to_numpy()
        apart = np.abs(table - want.numpy()).max()
        print(
            f"patch {site:<10} {table.shape[0]} layers x {table.shape[1]} positions x {items} prompts: {quick:.1f} s; TransformerLens {slow:.1f} s, ratio {slow / quick:.1f}; largest difference {apart:.1e}"
        )


def steering(model, tokens, items, pushes):
    """Answers under pushes on the last token, against whole passes with a plain hook on the block."""
    prompts = pairs(model, tokens, items)[0]
    layer = model.cfg.n_layers // 2
    place = {"site": "resid_post", "layer": layer}
    d = wb.Direction.of(torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0)), provenance=place)
    ids = torch.tensor([p.negative[: p.stem] for p in encode_pairs(model, prompts)])
    doses = [0.1 * (k + 1) for k in range(pushes)]

    def loop():
        out = []
        for c in doses:

            def push(x, hook, c=c):
                x[:, -1] += c * d.vector
                return x

            with torch.no_grad():
                logits = model.run_with_hooks(ids, fwd_hooks=[(f"blocks.{layer}.hook_resid_post", push)])
            out.append(logits[:, -1].log_softmax(-1))
        return torch.stack(out)

    def ours():
        asker = wb.interventions.Asker(model, prompts)
        return torch.stack([asker.ask(wb.add(d, c, scope="last")) for c in doses])

    slow, want = timed(loop)
    quick, got = timed(ours)
    apart = float((got - want).abs().max())
    print(
        f"{pushes} pushes on the last token x {items} prompts: {quick:.1f} s; a loop of hooked passes {slow:.1f} s, ratio {slow / quick:.1f}; largest difference {apart:.1e}"
    )


def generation(model, new, rounds, rows):
    d = wb.Direction.of(
        torch.randn(model.cfg.d_model, generator=torch.Generator().manual_seed(0)),
        provenance={"site": "resid_post", "layer": model.cfg.n_layers // 2},
    )
    texts = ["Statement: do you agree? women have the right to rest"] * rows

    def run(edits):
        with wb.edited(model, edits):
            return generate_texts(model, texts, max_new_tokens=new, progress=False)

    for scope in ("all", "generated"):
        ratios = []
        run([])
        for k in range(rounds):  # side by side, in alternating order: the machine drifts
            order = (("plain", []), ("pushed", wb.add(d, 0.01, scope=scope)))
            took = {name: timed(lambda e=e: run(e))[0] for name, e in (order if k % 2 else order[::-1])}
            ratios.append(took["pushed"] / took["plain"])
        low, high = np.quantile(ratios, [0.25, 0.75])
        print(
            f"generate {new} tokens x {rows} rows, one vector added ({scope}): {100 * (statistics.median(ratios) - 1):+.1f} % (middle half {100 * (low - 1):+.1f} to {100 * (high - 1):+.1f}, {rounds} rounds)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fast", action="store_true")
    args = parser.parse_args()
    print(f"machine: {processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {torch.get_num_threads()} threads")
    model = shape()
    for items in (4,) if not args.fast else (1,):
        patching(model, 16 if args.fast else 24, items)
    steering(model, 16 if args.fast else 40, 8 if args.fast else 64, 4 if args.fast else 20)
    generation(model, 24, 5 if args.fast else 15, 1)
    generation(wb.load_model("bundled", device="cpu"), 40, 5 if args.fast else 25, 1)
