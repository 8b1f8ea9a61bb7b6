// Decoding of ids that arrive one by one.
#pragma once

#include <cstdint>
#include <string>

#include "text/tokenizer.h"
#include "text/utf8.h"

namespace vexil {

// Gives out text as soon as its characters are complete. What all calls return is, put together, Decode of all ids.
// Belongs to one thread; the tokenizer must outlive it.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The text that became complete with this id: well-formed UTF-8, often empty. Ids that do not exist add nothing.
  std::string Push(int32_t id);
  // The end of the ids: U+FFFD if a character is unfinished. Ready for other ids afterwards.
  std::string Finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  Utf8Stream utf8_;
};

}  // namespace vexil
