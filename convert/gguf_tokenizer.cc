#include "convert/gguf_tokenizer.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "io/quote.h"

namespace vexil::convert {
namespace {

// llama.cpp's codes.
enum TokenType : int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

// What llama.cpp calls the splitting patterns of this family.
constexpr const char* kPretokenizer = "joyai-llm";

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;

  explicit Vocabulary(int64_t size) : types(size_t(size), kUnused) {
    for (int64_t i = 0; i < size; ++i) tokens.push_back(fmt::format("[PAD{}]", i));
  }
  Status Put(const Json* id, std::string_view text, TokenType type) {
    const std::optional<int64_t> i = id ? id->Int() : std::nullopt;
    if (!i || *i < 0 || *i >= int64_t(tokens.size())) {
      return InvalidArgument(fmt::format("token {}: found id {}, expected 0 to {}", QuoteName(text),
                                         id ? id->ToText() : "nothing", int64_t(tokens.size()) - 1));
    }
    tokens[size_t(*i)] = text;
    types[size_t(*i)] = type;
    return {};
  }
};

Status AddBaseTokens(const Json& model, Vocabulary& out) {
  const Json* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return InvalidArgument(
        fmt::format("model.vocab: found {}, expected an object", vocab ? vocab->TypeName() : "nothing"));
  }
  for (const auto& [token, id] : *vocab->object()) VX_TRY(out.Put(&id, token, kNormal));
  return {};
}

Status AddAddedTokens(const Json& root, Vocabulary& out) {
  const Json* added = root.Find("added_tokens");
  if (added == nullptr || !added->is_array()) return {};
  for (const Json& token : *added->array()) {
    const Json *content = token.Find("content"), *special = token.Find("special");
    if (content == nullptr || !content->is_string())
      return InvalidArgument("added_tokens: found a token without content");
    VX_TRY(out.Put(token.Find("id"), *content->string(), special && special->Bool() == true ? kControl : kUserDefined));
  }
  return {};
}

// "a b", or in newer files ["a", "b"].
Result<std::vector<std::string>> Merges(const Json& model) {
  const Json* list = model.Find("merges");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument(
        fmt::format("model.merges: found {}, expected an array", list ? list->TypeName() : "nothing"));
  }
  std::vector<std::string> merges;
  for (const Json& merge : *list->array()) {
    if (const std::string* text = merge.string()) {
      merges.push_back(*text);
      continue;
    }
    const Json::Array* pair = merge.array();
    if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) {
      return InvalidArgument(
          fmt::format("model.merges[{}]: found {}, expected two tokens", merges.size(), merge.TypeName()));
    }
    merges.push_back(*(*pair)[0].string() + " " + *(*pair)[1].string());
  }
  return merges;
}

}  // namespace

Result<GgufMetadata> GgufTokenizerMetadata(std::string_view text, int64_t vocab_size) {
  VX_ASSIGN(const Json root, Json::Parse(text));
  const Json* model = root.Find("model");
  if (model == nullptr) return InvalidArgument("model: found nothing, expected an object");
  Vocabulary vocabulary(vocab_size);
  VX_TRY(AddBaseTokens(*model, vocabulary));
  VX_TRY(AddAddedTokens(root, vocabulary));
  VX_ASSIGN(std::vector<std::string> merges, Merges(*model));
  return GgufMetadata{{"tokenizer.ggml.model", std::string("gpt2")},
                      {"tokenizer.ggml.pre", std::string(kPretokenizer)},
                      {"tokenizer.ggml.tokens", std::move(vocabulary.tokens)},
                      {"tokenizer.ggml.token_type", std::move(vocabulary.types)},
                      {"tokenizer.ggml.merges", std::move(merges)},
                      // The chat encoding begins with the token itself.
                      {"tokenizer.ggml.add_bos_token", false},
                      {"tokenizer.ggml.add_eos_token", false},
                      {std::string(kGgufTokenizerJson), std::string(text)}};
}

}  // namespace vexil::convert
