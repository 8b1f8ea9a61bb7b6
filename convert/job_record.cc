#include "convert/job_record.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "io/file.h"
#include "io/quote.h"

namespace vexil::convert {
namespace {

constexpr int kVersion = 1;
constexpr int64_t kMaxRecordBytes = int64_t(1) << 31;

// A line of the record: {"file": .., "manifest": <as vexil-manifest.json>, "notes": [..]}.
std::string LineOf(const FileRecord& record) {
  Json notes;
  if (std::ranges::any_of(record.notes, [](const Json& n) { return !n.is_null(); }))
    notes = Json(Json::Array(record.notes));
  Result<Json> manifest = Json::Parse(FormatManifest({{record.manifest}}));
  return Json(Json::Object{{"manifest", *std::move(manifest)}, {"notes", std::move(notes)}}).ToText() + "\n";
}

Result<FileRecord> ParseLine(std::string_view line) {
  VX_ASSIGN(const Json json, Json::Parse(line));
  const Json* manifest = json.Find("manifest");
  const Json* notes = json.Find("notes");
  if (manifest == nullptr || notes == nullptr) return DataLoss("expected manifest and notes");
  VX_ASSIGN(Manifest m, ParseManifest(manifest->ToText(), "manifest"));
  if (m.files.size() != 1) return DataLoss("expected one file");
  FileRecord record;
  record.manifest = std::move(m.files[0]);
  record.notes.resize(record.manifest.tensors.size());
  if (notes->is_array() && notes->array()->size() == record.notes.size()) record.notes = *notes->array();
  return record;
}

// Without the outputs' content: what a directory is for.
std::string FirstLine(const Job& job) {
  Json::Array files, small_files;
  for (const OutputFile& f : job.files) files.push_back(Json(Json::Object{{"name", f.name}, {"bytes", f.bytes}}));
  for (const SmallFile& f : job.small_files) small_files.emplace_back(f.name);
  return Json(Json::Object{{"version", kVersion},
                           {"job", job.identity},
                           {"files", std::move(files)},
                           {"small_files", std::move(small_files)}})
             .ToText() +
         "\n";
}

struct Stored {
  std::string first_line;
  std::vector<FileRecord> complete;
};

// A run that is killed while it adds a line leaves a piece of one; that file is made again.
Result<Stored> Read(const std::string& path) {
  VX_ASSIGN(const std::string text, ReadWholeFile(path, kMaxRecordBytes));
  Stored stored;
  std::string_view rest = text;
  for (bool first = true;; first = false) {
    const size_t end = rest.find('\n');
    if (end == rest.npos) break;
    const std::string_view line = rest.substr(0, end + 1);
    rest.remove_prefix(end + 1);
    if (first) {
      stored.first_line = line;
      continue;
    }
    Result<FileRecord> record = ParseLine(line);
    if (!record.ok()) break;
    stored.complete.push_back(*std::move(record));
  }
  return stored;
}

// What differs between two jobs, for the message that refuses to mix them.
std::string Difference(const Json& stored, const Json& wanted) {
  const Json* have = stored.Find("job");
  const Json* want = wanted.Find("job");
  if (have == nullptr || want == nullptr || !want->is_object()) return "has a record of another version";
  for (const auto& [key, value] : *want->object()) {
    const Json* other = have->Find(key);
    if (other != nullptr && *other == value) continue;
    const auto show = [](const Json& v) { return v.ToText().size() > 120 ? std::string("another value") : v.ToText(); };
    if (other == nullptr) return fmt::format("was made without {}", key);
    return fmt::format("was made with {} {}, this run has {}", key, show(*other), show(value));
  }
  return "was made with another plan of files";
}

// The files that an earlier job may have written, from its first line.
Status RemoveOutputsOf(const std::string& directory, const std::string& first_line) {
  Result<Json> record = Json::Parse(first_line);
  if (!record.ok()) return {};  // the line was never complete, so nothing was written after it
  std::vector<std::string> names = {std::string(kManifestName)};
  const auto safe = [](const std::string& name) {
    return !name.empty() && name.front() != '/' && name.find("..") == name.npos;
  };
  for (const char* key : {"files", "small_files"}) {
    const Json* list = record->Find(key);
    if (list == nullptr || !list->is_array()) continue;
    for (const Json& entry : *list->array()) {
      const Json* name = entry.is_object() ? entry.Find("name") : &entry;
      if (name != nullptr && name->string() != nullptr && safe(*name->string())) names.push_back(*name->string());
    }
  }
  for (const std::string& name : names) {
    VX_TRY(RemoveFile(JoinPath(directory, name)));
  }
  return {};
}

}  // namespace

Result<JobRecord> JobRecord::Open(const Job& job, bool overwrite) {
  JobRecord record(JoinPath(job.directory, kJobRecordName));
  const std::string wanted = FirstLine(job);
  VX_TRY(RemoveStaleTemporaries(job.directory, kJobRecordName));
  VX_ASSIGN(const std::vector<std::string> names, ListDirectory(job.directory));
  if (!std::ranges::binary_search(names, kJobRecordName)) {
    if (!names.empty()) {
      return InvalidArgument(fmt::format("{}: holds {}, expected an empty directory or one that this command began",
                                         job.directory, QuoteName(names[0])));
    }
    VX_TRY(record.Rewrite(wanted, job));
    VX_TRY(record.OpenForAppending());
    return record;
  }
  VX_ASSIGN(Stored stored, Read(record.path_));
  if (overwrite) {
    VX_TRY(RemoveOutputsOf(job.directory, stored.first_line));
    stored = {wanted, {}};
  } else if (stored.first_line != wanted) {
    const Result<Json> have = Json::Parse(stored.first_line), want = Json::Parse(wanted);
    return InvalidArgument(fmt::format("{}: {}; choose another directory, or start over with --overwrite",
                                       job.directory, Difference(have.ok() ? *have : Json(), *want)));
  }
  for (FileRecord& f : stored.complete) record.complete_.emplace(f.manifest.name, std::move(f));
  std::erase_if(record.complete_, [&](const auto& entry) {
    const Result<InputFile> file = InputFile::Open(JoinPath(job.directory, entry.first));
    return !file.ok() || file->size() != entry.second.manifest.bytes;
  });
  VX_TRY(record.Rewrite(wanted, job));
  VX_TRY(record.OpenForAppending());
  return record;
}

const FileRecord* JobRecord::Find(const std::string& name) const {
  const auto it = complete_.find(name);
  return it == complete_.end() ? nullptr : &it->second;
}

Status JobRecord::Rewrite(const std::string& first_line, const Job& job) {
  out_.reset();
  first_line_ = first_line;
  VX_ASSIGN(AtomicFile file, AtomicFile::Create(path_));
  VX_TRY(file.Write(first_line));
  for (const OutputFile& output : job.files) {
    if (const FileRecord* f = Find(output.name)) VX_TRY(file.Write(LineOf(*f)));
  }
  return file.Commit();
}

Status JobRecord::OpenForAppending() {
  out_.reset(std::fopen(path_.c_str(), "ae"));
  if (out_ == nullptr) return InvalidArgument(fmt::format("{}: cannot open", path_));
  return {};
}

Status JobRecord::Add(FileRecord record) {
  const std::string line = LineOf(record);
  const bool written = std::fwrite(line.data(), 1, line.size(), out_.get()) == line.size() &&
                       std::fflush(out_.get()) == 0 && ::fsync(::fileno(out_.get())) == 0;
  if (!written) {
    return ResourceExhausted(fmt::format("{}: cannot write: {}", path_, std::generic_category().message(errno)));
  }
  std::string name = record.manifest.name;
  complete_.emplace(std::move(name), std::move(record));
  return {};
}

Status JobRecord::Finish(const Job& job) { return Rewrite(first_line_, job); }

}  // namespace vexil::convert
