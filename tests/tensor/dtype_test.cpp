#include "tensor/dtype.h"

#include <doctest/doctest.h>

#include <set>
#include <string>

namespace moe {

TEST_CASE("the traits table has one row a dtype, in the order of the enum, with unique names and numbers") {
  std::set<std::string> names;
  std::set<uint32_t> numbers;
  CHECK(all_dtypes().size() == kNumDTypes);
  for (size_t i = 0; i < all_dtypes().size(); ++i) {
    const DTypeTraits& t = all_dtypes()[i];
    CAPTURE(t.name);
    CHECK(static_cast<size_t>(t.dtype) == i);
    CHECK(&traits(t.dtype) == &t);
    CHECK(names.insert(t.name).second);
    CHECK((t.gguf_id == kNoGgufId || numbers.insert(t.gguf_id).second));
    CHECK((t.decode != nullptr) == t.is_weight);
    CHECK((t.encode != nullptr) == t.is_weight);
  }
}

TEST_CASE("dtypes are found by their GGUF number") {
  CHECK(dtype_from_gguf(12).value() == DType::kQ4_K);
  CHECK(dtype_from_gguf(26).value() == DType::kI32);
  const auto unknown = dtype_from_gguf(4);  // Q4_2, removed from ggml
  CHECK(unknown.status().code() == StatusCode::kUnsupported);
  CHECK(unknown.status().message().find(" 4 ") != std::string::npos);
  CHECK(!dtype_from_gguf(kNoGgufId).ok());
}

TEST_CASE("dtypes are found by their exact name in any case") {
  for (const DTypeTraits& t : all_dtypes()) {
    CAPTURE(t.name);
    if (t.gguf_id != kNoGgufId) {
      CHECK(parse_dtype(t.name).value() == t.dtype);
    } else {
      CHECK(!parse_dtype(t.name).ok());  // lives in memory only
    }
  }
  CHECK(parse_dtype("Q4_K").value() == DType::kQ4_K);
  CHECK(parse_dtype("Mxfp4").value() == DType::kMXFP4);
  for (const char* wrong : {"fp16", "q4", "q4_k ", "q4_kk", ""}) {
    const auto result = parse_dtype(wrong);
    CHECK(result.status().code() == StatusCode::kInvalidArgument);
    CHECK(result.status().message().find("'" + std::string(wrong) + "'") != std::string::npos);
    CHECK(result.status().message().find("iq4_nl") != std::string::npos);
  }
}

TEST_CASE("bytes are counted in whole blocks") {
  CHECK(dtype_bytes(DType::kF32, 5) == 20);
  CHECK(dtype_bytes(DType::kQ4_K, 512) == 288);
  CHECK(dtype_bytes(DType::kQ8_0, 0) == 0);
  CHECK(dtype_bytes(DType::kQ4_0, int64_t{1} << 40) == (size_t{1} << 35) * 18);
  CHECK_THROWS_AS(dtype_bytes(DType::kQ4_K, 128), BugError);
  CHECK_THROWS_AS(dtype_bytes(DType::kQ4_K, -256), BugError);
}

}  // namespace moe
