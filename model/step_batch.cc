#include "model/step_batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

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

void LayOutTokens(std::span<const SequenceChunk> chunks, int64_t window_capacity, StepBatch& step) {
  step.seq_begin.push_back(0);
  for (size_t s = 0; s < chunks.size(); ++s) {
    const SequenceChunk& c = chunks[s];
    for (size_t i = 0; i < c.tokens.size(); ++i) {
      const bool last = i + 1 == c.tokens.size();
      if (c.logits == LogitRows::kAll || (c.logits == LogitRows::kLast && last)) {
        step.logit_rows.push_back(int32_t(step.tokens.size()));
      }
      step.tokens.push_back(c.tokens[i]);
      const int64_t position = c.state->length + int64_t(i);
      step.positions.push_back(int32_t(position));
      const bool overwritten = int64_t(c.tokens.size() - i) > window_capacity;
      step.window_rows.push_back(overwritten ? -1
                                             : int32_t(c.state->slot * window_capacity + position % window_capacity));
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

// A view of a metadata vector; an empty one has an address too, which tells it from an argument that is left out.
TensorView View(const std::vector<int32_t>& v) {
  static const int32_t kNothing = 0;
  return TensorView(v.empty() ? &kNothing : v.data(), DType::kI32, {int64_t(v.size())});
}

// The views of a batch, each made by `view` from its vector.
template <class F>
StepTensors Lay(const StepBatch& b, F&& view) {
  StepTensors t{view(b.tokens),
                view(b.positions),
                view(b.seq),
                view(b.window_rows),
                view(b.seq_begin),
                view(b.slot),
                view(b.block_table).Reshape({int64_t(b.slot.size()), b.blocks}),
                view(b.logit_rows),
                {}};
  for (const StepBatch::Emission& e : b.emissions) {
    t.emissions.push_back({e.ratio, view(e.entry_begin), view(e.positions), view(e.rows), view(e.count), e.max_count});
  }
  return t;
}

template <class List>
const auto& EmissionFor(const List& emissions, int64_t ratio) {
  const auto it = std::find_if(emissions.begin(), emissions.end(), [&](const auto& e) { return e.ratio == ratio; });
  VX_CHECK(it != emissions.end(), "the step was built for a model without this ratio");
  return *it;
}

constexpr size_t kPartAlign = 64;

}  // namespace

const StepBatch::Emission& StepBatch::emission(int64_t ratio) const { return EmissionFor(emissions, ratio); }
const StepTensors::Emission& StepTensors::emission(int64_t ratio) const { return EmissionFor(emissions, ratio); }

StepTensors ViewsOf(const StepBatch& batch) { return Lay(batch, View); }

size_t PackedBytes(const StepBatch& batch) {
  size_t bytes = 0;
  Lay(batch, [&](const std::vector<int32_t>& v) {
    bytes += (v.size() * sizeof(int32_t) + kPartAlign) / kPartAlign * kPartAlign;
    return View(v);
  });
  return bytes;
}

StepTensors Pack(const StepBatch& batch, void* host, void* device, DeviceId id) {
  size_t at = 0;
  return Lay(batch, [&](const std::vector<int32_t>& v) {
    const size_t bytes = v.size() * sizeof(int32_t);
    if (bytes > 0) std::memcpy(static_cast<char*>(host) + at, v.data(), bytes);
    const TensorView view(static_cast<char*>(device) + at, DType::kI32, {int64_t(v.size())}, id);
    at += (bytes + kPartAlign) / kPartAlign * kPartAlign;
    return view;
  });
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
  LayOutTokens(chunks, pool.layout().window_capacity, step);
  for (const StateLayout::Layer& layer : pool.layout().layers) {
    const bool known = std::any_of(step.emissions.begin(), step.emissions.end(),
                                   [&](const StepBatch::Emission& e) { return e.ratio == layer.ratio; });
    if (layer.ratio != 0 && !known) step.emissions.push_back(EmissionOf(step, chunks, layer.ratio));
  }
  return step;
}

void PadDecode(StepBatch& batch, int64_t max_length) {
  const size_t sequences = batch.slot.size();
  VX_CHECK(batch.tokens.size() == sequences, "a decode step has one token per sequence");
  const int64_t blocks = max_length / kPageTokens;
  VX_CHECK(blocks >= batch.blocks, "a sequence is longer than max_length");
  std::vector<int32_t> table(sequences * size_t(blocks), -1);
  for (size_t s = 0; s < sequences; ++s) {
    std::copy_n(batch.block_table.begin() + int64_t(s) * batch.blocks, batch.blocks,
                table.begin() + int64_t(s) * blocks);
  }
  batch.block_table = std::move(table);
  batch.blocks = blocks;
  for (StepBatch::Emission& e : batch.emissions) {
    e.positions.resize(sequences, 0);
    e.rows.resize(sequences, -1);
    e.max_count = max_length / e.ratio;
  }
}

}  // namespace vexil
