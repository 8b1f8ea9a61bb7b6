#include "text/split_pattern.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/json.h"
#include "text/utf8.h"

namespace vexil {
namespace {

// Unicode White_Space. PCRE2's own \s also takes U+180E, which lost that property in Unicode 6.3.
constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

constexpr std::string_view kGeneralCategories[] = {
    "C",  "Cc", "Cf", "Cn", "Co", "Cs", "L",  "Ll", "Lm", "Lo", "Lt", "Lu", "M",  "Mc", "Me", "Mn", "N",  "Nd", "Nl",
    "No", "P",  "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S",  "Sc", "Sk", "Sm", "So", "Z",  "Zl", "Zp", "Zs",
};

constexpr size_t kMaxPatternBytes = 4096;
// PCRE2's own bound on the counts of a repeat.
constexpr int kMaxCount = 65535;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAsciiPunctuation(char c) {
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return c > ' ' && c < 127 && !letter && !IsDigit(c);
}

std::string Literal(char32_t c) { return fmt::format("\\x{{{:X}}}", uint32_t(c)); }

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  Result<std::string> Run() {
    while (!AtEnd()) VX_TRY(Item());
    return std::move(out_);
  }

 private:
  bool AtEnd() const { return at_ == pattern_.size(); }
  char Peek(size_t ahead = 0) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }
  bool Accept(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  Status Refuse(size_t begin, size_t end, std::string_view expected) const {
    return Unsupported(
        fmt::format("byte {}: found {}, expected {}", begin, QuoteJson(pattern_.substr(begin, end - begin)), expected));
  }
  // Refuses the character at the current place.
  Status RefuseHere(std::string_view expected) const {
    if (AtEnd()) return Unsupported(fmt::format("byte {}: found the end, expected {}", at_, expected));
    return Refuse(at_, at_ + FirstUtf8Sequence(pattern_.substr(at_)).length, expected);
  }
  char32_t TakeCharacter() {
    const std::string_view rest = pattern_.substr(at_);
    const size_t length = FirstUtf8Sequence(rest).length;
    at_ += length;
    return DecodeUtf8(rest, length);
  }

  Status Item() {
    if (Accept("|")) {
      out_ += '|';
      return {};
    }
    if (Accept("(?=") || Accept("(?!")) {
      out_ += pattern_.substr(at_ - 3, 3);
      VX_TRY(Atom());
      if (!Accept(")")) return RefuseHere("')' after one character or class of a look-ahead");
      out_ += ')';
      return {};
    }
    VX_TRY(Atom());
    return Repeat();
  }

  // One character or class.
  Status Atom() {
    if (AtEnd()) return RefuseHere("a character");
    if (Peek() == '[') return Class();
    if (Peek() == '\\') return Escape(/*in_class=*/false);
    if (std::string_view("|()*+?{}.^$]").find(Peek()) != std::string_view::npos) {
      return RefuseHere("an alternative of plain characters, classes, greedy repeats and look-aheads");
    }
    out_ += Literal(TakeCharacter());
    return {};
  }

  // A backslash and what belongs to it. Sets last_ when it is a single character.
  Status Escape(bool in_class) {
    const size_t begin = at_++;
    last_ = kNotOne;
    const char c = Peek();
    if (c == 's' || c == 'S') {
      if (c == 'S' && in_class) return Refuse(begin, at_ + 1, "no negated \\S within a class");
      ++at_;
      out_ += in_class ? std::string(kWhiteSpace) : fmt::format("[{}{}]", c == 'S' ? "^" : "", kWhiteSpace);
      return {};
    }
    if (c == 'p' || c == 'P') return Property(begin);
    if (c == 'r' || c == 'n' || c == 't') {
      last_ = c == 'r' ? '\r' : c == 'n' ? '\n' : '\t';
    } else if (IsAsciiPunctuation(c)) {
      last_ = char32_t(c);
    } else {
      if (AtEnd()) return RefuseHere("a character after the backslash");
      return Refuse(begin, at_ + FirstUtf8Sequence(pattern_.substr(at_)).length,
                    "\\s \\S \\p{..} \\P{..} \\r \\n \\t or escaped punctuation");
    }
    ++at_;
    out_ += Literal(last_);
    return {};
  }

  // \p{L}; `begin` is the place of the backslash.
  Status Property(size_t begin) {
    constexpr std::string_view kExpected = "a general category in braces";
    const size_t close = pattern_.find('}', ++at_);
    if (Peek() != '{' || close == std::string_view::npos) return Refuse(begin, at_, kExpected);
    const std::string_view name = pattern_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    if (std::ranges::find(kGeneralCategories, name) == std::end(kGeneralCategories)) {
      return Refuse(begin, at_, kExpected);
    }
    out_ += pattern_.substr(begin, at_ - begin);
    return {};
  }

  Status Class() {
    const size_t begin = at_++;
    out_ += '[';
    if (Accept("^")) out_ += '^';
    if (Peek() == ']') return Refuse(begin, at_ + 1, "a class with members");
    const size_t first_member = at_;
    while (!Accept("]")) {
      if (AtEnd()) return Refuse(begin, begin + 1, "']' at the end of the class");
      if (Peek() == '-' && at_ != first_member && Peek(1) != ']') return RefuseHere("'-' first, last or in a range");
      VX_TRY(ClassMember());
      if (Peek() != '-' || Peek(1) == ']') continue;
      const char32_t first = last_;
      const size_t range = at_++;
      out_ += '-';
      if (first == kNotOne || AtEnd()) return Refuse(range, at_, "a single character before '-'");
      VX_TRY(ClassMember());
      if (last_ == kNotOne || last_ < first) return Refuse(range, at_, "a character after '-' that is not smaller");
    }
    out_ += ']';
    return {};
  }

  // One character, or an escape that stands for several. Sets last_.
  Status ClassMember() {
    if (Peek() == '\\') return Escape(/*in_class=*/true);
    if (Peek() == '[' || (Peek() == '&' && Peek(1) == '&')) return RefuseHere("no set operation within a class");
    last_ = TakeCharacter();
    out_ += Literal(last_);
    return {};
  }

  // What may follow an atom.
  Status Repeat() {
    const size_t begin = at_;
    if (Accept("{")) {
      const int low = Count();
      int high = low;
      if (Accept(",")) high = Peek() == '}' ? kMaxCount : Count();
      if (low < 0 || high < low || !Accept("}")) return Refuse(begin, at_, "{n}, {n,} or {n,m} with n <= m <= 65535");
    } else if (!Accept("?") && !Accept("*") && !Accept("+")) {
      return {};
    }
    if (!AtEnd() && std::string_view("?*+{").find(Peek()) != std::string_view::npos) {
      return RefuseHere("one greedy repeat");
    }
    out_ += pattern_.substr(begin, at_ - begin);
    return {};
  }

  // Takes decimal digits; -1 if there are none or their number is too large.
  int Count() {
    int count = IsDigit(Peek()) ? 0 : -1;
    for (; IsDigit(Peek()) && count <= kMaxCount; ++at_) count = 10 * count + (Peek() - '0');
    return count <= kMaxCount ? count : -1;
  }

  static constexpr char32_t kNotOne = 0xFFFFFFFF;

  std::string_view pattern_;
  size_t at_ = 0;
  std::string out_;
  char32_t last_ = kNotOne;  // the class member just read, if it is one character
};

}  // namespace

Result<std::string> TranslateSplitPattern(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return Unsupported(fmt::format("found {} bytes, expected at most {}", pattern.size(), kMaxPatternBytes));
  }
  return Translator(pattern).Run();
}

}  // namespace vexil
