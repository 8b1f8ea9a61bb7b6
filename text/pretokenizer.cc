#include "text/pretokenizer.h"

#include <fmt/format.h>

#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/check.h"
#include "text/split_pattern.h"

namespace vexil {
namespace {

std::string ErrorText(int error) {
  unsigned char text[256];
  pcre2_get_error_message(error, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// What one thread needs to match.
class Matcher {
 public:
  Matcher() : data_(pcre2_match_data_create(1, nullptr)), context_(pcre2_match_context_create(nullptr)) {
    VX_CHECK(data_ != nullptr && context_ != nullptr, "out of memory");
    pcre2_set_match_limit(context_, UINT32_MAX);
    pcre2_set_depth_limit(context_, UINT32_MAX);
    pcre2_set_heap_limit(context_, UINT32_MAX);
  }
  ~Matcher() {
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  // The first match in text[from, end) goes to *begin and *end.
  bool Find(const pcre2_code* code, bool jit, std::string_view text, size_t from, size_t* begin, size_t* end) {
    const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
    const int rc = jit ? pcre2_jit_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data_, context_)
                       : pcre2_match(code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, data_, context_);
    if (rc == PCRE2_ERROR_NOMATCH) return false;
    // Accepted patterns have no groups and no nested repeats: matching needs no stack that grows with the text.
    VX_CHECK(rc > 0, "matching ends in a match or in none");
    const PCRE2_SIZE* match = pcre2_get_ovector_pointer(data_);
    *begin = match[0];
    *end = match[1];
    return true;
  }

 private:
  pcre2_match_data* data_;
  pcre2_match_context* context_;
};

}  // namespace

void Pretokenizer::CodeDeleter::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Result<Pretokenizer> Pretokenizer::Create(const std::vector<std::string>& patterns, bool use_jit) {
  Pretokenizer result;
  for (size_t i = 0; i < patterns.size(); ++i) {
    Result<Step> step = Compile(patterns[i], use_jit);
    if (!step.ok()) {
      return std::move(step).TakeError().Prefix(fmt::format("pre_tokenizer.pretokenizers[{}].pattern.Regex", i));
    }
    result.steps_.push_back(*std::move(step));
  }
  return result;
}

Result<Pretokenizer::Step> Pretokenizer::Compile(const std::string& pattern, bool use_jit) {
  VX_ASSIGN(const std::string translated, TranslateSplitPattern(pattern));
  int error = 0;
  PCRE2_SIZE offset = 0;
  Step step;
  step.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                                PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr));
  if (step.code == nullptr) return InvalidArgument(ErrorText(error));
  uint32_t matches_empty = 0;
  pcre2_pattern_info(step.code.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty) {
    return InvalidArgument("found a pattern that matches the empty text, expected at least one character");
  }
  step.jit = use_jit && pcre2_jit_compile(step.code.get(), PCRE2_JIT_COMPLETE) == 0;
  return step;
}

void Pretokenizer::Split(std::string_view text, std::vector<std::string_view>* pieces) const {
  pieces->clear();
  if (text.empty()) return;
  pieces->push_back(text);
  Matcher matcher;
  std::vector<std::string_view> input;
  for (const Step& step : steps_) {
    std::swap(input, *pieces);
    pieces->clear();
    for (const std::string_view piece : input) {
      size_t at = 0, begin, end;
      while (at < piece.size() && matcher.Find(step.code.get(), step.jit, piece, at, &begin, &end)) {
        if (begin > at) pieces->push_back(piece.substr(at, begin - at));
        pieces->push_back(piece.substr(begin, end - begin));
        at = end;
      }
      if (at < piece.size()) pieces->push_back(piece.substr(at));
    }
  }
}

}  // namespace vexil
