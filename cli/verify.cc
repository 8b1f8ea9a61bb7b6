// vexil verify: everything that can be wrong with a checkpoint on disk.
#include "convert/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "cli/commands.h"
#include "cli/common.h"
#include "convert/compare.h"

namespace vexil::cli {
namespace {

using convert::Problem;
using convert::VerifyOptions;
using convert::VerifyReport;

using convert::TensorDifference;

struct Flags {
  std::string path;
  std::string against;    // empty: nothing to compare with
  double tolerance = -1;  // of relative_rms; below 0: differences are no problem
  VerifyOptions options;
  bool json = false;
};

// Draws a line a few times a second.
class Meter {
 public:
  // `scale` units make one of those in `unit`.
  Meter(const char* what, const char* unit, double scale) : what_(what), unit_(unit), scale_(scale) {}
  void operator()(int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    constexpr std::chrono::milliseconds kInterval{200};
    if (now - shown_ < kInterval) return;
    shown_ = now;
    const double rate = double(done) / std::chrono::duration<double>(now - start_).count();
    ShowProgress(fmt::format("{} {:5.1f} %  {:.1f} of {:.1f} {}  {:.2f} {}/s  {:.0f} s left", what_,
                             100.0 * double(done) / double(total), double(done) / scale_, double(total) / scale_, unit_,
                             rate / scale_, unit_, double(total - done) / rate));
  }

 private:
  const char *what_, *unit_;
  double scale_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), shown_ = start_;
};
constexpr double kGiga = 1e9;

std::string_view NameOfState(VerifyReport::ManifestState state) {
  switch (state) {
    case VerifyReport::ManifestState::kChecked:
      return "checked";
    case VerifyReport::ManifestState::kWritten:
      return "written";
    default:
      return "absent";
  }
}

// [row, column] of a value.
std::string Place(const TensorDifference& d) {
  return d.worst < 0 ? "-" : fmt::format("[{}, {}]", d.worst / d.columns, d.worst % d.columns);
}

Json AsJson(const std::string& path, const std::vector<TensorDifference>& differences) {
  Json::Array tensors;
  for (const TensorDifference& d : differences) {
    tensors.push_back(Json::Object{{"tensor", d.name},
                                   {"values", d.count},
                                   {"max_abs", d.max_abs},
                                   {"relative_rms", d.relative_rms},
                                   {"cosine", d.cosine},
                                   {"worst", d.worst}});
  }
  return Json::Object{{"path", path}, {"tensors", std::move(tensors)}};
}

std::string AsText(const std::string& path, std::vector<TensorDifference> differences) {
  const size_t all = differences.size();
  std::erase_if(differences, [](const TensorDifference& d) { return d.max_abs == 0; });
  std::string out =
      fmt::format("compared with {}: {} tensors, {} of them with other values\n", path, all, differences.size());
  std::ranges::stable_sort(differences, std::greater(), &TensorDifference::relative_rms);
  constexpr size_t kShown = 20;
  if (!differences.empty())
    out +=
        fmt::format("  {:<52} {:>12} {:>12} {:>11}  {}\n", "tensor", "max abs", "relative rms", "cosine", "worst at");
  for (size_t i = 0; i < std::min(kShown, differences.size()); ++i) {
    const TensorDifference& d = differences[i];
    out += fmt::format("  {:<52} {:>12.4g} {:>12.4g} {:>11.8f}  {}\n", d.name, d.max_abs, d.relative_rms, d.cosine,
                       Place(d));
  }
  if (differences.size() > kShown)
    out +=
        fmt::format("  and {} more, each with a smaller relative rms (--json has all)\n", differences.size() - kShown);
  return out;
}

Json AsJson(const VerifyReport& r) {
  Json::Object formats;
  for (const auto& [name, f] : r.formats)
    formats.emplace_back(name, Json::Object{{"tensors", f.tensors}, {"bytes", f.bytes}});
  Json::Array problems;
  for (const Problem& p : r.problems)
    problems.push_back(Json::Object{{"file", p.file}, {"tensor", p.tensor}, {"problem", p.text}});
  return Json::Object{{"path", r.path},
                      {"ok", r.problems.empty()},
                      {"files", r.files},
                      {"tensors", r.tensors},
                      {"bytes", r.bytes},
                      {"formats", std::move(formats)},
                      {"manifest", NameOfState(r.manifest)},
                      {"seconds", r.seconds},
                      {"problems", std::move(problems)}};
}

std::string AsText(const VerifyReport& r) {
  std::string out;
  for (const Problem& p : r.problems) out += p.Line() + "\n";
  out += fmt::format("{}: {} file{}, {} tensors, {} bytes\n", r.path, r.files, r.files == 1 ? "" : "s", r.tensors,
                     r.bytes);
  for (const auto& [name, f] : r.formats)
    out += fmt::format("  {:<8} {:>7} tensors {:>16} bytes\n", name, f.tensors, f.bytes);
  switch (r.manifest) {
    case VerifyReport::ManifestState::kChecked:
      out += "checksums compared with vexil-manifest.json\n";
      break;
    case VerifyReport::ManifestState::kWritten:
      out += "checksums written to vexil-manifest.json\n";
      break;
    default:
      out += "no vexil-manifest.json, so no checksums to compare with (--write-manifest makes one)\n";
  }
  out += r.problems.empty() ? "no problem found" : fmt::format("{} problems", r.problems.size());
  return out + fmt::format(" ({:.1f} s, {:.2f} GB/s)\n", r.seconds, double(r.bytes) / std::max(r.seconds, 1e-9) / 1e9);
}

// Differences beyond the tolerance become problems of the report.
Result<std::vector<TensorDifference>> Compare(const Flags& f, VerifyReport& report) {
  VX_ASSIGN(const auto checkpoint, convert::Source::Open(f.path, f.options.config_path));
  VX_ASSIGN(const auto reference, convert::Source::Open(f.against, ""));
  convert::ProblemList problems;
  const convert::CompareOptions options{.threads = f.options.data.threads,
                                        .progress = Meter("compare", "G values", kGiga)};
  VX_ASSIGN(std::vector<TensorDifference> differences,
            convert::CompareCheckpoints(*checkpoint, *reference, options, problems));
  for (const TensorDifference& d : differences) {
    if (f.tolerance < 0 || d.relative_rms <= f.tolerance) continue;
    problems.Add(f.path, d.name,
                 fmt::format("found a relative rms of {:.4g}, expected at most {:g} against {}", d.relative_rms,
                             f.tolerance, f.against));
  }
  report.problems = problems.Take();
  return differences;
}

Status Verify(Flags& f, int& exit_status) {
  f.options.data.progress = Meter("verify", "GB", kGiga);
  Result<VerifyReport> report = convert::VerifyCheckpoint(f.path, f.options);
  ClearProgress();
  if (!report.ok()) return std::move(report).TakeError();
  std::vector<TensorDifference> differences;
  const bool compare = !f.against.empty() && report->problems.empty();  // a broken checkpoint has no values to compare
  if (compare) {
    Result<std::vector<TensorDifference>> compared = Compare(f, *report);
    ClearProgress();
    if (!compared.ok()) return std::move(compared).TakeError();
    differences = *std::move(compared);
  }
  if (!report->problems.empty()) exit_status = 1;
  if (f.json) {
    Json out = AsJson(*report);
    if (compare) out.Set("against", AsJson(f.against, differences));
    return Print(out.ToText(1) + "\n");
  }
  return Print((compare ? AsText(f.against, std::move(differences)) : "") + AsText(*report));
}

}  // namespace

void AddVerify(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("verify", "check a checkpoint: structure, shapes, formats, values, checksums");
  auto f = std::make_shared<Flags>();
  sub->add_option("path", f->path, "checkpoint directory, or one safetensors file")->required();
  sub->add_option("--config", f->options.config_path, "configuration file (default: config.json beside the weights)");
  CLI::Option* against = sub->add_option(
      "--against", f->against, "another checkpoint of the same model, in any format: compare the dequantised values");
  sub->add_option("--tolerance", f->tolerance, "with --against: a tensor with a larger relative rms is a problem")
      ->needs(against)
      ->check(CLI::Range(0.0, 1e9));
  sub->add_flag("--write-manifest", f->options.write_manifest,
                "write checksums for a checkpoint that has none, if nothing is wrong with it");
  sub->add_flag("--json", f->json, "as JSON");
  sub->add_option("--threads", f->options.data.threads, "threads (default: all processors of this process)")
      ->check(CLI::Range(0, 1024));
  sub->callback([f, &command] { command.run = [f, &command] { return Verify(*f, command.exit_status); }; });
}

}  // namespace vexil::cli
