// SPDX-License-Identifier: MIT
// Where the tests find the numbers of a tensor, against Eigen's own access. No library code is involved.
#include "logical.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace {

using support::Index;
using support::Shape;

/// Numbers that are all different.
std::vector<float> numbers(std::size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 1.0F);
  return values;
}

/// logical() reads each number where Eigen has it, and assign() writes each there.
template <class T>
void expect_logical(T&& tensor) {
  const Shape shape = support::shape_of(tensor);
  const auto size = static_cast<std::size_t>(support::size_of(shape));
  const auto expect = [&](const std::vector<float>& values) {
    ASSERT_EQ(values.size(), size);
    for (std::size_t i = 0; i < size; ++i)
      EXPECT_EQ(values[i], support::coefficient(tensor, support::coordinates(static_cast<Index>(i), shape))) << i;
  };
  expect(support::logical(tensor));
  std::vector<float> others = numbers(size);
  for (float& value : others) value += 1000;
  support::assign(tensor, others);
  expect(others);
}

template <int kOrder>
void expect_logical_tensors() {
  for (const Shape& shape : {Shape{2, 3, 4}, Shape{1, 5, 1}, Shape{3, 0, 2}}) {
    auto tensor = support::sized<Eigen::Tensor<float, 3, kOrder>>(shape);
    const std::vector<float> values = numbers(static_cast<std::size_t>(tensor.size()));
    std::copy(values.begin(), values.end(), tensor.data());
    expect_logical(tensor);
    expect_logical(Eigen::TensorMap<Eigen::Tensor<float, 3, kOrder>>(tensor.data(), tensor.dimensions()));
  }
  Eigen::Tensor<float, 0, kOrder> number;
  number() = 5;
  EXPECT_EQ(support::logical(number), std::vector<float>{5});  // Eigen has no coordinates of it
  support::assign(number, std::vector<float>{7});
  EXPECT_EQ(number(), 7);
}

TEST(Logical, TensorsOfBothOrders) {
  expect_logical_tensors<Eigen::RowMajor>();
  expect_logical_tensors<Eigen::ColMajor>();
}

template <int kOrder>
void expect_logical_matrices() {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, kOrder>;
  using Strided = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
  std::vector<float> memory = numbers(60);
  Matrix matrix = Eigen::Map<const Matrix>(memory.data(), 6, 10);
  expect_logical(matrix);
  expect_logical(matrix.block(1, 2, 3, 4));
  expect_logical(Strided(memory.data(), 4, 4, Eigen::OuterStride<>(9)));
  expect_logical(Strided(memory.data() + 30, 4, 4, Eigen::OuterStride<>(-9)));
}

TEST(Logical, MatricesBlocksAndMapsOfBothOrders) {
  expect_logical_matrices<Eigen::RowMajor>();
  expect_logical_matrices<Eigen::ColMajor>();
}

}  // namespace
