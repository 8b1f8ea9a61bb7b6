#include "text/utf8.h"

#include <cstring>

namespace vexil {
namespace {

// The bytes that may follow a lead byte (Unicode 15, table 3-7). Only the second byte's range varies.
struct Lead {
  uint8_t length;  // 0: not a lead byte
  uint8_t second_min, second_max;
};
Lead LeadOf(uint8_t b) {
  if (b < 0x80) return {1, 0, 0};
  if (b < 0xC2) return {0, 0, 0};  // a continuation byte, or an overlong form
  if (b < 0xE0) return {2, 0x80, 0xBF};
  if (b == 0xE0) return {3, 0xA0, 0xBF};
  if (b == 0xED) return {3, 0x80, 0x9F};  // no surrogates
  if (b < 0xF0) return {3, 0x80, 0xBF};
  if (b == 0xF0) return {4, 0x90, 0xBF};
  if (b < 0xF4) return {4, 0x80, 0xBF};
  if (b == 0xF4) return {4, 0x80, 0x8F};  // up to U+10FFFF
  return {0, 0, 0};
}

size_t AsciiPrefix(std::string_view text) {
  size_t i = 0;
  for (uint64_t block; i + sizeof block <= text.size(); i += sizeof block) {
    std::memcpy(&block, text.data() + i, sizeof block);
    if (block & 0x8080808080808080u) break;
  }
  while (i < text.size() && uint8_t(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Sequence FirstUtf8Sequence(std::string_view text) {
  using Kind = Utf8Sequence::Kind;
  const Lead lead = LeadOf(uint8_t(text[0]));
  if (lead.length == 0) return {Kind::kIllFormed, 1};
  for (uint8_t i = 1; i < lead.length; ++i) {
    if (i == text.size()) return {Kind::kTruncated, i};
    const uint8_t b = uint8_t(text[i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80, max = i == 1 ? lead.second_max : 0xBF;
    if (b < min || b > max) return {Kind::kIllFormed, i};
  }
  return {Kind::kWellFormed, lead.length};
}

char32_t DecodeUtf8(std::string_view text, size_t length) {
  if (length == 1) return uint8_t(text[0]);
  char32_t c = uint8_t(text[0]) & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) c = c << 6 | (uint8_t(text[i]) & 0x3Fu);
  return c;
}

void AppendUtf8(char32_t c, std::string* out) {
  if (c < 0x80) {
    *out += char(c);
  } else if (c < 0x800) {
    *out += {char(0xC0 | c >> 6), char(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    *out += {char(0xE0 | c >> 12), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  } else {
    *out +=
        {char(0xF0 | c >> 18), char(0x80 | (c >> 12 & 0x3F)), char(0x80 | (c >> 6 & 0x3F)), char(0x80 | (c & 0x3F))};
  }
}

size_t WellFormedPrefix(std::string_view text) {
  for (size_t i = 0;;) {
    i += AsciiPrefix(text.substr(i));
    if (i == text.size()) return i;
    while (i < text.size() && uint8_t(text[i]) >= 0x80) {
      const Utf8Sequence sequence = FirstUtf8Sequence(text.substr(i));
      if (sequence.kind != Utf8Sequence::Kind::kWellFormed) return i;
      i += sequence.length;
    }
  }
}

void Utf8Stream::Append(std::string_view bytes, std::string* out) {
  // A waiting sequence first: byte by byte until it is decided.
  while (!pending_.empty() && !bytes.empty()) {
    pending_ += bytes[0];
    const Utf8Sequence sequence = FirstUtf8Sequence(pending_);
    if (sequence.kind == Utf8Sequence::Kind::kIllFormed) {
      // The byte does not belong to what waited; it starts afresh below.
      *out += kReplacementCharacter;
      pending_.clear();
      break;
    }
    bytes.remove_prefix(1);
    if (sequence.kind == Utf8Sequence::Kind::kWellFormed) {
      *out += pending_;
      pending_.clear();
    }
  }
  while (!bytes.empty()) {
    const size_t good = WellFormedPrefix(bytes);
    out->append(bytes, 0, good);
    bytes.remove_prefix(good);
    if (bytes.empty()) break;
    const Utf8Sequence sequence = FirstUtf8Sequence(bytes);
    if (sequence.kind == Utf8Sequence::Kind::kTruncated) {
      pending_ = bytes;
      break;
    }
    *out += kReplacementCharacter;
    bytes.remove_prefix(sequence.length);
  }
}

void Utf8Stream::Finish(std::string* out) {
  if (!pending_.empty()) *out += kReplacementCharacter;
  pending_.clear();
}

std::string ReplaceIllFormed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  Utf8Stream stream;
  stream.Append(bytes, &out);
  stream.Finish(&out);
  return out;
}

}  // namespace vexil
