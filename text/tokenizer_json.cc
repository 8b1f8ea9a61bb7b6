#include "text/tokenizer_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <unordered_map>

#include "base/json.h"
#include "text/byte_level.h"

namespace vexil {
namespace {

// Bounds the cost of a search for added tokens, whose worst case is this many steps per byte.
constexpr size_t kMaxAddedTokenBytes = 1024;
constexpr size_t kMaxSplitSteps = 64;

// A value as a short line, however large it is.
std::string Describe(const Json& value) {
  constexpr size_t kMax = 60;
  if (value.is_array() && value.array()->empty()) return "[]";
  if (value.is_object() || value.is_array()) return value.TypeName();
  std::string text = value.ToText();
  if (text.size() <= kMax) return text;
  size_t end = kMax;
  while (end > 0 && (uint8_t(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

std::string Mismatch(std::string_view found, std::string_view expected) {
  return fmt::format("found {}, expected {}", found, expected);
}
Status Unexpected(std::string_view found, std::string_view expected) {
  return InvalidArgument(Mismatch(found, expected));
}
Status Malformed(std::string_view path, std::string_view found, std::string_view expected) {
  return Unexpected(found, expected).Prefix(path);
}
Status NotSupported(std::string_view path, std::string_view found, std::string_view expected) {
  return Unsupported(Mismatch(found, expected)).Prefix(path);
}

// A member that an object may have.
struct Member {
  enum Presence : uint8_t { kRequired, kOptional };
  std::string_view key;
  Presence presence;
  // The values that are supported, as JSON; none: the caller looks at the value.
  std::initializer_list<std::string_view> values = {};
};

// `object` has the listed members with supported values, and no others.
Status CheckMembers(const Json& object, const std::string& path, std::initializer_list<Member> members) {
  if (!object.is_object()) return Malformed(path.empty() ? "tokenizer" : path, Describe(object), "an object");
  const std::string prefix = path.empty() ? "" : path + ".";
  for (const auto& [key, value] : *object.object()) {
    const auto member = std::ranges::find(members, std::string_view(key), &Member::key);
    if (member == members.end()) return NotSupported(prefix + Describe(Json(key)), "an unknown member", "none");
    if (member->values.size() == 0) continue;
    const std::string found = Describe(value);
    if (std::ranges::find(member->values, std::string_view(found)) == member->values.end()) {
      return NotSupported(prefix + key, found, fmt::format("{}", fmt::join(member->values, " or ")));
    }
  }
  for (const Member& member : members) {
    if (member.presence == Member::kRequired && object.Find(member.key) == nullptr) {
      return Malformed(prefix + std::string(member.key), "nothing", "a value");
    }
  }
  return {};
}

using enum Member::Presence;

// What stands around the model: a normalizer and a post-processor that change nothing, and a ByteLevel decoder, whose
// settings do not matter for decoding.
Status CheckSurroundings(const Json& root) {
  if (const Json* normalizer = root.Find("normalizer"); normalizer != nullptr && !normalizer->is_null()) {
    VX_TRY(CheckMembers(*normalizer, "normalizer",
                        {{"type", kRequired, {R"("Sequence")"}}, {"normalizers", kRequired, {"[]"}}}));
  }
  for (const char* key : {"post_processor", "decoder"}) {
    const Json* step = root.Find(key);
    if (step == nullptr || (step->is_null() && std::string_view(key) == "post_processor")) continue;
    VX_TRY(CheckMembers(*step, key,
                        {{"type", kRequired, {R"("ByteLevel")"}},
                         {"add_prefix_space", kOptional, {"true", "false"}},
                         {"trim_offsets", kOptional, {"true", "false"}},
                         {"use_regex", kOptional, {"true", "false"}}}));
  }
  return {};
}

Result<std::string> ParseSplit(const Json& step, const std::string& path) {
  VX_TRY(CheckMembers(step, path,
                      {{"type", kRequired, {R"("Split")"}},
                       {"pattern", kRequired},
                       {"behavior", kRequired, {R"("Isolated")"}},
                       {"invert", kRequired, {"false"}}}));
  const Json& pattern = *step.Find("pattern");
  VX_TRY(CheckMembers(pattern, path + ".pattern", {{"Regex", kRequired}}));
  const Json& regex = *pattern.Find("Regex");
  if (!regex.is_string()) return Malformed(path + ".pattern.Regex", Describe(regex), "a string");
  return *regex.string();
}

Status CheckByteLevel(const Json& step, const std::string& path) {
  return CheckMembers(step, path,
                      {{"type", kRequired, {R"("ByteLevel")"}},
                       {"add_prefix_space", kRequired, {"false"}},
                       {"trim_offsets", kOptional, {"true", "false"}},
                       {"use_regex", kRequired, {"false"}}});
}

// Split steps, then ByteLevel.
Result<std::vector<std::string>> ParsePretokenizer(const Json& json) {
  VX_TRY(CheckMembers(json, "pre_tokenizer", {{"type", kRequired, {R"("Sequence")"}}, {"pretokenizers", kRequired}}));
  const std::string path = "pre_tokenizer.pretokenizers";
  const Json& list = *json.Find("pretokenizers");
  if (!list.is_array()) return Malformed(path, Describe(list), "an array");
  const Json::Array& steps = *list.array();
  if (steps.empty() || steps.size() > kMaxSplitSteps) {
    return Malformed(path, fmt::format("{} steps", steps.size()), fmt::format("1 to {}", kMaxSplitSteps));
  }
  std::vector<std::string> patterns;
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    VX_ASSIGN(std::string pattern, ParseSplit(steps[i], fmt::format("{}[{}]", path, i)));
    patterns.push_back(std::move(pattern));
  }
  VX_TRY(CheckByteLevel(steps.back(), fmt::format("{}[{}]", path, steps.size() - 1)));
  return patterns;
}

Result<AddedToken> ParseAddedToken(const Json& json, const std::string& path) {
  VX_TRY(CheckMembers(json, path,
                      {{"id", kRequired},
                       {"content", kRequired},
                       {"single_word", kRequired, {"false"}},
                       {"lstrip", kRequired, {"false"}},
                       {"rstrip", kRequired, {"false"}},
                       {"normalized", kRequired, {"true", "false"}},
                       {"special", kRequired, {"true", "false"}}}));
  const std::optional<int64_t> id = json.Find("id")->Int();
  if (!id || *id < 0 || *id >= INT32_MAX) return Malformed(path + ".id", Describe(*json.Find("id")), "a token id");
  const std::string* content = json.Find("content")->string();
  if (content == nullptr || content->empty() || content->size() > kMaxAddedTokenBytes) {
    return Malformed(path + ".content", Describe(*json.Find("content")),
                     fmt::format("a string of 1 to {} bytes", kMaxAddedTokenBytes));
  }
  return AddedToken{int32_t(*id), *content, *json.Find("normalized")->Bool(), *json.Find("special")->Bool()};
}

// ["a", "b"] or, in older files, "a b".
bool ParseMerge(const Json& json, std::string_view* left, std::string_view* right) {
  if (const std::string* text = json.string()) {
    const size_t space = text->find(' ');
    if (space == text->npos || text->find(' ', space + 1) != text->npos) return false;
    *left = std::string_view(*text).substr(0, space);
    *right = std::string_view(*text).substr(space + 1);
    return true;
  }
  const Json::Array* pair = json.array();
  if (pair == nullptr || pair->size() != 2 || !(*pair)[0].is_string() || !(*pair)[1].is_string()) return false;
  *left = *(*pair)[0].string();
  *right = *(*pair)[1].string();
  return true;
}

// Puts the lists of tokens together: added tokens first, then the vocabulary, then what refers to both. Paths of
// entries are put in front of messages on the way up, so that the entries without a fault cost none.
class TokenLists {
 public:
  Status AddAdded(const Json* json) {
    if (json == nullptr) return {};
    if (!json->is_array()) return Malformed("added_tokens", Describe(*json), "an array");
    for (const Json& entry : *json->array()) {
      const std::string path = fmt::format("added_tokens[{}]", result_.added.size());
      VX_ASSIGN(AddedToken token, ParseAddedToken(entry, path));
      if (!added_ids_.emplace(token.content, token.id).second) {
        return Malformed(path + ".content", Describe(token.content) + " again", "each content once");
      }
      result_.added.push_back(std::move(token));
    }
    return {};
  }

  Status AddVocab(const Json& json) {
    if (!json.is_object()) return Malformed("model.vocab", Describe(json), "an object");
    const size_t max_size = json.object()->size() + result_.added.size();
    taken_.resize(max_size);
    result_.tokens.resize(max_size);
    for (const auto& [key, value] : *json.object()) {
      Status status = AddBase(key, value);
      if (!status.ok()) return std::move(status).Prefix(fmt::format("model.vocab[{}]", Describe(key)));
    }
    return {};
  }

  // Gives ids of their own to the added tokens that the vocabulary does not repeat. No id is left out.
  Status Complete() {
    for (size_t i = 0; i < result_.added.size(); ++i) {
      const AddedToken& token = result_.added[i];
      if (base_ids_.contains(token.content)) continue;
      Status status = Take(token.id);
      if (!status.ok()) return std::move(status).Prefix(fmt::format("added_tokens[{}].id", i));
    }
    const size_t size = size_t(std::ranges::find(taken_.rbegin(), taken_.rend(), true).base() - taken_.begin());
    for (size_t id = 0; id < size; ++id) {
      if (taken_[id]) continue;
      return Malformed("model.vocab", fmt::format("no token with id {}", id),
                       fmt::format("all from 0 to {}", size - 1));
    }
    result_.tokens.resize(size);
    return {};
  }

  Status AddMerges(const Json& json) {
    if (!json.is_array()) return Malformed("model.merges", Describe(json), "an array");
    result_.merges.reserve(json.array()->size());
    for (const Json& entry : *json.array()) {
      Status status = AddMerge(entry);
      if (!status.ok()) return std::move(status).Prefix(fmt::format("model.merges[{}]", result_.merges.size()));
    }
    return {};
  }

  TokenizerJson Finish() && { return std::move(result_); }

 private:
  Status Take(int64_t id) {
    if (id < 0 || id >= int64_t(taken_.size())) {
      return Unexpected(fmt::format("id {}", id), fmt::format("0 to {}, as there are tokens", taken_.size() - 1));
    }
    if (taken_[size_t(id)]) return Unexpected(fmt::format("id {} again", id), "each id once");
    taken_[size_t(id)] = true;
    return {};
  }

  Status AddBase(const std::string& key, const Json& value) {
    const std::optional<int64_t> id = value.Int();
    if (!id) return Unexpected(Describe(value), "a token id");
    VX_TRY(Take(*id));
    base_ids_.emplace(key, int32_t(*id));
    const auto added = added_ids_.find(key);
    if (added != added_ids_.end() && added->second != *id) {
      return Unexpected(fmt::format("id {}", *id), fmt::format("{} as in added_tokens", added->second));
    }
    std::optional<std::string> bytes = BytesOfSymbols(key);
    if (bytes && bytes->empty()) return Unexpected("an empty token", "at least one character");
    if (!bytes && added == added_ids_.end()) {
      return Unexpected("a character that stands for no byte", "byte symbols or an added token");
    }
    if (bytes) result_.tokens[size_t(*id)] = *std::move(bytes);
    return {};
  }

  Status AddMerge(const Json& entry) {
    std::string_view left, right;
    if (!ParseMerge(entry, &left, &right)) return Unexpected(Describe(entry), "two tokens");
    Bpe::Merge merge;
    VX_ASSIGN(merge.left, BaseId(std::string(left)));
    VX_ASSIGN(merge.right, BaseId(std::string(right)));
    VX_ASSIGN(merge.result, BaseId(std::string(left).append(right)));
    result_.merges.push_back(merge);
    return {};
  }

  Result<int32_t> BaseId(const std::string& key) const {
    const auto found = base_ids_.find(key);
    if (found == base_ids_.end() || result_.tokens[size_t(found->second)].empty()) {
      return Unexpected(Describe(key), "a token of model.vocab made of byte symbols");
    }
    return found->second;
  }

  TokenizerJson result_;
  std::vector<bool> taken_;                                        // by id
  std::unordered_map<std::string, int32_t> base_ids_, added_ids_;  // by text as in the file
};

Result<TokenizerJson> ParseLists(const Json* added, const Json& model) {
  VX_TRY(CheckMembers(model, "model",
                      {{"type", kRequired, {R"("BPE")"}},
                       {"dropout", kOptional, {"null"}},
                       {"unk_token", kOptional, {"null"}},
                       {"continuing_subword_prefix", kOptional, {"null", R"("")"}},
                       {"end_of_word_suffix", kOptional, {"null", R"("")"}},
                       {"fuse_unk", kOptional, {"false"}},
                       {"byte_fallback", kOptional, {"false"}},
                       {"ignore_merges", kOptional, {"false"}},
                       {"vocab", kRequired},
                       {"merges", kRequired}}));
  TokenLists lists;
  VX_TRY(lists.AddAdded(added));
  VX_TRY(lists.AddVocab(*model.Find("vocab")));
  VX_TRY(lists.Complete());
  VX_TRY(lists.AddMerges(*model.Find("merges")));
  return std::move(lists).Finish();
}

}  // namespace

Result<TokenizerJson> ParseTokenizerJson(std::string_view text) {
  VX_ASSIGN(const Json root, Json::Parse(text));
  VX_TRY(CheckMembers(root, "",
                      {{"version", kRequired, {R"("1.0")"}},
                       {"truncation", kOptional, {"null"}},
                       {"padding", kOptional, {"null"}},
                       {"added_tokens", kOptional},
                       {"normalizer", kOptional},
                       {"pre_tokenizer", kRequired},
                       {"post_processor", kOptional},
                       {"decoder", kRequired},
                       {"model", kRequired}}));
  VX_TRY(CheckSurroundings(root));
  VX_ASSIGN(std::vector<std::string> patterns, ParsePretokenizer(*root.Find("pre_tokenizer")));
  VX_ASSIGN(TokenizerJson result, ParseLists(root.Find("added_tokens"), *root.Find("model")));
  result.split_patterns = std::move(patterns);
  return result;
}

}  // namespace vexil
