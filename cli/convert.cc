// vexil convert: a checkpoint in another format. The modes stand in cli/convert_*.cc.
#include "cli/convert.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>

#include "cli/common.h"
#include "convert/runner.h"
#include "io/file.h"

namespace vexil::cli {
namespace {

std::atomic<bool> stop_asked{false};

void OnStop(int signal) {
  if (!stop_asked.exchange(true)) return;
  std::signal(signal, SIG_DFL);  // the second one ends the program
  std::raise(signal);
}

// While it lives, Ctrl-C and SIGTERM set stop_asked.
class StopOnSignals {
 public:
  StopOnSignals() {
    stop_asked = false;
    for (int s : {SIGINT, SIGTERM}) std::signal(s, OnStop);
  }
  ~StopOnSignals() {
    for (int s : {SIGINT, SIGTERM}) std::signal(s, SIG_DFL);
  }
};

std::string Duration(double seconds) {
  const int64_t s = std::lround(seconds);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

class Progress : public convert::ProgressListener {
 public:
  void OnBytes(int64_t done, int64_t total) override {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now < next_) return;
    constexpr std::chrono::milliseconds kInterval{100};
    next_ = now + kInterval;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = double(done - kept_bytes_) / std::max(seconds, 1e-3);
    const double share = total > 0 ? double(done) / double(total) : 1;
    constexpr int kWidth = 30;
    const int filled = int(share * kWidth);
    ShowProgress(fmt::format("[{:#<{}}{:.<{}}] {:3.0f} %  {} of {}  {}/s  {} left", "", filled, "", kWidth - filled,
                             100 * share, FormatBytes(done), FormatBytes(total), FormatBytes(int64_t(rate)),
                             Duration(double(total - done) / std::max(rate, 1.0))));
  }

  void OnFile(const convert::FileRecord& file, bool kept) override {
    if (kept) kept_bytes_ += file.manifest.bytes;
    if (terminal_) return;
    fmt::print(stderr, "{}  {}  {} tensors{}\n", file.manifest.name, FormatBytes(file.manifest.bytes),
               file.manifest.tensors.size(), kept ? "  (kept)" : "");
  }

 private:
  const bool terminal_ = ::isatty(STDERR_FILENO) != 0;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point next_ = start_;
  int64_t kept_bytes_ = 0;
};

Status Summarise(const ConvertFlags& flags, const convert::Job& job, const convert::RunSummary& s) {
  const convert::Remarks remarks = job.remarks ? job.remarks(s.files) : convert::Remarks();
  int64_t total = 0;
  for (const convert::FileRecord& f : s.files) total += f.manifest.bytes;
  const double rate = double(s.written_bytes) / std::max(s.seconds, 1e-3);
  if (!flags.json) {
    for (const std::string& remark : remarks) VX_TRY(Print(remark + "\n"));
    return Print(fmt::format("{}: {} files, {} ({} kept from an earlier run), {} written in {} ({}/s)\n", flags.output,
                             s.files.size(), FormatBytes(total), s.kept_files, FormatBytes(s.written_bytes),
                             Duration(s.seconds), FormatBytes(int64_t(rate))));
  }
  Json out;
  out.Set("output", flags.output);
  out.Set("files", int64_t(s.files.size()));
  out.Set("kept_files", s.kept_files);
  out.Set("bytes", total);
  out.Set("written_bytes", s.written_bytes);
  out.Set("seconds", s.seconds);
  if (!remarks.empty()) out.Set("remarks", Json::Array(remarks.begin(), remarks.end()));
  return Print(out.ToText() + "\n");
}

}  // namespace

void ConvertFlags::Declare(CLI::App& app, const char* source) {
  app.add_option("--ckpt-path,--hf-ckpt-path", ckpt_path, fmt::format("the checkpoint to read: {}", source))
      ->required();
  app.add_option("--output,--save-path", output, "the directory to write; the same command continues a stopped run")
      ->required();
  app.add_option("--config", config, "configuration file (default: config.json beside the weights)");
  app.add_option("--threads", threads, "threads (default: all processors of this process)")->check(CLI::Range(0, 1024));
  app.add_flag("--overwrite", overwrite, "start over, whatever an earlier run left in the output directory");
  app.add_flag("--json", json, "the summary as JSON");
}

void DeclareShardSize(CLI::App& app, int64_t& bytes, const char* standard) {
  app.add_option("--max-shard-size", bytes,
                 fmt::format("bytes of tensors per file, e.g. 500MB or 5GiB (default: {})", standard))
      ->option_text("SIZE")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(int64_t(1), int64_t(1) << 50));
}

Status ConvertFlags::Check() const {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const std::string folder = IsDirectory(ckpt_path) ? ckpt_path : fs::path(ckpt_path).parent_path().string();
  if (fs::equivalent(folder.empty() ? "." : folder, output, ignored)) {
    return InvalidArgument(
        fmt::format("{}: found the source's own directory, expected another for the output", output));
  }
  return {};
}

Status RunConversion(const ConvertFlags& flags, const convert::Job& job) {
  Progress progress;
  Result<convert::RunSummary> summary = [&] {
    const StopOnSignals signals;
    return convert::RunJob(
        job, {.threads = flags.threads, .overwrite = flags.overwrite, .cancel = &stop_asked, .progress = &progress});
  }();
  ClearProgress();
  if (summary.ok()) return Summarise(flags, job, *summary);
  if (summary.status().code() == Code::kCancelled) {
    fmt::print(stderr, "vexil: stopped; finished files are kept, the same command goes on from there\n");
  }
  if (summary.status().code() == Code::kResourceExhausted)
    return InvalidArgument(std::string(summary.status().message()));
  return std::move(summary).TakeError();
}

void AddConvert(CLI::App& app, Command& command) {
  CLI::App* sub = app.add_subcommand("convert", "a checkpoint in another format; stoppable and resumable");
  sub->require_subcommand(1);
#define X(name) name(*sub, command);
  VX_CONVERT_MODES(X)
#undef X
}

}  // namespace vexil::cli
