// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <tensornorm/kernels/simd.hpp>

namespace tensornorm::kernels {

inline namespace TENSORNORM_ABI {

// What is done to each element. A map names its coefficients once per run: one value for all of it, or an array beside it.
// `Loader` turns an array into lanes at element i: a whole vector, or the few that are left.

/// The whole vector at p.
template <class L>
struct WholeLoader {
  template <class T>
  TENSORNORM_INLINE L operator()(const T* p) const {
    return L::load(p);
  }
};
/// The first n elements at p.
template <class L, class A>
struct FewLoader {
  Index n;
  template <class T>
  TENSORNORM_INLINE L operator()(const T* p) const {
    return load_few<L, A>(p, n);
  }
};

/// One value for the whole run.
template <class L>
struct Uniform {
  L value;
  template <class Loader>
  TENSORNORM_INLINE const L& at(Index, const Loader&) const {
    return value;
  }
};
/// A value per element of the run.
template <class L, class P>
struct PerElement {
  const P* values;
  template <class Loader>
  TENSORNORM_INLINE L at(Index i, const Loader& load) const {
    return load(values + i);
  }
};

/// y = (x - mean) * scale + shift.
template <class L, class Coefficient>
struct ScaleMap {
  Coefficient mean, scale, shift;
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L y = shift.at(i, load);
    y.fma(x - mean.at(i, load), scale.at(i, load));
    return y;
  }
};

/// y = ((x - mean) * scale + shift) * weight + bias.
template <class L, class Coefficient, class Parameter>
struct AffineMap {
  Coefficient mean, scale, shift;
  Parameter weight, bias;
  template <class Loader>
  TENSORNORM_INLINE L operator()(const L& x, Index i, const Loader& load) const {
    L norm = shift.at(i, load);
    norm.fma(x - mean.at(i, load), scale.at(i, load));
    L y = bias.at(i, load);
    y.fma(norm, weight.at(i, load));
    return y;
  }
};

/// y[i] = map(x[i]) over n contiguous elements; y may be x. `ahead`: elements from x to what will be read next, fetched by the
/// streaming form, whose data come from memory.
///
/// The last vector of x is read before anything is written, since it overlaps the one before it.
template <Store kStore, class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_run(const T* x, Y* y, Index n, const Map& map, Index ahead) {
  using L = HardwareLanes<A, I>;
  constexpr Index w = L::width;
  const WholeLoader<L> whole;
  if (n < w) {
    const FewLoader<L, A> few{n};
    store_few<A>(map(few(x), 0, few), y, n);
    return;
  }
  const L last = L::load(x + (n - w));
  Index i = 0;
  if constexpr (kStore == Store::streaming) {
    const auto misplaced =
        std::min(n, Index((0 - reinterpret_cast<std::uintptr_t>(y)) / sizeof(Y) % std::uintptr_t(64 / sizeof(Y))));
    if (misplaced > 0) {
      for (Index j = 0; j < misplaced; j += w) map(L::load(x + std::min(j, n - w)), std::min(j, n - w), whole).store(y + std::min(j, n - w));
      i = misplaced;
    }
  }
  for (; i + 2 * w <= n; i += 2 * w) {
    if constexpr (kStore == Store::streaming) {
      constexpr Index line = 64 / Index(sizeof(T));
      for (Index k = 0; k < 2 * w; k += line) __builtin_prefetch(x + i + ahead + k);
    }
    map(L::load(x + i), i, whole).template store<kStore>(y + i);
    map(L::load(x + i + w), i + w, whole).template store<kStore>(y + i + w);
  }
  for (; i + w <= n; i += w) map(L::load(x + i), i, whole).template store<kStore>(y + i);
  if (i < n) map(last, n - w, whole).store(y + (n - w));
}

/// transform_run with its stores chosen at run time.
template <class A, class I, class T, class Y, class Map>
TENSORNORM_INLINE void transform_run(const T* x, Y* y, Index n, const Map& map, Index ahead, Store store) {
  if (store == Store::streaming) transform_run<Store::streaming, A, I>(x, y, n, map, ahead);
  else transform_run<Store::ordinary, A, I>(x, y, n, map, ahead);
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm::kernels
