#include "text/stream_decoder.h"

namespace vexil {

std::string StreamDecoder::Push(int32_t id) {
  std::string text;
  if (!(skip_special_ && tokenizer_->is_special(id))) utf8_.Append(tokenizer_->TokenBytes(id), &text);
  return text;
}

std::string StreamDecoder::Finish() {
  std::string text;
  utf8_.Finish(&text);
  return text;
}

}  // namespace vexil
