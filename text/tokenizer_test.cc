#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/json.h"

namespace vexil {
namespace {

std::string TestFile(const std::string& name) { return VEXIL_SOURCE_DIR "/testdata/tokenizer/" + name; }

std::string Contents(const std::string& name) {
  std::ifstream file(TestFile(name), std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Loaded once: the published vocabulary.
const Tokenizer& Full() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    auto result = Tokenizer::FromFile(TestFile("tokenizer.reconstructed.json"));
    if (!result.ok()) ADD_FAILURE() << result.status().message();
    return *std::move(result);
  }();
  return *tokenizer;
}

std::vector<int32_t> Ids(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : *json.array()) ids.push_back(int32_t(*id.Int()));
  return ids;
}

TEST(TokenizerTest, Vectors) {
  const Json vectors = *Json::Parse(Contents("vectors.json"));
  size_t count = 0;
  for (const auto& [list, cases] : *vectors.object()) {
    if (!cases.is_array()) continue;
    const AddedTokens mode = list == "generated_added_tokens_disabled" ? AddedTokens::kIgnore : AddedTokens::kRecognize;
    for (const Json& c : *cases.array()) {
      const std::string& text = *c.Find("text")->string();
      const std::vector<int32_t> ids = Ids(*c.Find("ids"));
      EXPECT_EQ(Full().Encode(text, mode), ids) << list << ": " << text;
      EXPECT_EQ(Full().Decode(ids), text) << list;
      ++count;
    }
  }
  EXPECT_EQ(count, 4u + 94 + 41 + 5);
}

}  // namespace
}  // namespace vexil
