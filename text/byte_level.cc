#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace vexil {
namespace {

constexpr bool StandsForItself(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

struct Alphabet {
  static constexpr int kCharacters = 0x100 + 68;
  std::array<char32_t, 256> character{};  // of each byte
  std::array<int16_t, kCharacters> byte;  // of each character, or -1
};
constexpr Alphabet MakeAlphabet() {
  Alphabet a;
  for (int16_t& b : a.byte) b = -1;
  char32_t next = 0x100;
  for (int b = 0; b < 256; ++b) {
    a.character[size_t(b)] = StandsForItself(b) ? char32_t(b) : next++;
    a.byte[a.character[size_t(b)]] = int16_t(b);
  }
  return a;
}
constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::string ByteSymbol(uint8_t byte) {
  std::string out;
  AppendUtf8(kAlphabet.character[byte], &out);
  return out;
}

std::optional<std::string> BytesOfSymbols(std::string_view entry) {
  std::string bytes;
  for (size_t i = 0; i < entry.size();) {
    const size_t length = FirstUtf8Sequence(entry.substr(i)).length;
    const char32_t c = DecodeUtf8(entry.substr(i), length);
    if (c >= Alphabet::kCharacters || kAlphabet.byte[c] < 0) return std::nullopt;
    bytes += char(kAlphabet.byte[c]);
    i += length;
  }
  return bytes;
}

}  // namespace vexil
