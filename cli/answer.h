// The text of one answer while its tokens arrive.
#pragma once

#include <string>
#include <vector>

#include "engine/engine.h"
#include "text/completion_stream.h"
#include "text/stop_strings.h"
#include "text/stream_decoder.h"

namespace vexil::cli {

// Turns tokens into text, ends it at stop strings and at the end-of-sentence token, and takes the text apart into
// reasoning, answer and tool calls.
class Answer {
 public:
  Answer(const Tokenizer& tokenizer, int64_t eos_id, std::vector<std::string> stops, ThinkingMode mode, bool raw)
      : decoder_(tokenizer), stops_(std::move(stops)), stream_(mode), eos_id_(eos_id), raw_(raw) {}

  // The text to show for this token. stopped() afterwards: a stop string was reached.
  std::string Push(int32_t token) { return token == eos_id_ ? std::string() : Show(stops_.Feed(decoder_.Push(token))); }
  // The rest of the text.
  std::string Finish();
  bool stopped() const { return stops_.stopped(); }
  // All text so far: reasoning, "</think>", answer, tool calls as written.
  const std::string& text() const { return text_; }
  const ParsedMessage& message() const { return stream_.message(); }

 private:
  std::string Show(const std::string& piece);

  StreamDecoder decoder_;
  StopStrings stops_;
  CompletionStream stream_;
  int64_t eos_id_;
  bool raw_;
  std::string text_;
};

// "12 prompt tokens, 34 generated in 0.5 s (68.0 tok/s), first token after 0.02 s"
std::string Summary(int64_t prompt_tokens, int64_t generated, double first_token_seconds, double seconds);

// The completion as an object: text, message, finish_reason, usage, timings.
Json ToJson(const Completion& completion, const Answer& answer);

}  // namespace vexil::cli
