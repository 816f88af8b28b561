// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <limits>
#include <tensornorm/core/check.hpp>
#include <tensornorm/core/fixed_array.hpp>
#include <tensornorm/core/scalar.hpp>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

namespace tensornorm {

/// Stands for a tensor that is not there: no weight, no bias, a gradient nobody asked for.
struct None {};
inline constexpr None none{};

template <class T>
inline constexpr bool is_none = std::is_same_v<std::remove_cvref_t<T>, None>;

/// What the library knows of an Eigen type: its scalar, rank, storage order, and the type that owns such data.
template <class X>
struct tensor_traits {
  static constexpr bool readable = false;
};

template <class S, int kRank, bool kRowMajor, bool kWritable, class PlainType>
struct readable_tensor {
  using Scalar = S;
  using Plain = PlainType;
  static constexpr bool readable = true;
  static constexpr bool writable = kWritable;
  static constexpr bool row_major = kRowMajor;
  static constexpr int rank = kRank;
};

template <class S, int kRank, int kOptions, class I>
struct tensor_traits<Eigen::Tensor<S, kRank, kOptions, I>>
    : readable_tensor<std::remove_const_t<S>, kRank, (kOptions & Eigen::RowMajor) != 0, !std::is_const_v<S>,
                      Eigen::Tensor<std::remove_const_t<S>, kRank, kOptions, I>> {};

template <class S, class Sizes, int kOptions, class I>
struct tensor_traits<Eigen::TensorFixedSize<S, Sizes, kOptions, I>>
    : readable_tensor<std::remove_const_t<S>, int(Sizes::count), (kOptions & Eigen::RowMajor) != 0, !std::is_const_v<S>,
                      Eigen::TensorFixedSize<std::remove_const_t<S>, Sizes, kOptions, I>> {};

template <class Mapped, int kOptions, template <class> class MakePointer>
struct tensor_traits<Eigen::TensorMap<Mapped, kOptions, MakePointer>> : tensor_traits<std::remove_const_t<Mapped>> {
  using Scalar = std::remove_const_t<typename tensor_traits<std::remove_const_t<Mapped>>::Scalar>;
  static constexpr bool writable = !std::is_const_v<Mapped> && !std::is_const_v<typename Mapped::Scalar>;
};

/// Not is_base_of<DenseBase<X>, X>: a segment of a vector derives from the DenseBase of its block.
template <class D>
std::true_type is_eigen_dense(const Eigen::DenseBase<D>*);
std::false_type is_eigen_dense(const void*);
template <class X>
concept EigenMatrix = decltype(is_eigen_dense(static_cast<const X*>(nullptr)))::value;

/// Rank-2 dense objects whose memory can be read directly: Matrix, Array, Map, Ref, Block and Transpose of these, as (rows, columns).
template <EigenMatrix X>
  requires((int(Eigen::internal::traits<X>::Flags) & Eigen::DirectAccessBit) != 0)
struct tensor_traits<X> : readable_tensor<typename X::Scalar, 2, bool(X::IsRowMajor),
                                          (int(Eigen::internal::traits<X>::Flags) & Eigen::LvalueBit) != 0,
                                          typename X::PlainObject> {
  static_assert(int(X::InnerStrideAtCompileTime) == 1,
                "tensornorm: a matrix must have an inner stride of 1 known at compile time; "
                "copy it, or map it with an outer stride only");
};

template <class X>
using traits_of = tensor_traits<std::remove_cvref_t<X>>;
template <class X>
using scalar_of = typename traits_of<X>::Scalar;
template <class X>
inline constexpr int rank_of = traits_of<X>::rank;

inline namespace TENSORNORM_ABI {

/// A tensor as the axes floor sees it: where it is, its extents and strides in elements, by logical axis.
template <class Scalar, int kRank>
struct TensorView {
  Scalar* data;
  Extents<kRank> shape;
  Extents<kRank> stride;
  int added = 0;  ///< leading axes of one element that the caller's tensor does not have

  Index size() const {
    Index n = 1;
    for (Index extent : shape) n *= extent;
    return n;
  }
  TensorView<const Scalar, kRank> as_const() const { return {data, shape, stride, added}; }
  /// A copy, number by number: what is copied whole is kept in memory for it.
  TensorView copy() const {
    TensorView to;
    to.data = data;
    for (int i = 0; i < kRank; ++i) {
      to.shape[i] = shape[i];
      to.stride[i] = stride[i];
    }
    to.added = added;
    return to;
  }
  /// Of the caller's rank 2, the last two axes: a matrix, whose rows may have gaps between them.
  bool is_matrix() const { return kRank - added == 2; }
  /// The shape as the caller knows it.
  ShapeText text() const { return {shape.data() + added, kRank - added}; }
  /// The elements between the first and one past the last, gaps of an outer stride included.
  Index span() const {
    Index last = 0;
    for (int i = 0; i < kRank; ++i) last += (shape[i] - 1) * stride[i];
    return size() == 0 ? 0 : last + 1;
  }
};

// What is asked of the types of a call. Where it does not hold, a sentence says so, and false comes back: what would follow from it is not
// compiled.

template <class X>
constexpr bool require_readable() {
  static_assert(traits_of<X>::readable,
                "tensornorm: expected an Eigen Tensor, TensorMap, TensorFixedSize, Matrix, Array, Map, Ref or block; "
                "evaluate an expression into one first");
  return traits_of<X>::readable;
}

template <class X>
constexpr bool require_writable() {
  static_assert(traits_of<X>::readable,
                "tensornorm: expected an output of Eigen Tensor, TensorMap, TensorFixedSize, Matrix, Array, Map, Ref or block");
  if constexpr (traits_of<X>::readable) {
    constexpr bool writable = traits_of<X>::writable && !std::is_const_v<std::remove_reference_t<X>>;
    static_assert(writable, "tensornorm: the output must be writable, neither const nor a map of const data");
    return writable;
  } else {
    return false;
  }
}

/// What can be known of x before a call: a layer of Scalar takes its elements.
template <class Scalar, class X>
constexpr bool require_elements() {
  if constexpr (require_readable<X>()) {
    constexpr bool real = RealScalar<scalar_of<X>>, fits = sizeof(scalar_of<X>) <= sizeof(Scalar);
    constexpr bool same = std::is_same_v<scalar_of<X>, Scalar>, narrower = sizeof(scalar_of<X>) < sizeof(Scalar);
    static_assert(real, "tensornorm: expected elements of a real floating-point type");
    static_assert(!real || fits, "tensornorm: the elements of x are wider than the layer's parameters; use a layer of x's scalar type");
    static_assert(!real || !fits || same || narrower,
                  "tensornorm: the elements of x are neither of the layer's scalar type nor narrower; use a layer of x's scalar type, or of float");
    return real && (same || narrower);
  } else {
    return false;
  }
}

/// And of an output: it may be written, and its elements lie as x's do.
template <class Scalar, class X, class Y>
constexpr bool require_like() {
  if constexpr (!traits_of<X>::readable) {
    return require_readable<X>();
  } else if constexpr (require_writable<Y>()) {
    constexpr bool scalar = std::is_same_v<scalar_of<X>, scalar_of<Y>>, rank = rank_of<X> == rank_of<Y>;
    constexpr bool order = traits_of<X>::row_major == traits_of<Y>::row_major;
    static_assert(scalar, "tensornorm: expected outputs of the same scalar type as x");
    static_assert(rank, "tensornorm: expected outputs of the same rank as x");
    static_assert(order, "tensornorm: expected outputs of the same storage order as x (both RowMajor or both ColMajor)");
    return require_elements<Scalar, X>() && scalar && rank && order;
  } else {
    return false;
  }
}

/// The same for a backward call: dy lies as x does, and dx, unless it is tn::none, may be written.
template <class Scalar, class X, class DY, class DX>
constexpr bool require_gradient_operands() {
  if constexpr (!traits_of<X>::readable || !traits_of<DY>::readable) {
    return require_readable<X>() && require_readable<DY>();
  } else {
    constexpr bool alike =
        std::is_same_v<scalar_of<X>, scalar_of<DY>> && rank_of<X> == rank_of<DY> && traits_of<X>::row_major == traits_of<DY>::row_major;
    static_assert(alike, "tensornorm: expected dy of x's scalar type, rank and storage order");
    if constexpr (is_none<DX>) return require_elements<Scalar, X>() && alike;
    else return require_like<Scalar, X, DX>() && alike;
  }
}

/// Sets strides in elements of a tensor that is nothing but its elements. Not returned: a copy, made by vectors, would wait for each of them.
template <bool kRowMajor, class Shape>
inline void set_strides_without_gaps(const Shape& shape, Shape& strides) {
  const int rank = int(shape.size());
  Index stride = 1;
  for (int i = 0; i < rank; ++i) {
    const int axis = kRowMajor ? rank - 1 - i : i;
    strides[axis] = stride;
    stride *= shape[axis];
  }
}

/// The view of a tensor or matrix; its scalar is const where the elements may not be written. inline: a hint, which a template is none of.
template <class X>
  requires(traits_of<X>::readable)
inline auto view_of(X&& x) {
  using Traits = traits_of<X>;
  constexpr int rank = Traits::rank;
  constexpr bool writable = Traits::writable && !std::is_const_v<std::remove_reference_t<X>>;
  using Element = std::conditional_t<writable, scalar_of<X>, const scalar_of<X>>;
  TensorView<Element, rank> view;
  view.data = x.data();
  if constexpr (EigenMatrix<std::remove_cvref_t<X>>) {
    view.shape = {Index(x.rows()), Index(x.cols())};
    view.stride = {Traits::row_major ? Index(x.outerStride()) : 1, Traits::row_major ? 1 : Index(x.outerStride())};
  } else {
    const Eigen::DSizes<Eigen::Index, rank> extents(x.dimensions());
    for (int i = 0; i < rank; ++i) view.shape[i] = Index(extents[std::size_t(i)]);
    set_strides_without_gaps<Traits::row_major>(view.shape, view.stride);
  }
  return view;
}

/// Errors: std::length_error where a new Plain could not count so many elements, which a map of memory does not ask.
template <class Plain>
void check_countable([[maybe_unused]] const Call& call, [[maybe_unused]] const char* name, [[maybe_unused]] Index size,
                     [[maybe_unused]] const ShapeText& shape) {
  using Count = typename Plain::Index;
  if constexpr (sizeof(Count) < sizeof(Index))
    if (size > Index(std::numeric_limits<Count>::max()))
      fail<std::length_error>(call, name, ": expected a number of elements that Eigen's index holds, got ", shape);
}

/// A new, uninitialized tensor or matrix of x's type of data and x's shape. Of what cannot be read x itself: the call that follows says so.
template <class X>
auto make_like([[maybe_unused]] const Call& call, const X& x) {
  if constexpr (traits_of<X>::readable) {
    using Plain = typename traits_of<X>::Plain;
    const auto view = view_of(x);
    check_countable<Plain>(call, "x", view.size(), view.text());
    if constexpr (EigenMatrix<X>) return Plain(x.rows(), x.cols());
    else if constexpr (requires(Plain p) { p.resize(x.dimensions()); } && std::is_constructible_v<Plain, decltype(x.dimensions())>)
      return Plain(x.dimensions());
    else return Plain();
  } else {
    return x;
  }
}

template <int kRank, class A, class B>
void check_same_shape(const Call& call, const char* name, const TensorView<A, kRank>& expected, const TensorView<B, kRank>& got) {
  if (expected.shape != got.shape) fail(call, name, ": expected ", expected.text(), ", got ", got.text());
}

template <class A, class B>
inline bool ranges_overlap(const A* a, Index a_size, const B* b, Index b_size) {
  const std::uintptr_t distance = reinterpret_cast<std::uintptr_t>(a) - reinterpret_cast<std::uintptr_t>(b);
  const std::uintptr_t before = std::uintptr_t(a_size) * sizeof(A) - 1, bytes = before + std::uintptr_t(b_size) * sizeof(B);
  return a_size > 0 && b_size > 0 && distance + before < bytes;  // -before <= distance < b's bytes
}

/// Side-by-side blocks of one strided matrix interleave in memory without sharing an element.
template <class A, class B, int kRank>
bool views_overlap(const TensorView<A, kRank>& a, const TensorView<B, kRank>& b) {
  if (!ranges_overlap(a.data, a.span(), b.data, b.span())) return false;
  if constexpr (kRank >= 2 && sizeof(A) == sizeof(B)) {
    constexpr int rows = kRank - 2, columns = kRank - 1;
    const int outer = a.stride[rows] > a.stride[columns] ? rows : columns, inner = rows + columns - outer;
    const Index pitch = a.stride[outer], bytes = Index(sizeof(A));
    const Index distance = Index(reinterpret_cast<std::uintptr_t>(b.data) - reinterpret_cast<std::uintptr_t>(a.data));
    if (a.is_matrix() && b.stride[outer] == pitch && b.stride[inner] == a.stride[inner] && distance % bytes == 0) {
      const Index shift = ((distance / bytes) % pitch + pitch) % pitch;
      return shift < a.shape[inner] || pitch - shift < b.shape[inner];
    }
  }
  return true;
}

/// Rows are read forwards: no map with a negative outer stride, which Eigen allows.
template <class T, int kRank>
TENSORNORM_API void check_strides(const Call& call, const char* name, const TensorView<T, kRank>& view) {
  if constexpr (kRank >= 2) {  // of a matrix the last two axes; a tensor has no negative ones
    const Index rows = view.stride[kRank - 2], columns = view.stride[kRank - 1];
    if ((rows | columns) < 0) fail(call, name, ": expected an outer stride >= 0, got ", std::min(rows, columns));
  }
}

/// An output's elements must be apart from each other: no map whose outer stride is shorter than its rows. Inner strides are 1.
template <class T, int kRank>
void check_rows_apart(const Call& call, const char* name, const TensorView<T, kRank>& out) {
  check_strides(call, name, out);
  if constexpr (kRank >= 2) {
    constexpr int rows = kRank - 2, columns = kRank - 1;
    const int outer = out.stride[columns] == 1 ? rows : columns;
    if (!out.is_matrix() || out.shape[outer] <= 1) return;
    if (out.stride[outer] < out.shape[rows + columns - outer])
      fail(call, name, ": expected rows that do not overlap, got ", out.text(), " with an outer stride of ", out.stride[outer]);
  }
}

/// Whether equal coordinates mean equal offsets; the stride of an axis of one element means nothing.
template <class A, class B, int kRank>
bool same_layout(const TensorView<A, kRank>& a, const TensorView<B, kRank>& b) {
  bool same = sizeof(A) == sizeof(B);
  for (int i = 0; i < kRank; ++i) same &= a.shape[i] == b.shape[i] && (a.shape[i] <= 1 || a.stride[i] == b.stride[i]);
  return same;
}

/// The output may be exactly the input (in place); sharing only a part of it is an error.
template <class A, class B, int kRank>
void check_in_place_or_apart(const Call& call, const char* out_name, const TensorView<A, kRank>& out, const char* in_name,
                             const TensorView<B, kRank>& in) {
  const bool same = static_cast<const void*>(out.data) == static_cast<const void*>(in.data) && same_layout(out, in);
  if (!same && views_overlap(out, in))
    fail(call, out_name, " partially overlaps ", in_name, ": expected the same memory (in place) or none in common, got a part of it");
}

/// The output, `span` elements with their gaps, lies apart from other `values`, `count` of them, or null.
template <class T, class V>
TENSORNORM_API void check_apart(const Call& call, const char* out_name, const T* out, Index span, const char* name, const V* values, Index count) {
  if (values != nullptr && ranges_overlap(out, span, values, count))
    fail(call, out_name, " overlaps ", name, ": expected no memory in common, got some");
}

}  // namespace TENSORNORM_ABI
}  // namespace tensornorm
