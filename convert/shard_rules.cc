#include "convert/shard_rules.h"

#include <fmt/format.h>

#include <charconv>

namespace vexil::convert {
namespace {

// The component in front of .weight or .scale, else the last one.
std::string_view ModuleOf(std::string_view name) {
  for (std::string_view suffix : {".weight", ".scale"}) {
    if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
  }
  return name.substr(name.rfind('.') + 1);
}

enum class Rule : uint8_t { kReplicated, kRows, kGroupRows, kGroupColumns };

struct ModuleRule {
  std::string_view module;
  Rule rule;
};
constexpr ModuleRule kRules[] = {
    {"embed", Rule::kRows},     {"head", Rule::kRows},         {"wq_b", Rule::kRows},
    {"attn_sink", Rule::kRows}, {"weights_proj", Rule::kRows}, {"markov_w1", Rule::kRows},
    {"markov_w2", Rule::kRows}, {"wo_a", Rule::kGroupRows},    {"wo_b", Rule::kGroupColumns},
};

Rule RuleOf(std::string_view name) {
  const std::string_view module = ModuleOf(name);
  for (const ModuleRule& r : kRules) {
    if (r.module == module) return r.rule;
  }
  return Rule::kReplicated;
}

}  // namespace

int64_t ExpertOf(std::string_view name) {
  constexpr std::string_view kMark = ".ffn.experts.";
  const size_t at = name.find(kMark);
  if (at == name.npos) return -1;
  int64_t expert = -1;
  const std::string_view rest = name.substr(at + kMark.size());
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), expert);
  return error == std::errc() && end != rest.data() + rest.size() && *end == '.' ? expert : -1;
}

bool IsOutputProjection(std::string_view name) { return name.ends_with(".attn.wo_a.weight"); }

Result<ShardRules> ShardRules::For(const ModelConfig& c, int64_t ranks, bool o_groups) {
  ShardRules rules;
  rules.ranks_ = ranks;
  rules.experts_ = c.num_experts;
  struct Need {
    const char* what;
    int64_t count;
    bool used = true;
  };
  for (const Need& n :
       {Need{"routed experts", c.num_experts}, Need{"tokens of the vocabulary", c.vocab_size},
        Need{"attention heads", c.num_heads}, Need{"indexer heads", c.index_heads, c.has_ratio(kOverlapRatio)}}) {
    if (n.used && n.count % ranks != 0) {
      return InvalidArgument(
          fmt::format("{} ranks: found {} {}, expected a multiple of {}", ranks, n.count, n.what, ranks));
    }
  }
  if (c.o_groups % ranks == 0) {
    rules.group_ways_ = ranks;
    return rules;
  }
  if (ranks % c.o_groups != 0) {
    return InvalidArgument(
        fmt::format("{} ranks: found {} output groups, expected one number to divide the other", ranks, c.o_groups));
  }
  if (!o_groups) {
    return InvalidArgument(
        fmt::format("{} ranks: found {} output groups, expected a multiple of {}; with --o-groups {} "
                    "(or USE_OGROUPS_COMM=1) {} ranks share a group",
                    ranks, c.o_groups, ranks, c.o_groups, ranks / c.o_groups));
  }
  rules.group_ways_ = c.o_groups;
  return rules;
}

Part ShardRules::PartOf(std::string_view name, int64_t rank) const {
  if (ExpertOf(name) >= 0) return {};
  switch (RuleOf(name)) {
    case Rule::kReplicated:
      return {};
    case Rule::kRows:
      return {Axis::kRows, ranks_, rank};
    case Rule::kGroupRows:
      return {Axis::kRows, group_ways_, rank / (ranks_ / group_ways_)};
    case Rule::kGroupColumns:
      return {Axis::kColumns, group_ways_, rank / (ranks_ / group_ways_)};
  }
  return {};
}

bool ShardRules::Holds(std::string_view name, int64_t rank) const {
  const int64_t expert = ExpertOf(name);
  return expert < 0 || expert / (experts_ / ranks_) == rank;
}

Result<Range> SliceOf(int64_t size, int64_t block, const Part& part, std::string_view what) {
  if (size % part.ways != 0) {
    return InvalidArgument(fmt::format("{}found {} entries, expected a multiple of {} ranks", what, size, part.ways));
  }
  const int64_t width = size / part.ways, begin = part.index * width;
  if (width % block == 0) return Range{begin / block, (begin + width) / block};
  if (block % width == 0) return Range{begin / block, begin / block + 1};
  return InvalidArgument(
      fmt::format("{}a rank's {} entries neither fill scale blocks of {} nor lie in one", what, width, block));
}

int64_t ScaleBlock(Storage storage, Axis axis) {
  switch (storage) {
    case Storage::kE4M3:
      return kTile;
    case Storage::kE2M1:
      return axis == Axis::kRows ? 1 : kE2M1Group;
    case Storage::kInt8:
      return axis == Axis::kRows ? 1 : 0;
    case Storage::kPlain:
      return 0;
  }
  return 0;
}

}  // namespace vexil::convert
