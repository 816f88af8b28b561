// SPDX-License-Identifier: MIT
// Tensors and matrices of any storage order, seen as flat vectors in logical (RowMajor) order.
#pragma once

#include <gtest/gtest.h>

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>
#include <vector>

#include "numbers.hpp"

namespace support {

/// The coordinates of the flat RowMajor index.
inline Shape coordinates(Index flat, const Shape& shape) {
  Shape result(shape.size());
  for (std::size_t axis = shape.size(); axis-- > 0; flat /= shape[axis]) result[axis] = flat % shape[axis];
  return result;
}

/// The flat position of these coordinates in memory of this storage order.
template <int kOrder>
Index storage_index(const Shape& at, const Shape& shape) {
  Index result = 0;
  for (std::size_t step = 0; step < shape.size(); ++step) {
    const std::size_t axis = kOrder == Eigen::RowMajor ? step : shape.size() - 1 - step;
    result = result * shape[axis] + at[axis];
  }
  return result;
}

template <class T>
concept MatrixLike = requires(const T& t) {
  t.rows();
  t.cols();
};

template <class T>
Shape shape_of(const T& tensor) {
  if constexpr (MatrixLike<T>) {
    return {tensor.rows(), tensor.cols()};
  } else {
    return [&]<int... Axis>(std::integer_sequence<int, Axis...>) { return Shape{tensor.dimension(Axis)...}; }
    (std::make_integer_sequence<int, T::NumDimensions>());
  }
}

/// The coefficient at these coordinates, by reference where the tensor has one.
template <class T>
decltype(auto) coefficient(T& tensor, const Shape& at) {
  if constexpr (MatrixLike<T>) {
    return tensor(at[0], at[1]);
  } else {
    std::array<Index, static_cast<std::size_t>(T::NumDimensions)> indices{};
    std::copy_n(at.begin(), indices.size(), indices.begin());
    return tensor(indices);
  }
}

/// Elements of memory from one coordinate to the next, of each axis.
template <class T>
Shape strides_of(const T& tensor) {
  if constexpr (MatrixLike<T>) {
    return {tensor.rowStride(), tensor.colStride()};
  } else {
    const Shape shape = shape_of(tensor);
    Shape strides(shape.size());
    Index dense = 1;
    for (std::size_t step = 0; step < shape.size(); ++step) {
      const std::size_t axis = int(T::Layout) == int(Eigen::RowMajor) ? shape.size() - 1 - step : step;
      strides[axis] = dense;
      dense *= shape[axis];
    }
    return strides;
  }
}

template <class T>
auto logical(const T& tensor) {
  return Numbers<std::remove_cv_t<typename T::Scalar>>::gather(tensor.data(), shape_of(tensor), strides_of(tensor));
}

/// Writes the values into a tensor that has its shape already: any kind, also a temporary map.
template <class T, class Scalar>
void assign(T&& tensor, const std::vector<Scalar>& values) {
  const Shape shape = shape_of(tensor);
  ASSERT_EQ(static_cast<std::size_t>(size_of(shape)), values.size());
  Numbers<Scalar>::scatter(values, tensor.data(), shape, strides_of(tensor));
}

/// A tensor or matrix that owns its memory, of this shape.
template <class T>
T sized(const Shape& shape) {
  if constexpr (MatrixLike<T>) {
    return T(shape[0], shape[1]);
  } else {
    Eigen::array<Index, static_cast<std::size_t>(T::NumDimensions)> dimensions{};
    std::copy_n(shape.begin(), dimensions.size(), dimensions.begin());
    return T(dimensions);
  }
}

template <class T, class Scalar>
T tensor_of(const Shape& shape, const std::vector<Scalar>& values) {
  T tensor = sized<T>(shape);
  assign(tensor, values);
  return tensor;
}

/// Normal values of this mean and standard deviation, rounded to Scalar. After `drawn` of them, a prime number, they come again: to draw
/// millions takes longer than what is tested.
template <class Scalar>
std::vector<Scalar> random_values(Index size, unsigned seed, double mean = 0.5, double deviation = 1.5, std::size_t drawn = 262147) {
  return Numbers<Scalar>::random(size, seed, mean, deviation, drawn);
}

/// Calls f.operator()<Rank>() with the one of Ranks that equals rank.
template <int... Ranks, class F>
void with_rank(std::size_t rank, F f) {
  const bool found = ((rank == Ranks && (f.template operator()<Ranks>(), true)) || ...);
  ASSERT_TRUE(found) << "rank " << rank;
}

/// What every typed test runs over: element type x storage order; and the type of a layer's parameters, where it is
/// another.
template <class S, int Order, class P = S>
struct Kind {
  using Scalar = S;
  using Parameter = P;
  static constexpr int order = Order;
  template <int Rank>
  using Tensor = Eigen::Tensor<Scalar, Rank, Order>;
};
using Kinds = ::testing::Types<Kind<float, Eigen::RowMajor>, Kind<float, Eigen::ColMajor>,
                               Kind<double, Eigen::RowMajor>, Kind<double, Eigen::ColMajor>>;
/// Elements of 16 bits, with parameters of their own type and of float. A type, an order and a kind of parameters each, not their product:
/// that costs compile time, and random layers are of the others.
using NarrowKinds = ::testing::Types<Kind<Eigen::half, Eigen::RowMajor>, Kind<Eigen::bfloat16, Eigen::ColMajor>,
                                     Kind<Eigen::half, Eigen::ColMajor, float>, Kind<Eigen::bfloat16, Eigen::RowMajor, float>>;

template <class S>
std::string scalar_name() {
  return std::is_same_v<S, float>         ? "float"
         : std::is_same_v<S, double>      ? "double"
         : std::is_same_v<S, Eigen::half> ? "half"
                                          : "bfloat16";
}
struct KindNames {
  template <class K>
  static std::string GetName(int) {
    const bool mixed = !std::is_same_v<typename K::Scalar, typename K::Parameter>;
    return scalar_name<typename K::Scalar>() + (K::order == Eigen::RowMajor ? "RowMajor" : "ColMajor") +
           (mixed ? "FloatParameters" : "");
  }
};

}  // namespace support
