#include "model/weights.h"

#include <fmt/format.h>

#include <cstring>

#include "base/thread_pool.h"
#include "model/synthetic.h"
#include "model/upload.h"
#include "model/weight_loader.h"

namespace vexil {
namespace {

// Asks the loader, a WeightLoader or SyntheticTensors, for the tensors of each part of the model (spec: checkpoint, 2).
template <class Loader>
class WeightReader {
 public:
  WeightReader(Loader& loader, const ModelConfig& config) : load_(loader), c_(config) {}

  // All of it.
  void Read(ModelWeights& w) {
    w.embed = load_.Plain("embed.weight", {c_.vocab_size, c_.dim});
    w.head = load_.Matrix("head", c_.vocab_size, c_.dim);
    w.norm = load_.AsF32("norm.weight", {c_.dim});
    w.hc_head = HyperConnection("hc_head_", c_.hc_mult, 1);
    for (int64_t l = 0; l < c_.num_layers && load_.ok(); ++l) w.layers.push_back(Layer(l));
  }

 private:
  LayerWeights Layer(int64_t layer) {
    const std::string p = fmt::format("layers.{}.", layer);
    LayerWeights w;
    w.attn_norm = load_.AsF32(p + "attn_norm.weight", {c_.dim});
    w.ffn_norm = load_.AsF32(p + "ffn_norm.weight", {c_.dim});
    const int64_t mixes = (2 + c_.hc_mult) * c_.hc_mult;
    w.hc_attn = HyperConnection(p + "hc_attn_", mixes, 3);
    w.hc_ffn = HyperConnection(p + "hc_ffn_", mixes, 3);
    w.attn = Attention(p + "attn.", c_.compress_ratios[size_t(layer)]);
    w.moe = Moe(p + "ffn.", c_.is_hash_layer(layer));
    return w;
  }

  HyperConnectionWeights HyperConnection(const std::string& p, int64_t mixes, int64_t scales) {
    return {.fn = load_.AsF32(p + "fn", {mixes, c_.hc_mult * c_.dim}),
            .scale = load_.AsF32(p + "scale", {scales}),
            .base = load_.AsF32(p + "base", {mixes})};
  }

  AttentionWeights Attention(const std::string& p, int64_t ratio) {
    AttentionWeights w;
    w.wq_a = load_.Matrix(p + "wq_a", c_.q_lora_rank, c_.dim);
    w.q_norm = load_.AsF32(p + "q_norm.weight", {c_.q_lora_rank});
    w.wq_b = load_.Matrix(p + "wq_b", c_.num_heads * c_.head_dim, c_.q_lora_rank);
    w.wkv = load_.Matrix(p + "wkv", c_.head_dim, c_.dim);
    w.kv_norm = load_.AsF32(p + "kv_norm.weight", {c_.head_dim});
    w.sink = load_.AsF32(p + "attn_sink", {c_.num_heads});
    w.wo_a = OutputGroups(p + "wo_a");
    w.wo_b = load_.Matrix(p + "wo_b", c_.dim, c_.o_groups * c_.o_lora_rank);
    if (ratio != 0) w.compressor = Compressor(p + "compressor.", ratio, c_.head_dim);
    if (ratio == kOverlapRatio) {
      w.indexer =
          IndexerWeights{.wq_b = load_.Matrix(p + "indexer.wq_b", c_.index_heads * c_.index_head_dim, c_.q_lora_rank),
                         .weights_proj = load_.Matrix(p + "indexer.weights_proj", c_.index_heads, c_.dim),
                         .compressor = Compressor(p + "indexer.compressor.", ratio, c_.index_head_dim)};
    }
    return w;
  }

  // wo_a is one tensor [G*Ro, H*dh/G]; group g owns Ro consecutive rows.
  std::vector<QuantView> OutputGroups(const std::string& stem) {
    const int64_t rows = c_.o_lora_rank, cols = c_.num_heads * c_.head_dim / c_.o_groups;
    const QuantView all = load_.Matrix(stem, c_.o_groups * rows, cols);
    std::vector<QuantView> groups;
    if (!load_.ok()) return groups;
    for (int64_t g = 0; g < c_.o_groups; ++g) groups.push_back(load_.RowSlice(all, g * rows, (g + 1) * rows));
    return groups;
  }

  CompressorWeights Compressor(const std::string& p, int64_t ratio, int64_t d) {
    const int64_t width = ratio == kOverlapRatio ? 2 * d : d;
    return {.wkv = load_.Matrix(p + "wkv", width, c_.dim),
            .wgate = load_.Matrix(p + "wgate", width, c_.dim),
            .ape = load_.AsF32(p + "ape", {ratio, width}),
            .norm = load_.AsF32(p + "norm.weight", {d})};
  }

  MoeWeights Moe(const std::string& p, bool hash) {
    MoeWeights w;
    w.gate = load_.Matrix(p + "gate", c_.num_experts, c_.dim);
    if (hash) {
      w.tid2eid = load_.IndexTable(p + "gate.tid2eid", c_.vocab_size, c_.experts_per_token, c_.num_experts);
    } else {
      w.bias = load_.AsF32(p + "gate.bias", {c_.num_experts});
    }
    if (load_.Has(p + "experts.gate_up_proj")) {
      FusedExperts(p + "experts.", w);
    } else if (load_.Has(p + "experts.w1.weight")) {
      StackedExperts(p + "experts.", w);
    } else {
      Experts(p + "experts.", w);
    }
    w.shared_w1 = load_.Matrix(p + "shared_experts.w1", c_.expert_dim, c_.dim);
    w.shared_w3 = load_.Matrix(p + "shared_experts.w3", c_.expert_dim, c_.dim);
    w.shared_w2 = load_.Matrix(p + "shared_experts.w2", c_.dim, c_.expert_dim);
    return w;
  }

  void Experts(const std::string& p, MoeWeights& w) {
    for (int64_t e = 0; e < c_.num_experts && load_.ok(); ++e) {
      const std::string expert = fmt::format("{}{}.", p, e);
      w.w1.push_back(load_.Matrix(expert + "w1", c_.expert_dim, c_.dim));
      w.w3.push_back(load_.Matrix(expert + "w3", c_.expert_dim, c_.dim));
      w.w2.push_back(load_.Matrix(expert + "w2", c_.dim, c_.expert_dim));
      ExpectOneFormat(expert, w);
    }
  }

  // A grouped product runs one kernel over all experts, and each takes the same memory: they share their format.
  void ExpectOneFormat(const std::string& expert, const MoeWeights& w) {
    if (!load_.ok()) return;
    const auto same = [](const std::vector<QuantView>& list) {
      return list.back().data.dtype() == list.front().data.dtype() &&
             list.back().scale.dtype() == list.front().scale.dtype();
    };
    if (!same(w.w1) || !same(w.w3) || !same(w.w2))
      load_.Fail(InvalidArgument(fmt::format("{}w1, w3 or w2 has another format than those of expert 0", expert)));
  }

  // As GGUF stores them.
  void StackedExperts(const std::string& p, MoeWeights& w) {
    const int64_t f = c_.expert_dim, e_count = c_.num_experts;
    for (int64_t e = 0; e < e_count && load_.ok(); ++e) {
      w.w1.push_back(load_.StackedMatrix(p + "w1.weight", e_count, f, c_.dim, e, 0, f));
      w.w3.push_back(load_.StackedMatrix(p + "w3.weight", e_count, f, c_.dim, e, 0, f));
      w.w2.push_back(load_.StackedMatrix(p + "w2.weight", e_count, c_.dim, f, e, 0, c_.dim));
    }
  }

  // As transformers stores them.
  void FusedExperts(const std::string& p, MoeWeights& w) {
    const int64_t f = c_.expert_dim, e_count = c_.num_experts;
    for (int64_t e = 0; e < e_count && load_.ok(); ++e) {
      w.w1.push_back(load_.StackedMatrix(p + "gate_up_proj", e_count, 2 * f, c_.dim, e, 0, f));
      w.w3.push_back(load_.StackedMatrix(p + "gate_up_proj", e_count, 2 * f, c_.dim, e, f, f));
      w.w2.push_back(load_.StackedMatrix(p + "down_proj", e_count, c_.dim, f, e, 0, c_.dim));
    }
  }

  Loader& load_;
  const ModelConfig& c_;
};

}  // namespace

Result<ModelWeights> ModelWeights::Load(std::shared_ptr<const CheckpointFiles> files, const ModelConfig& c) {
  if (files->world() != 1) {
    return Unsupported(fmt::format("{}: found rank {} of {}, expected an unsharded checkpoint", files->path(),
                                   files->rank(), files->world()));
  }
  ModelWeights w;
  WeightLoader loader(*files, w.converted_);
  WeightReader(loader, c).Read(w);
  std::vector<std::string> drafts;
  for (int64_t i = 0; i < c.num_draft_layers; ++i) drafts.push_back(fmt::format("mtp.{}.", i));
  if (loader.ok()) loader.RejectUnused(drafts);
  VX_TRY(loader.TakeStatus());
  w.stored_bytes = files->total_bytes();
  w.has_quantized_linears = loader.saw_quantized();
  w.files_ = std::move(files);
  return w;
}

namespace {

// Collects the tensors that are there.
struct Collector {
  std::vector<TensorView*> tensors;
  void Add(TensorView& t) {
    if (!t.empty()) tensors.push_back(&t);
  }
  void Add(QuantView& q) {
    Add(q.data);
    Add(q.scale);
  }
  void Add(std::span<QuantView> list) {
    for (QuantView& q : list) Add(q.data);
    for (QuantView& q : list) Add(q.scale);
  }
  void Add(HyperConnectionWeights& w) { All(w.fn, w.scale, w.base); }
  void Add(CompressorWeights& w) { All(w.wkv, w.wgate, w.ape, w.norm); }
  void Add(IndexerWeights& w) { All(w.wq_b, w.weights_proj, w.compressor); }
  void Add(AttentionWeights& w) {
    All(w.wq_a, w.q_norm, w.wq_b, w.wkv, w.kv_norm, w.sink);
    Add(std::span(w.wo_a));
    Add(w.wo_b);
    if (w.compressor) Add(*w.compressor);
    if (w.indexer) Add(*w.indexer);
  }
  void Add(MoeWeights& w, int64_t experts) {
    All(w.gate, w.bias, w.tid2eid);
    for (std::vector<QuantView>* list : {&w.w1, &w.w3, &w.w2}) Add(std::span(*list).first(size_t(experts)));
    All(w.shared_w1, w.shared_w3, w.shared_w2);
  }
  template <class... T>
  void All(T&... parts) {
    (Add(parts), ...);
  }
};

// f(tensor, offset) for each tensor of an expert in its block of memory. The bytes of the block.
template <class Weights, class F>
int64_t ForExpert(Weights& w, int64_t e, F&& f) {
  int64_t offset = 0;
  for (auto* q : {&w.w1[size_t(e)], &w.w3[size_t(e)], &w.w2[size_t(e)]}) {
    for (auto* t : {&q->data, &q->scale}) {
      if (t->empty()) continue;
      f(*t, offset);
      offset += BytesOnDevice(*t);
    }
  }
  return offset;
}

}  // namespace

int64_t ExpertBytes(const MoeWeights& w, int64_t e) {
  return ForExpert(w, e, [](const TensorView&, int64_t) {});
}

WeightSizes ModelWeights::Sizes() const {
  WeightSizes sizes;
  const std::vector<int64_t> no_experts(layers.size(), 0);
  // Only looked at.
  for (const TensorView* t : const_cast<ModelWeights*>(this)->Tensors(no_experts)) sizes.fixed += BytesOnDevice(*t);
  for (const LayerWeights& l : layers) {
    sizes.experts_per_layer = int64_t(l.moe.w1.size());
    sizes.expert_bytes.push_back(ExpertBytes(l.moe, 0));
  }
  return sizes;
}

namespace {

ModelWeights ReadSynthetic(const ModelConfig& c, SyntheticTensors& tensors) {
  ModelWeights w;
  WeightReader(tensors, c).Read(w);
  w.stored_bytes = tensors.bytes();
  w.has_quantized_linears = tensors.saw_quantized();
  return w;
}

}  // namespace

ModelWeights ModelWeights::Outline(const ModelConfig& c) {
  SyntheticTensors tensors(0);
  return ReadSynthetic(c, tensors);
}

Result<ModelWeights> ModelWeights::Synthetic(const ModelConfig& c, uint64_t seed, Device* device,
                                             std::optional<int64_t> budget, const Progress& progress) {
  SyntheticTensors tensors(seed);
  ModelWeights w = ReadSynthetic(c, tensors);
  const std::vector<int64_t> all(w.layers.size(), c.num_experts);
  w.placement_ = ExpertPlacement::Of(w.Sizes(), all);
  if (budget) {
    VX_ASSIGN(w.placement_, ExpertPlacement::For(w.Sizes(), *budget));
  }
  std::vector<SyntheticTensors::Elsewhere> elsewhere;
  void* memory;
  if (device) {
    VX_TRY(w.PinExperts(*device));
    for (size_t l = 0; l < w.layers.size(); ++l) {
      const int64_t first = w.placement_.resident[l];
      if (first == c.num_experts) continue;
      // The tensors of a layer's experts are asked for one after the other, as in a block.
      elsewhere.push_back({w.layers[l].moe.w1[size_t(first)].data.raw(), w.pinned_[l]});
    }
    const int64_t bytes = tensors.bytes() - w.placement_.host_bytes;
    VX_ASSIGN(w.on_device_, DeviceBuffer::Create(*device, size_t(bytes)));
    memory = w.on_device_.data();
  } else {
    memory = w.converted_.emplace_back(new std::byte[size_t(tensors.bytes())]).get();
  }
  if (progress) progress("making weights");
  VX_TRY(tensors.Fill(device, memory, w.Tensors(all), elsewhere));
  return w;
}

// One allocation per layer: pinning is slow, and a failure says how far it got.
Status ModelWeights::PinExperts(Device& device) {
  int64_t pinned = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    const int64_t host = placement_.experts_per_layer - placement_.resident[l];
    PinnedBuffer& block = pinned_.emplace_back();
    if (host == 0) continue;
    Result<PinnedBuffer> made = PinnedBuffer::Create(device, size_t(host * ExpertBytes(layers[l].moe, 0)));
    if (!made.ok()) {
      return std::move(made).TakeError().Prefix(
          fmt::format("{} experts do not fit on the device and need {} MiB of pinned host memory, {} MiB of them done",
                      placement_.host_experts, placement_.host_bytes >> 20, pinned >> 20));
    }
    block = *std::move(made);
    pinned += int64_t(block.bytes());
  }
  return {};
}

Status ModelWeights::MoveTo(Device& device, const ExpertPlacement& placement, const Progress& progress) {
  placement_ = placement;
  VX_TRY(PinExperts(device));
  ThreadPool threads(ThreadPool::AvailableProcessors());
  for (size_t l = 0; l < layers.size(); ++l) {
    const int64_t first = placement.resident[l], host = placement.experts_per_layer - first;
    if (host == 0) continue;
    if (progress) progress(fmt::format("experts of layer {} to host memory", l));
    MoeWeights& w = layers[l].moe;
    char* const block = static_cast<char*>(pinned_[l].data());
    const int64_t stride = ExpertBytes(w, first);
    threads.For(host, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        ForExpert(w, first + i, [&](TensorView& t, int64_t offset) {
          char* const to = block + i * stride + offset;
          std::memcpy(to, t.raw(), size_t(t.Bytes()));
          t = TensorView(to, t.dtype(), t.dims());
        });
      }
    });
  }
  if (progress) progress("weights to the device");
  VX_ASSIGN(on_device_, Upload(device, Tensors(placement.resident)));
  return {};
}

std::vector<TensorView*> ModelWeights::Tensors(std::span<const int64_t> resident) {
  Collector c;
  c.Add(embed);
  for (size_t l = 0; l < layers.size(); ++l) {
    LayerWeights& w = layers[l];
    c.All(w.hc_attn, w.attn_norm, w.attn, w.hc_ffn, w.ffn_norm);
    c.Add(w.moe, resident[l]);
  }
  c.All(hc_head, norm, head);
  return std::move(c.tensors);
}

}  // namespace vexil
