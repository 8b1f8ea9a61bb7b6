#include "cli/answer.h"

#include <fmt/format.h>

namespace vexil::cli {

std::string Answer::Show(const std::string& piece) {
  text_ += piece;
  if (!raw_) stream_.Feed(piece);
  return piece;
}

std::string Answer::Finish() {
  std::string rest = Show(stops_.Feed(decoder_.Finish()));
  rest += Show(stops_.Finish());
  if (!raw_) stream_.Finish();
  return rest;
}

std::string Summary(int64_t prompt_tokens, int64_t generated, double first_token_seconds, double seconds) {
  // The first token belongs to the prompt's time, the others to decoding.
  const double decoding = seconds - first_token_seconds;
  const double rate = generated > 1 && decoding > 0 ? double(generated - 1) / decoding : 0;
  return fmt::format("{} prompt tokens, {} generated ({:.1f} tok/s), first token after {:.3f} s, {:.3f} s in all",
                     prompt_tokens, generated, rate, first_token_seconds, seconds);
}

Json ToJson(const Completion& c, const Answer& answer) {
  Json usage, timings, out;
  usage.Set("prompt_tokens", c.prompt_tokens);
  usage.Set("completion_tokens", int64_t(c.tokens.size()));
  timings.Set("first_token_seconds", c.first_token_seconds);
  timings.Set("total_seconds", c.last_token_seconds);
  Json::Array ids;
  for (const SampledToken& t : c.tokens) ids.push_back(int64_t(t.token));
  out.Set("text", answer.text());
  out.Set("message", vexil::ToJson(answer.message()));
  out.Set("finish_reason", NameOf(c.finish));
  if (!c.error.empty()) out.Set("error", c.error);
  out.Set("token_ids", Json(std::move(ids)));
  out.Set("usage", usage);
  out.Set("timings", timings);
  return out;
}

}  // namespace vexil::cli
