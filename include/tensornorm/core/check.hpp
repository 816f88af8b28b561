// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tensornorm/core/abi.hpp>
#include <tensornorm/core/scalar.hpp>

namespace tensornorm {

inline namespace TENSORNORM_ABI {

/// Where an error message comes from: it opens with "<layer>::<function>: ".
struct Call {
  const char* layer;
  const char* function;
};

/// A list of extents that prints as [2,4,5,5].
struct ShapeText {
  const Index* extents;
  int rank;
  friend std::ostream& operator<<(std::ostream& out, const ShapeText& shape) {
    out << '[';
    for (int i = 0; i < shape.rank; ++i) out << (i ? "," : "") << shape.extents[i];
    return out << ']';
  }
};

/// Writes a part of a message, were it only that a number has no operator<<.
template <class Part>
void write_part(std::ostream& out, const Part& part) {
  if constexpr (requires { out << part; }) out << part;
  else out << "a number without operator<<";
}

/// Throws Error with the parts joined into "<layer>::<function>: <parts>"; without exceptions prints that and aborts.
///
/// By value, or what a call is made of would be in memory for the sake of a message that hardly anybody reads.
template <class Error = std::invalid_argument, class... Parts>
[[noreturn]] void fail(Call call, Parts... parts) {
  std::ostringstream text;
  text << call.layer << "::" << call.function << ": ";
  (write_part(text, parts), ...);
#if defined(__cpp_exceptions)
  throw Error(text.str());
#else
  std::fputs((text.str() + '\n').c_str(), stderr);
  std::abort();
#endif
}

/// Infinity by its bits: compilers warn of its name where they are told that there is none.
inline constexpr double kInfinity = std::bit_cast<double>(std::uint64_t{0x7FF} << 52);

/// 0 <= x <= high, false for a NaN; by its bits, or a unit built with -ffast-math, which takes a comparison with a NaN to be whatever
/// suits it, would give its copy of a check to all others. By reference, since it takes an argument to be no NaN either.
inline bool is_from_zero_to(const double& high, const double& x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  return bits <= std::bit_cast<std::uint64_t>(high) || bits == std::bit_cast<std::uint64_t>(-0.0);
}

/// eps must be finite and >= 0; 0 is allowed (norm is then 0 where the variance is 0).
inline void check_eps(const Call& call, const double& eps) {
  if (!is_from_zero_to(std::numeric_limits<double>::max(), eps)) fail(call, "expected eps to be finite and >= 0, got ", eps);
}

/// The number of elements of a shape of at least one extent, all >= 1; std::length_error where that overflows, or Eigen's index does.
inline Index checked_size(const Call& call, const char* argument, const Index* extents, int rank) {
  if (rank < 1) fail(call, "expected ", argument, " of at least one extent, got []");
  constexpr Index most =
      std::min<Index>(std::numeric_limits<Index>::max() / Index(sizeof(double)), std::numeric_limits<Eigen::Index>::max());
  Index size = 1;
  for (int i = 0; i < rank; ++i) {
    if (extents[i] < 1) fail(call, "expected ", argument, "[", i, "] >= 1, got ", extents[i], " in ", ShapeText{extents, rank});
    if (size > most / extents[i])
      fail<std::length_error>(call, "expected ", argument, " to have a representable number of elements, got ",
                              ShapeText{extents, rank});
    size *= extents[i];
  }
  return size;
}

/// The number of channels of a layer: >= 1, and its bytes representable.
inline Index checked_features(const Call& call, const char* argument, Index features) {
  if (features < 1) fail(call, argument, " must be >= 1, got ", features);
  return checked_size(call, argument, &features, 1);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
