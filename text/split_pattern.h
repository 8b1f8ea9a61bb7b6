// The regular expressions of a tokenizer.json, which are written for Oniguruma, rewritten for PCRE2.
//
// Only what means the same in both is accepted:
//   alternatives  a|b
//   characters    literals; \r \n \t; a backslash before ASCII punctuation
//   classes       [a-z] [^a-z], \s \S (Unicode White_Space), \p{..} \P{..} with a general category such as L or Lu
//   repeats       ? * + {n} {n,} {n,m} of one character or class, greedy
//   look-ahead    (?=x) (?!x) of one character or class
// Everything else is refused: dialects differ in it, or (nested repeats) a short text could take forever to match.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace vexil {

// A pattern for PCRE2_UTF. `pattern` is well-formed UTF-8. Errors: kUnsupported, with the
// place: "byte 12: found \"\\w\", expected ...".
Result<std::string> TranslateSplitPattern(std::string_view pattern);

}  // namespace vexil
