#include "convert/shard_rules.h"

#include "io/test_files.h"

namespace vexil::convert {
namespace {

// V4-Flash's numbers that decide about ranks.
ModelConfig Flash() {
  ModelConfig c;
  c.vocab_size = 129280;
  c.num_heads = 64;
  c.o_groups = 8;
  c.index_heads = 64;
  c.num_experts = 256;
  c.compress_ratios = {0, 4, 128};
  return c;
}

std::string Describe(const ShardRules& rules, std::string_view name, int64_t rank) {
  const Part p = rules.PartOf(name, rank);
  if (p.axis == Axis::kNone) return rules.Holds(name, rank) ? "whole" : "none";
  return (p.axis == Axis::kRows ? "rows " : "columns ") + std::to_string(p.index) + "/" + std::to_string(p.ways);
}

TEST(ShardRules, FollowThePublishedTable) {
  const ShardRules rules = *ShardRules::For(Flash(), 4, false);
  const std::pair<const char*, const char*> rows[] = {
      {"embed.weight", "rows 3/4"},
      {"head.weight", "rows 3/4"},
      {"layers.3.attn.wq_b.weight", "rows 3/4"},
      {"layers.3.attn.wq_b.scale", "rows 3/4"},
      {"layers.3.attn.attn_sink", "rows 3/4"},
      {"layers.3.attn.wo_a.weight", "rows 3/4"},
      {"layers.3.attn.wo_b.scale", "columns 3/4"},
      {"layers.3.attn.indexer.wq_b.weight", "rows 3/4"},
      {"layers.3.attn.indexer.weights_proj.weight", "rows 3/4"},
      {"mtp.2.markov_head.markov_w1.weight", "rows 3/4"},
      {"mtp.0.attn.wq_b.weight", "rows 3/4"},
      {"layers.3.ffn.experts.191.w1.weight", "none"},
      {"layers.3.ffn.experts.192.w1.weight", "whole"},
      {"mtp.0.ffn.experts.192.w2.scale", "whole"},
      {"layers.3.ffn.shared_experts.w1.weight", "whole"},
      {"layers.3.attn.wq_a.weight", "whole"},
      {"layers.3.attn.wkv.scale", "whole"},
      {"layers.3.attn.compressor.wkv.weight", "whole"},
      {"layers.3.ffn.gate.weight", "whole"},
      {"layers.3.hc_attn_fn", "whole"},
      {"hc_head_fn", "whole"},
      {"mtp.0.main_proj.weight", "whole"},
      {"mtp.2.confidence_head.proj.weight", "whole"},
  };
  for (const auto& [name, want] : rows) EXPECT_EQ(Describe(rules, name, 3), want) << name;
}

TEST(ShardRules, SeveralRanksShareAnOutputGroup) {
  const ShardRules rules = *ShardRules::For(Flash(), 32, true);
  EXPECT_EQ(Describe(rules, "layers.0.attn.wo_a.weight", 7), "rows 1/8");
  EXPECT_EQ(Describe(rules, "layers.0.attn.wo_b.weight", 31), "columns 7/8");
  EXPECT_EQ(Describe(rules, "layers.0.attn.wq_b.weight", 31), "rows 31/32");
}

TEST(ShardRules, RefusalsSayWhy) {
  EXPECT_EQ(ErrorOf(ShardRules::For(Flash(), 3, false)), "3 ranks: found 256 routed experts, expected a multiple of 3");
  EXPECT_EQ(ErrorOf(ShardRules::For(Flash(), 16, false)),
            "16 ranks: found 8 output groups, expected a multiple of 16; with --o-groups 8 (or USE_OGROUPS_COMM=1) 2 "
            "ranks share "
            "a group");
  ModelConfig c = Flash();
  c.vocab_size = 129281;
  EXPECT_EQ(ErrorOf(ShardRules::For(c, 2, false)),
            "2 ranks: found 129281 tokens of the vocabulary, expected a multiple of 2");
}

TEST(ShardRules, SlicesAreWholeTilesOrLieInOne) {
  const auto slice = [](int64_t size, int64_t ways, int64_t index) {
    const Result<Range> r = SliceOf(size, kTile, {Axis::kRows, ways, index}, "w: ");
    return r.ok() ? std::to_string(r->begin) + "-" + std::to_string(r->end) : std::string(r.status().message());
  };
  EXPECT_EQ(slice(1024, 4, 1), "2-4");
  EXPECT_EQ(slice(256, 8, 3), "0-1");  // 32 rows each, four slices in a tile
  EXPECT_EQ(slice(256, 8, 4), "1-2");
  EXPECT_EQ(slice(384, 2, 1), "w: a rank's 192 entries neither fill scale blocks of 128 nor lie in one");
  EXPECT_EQ(slice(100, 3, 0), "w: found 100 entries, expected a multiple of 3 ranks");
}

}  // namespace
}  // namespace vexil::convert
