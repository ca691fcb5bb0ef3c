// The C API as a C program sees it: models, options, text, batches. Only moe/moe.h, but for making the model file.
#include "tests/models/api_fixture.h"

using namespace moe::test::api;
using moe::test::TempFolder;

TEST_SUITE("c api") {
  TEST_CASE("a loaded model says what it is") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const Model model = load(path, 2);
    moe_model_info info;
    info.size = sizeof info;
    REQUIRE(moe_model_get_info(model.get(), &info, nullptr) == MOE_OK);
    CHECK(std::string(info.architecture) == "olmoe");
    CHECK(info.n_layers == 2);
    CHECK(info.n_moe_layers == 2);
    CHECK(info.n_experts == 16);
    CHECK(info.n_experts_used == 4);
    CHECK(info.n_ctx_train == 256);
    CHECK(info.threads == 2);
    CHECK(info.has_tokenizer == 1);
    CHECK(info.n_params > 1000000);
    CHECK(take(moe_model_get_key(model.get(), "general.architecture", nullptr)) == "olmoe");
    CHECK(take(moe_model_get_key(model.get(), "olmoe.block_count", nullptr)) == "2");
    moe_error e;
    CHECK(moe_model_get_key(model.get(), "no.such.key", &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
    CHECK(says(e, "no.such.key"));
  }

  TEST_CASE("the log says what was loaded, and warns where there is no tokenizer") {
    struct Line {
      moe_log_level level;
      std::string text;
    };
    std::vector<Line> lines;
    moe_model_options o;
    moe_model_options_init(&o, sizeof o);
    o.threads = 1;
    o.log_user = &lines;
    o.log = [](void* user, moe_log_level level, const char* message) {
      static_cast<std::vector<Line>*>(user)->push_back({level, message});
    };
    const TempFolder folder;
    const Model with(moe_model_load(write_model(folder).c_str(), &o, nullptr));
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].level == MOE_LOG_INFO);
    CHECK(lines[0].text.find("olmoe1.gguf") != std::string::npos);

    const Model without(moe_model_load(write_model(folder, 2, false).c_str(), &o, nullptr));
    REQUIRE(without);
    REQUIRE(lines.size() == 3);
    CHECK(lines[2].level == MOE_LOG_WARNING);
    CHECK(lines[2].text.find("tokenizer") != std::string::npos);
    moe_error e;
    size_t n = 0;
    CHECK(moe_model_tokenize(without.get(), "x", 1, 0, nullptr, 0, &n, &e) == MOE_ERROR_NOT_FOUND);
    CHECK(moe_model_find_token(without.get(), "x") == MOE_TOKEN_NONE);
    const Session s = session_of(without);
    CHECK(generate(s, nullptr, kPrompt, predict(2)).text.empty());
  }

  TEST_CASE("what cannot be loaded gives a null pointer and one error that names it") {
    const TempFolder folder;
    moe_error e;
    CHECK(moe_model_load((folder / "none.gguf").c_str(), nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
    CHECK(says(e, "none.gguf"));
    CHECK(moe_model_load(folder.write("text.gguf", "not a model").c_str(), nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_CORRUPT);
    CHECK(says(e, "text.gguf"));
    CHECK(moe_model_load(nullptr, nullptr, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(says(e, "path"));
    CHECK(moe_model_load("x", nullptr, nullptr) == nullptr);
  }

  TEST_CASE("options are checked before anything is done with them") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const auto refused = [&](auto&& change) {
      moe_model_options o;
      moe_model_options_init(&o, sizeof o);
      change(o);
      moe_error e;
      CHECK(moe_model_load(path.c_str(), &o, &e) == nullptr);
      return e;
    };
    CHECK(refused([](auto& o) { o.threads = -1; }).code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(refused([](auto& o) { o.threads = 1 << 30; }).code == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(refused([](auto& o) { o.backend = "abacus"; }).code == MOE_ERROR_NOT_FOUND);
    CHECK(says(refused([](auto& o) { o.isa = "mmx"; }), "mmx"));
    CHECK(says(refused([](auto& o) { o.size = 3; }), "size"));

    const Model model = load(path);
    moe_session_options o = session_options();
    o.cache_k = 77;
    moe_error e;
    CHECK(moe_session_create(model.get(), &o, &e) == nullptr);
    CHECK(says(e, "cache_k"));
    o = session_options(-5);
    CHECK(moe_session_create(model.get(), &o, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_INVALID_ARGUMENT);
  }

  TEST_CASE("an _init function writes no further than the caller's struct") {
    unsigned char bytes[sizeof(moe_sampler_options) + 8];
    std::memset(bytes, 0xAB, sizeof bytes);
    moe_sampler_options_init(reinterpret_cast<moe_sampler_options*>(bytes), 16);
    for (size_t i = 16; i < sizeof bytes; ++i) CHECK(bytes[i] == 0xAB);
  }

  TEST_CASE("a message too long for moe_error is cut at a character") {
    std::string path;
    for (int i = 0; i < 2000; ++i) path += "ä";
    for (const char* more : {"", "x"}) {
      moe_error e;
      CHECK(moe_model_load((more + path).c_str(), nullptr, &e) == nullptr);
      const std::string message = e.message;
      CHECK(message.size() >= sizeof e.message - 2);
      CHECK(static_cast<unsigned char>(message.back()) == 0xA4);  // the second byte of ä
    }
  }

  TEST_CASE("text survives the way to tokens and back, and an array too short stays untouched") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const std::string text = "Grüße, 世界! \r\n";
    size_t n = 0;
    REQUIRE(moe_model_tokenize(model.get(), text.c_str(), MOE_UNTIL_ZERO, MOE_TEXT_BARE, nullptr, 0, &n, nullptr) == MOE_OK);
    CHECK(n > 0);
    std::vector<moe_token> tokens(n, -7);
    moe_error e;
    CHECK(moe_model_tokenize(model.get(), text.data(), text.size(), MOE_TEXT_BARE, tokens.data(), n - 1, &n, &e) ==
          MOE_ERROR_OUT_OF_RANGE);
    CHECK(tokens == std::vector<moe_token>(tokens.size(), -7));
    REQUIRE(moe_model_tokenize(model.get(), text.data(), text.size(), MOE_TEXT_BARE, tokens.data(), n, &n, &e) == MOE_OK);
    size_t n_bytes = 0;
    CHECK(take(moe_model_detokenize(model.get(), tokens.data(), n, 0, &n_bytes, nullptr)) == text);
    CHECK(n_bytes == text.size());
    std::string pieces;
    for (const moe_token t : tokens) {
      const char* piece = moe_model_token_piece(model.get(), t, 0, &n_bytes);
      pieces.append(piece, n_bytes);
    }
    CHECK(pieces == text);
    CHECK(moe_model_token_piece(model.get(), 1 << 30, 0, &n_bytes) != nullptr);
    CHECK(n_bytes == 0);
    const moe_token eos = moe_model_special_token(model.get(), MOE_SPECIAL_EOS);
    CHECK((eos == MOE_TOKEN_NONE || moe_model_is_end_token(model.get(), eos) == 1));
    CHECK(moe_model_is_end_token(model.get(), tokens[0]) == 0);
  }

  TEST_CASE("a conversation is written in the format asked for") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const moe_chat_message turns[] = {{"user", "Hi"}};
    CHECK(take(moe_model_format_chat(model.get(), "chatml", turns, 1, 1, nullptr)) ==
          "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    CHECK(std::string(moe_model_chat_stop(model.get(), "chatml", 0)) == "<|im_end|>");
    CHECK(moe_model_chat_stop(model.get(), "chatml", 99) == nullptr);
    moe_error e;
    CHECK(moe_model_format_chat(model.get(), "smoke-signals", turns, 1, 1, &e) == nullptr);
    CHECK(e.code == MOE_ERROR_NOT_FOUND);
  }

  TEST_CASE("the lists of names end in null and hold what always is there") {
    const auto holds = [](const char* (*name)(size_t), const char* wanted) {
      bool found = false;
      for (size_t i = 0; name(i); ++i) found = found || std::string(name(i)) == wanted;
      return found;
    };
    CHECK(holds(moe_backend_name, "cpu"));
    CHECK(holds(moe_isa_name, "scalar"));
    CHECK(holds(moe_architecture_name, "deepseek2"));
    CHECK(holds(moe_chat_template_name, "chatml"));
    CHECK(std::string(moe_status_name(MOE_OK)) == "ok");
    CHECK(std::string(moe_status_name(99)) == "unknown status");
  }

  TEST_CASE("logits do not depend on the number of threads, bit for bit") {
    const TempFolder folder;
    const std::string path = write_model(folder);
    const Model one = load(path, 1), three = load(path, 3);
    const Session a = session_of(one), b = session_of(three);
    CHECK(eval_prompt(one, a) == eval_prompt(three, b));
  }

  TEST_CASE("sequences of one batch get their rows in batch order, and a copy goes on like its original") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    moe_session_options o = session_options(64, 2);
    o.max_outputs = 2;
    const Session s = session_of(model, o);
    eval_prompt(model, s);
    REQUIRE(moe_session_copy_sequence(s.get(), 0, 1) == MOE_OK);
    CHECK(held(s, 1) == kPrompt);
    const moe_batch_token same[] = {{5, 0, 1}, {5, 1, 1}};
    REQUIRE(moe_session_eval(s.get(), same, 2) == MOE_OK);
    const std::vector<float> first = logits_of(model, s);
    CHECK(std::memcmp(first.data(), moe_session_logits(s.get(), 1), first.size() * sizeof(float)) == 0);
    CHECK(moe_session_logits(s.get(), 2) == nullptr);
    const moe_batch_token other[] = {{6, 1, 1}, {7, 0, 0}};
    REQUIRE(moe_session_eval(s.get(), other, 2) == MOE_OK);
    CHECK(held(s, 1).back() == 6);
    CHECK(held(s, 0).back() == 7);
    CHECK(moe_session_logits(s.get(), 1) == nullptr);
  }

  TEST_CASE("a batch that cannot be evaluated changes nothing and says why") {
    const TempFolder folder;
    const Model model = load(write_model(folder));
    const Session s = session_of(model, session_options(8));
    eval_prompt(model, s);
    const moe_batch_token no_token[] = {{1 << 20, 0, 1}}, no_seq[] = {{1, 3, 1}};
    CHECK(moe_session_eval(s.get(), no_token, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), no_seq, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), nullptr, 1) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval(s.get(), no_token, 0) == MOE_ERROR_INVALID_ARGUMENT);
    CHECK(moe_session_eval_sequence(s.get(), 0, kPrompt.data(), kPrompt.size()) == MOE_ERROR_OUT_OF_RANGE);
    CHECK(says(s, "context"));
    CHECK(held(s) == kPrompt);
    CHECK(moe_session_truncate(s.get(), 0, 6) == MOE_ERROR_OUT_OF_RANGE);
    CHECK(moe_session_truncate(s.get(), 0, 2) == MOE_OK);
    CHECK(moe_session_error(s.get())->code == MOE_OK);
    CHECK(held(s).size() == 2);
  }

  TEST_CASE("handles may be freed in any order") {
    const TempFolder folder;
    Model model = load(write_model(folder));
    const Session s = session_of(model);
    const Sampler sampler = sampler_of(model, 3);
    model.reset();
    CHECK(generate(s, sampler.get(), kPrompt, predict(3)).tokens.size() == 3);
  }
}
