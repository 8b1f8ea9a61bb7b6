// Tool calls in DSML, the model's markup (spec: chat encoding, sections 9 and 12).
//
//   <|DSML|tool_calls>
//   <|DSML|invoke name="get_weather">
//   <|DSML|parameter name="location" string="true">Beijing</|DSML|parameter>
//   </|DSML|invoke>
//   </|DSML|tool_calls>
//
// (with U+FF5C for "|"). Nothing is escaped: a parameter's value is the text between its tags.
#pragma once

#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace vexil {

struct ToolCall {
  std::string name;
  // The text of a JSON object as far as the model wrote valid JSON; its values are not checked.
  std::string arguments;
  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

// One call as an invoke element. `arguments` is normally a string with the text of a JSON object. A text that is
// not JSON, and any other value, becomes one parameter named "arguments". JSON text of anything but an object is an
// error.
Result<std::string> RenderInvoke(std::string_view name, const Json& arguments);

// Reads the calls of one block, given whole or in parts cut anywhere, in time linear in its length.
class DsmlReader {
 public:
  // More of the text that follows the opening "\n\n<|DSML|tool_calls". An error is final.
  Status Feed(std::string_view text);
  // The text ends here. A block without its end is accepted where it stops between calls, or in a call between
  // parameters, as the reference does.
  Status Finish();

  // The end tag has been read.
  bool complete() const { return state_ == State::kComplete; }
  // What was fed after the block, once it is complete or Finish has accepted it.
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  // All that was fed.
  const std::string& text() const { return text_; }

  std::vector<ToolCall> TakeCalls() { return std::move(calls_); }

 private:
  enum class State { kBetweenCalls, kName, kParameter, kAfterParameter, kComplete };

  Status Step(std::string_view before, size_t which);
  Status Between(std::string_view before) const;
  Status BeginCall(std::string_view head);
  Status AddParameter(std::string_view body);
  void EndCall();

  std::string text_;
  size_t at_ = 0;       // everything before it has been read
  size_t scanned_ = 0;  // no marker of this state begins before it
  State state_ = State::kBetweenCalls;
  std::vector<ToolCall> calls_;
  std::unordered_set<std::string> keys_;  // of the call that is being read
};

}  // namespace vexil
