// vexil eval: greedy exact match on a suite of rendered conversations.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"

namespace vexil::cli {
namespace {

struct Flags {
  ModelFlags model;
  std::string suite;
  bool json = false;
  int64_t limit = 0, batch = 32;
};

struct Question {
  std::string kind, prompt, target;
};

constexpr std::string_view kAssistant =
    "<\xef\xbd\x9c"
    "Assistant\xef\xbd\x9c>";

// The prompt goes up to the last Assistant token and the think marker behind it; the rest is the target.
Result<Question> ReadQuestion(const Json& line, const std::string& where) {
  const auto text_of = [&](const char* key) { return line.Find(key) ? line.Find(key)->string() : nullptr; };
  const std::string *kind = text_of("kind"), *text = text_of("text");
  if (!kind || !text) return InvalidArgument(where + ": expected an object with the strings kind and text");
  const size_t assistant = text->rfind(kAssistant);
  if (assistant == std::string::npos) return InvalidArgument(where + ": text has no Assistant token");
  size_t end = assistant + kAssistant.size();
  for (std::string_view marker : {"<think>", "</think>"}) {
    if (std::string_view(*text).substr(end).starts_with(marker)) {
      end += marker.size();
      return Question{*kind, text->substr(0, end), text->substr(end)};
    }
  }
  return InvalidArgument(where + ": no <think> or </think> behind the last Assistant token");
}

Result<std::vector<Question>> ReadSuite(const Flags& f) {
  VX_ASSIGN(const std::string text, ReadInput(f.suite));
  std::vector<Question> questions;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    VX_ASSIGN(const Json json, ReadChatJson(line, f.suite, number));
    VX_ASSIGN(Question q, ReadQuestion(json, fmt::format("{}: line {}", f.suite, number)));
    questions.push_back(std::move(q));
    if (f.limit > 0 && int64_t(questions.size()) == f.limit) break;
  }
  if (questions.empty()) return InvalidArgument(f.suite + ": found no questions");
  return questions;
}

struct Score {
  int64_t right = 0, count = 0;
  double share() const { return count ? double(right) / double(count) : 0; }
};

Status Report(const Flags& f, const std::map<std::string, Score>& scores, const Model& m) {
  Score all;
  Json kinds;
  std::string text = fmt::format("{:<16} {:>7} {:>7} {:>7}\n", "kind", "right", "of", "share");
  const auto row = [&](const std::string& kind, const Score& s) {
    text += fmt::format("{:<16} {:>7} {:>7} {:>7.3f}\n", kind, s.right, s.count, s.share());
    Json v;
    v.Set("right", s.right);
    v.Set("count", s.count);
    v.Set("share", s.share());
    return v;
  };
  for (const auto& [kind, s] : scores) {
    kinds.Set(kind, row(kind, s));
    all.right += s.right;
    all.count += s.count;
  }
  Json out;
  out.Set("suite", f.suite);
  out.Set("data_format", m.numerics().name);
  out.Set("kinds", kinds);
  out.Set("all", row("all", all));
  return Print(f.json ? out.ToText(1) + "\n" : text);
}

Status Eval(const Flags& f) {
  VX_ASSIGN(const std::vector<Question> questions, ReadSuite(f));
  ModelFlags flags = f.model;
  VX_ASSIGN(LoadedModel l, LoadAll(flags));
  EngineOptions options = flags.ToEngineOptions();
  options.max_sequences = f.batch;
  VX_ASSIGN(l.engine, Engine::Create(*l.model, options));
  std::vector<Request> requests;
  for (const Question& q : questions) {
    Request r;
    r.prompt = l.tokenizer->Encode(q.prompt);
    r.sampling.temperature = 0;
    r.stop_ids = {int32_t(l.model->config().eos_id)};
    // An answer that is longer than the target is wrong already.
    r.max_tokens = int64_t(l.tokenizer->Encode(q.target).size()) + 1;
    requests.push_back(std::move(r));
  }
  std::map<std::string, Score> scores;
  Status failed;
  int64_t done = 0;
  EngineEvents events;
  events.on_finish = [&](size_t i, const Completion& c) {
    if (c.finish == FinishReason::kError && failed.ok())
      failed = InvalidArgument(fmt::format("question {}: {}", i + 1, c.error));
    std::vector<int32_t> ids;
    for (const SampledToken& t : c.tokens) ids.push_back(t.token);
    Score& s = scores[questions[i].kind];
    s.count += 1;
    s.right += l.tokenizer->Decode(ids) == questions[i].target;
    ShowProgress(fmt::format("{} of {} questions", ++done, questions.size()));
  };
  InterruptCancels interrupts(*l.engine);
  VX_ASSIGN(const std::vector<Completion> completions, l.engine->Generate(requests, events));
  ClearProgress();
  VX_TRY(std::move(failed));
  if (InterruptCancels::interrupted()) return Cancelled("interrupted");
  return Report(f, scores, *l.model);
}

}  // namespace

void AddEval(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("eval", "greedy exact match on a suite of conversations");
  auto f = std::make_shared<Flags>();
  f->model.Declare(*sub);
  sub->add_option("--suite", f->suite, "JSON lines {\"kind\", \"text\"}, text a whole rendered conversation")
      ->required();
  sub->add_option("--limit", f->limit, "only the first questions; 0: all")
      ->check(CLI::Range(int64_t(0), int64_t(1) << 40))
      ->capture_default_str();
  sub->add_option("--batch", f->batch, "questions in flight")->check(CLI::Range(1, 1024))->capture_default_str();
  sub->add_flag("--json", f->json, "as JSON");
  sub->callback([f, &command] { command.run = [f] { return Eval(*f); }; });
}

}  // namespace vexil::cli
