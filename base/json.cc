#include "base/json.h"

#include <fmt/format.h>
#include <locale.h>
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <new>
#include <unordered_map>

#include "base/check.h"

namespace vexil {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The end of the JSON number that starts at `p`, or `p` when there is none. NaN and the infinities are
// spelled as Python spells them.
const char* NumberEnd(const char* p, const char* end, bool allow_nan) {
  const char* const begin = p;
  const auto digits = [&] {
    const char* first = p;
    while (p != end && IsDigit(*p)) ++p;
    return p != first;
  };
  if (allow_nan) {
    for (std::string_view name : {"NaN", "Infinity", "-Infinity"}) {
      if (std::string_view(p, size_t(end - p)).starts_with(name)) return p + name.size();
    }
  }
  if (p != end && *p == '-') ++p;
  if (p != end && *p == '0') {
    ++p;
  } else if (!digits()) {
    return begin;
  }
  if (p != end && *p == '.') {
    ++p;
    if (!digits()) return begin;
  }
  if (p != end && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p != end && (*p == '+' || *p == '-')) ++p;
    if (!digits()) return begin;
  }
  return p;
}

// RapidJSON's input stream over a string. Every number looks to the parser like the single digit 0, and
// `taken()` gives its literal: RapidJSON 1.1 refuses literals beyond the range of a double even when it is
// asked to keep numbers as text, and spells the infinities its own way.
class Source {
 public:
  using Ch = char;

  Source(std::string_view text, bool allow_nan)
      : begin_(text.data()), end_(begin_ + text.size()), next_(begin_), allow_nan_(allow_nan) {
    Load();
  }

  char Peek() const { return shown_; }
  char Take() {
    const char c = shown_;
    if (escaped_) {
      escaped_ = false;
    } else if (c == '"') {
      in_string_ = !in_string_;
    } else if (c == '\\') {
      escaped_ = in_string_;
    }
    taken_ = std::string_view(at_, size_t(next_ - at_));
    Load();
    return c;
  }
  size_t Tell() const { return size_t(at_ - begin_); }

  // Only in-situ parsing writes; RapidJSON wants the members to exist.
  char* PutBegin() { return nullptr; }
  void Put(char) {}
  void Flush() {}
  size_t PutEnd(char*) { return 0; }

  // The text behind the character that was taken last.
  std::string_view taken() const { return taken_; }
  bool bad_number() const { return bad_number_; }
  bool AtEnd() const { return at_ == end_; }

 private:
  // Shows the next character: '\0' at the end and, so that the parser stops, at a malformed number.
  void Load() {
    at_ = next_;
    shown_ = '\0';
    if (at_ == end_ || bad_number_) return;
    shown_ = *at_;
    next_ = at_ + 1;
    if (in_string_ || !(IsDigit(shown_) || shown_ == '-' || shown_ == 'N' || shown_ == 'I')) return;
    next_ = NumberEnd(at_, end_, allow_nan_);
    bad_number_ = next_ == at_;
    shown_ = bad_number_ ? '\0' : '0';
  }

  const char* begin_;
  const char* end_;
  const char* at_ = nullptr;    // the character that is shown
  const char* next_ = nullptr;  // the one after it
  char shown_ = '\0';
  bool in_string_ = false;
  bool escaped_ = false;
  bool allow_nan_;
  bool bad_number_ = false;
  std::string_view taken_;
};

constexpr const char* kLoneSurrogate = "a \\u escape of half a surrogate pair without the other half";

// A \u escape of a lone low surrogate passes RapidJSON and comes out as three bytes that are not UTF-8. The
// raw bytes of a string have been validated, so nothing else can produce the pattern.
bool HasSurrogate(std::string_view s) {
  for (size_t i = s.find('\xed'); i != s.npos; i = s.find('\xed', i + 1)) {
    if (i + 1 < s.size() && uint8_t(s[i + 1]) >= 0xa0) return true;
  }
  return false;
}

// Builds the value from RapidJSON's events. A handler that returns false stops the parser; `error()` says why.
class Builder {
 public:
  Builder(const Source& source, const Json::ParseOptions& options) : source_(source), options_(options) {}

  bool Null() { return Add(Json()); }
  bool Bool(bool v) { return Add(Json(v)); }
  bool Uint(unsigned) { return Add(Json(Json::Number{std::string(source_.taken())})); }
  bool String(const char* s, rapidjson::SizeType size, bool) {
    const std::string_view text(s, size);
    if (HasSurrogate(text)) return Fail(kLoneSurrogate, source_.Tell() - 1);
    return Add(Json(text));
  }
  bool Key(const char* s, rapidjson::SizeType size, bool) {
    const std::string_view text(s, size);
    if (HasSurrogate(text)) return Fail(kLoneSurrogate, source_.Tell() - 1);
    open_.back().object.emplace_back(text, Json());
    if (!options_.allow_duplicates) open_.back().key_ends.push_back(source_.Tell() - 1);
    return true;
  }
  bool StartObject() { return Open(); }
  bool StartArray() { return Open(); }
  bool EndObject(rapidjson::SizeType) {
    Frame frame = Close();
    return Deduplicate(frame) && Add(Json(std::move(frame.object)));
  }
  bool EndArray(rapidjson::SizeType) { return Add(Json(Close().array)); }

  // Never come: every number is seen as 0.
  bool Int(int) { return false; }
  bool Int64(int64_t) { return false; }
  bool Uint64(uint64_t) { return false; }
  bool Double(double) { return false; }
  bool RawNumber(const char*, rapidjson::SizeType, bool) { return false; }

  Json TakeRoot() { return std::move(root_); }
  // Empty unless a handler has refused; then `error_at()` is the place.
  const std::string& error() const { return error_; }
  size_t error_at() const { return error_at_; }

 private:
  // A container that is being filled: one of the two lists.
  struct Frame {
    Json::Array array;
    Json::Object object;
    std::vector<size_t> key_ends;  // offsets, for the message about a repeated name
  };

  bool Fail(std::string message, size_t at) {
    error_ = std::move(message);
    error_at_ = at;
    return false;
  }
  bool Open() {
    if (int(open_.size()) >= options_.max_depth) {
      return Fail(fmt::format("nested deeper than {} levels", options_.max_depth), source_.Tell());
    }
    open_.emplace_back();
    return true;
  }
  Frame Close() {
    Frame frame = std::move(open_.back());
    open_.pop_back();
    return frame;
  }
  bool Add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (Frame& f = open_.back(); !f.object.empty()) {
      f.object.back().second = std::move(value);  // an array's frame never has a member, an object's always
    } else {
      f.array.push_back(std::move(value));
    }
    return true;
  }

  // Applies the options to repeated names, in time linear in the member count.
  bool Deduplicate(Frame& frame) {
    Json::Object& members = frame.object;
    if (members.size() < 2) return true;
    std::unordered_map<std::string_view, size_t> first;
    first.reserve(members.size());
    std::vector<bool> repeats(members.size());
    for (size_t i = 0; i < members.size(); ++i) {
      const auto [it, inserted] = first.try_emplace(members[i].first, i);
      if (inserted) continue;
      if (!options_.allow_duplicates) {
        return Fail(fmt::format("the member {} is repeated", QuoteJson(members[i].first)), frame.key_ends[i]);
      }
      members[it->second].second = std::move(members[i].second);
      repeats[i] = true;
    }
    if (first.size() == members.size()) return true;
    Json::Object kept;
    kept.reserve(first.size());
    for (size_t i = 0; i < members.size(); ++i) {
      if (!repeats[i]) kept.push_back(std::move(members[i]));
    }
    members = std::move(kept);
    return true;
  }

  const Source& source_;
  const Json::ParseOptions& options_;
  std::vector<Frame> open_;
  Json root_;
  std::string error_;
  size_t error_at_ = 0;
};

// "line 3, column 7: what"; columns from 1, in code points.
Status ErrorAt(std::string_view text, int64_t first_line, size_t at, std::string_view what) {
  const std::string_view before = text.substr(0, at);
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const std::string_view line = before.substr(before.rfind('\n') + 1);
  const auto continuation = [](char c) { return (uint8_t(c) & 0xc0) == 0x80; };
  const auto column = line.size() - size_t(std::count_if(line.begin(), line.end(), continuation));
  return InvalidArgument(fmt::format("line {}, column {}: {}", first_line + lines, column + 1, what));
}

// RapidJSON's sentence as a clause: no capital, no full stop.
std::string Describe(rapidjson::ParseErrorCode code) {
  if (code == rapidjson::kParseErrorStringUnicodeSurrogateInvalid) return kLoneSurrogate;
  std::string s = rapidjson::GetParseError_En(code);
  if (s.ends_with('.')) s.pop_back();
  s[0] = char(std::tolower(uint8_t(s[0])));
  return s;
}

Result<Json> ParseJson(std::string_view text, const Json::ParseOptions& options) {
  const auto error_at = [&](size_t at, std::string_view what) { return ErrorAt(text, options.first_line, at, what); };
  if (text.starts_with("\xef\xbb\xbf")) return error_at(0, "a byte order mark, which JSON does not have");
  Source source(text, options.allow_nan);
  Builder builder(source, options);
  rapidjson::Reader reader;
  const rapidjson::ParseResult result =
      reader.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseValidateEncodingFlag>(source, builder);
  if (source.bad_number()) {
    const char c = text[source.Tell()];
    const bool named = c == 'N' || c == 'I' || text.substr(source.Tell()).starts_with("-I");
    return error_at(source.Tell(), named && !options.allow_nan ? "NaN and Infinity are not JSON" : "invalid number");
  }
  if (!builder.error().empty()) return error_at(builder.error_at(), builder.error());
  if (result.IsError()) return error_at(result.Offset(), Describe(result.Code()));
  // The parser takes a NUL byte for the end.
  if (!source.AtEnd()) return error_at(source.Tell(), "unexpected NUL byte");
  return builder.TakeRoot();
}

bool IsInteger(std::string_view literal) {
  return std::all_of(literal.begin(), literal.end(), [](char c) { return c == '-' || IsDigit(c); });
}

double ToDouble(const std::string& literal) {
  // The program's locale may have another decimal point. Literals beyond the range give an infinity or 0.
  static const locale_t kCLocale = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(literal.c_str(), nullptr, kCLocale);
}

// Shortest text that reads back to `v`, laid out as Python's repr: fixed for 1e-4 <= |v| < 1e16.
std::string PythonDouble(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v < 0 ? "-Infinity" : "Infinity";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), v, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, size_t(end - buffer));  // "-d.ddde+xx"
  int exponent = 0;
  const size_t e = text.find('e');
  std::from_chars(text.data() + e + (text[e + 1] == '+' ? 2 : 1), end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  std::string digits;
  for (char c : text.substr(0, e)) {
    if (IsDigit(c)) digits += c;
  }
  if (exponent < 0) {
    digits.insert(0, size_t(-exponent), '0');
    exponent = 0;
  }
  const size_t point = size_t(exponent) + 1;
  if (digits.size() < point + 1) digits.append(point + 1 - digits.size(), '0');
  digits.insert(point, ".");
  return (std::signbit(v) ? "-" : "") + digits;
}

// The text Python gives for a literal that it has read.
std::string PythonNumber(const std::string& literal) {
  if (!IsInteger(literal)) return PythonDouble(ToDouble(literal));
  return literal == "-0" ? "0" : literal;  // Python's integers have no negative zero
}

void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (uint8_t(c) < 0x20) {
          out += fmt::format("\\u{:04x}", uint8_t(c));
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

// How ToPythonText and ToText differ.
struct Layout {
  std::string_view comma, colon;
  int indent = -1;  // spaces per level; negative: one line
  bool python_numbers = false;
};

class Writer {
 public:
  explicit Writer(const Layout& layout) : layout_(layout) {}

  std::string Write(const Json& v) {
    Value(v);
    return std::move(out_);
  }

 private:
  void Value(const Json& v) {
    if (const auto* s = v.string()) {
      AppendQuoted(out_, *s);
    } else if (const auto* n = v.number()) {
      out_ += layout_.python_numbers ? PythonNumber(n->text) : n->text;
    } else if (const auto* a = v.array()) {
      List('[', ']', *a, [&](const Json& item) { Value(item); });
    } else if (const auto* o = v.object()) {
      List('{', '}', *o, [&](const auto& member) {
        AppendQuoted(out_, member.first);
        out_ += layout_.colon;
        Value(member.second);
      });
    } else {
      out_ += v.is_null() ? "null" : *v.Bool() ? "true" : "false";
    }
  }

  template <class Items, class F>
  void List(char open, char close, const Items& items, F write) {
    out_ += open;
    ++depth_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += layout_.comma;
      NewLine();
      write(items[i]);
    }
    --depth_;
    if (!items.empty()) NewLine();
    out_ += close;
  }

  void NewLine() {
    if (layout_.indent < 0) return;
    out_ += '\n';
    out_.append(size_t(depth_) * size_t(layout_.indent), ' ');
  }

  Layout layout_;
  std::string out_;
  int depth_ = 0;
};

}  // namespace

Json::Json(double v) : v_(Number{PythonDouble(v)}) {}

Result<Json> Json::Parse(std::string_view text, const ParseOptions& options) {
  // RapidJSON counts in 32 bits.
  constexpr size_t kMaxBytes = UINT32_MAX - 1;
  if (text.size() > kMaxBytes) {
    return ResourceExhausted(fmt::format("the JSON text has {} bytes, more than {}", text.size(), kMaxBytes));
  }
  try {
    return ParseJson(text, options);
  } catch (const std::bad_alloc&) {
    return ResourceExhausted(fmt::format("no memory for {} bytes of JSON text", text.size()));
  }
}

const char* Json::TypeName() const {
  constexpr const char* kNames[] = {"null", "boolean", "number", "string", "array", "object"};
  return kNames[v_.index()];
}

std::optional<bool> Json::Bool() const {
  const bool* b = std::get_if<bool>(&v_);
  return b ? std::optional<bool>(*b) : std::nullopt;
}

std::optional<int64_t> Json::Int() const {
  const Number* n = number();
  if (!n) return std::nullopt;
  if (IsInteger(n->text)) {
    int64_t v = 0;
    const auto r = std::from_chars(n->text.data(), n->text.data() + n->text.size(), v);
    return r.ec == std::errc() ? std::optional<int64_t>(v) : std::nullopt;
  }
  const double d = ToDouble(n->text);
  if (!(d >= -0x1p63 && d < 0x1p63) || d != std::trunc(d)) return std::nullopt;
  return int64_t(d);
}

std::optional<double> Json::Double() const {
  const Number* n = number();
  return n ? std::optional<double>(ToDouble(n->text)) : std::nullopt;
}

const Json* Json::Find(std::string_view key) const {
  if (const Object* o = object()) {
    for (const auto& [name, value] : *o) {
      if (name == key) return &value;
    }
  }
  return nullptr;
}

Json* Json::Find(std::string_view key) { return const_cast<Json*>(std::as_const(*this).Find(key)); }

void Json::Set(std::string_view key, Json value) {
  if (is_null()) v_ = Object();
  VX_CHECK(is_object(), "Set on a value that is no object");
  if (Json* old = Find(key)) {
    *old = std::move(value);
  } else {
    object()->emplace_back(std::string(key), std::move(value));
  }
}

std::string Json::ToPythonText() const {
  return Writer({.comma = ", ", .colon = ": ", .python_numbers = true}).Write(*this);
}

std::string Json::ToText(int indent) const {
  return Writer({.comma = ",", .colon = indent < 0 ? ":" : ": ", .indent = indent}).Write(*this);
}

std::string QuoteJson(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 2);
  AppendQuoted(out, text);
  return out;
}

}  // namespace vexil
