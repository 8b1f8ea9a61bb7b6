// The alphabet of byte-level BPE: every byte is written as one printable character (spec: tokenizer, section 5).
// Bytes 33-126, 161-172 and 174-255 stand for the same code point; the other 68, in ascending order, for
// U+0100, U+0101, ... (space is U+0120, line feed U+010A).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace vexil {

// The character that stands for a byte, as UTF-8.
std::string ByteSymbol(uint8_t byte);

// The bytes that a vocabulary entry stands for, or nullopt when one of its characters stands for no byte.
// `entry` is well-formed UTF-8.
std::optional<std::string> BytesOfSymbols(std::string_view entry);

}  // namespace vexil
