// UTF-8: checking, and replacing what is ill-formed.
//
// An ill-formed stretch becomes one U+FFFD per maximal subpart (Unicode 15, section 3.9, table 3-8): what Python's
// errors="replace" and web browsers do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace vexil {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// The sequence at the start of a text.
struct Utf8Sequence {
  enum class Kind : uint8_t {
    kWellFormed,
    kIllFormed,  // `length` bytes are a maximal subpart
    kTruncated,  // the text ends inside a sequence that is well-formed so far
  };
  Kind kind;
  uint8_t length;  // bytes, 1 to 4
};
// `text` is not empty.
Utf8Sequence FirstUtf8Sequence(std::string_view text);

// The code point of the well-formed sequence at the start of `text`, of `length` bytes.
char32_t DecodeUtf8(std::string_view text, size_t length);
// Appends a code point that is a Unicode scalar value.
void AppendUtf8(char32_t c, std::string* out);

// The length of the longest well-formed prefix; text.size() when all of it is well-formed.
size_t WellFormedPrefix(std::string_view text);

// Text that arrives in parts cut anywhere. The parts that Append and Finish add to *out are each well-formed, and
// together are what one Append of the whole would give. At most 3 bytes wait for their continuation.
class Utf8Stream {
 public:
  void Append(std::string_view bytes, std::string* out);
  // The end of the text: an unfinished sequence becomes U+FFFD. Ready for another text afterwards.
  void Finish(std::string* out);

 private:
  std::string pending_;  // a proper prefix of a well-formed sequence, or empty
};

std::string ReplaceIllFormed(std::string_view bytes);

}  // namespace vexil
