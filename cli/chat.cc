// vexil chat: a conversation with history.
#include <fmt/format.h>
#include <histedit.h>
#include <langinfo.h>
#include <unistd.h>

#include <clocale>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/prompt.h"

namespace vexil::cli {
namespace {

// libedit drops characters that the locale cannot hold, and the model's text is UTF-8 whatever the locale says.
// Only characters: number formats stay those of the C locale.
void UseUtf8() {
  if (setlocale(LC_CTYPE, "") != nullptr && std::strcmp(nl_langinfo(CODESET), "UTF-8") == 0) return;
  setlocale(LC_CTYPE, "C.UTF-8");
}

// Lines from a terminal with editing and history, or from a pipe as they are.
class LineReader {
 public:
  LineReader() {
    if (!isatty(STDIN_FILENO)) return;
    UseUtf8();
    edit_ = el_init("vexil", stdin, stdout, stderr);
    history_ = history_init();
    if (edit_ == nullptr || history_ == nullptr) return;
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    el_set(
        edit_, EL_PROMPT, +[](EditLine*) { return const_cast<char*>("> "); });
    el_set(edit_, EL_EDITOR, "emacs");
    el_set(edit_, EL_HIST, history, history_);
    el_set(edit_, EL_SIGNAL, 1);
    // While a line is edited Ctrl-C is a key that empties it; during an answer it is the signal that stops it.
    el_set(edit_, EL_SETTY, "-d", "-isig", nullptr);
    el_set(edit_, EL_BIND, "^C", "em-kill-line", nullptr);
    // A Ctrl-D typed during an answer, before the editor has the terminal, arrives as a zero byte, which libedit would
    // take for "quote the next key".
    el_set(edit_, EL_BIND, "^@", "em-delete-or-list", nullptr);
    el_source(edit_, nullptr);
  }
  ~LineReader() {
    if (history_) history_end(history_);
    if (edit_) el_end(edit_);
  }
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  std::optional<std::string> Next() {
    std::string line;
    if (edit_ == nullptr) {
      if (!std::getline(std::cin, line)) return std::nullopt;
      return line;
    }
    int count = 0;
    // The editor takes the terminal over after it has shown the prompt: until then Ctrl-C still is a signal.
    const auto before = std::signal(SIGINT, SIG_IGN);
    const char* text = el_gets(edit_, &count);
    std::signal(SIGINT, before);
    if (text == nullptr || count <= 0) return std::nullopt;
    line.assign(text, size_t(count));
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    return line;
  }

 private:
  EditLine* edit_ = nullptr;
  History* history_ = nullptr;
};

constexpr const char* kHelp =
    "/exit           leave\n"
    "/clear          forget the conversation\n"
    "/think          reason before answering\n"
    "/nothink        answer at once\n"
    "/system TEXT    set the system message and start again\n";

class Conversation {
 public:
  Conversation(LoadedModel& l, const PromptStyle& style, const SamplingParams& sampling, int64_t max_tokens)
      : l_(l), style_(style), sampling_(sampling), max_tokens_(max_tokens), messages_(style.Opening()) {}

  // False: the user wants to leave.
  bool Obey(const std::string& line) {
    if (line == "/exit" || line == "/quit") return false;
    if (line == "/clear") {
      messages_ = style_.Opening();
    } else if (line == "/think" || line == "/nothink") {
      style_.thinking = line == "/think" ? "thinking" : "chat";
    } else if (line.starts_with("/system")) {
      const size_t text = line.find_first_not_of(' ', 7);
      style_.system = text == std::string::npos ? "" : line.substr(text);
      messages_ = style_.Opening();
    } else {
      PrintError(kHelp);
    }
    return true;
  }

  Status Ask(const std::string& line) {
    messages_.push_back(MakeMessage("user", line));
    VX_ASSIGN(const std::string prompt, EncodeMessages(messages_, style_.ToEncodeOptions()));
    Request r;
    r.prompt = l_.tokenizer->Encode(prompt);
    r.sampling = sampling_;
    sampling_.seed += 1;
    r.max_tokens = max_tokens_;
    r.stop_ids = {int32_t(l_.model->config().eos_id)};
    r.keep_prompt = true;
    Answer answer(*l_.tokenizer, l_.model->config().eos_id, {}, style_.mode(), false);
    Status printed;
    EngineEvents events;
    events.on_token = [&](size_t, const SampledToken& t) {
      printed = Print(answer.Push(t.token));
      return printed.ok();
    };
    InterruptCancels interrupts(*l_.engine);
    VX_ASSIGN(const std::vector<Completion> done, l_.engine->Generate({&r, 1}, events));
    VX_TRY(std::move(printed));
    VX_TRY(Print(answer.Finish() + "\n"));
    if (done[0].finish == FinishReason::kError) {
      messages_.pop_back();
      PrintError(fmt::format("vexil: {}\n", done[0].error));
      return {};
    }
    messages_.push_back(Json(vexil::ToJson(answer.message())));
    return {};
  }

 private:
  LoadedModel& l_;
  PromptStyle style_;
  SamplingParams sampling_;
  int64_t max_tokens_;
  Json::Array messages_;
};

}  // namespace

Status RunChat(const ModelFlags& model, const PromptStyle& style, const SamplingParams& sampling, int64_t max_tokens) {
  VX_TRY(sampling.Check());
  VX_ASSIGN(LoadedModel l, LoadAll(model));
  Conversation conversation(l, style, sampling, max_tokens);
  LineReader lines;
  if (isatty(STDIN_FILENO)) PrintError("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves\n");
  while (std::optional<std::string> line = lines.Next()) {
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    if (!line->starts_with('/')) {
      VX_TRY(conversation.Ask(*line));
    } else if (!conversation.Obey(*line)) {
      break;
    }
  }
  return {};
}

void AddChat(CLI::App& app, Command& command) {
  struct Flags {
    ModelFlags model;
    SamplingParams sampling;
    PromptStyle style;
    std::string tools_file;
    int64_t max_new_tokens = 2048;
  };
  CLI::App* sub = app.add_subcommand("chat", "talk with the model");
  auto f = std::make_shared<Flags>();
  f->model.Declare(*sub);
  sub->add_option("--max-new-tokens", f->max_new_tokens, "tokens of an answer at most")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  DeclareSampling(*sub, f->sampling);
  DeclareThinking(*sub, f->style.thinking);
  sub->add_option("--system", f->style.system, "system message");
  sub->add_option("--tools", f->tools_file, "JSON file with a list of tools");
  sub->callback([f, &command] {
    command.run = [f]() -> Status {
      if (!f->tools_file.empty()) {
        VX_ASSIGN(f->style.tools, ReadTools(f->tools_file));
      }
      return RunChat(f->model, f->style, f->sampling, f->max_new_tokens);
    };
  });
}

}  // namespace vexil::cli
