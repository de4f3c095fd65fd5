"""Tiny random models of many architectures, with weights so large that a fault of norms, masks or positions shows."""

from __future__ import annotations

from typing import Any

import torch

ROTARY: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip
MHA = {k: v for k, v in ROTARY.items() if k != "num_key_value_heads"}
WINDOW = {"sliding_window": 8}
EXPERTS = {"moe_intermediate_size": 24, "num_experts_per_tok": 2}

# model type of transformers: its configuration
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "apertus": ROTARY,
    "arcee": ROTARY,
    "bloom": {"hidden_size": 32, "n_layer": 3, "n_head": 4},
    "codegen": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
    "cohere": ROTARY | {"logit_scale": 0.3},
    "cohere2": ROTARY | WINDOW | {"logit_scale": 0.3},
    "ernie4_5": ROTARY,
    "exaone4": ROTARY | WINDOW | {"sliding_window_pattern": 2},
    "falcon": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": False},
    "falcon-alibi": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "alibi": True, "multi_query": False,
                     "new_decoder_architecture": False, "parallel_attn": False, "bias": True},
    "gemma": ROTARY | {"head_dim": 8},
    "gemma2": ROTARY | WINDOW | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": ROTARY | WINDOW | {"head_dim": 8, "query_pre_attn_scalar": 8},
    "glm": ROTARY | {"head_dim": 8},
    "glm4": ROTARY | {"head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "gpt_bigcode": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256},
    "gpt_neo": {"hidden_size": 32, "num_layers": 4, "num_heads": 4, "max_position_embeddings": 256, "attention_types": [[["global", "local"], 2]],
                "window_size": 8},
    "gpt_neox": MHA,
    "gpt_oss": ROTARY | WINDOW | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gptj": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "rotary_dim": 4},
    "granite": ROTARY | {"residual_multiplier": 0.22, "embedding_multiplier": 12.0, "attention_multiplier": 0.3, "logits_scaling": 8.0},
    "llama": ROTARY,
    "mistral": ROTARY | WINDOW,
    "mixtral": ROTARY | {"num_local_experts": 4},
    "mpt": {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256},
    "nemotron": ROTARY,
    "olmo": ROTARY,
    "olmo2": ROTARY,
    "olmo3": ROTARY | WINDOW,
    "olmoe": ROTARY | {"num_experts": 4, "num_experts_per_tok": 2},
    "opt": {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 256,
            "word_embed_proj_dim": 32},
    "phi": MHA,
    "phi3": ROTARY,
    "qwen2": ROTARY,
    "qwen2_moe": ROTARY | EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 24},
    "qwen3": ROTARY | {"head_dim": 8},
    "qwen3_moe": ROTARY | EXPERTS | {"head_dim": 8, "num_experts": 4},
    "qwen3_next": ROTARY | EXPERTS | {"num_hidden_layers": 4, "head_dim": 8, "num_experts": 4, "shared_expert_intermediate_size": 24,
                                      "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8,
                                      "linear_value_head_dim": 8},
    "seed_oss": ROTARY | {"head_dim": 8},
    "smollm3": ROTARY,
    "stablelm": ROTARY,
    "starcoder2": ROTARY,
}  # fmt: skip
QUICK = ("llama", "gpt2", "gemma2", "qwen2", "gpt_neox", "cohere", "falcon-alibi", "olmo2", "granite", "qwen3_next")


def hugging_face(name: str, vocabulary: int, seed: int = 0) -> Any:
    """A tiny random model in evaluation mode: gains around 1 that vary by half, biases that are not zero."""
    import transformers as tf

    config = tf.AutoConfig.for_model(
        name.split("-")[0], **{"vocab_size": vocabulary, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2} | ARCHITECTURES[name]
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        for path, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
                if any(key in path for key in ("q_proj", "k_proj", "query_key_value", "c_attn", "Wqkv", "qkv_proj")):
                    parameter.mul_(3)
            else:
                parameter.add_(torch.randn_like(parameter) * (0.5 if path.endswith("weight") else 0.3))
    return model.eval()
