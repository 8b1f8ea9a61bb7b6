#include "model/tensor_inventory.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "io/checkpoint_files.h"

namespace vexil {
namespace {

ModelConfig Flash() {
  ModelConfig c;
  c.vocab_size = 129280;
  c.dim = 4096;
  c.num_layers = 43;
  c.num_hash_layers = 3;
  c.num_heads = 64;
  c.head_dim = 512;
  c.rope_dim = 64;
  c.q_lora_rank = 1024;
  c.o_groups = 8;
  c.o_lora_rank = 1024;
  for (int l = 0; l < 43; ++l) c.compress_ratios.push_back(l < 2 ? 0 : l % 2 == 0 ? 4 : 128);
  c.index_heads = 64;
  c.index_head_dim = 128;
  c.expert_dim = 2048;
  c.num_experts = 256;
  c.experts_per_token = 6;
  return c;
}

ModelConfig Pro() {
  ModelConfig c = Flash();
  c.dim = 7168;
  c.num_layers = 61;
  c.num_heads = 128;
  c.q_lora_rank = 1536;
  c.o_groups = 16;
  c.compress_ratios.clear();
  for (int l = 0; l < 61; ++l) c.compress_ratios.push_back(l < 2 || l % 2 == 1 ? 128 : 4);
  c.expert_dim = 3072;
  c.num_experts = 384;
  return c;
}

struct Totals {
  int64_t bytes = 0;
  std::map<std::string, int64_t> tensors;
  friend bool operator==(const Totals&, const Totals&) = default;
};

Totals TotalsOf(const ModelConfig& c, const DraftLayout& drafts) {
  Totals t;
  for (const TensorSpec& spec : TensorInventory(c, {.drafts = drafts})) {
    for (const StoredTensor& s : PublishedForm(spec)) {
      t.tensors[NameOf(s.dtype)] += 1;
      t.bytes += s.dims.Count() * BytesOf(s.dtype);
    }
  }
  return t;
}

// The totals of the published index files (spec: checkpoint, 1).
TEST(TensorInventoryTest, PublishedTotals) {
  const DraftLayout sequential{.kind = DraftLayout::Kind::kSequential, .blocks = 1};
  const DraftLayout parallel{.kind = DraftLayout::Kind::kParallel, .blocks = 3};
  EXPECT_EQ(TotalsOf(Flash(), sequential),
            (Totals{159609485896,
                    {{"BF16", 433}, {"F32", 417}, {"F8_E4M3", 375}, {"F8_E8M0", 34167}, {"I64", 3}, {"I8", 33792}}}));
  EXPECT_EQ(TotalsOf(Flash(), parallel),
            (Totals{166878536440,
                    {{"BF16", 445}, {"F32", 433}, {"F8_E4M3", 390}, {"F8_E8M0", 35718}, {"I64", 3}, {"I8", 35328}}}));
  EXPECT_EQ(TotalsOf(Pro(), sequential),
            (Totals{864704792696,
                    {{"BF16", 619}, {"F32", 590}, {"F8_E4M3", 528}, {"F8_E8M0", 71952}, {"I64", 3}, {"I8", 71424}}}));
}

// What the model loads without complaint is exactly what the inventory lists.
TEST(TensorInventoryTest, TinyHasExactlyThese) {
  const std::string folder = std::string(VEXIL_SOURCE_DIR) + "/models/tiny";
  const CheckpointFiles files = *CheckpointFiles::Open(folder);
  std::set<std::string> listed;
  for (const TensorSpec& spec : TensorInventory(*ModelConfig::ReadFile(folder + "/config.json"), {})) {
    for (const StoredTensor& s : PublishedForm(spec)) {
      const TensorInfo* stored = files.Find(s.name);
      ASSERT_NE(stored, nullptr) << s.name;
      EXPECT_EQ(stored->dtype, s.dtype) << s.name;
      EXPECT_EQ(stored->dims, s.dims) << s.name;
      EXPECT_TRUE(listed.insert(s.name).second) << s.name;
    }
  }
  EXPECT_EQ(listed.size(), files.tensor_count());
}

}  // namespace
}  // namespace vexil
