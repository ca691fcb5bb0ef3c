// What the files that implement moe/moe.h share: the objects behind its handles, and the wall that no exception crosses.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "models/model.h"
#include "models/routing_stats.h"
#include "models/sampler.h"
#include "models/session.h"
#include "moe/moe.h"

// Models are shared by their handle, their sessions and samplers, so that an embedder (often a language with a garbage
// collector) may free the three in any order.
struct moe_model {
  std::shared_ptr<const moe::Model> model;
};

struct moe_sampler {
  std::shared_ptr<const moe::Model> model;
  moe::Sampler sampler;
};

struct moe_session {
  std::shared_ptr<const moe::Model> model;
  std::unique_ptr<moe::RoutingStats> stats;  // null unless asked for
  std::unique_ptr<moe::Session> session;
  std::vector<moe::BatchToken> batch;  // capacity max_batch
  int next_seq = -1;                   // row 0 of the logits follows the last token of this sequence, -1: of none
  moe_error error;
};

namespace moe::api {

// Writes code and message, cut before a character that does not fit. `error` may be null.
inline moe_status report(moe_error* error, StatusCode code, std::string_view message) {
  const auto status = static_cast<moe_status>(code);
  if (!error) return status;
  size_t n = std::min(message.size(), sizeof error->message - 1);
  if (n < message.size())
    while (n > 0 && (static_cast<unsigned char>(message[n]) & 0xC0) == 0x80) --n;
  error->code = status;
  std::memcpy(error->message, message.data(), n);
  error->message[n] = '\0';
  return status;
}

// Runs f() -> Status; what it throws becomes a status too. Reporting allocates nothing, since memory may be what is missing.
template <class F>
moe_status guarded(moe_error* error, F&& f) noexcept {
  try {
    const Status s = f();
    return report(error, s.code(), s.message());
  } catch (const std::bad_alloc&) {
    return report(error, StatusCode::kOutOfMemory, "out of memory");
  } catch (const std::system_error& e) {  // no more threads, or a lock that failed
    return report(error, StatusCode::kIo, e.what());
  } catch (const std::exception& e) {
    return report(error, StatusCode::kInternal, e.what());
  } catch (...) {
    return report(error, StatusCode::kInternal, "an exception of unknown type");
  }
}

// As guarded(), for functions of a session.
template <class F>
moe_status in_session(moe_session* s, F&& f) noexcept {
  return s ? guarded(&s->error, std::forward<F>(f)) : MOE_ERROR_INVALID_ARGUMENT;
}

inline Status null_argument(const char* name) {
  return Status::InvalidArgument(std::string(name) + ": wanted an address, found NULL");
}

// Names the first argument that is null: MOE_TRY(not_null({{"model", model}, {"path", path}}));
struct Named {
  const char* name;
  const void* value;
};
inline Status not_null(std::initializer_list<Named> arguments) {
  for (const Named& a : arguments)
    if (!a.value) return null_argument(a.name);
  return Status::Ok();
}

// Text by address and length, see MOE_UNTIL_ZERO. A null of length 0 is empty.
inline Result<std::string_view> text_of(const char* name, const char* text, size_t n_bytes) {
  if (!text && n_bytes != 0) return null_argument(name);
  if (!text) return std::string_view();
  return std::string_view(text, n_bytes == MOE_UNTIL_ZERO ? std::strlen(text) : n_bytes);
}

// A copy for the caller, who frees it by moe_string_free().
inline Status give(std::string_view text, char*& out) {
  out = static_cast<char*>(std::malloc(text.size() + 1));
  if (!out) return Status::OutOfMemory("out of memory");
  std::memcpy(out, text.data(), text.size());
  out[text.size()] = '\0';
  return Status::Ok();
}

// Structs that begin with their size. This is the first version of each, so that there is one size to accept.
template <class T>
Status check_size(const char* name, const T& value) {
  if (value.size == sizeof(T)) return Status::Ok();
  return Status::InvalidArgument(std::string(name) + ".size: wanted " + std::to_string(sizeof(T)) + ", found " +
                                 std::to_string(value.size) + "; was it initialised, and is moe.h the library's?");
}

// What an _init function does: the caller's struct may be shorter or longer than ours.
template <class T>
void init_options(T* options, size_t size, T defaults) {
  if (!options || size < sizeof(size_t)) return;
  defaults.size = size;
  std::memset(static_cast<void*>(options), 0, size);
  std::memcpy(static_cast<void*>(options), &defaults, std::min(size, sizeof defaults));
}

// *options, or the defaults where it is null.
template <class T>
Result<T> options_or(const char* name, const T* options, void (*init)(T*, size_t)) {
  if (options) {
    MOE_TRY(check_size(name, *options));
    return *options;
  }
  T defaults;
  init(&defaults, sizeof defaults);
  return defaults;
}

Result<const Tokenizer*> tokenizer_of(const Model& model);

}  // namespace moe::api
