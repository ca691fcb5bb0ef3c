#include "evolution/json_fields.h"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>

using namespace moe;

namespace {

// What a reader of this text is told.
std::string told(const std::string& text, const std::function<void(const JsonField&)>& read) {
  const Result<JsonDocument> document = JsonDocument::parse(text, "x", {.bytes = 200, .depth = 4});
  if (!document.ok()) return document.status().message();
  read(document->root());
  return document->status().message();
}

}  // namespace

TEST_CASE("json fields: values come out as they went in") {
  const Result<JsonDocument> document = JsonDocument::parse(
      R"({"d":0.1,"n":null,"i":-7,"u":18446744073709551615,"h":"00000000000000ff","b":true,"t":"é","a":[1,2]})", "x", {});
  REQUIRE(document.ok());
  const JsonField root = document->root();
  CHECK(root["d"].number() == 0.1);
  CHECK(std::isnan(root["n"].number_or_nan()));
  CHECK(root["i"].integer(-7, -7) == -7);
  CHECK(root["u"].unsigned_integer() == UINT64_MAX);
  CHECK(root["h"].hex() == 255);
  CHECK(root["b"].boolean());
  CHECK(root["t"].text(2) == "é");
  REQUIRE(root["a"].items(2, 2).size() == 2);
  CHECK(root["a"].items(2, 2)[1].integer(0, 9) == 2);
  CHECK(root.has("d"));
  CHECK_FALSE(root.has("n"));
  CHECK_FALSE(root.has("none"));
  CHECK(root["a"].json() == "[1,2]");
  REQUIRE(root.members(8).size() == 8);
  CHECK(root.members(8)[0].first == "a");
  CHECK(document->status().ok());
}

TEST_CASE("json fields: the first thing wrong is named with its path") {
  CHECK(told("[{\"a\":[0,\"x\"]}]", [](const JsonField& r) { r.items(1, 1)[0]["a"].items(0, 9)[1].number(); }) ==
        "x: [0].a[1]: wanted a number, found \"x\"");
  CHECK(told("{\"a\":{}}", [](const JsonField& r) { r["a"]["b"]["c"].number(); }) == "x: a: wanted the key \"b\", found none");
  CHECK(told("{}", [](const JsonField& r) { r["b"].number(), r["c"].number(); }) ==
        "x: document: wanted the key \"b\", found none");
  CHECK(told("3", [](const JsonField& r) { r["b"].number(); }) == "x: document: wanted an object, found 3");
  CHECK(told("{\"a\":7}", [](const JsonField& r) { r["a"].integer(0, 5); }) == "x: a: wanted an integer from 0 to 5, found 7");
  CHECK(told("{\"a\":1.5}", [](const JsonField& r) { r["a"].integer(0, 5); }) ==
        "x: a: wanted an integer from 0 to 5, found 1.5");
  CHECK(told("{\"a\":18446744073709551615}", [](const JsonField& r) { r["a"].integer(0, 5); }) != "");
  CHECK(told("{\"a\":-1}", [](const JsonField& r) { r["a"].number(0); }) == "x: a: wanted a number of 0.0 or more, found -1");
  CHECK(told("{\"a\":2}", [](const JsonField& r) { r["a"].number(0, 1); }) == "x: a: wanted a number from 0.0 to 1.0, found 2");
  CHECK(told("{\"a\":-1}", [](const JsonField& r) { r["a"].unsigned_integer(); }) != "");
  CHECK(told("{\"a\":\"fg\"}", [](const JsonField& r) { r["a"].hex(); }) == "x: a: wanted 16 hexadecimal digits, found \"fg\"");
  CHECK(told("{\"a\":\"-00000000000000f\"}", [](const JsonField& r) { r["a"].hex(); }) != "");
  CHECK(told("{\"a\":\"xyz\"}", [](const JsonField& r) { r["a"].text(2); }) ==
        "x: a: wanted a text of at most 2 bytes, found \"xyz\"");
  CHECK(told("{\"a\":[1]}", [](const JsonField& r) { r["a"].items(2, 3); }) ==
        "x: a: wanted an array of 2 to 3, found an array of 1");
  CHECK(told("{\"a\":1}", [](const JsonField& r) { r.members(0); }) ==
        "x: document: wanted an object of at most 0 keys, found an object");
  CHECK(told("{\"z\":1}", [](const JsonField& r) {
          r.allow({"a", "b"});
        }) == "x: document: wanted one of the keys a b, found the key \"z\"");
}

TEST_CASE("json fields: what is no JSON, too long, too deep or says a thing twice is refused") {
  const auto nothing = [](const JsonField&) {};
  CHECK(told("", nothing).starts_with("x: parse error"));
  CHECK(told("{\"a\":1e999}", nothing) != "");
  CHECK(told("\"\xff\"", nothing) != "");
  CHECK(told("{\"a\":{\"b\":1,\"b\":2}}", nothing) == "x: a.b: wanted each key once, found it again");
  CHECK(told("[[[[[1]]]]]", nothing) == "x: [0][0][0][0]: wanted at most 4 levels of nesting, found more");
  CHECK(told(std::string(201, ' '), nothing) == "x: wanted at most 200 bytes, found 201");
}
