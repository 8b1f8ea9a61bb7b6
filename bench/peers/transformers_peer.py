#!/usr/bin/env python3
"""Times Transformers' DeepseekV4ForCausalLM on models/tiny's sizes and on one full-width layer of each kind; JSON lines.
Weights are random BF16; the layer has --experts experts (256 take 13 GB); a token reads six of them either way."""
import argparse
import json
import statistics
import time

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def emit(**row):
    print(json.dumps({"peer": "transformers", **row}), flush=True)


@torch.inference_mode()
def time_model(model, name, prompt, decode):
    ids = torch.randint(0, model.config.vocab_size, (1, prompt))
    start = time.perf_counter()
    out = model(ids, use_cache=True)
    prefill = time.perf_counter() - start
    times = []
    for _ in range(decode):
        token = out.logits[:, -1:].argmax(-1)
        start = time.perf_counter()
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
        times.append(time.perf_counter() - start)
    emit(model=name, prompt=prompt, prefill_tokens_per_s=prompt / prefill, decode_us=statistics.median(times) * 1e6)


def full_width(tiny, ratio, experts):
    config = AutoConfig.from_pretrained(tiny)
    values = {"vocab_size": 2048, "hidden_size": 4096, "num_hidden_layers": 1, "num_hash_layers": 0,
              "num_attention_heads": 64, "head_dim": 512, "q_lora_rank": 1024, "o_groups": 8, "o_lora_rank": 1024,
              "sliding_window": 128, "index_n_heads": 64, "index_head_dim": 128, "index_topk": 512,
              "moe_intermediate_size": 2048, "n_routed_experts": experts, "num_experts_per_tok": 6,
              "qk_rope_head_dim": 64, "num_nextn_predict_layers": 0}
    for key, value in values.items():
        setattr(config, key, value)
    kinds = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    config.layer_types = [kinds[ratio]]
    config.mlp_layer_types = ["moe"]
    return random_model(config)


def random_model(config):
    config.quantization_config = None
    del config.quantization_config  # BF16 weights: its FP8 kernels want a GPU
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", required=True)
    parser.add_argument("--experts", type=int, default=64)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    time_model(random_model(AutoConfig.from_pretrained(args.tiny)), "tiny", 512, 64)
    for ratio in (0, 4, 128):
        time_model(full_width(args.tiny, ratio, args.experts), f"ratio {ratio}", 512, 8)


if __name__ == "__main__":
    main()
