// vexil generate: answers to prompts, one streamed or many as one batch.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/common.h"
#include "cli/prompt.h"
#include "text/utf8.h"

namespace vexil::cli {

Status RunChat(const ModelFlags& model, const PromptStyle& style, const SamplingParams& sampling, int64_t max_tokens);

namespace {

struct Flags {
  ModelFlags model;
  SamplingParams sampling;
  PromptStyle style;
  std::vector<std::string> prompts;
  std::vector<std::string> stops;
  std::string input_file, tools_file;
  int64_t max_new_tokens = 300;
  bool interactive = false, json = false, raw = false;
};

Status CheckUtf8(const std::string& text, const std::string& path) {
  const size_t good = WellFormedPrefix(text);
  if (good == text.size()) return {};
  return InvalidArgument(fmt::format("{}: line {}: found byte 0x{:02x}, expected UTF-8", path,
                                     1 + std::count(text.begin(), text.begin() + std::ptrdiff_t(good), '\n'),
                                     uint8_t(text[good])));
}

Result<std::vector<std::string>> CollectPrompts(const Flags& f) {
  std::vector<std::string> prompts = f.prompts;
  if (!f.input_file.empty()) {
    VX_ASSIGN(const std::string text, ReadInput(f.input_file));
    VX_TRY(CheckUtf8(text, f.input_file));
    for (std::string& p : SplitPrompts(text)) prompts.push_back(std::move(p));
    if (prompts.empty())
      return InvalidArgument(
          fmt::format("{}: found no prompt, expected prompts separated by empty lines", f.input_file));
  }
  if (prompts.empty()) return InvalidArgument("no prompt: give --prompt, --input-file or --interactive");
  return prompts;
}

Result<std::vector<Request>> MakeRequests(const Flags& f, const LoadedModel& l,
                                          const std::vector<std::string>& prompts) {
  std::vector<Request> requests;
  for (size_t i = 0; i < prompts.size(); ++i) {
    std::string text = prompts[i];
    if (!f.raw) {
      Json::Array messages = f.style.Opening();
      messages.push_back(MakeMessage("user", prompts[i]));
      VX_ASSIGN(text, EncodeMessages(messages, f.style.ToEncodeOptions()));
    }
    Request r;
    r.prompt = l.tokenizer->Encode(text);
    r.sampling = f.sampling;
    r.sampling.seed += i;  // prompts that are alike get different answers
    r.max_tokens = f.max_new_tokens;
    r.stop_ids = {int32_t(l.model->config().eos_id)};
    // With JSON each prompt has its answer or error; otherwise nothing is answered when not all can be.
    const std::string refusal = f.json ? "" : l.engine->Refuse(r);
    if (!refusal.empty()) return InvalidArgument(fmt::format("prompt {}: {}", i + 1, refusal));
    requests.push_back(std::move(r));
  }
  return requests;
}

// Prints answers in the order of their prompts; a single one as it comes.
class Printer {
 public:
  Printer(const Flags& f, const LoadedModel& l, const std::vector<std::string>& prompts)
      : flags_(f), model_(*l.model), prompts_(prompts) {
    for (size_t i = 0; i < prompts.size(); ++i) {
      answers_.push_back(
          std::make_unique<Answer>(*l.tokenizer, l.model->config().eos_id, f.stops, f.style.mode(), f.raw));
    }
    done_.resize(prompts.size());
  }

  bool OnToken(size_t i, const SampledToken& token) {
    const std::string piece = answers_[i]->Push(token.token);
    if (streams()) Keep(Print(piece));
    return status_.ok() && !answers_[i]->stopped();
  }

  void OnFinish(size_t i, const Completion& c) {
    const std::string rest = answers_[i]->Finish();
    if (streams() && c.finish != FinishReason::kError) Keep(Print(rest + "\n"));
    done_[i] = &c;
    for (; next_ < done_.size() && done_[next_]; ++next_) {
      const Completion& completion = *done_[next_];
      const bool failed = completion.finish == FinishReason::kError;
      if (failed) Keep(InvalidArgument(fmt::format("prompt {}: {}", next_ + 1, completion.error)));
      if (!streams() && (flags_.json || !failed)) Keep(PrintWhole(next_, completion));
    }
  }
  Status TakeStatus() { return std::move(status_); }

 private:
  bool streams() const { return answers_.size() == 1 && !flags_.json; }
  void Keep(Status s) {
    if (status_.ok()) status_ = std::move(s);
  }
  Status PrintWhole(size_t i, const Completion& c) {
    ClearProgress();
    if (!flags_.json) return Print(fmt::format("Prompt: {}\nCompletion: {}\n\n", prompts_[i], answers_[i]->text()));
    Json out;
    out.Set("prompt", prompts_[i]);
    const Json answer = ToJson(c, *answers_[i]);
    for (const auto& [key, value] : *answer.object()) out.Set(key, value);
    if (model_.expert_cache()) out.Set("host_experts", ExpertStatisticsJson(model_));
    return Print(out.ToPythonText() + "\n");
  }

  const Flags& flags_;
  const Model& model_;
  const std::vector<std::string>& prompts_;
  std::vector<std::unique_ptr<Answer>> answers_;
  std::vector<const Completion*> done_;
  size_t next_ = 0;
  Status status_;
};

Status Generate(Flags& f) {
  VX_TRY(f.sampling.Check());
  if (!f.tools_file.empty()) {
    VX_ASSIGN(f.style.tools, ReadTools(f.tools_file));
  }
  if (f.interactive) return RunChat(f.model, f.style, f.sampling, f.max_new_tokens);
  VX_ASSIGN(const std::vector<std::string> prompts, CollectPrompts(f));
  VX_ASSIGN(LoadedModel l, LoadAll(f.model));
  VX_ASSIGN(const std::vector<Request> requests, MakeRequests(f, l, prompts));
  Printer printer(f, l, prompts);
  EngineEvents events;
  events.on_token = [&](size_t i, const SampledToken& t) { return printer.OnToken(i, t); };
  events.on_finish = [&](size_t i, const Completion& c) { printer.OnFinish(i, c); };
  events.on_prefill = [&](int64_t done, int64_t total) {
    done < total ? ShowProgress(fmt::format("reading the prompt: {} of {} tokens", done, total)) : ClearProgress();
  };
  InterruptCancels interrupts(*l.engine);
  VX_ASSIGN(const std::vector<Completion> completions, l.engine->Generate(requests, events));
  VX_TRY(printer.TakeStatus());
  int64_t prompt_tokens = 0, generated = 0;
  double first = 0, last = 0;
  for (const Completion& c : completions) {
    prompt_tokens += c.prompt_tokens;
    generated += int64_t(c.tokens.size());
    first = std::max(first, c.first_token_seconds);
    last = std::max(last, c.last_token_seconds);
  }
  if (!f.json) {
    PrintError(Summary(prompt_tokens, generated, first, last) + "\n");
    PrintExpertStatistics(*l.model);
  }
  return InterruptCancels::interrupted() ? Cancelled("interrupted") : Status();
}

}  // namespace

void AddGenerate(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("generate", "answer prompts");
  auto f = std::make_shared<Flags>();
  f->model.Declare(*sub);
  CLI::Option* interactive = sub->add_flag("--interactive", f->interactive, "a conversation (the same as vexil chat)");
  DeclareRepeatable(*sub, "--prompt", f->prompts, "a prompt; may be repeated")->excludes(interactive);
  sub->add_option("--input-file", f->input_file, "prompts separated by empty lines; - for standard input")
      ->excludes(interactive);
  sub->add_option("--max-new-tokens", f->max_new_tokens, "tokens of an answer at most")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 20))
      ->capture_default_str();
  DeclareSampling(*sub, f->sampling);
  DeclareThinking(*sub, f->style.thinking);
  sub->add_option("--system", f->style.system, "system message");
  sub->add_option("--tools", f->tools_file, "JSON file with a list of tools");
  DeclareRepeatable(*sub, "--stop", f->stops, "end the answer before this text; may be repeated")
      ->excludes(interactive)
      ->check([](const std::string& text) { return std::string(text.empty() ? "the text is empty" : ""); });
  sub->add_flag("--raw", f->raw, "continue the prompt as it is, without chat template")->excludes(interactive);
  sub->add_flag("--json", f->json, "one JSON object per prompt")->excludes(interactive);
  sub->callback([f, &command] { command.run = [f] { return Generate(*f); }; });
}

}  // namespace vexil::cli
