"""Writes tiny gguf files: a llama with random weights, in any type of the package gguf."""

import json

import gguf
import numpy as np

LAYERS, WIDTH, HIDDEN, HEADS, GROUPS = 2, 32, 64, 4, 2
TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
SPECIAL = ("<s>", "</s>", "<pad>")


def shapes(vocabulary):
    head = WIDTH // HEADS
    out = {"token_embd.weight": (vocabulary, WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        out |= {
            f"blk.{layer}.attn_norm.weight": (WIDTH,), f"blk.{layer}.ffn_norm.weight": (WIDTH,),
            f"blk.{layer}.attn_q.weight": (WIDTH, WIDTH), f"blk.{layer}.attn_output.weight": (WIDTH, WIDTH),
            f"blk.{layer}.attn_k.weight": (GROUPS * head, WIDTH), f"blk.{layer}.attn_v.weight": (GROUPS * head, WIDTH),
            f"blk.{layer}.ffn_gate.weight": (HIDDEN, WIDTH), f"blk.{layer}.ffn_up.weight": (HIDDEN, WIDTH),
            f"blk.{layer}.ffn_down.weight": (WIDTH, HIDDEN),
        }  # fmt: skip
    return out


def write_gguf(path, words, kind="F16", *, architecture="llama", settings=None, tensors=None, without=(), bos=False, hidden=HIDDEN):
    """Write a tiny llama whose matrices are of one type; `settings` and `tensors` are put in beside."""
    told = json.loads(words.backend_tokenizer.to_str())["model"]
    tokens = sorted(told["vocab"], key=told["vocab"].get)
    merges = [" ".join(m) if isinstance(m, list) else m for m in told["merges"]]
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if t in words.all_special_tokens else gguf.TokenType.NORMAL for t in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(bos)
    writer.add_chat_template(TEMPLATE)
    for name, value in (settings or {}).items():
        add = writer.add_string if isinstance(value, str) else writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(name, value)
    rng = np.random.Generator(np.random.PCG64(0))
    number = gguf.GGMLQuantizationType[kind]
    for name, shape in shapes(len(tokens)).items():
        if name in without:
            continue
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(rng.normal(0, 0.3, shape).astype(np.float32), number), raw_dtype=number)
    for name, value in (tensors or {}).items():
        writer.add_tensor(name, np.asarray(value, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
