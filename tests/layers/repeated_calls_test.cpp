// SPDX-License-Identifier: MIT
// A call gives the same bits as the first one of a thread and after any other call, whose plan is not its own.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/compare.hpp"
#include "support/logical.hpp"

namespace {

namespace tn = tensornorm;
using Index = Eigen::Index;
using Values = std::vector<float>;
using Map = Eigen::TensorMap<Eigen::Tensor<float, 2, Eigen::RowMajor>>;
using Block = Eigen::Map<Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;

constexpr Index kRows = 6, kColumns = 12;

Values random(Index size, unsigned seed) { return support::random_values<float>(size, seed, 0.3, 1.0); }

template <class Layer>
Layer with_parameters(Layer layer) {
  for (Index i = 0; i < layer.weight().size(); ++i) {
    layer.weight().data()[i] = 1 + 0.1F * float(i);
    layer.bias().data()[i] = 0.5F - 0.1F * float(i);
  }
  return layer;
}

void append(Values& to, const float* values, Index size) { to.insert(to.end(), values, values + size); }

/// y, and what is saved, of a layer.
template <class Layer>
Values forward(Layer layer, Index rows, bool in_place) {
  Values x = random(rows * kColumns, 1), y(x.size());
  typename Layer::Saved saved;
  float* const to = in_place ? x.data() : y.data();
  layer.forward(Map(x.data(), rows, kColumns), Map(to, rows, kColumns), saved);
  Values result(to, to + x.size());
  for (Index k = 0; k < saved.size(); ++k) result.push_back(float(saved.mean()(k) + saved.rstd()(k)));
  return result;
}
enum class Wanted { all, dx, gradients, dx_in_place };
template <class Layer>
Values backward(Layer layer, Wanted wanted, bool constant) {
  Values x = random(kRows * kColumns, 1), dy = random(kRows * kColumns, 2), dx(x.size());
  const Map mx(x.data(), kRows, kColumns), mdy(dy.data(), kRows, kColumns);
  typename Layer::Saved saved;
  if constexpr (requires { layer.running_stats(); })
    if (constant) layer.eval();
  layer.forward(mx, Map(dx.data(), kRows, kColumns), saved);
  auto gradients = layer.zero_gradients();
  float* const to = wanted == Wanted::dx_in_place ? dy.data() : dx.data();
  Map mdx(to, kRows, kColumns);
  if (wanted == Wanted::dx) layer.backward(mdy, mx, saved, mdx, tn::none);
  else if (wanted == Wanted::gradients) layer.backward(mdy, mx, saved, tn::none, gradients);
  else layer.backward(mdy, mx, saved, mdx, gradients);
  Values result;
  if (wanted != Wanted::gradients) append(result, to, kRows * kColumns);
  append(result, gradients.weight.data(), gradients.weight.size());
  append(result, gradients.bias.data(), gradients.bias.size());
  return result;
}
/// A block of `columns` columns of rows that are `stride` apart, into one that lies otherwise; the gaps stay.
Values block(Index stride, Index y_stride) {
  Values x = random(kRows * stride, 3), y(std::size_t(kRows * y_stride), -7.0F);
  auto layer = with_parameters(tn::LayerNorm<float>(kColumns));
  layer.forward(Block(x.data(), kRows, kColumns, Eigen::OuterStride<>(stride)), Block(y.data(), kRows, kColumns, Eigen::OuterStride<>(y_stride)));
  return y;
}

std::vector<std::pair<std::string, std::function<Values()>>> calls() {
  const auto rows = with_parameters(tn::LayerNorm<float>(kColumns));
  const auto plain_rows = tn::LayerNorm<float>(kColumns, {.elementwise_affine = false});
  const auto weight_only = tn::LayerNorm<float>(kColumns, {.bias = false});
  const auto columns = with_parameters(tn::BatchNorm1d<float>(kColumns));
  auto frozen = columns;
  frozen.eval();
  const auto groups = [](Index n) { return with_parameters(tn::GroupNorm<float>(n, kColumns)); };
  return {
      {"rows", [=] { return forward(rows, kRows, false); }},
      {"fewer rows", [=] { return forward(rows, kRows - 1, false); }},
      {"rows in place", [=] { return forward(rows, kRows, true); }},
      {"rows without parameters", [=] { return forward(plain_rows, kRows, false); }},
      {"rows without bias", [=] { return forward(weight_only, kRows, false); }},
      {"columns", [=] { return forward(columns, kRows, false); }},
      {"columns frozen", [=] { return forward(frozen, kRows, false); }},
      {"two groups", [=] { return forward(groups(2), kRows, false); }},
      {"three groups", [=] { return forward(groups(3), kRows, false); }},
      {"block", [] { return block(15, kColumns); }},
      {"block into a block", [] { return block(15, 20); }},
      {"dense into a block", [] { return block(kColumns, 20); }},
      {"rows backward", [=] { return backward(rows, Wanted::all, false); }},
      {"rows backward, dx", [=] { return backward(rows, Wanted::dx, false); }},
      {"rows backward, gradients", [=] { return backward(rows, Wanted::gradients, false); }},
      {"rows backward in place", [=] { return backward(rows, Wanted::dx_in_place, false); }},
      {"rows backward without parameters", [=] { return backward(plain_rows, Wanted::dx, false); }},
      {"columns backward", [=] { return backward(columns, Wanted::all, false); }},
      {"columns backward frozen", [=] { return backward(columns, Wanted::all, true); }},
      {"columns backward, gradients", [=] { return backward(columns, Wanted::gradients, false); }},
      {"two groups backward", [=] { return backward(groups(2), Wanted::all, false); }},
      {"three groups backward", [=] { return backward(groups(3), Wanted::all, false); }},
  };
}

TEST(RepeatedCalls, GiveWhatTheyGiveAloneAfterAnyOther) {
  const auto all = calls();
  std::vector<Values> alone(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) std::thread([&, i] { alone[i] = all[i].second(); }).join();
  for (const auto& [first_name, first] : all)
    for (std::size_t i = 0; i < all.size(); ++i) {
      first();
      EXPECT_TRUE(support::same_bits(all[i].second(), alone[i])) << all[i].first << " after " << first_name;
    }
}

}  // namespace
