// The halves of a mixture of experts for few tokens: the routed experts (E2M1, by groups) and the shared one (E4M3) in
// one launch. As the launches of cuda_skinny.h give them, bit for bit.
#pragma once

#include "ops/linear/cuda_skinny.h"

namespace vexil::cuda {

constexpr int kSkinnyTogether = 8;  // tokens: with more the shared expert is better off alone

// Both calls have the same N, K and input.
struct SkinnyExperts {
  SkinnyCall routed;  // as for SkinnyGroupedGate and SkinnyGroupedLinear
  SkinnyCall shared;  // as for SkinnyGatedLinear and SkinnyLinear
};

// Whether the calls below can run: the rows of x that a block needs fit into shared memory.
bool SkinnyExpertsFit(const SkinnyExperts&, bool gate);

// Gate, up and activation. Input: E4M3.
cudaError_t SkinnyExpertsGate(const Launch&, const SkinnyExperts&, const SkinnyMatrix* w1, const SkinnyMatrix* w3,
                              const SkinnyGate& routed, const SkinnyMatrix& shared_w1, const SkinnyMatrix& shared_w3,
                              const SkinnyGate& shared);
// The last product. Input: BF16 made E4M3.
cudaError_t SkinnyExpertsDown(const Launch&, const SkinnyExperts&, const SkinnyMatrix* w2,
                              const SkinnyMatrix& shared_w2);

}  // namespace vexil::cuda
