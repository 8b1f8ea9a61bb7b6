// Takes a completion apart while it is generated (spec: chat encoding, sections 12 and 13).
//
//   CompletionStream stream(mode);
//   for (each piece of text) Show(stream.Feed(piece));
//   Show(stream.Finish());
//
// Text is held back only while its tail could be the beginning of a marker or of a character; tool calls until their
// block is complete. For text that ParseCompletion accepts, message() ends up equal to its result. What
// ParseCompletion refuses is shown rather than lost: reasoning that does not end stays reasoning, and a malformed
// tool-call block is content, as is all text after it. One stream serves one completion and one thread.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat_format.h"
#include "text/chat_parser.h"
#include "text/dsml.h"
#include "text/markers.h"
#include "text/utf8.h"

namespace vexil {

struct CompletionEvent {
  enum class Kind {
    kReasoning,  // more reasoning: `text`, well-formed UTF-8, not empty
    kContent,    // more of the answer, likewise
    kToolCalls,  // a block of tool calls is complete: `tool_calls`, which may be none
  };
  Kind kind;
  std::string text;
  std::vector<ToolCall> tool_calls;
};

class CompletionStream {
 public:
  // The text that comes is what follows the prompt's <think> or </think>.
  explicit CompletionStream(ThinkingMode mode);

  // Bytes cut anywhere; ill-formed UTF-8 becomes U+FFFD. The end-of-sentence token may be among them or left out;
  // what follows it is ignored.
  std::vector<CompletionEvent> Feed(std::string_view piece);
  // The generation has ended, for whatever reason. To be called once.
  std::vector<CompletionEvent> Finish();

  // The sum of the events so far.
  const ParsedMessage& message() const { return message_; }

 private:
  enum class State {
    kReasoning,
    kContent,
    kToolCalls,  // inside a block
    kPlain,      // after a block: content in which nothing but the end is looked for
    kDone,
  };

  void Advance();
  Marker ShowUntil(CompletionEvent::Kind kind, std::initializer_list<std::string_view> markers);
  void EndBlock();
  void ShowBlockAsContent();
  void Emit(CompletionEvent::Kind kind, size_t bytes);

  State state_;
  Utf8Stream utf8_;
  std::string pending_;  // arrived, not yet shown nor given to tool_calls_
  DsmlReader tool_calls_;
  ParsedMessage message_;
  std::vector<CompletionEvent> events_;
};

}  // namespace vexil
