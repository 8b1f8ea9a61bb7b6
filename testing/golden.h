// Numbers that were computed independently of this program, for tests: testdata/formats/*.json.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/float_formats.h"
#include "base/json.h"

namespace vexil {

// testdata/formats/<name>. A file that cannot be read fails the test and gives null.
inline Json ReadFormatsData(const std::string& name) {
  std::ifstream file(VEXIL_SOURCE_DIR "/testdata/formats/" + name, std::ios::binary);
  Result<Json> json = Json::Parse(std::string(std::istreambuf_iterator<char>(file), {}));
  if (json.ok()) return *std::move(json);
  ADD_FAILURE() << name << ": " << json.status().message();
  return {};
}

inline const Json::Array& GoldenList(const Json& of, std::string_view key) {
  static const Json::Array kEmpty;
  const Json* list = of.Find(key);
  if (list && list->array() && !list->array()->empty()) return *list->array();
  ADD_FAILURE() << "no list \"" << key << "\", or an empty one";
  return kEmpty;
}

// A list of numbers, and one of BF16 bit patterns in hex.
inline std::vector<float> GoldenFloats(const Json::Array& list) {
  std::vector<float> out;
  for (const Json& v : list) out.push_back(float(v.Double().value()));
  return out;
}
inline std::vector<BF16> GoldenBf16(const Json::Array& list) {
  std::vector<BF16> out;
  for (const Json& v : list) out.push_back({uint16_t(std::stoul(*v.string(), nullptr, 16))});
  return out;
}

}  // namespace vexil
