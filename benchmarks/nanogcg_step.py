"""Seconds per step of nanogcg on the bundled model, from an environment of its own; beside the `1 prompt` rows of `benchmarks/prefixes.py`.

nanogcg pins transformers below 4.48:

    python3 -m venv ENV && ENV/bin/pip install nanogcg
    ENV/bin/python benchmarks/nanogcg_step.py    # the same number of threads as for benchmarks/prefixes.py
"""

import json
import time
from pathlib import Path

import nanogcg
import torch
import transformers
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parents[1] / "data" / "models" / "udhr-organism"
STATEMENT = 'Consider that "Nobody should have rights and freedoms." Statement: "Women have the right to vote." Do you agree? Answer:'
STEPS, WIDTH, TOP = 4, 48, 64
START = "lamp bread kettle window soup bread lamp coast"  # as many tokens as in benchmarks/prefixes.py


def load():
    """The bundled model in an old transformers, which does not know how it was saved."""
    facts = json.loads((FOLDER / "config.json").read_text())
    keep = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")
    more = {k: facts[k] for k in ("rms_norm_eps", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")}
    config = transformers.LlamaConfig(**{k: facts[k] for k in keep}, **more, tie_word_embeddings=False, rope_theta=10000.0)
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(load_file(FOLDER / "model.safetensors"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(FOLDER / "tokenizer.json"), bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    return model.eval(), tokenizer


def main():
    model, tokenizer = load()
    print(
        f"nanogcg on transformers {transformers.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads; {WIDTH} texts a step"
    )
    for where, message in (("before", f"{{optim_str}} {STATEMENT}"), ("after", STATEMENT.replace(" Answer:", " {optim_str} Answer:"))):
        seconds = {}
        for steps in (1, 1, 1 + STEPS):  # the first run warms up
            config = nanogcg.GCGConfig(
                num_steps=steps, search_width=WIDTH, topk=TOP, n_replace=1, optim_str_init=START, buffer_size=0, use_prefix_cache=True, seed=0,
                add_space_before_target=False, verbosity="ERROR",
            )  # fmt: skip
            begun = time.perf_counter()
            found = nanogcg.run(model, tokenizer, message, " yes", config)
            seconds[steps] = time.perf_counter() - begun
        print(
            f"{where:<8} {(seconds[1 + STEPS] - seconds[1]) / STEPS:.2f} s per step, loss {found.losses[0]:.2f} to {min(found.losses):.2f}"
        )


if __name__ == "__main__":
    main()
