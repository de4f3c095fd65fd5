"""What preparing prompts costs beside capturing them: tokens, checks and the digest, on SmolLM2 where it was fetched. Ratios of one run."""

import sys
import time

import torch

import workbench as wb
from workbench.models.tokens import encode_pairs

N = 256


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads())
    try:
        model = wb.load_model("smollm2")
    except wb.errors.WorkbenchError as error:
        print(f"goes on with the bundled model: {error}")
        model = wb.load_model("bundled")
    for template, claim in (("base_long", None), ("since_claim", "harm")):
        start = time.perf_counter()
        prompts = wb.prompts.udhr(template, claim, n=N, model=model)
        made = time.perf_counter()
        encode_pairs(model, prompts)
        encoded = time.perf_counter()
        for pair in list(prompts)[:32]:
            encode_pairs(model, [pair])
        singly = time.perf_counter()
        wb.capture(model, prompts, progress=False)
        captured = time.perf_counter()
        prepare = encoded - start
        print(
            f"{template}: make {1e3 * (made - start) / N:.2f} ms a prompt, encode {1e3 * (encoded - made) / N:.2f} ms in one call and "
            f"{1e3 * (singly - encoded) / 32:.2f} ms one by one; capture {1e3 * (captured - singly) / N:.1f} ms; "
            f"preparing is {prepare / (captured - singly):.1%} of capturing (aim: 10 % at most)"
        )


if __name__ == "__main__":
    main()
