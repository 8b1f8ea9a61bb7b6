// Intervals for references of ops with inner roundings.
//
// Where the exact value of a sum is known and the sum's error bounded, the result of rounding it lies between the
// rounded ends (rounding is monotone). Carried through each rounding of an op, this allows the neighbouring value
// exactly where f32 and f64 arithmetic may round apart, and nothing anywhere else.
#pragma once

#include "testing/conformance.h"

namespace vexil {

struct Interval {
  double low = 0, high = 0;
};

inline Interval Around(double v, double error) { return {v - error, v + error}; }
inline Interval RoundTo(DType t, Interval i) { return {RoundTo(t, i.low), RoundTo(t, i.high)}; }

// How far an f32 sum of `terms` rounded products may be off when the products' magnitudes add up to `magnitude`,
// whatever the order: roundings of either sign, each at most half an ulp of a partial sum, grow with the root of their
// number.
inline double SumError(int64_t terms, double magnitude) {
  return (2 * std::sqrt(double(terms)) + 1) * Epsilon(DType::kF32) * magnitude;
}

// The largest relative error of exp(x) in f32 when x is off by x_error: x itself is rounded once, the function is good
// to one ulp.
inline double ExpError(double x, double x_error) { return x_error + (std::abs(x) + 2) * Epsilon(DType::kF32); }

// Appends an element that may be anything in the interval.
inline void Append(Expected& e, Interval i) {
  e.value.push_back((i.low + i.high) / 2);
  e.tolerance.push_back((i.high - i.low) / 2);
}

}  // namespace vexil
