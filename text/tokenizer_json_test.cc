#include "text/tokenizer_json.h"

#include <unistd.h>

#include <cstdio>
#include <functional>

#include "base/json.h"
#include "text/byte_level.h"
#include "text/test_tokenizers.h"

namespace vexil {
namespace {

// Ids 0 to 255 are the bytes, 256 is "ab", 257 the special "<s>", which the vocabulary repeats, and 258 "<t>".
Json Valid() {
  Json json = *Json::Parse(R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 257, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
       "special": true},
      {"id": 258, "content": "<t>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true,
       "special": false}],
    "normalizer": {"type": "Sequence", "normalizers": []},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
      {"type": "Split", "pattern": {"Regex": "\\s+"}, "behavior": "Isolated", "invert": false},
      {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
              "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
              "vocab": {}, "merges": ["a b"]}})");
  Json& vocab = *json.Find("model")->Find("vocab");
  for (int b = 0; b < 256; ++b) vocab.Set(ByteSymbol(uint8_t(b)), b);
  vocab.Set("ab", 256);
  vocab.Set("<s>", 257);
  return json;
}

// The value at a path such as "model.merges.0"; a member that is missing is added.
Json& At(Json& json, std::string_view path) {
  Json* value = &json;
  while (!path.empty()) {
    const size_t dot = std::min(path.find('.'), path.size());
    const std::string key(path.substr(0, dot));
    path.remove_prefix(std::min(dot + 1, path.size()));
    if (value->is_array()) {
      value = &(*value->array())[size_t(std::stoi(key))];
    } else {
      if (value->Find(key) == nullptr) value->Set(key, nullptr);
      value = value->Find(key);
    }
  }
  return *value;
}

void Remove(Json& object, std::string_view key) {
  std::erase_if(*object.object(), [&](const auto& member) { return member.first == key; });
}

std::string Message(const Json& json) {
  const auto result = Tokenizer::FromJson(json.ToText());
  return result.ok() ? "" : std::string(result.status().message());
}

TEST(TokenizerJsonTest, ReadsTheFamily) {
  const auto tokenizer = *Tokenizer::FromJson(Valid().ToText());
  EXPECT_EQ(tokenizer->vocab_size(), 259);
  EXPECT_EQ(tokenizer->Encode("ab<s><t>b"), (std::vector<int32_t>{256, 257, 258, 'b'}));
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{257, 258}, /*skip_special=*/true), "<t>");
}

TEST(TokenizerJsonTest, ReadsItsVariants) {
  Json json = Valid();
  for (const char* key : {"normalizer", "post_processor"}) At(json, key) = nullptr;
  for (const char* key : {"truncation", "padding"}) Remove(json, key);
  for (const char* key : {"dropout", "ignore_merges", "byte_fallback"}) Remove(At(json, "model"), key);
  At(json, "model.merges.0") = Json::Array{"a", "b"};
  EXPECT_EQ(Message(json), "");
  Remove(json, "added_tokens");
  EXPECT_EQ(Message(json), "");
}

// The first set takes its tokens out of the whole text before the second one is looked for.
TEST(TokenizerJsonTest, TwoSetsOfAddedTokens) {
  Json json = Valid();
  At(json, "added_tokens.1.content") = "a<s>b";
  Json longer = At(json, "added_tokens.1");
  longer.Set("id", 259);
  longer.Set("content", "xx");
  Json longest = longer;
  longest.Set("id", 260);
  longest.Set("content", "xxxy");
  At(json, "added_tokens").array()->push_back(longer);
  At(json, "added_tokens").array()->push_back(longest);
  const auto tokenizer = *Tokenizer::FromJson(json.ToText());
  EXPECT_EQ(tokenizer->Encode("a<s>b"), (std::vector<int32_t>{'a', 257, 'b'}));
  EXPECT_EQ(tokenizer->Encode("xxx"), (std::vector<int32_t>{259, 'x'}));
  EXPECT_EQ(tokenizer->Encode("xxxyxxxx"), (std::vector<int32_t>{260, 259, 259}));
  EXPECT_EQ(tokenizer->Encode("xxxy", AddedTokens::kIgnore), (std::vector<int32_t>{'x', 'x', 'x', 'y'}));
}

struct Fault {
  const char* path;
  const char* value;  // JSON
  const char* message;
};

// Prints the path instead of bytes when a test fails.
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.path << " = " << fault.value; }

class FaultTest : public testing::TestWithParam<Fault> {};

TEST_P(FaultTest, IsRefusedWithALine) {
  Json json = Valid();
  At(json, GetParam().path) = *Json::Parse(GetParam().value);
  EXPECT_EQ(Message(json), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, FaultTest,
    testing::Values(Fault{"version", R"("2.0")", R"(version: found "2.0", expected "1.0")"},
                    Fault{"extra", "1", R"("extra": found an unknown member, expected none)"},
                    Fault{"truncation", R"({"max_length": 5})", "truncation: found object, expected null"},
                    Fault{"padding", "{}", "padding: found object, expected null"},
                    Fault{"normalizer", R"({"type": "NFC"})", R"(normalizer.type: found "NFC", expected "Sequence")"},
                    Fault{"normalizer.normalizers", R"([{"type": "NFC"}])",
                          "normalizer.normalizers: found array, expected []"},
                    Fault{"post_processor.type", R"("TemplateProcessing")",
                          R"(post_processor.type: found "TemplateProcessing", expected "ByteLevel")"},
                    Fault{"decoder", "null", "decoder: found null, expected an object"},
                    Fault{"decoder.type", R"("Metaspace")", R"(decoder.type: found "Metaspace", expected "ByteLevel")"},
                    Fault{"model.type", R"("Unigram")", R"(model.type: found "Unigram", expected "BPE")"},
                    Fault{"model.dropout", "0.1", "model.dropout: found 0.1, expected null"},
                    Fault{"model.unk_token", R"("<unk>")", R"(model.unk_token: found "<unk>", expected null)"},
                    Fault{"model.continuing_subword_prefix", R"("##")",
                          R"(model.continuing_subword_prefix: found "##", expected null or "")"},
                    Fault{"model.end_of_word_suffix", R"("</w>")",
                          R"(model.end_of_word_suffix: found "</w>", expected null or "")"},
                    Fault{"model.fuse_unk", "true", "model.fuse_unk: found true, expected false"},
                    Fault{"model.byte_fallback", "true", "model.byte_fallback: found true, expected false"},
                    Fault{"model.ignore_merges", "true", "model.ignore_merges: found true, expected false"},
                    Fault{"model.new", "0", R"(model."new": found an unknown member, expected none)"}));

INSTANTIATE_TEST_SUITE_P(
    Pretokenizer, FaultTest,
    testing::Values(
        Fault{"pre_tokenizer", "null", "pre_tokenizer: found null, expected an object"},
        Fault{"pre_tokenizer.type", R"("Split")", R"(pre_tokenizer.type: found "Split", expected "Sequence")"},
        Fault{"pre_tokenizer.pretokenizers", "[]", "pre_tokenizer.pretokenizers: found 0 steps, expected 1 to 64"},
        Fault{"pre_tokenizer.pretokenizers", "{}", "pre_tokenizer.pretokenizers: found object, expected an array"},
        Fault{"pre_tokenizer.pretokenizers.0.type", R"("Digits")",
              R"(pre_tokenizer.pretokenizers[0].type: found "Digits", expected "Split")"},
        Fault{"pre_tokenizer.pretokenizers.0.behavior", R"("Removed")",
              R"(pre_tokenizer.pretokenizers[0].behavior: found "Removed", expected "Isolated")"},
        Fault{"pre_tokenizer.pretokenizers.0.invert", "true",
              "pre_tokenizer.pretokenizers[0].invert: found true, expected false"},
        Fault{"pre_tokenizer.pretokenizers.0.pattern", R"({"String": " "})",
              R"(pre_tokenizer.pretokenizers[0].pattern."String": found an unknown member, expected none)"},
        Fault{"pre_tokenizer.pretokenizers.0.pattern.Regex", "1",
              "pre_tokenizer.pretokenizers[0].pattern.Regex: found 1, expected a string"},
        Fault{"pre_tokenizer.pretokenizers.0.pattern.Regex", R"("a(")",
              R"(pre_tokenizer.pretokenizers[0].pattern.Regex: byte 1: found "(", expected an alternative of plain )"
              "characters, classes, greedy repeats and look-aheads"},
        Fault{"pre_tokenizer.pretokenizers.1.add_prefix_space", "true",
              "pre_tokenizer.pretokenizers[1].add_prefix_space: found true, expected false"},
        Fault{"pre_tokenizer.pretokenizers.1.use_regex", "true",
              "pre_tokenizer.pretokenizers[1].use_regex: found true, expected false"},
        Fault{"pre_tokenizer.pretokenizers.1.type", R"("Split")",
              R"(pre_tokenizer.pretokenizers[1].type: found "Split", expected "ByteLevel")"}));

INSTANTIATE_TEST_SUITE_P(
    Added, FaultTest,
    testing::Values(
        Fault{"added_tokens", "{}", "added_tokens: found object, expected an array"},
        Fault{"added_tokens.0", "1", "added_tokens[0]: found 1, expected an object"},
        Fault{"added_tokens.0.lstrip", "true", "added_tokens[0].lstrip: found true, expected false"},
        Fault{"added_tokens.0.rstrip", "true", "added_tokens[0].rstrip: found true, expected false"},
        Fault{"added_tokens.0.single_word", "true", "added_tokens[0].single_word: found true, expected false"},
        Fault{"added_tokens.0.special", "1", "added_tokens[0].special: found 1, expected true or false"},
        Fault{"added_tokens.0.content", R"("")",
              R"(added_tokens[0].content: found "", expected a string of 1 to 1024 bytes)"},
        Fault{"added_tokens.0.id", "-1", "added_tokens[0].id: found -1, expected a token id"},
        Fault{"added_tokens.0.id", "1.5", "added_tokens[0].id: found 1.5, expected a token id"},
        Fault{"added_tokens.0.id", "5000000000", "added_tokens[0].id: found 5000000000, expected a token id"},
        Fault{"added_tokens.0.id", "3", R"(model.vocab["<s>"]: found id 257, expected 3 as in added_tokens)"},
        Fault{"added_tokens.1.id", "7", "added_tokens[1].id: found id 7 again, expected each id once"},
        Fault{"added_tokens.1.id", "999", "added_tokens[1].id: found id 999, expected 0 to 259, as there are tokens"},
        Fault{"added_tokens.1.id", "259", "model.vocab: found no token with id 258, expected all from 0 to 259"},
        Fault{"added_tokens.1.content", R"("<s>")",
              R"(added_tokens[1].content: found "<s>" again, expected each content once)"}));

INSTANTIATE_TEST_SUITE_P(
    Lists, FaultTest,
    testing::Values(
        Fault{"model.vocab", "[]", "model.vocab: found [], expected an object"},
        Fault{"model.vocab.ab", "7", R"(model.vocab["ab"]: found id 7 again, expected each id once)"},
        Fault{"model.vocab.ab", R"("7")", R"(model.vocab["ab"]: found "7", expected a token id)"},
        Fault{"model.vocab.ab", "1e9",
              R"(model.vocab["ab"]: found id 1000000000, expected 0 to 259, as there are tokens)"},
        Fault{
            "model.vocab.a b", "259",
            R"(model.vocab["a b"]: found a character that stands for no byte, expected byte symbols or an added token)"},
        Fault{"model.merges", "null", "model.merges: found null, expected an array"},
        Fault{"model.merges.0", R"("ab")", R"(model.merges[0]: found "ab", expected two tokens)"},
        Fault{"model.merges.0", R"("a b c")", R"(model.merges[0]: found "a b c", expected two tokens)"},
        Fault{"model.merges.0", R"(["a"])", "model.merges[0]: found array, expected two tokens"},
        Fault{"model.merges.0", R"("a ")",
              R"(model.merges[0]: found "", expected a token of model.vocab made of byte symbols)"},
        Fault{"model.merges.0", R"("a c")",
              R"(model.merges[0]: found "ac", expected a token of model.vocab made of byte symbols)"},
        Fault{"model.merges.0", R"("aa b")",
              R"(model.merges[0]: found "aa", expected a token of model.vocab made of byte symbols)"},
        Fault{"model.merges", R"(["a b", ["a", "b"]])", "model: merge 1: found the pair of merge 0 again"}));

TEST(TokenizerJsonTest, MissingMembers) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "version"},
      {"", "pre_tokenizer"},
      {"", "decoder"},
      {"", "model"},
      {"model", "vocab"},
      {"model", "merges"},
      {"model", "type"},
      {"added_tokens.0", "special"},
      {"pre_tokenizer.pretokenizers.0", "invert"},
      {"decoder", "type"},
      {"normalizer", "normalizers"},
      {"pre_tokenizer.pretokenizers.1", "use_regex"},
  };
  for (const auto& [parent, key] : cases) {
    Json json = Valid();
    Remove(At(json, parent), key);
    const std::string message = Message(json);
    EXPECT_TRUE(message.ends_with(std::string(key) + ": found nothing, expected a value")) << message;
  }
}

TEST(TokenizerJsonTest, MissingByte) {
  Json json = Valid();
  Remove(At(json, "model.vocab"), "z");
  At(json, "model.vocab.zz") = int('z');
  EXPECT_EQ(Message(json), "model: byte 0x7a: found no token, expected 'z'");
}

TEST(TokenizerJsonTest, EmptyKey) {
  Json json = Valid();
  At(json, "model.vocab").Set("", 259);
  EXPECT_EQ(Message(json), R"(model.vocab[""]: found an empty token, expected at least one character)");
}

// Messages quote no more than a few characters of what they found, cut between characters.
TEST(TokenizerJsonTest, MessagesAreShort) {
  Json json = Valid();
  At(json, "version") = Repeat("\u4E2D", 100000);
  EXPECT_EQ(Message(json), "version: found \"" + Repeat("\u4E2D", 57) + "..., expected \"1.0\"");
}

TEST(TokenizerJsonTest, NoJson) {
  EXPECT_EQ(Tokenizer::FromJson("[]").status().message(), "tokenizer: found [], expected an object");
  EXPECT_EQ(Tokenizer::FromJson("{").status().code(), Code::kInvalidArgument);
  EXPECT_FALSE(Tokenizer::FromJson("").ok());
}

TEST(TokenizerJsonTest, Files) {
  const auto missing = Tokenizer::FromFile("/no/such/tokenizer.json");
  EXPECT_EQ(missing.status().message(), "/no/such/tokenizer.json: cannot open: No such file or directory");
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  EXPECT_FALSE(Tokenizer::FromFile(VEXIL_SOURCE_DIR).ok());
  const std::string path = testing::TempDir() + "/tokenizer_json_test_" + std::to_string(::getpid()) + ".json";
  std::ofstream(path) << "{\"version\": 1}";
  EXPECT_EQ(Tokenizer::FromFile(path).status().message(), path + ": version: found 1, expected \"1.0\"");
  std::remove(path.c_str());
}

}  // namespace
}  // namespace vexil
