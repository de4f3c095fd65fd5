"""CCS against its closed forms on a model's own activations: time, held-out accuracy, agreement with CCS; side by side in one run.

`python benchmarks/closed_form.py --model bundled` (or smollm2). The pairs are UDHR statements without a claim, the split of the studies.
"""

import argparse
import statistics
import time

import torch

import workbench as wb
from workbench.core.stats import proportion
from workbench.core.tables import units_of
from workbench.evaluation import choose_answers
from workbench.models import info
from workbench.prompts import udhr_split

METHODS = ("ccs", "drc", "rrc", "polarity_ccs")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--every", type=int, default=1, help="read every so many layers, counted from the last")
    parser.add_argument("--repeats", type=int, default=3, help="times are medians of so many fits")
    args = parser.parse_args()
    model = wb.load_model(args.model)
    count = info(model).n_layers
    layers = list(range(count - 1, -1, -args.every))[::-1]
    split = udhr_split(model, seed=0)
    answers = choose_answers(model)
    sides = [
        wb.prompts.udhr(template="base_short", claim=None, n=n, answers=answers, model=model, chat=False, seed=0, split=split, side=side)
        for n, side in ((args.train, "train"), (args.test, "test"))
    ]
    acts = wb.capture(model, sides[0] + sides[1], layers=layers, progress=False)
    side = split.side(acts.rows)
    train, held = acts.subset(side == "train"), acts.subset(side == "test")
    people = units_of(held.rows)
    print(
        f"{args.model}: {len(train)} training and {len(held)} held-out pairs, d_model {acts.shape[-1]}, {torch.get_num_threads()} threads"
    )
    print("| layer | method | seconds | times CCS's | accuracy | agreement with CCS |\n|---|---|---|---|---|---|")
    again = wb.probes.fit_layers(train, "ccs", seed=1)
    for layer in layers:
        here, read = train.where(layers=[layer]), held.where(layers=[layer])
        x = here.layer(layer)
        other = wb.probes.opposites(here.rows)
        first, base = None, 1.0
        for method in METHODS:
            fit = getattr(wb.probes, f"fit_{method}", None) or wb.probes.fit_polarity_ccs
            options = {"opposite": other} if method == "polarity_ccs" else {}
            seconds = []
            for _ in range(args.repeats):
                start = time.perf_counter()
                found = fit(x[:, 1], x[:, 0], **options)
                seconds.append(time.perf_counter() - start)
            found = wb.resolve_sign(found, x, here.labels)
            z = read.layer(layer)
            said = found.predict(z[:, 1], z[:, 0])
            if first is None:
                first, base = said, statistics.median(seconds)
                e = proportion((again.scores(read, layer) > 0) == first, people)
                agree = f"another start: {e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
            else:
                e = proportion(said == first, people)
                agree = f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]"
            right = proportion(said == read.labels, people)
            time_ = statistics.median(seconds)
            ratio = f"{time_ / base:.2f}"
            print(
                f"| {layer} | {method} | {time_:.3f} | {ratio} | {right.value:.3f} [{right.low:.3f}, {right.high:.3f}] | {agree} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
