// SPDX-License-Identifier: MIT
// Where parameters lie that kernels read beside what they write; and that no result depends on it.
#include <gtest/gtest.h>

#include <tensornorm/ops/parameter_order.hpp>
#include <tensornorm/tensornorm.hpp>

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "support/nests.hpp"

namespace tensornorm {
namespace {

constexpr Index kRows = 20, kLength = 80;

template <class T>
T* past_line(std::vector<T>& memory, Index elements) {
  T* const first = memory.data() + kernels::elements_to_alignment(memory.data(), kernels::kLine<T>);
  return first + elements;
}

/// Parameters of type Scalar beside rows of T that begin at any place in a line, and at any line of a page.
template <class T, class Scalar>
void expect_in_step(Index length, bool copied_anyway) {
  using A = accumulator_t<T>;
  constexpr Index kLine = kernels::kLine<T>, kPageOfT = Index(kPage / sizeof(T));
  const LoopNest nest = support::nest_of_roles<Eigen::RowMajor>({kRows, length}, "kR");
  ParameterOrder<A, Scalar> order(nest, true, true);
  EXPECT_EQ(order.copied() > 0, copied_anyway);
  order.keep_in_step();
  std::vector<A> memory(static_cast<std::size_t>(order.copied() + 16));
  std::vector<T> written(static_cast<std::size_t>(length + kPageOfT + kLine));
  std::vector<Scalar> weight(static_cast<std::size_t>(length + 2 * kernels::kLine<Scalar>)), bias(static_cast<std::size_t>(length));
  for (Index at = 0; at < kPageOfT; at += at < kLine ? 1 : kLine + 1)
    for (Index of_weight = 0; of_weight < kernels::kLine<Scalar>; ++of_weight) {
      const T* const y = past_line(written, at);
      Scalar* const w = past_line(weight, of_weight);
      for (Index i = 0; i < length; ++i) {
        w[i] = Scalar(float(i + 1));
        bias[static_cast<std::size_t>(i)] = Scalar(float(-i));
      }
      A* const from = past_line(memory, 0);
      const Parameters<A> bound = order.bind({w, bias.data()}, from, y);
      const Index past = at % kLine % kernels::kLine<A>;
      EXPECT_EQ(kernels::elements_past_line(bound.weight), past);
      EXPECT_EQ(kernels::elements_past_line(bound.bias), past);
      if (!copied_anyway) {
        EXPECT_EQ(static_cast<const void*>(bound.weight) == w, of_weight == past) << "copied only where it is not so";
      }
      for (const A* p : {bound.weight, bound.bias})
        if (!std::less<>()(p, from) && std::less<>()(p, from + order.copied())) {
          ASSERT_LE(p + length + kernels::kLine<A>, from + order.copied()) << "with the zeros that follow";
        }
      for (Index i = 0; i < length; ++i) {
        ASSERT_EQ(bound.weight[i], A(float(i + 1)));
        ASSERT_EQ(bound.bias[i], A(float(-i)));
      }
      EXPECT_EQ(order.bind({w, nullptr}, from, y).weight[length - 1], A(float(length)));
    }
}

TEST(ParameterOrder, KeepsParametersInStepWithWhatIsWritten) {
  for (const Index length : {kLength, kLength - 8, kLength - 3}) {  // rows of these may lie kLength apart
    expect_in_step<float, float>(length, false);
    expect_in_step<double, double>(length, false);
    expect_in_step<Eigen::bfloat16, float>(length, false);
    expect_in_step<Eigen::half, Eigen::half>(length, true);
  }
}

TEST(ParameterOrder, LeavesOutWhatIsNotThereOrCountsItAsOne) {
  const LoopNest nest = support::nest_of_roles<Eigen::RowMajor>({kRows, kLength}, "kR");
  ParameterOrder<float, float> order(nest, true, false);
  order.leave_bias_out();
  order.keep_in_step();
  std::vector<float> memory(static_cast<std::size_t>(order.copied())), weight(kLength, 2.0f), y(kLength + 32);
  EXPECT_EQ(order.bind({weight.data(), nullptr}, memory.data(), y.data()).bias, nullptr);
  auto ones = ParameterOrder<float, float>::of_gradients(nest, false, true);
  ones.keep_in_step();
  memory.resize(static_cast<std::size_t>(ones.copied()));
  const float* const dx = past_line(y, 5);
  const float* const bound = ones.bind({}, memory.data(), dx).weight;
  EXPECT_EQ(kernels::elements_past_line(bound), 5);
  for (Index i = 0; i < kLength; ++i) EXPECT_EQ(bound[i], 1.0f);
}

/// y, dx and the gradients, bit for bit, whatever place in a line what is written and the parameters begin at.
TEST(ParameterOrder, LayerNormHasTheSameBitsWhereverItsParametersLie) {
  using Rows = Eigen::TensorMap<Eigen::Tensor<float, 2, Eigen::RowMajor>>;
  using Vector = Eigen::Map<Eigen::VectorXf>;
  using Memory = std::vector<float>;
  constexpr Index kSize = kRows * kLength, kLine = kernels::kLine<float>;
  Memory of_x(kSize + 2 * kLine), of_dy(of_x), of_y(of_x), of_dx(of_x), of_weight(kLength + 2 * kLine), of_bias(of_weight);
  Rows x(past_line(of_x, 4), kRows, kLength), dy(past_line(of_dy, 8), kRows, kLength);
  for (Index i = 0; i < kSize; ++i) {
    x.data()[i] = float((i * 37) % 101) - 50.0f;
    dy.data()[i] = float((i * 53) % 97) / 16.0f;
  }
  const auto results = [&](Index written, Index parameter) {
    Vector weight(past_line(of_weight, parameter), kLength), bias(past_line(of_bias, parameter), kLength);
    for (Index i = 0; i < kLength; ++i) {
      weight[i] = float(i % 7) + 0.3f;
      bias[i] = float(i % 5) - 2.1f;
    }
    Rows y(past_line(of_y, written), kRows, kLength), dx(past_line(of_dx, written), kRows, kLength);
    SavedStats<float> saved;
    layer_norm(x, y, saved, weight, bias);
    Eigen::VectorXf dweight = Eigen::VectorXf::Zero(kLength), dbias = dweight;
    layer_norm_backward(dy, x, saved, weight, dx, dweight, dbias);
    Memory all;
    for (const float* values : {std::as_const(y).data(), std::as_const(dx).data()}) all.insert(all.end(), values, values + kSize);
    for (const auto* gradient : {&dweight, &dbias}) all.insert(all.end(), gradient->data(), gradient->data() + kLength);
    return all;
  };
  const Memory expected = results(0, 0);
  for (Index written = 0; written < kLine; ++written)
    for (Index parameter = 0; parameter < kLine; ++parameter) {
      const Memory all = results(written, parameter);
      ASSERT_EQ(all.size(), expected.size());
      EXPECT_EQ(std::memcmp(all.data(), expected.data(), all.size() * sizeof(float)), 0) << written << ' ' << parameter;
    }
}

}  // namespace
}  // namespace tensornorm
