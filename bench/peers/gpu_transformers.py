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
    values.update(num_hidden_layers=len(gpu_peer.RATIOS), compress_ratios=list(gpu_peer.RATIOS), num_hash_layers=1)
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


def repeat(model, layers, order):
    """Layers of the whole model: those of `layers` in this order, with their weights and an index of their own."""
    shared = {id(t): t for layer in layers for t in (model.config, *layer.parameters(), *layer.buffers())}
    blocks = []
    for index, which in enumerate(order):
        block = copy.deepcopy(layers[which], dict(shared))
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = index
        blocks.append(block)
    return blocks


class Runner:
    def __init__(self, model, layers, order, device):
        self.model, self.device, self.few, self.all = model, device, layers, repeat(model, layers, order)
        types = model.config.layer_types
        self.types = {len(self.few): types, len(self.all): [types[which] for which in order]}
        parameters = inspect.signature(model.forward).parameters
        self.cache_name = "cache" if "cache" in parameters else "past_key_values"

    def use(self, layers, experts):
        self.model.model.layers = torch.nn.ModuleList(layers)
        self.model.config.layer_types = self.types[len(layers)]
        self.model.config.num_hidden_layers = len(layers)
        self.model.set_experts_implementation(experts)

    def forward(self, ids, position, cache):
        """The next token of a sequence that `cache` holds up to `position`."""
        positions = torch.arange(position, position + ids.shape[1], device=self.device)[None]
        out = self.model(input_ids=ids, position_ids=positions, use_cache=True, logits_to_keep=1,
                         **{self.cache_name: cache})
        return out.logits[:, -1:].argmax(-1)

    def read(self, ids, chunk):
        from transformers import DynamicCache
        cache = DynamicCache(config=self.model.config)
        for begin in range(0, ids.shape[1], chunk):
            token = self.forward(ids[:, begin:begin + chunk], begin, cache)
        token.tolist()  # to the host, as a server needs it
        return cache

    def stepper(self, cache, position):
        state = {"token": torch.ones(1, 1, dtype=torch.long, device=self.device)}

        def step(i):
            state["token"] = self.forward(state["token"], position + i, cache)
            state["token"].tolist()

        return step

    def fastest(self, bench, work, candidates):
        """The implementation of the experts that serves the three layers best."""
        times = {}
        for experts in candidates:
            self.use(self.few, experts)
            work()
            times[experts] = min(bench.seconds(work) for _ in range(3))
        return min(times, key=times.get)


@torch.inference_mode()
def measure(args):
    import transformers
    values = gpu_peer.read_config(args.config)
    bench = gpu_peer.Bench(PEER, args.device, version=transformers.__version__, weights="BF16", attention="eager")
    torch.manual_seed(1)
    model, layers = build(values, args.device)
    runner = Runner(model, layers, gpu_peer.stack(values), args.device)

    def prompt(length):
        return torch.randint(0, values["vocab_size"], (1, length), device=args.device)

    for context in args.context:
        ids = prompt(context)
        runner.use(layers, "grouped_mm")
        step = runner.stepper(runner.read(ids, args.chunk or context), context)
        experts = runner.fastest(bench, lambda: step(0), ("grouped_mm", "batched_mm", "eager"))
        runner.use(runner.all, "grouped_mm")
        cache = runner.read(ids, args.chunk or context)
        runner.use(runner.all, experts)
        bench.decode(runner.stepper(cache, context), context=context, experts=experts)
        del step, cache
    for length in args.prompt:
        ids = prompt(length)
        short = ids[:, :2048]
        experts = runner.fastest(bench, lambda: runner.read(short, 2048), ("grouped_mm", "eager"))

        def warm_up():
            runner.use(layers, experts)
            runner.read(ids, size)
            runner.use(runner.all, experts)

        for size in dict.fromkeys((min(args.chunk, length) or length, length)):
            bench.prefill(warm_up, lambda: runner.read(ids, size), context=length, chunk=size, experts=experts)


def main():
    parser = gpu_peer.options(__doc__)
    parser.add_argument("--chunk", type=int, default=2048, help="tokens per step of a prompt; 0: all at once only")
    args = parser.parse_args()
    gpu_peer.run(PEER, lambda: measure(args))


if __name__ == "__main__":
    main()
