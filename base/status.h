// Error values.
//
//   Result<Config> ReadConfig(const std::string& path);
//
//   Status Load(const std::string& path) {
//     VX_ASSIGN(Config config, ReadConfig(path));   // returns the error to our caller
//     VX_TRY(Check(config));
//     return {};                                    // success
//   }
//
// A function that can fail for reasons outside the program (files, requests, memory, an unsupported
// combination) returns Status or Result<T>. A broken invariant is a bug and goes through VX_CHECK
// (base/check.h). A message names the object, what was found and what was expected, in one line.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace vexil {

// name, what a user of the library may conclude from it
#define VX_CODES(X)                                                    \
  X(kInvalidArgument, "the input is wrong; the same call fails again") \
  X(kNotFound, "a named thing does not exist")                         \
  X(kUnsupported, "valid, but this build or device cannot do it")      \
  X(kResourceExhausted, "memory, disk or another bound was hit")       \
  X(kUnavailable, "a device or peer does not answer")                  \
  X(kCancelled, "the caller asked to stop")                            \
  X(kDataLoss, "a file is damaged or truncated")                       \
  X(kInternal, "a fault of this program")

enum class Code : uint8_t {
  kOk,
#define X(name, meaning) name,
  VX_CODES(X)
#undef X
};

// One pointer wide: null is success, so succeeding neither allocates nor touches memory. Move-only.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : rep_(new Rep{code, std::move(message)}) {}

  bool ok() const { return rep_ == nullptr; }
  Code code() const { return rep_ ? rep_->code : Code::kOk; }
  std::string_view message() const { return rep_ ? rep_->message : std::string_view(); }

  // Puts "what: " in front of the message on the way up.
  Status&& Prefix(std::string_view what) && {
    if (rep_) rep_->message.insert(0, std::string(what) + ": ");
    return std::move(*this);
  }

 private:
  struct Rep {
    Code code;
    std::string message;
  };
  std::unique_ptr<Rep> rep_;
};

// A constructor function per code.
inline Status InvalidArgument(std::string m) { return Status(Code::kInvalidArgument, std::move(m)); }
inline Status NotFound(std::string m) { return Status(Code::kNotFound, std::move(m)); }
inline Status Unsupported(std::string m) { return Status(Code::kUnsupported, std::move(m)); }
inline Status ResourceExhausted(std::string m) { return Status(Code::kResourceExhausted, std::move(m)); }
inline Status Unavailable(std::string m) { return Status(Code::kUnavailable, std::move(m)); }
inline Status Cancelled(std::string m) { return Status(Code::kCancelled, std::move(m)); }
inline Status DataLoss(std::string m) { return Status(Code::kDataLoss, std::move(m)); }
inline Status Internal(std::string m) { return Status(Code::kInternal, std::move(m)); }

// A T or the Status that says why there is none. *result and result-> need ok().
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Status> {
  using Base = tl::expected<T, Status>;

 public:
  using Base::Base;
  Result(Status error) : Base(tl::unexpect, std::move(error)) {}
  bool ok() const { return this->has_value(); }
  const Status& status() const { return this->error(); }
  Status TakeError() && { return std::move(this->error()); }
};

}  // namespace vexil

#define VX_CONCAT_(a, b) a##b
#define VX_CONCAT(a, b) VX_CONCAT_(a, b)
// Returns the Status of `expr` to the caller unless it is ok.
#define VX_TRY(expr) VX_TRY_(expr, VX_CONCAT(vx_status_, __LINE__))
#define VX_TRY_(expr, name)                          \
  do {                                               \
    if (::vexil::Status name = (expr); !name.ok()) { \
      return name;                                   \
    }                                                \
  } while (0)
// Declares or assigns `decl` from a Result, or returns its error to the caller.
#define VX_ASSIGN(decl, expr) VX_ASSIGN_(decl, expr, VX_CONCAT(vx_result_, __LINE__))
#define VX_ASSIGN_(decl, expr, name)    \
  auto name = (expr);                   \
  if (!name.ok()) {                     \
    return std::move(name).TakeError(); \
  }                                     \
  decl = *std::move(name)
