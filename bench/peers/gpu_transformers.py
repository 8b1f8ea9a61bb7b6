#!/usr/bin/env python3
"""Times Transformers' DeepseekV4ForCausalLM at the widths of --config, random BF16 weights, batch 1; JSON lines.

Attention is its eager code, the only one that the model has there. Experts: its grouped_mm (the default), its batched_mm
and its eager loop are tried, the fastest is measured. FP8 weights would need kernels that it fetches from the network.
A prompt is read at once and, if --chunk is given, also in chunks, which is its generate()'s prefill_chunk_size."""
import copy
import inspect

import torch

import gpu_peer

PEER = "transformers"


def build(values, device):
    """One layer of each kind; they share one set of experts, which is far larger than any cache."""
    from transformers.models.deepseek_v4 import DeepseekV4Config, DeepseekV4ForCausalLM
    values = {k: v for k, v in values.items() if k not in ("quantization_config", "architectures", "torch_dtype")}
    ratios = list(gpu_peer.KINDS)
    values.update(num_hidden_layers=len(ratios), compress_ratios=ratios, num_hash_layers=1)
    with torch.device(device):
        model = DeepseekV4ForCausalLM._from_config(DeepseekV4Config(**values), dtype=torch.bfloat16).eval()
    for name, tensor in model.state_dict().items():
        if name.endswith("tid2eid"):
            scores = torch.rand(tensor.shape[0], values["n_routed_experts"], device=device)
            tensor.copy_(scores.topk(tensor.shape[1], -1).indices)
    layers = list(model.model.layers)
    for layer in layers[1:]:
        layer.mlp.experts = layers[0].mlp.experts
    return model, layers


class Runner:
    def __init__(self, model, device):
        from transformers import DynamicCache
        self.model, self.device, self.new_cache = model, device, lambda: DynamicCache(config=model.config)
        parameters = inspect.signature(model.forward).parameters
        self.cache_name = "cache" if "cache" in parameters else "past_key_values"

    def forward(self, ids, position, cache):
        """The next token of a sequence that `cache` holds up to `position`."""
        positions = torch.arange(position, position + ids.shape[1], device=self.device)[None]
        out = self.model(input_ids=ids, position_ids=positions, use_cache=True, logits_to_keep=1,
                         **{self.cache_name: cache})
        return out.logits[:, -1:].argmax(-1)

    def read(self, ids, chunk):
        cache = self.new_cache()
        for begin in range(0, ids.shape[1], chunk):
            token = self.forward(ids[:, begin:begin + chunk], begin, cache)
        return cache, token.tolist()

    def stepper(self, cache, position):
        state = {"token": torch.ones(1, 1, dtype=torch.long, device=self.device)}

        def step(i):
            state["token"] = self.forward(state["token"], position + i, cache)
            state["token"].tolist()  # to the host, as a server needs it

        return step


def whole_model(model, layers, cache, kinds, new_cache):
    """All layers of the model from the three: same weights, caches of their own."""
    order = {kind: i for i, kind in enumerate(gpu_peer.KINDS.values())}
    shared = {id(t): t for layer in layers for t in (model.config, *layer.parameters(), *layer.buffers())}
    blocks, states = [], []
    for index, kind in enumerate(kinds):
        block = copy.deepcopy(layers[order[kind]], dict(shared))
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
        blocks.append(block)
        states.append(copy.deepcopy(cache.layers[order[kind]]))
    model.model.layers = torch.nn.ModuleList(blocks)
    whole = new_cache()
    whole.layers = states
    return whole


@torch.inference_mode()
def measure(args):
    import transformers
    values = gpu_peer.read_config(args.config)
    bench = gpu_peer.Bench(PEER, args.device, version=transformers.__version__, weights="BF16", attention="eager")
    torch.manual_seed(1)
    model, layers = build(values, args.device)
    runner = Runner(model, args.device)
    subsets = {"base": [], **{kind: [layers[i]] for i, kind in enumerate(gpu_peer.KINDS.values())}, "all": layers}

    def use(kind, experts):
        model.set_experts_implementation(experts)
        model.model.layers = torch.nn.ModuleList(subsets[kind])

    def prompt(length):
        return torch.randint(0, values["vocab_size"], (1, length), device=args.device)

    def fastest(work, candidates):
        times = {}
        for experts in candidates:
            use("all", experts)
            work()
            times[experts] = min(bench.seconds(work) for _ in range(3))
        return min(times, key=times.get)

    chunk = args.chunk or max(args.context)
    for context in args.context:
        use("all", "grouped_mm")
        cache, _ = runner.read(prompt(context), chunk)
        token, trial = prompt(1), copy.deepcopy(cache)
        experts = fastest(lambda: runner.forward(token, context, trial), ("grouped_mm", "batched_mm", "eager"))
        for kind in subsets:
            use(kind, experts)
            bench.decode(runner.stepper(copy.deepcopy(cache), context), kind=kind, context=context, experts=experts)
        if context == max(args.context):
            kinds = gpu_peer.stack(values)
            whole = whole_model(model, layers, cache, kinds, runner.new_cache)
            bench.decode(runner.stepper(whole, context), kind="whole", context=context, experts=experts)
            del whole
        del cache, trial
    for length in args.prompt:
        ids = prompt(length)
        short = ids[:, :2048]
        experts = fastest(lambda: runner.read(short, 2048), ("grouped_mm", "eager"))
        for size in dict.fromkeys((min(args.chunk, length) or length, length)):
            for kind in subsets:
                use(kind, experts)
                bench.prefill(lambda: runner.read(ids, size), kind=kind, context=length, chunk=size, experts=experts)


def main():
    parser = gpu_peer.options(__doc__)
    parser.add_argument("--chunk", type=int, default=2048, help="tokens per step of a prompt; 0: all at once only")
    args = parser.parse_args()
    gpu_peer.run(PEER, lambda: measure(args))


if __name__ == "__main__":
    main()
