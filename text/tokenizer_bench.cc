// Speed of encoding and decoding, in bytes of text, on one core.
//
//   tokenizer_bench [--benchmark_filter=English]
//
// ReadBytes is a yardstick of the machine: one pass over a text, byte by byte.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "text/stream_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace vexil {
namespace {

constexpr size_t kTextBytes = 1 << 20;
constexpr char kVocabulary[] = VEXIL_SOURCE_DIR "/testdata/tokenizer/tokenizer.reconstructed.json";

const Tokenizer& TheTokenizer() {
  static const std::unique_ptr<Tokenizer> kTokenizer = [] {
    auto result = Tokenizer::FromFile(kVocabulary);
    if (!result.ok()) {
      std::fprintf(stderr, "%s\n", std::string(result.status().message()).c_str());
      std::exit(2);
    }
    return *std::move(result);
  }();
  return *kTokenizer;
}

// Tokens of the vocabulary that satisfy `is_word`, drawn by Zipf's law over their ids (ids go by frequency), a
// punctuation mark after 4 to 18 of them.
std::string WordsOf(const std::function<bool(std::string_view)>& is_word, const std::vector<std::string>& marks) {
  const Tokenizer& tokenizer = TheTokenizer();
  std::vector<std::string_view> words;
  std::vector<double> weights;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!is_word(tokenizer.TokenBytes(id))) continue;
    words.push_back(tokenizer.TokenBytes(id));
    weights.push_back(1.0 / double(10 + words.size()));
  }
  std::mt19937 random(1);
  std::discrete_distribution<size_t> word(weights.begin(), weights.end());
  std::string text;
  while (text.size() < kTextBytes) {
    for (size_t n = 4 + random() % 15; n > 0; --n) text += words[word(random)];
    text += marks[random() % marks.size()];
  }
  return text;
}

std::string EnglishText() {
  const auto is_word = [](std::string_view token) {
    const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
    return token.size() > 2 && token[0] == ' ' && std::all_of(token.begin() + 1, token.end(), is_letter);
  };
  return WordsOf(is_word, {",", ".", ";", ".\n"});
}

std::string ChineseText() {
  const auto is_word = [](std::string_view token) {
    if (token.empty() || WellFormedPrefix(token) != token.size()) return false;
    for (size_t i = 0; i < token.size(); i += 3) {
      if (FirstUtf8Sequence(token.substr(i)).length != 3) return false;
      const char32_t c = DecodeUtf8(token.substr(i), 3);
      if (c < 0x4E00 || c > 0x9FA5) return false;
    }
    return true;
  };
  return WordsOf(is_word, {"\uFF0C", "\u3002", "\u3001", "\u3002\n"});
}

std::string CodeText() {
  std::string text;
  for (const auto& entry : std::filesystem::directory_iterator(VEXIL_SOURCE_DIR "/text")) {
    if (entry.path().extension() != ".cc" && entry.path().extension() != ".h") continue;
    std::stringstream contents;
    contents << std::ifstream(entry.path()).rdbuf();
    text += contents.str();
  }
  return text;
}

std::string LettersWithoutSpace() {
  std::mt19937 random(1);
  std::string text(kTextBytes, ' ');
  for (char& c : text) c = char('a' + random() % 26);
  return text;
}

std::string Spaces() { return std::string(kTextBytes, ' '); }

template <std::string (*kText)()>
void Encode(benchmark::State& state) {
  const std::string text = kText();
  size_t tokens = 0;
  for (auto _ : state) tokens += TheTokenizer().Encode(text).size();
  state.SetBytesProcessed(int64_t(text.size()) * state.iterations());
  state.counters["tokens"] = benchmark::Counter(double(tokens), benchmark::Counter::kIsRate);
}
BENCHMARK(Encode<EnglishText>)->Unit(benchmark::kMillisecond);
BENCHMARK(Encode<ChineseText>)->Unit(benchmark::kMillisecond);
BENCHMARK(Encode<CodeText>)->Unit(benchmark::kMillisecond);
BENCHMARK(Encode<LettersWithoutSpace>)->Unit(benchmark::kMillisecond);
BENCHMARK(Encode<Spaces>)->Unit(benchmark::kMillisecond);

void Decode(benchmark::State& state) {
  const std::string text = EnglishText();
  const std::vector<int32_t> ids = TheTokenizer().Encode(text);
  for (auto _ : state) benchmark::DoNotOptimize(TheTokenizer().Decode(ids));
  state.SetBytesProcessed(int64_t(text.size()) * state.iterations());
}
BENCHMARK(Decode)->Unit(benchmark::kMillisecond);

void DecodeStream(benchmark::State& state) {
  const std::string text = EnglishText();
  const std::vector<int32_t> ids = TheTokenizer().Encode(text);
  for (auto _ : state) {
    StreamDecoder decoder(TheTokenizer());
    for (const int32_t id : ids) benchmark::DoNotOptimize(decoder.Push(id));
  }
  state.SetBytesProcessed(int64_t(text.size()) * state.iterations());
}
BENCHMARK(DecodeStream)->Unit(benchmark::kMillisecond);

void Load(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Tokenizer::FromFile(kVocabulary).ok());
}
BENCHMARK(Load)->Unit(benchmark::kMillisecond);

void ReadBytes(benchmark::State& state) {
  const std::string text = EnglishText();
  for (auto _ : state) {
    uint32_t sum = 0;
    for (const char c : text) benchmark::DoNotOptimize(sum += uint8_t(c));
  }
  state.SetBytesProcessed(int64_t(text.size()) * state.iterations());
}
BENCHMARK(ReadBytes)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace vexil

BENCHMARK_MAIN();
