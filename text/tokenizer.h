// Text to token ids and back: byte-level BPE as a tokenizer.json of the DeepSeek-V3 family describes it
// (spec: tokenizer).
//
//   VX_ASSIGN(std::unique_ptr<Tokenizer> tokenizer, Tokenizer::FromFile("model/tokenizer.json"));
//   std::vector<int32_t> ids = tokenizer->Encode("Hello, world!");
//   std::string text = tokenizer->Decode(ids);
//
// Immutable after construction: every method may be called from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/added_token_matcher.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"

namespace vexil {

struct AddedToken;

// What Encode makes of text that looks like an added token, such as "<think>".
enum class AddedTokens : uint8_t {
  kRecognize,  // the token: for text that this program wrote
  kIgnore,     // plain text: for what users wrote, who could otherwise forge control tokens
};

class Tokenizer {
 public:
  // Errors: the file cannot be read, is malformed, or asks for something that is not supported; one line that names
  // the member, what was found and what was expected.
  static Result<std::unique_ptr<Tokenizer>> FromFile(const std::string& path);
  static Result<std::unique_ptr<Tokenizer>> FromJson(std::string_view text);

  // The ids of a text of less than 4 GiB; nothing (no beginning-of-sentence token) is added to them. Ill-formed UTF-8
  // is encoded as if its maximal subparts were U+FFFD. Time grows linearly with the text, but for a logarithmic factor
  // in the length of its longest piece.
  std::vector<int32_t> Encode(std::string_view text, AddedTokens mode = AddedTokens::kRecognize) const;

  // The text of ids, with ill-formed UTF-8 replaced as above. Leaves out special tokens if `skip_special`, and ids
  // that do not exist. For ids that arrive one by one: text/stream_decoder.h.
  std::string Decode(std::span<const int32_t> ids, bool skip_special = false) const;

  // Ids are 0 ... vocab_size() - 1.
  int32_t vocab_size() const { return int32_t(kinds_.size()); }
  // What a token adds to decoded text before UTF-8 is checked, perhaps part of a character. Empty for ids that do not
  // exist. Valid as long as the tokenizer.
  std::string_view TokenBytes(int32_t id) const;
  // The token whose bytes are exactly these; an added token if there is one.
  std::optional<int32_t> IdOf(std::string_view bytes) const;
  bool is_added(int32_t id) const { return KindOf(id) != Kind::kBase; }
  bool is_special(int32_t id) const { return KindOf(id) == Kind::kSpecial; }

 private:
  enum class Kind : uint8_t { kBase, kAdded, kSpecial };
  class Encoder;

  Tokenizer() = default;
  void SetAddedTokens(const std::vector<AddedToken>& tokens, size_t vocab_size);
  Kind KindOf(int32_t id) const { return id >= 0 && id < vocab_size() ? kinds_[size_t(id)] : Kind::kBase; }

  Bpe bpe_;
  Pretokenizer pretokenizer_;
  // Searched one after the other, the second one in what the first one leaves.
  AddedTokenMatcher exact_, normalized_;
  std::vector<Kind> kinds_;              // by id
  std::vector<std::string> contents_;    // of added tokens
  std::vector<uint32_t> content_index_;  // by id, where is_added
};

}  // namespace vexil
