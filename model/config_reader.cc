#include "model/config_reader.h"

#include <fmt/format.h>

namespace vexil {

bool ConfigReader::Has(std::string_view key) const {
  const Json* v = object_.Find(key);
  return v != nullptr && !v->is_null();
}

std::string ConfigReader::FoundText(std::string_view key) const {
  const Json* v = object_.Find(key);
  if (v == nullptr) return "no such key";
  std::string text = v->ToText();
  constexpr size_t kLongest = 80;
  if (text.size() > kLongest) text = fmt::format("an {} of {} bytes", v->TypeName(), text.size());
  return text;
}

void ConfigReader::Fail(std::string_view key, std::string_view found, std::string_view expected) {
  if (status_.ok())
    status_ = InvalidArgument(fmt::format("{}: {}: found {}, expected {}", where_, key, found, expected));
}

void ConfigReader::Require(bool ok, std::string_view key, std::string_view expected) {
  if (!ok) Fail(key, FoundText(key), expected);
}

int64_t ConfigReader::Int(std::string_view key, int64_t low, int64_t high, std::optional<int64_t> missing) {
  if (!Has(key) && missing) return *missing;
  const Json* v = object_.Find(key);
  const std::optional<int64_t> i = v ? v->Int() : std::nullopt;
  if (i && *i >= low && *i <= high) return *i;
  Fail(key, FoundText(key), fmt::format("an integer from {} to {}", low, high));
  return missing.value_or(low);
}

double ConfigReader::Real(std::string_view key, double low, double high, std::optional<double> missing) {
  if (!Has(key) && missing) return *missing;
  const Json* v = object_.Find(key);
  const std::optional<double> d = v ? v->Double() : std::nullopt;
  if (d && *d >= low && *d <= high) return *d;
  Fail(key, FoundText(key), fmt::format("a number from {} to {}", low, high));
  return missing.value_or(low);
}

const Json* ConfigReader::Object(std::string_view key) {
  if (!Has(key)) return nullptr;
  const Json* v = object_.Find(key);
  if (v->is_object()) return v;
  Fail(key, FoundText(key), "an object");
  return nullptr;
}

std::string ConfigReader::Text(std::string_view key, std::string_view missing) {
  if (!Has(key)) return std::string(missing);
  if (const std::string* s = object_.Find(key)->string()) return *s;
  Fail(key, FoundText(key), "a string");
  return std::string(missing);
}

bool ConfigReader::Bool(std::string_view key, bool missing) {
  if (!Has(key)) return missing;
  if (const std::optional<bool> b = object_.Find(key)->Bool()) return *b;
  Fail(key, FoundText(key), "true or false");
  return missing;
}

void ConfigReader::RequireText(std::string_view key, std::string_view only) {
  if (Text(key, only) != only) Fail(key, FoundText(key), fmt::format("\"{}\" (nothing else is supported)", only));
}

void ConfigReader::RequireBool(std::string_view key, bool only) {
  if (Bool(key, only) != only) Fail(key, FoundText(key), fmt::format("{} (nothing else is supported)", only));
}

}  // namespace vexil
