// The one JSON reader and writer. Parsing is RapidJSON's (iterative: no recursion on hostile input).
//
// Values are kept as written: members in order, numbers as their literal text, so an integer of any size
// survives a round trip. Parsed values are plain data: copyable, no hidden sharing, safe to read from
// several threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/status.h"

namespace vexil {

class Json {
 public:
  struct Number {
    std::string text;  // the literal, e.g. "1e-5", "NaN"
    friend bool operator==(const Number&, const Number&) = default;
  };
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;  // null
  Json(std::nullptr_t) {}
  Json(bool v) : v_(v) {}
  Json(int64_t v) : v_(Number{std::to_string(v)}) {}
  Json(int v) : Json(int64_t(v)) {}
  Json(double v);  // shortest text that reads back to the same binary64
  Json(Number v) : v_(std::move(v)) {}
  Json(std::string v) : v_(std::move(v)) {}
  Json(std::string_view v) : v_(std::string(v)) {}
  Json(const char* v) : v_(std::string(v)) {}
  Json(Array v) : v_(std::move(v)) {}
  Json(Object v) : v_(std::move(v)) {}

  struct ParseOptions {
    // Repeated member names: an error (files that people edit), or the last value at the first place
    // (what Python does, and so what chat clients expect).
    bool allow_duplicates = false;
    // The literals NaN, Infinity and -Infinity.
    bool allow_nan = false;
    int max_depth = 200;
    // For messages: the number of the text's first line, where it is part of a larger file.
    int64_t first_line = 1;
  };
  // Parses exactly one value; anything but white space after it is an error. Strings must be valid UTF-8, and \u
  // escapes name characters: half a surrogate pair is an error here. Python reads it, and fails when the text is to be
  // encoded. Errors: kInvalidArgument "line 3, column 7: ...".
  static Result<Json> Parse(std::string_view text, const ParseOptions& options);
  static Result<Json> Parse(std::string_view text) { return Parse(text, ParseOptions{}); }

  bool is_null() const { return v_.index() == 0; }
  bool is_bool() const { return std::holds_alternative<bool>(v_); }
  bool is_number() const { return std::holds_alternative<Number>(v_); }
  bool is_string() const { return std::holds_alternative<std::string>(v_); }
  bool is_array() const { return std::holds_alternative<Array>(v_); }
  bool is_object() const { return std::holds_alternative<Object>(v_); }
  // "null", "boolean", "number", "string", "array" or "object", for messages.
  const char* TypeName() const;

  // The value, or null / nullopt when it has another type.
  const std::string* string() const { return std::get_if<std::string>(&v_); }
  const Array* array() const { return std::get_if<Array>(&v_); }
  const Object* object() const { return std::get_if<Object>(&v_); }
  const Number* number() const { return std::get_if<Number>(&v_); }
  Array* array() { return std::get_if<Array>(&v_); }
  Object* object() { return std::get_if<Object>(&v_); }
  std::optional<bool> Bool() const;
  // A number that is an integer within int64 (also written 1.0 or 1e3).
  std::optional<int64_t> Int() const;
  std::optional<double> Double() const;

  // The member, or null when this is no object or has none of that name. Linear in the member count.
  const Json* Find(std::string_view key) const;
  Json* Find(std::string_view key);
  // Replaces or appends. Makes a null value an object; other types are a VX_CHECK failure.
  void Set(std::string_view key, Json value);

  // One line with ", " and ": " between parts and no ASCII escaping: the text that Python's default
  // serializer gives with ensure_ascii off, numbers included (spec: chat encoding, section 10).
  std::string ToPythonText() const;
  // One line without spaces (indent < 0), or `indent` spaces per level; numbers as their literals.
  std::string ToText(int indent = -1) const;

  // Equal types, text and order; numbers compare as literals.
  friend bool operator==(const Json&, const Json&) = default;

 private:
  std::variant<std::monostate, bool, Number, std::string, Array, Object> v_;
};

// A quoted JSON string with the escapes of ToPythonText.
std::string QuoteJson(std::string_view text);

}  // namespace vexil
