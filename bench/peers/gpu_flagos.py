#!/usr/bin/env python3
"""Times the model file of FlagOS's DeepSeek-V4 port at the widths of --config, random BF16 weights, batch 1; JSON lines.

The file (--model) imports three Triton kernels of flag_gems: sparse attention, Sinkhorn and the Hadamard transform.
flag_gems 5.0.2, the version that the port asks for, exports the last for one vendor only; here its source is loaded for
any. --gems also routes PyTorch's operators through flag_gems, as the port's own run scripts do (USE_FLAGGEMS=1). The
states are random: a step's time does not depend on what they hold."""
import importlib.util
import os
import sys

import torch

import gpu_peer

PEER = "flagos"


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def import_gems():
    os.environ.setdefault("GEMS_VENDOR", "nvidia")
    import flag_gems
    if not hasattr(flag_gems, "hadamard_transform"):
        folder = os.path.dirname(flag_gems.__file__)
        path = os.path.join(folder, "runtime/backend/_hygon/ops/hadamard_transform.py")
        flag_gems.hadamard_transform = load(path, "gems_hadamard").hadamard_transform
    return flag_gems


def model_args(module, c, longest):
    rope = c["rope_scaling"]
    return module.ModelArgs(
        max_batch_size=1, max_seq_len=longest, dtype="bf16", vocab_size=c["vocab_size"], dim=c["hidden_size"],
        moe_inter_dim=c["moe_intermediate_size"], n_layers=len(gpu_peer.RATIOS), n_hash_layers=1, n_mtp_layers=0,
        n_heads=c["num_attention_heads"], n_routed_experts=c["n_routed_experts"],
        n_activated_experts=c["num_experts_per_tok"], route_scale=c["routed_scaling_factor"],
        swiglu_limit=c["swiglu_limit"], q_lora_rank=c["q_lora_rank"], head_dim=c["head_dim"],
        rope_head_dim=c["qk_rope_head_dim"], o_groups=c["o_groups"], o_lora_rank=c["o_lora_rank"],
        window_size=c["sliding_window"], compress_ratios=gpu_peer.RATIOS, compress_rope_theta=c["compress_rope_theta"],
        original_seq_len=rope["original_max_position_embeddings"], rope_factor=rope["factor"],
        index_n_heads=c["index_n_heads"], index_head_dim=c["index_head_dim"], index_topk=c["index_topk"],
        hc_mult=c["hc_mult"], hc_sinkhorn_iters=c["hc_sinkhorn_iters"], hc_eps=c["hc_eps"])


@torch.no_grad()
def build(module, config, longest, device):
    """One layer of each kind; they share one set of experts, which is far larger than any cache."""
    with torch.device(device):
        model = module.Transformer(model_args(module, config, longest))
    layers = list(model.layers)
    for layer in layers[1:]:
        layer.ffn.experts = layers[0].ffn.experts
    for name, p in model.named_parameters():
        if name.endswith("tid2eid"):
            scores = torch.rand(p.shape[0], config["n_routed_experts"], device=device)
            p.copy_(scores.topk(p.shape[1], -1).indices)
        elif "norm" in name:
            p.fill_(1)
        else:
            p.normal_(0, config["initializer_range"])
    for name, b in model.named_buffers():
        if name.endswith(("kv_cache", "kv_state")):
            b.normal_()
        elif name.endswith("score_state"):
            b.zero_()
    return model, layers


@torch.inference_mode()
def measure(args, peer):
    gems = import_gems()
    module = load(args.model, "flagos_model")
    config = gpu_peer.read_config(args.config)
    bench = gpu_peer.Bench(peer, args.device, version=gems.__version__, weights="BF16", attention="sparse_attn_triton")
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(1)
    longest = max(args.context + args.prompt) + 1024
    model, layers = build(module, config, longest, args.device)
    torch.set_default_device(args.device)
    if args.gems:
        gems.enable()
    whole = [layers[which] for which in gpu_peer.stack(config)]

    def use(blocks):
        model.layers = torch.nn.ModuleList(blocks)

    def stepper(context):
        state = {"token": torch.ones(1, 1, dtype=torch.long)}

        def step(i):
            state["token"] = model.forward(state["token"], context + i).argmax(-1, keepdim=True)
            state["token"].tolist()  # to the host, as a server needs it

        return step

    for context in args.context:
        step = stepper(context)
        use(layers)
        for i in range(4):  # compiles
            step(i)
        use(whole)
        bench.decode(step, context=context)
    for length in args.prompt:
        ids = torch.randint(0, config["vocab_size"], (1, length))

        def run():
            return model.forward(ids, 0).argmax(-1).tolist()

        def warm_up():
            use(layers)
            run()
            use(whole)

        bench.prefill(warm_up, run, context=length, chunk=length)


def main():
    parser = gpu_peer.options(__doc__)
    parser.add_argument("--model", required=True, help="model.py of flagos-ai/DeepSeek-V4-FlagOS")
    parser.add_argument("--gems", action="store_true", help="PyTorch's operators through flag_gems, too")
    args = parser.parse_args()
    peer = PEER + ("+gems" if args.gems else "")
    gpu_peer.run(peer, lambda: measure(args, peer))


if __name__ == "__main__":
    main()
