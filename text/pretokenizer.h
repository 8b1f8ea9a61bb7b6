// Cuts text into the pieces that BPE works on: a chain of Split steps with behaviour Isolated (spec: tokenizer,
// section 4). The matches of a step become pieces, the stretches between them too, nothing is dropped. Each step sees
// one piece of the step before at a time and nothing around it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

struct pcre2_real_code_8;

namespace vexil {

class Pretokenizer {
 public:
  // No step: a text is one piece.
  Pretokenizer() = default;

  // One step per pattern; text/split_pattern.h says what a pattern may contain, and it must not match the empty text.
  // `use_jit` off: matching is interpreted, as it also is where the machine allows no generated code.
  // Errors: kUnsupported or kInvalidArgument, with the name of the pattern in a tokenizer.json.
  static Result<Pretokenizer> Create(const std::vector<std::string>& patterns, bool use_jit = true);

  // Puts the pieces of well-formed UTF-8 into *pieces (emptied first); they are views of `text` in its order, never
  // empty. May be called from several threads at once.
  void Split(std::string_view text, std::vector<std::string_view>* pieces) const;

 private:
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct Step {
    std::unique_ptr<pcre2_real_code_8, CodeDeleter> code;
    bool jit = false;
  };

  static Result<Step> Compile(const std::string& pattern, bool use_jit);

  std::vector<Step> steps_;
};

}  // namespace vexil
