#include "convert/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "convert/layout.h"
#include "convert/quantize_streams.h"
#include "convert/shard_rules.h"
#include "convert/source_layout.h"
#include "convert/streams.h"

namespace vexil::convert {
namespace {

// The published converter leaves these out: they are copies of the backbone's.
bool IsSkipped(std::string_view name) {
  return name.starts_with("mtp.") && (name.find("emb") != name.npos || name.ends_with("head.weight"));
}

class Sharder {
 public:
  Sharder(const Source& source, const ShardRules& rules, const ShardOptions& options)
      : source_(source), rules_(rules), options_(options) {}

  Result<OutputFile> Rank(int64_t rank) {
    std::vector<SafetensorsTensor> tensors;
    for (const SourceTensor& t : source_.tensors()) {
      if (t.is_scale || IsSkipped(t.name) || !rules_.Holds(t.name, rank)) continue;
      VX_TRY(ExpertOf(t.name) >= 0 ? AddExpert(t, tensors) : AddPart(t, rules_.PartOf(t.name, rank), tensors));
    }
    std::ranges::stable_sort(tensors, std::greater(),
                             [](const SafetensorsTensor& t) { return BytesOf(t.declaration.dtype); });
    return SafetensorsOutput(fmt::format("model{}-mp{}.safetensors", rank, rules_.ranks()), std::move(tensors),
                             {{"format", "pt"}});
  }

 private:
  Status AddPart(const SourceTensor& t, const Part& part, std::vector<SafetensorsTensor>& out) {
    Range range{0, -1};
    if (part.axis != Axis::kNone) {
      const int64_t size = part.axis == Axis::kRows ? t.info->dims[0] : t.cols();
      VX_ASSIGN(range, SliceOf(size, 1, part, t.Where()));
    }
    if (IsOutputProjection(t.name) && t.storage != Storage::kPlain) {
      out.push_back(DequantizeRows(t, range.begin, range.end));
      return {};
    }
    if (part.axis == Axis::kColumns) {
      const int64_t packed = t.storage == Storage::kE2M1 ? 2 : 1;
      out.push_back(CopyColumns(t, range.begin / packed, range.end / packed));
    } else {
      out.push_back(CopyRows(t, range.begin, range.end));
    }
    return t.scale == nullptr ? Status() : AddScalePart(t, part, out);
  }

  Status AddScalePart(const SourceTensor& t, const Part& part, std::vector<SafetensorsTensor>& out) {
    const int64_t block = part.axis == Axis::kNone ? 0 : ScaleBlock(t.storage, part.axis);
    if (block == 0) {
      out.push_back(CopyRows(*t.scale));
      return {};
    }
    const int64_t size = part.axis == Axis::kRows ? t.info->dims[0] : t.cols();
    VX_ASSIGN(const Range range, SliceOf(size, block, part, t.scale->Where()));
    out.push_back(part.axis == Axis::kRows ? CopyRows(*t.scale, range.begin, range.end)
                                           : CopyColumns(*t.scale, range.begin, range.end));
    return {};
  }

  Status AddExpert(const SourceTensor& t, std::vector<SafetensorsTensor>& out) {
    const bool in_layers = t.name.starts_with("layers.");  // the INT8 scheme leaves speculative blocks alone
    if (options_.experts == ShardExperts::kInt8 && in_layers && t.storage != Storage::kInt8) {
      VX_ASSIGN(std::vector<SafetensorsTensor> made, Quantized(t, Target::kInt8));
      std::ranges::move(made, std::back_inserter(out));
      return {};
    }
    if (options_.experts == ShardExperts::kE4M3 && t.storage == Storage::kE2M1) {
      VX_ASSIGN(std::vector<SafetensorsTensor> made, Repacked(t));
      std::ranges::move(made, std::back_inserter(out));
      return {};
    }
    const bool wrong = (options_.experts == ShardExperts::kE4M3 && t.storage != Storage::kE4M3) ||
                       (options_.experts == ShardExperts::kE2M1 && t.storage != Storage::kE2M1);
    if (wrong) {
      return InvalidArgument(fmt::format("{}not stored as FP4; run vexil convert quantize first", t.Where()));
    }
    out.push_back(CopyRows(t));
    if (t.storage == Storage::kE2M1) out.back().declaration.dtype = DType::kE2M1x2;
    if (t.scale != nullptr) out.push_back(CopyRows(*t.scale));
    return {};
  }

  const Source& source_;
  const ShardRules& rules_;
  const ShardOptions& options_;
};

ExpertFormat FormatAfter(const Source& source, ShardExperts experts) {
  switch (experts) {
    case ShardExperts::kE2M1:
      return ExpertFormat::kE2M1;
    case ShardExperts::kE4M3:
      return ExpertFormat::kE4M3;
    case ShardExperts::kInt8:
      return ExpertFormat::kInt8;
    case ShardExperts::kAsStored:
      return StoredExperts(source);
  }
  return ExpertFormat::kBF16;
}

// FP4 -> FP8: how many values could not be kept exactly, and in which tensors.
struct RepackCounts {
  int64_t values = 0, rounded = 0;
  Json::Object tensors;
};

RepackCounts CountRepacked(std::span<const FileRecord> records) {
  RepackCounts counts;
  for (const FileRecord& r : records) {
    for (size_t i = 0; i < r.notes.size(); ++i) {
      const Json *n = r.notes[i].Find("repacked"), *off = r.notes[i].Find("rounded");
      if (n == nullptr || off == nullptr) continue;
      counts.values += n->Int().value_or(0);
      counts.rounded += off->Int().value_or(0);
      if (off->Int() != 0) counts.tensors.emplace_back(r.manifest.tensors[i].name, *off);
    }
  }
  return counts;
}

Result<std::string> RepackReport(std::span<const FileRecord> records) {
  RepackCounts c = CountRepacked(records);
  const Json report(Json::Object{
      {"values", c.values}, {"rounded", c.rounded}, {"tensors_with_rounded_values", std::move(c.tensors)}});
  return report.ToText(1) + "\n";
}

Remarks RepackRemark(std::span<const FileRecord> records) {
  const RepackCounts c = CountRepacked(records);
  return {fmt::format("FP4 to FP8: {} values, {} of them rounded", c.values, c.rounded)};
}

Json ConfigOfRanks(const Source& source, ExpertFormat experts) {
  return ConfigFor(InferenceDialect(source), StoredLinears(source), experts);
}

}  // namespace

Json InferenceDialect(const Source& source) {
  if (source.config().Find("dim") != nullptr) return source.config();
  const ModelConfig& c = source.model();
  Json out;
  out.Set("vocab_size", c.vocab_size);
  out.Set("dim", c.dim);
  out.Set("moe_inter_dim", c.expert_dim);
  out.Set("n_layers", c.num_layers);
  out.Set("n_hash_layers", c.num_hash_layers);
  out.Set("n_mtp_layers", c.num_draft_layers);
  out.Set("n_heads", c.num_heads);
  out.Set("n_routed_experts", c.num_experts);
  out.Set("n_shared_experts", 1);
  out.Set("n_activated_experts", c.experts_per_token);
  out.Set("score_func", "sqrtsoftplus");
  out.Set("route_scale", c.route_scale);
  out.Set("swiglu_limit", c.swiglu_limit);
  out.Set("q_lora_rank", c.q_lora_rank);
  out.Set("head_dim", c.head_dim);
  out.Set("rope_head_dim", c.rope_dim);
  out.Set("norm_eps", c.norm_eps);
  out.Set("o_groups", c.o_groups);
  out.Set("o_lora_rank", c.o_lora_rank);
  out.Set("window_size", c.window);
  out.Set("original_seq_len", c.rope_scaling.original_length);
  out.Set("rope_theta", c.rope_theta);
  out.Set("rope_factor", c.rope_scaling.factor);
  out.Set("beta_fast", c.rope_scaling.beta_fast);
  out.Set("beta_slow", c.rope_scaling.beta_slow);
  out.Set("index_n_heads", c.index_heads);
  out.Set("index_head_dim", c.index_head_dim);
  out.Set("index_topk", c.index_topk);
  out.Set("hc_mult", c.hc_mult);
  out.Set("hc_sinkhorn_iters", c.sinkhorn_iters);
  out.Set("hc_eps", c.hc_eps);
  out.Set("compress_rope_theta", c.compress_rope_theta);
  const Json* ratios = source.config().Find("compress_ratios");  // with the entries of speculative blocks
  out.Set("compress_ratios",
          ratios != nullptr ? *ratios : Json(Json::Array(c.compress_ratios.begin(), c.compress_ratios.end())));
  for (const char* key :
       {"dspark_block_size", "dspark_noise_token_id", "dspark_target_layer_ids", "dspark_markov_rank"}) {
    if (const Json* value = source.config().Find(key)) out.Set(key, *value);
  }
  return out;
}

Result<Job> ShardJob(std::shared_ptr<const Source> source, const std::string& output, const ShardOptions& options) {
  const ModelConfig& model = source->model();
  if (options.o_groups > 0 && options.o_groups != model.o_groups) {
    return InvalidArgument(
        fmt::format("--o-groups: found {}, expected the model's {}", options.o_groups, model.o_groups));
  }
  VX_ASSIGN(const ShardRules rules, ShardRules::For(model, options.ranks, options.o_groups > 0));
  Job job;
  job.directory = output;
  job.identity = IdentityOf(
      "shard",
      Json(Json::Object{
          {"model_parallel", options.ranks}, {"expert_dtype", int(options.experts)}, {"o_groups", options.o_groups}}),
      *source);
  Sharder sharder(*source, rules, options);
  for (int64_t rank = 0; rank < options.ranks; ++rank) {
    VX_ASSIGN(OutputFile file, sharder.Rank(rank));
    job.files.push_back(std::move(file));
  }
  const ExpertFormat experts = FormatAfter(*source, options.experts);
  VX_ASSIGN(job.small_files, SideFiles(*source, StoredLinears(*source), experts));
  if (options.experts == ShardExperts::kE4M3) {
    job.small_files.push_back({"vexil-repack.json", RepackReport});
    job.remarks = RepackRemark;
  }
  VX_ASSIGN(const SourceLayout layout, DescribeSource(*source));
  job.small_files.push_back(FixedFile(std::string(kSourceLayoutName), FormatSourceLayout(layout)));
  job.small_files.push_back(FixedFile("config.json", ConfigOfRanks(*source, experts).ToText(2) + "\n"));
  job.source = std::move(source);
  return job;
}

}  // namespace vexil::convert
