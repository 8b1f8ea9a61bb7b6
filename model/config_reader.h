// Reads typed, bounded values out of one JSON object and keeps the first error.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace vexil {

// Where a key may be missing, pass a default. After the reads, status() is the first failure:
// "<where>: <key>: found <text>, expected <what>". Not thread-safe.
class ConfigReader {
 public:
  // `object` must outlive the reader and be a JSON object.
  ConfigReader(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  bool Has(std::string_view key) const;  // present and not null
  const Json* Find(std::string_view key) const { return object_.Find(key); }
  int64_t Int(std::string_view key, int64_t low, int64_t high, std::optional<int64_t> missing = {});
  double Real(std::string_view key, double low, double high, std::optional<double> missing = {});
  // nullptr if the key is missing or null.
  const Json* Object(std::string_view key);
  std::string Text(std::string_view key, std::string_view missing);
  bool Bool(std::string_view key, bool missing);

  // A value of the file that this program cannot run.
  void RequireText(std::string_view key, std::string_view only);
  void RequireBool(std::string_view key, bool only);
  // Records an error about a key unless `ok`.
  void Require(bool ok, std::string_view key, std::string_view expected);
  void Fail(std::string_view key, std::string_view found, std::string_view expected);

  bool ok() const { return status_.ok(); }
  Status TakeStatus() { return std::move(status_); }

 private:
  std::string FoundText(std::string_view key) const;
  const Json& object_;
  std::string where_;
  Status status_;
};

}  // namespace vexil
