#include "model/step_batch.h"

#include <fmt/format.h>

#include <algorithm>

namespace vexil {
namespace {

StepBatch::Emission EmissionOf(const StepBatch& step, std::span<const SequenceChunk> chunks, int64_t ratio) {
  StepBatch::Emission e;
  e.ratio = ratio;
  e.entry_begin.push_back(0);
  const int64_t per_page = kPageTokens / ratio;
  for (const SequenceChunk& c : chunks) {
    const int64_t begin = c.state->length, end = begin + int64_t(c.tokens.size());
    for (int64_t j = begin / ratio; j < end / ratio; ++j) {
      e.positions.push_back(int32_t(j * ratio));
      e.rows.push_back(int32_t(c.state->pages[size_t(j / per_page)] * per_page + j % per_page));
    }
    e.entry_begin.push_back(int32_t(e.positions.size()));
  }
  for (int32_t t : step.positions) {
    e.count.push_back(int32_t((t + 1) / ratio));
    e.max_count = std::max<int64_t>(e.max_count, e.count.back());
  }
  return e;
}

void LayOutTokens(std::span<const SequenceChunk> chunks, StepBatch& step) {
  step.seq_begin.push_back(0);
  for (size_t s = 0; s < chunks.size(); ++s) {
    const SequenceChunk& c = chunks[s];
    for (size_t i = 0; i < c.tokens.size(); ++i) {
      const bool last = i + 1 == c.tokens.size();
      if (c.logits == LogitRows::kAll || (c.logits == LogitRows::kLast && last)) {
        step.logit_rows.push_back(int32_t(step.tokens.size()));
      }
      step.tokens.push_back(c.tokens[i]);
      step.positions.push_back(int32_t(c.state->length + int64_t(i)));
      step.seq.push_back(int32_t(s));
    }
    step.seq_begin.push_back(int32_t(step.tokens.size()));
    step.slot.push_back(c.state->slot);
    step.blocks = std::max(step.blocks, int64_t(c.state->pages.size()));
  }
  step.block_table.assign(chunks.size() * size_t(step.blocks), -1);
  for (size_t s = 0; s < chunks.size(); ++s) {
    std::copy(chunks[s].state->pages.begin(), chunks[s].state->pages.end(),
              step.block_table.begin() + int64_t(s) * step.blocks);
  }
}

}  // namespace

const StepBatch::Emission& StepBatch::emission(int64_t ratio) const {
  const auto it = std::find_if(emissions.begin(), emissions.end(), [&](const Emission& e) { return e.ratio == ratio; });
  VX_CHECK(it != emissions.end(), "the step was built for a model without this ratio");
  return *it;
}

Result<StepBatch> BuildStep(StatePool& pool, std::span<const SequenceChunk> chunks, int64_t vocab_size) {
  StepBatch step;
  for (const SequenceChunk& c : chunks) {
    VX_CHECK(!c.tokens.empty(), "a chunk without tokens");
    for (int32_t id : c.tokens) {
      if (id < 0 || id >= vocab_size) {
        return InvalidArgument(fmt::format("token id {}: expected 0 to {}", id, vocab_size - 1));
      }
    }
    VX_TRY(pool.Reserve(*c.state, int64_t(c.tokens.size())));
  }
  LayOutTokens(chunks, step);
  for (const StateLayout::Layer& layer : pool.layout().layers) {
    const bool known = std::any_of(step.emissions.begin(), step.emissions.end(),
                                   [&](const StepBatch::Emission& e) { return e.ratio == layer.ratio; });
    if (layer.ratio != 0 && !known) step.emissions.push_back(EmissionOf(step, chunks, layer.ratio));
  }
  return step;
}

}  // namespace vexil
