#include "cli/prompt.h"

#include <fmt/format.h>

#include "cli/common.h"

namespace vexil::cli {

EncodeOptions PromptStyle::ToEncodeOptions() const {
  EncodeOptions o;
  o.thinking_mode = mode();
  if (thinking == "max") o.reasoning_effort = "max";
  return o;
}

Json MakeMessage(const char* role, std::string content) {
  Json m;
  m.Set("role", role);
  m.Set("content", std::move(content));
  return m;
}

Json::Array PromptStyle::Opening() const {
  if (system.empty() && tools.is_null()) return {};
  Json m = MakeMessage("system", system);
  if (!tools.is_null()) m.Set("tools", tools);
  return {m};
}

Result<Json> ReadTools(const std::string& path) {
  VX_ASSIGN(const std::string text, ReadInput(path));
  VX_ASSIGN(Json tools, ReadChatJson(text, path));
  if (!tools.is_array())
    return InvalidArgument(fmt::format("{}: found {}, expected a list of tools", path, tools.TypeName()));
  // So that an error names the file: in a prompt they are part of a message.
  PromptStyle style;
  style.tools = tools;
  Result<std::string> encoded = EncodeMessages(style.Opening(), style.ToEncodeOptions());
  if (!encoded.ok()) return std::move(encoded).TakeError().Prefix(path);
  return tools;
}

std::vector<std::string> SplitPrompts(std::string_view text) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  std::vector<std::string> prompts;
  std::string current;
  const auto finish = [&] {
    const size_t begin = current.find_first_not_of(" \t\r\n"), end = current.find_last_not_of(" \t\r\n");
    if (begin != std::string::npos) prompts.push_back(current.substr(begin, end - begin + 1));
    current.clear();
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) {
      finish();
    } else {
      current.append(line).push_back('\n');
    }
  }
  finish();
  return prompts;
}

}  // namespace vexil::cli
