#include "convert/verify_structure.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "convert/shard_rules.h"
#include "model/tensor_inventory.h"
#include "model/weight_loader.h"

namespace vexil::convert {
namespace {

bool IsPlainFloat(DType t) { return t == DType::kF32 || t == DType::kBF16 || t == DType::kF16; }

class StructureCheck {
 public:
  StructureCheck(const TensorGroup& group, const ModelConfig& config, const ShardRules& rules, ProblemList& problems)
      : group_(group), c_(config), rules_(rules), problems_(problems) {}

  void Run() {
    const InventoryOptions options{.drafts = Drafts(), .stacked_experts = HasStackedExperts()};
    for (const TensorSpec& spec : TensorInventory(c_, options)) Check(spec);
    for (const auto& [canonical, entry] : group_.tensors) {
      if (!used_.contains(canonical)) Report(entry, "found a tensor that does not belong to this model");
    }
  }

 private:
  void Report(const TensorGroup::Entry& entry, std::string text) {
    problems_.Add(entry.part->file.path(), entry.info->name, std::move(text));
  }

  bool HasStackedExperts() const { return group_.Find("layers.0.ffn.experts.gate_up_proj") != nullptr; }

  // Speculative blocks may be left out as a whole; what is there of them has to be complete. Two of their sizes are in
  // no configuration that every program writes, so they are taken from the tensors themselves.
  DraftLayout Drafts() const {
    DraftLayout drafts;
    for (const auto& [name, entry] : group_.tensors) {
      if (name.starts_with("mtp.")) drafts.kind = DraftLayout::Kind::kSequential;
    }
    if (drafts.kind == DraftLayout::Kind::kNone) return drafts;
    drafts.blocks = std::max<int64_t>(c_.num_draft_layers, 1);
    if (const TensorGroup::Entry* main = group_.Find("mtp.0.main_proj.weight")) {
      drafts.kind = DraftLayout::Kind::kParallel;
      if (main->info->dims.rank == 2) drafts.source_layers = main->info->dims[1] / c_.dim;
    }
    for (const auto& [name, entry] : group_.tensors) {
      if (name.ends_with("markov_head.markov_w1.weight") && entry.info->dims.rank == 2)
        drafts.markov_rank = entry.info->dims[1];
    }
    return drafts;
  }

  void Check(const TensorSpec& spec) {
    if (!rules_.Holds(spec.name, group_.rank.rank)) return;
    const Dims share = Share(spec);
    const TensorGroup::Entry* entry = Take(spec.name);
    if (entry == nullptr) {
      problems_.Add(group_.path, spec.name, fmt::format("found no such tensor, expected shape {}", DimsText(share)));
      return;
    }
    if (spec.role == TensorRole::kTable) {
      ExpectType(*entry, entry->info->dtype == DType::kI64 || entry->info->dtype == DType::kI32, "I64 or I32");
      ExpectDims(*entry, share);
    } else if (spec.IsMatrix() && share.rank == 2) {
      CheckMatrix(spec, *entry, share);
    } else if (ExpectType(*entry, IsPlainFloat(entry->info->dtype), "F32, BF16 or F16")) {
      ExpectDims(*entry, share);
    }
    if (spec.role == TensorRole::kExpert) CheckExpertFormat(spec, *entry);
  }

  Dims Share(const TensorSpec& spec) const {
    Dims dims = spec.dims;
    const Part part = rules_.PartOf(spec.name, group_.rank.rank);
    if (part.axis != Axis::kNone) dims.d[part.axis == Axis::kRows ? 0 : 1] /= part.ways;
    return dims;
  }

  const TensorGroup::Entry* Take(const std::string& name) {
    used_.insert(name);
    return group_.Find(name);
  }

  bool ExpectType(const TensorGroup::Entry& entry, bool ok, std::string_view expected) {
    if (!ok) Report(entry, fmt::format("found dtype {}, expected {}", NameOf(entry.info->dtype), expected));
    return ok;
  }

  void ExpectDims(const TensorGroup::Entry& entry, const Dims& dims) {
    if (entry.info->dims == dims) return;
    Report(entry, fmt::format("found shape {}, expected {}", DimsText(entry.info->dims), DimsText(dims)));
  }

  void CheckMatrix(const TensorSpec& spec, const TensorGroup::Entry& entry, const Dims& dims) {
    const Dims packed = {dims[0], dims[1] / 2};
    switch (entry.info->dtype) {
      case DType::kF32:
      case DType::kBF16:
      case DType::kF16:
        return ExpectDims(entry, dims);
      case DType::kE4M3:
        ExpectDims(entry, dims);
        return CheckBlockScale(spec, ScaleDims(dims, kE4M3Block));
      case DType::kE2M1x2:
        ExpectDims(entry, packed);
        return CheckBlockScale(spec, ScaleDims(dims, kE2M1Block));
      case DType::kI8:  // INT8 or packed E2M1: the width tells (spec: quantization, 10.8)
        if (entry.info->dims == dims) return CheckChannelScale(spec, dims[0]);
        ExpectDims(entry, packed);
        return CheckBlockScale(spec, ScaleDims(dims, kE2M1Block));
      default:
        ExpectType(entry, false, "a matrix format");
    }
  }

  const TensorGroup::Entry* TakeScale(const TensorSpec& spec, const Dims& dims) {
    const TensorGroup::Entry* scale = Take(spec.ScaleName());
    if (scale == nullptr)
      problems_.Add(group_.path, spec.ScaleName(),
                    fmt::format("found no such tensor, expected shape {}", DimsText(dims)));
    return scale;
  }

  void CheckBlockScale(const TensorSpec& spec, const Dims& dims) {
    const TensorGroup::Entry* scale = TakeScale(spec, dims);
    if (scale == nullptr) return;
    ExpectType(*scale, scale->info->dtype == DType::kE8M0, "F8_E8M0");
    ExpectDims(*scale, dims);
  }

  // INT8: one scale per row, [n] or [n, 1].
  void CheckChannelScale(const TensorSpec& spec, int64_t rows) {
    const TensorGroup::Entry* scale = TakeScale(spec, {rows});
    if (scale == nullptr) return;
    ExpectType(*scale, IsPlainFloat(scale->info->dtype), "F32, BF16 or F16");
    ExpectDims(*scale, scale->info->dims.rank == 2 ? Dims{rows, 1} : Dims{rows});
  }

  // One kernel runs over all experts of a layer, so they share their format: that of the first one seen.
  void CheckExpertFormat(const TensorSpec& spec, const TensorGroup::Entry& entry) {
    const size_t experts = spec.name.find(".experts.");
    const size_t dot = spec.name.find('.', experts + 9);
    if (dot == std::string::npos) return;  // stacked: one tensor
    const std::string kind = spec.name.substr(0, experts) + spec.name.substr(dot);
    const auto [it, first] = expert_format_.try_emplace(kind, entry.info->dtype);
    if (first || it->second == entry.info->dtype) return;
    Report(entry, fmt::format("found dtype {}, expected {} as in the layer's first expert", NameOf(entry.info->dtype),
                              NameOf(it->second)));
  }

  const TensorGroup& group_;
  const ModelConfig& c_;
  const ShardRules& rules_;
  ProblemList& problems_;
  std::set<std::string> used_;
  std::map<std::string, DType> expert_format_;
};

}  // namespace

void CheckStructure(const TensorGroup& group, const ModelConfig& config, ProblemList& problems) {
  const Result<ShardRules> rules = ShardRules::For(config, group.rank.world, true);
  if (!rules.ok()) return problems.Add(group.path, "", std::string(rules.status().message()));
  StructureCheck(group, config, *rules, problems).Run();
}

}  // namespace vexil::convert
