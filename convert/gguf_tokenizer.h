// The metadata of a GGUF file that says how to tokenize: llama.cpp's lists, and the whole tokenizer.json.
#pragma once

#include <string_view>

#include "base/status.h"
#include "io/gguf_metadata.h"

namespace vexil::convert {

// `json` is the text of a byte-level BPE tokenizer.json; tokens are ids 0 ... vocab_size - 1, those that the file lacks
// are marked as unused. kInvalidArgument: "model.vocab: found nothing, expected an object".
Result<GgufMetadata> GgufTokenizerMetadata(std::string_view json, int64_t vocab_size);

}  // namespace vexil::convert
