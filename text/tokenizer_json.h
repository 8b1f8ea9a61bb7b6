// Reads a tokenizer.json of the DeepSeek-V3 family (spec: tokenizer, sections 1 to 3) and refuses everything that this
// program would not do exactly as the file says: other model types, normalizers, split behaviours, dropout, unknown
// members.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/bpe.h"

namespace vexil {

struct AddedToken {
  int32_t id;
  std::string content;
  bool normalized;  // searched for after the others, in what they leave
  bool special;     // left out when decoding with skip_special
};

// Ids are 0 ... tokens.size() - 1, each one a base token, an added token or both.
struct TokenizerJson {
  std::vector<std::string> tokens;  // by id: the bytes of a base token, or empty
  std::vector<Bpe::Merge> merges;   // in rank order; concatenations of base tokens
  std::vector<AddedToken> added;    // contents and ids differ
  std::vector<std::string> split_patterns;
};

// Errors: kUnsupported for a setting, kInvalidArgument for a malformed file; "model.dropout: found 0.1, expected null".
Result<TokenizerJson> ParseTokenizerJson(std::string_view text);

}  // namespace vexil
