// vexil tokenize, vexil detokenize.
#include <fmt/format.h>

#include <charconv>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"

namespace vexil::cli {
namespace {

struct Flags {
  std::string tokenizer, ckpt_path;
  std::vector<std::string> input;
  bool json = false, ignore_added = false, skip_special = false;

  void Declare(CLI::App& app) {
    CLI::Option* file = app.add_option("--tokenizer", tokenizer, "a tokenizer.json");
    app.add_option("--ckpt-path", ckpt_path, "a checkpoint with a tokenizer (default: models/tiny)")->excludes(file);
  }
  Result<std::unique_ptr<Tokenizer>> Load() const {
    if (!tokenizer.empty()) return Tokenizer::FromFile(tokenizer);
    ModelFlags model;
    model.ckpt_path = ckpt_path;
    return model.LoadTokenizer();
  }
  // The words of the command line, or standard input for "-" or nothing.
  Result<std::string> Text() const {
    if (input.empty() || (input.size() == 1 && input[0] == "-")) return ReadInput("-");
    return fmt::format("{}", fmt::join(input, " "));
  }
};

Status Tokenize(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, f.Load());
  VX_ASSIGN(const std::string text, f.Text());
  const std::vector<int32_t> ids =
      tokenizer->Encode(text, f.ignore_added ? AddedTokens::kIgnore : AddedTokens::kRecognize);
  if (f.json) return Print(fmt::format("[{}]\n", fmt::join(ids, ", ")));
  std::string out;
  for (int32_t id : ids) out += fmt::format("{}\t{}\n", id, QuoteJson(tokenizer->Decode({&id, 1})));
  return Print(out);
}

// Ids as a JSON list, or as numbers between white space or commas.
Result<std::vector<int32_t>> ReadIds(std::string text, int32_t vocab_size) {
  for (char& c : text) {
    if (c == ',' || c == '[' || c == ']' || c == '\n' || c == '\t' || c == '\r') c = ' ';
  }
  std::vector<int32_t> ids;
  const char* p = text.data();
  const char* const end = p + text.size();
  while (true) {
    while (p != end && *p == ' ') ++p;
    if (p == end) return ids;
    const char* const word = p;
    while (p != end && *p != ' ') ++p;
    int32_t id = 0;
    const auto [stop, error] = std::from_chars(word, p, id);
    if (error != std::errc() || stop != p || id < 0 || id >= vocab_size) {
      return InvalidArgument(fmt::format("token ids: found {}, expected numbers from 0 to {}",
                                         QuoteJson(std::string_view(word, size_t(p - word))), vocab_size - 1));
    }
    ids.push_back(id);
  }
}

Status Detokenize(const Flags& f) {
  VX_ASSIGN(const std::unique_ptr<Tokenizer> tokenizer, f.Load());
  VX_ASSIGN(std::string text, f.Text());
  VX_ASSIGN(const std::vector<int32_t> ids, ReadIds(std::move(text), tokenizer->vocab_size()));
  const std::string out = tokenizer->Decode(ids, f.skip_special);
  return Print(f.json ? QuoteJson(out) + "\n" : out);
}

}  // namespace

void AddTokenize(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("tokenize", "text to token ids");
  auto f = std::make_shared<Flags>();
  f->Declare(*sub);
  sub->add_flag("--json", f->json, "print the list of ids");
  sub->add_flag("--ignore-added", f->ignore_added, "treat control tokens in the text as plain text");
  sub->add_option("text", f->input, "the text; - or nothing: standard input");
  sub->callback([f, &command] { command.run = [f] { return Tokenize(*f); }; });
}

void AddDetokenize(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("detokenize", "token ids to text");
  auto f = std::make_shared<Flags>();
  f->Declare(*sub);
  sub->add_flag("--json", f->json, "print a JSON string");
  sub->add_flag("--skip-special", f->skip_special, "leave out special tokens");
  sub->add_option("ids", f->input, "ids as numbers or as a JSON list; - or nothing: standard input");
  sub->callback([f, &command] { command.run = [f] { return Detokenize(*f); }; });
}

}  // namespace vexil::cli
