#include "text/completion_stream.h"

#include <utility>

namespace vexil {

using Kind = CompletionEvent::Kind;

CompletionStream::CompletionStream(ThinkingMode mode)
    : state_(mode == ThinkingMode::kThinking ? State::kReasoning : State::kContent) {}

std::vector<CompletionEvent> CompletionStream::Feed(std::string_view piece) {
  utf8_.Append(piece, &pending_);
  Advance();
  return std::exchange(events_, {});
}

std::vector<CompletionEvent> CompletionStream::Finish() {
  utf8_.Finish(&pending_);
  Advance();
  if (state_ == State::kToolCalls) {
    EndBlock();
    Advance();
  }
  // No marker can come of what was held back.
  Emit(state_ == State::kReasoning ? Kind::kReasoning : Kind::kContent, pending_.size());
  state_ = State::kDone;
  return std::exchange(events_, {});
}

// Works until more text is needed.
void CompletionStream::Advance() {
  for (bool moved = true; moved;) {
    const State before = state_;
    switch (state_) {
      case State::kReasoning:
        if (const Marker m = ShowUntil(Kind::kReasoning, {chat::kThinkEnd, chat::kEos}); m.found()) {
          state_ = m.which == 0 ? State::kContent : State::kDone;
        }
        break;
      case State::kContent:
        if (const Marker m = ShowUntil(Kind::kContent, {chat::kToolCallsOpen, chat::kEos}); m.found()) {
          state_ = m.which == 0 ? State::kToolCalls : State::kDone;
        }
        break;
      case State::kToolCalls:
        if (!tool_calls_.Feed(std::exchange(pending_, {})).ok()) {
          ShowBlockAsContent();
        } else if (tool_calls_.complete()) {
          EndBlock();
        }
        break;
      case State::kPlain:
        if (ShowUntil(Kind::kContent, {chat::kEos}).found()) state_ = State::kDone;
        break;
      case State::kDone:
        pending_.clear();
    }
    moved = state_ != before;
  }
}

// Shows the text before the first marker, which is removed, or all that cannot be the beginning of one.
Marker CompletionStream::ShowUntil(Kind kind, std::initializer_list<std::string_view> markers) {
  const Marker marker = FindFirst(pending_, 0, markers);
  if (marker.found()) {
    Emit(kind, marker.at);
    pending_.erase(0, marker.end - marker.at);
  } else {
    Emit(kind, pending_.size() - UnfinishedTail(pending_, markers));
  }
  return marker;
}

// The block is complete, or no more text comes for it.
void CompletionStream::EndBlock() {
  if (!tool_calls_.Finish().ok()) return ShowBlockAsContent();
  pending_ = tool_calls_.rest();
  message_.tool_calls = tool_calls_.TakeCalls();
  events_.push_back({Kind::kToolCalls, "", message_.tool_calls});
  state_ = State::kPlain;
}

void CompletionStream::ShowBlockAsContent() {
  pending_ = std::string(chat::kToolCallsOpen) + tool_calls_.text();
  state_ = State::kPlain;
}

// Shows the first bytes of the pending text.
void CompletionStream::Emit(Kind kind, size_t bytes) {
  if (bytes == 0) return;
  std::string text = pending_.substr(0, bytes);
  pending_.erase(0, bytes);
  (kind == Kind::kReasoning ? message_.reasoning_content : message_.content) += text;
  events_.push_back({kind, std::move(text), {}});
}

}  // namespace vexil
