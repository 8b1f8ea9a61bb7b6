#include "text/tokenizer.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace vexil {
namespace {

constexpr uintmax_t kMaxFileBytes = 1 << 30;

Status CheckSize(uintmax_t size) {
  if (size <= kMaxFileBytes) return {};
  return InvalidArgument(fmt::format("found {} bytes, expected at most {}", size, kMaxFileBytes));
}

Result<std::string> ReadFile(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);  // an error for what is no regular file
  if (error) return NotFound("cannot open: " + error.message());
  VX_TRY(CheckSize(size));
  std::string text(size, '\0');
  std::ifstream file(path, std::ios::binary);
  if (!file.read(text.data(), std::streamsize(size))) return DataLoss("cannot be read to its end");
  return text;
}

}  // namespace

// One call of Encode.
class Tokenizer::Encoder {
 public:
  explicit Encoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void Recognize(std::string_view text) {
    SplitOff(tokenizer_.exact_, text, [this](std::string_view rest) {
      SplitOff(tokenizer_.normalized_, rest, [this](std::string_view plain) { Plain(plain); });
    });
  }

  void Plain(std::string_view text) {
    tokenizer_.pretokenizer_.Split(text, &pieces_);
    for (const std::string_view piece : pieces_) tokenizer_.bpe_.Encode(piece, &scratch_, &ids_);
  }

  std::vector<int32_t> TakeIds() { return std::move(ids_); }

 private:
  // Calls on_rest for the stretches of text between added tokens, and adds the ids of those.
  template <class OnRest>
  void SplitOff(const AddedTokenMatcher& added, std::string_view text, OnRest on_rest) {
    size_t at = 0;
    while (const auto match = added.Find(text, at)) {
      on_rest(text.substr(at, match->begin - at));
      ids_.push_back(match->id);
      at = match->end;
    }
    on_rest(text.substr(at));
  }

  const Tokenizer& tokenizer_;
  std::vector<std::string_view> pieces_;
  Bpe::Scratch scratch_;
  std::vector<int32_t> ids_;
};

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromFile(const std::string& path) {
  Result<std::string> text = ReadFile(path);
  if (!text.ok()) return std::move(text).TakeError().Prefix(path);
  Result<std::unique_ptr<Tokenizer>> tokenizer = FromJson(*text);
  if (!tokenizer.ok()) return std::move(tokenizer).TakeError().Prefix(path);
  return tokenizer;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromJson(std::string_view text) {
  VX_TRY(CheckSize(text.size()));
  VX_ASSIGN(const TokenizerJson json, ParseTokenizerJson(text));
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer());
  VX_ASSIGN(tokenizer->pretokenizer_, Pretokenizer::Create(json.split_patterns));
  Result<Bpe> bpe = Bpe::Create(json.tokens, json.merges);
  if (!bpe.ok()) return std::move(bpe).TakeError().Prefix("model");
  tokenizer->bpe_ = *std::move(bpe);
  tokenizer->SetAddedTokens(json.added, json.tokens.size());
  return tokenizer;
}

void Tokenizer::SetAddedTokens(const std::vector<AddedToken>& tokens, size_t vocab_size) {
  kinds_.resize(vocab_size, Kind::kBase);
  content_index_.resize(vocab_size);
  std::vector<std::pair<std::string, int32_t>> exact, normalized;
  for (const AddedToken& token : tokens) {
    kinds_[size_t(token.id)] = token.special ? Kind::kSpecial : Kind::kAdded;
    content_index_[size_t(token.id)] = uint32_t(contents_.size());
    contents_.push_back(token.content);
    (token.normalized ? normalized : exact).emplace_back(token.content, token.id);
  }
  exact_ = AddedTokenMatcher(std::move(exact));
  normalized_ = AddedTokenMatcher(std::move(normalized));
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, AddedTokens mode) const {
  std::string repaired;
  if (WellFormedPrefix(text) != text.size()) text = repaired = ReplaceIllFormed(text);
  Encoder encoder(*this);
  mode == AddedTokens::kRecognize ? encoder.Recognize(text) : encoder.Plain(text);
  return encoder.TakeIds();
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!(skip_special && is_special(id))) bytes += TokenBytes(id);
  }
  return WellFormedPrefix(bytes) == bytes.size() ? bytes : ReplaceIllFormed(bytes);
}

std::string_view Tokenizer::TokenBytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return is_added(id) ? contents_[content_index_[size_t(id)]] : bpe_.tokens().Bytes(id);
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view bytes) const {
  if (const auto id = exact_.IdOf(bytes)) return id;
  if (const auto id = normalized_.IdOf(bytes)) return id;
  const int32_t id = bpe_.tokens().Find(bytes);
  return id < 0 ? std::nullopt : std::optional(id);
}

}  // namespace vexil
