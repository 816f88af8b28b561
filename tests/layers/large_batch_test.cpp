// SPDX-License-Identifier: MIT
// Batches so large that the rows of their columns are cut into parts, an odd number of rows and columns in each: against
// sums of long doubles, and the same bits for any number of threads. And rows of columns that have one weight each.
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <tensornorm/tensornorm.hpp>
#include <thread>
#include <vector>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/pool.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::Pool;
using Wide = long double;

/// Channels last in a RowMajor tensor, and in the middle of a ColMajor one: either way the innermost axis is a kept one,
/// or short.
template <class Kind>
class LargeBatch : public testing::Test {
 protected:
  using Value = typename Kind::Scalar;
  using X = typename Kind::template Tensor<4>;
  static constexpr bool kLast = int{X::Layout} == int{Eigen::RowMajor};
  static constexpr int kChannelAxis = kLast ? -1 : 1;
  static constexpr Index kChannels = 23, kSamples = 5 * 101 * 107;
  using Layer = tn::BatchNorm2d<Value, tn::BatchAxes<kChannelAxis>>;

  static X tensor() { return kLast ? X(5, 101, 107, kChannels) : X(5, kChannels, 101, 107); }
  static X random(unsigned seed, Value mean) {
    X x = tensor();
    const auto values = support::random_values<Value>(x.size(), seed);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = mean + values[static_cast<std::size_t>(i)];
    return x;
  }
  /// f(channel, flat index in memory) for every element.
  template <class F>
  static void for_each(F f) {
    for (Index i = 0; i < kSamples * kChannels; ++i) f(static_cast<std::size_t>(kLast ? i % kChannels : i / 5 % kChannels), i);
  }

  struct Exact {
    std::array<Wide, kChannels> mean{}, variance{}, sum{}, product{};  // sum of dy and of dy * norm
    Wide rstd(std::size_t c) const { return 1 / std::sqrt(variance[c] + Wide(1e-5)); }
    Wide norm(std::size_t c, Wide x) const { return (x - mean[c]) * rstd(c); }
  };
  static Exact exact(const X& x, const X& dy) {
    Exact e;
    for_each([&](std::size_t c, Index i) { e.mean[c] += Wide(x.data()[i]) / kSamples; });
    for_each([&](std::size_t c, Index i) { e.variance[c] += std::pow(x.data()[i] - e.mean[c], 2) / kSamples; });
    for_each([&](std::size_t c, Index i) {
      e.sum[c] += dy.data()[i];
      e.product[c] += dy.data()[i] * e.norm(c, x.data()[i]);
    });
    return e;
  }
};
TYPED_TEST_SUITE(LargeBatch, support::Kinds, support::KindNames);

TYPED_TEST(LargeBatch, StatisticsAndGradients) {
  using S = typename TypeParam::Scalar;
  constexpr Wide eps = std::numeric_limits<S>::epsilon();
  const auto x = this->random(1, S(3)), dy = this->random(2, S(0.25));
  ASSERT_GE(x.size() * Index(sizeof(S)), 2 * tn::kCutBytes);
  const auto exact = this->exact(x, dy);
  typename TestFixture::Layer layer(this->kChannels);
  for (Index c = 0; c < this->kChannels; ++c) layer.weight()(c) = S(0.5) + S(c) / 16;
  std::vector<std::vector<S>> dx_of, y_of, dweight_of;
  for (const int threads : {1, 2, 3}) {
    const Pool pool(threads);
    auto y = this->tensor(), dx = this->tensor();
    tn::SavedStats<S> saved;
    auto gradients = layer.zero_gradients();
    layer.forward(x, y, saved, pool.device);
    layer.backward(dy, x, saved, dx, gradients, pool.device);
    y_of.emplace_back(y.data(), y.data() + y.size());
    dx_of.emplace_back(dx.data(), dx.data() + dx.size());
    dweight_of.emplace_back(gradients.weight.data(), gradients.weight.data() + this->kChannels);
    EXPECT_TRUE(support::same_bits(y_of.back(), y_of.front()) && support::same_bits(dx_of.back(), dx_of.front()) &&
                support::same_bits(dweight_of.back(), dweight_of.front()))
        << threads << " threads";
    for (std::size_t c = 0; c < std::size_t(this->kChannels); ++c) {
      const auto i = static_cast<Index>(c);
      EXPECT_LE(std::abs(Wide(saved.mean()(i)) - exact.mean[c]), 4 * eps * std::abs(exact.mean[c]));
      EXPECT_LE(std::abs(Wide(saved.rstd()(i)) - exact.rstd(c)), 4 * eps * exact.rstd(c));
      const Wide size = std::sqrt(Wide(this->kSamples)) * 8;
      EXPECT_LE(std::abs(Wide(gradients.weight(i)) - exact.product[c]), 4 * eps * std::max(size, std::abs(exact.product[c])));
      EXPECT_LE(std::abs(Wide(gradients.bias(i)) - exact.sum[c]), 4 * eps * std::max(size, std::abs(exact.sum[c])));
    }
  }
  Wide worst_y = 0, worst_dx = 0;
  this->for_each([&](std::size_t c, Index i) {
    const Wide weight = layer.weight()(static_cast<Index>(c)), norm = exact.norm(c, x.data()[i]);
    const Wide dx = exact.rstd(c) * weight *
                    (dy.data()[i] - exact.sum[c] / this->kSamples - norm * exact.product[c] / this->kSamples);
    worst_y = support::larger(worst_y, std::abs(Wide(y_of[0][static_cast<std::size_t>(i)]) - norm * weight));
    worst_dx = support::larger(worst_dx, std::abs(Wide(dx_of[0][static_cast<std::size_t>(i)]) - dx));
  });
  EXPECT_LE(worst_y, 32 * eps);  // of values up to 10
  EXPECT_LE(worst_dx, 32 * eps);
}

/// What a layer makes of x and dy on processors of AMD's and of Intel's, which are given other stores, fetches and orders of statistics.
template <class Layer, class X>
void expect_same_bits_on_both(const Layer& made, const X& x, const X& dy) {
  std::vector<std::vector<float>> results;
  for (const bool intel : {false, true}) {
    const support::OnIntel maker(intel);
    std::vector<float>& all = results.emplace_back();
    std::thread([&] {  // of its own, as plans are a thread's
      Layer layer = made;
      X y(x.dimensions()), inferred(x.dimensions()), dx(x.dimensions());
      tn::SavedStats<float> saved;
      auto gradients = layer.zero_gradients();
      layer.forward(x, y, saved);
      layer.backward(dy, x, saved, dx, gradients);
      layer.infer(x, inferred);
      for (const X* of : {&y, &dx, &inferred}) all.insert(all.end(), of->data(), of->data() + of->size());
      all.insert(all.end(), gradients.weight.data(), gradients.weight.data() + gradients.weight.size());
      all.insert(all.end(), saved.rstd().data(), saved.rstd().data() + saved.rstd().size());
    }).join();
  }
  EXPECT_TRUE(support::same_bits(results[0], results[1]));
}

TEST(LargeTensors, SameBitsWhoeverMadeTheProcessor) {
  using X = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  const auto random = [](std::array<Index, 4> sizes, unsigned seed) {
    X x(sizes);
    const auto values = support::random_values<float>(x.size(), seed);
    std::copy(values.begin(), values.end(), x.data());
    return x;
  };
  // Written past a last level of 32 MiB and more on neither, on one, on both.
  for (const Index images : {8, 40, 120}) {
    const X x = random({images, 32, 40, 41}, 5), dy = random({images, 32, 40, 41}, 6);
    const X last = random({images, 40, 41, 32}, 7), last_dy = random({images, 40, 41, 32}, 8);
    const X rows = random({images, 8, 1, 6560}, 9), rows_dy = random({images, 8, 1, 6560}, 10);
    expect_same_bits_on_both(tn::BatchNorm2d<float>(32), x, dy);
    expect_same_bits_on_both(tn::BatchNorm2d<float, tn::BatchAxes<-1>>(32), last, last_dy);
    expect_same_bits_on_both(tn::GroupNorm<float>(8, 32), x, dy);
    expect_same_bits_on_both(tn::LayerNorm<float>(6560), rows, rows_dy);
  }
}

// An outlier in the last part spoils the pivot of its channel alone, whose columns are then added up once more.
TYPED_TEST(LargeBatch, AnOutlierAmongTheLastRows) {
  using S = typename TypeParam::Scalar;
  auto x = this->random(3, S(0));
  Index last = 0;
  this->for_each([&](std::size_t c, Index i) { last = c == 7 ? i : last; });
  const auto usual = x;
  x.data()[last] = S(1e30);
  typename TestFixture::Layer layer(this->kChannels);
  auto y = this->tensor(), expected = this->tensor();
  tn::SavedStats<S> saved, usual_saved;
  const Pool pool(2);
  layer.forward(x, y, saved, pool.device);
  layer.forward(usual, expected, usual_saved, pool.device);
  const auto dy = this->random(4, S(0));
  auto dx = this->tensor(), usual_dx = this->tensor();
  auto gradients = layer.zero_gradients(), usual_gradients = layer.zero_gradients();
  layer.backward(dy, x, saved, dx, gradients, pool.device);
  layer.backward(dy, usual, usual_saved, usual_dx, usual_gradients, pool.device);
  // One of n values, the others nothing beside it: the variance is value^2 / n.
  EXPECT_NEAR(double(saved.rstd()(7)) * 1e30 / std::sqrt(double(this->kSamples)), 1, 1e-4);
  this->for_each([&](std::size_t c, Index i) {
    if (c != 7) {
      ASSERT_EQ(y.data()[i], expected.data()[i]) << c;
      ASSERT_EQ(dx.data()[i], usual_dx.data()[i]) << c;
    }
  });
}

template <class S>
class BadPivots : public testing::Test {};
using BadPivotScalars = testing::Types<float, double>;
TYPED_TEST_SUITE(BadPivots, BadPivotScalars);

// Of a few columns far apart, of neighbours, and of most of them, when all are taken: the redo goes through a few rows at a time, in parts,
// and the last wide row, of five rows, is a part of one.
TYPED_TEST(BadPivots, AreTheirOwnColumnsAffair) {
  using S = TypeParam;
  using X = Eigen::Tensor<S, 2, Eigen::RowMajor>;
  const Index sampled = 6000, rows = sampled + 3, channels = 201;
  const S far = S(1e5);
  const auto values = support::random_values<S>(rows * channels, 1, 3, 2);
  const Pool pool(2);
  const auto spoil = [&](X& x, const std::vector<Index>& spoiled) {
    std::copy(values.begin(), values.end(), x.data());
    for (const Index c : spoiled)
      for (Index i = 0; i < tn::kernels::kPivotSamples; ++i) x(tn::kernels::sample_position(i, tn::kernels::kPivotSamples, sampled), c) = far;
  };
  std::vector<Index> most;
  for (Index c = 0; c < channels; ++c)
    if (c % 20 != 3) most.push_back(c);
  support::at_each_level([&](tn::kernels::Level) {
    X x(rows, channels), y(rows, channels), usual(rows, channels);
    spoil(x, {});
    tn::BatchNorm1d<S>(channels).forward(x, usual);
    for (const std::vector<Index>& spoiled : {std::vector<Index>{0}, {3, 4, 5, 160}, {15, 16, 31, 32, 200}, most}) {
      spoil(x, spoiled);
      tn::BatchNorm1d<S>(channels).forward(x, y, pool.device);
      for (Index c = 0; c < channels; ++c) {
        if (std::count(spoiled.begin(), spoiled.end(), c) == 0) {
          for (Index r = 0; r < rows; ++r) ASSERT_EQ(y(r, c), usual(r, c)) << r << ' ' << c;
          continue;
        }
        Wide mean = 0, variance = 0, worst = 0;
        for (Index r = 0; r < rows; ++r) mean += Wide(x(r, c)) / rows;
        for (Index r = 0; r < rows; ++r) variance += (Wide(x(r, c)) - mean) * (Wide(x(r, c)) - mean) / rows;
        const Wide deviation = std::sqrt(variance + Wide(1e-5));
        for (Index r = 0; r < rows; ++r) worst = support::larger(worst, std::abs(Wide(y(r, c)) - (Wide(x(r, c)) - mean) / deviation));
        ASSERT_LE(worst, support::ulps<S>(2, (far - mean) / deviation)) << c;
      }
    }
  });
}

template <class Kind>
class RowsOfOneWeight : public testing::Test {
 protected:
  template <class X>
  static X random(X x, unsigned seed) {
    const auto values = support::random_values<typename X::Scalar>(x.size(), seed);
    std::copy(values.begin(), values.end(), x.data());
    return x;
  }
};
TYPED_TEST_SUITE(RowsOfOneWeight, support::Kinds, support::KindNames);

// Groups of rows end at any place of a tile, the last row of each is a part of one, and a level takes as many rows at
// once as it has registers for: they are folded at the same places all the same.
TYPED_TEST(RowsOfOneWeight, TheSameBitsForEveryInstructionSetWithFma) {
  using tn::kernels::Level;
  using Value = typename TypeParam::Scalar;
  if (support::AtLevel(Level::avx512).forced != Level::avx512) GTEST_SKIP() << "one level with FMA or none";
  for (const Index images : {100, 277, 1100}) {
    const auto x = this->random(typename TypeParam::template Tensor<3>(images, 49, 12), 1), dy = this->random(x, 2);
    for (const Index groups : {1, 3}) {
      tn::GroupNorm<Value, tn::GroupAxes<-1>> layer(groups, 12);
      auto dx_at = [&](Level level) {
        const support::AtLevel forced(level);
        tn::SavedStats<Value> saved;
        auto y = x, dx = x;
        auto gradients = layer.zero_gradients();
        layer.forward(x, y, saved);
        layer.backward(dy, x, saved, dx, gradients);
        std::vector<Value> all(dx.data(), dx.data() + dx.size());
        for (Index c = 0; c < 12; ++c) {
          all.push_back(gradients.weight(c));
          all.push_back(gradients.bias(c));
        }
        return all;
      };
      EXPECT_TRUE(support::same_bits(dx_at(Level::avx2), dx_at(Level::avx512))) << images << " in " << groups;
    }
  }
}

// An example that is scaled takes its neighbours along through copies, and one that is no number lies beside those of the
// next row where several are taken as a wide one: none of their bits change.
TYPED_TEST(RowsOfOneWeight, AnExampleOutOfRangeLeavesTheOthers) {
  using Value = typename TypeParam::Scalar;
  const Index features = 97;
  for (const Index examples : {9, 70, 100, 333, 611}) {
    const auto usual = this->random(typename TypeParam::template Tensor<2>(examples, features), 3), dy = this->random(usual, 4);
    tn::LayerNorm<Value> layer(features);
    const auto weight = this->random(Eigen::Tensor<Value, 1>(features), 5);
    for (Index i = 0; i < features; ++i) layer.weight()(i) = weight(i);
    const auto run = [&](const auto& of, auto& y, auto& dx) {
      tn::SavedStats<Value> saved;
      auto gradients = layer.zero_gradients();
      layer.forward(of, y, saved);
      layer.backward(dy, of, saved, dx, gradients);
    };
    auto usual_y = usual, usual_dx = usual;
    run(usual, usual_y, usual_dx);
    for (const Value factor : {Value(sizeof(Value) == 4 ? 1e30 : 1e200), std::numeric_limits<Value>::infinity()})
      for (const Index spoiled : {Index{0}, examples / 4, examples - 1}) {
        auto x = usual;
        for (Index i = 0; i < features; ++i) x(spoiled, i) *= factor;
        auto y = x, dx = x;
        run(x, y, dx);
        EXPECT_EQ(std::isfinite(y(spoiled, 5)), std::isfinite(factor));
        for (Index n = 0; n < examples; ++n)
          for (Index i = 0; i < features && n != spoiled; ++i) {
            ASSERT_EQ(y(n, i), usual_y(n, i)) << n << ", " << i << " of " << examples;
            ASSERT_EQ(dx(n, i), usual_dx(n, i)) << n << ", " << i << " of " << examples;
          }
      }
  }
}

/// Images stacked in the rows of a matrix, a channel to a row: one statistic per channel over all of them.
struct StackedImages {
  Index groups = 1;
  static constexpr int split_axis(int /*rank*/) { return 0; }
  static constexpr tn::AxisRole role(int axis, int rank) { return tn::BatchAxes<1>::role(axis, rank); }
};

TEST(LargeBatches, AnExampleOfGroupNormIsTheExampleAloneChannelsLast) {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  constexpr Index examples = 800, side = 3, channels = 512, size = side * side * channels;
  const auto random = [](unsigned seed) -> Tensor {
    const auto values = support::random_values<float>(examples * size, seed);
    return Eigen::TensorMap<const Tensor>(values.data(), examples, side, side, channels);
  };
  const Tensor x = random(1), dy = random(2);
  const auto last = [](const Tensor& all) -> Tensor {
    return Eigen::TensorMap<const Tensor>(all.data() + (examples - 1) * size, 1, side, side, channels);
  };
  tn::GroupNorm<float, tn::GroupAxes<-1>> layer(4, channels);
  const auto run = [&](const Tensor& of, const Tensor& gradient, Tensor& y, Tensor& dx) {
    tn::SavedStats<float> saved;
    layer.forward(of, y, saved);
    layer.backward(gradient, of, saved, dx, tn::none);
  };
  Tensor y(x.dimensions()), dx(x.dimensions()), y_alone(1, side, side, channels), dx_alone(1, side, side, channels);
  run(x, dy, y, dx);
  run(last(x), last(dy), y_alone, dx_alone);
  EXPECT_EQ(std::memcmp(y_alone.data(), y.data() + (examples - 1) * size, size * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(dx_alone.data(), dx.data() + (examples - 1) * size, size * sizeof(float)), 0);
}

// Columns of zeros, in which one element may be other than 0, beside one of NaN, in rows that are cut into parts: y is as the elements
// have it, and nothing beside them changes, whoever takes which part.
TEST(LargeBatches, ColumnsOfZeros) {
  using Matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  constexpr Index rows = 8192, columns = 600;
  Matrix x(rows, columns);
  const auto values = support::random_values<float>(x.size(), 1);
  std::copy(values.begin(), values.end(), x.data());
  const auto y_of = [](const Matrix& of, int threads) {
    tn::BatchNorm1d<float> layer(of.dimension(1), {.eps = 0});
    layer.bias().setConstant(0.3F);
    Matrix y(of.dimensions());
    if (threads == 1) {
      layer.forward(of, y);
    } else {
      const Pool pool(threads);
      layer.forward(of, y, pool.device);
    }
    return y;
  };
  ASSERT_GE(x.size() * Index(sizeof(float)), 2 * tn::kCutBytes);
  const Matrix ordinary = y_of(x, 1);
  const std::array<Index, 5> zeros{0, 17, 18, 301, columns - 1};
  for (Index r = 0; r < rows; ++r) {
    for (const Index c : zeros) x(r, c) = 0;
    x(r, 16) = std::numeric_limits<float>::quiet_NaN();
  }
  x(rows - 2, 18) = 1e-30F;  // in no sample
  x(rows / 2 + 1, columns - 1) = -1e-30F;
  const Matrix y = y_of(x, 1), by_three = y_of(x, 3);
  EXPECT_EQ(std::memcmp(y.data(), by_three.data(), sizeof(float) * static_cast<std::size_t>(x.size())), 0);
  const double high = std::sqrt(double(rows - 1));
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      if (c == 0 || c == 17 || c == 301) ASSERT_EQ(y(r, c), 0.3F) << r << ' ' << c;
      else if (c == 16) ASSERT_TRUE(std::isnan(y(r, c))) << r;
      else if (c == 18) ASSERT_NEAR(y(r, c), 0.3 + (r == rows - 2 ? high : -1 / high), 1e-4) << r;
      else if (c == columns - 1) ASSERT_NEAR(y(r, c), 0.3 - (r == rows / 2 + 1 ? high : -1 / high), 1e-4) << r;
      else ASSERT_EQ(y(r, c), ordinary(r, c)) << r << ' ' << c;
    }
}

// Nothing is reduced where a row is one feature: dx is 0 but for rounding, which is not to tell how many rows there were.
TEST(LargeBatches, AnExampleOfOneFeatureIsTheExampleAlone) {
  using Matrix = Eigen::Tensor<float, 2, Eigen::RowMajor>;
  constexpr Index examples = 36;
  const auto random = [](unsigned seed) -> Matrix {
    const auto values = support::random_values<float>(examples, seed, 10, 3);
    return Eigen::TensorMap<const Matrix>(values.data(), examples, 1);
  };
  const Matrix x = random(1), dy = random(2);
  const auto run = [](auto layer, const Matrix& of, const Matrix& gradient) {
    layer.weight()(0) = 0.7F;
    Matrix y(of.dimensions()), dx(of.dimensions());
    tn::SavedStats<float> saved;
    layer.forward(of, y, saved);
    layer.backward(gradient, of, saved, dx, tn::none);
    return std::pair(y, dx);
  };
  const auto compare = [&](const auto& layer) {
    const auto [y, dx] = run(layer, x, dy);
    for (Index i = 0; i < examples; ++i) {
      const auto row = [i](const Matrix& all) -> Matrix { return Eigen::TensorMap<const Matrix>(all.data() + i, 1, 1); };
      const auto [y_alone, dx_alone] = run(layer, row(x), row(dy));
      EXPECT_EQ(y_alone(0), y(i, 0)) << i;
      EXPECT_EQ(dx_alone(0), dx(i, 0)) << i;
    }
  };
  compare(tn::LayerNorm<float>(1));
  compare(tn::RMSNorm<float>(1));
}

// Rows written past the caches, which begin and end within lines of them: y and dx, and what lies around them, are as in place, where
// nothing is written so.
TEST(LargeBatches, WrittenPastTheCachesAsInPlace) {
  using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  using Map = Eigen::TensorMap<Images>;
  const auto compare = [](Index images, Index side, auto layer_of) {
    const Index channels = 16 * (1 + tn::lasting_cache() / Index(sizeof(float)) / (16 * images * side * side));
    auto layer = layer_of(channels);
    SCOPED_TRACE(testing::Message() << layer << " of side " << side);
    const Eigen::DSizes<Eigen::Index, 4> shape(images, channels, side, side);
    const Index size = Index(shape.TotalSize());
    constexpr Index around = 16;
    constexpr float untouched = -12345;
    const std::vector<float> values = support::random_values<float>(size, 1), dy_values = support::random_values<float>(size, 2);
    Images dy = Eigen::TensorMap<const Images>(dy_values.data(), shape), in_place = Eigen::TensorMap<const Images>(values.data(), shape);
    std::vector<float> memory(std::size_t(size + 2 * around), untouched);
    const auto is_intact = [&] {
      return std::count(memory.begin(), memory.begin() + around, untouched) + std::count(memory.end() - around, memory.end(), untouched) == 2 * around;
    };
    const auto same = [&](const Images& expected) { return std::memcmp(memory.data() + around, expected.data(), sizeof(float) * std::size_t(size)) == 0; };
    const Eigen::TensorMap<const Images> x(values.data(), shape);
    Map out(memory.data() + around, shape);
    tn::SavedStats<float> saved, saved_in_place;
    layer.forward(x, out, saved);
    layer.forward(in_place, in_place, saved_in_place);
    EXPECT_TRUE(same(in_place) && is_intact());
    layer.backward(dy, x, saved, out, tn::none);
    layer.backward(dy, x, saved, dy, tn::none);
    EXPECT_TRUE(same(dy) && is_intact());
  };
  for (const Index side : {14, 16, 17, 20, 23}) {
    compare(20, side, [side](Index) { return tn::LayerNorm<float, 2>({side, side}); });
    compare(20, side, [](Index channels) { return tn::InstanceNorm2d<float>(channels, {.affine = true}); });
    compare(20, side, [](Index channels) { return tn::GroupNorm<float>(channels / 16, channels); });
    compare(12, side, [](Index channels) { return tn::BatchNorm2d<float>(channels); });
  }
}

/// The roles of four axes.
template <tn::AxisRole... kRoles>
struct Roles {
  static constexpr tn::AxisRole role(int axis, int /*rank*/) { return std::array{kRoles...}[std::size_t(axis)]; }
};

/// A tensor of either storage order has the same y, dx and gradients but for rounding, and the same bits for any number of threads.
template <class S, class Policy>
void compare_orders(std::array<Index, 4> shape, Policy) {
  SCOPED_TRACE(testing::PrintToString(shape));
  Index parameters = 1;
  for (int axis = 0; axis < 4; ++axis) parameters *= tn::is_affine(Policy::role(axis, 4)) ? shape[std::size_t(axis)] : 1;
  tn::Normalization<S, Policy> layer({parameters});
  const auto weight = support::random_values<S>(parameters, 1);
  std::copy(weight.begin(), weight.end(), layer.weight().data());
  const auto results = [&]<class X>(X, const auto& device) {
    const support::Shape extents(shape.begin(), shape.end());
    const auto random = [&](unsigned seed) {
      return support::tensor_of<X>(extents, support::random_values<S>(support::size_of(extents), seed));
    };
    const X x = random(2), dy = random(3);
    X y = x, dx = x;
    tn::SavedStats<S> saved;
    auto gradients = layer.zero_gradients();
    layer.forward(x, y, saved, device);
    layer.backward(dy, x, saved, dx, gradients, device);
    return std::array{support::logical(y), support::logical(dx), support::logical(gradients.weight), support::logical(gradients.bias)};
  };
  const Eigen::DefaultDevice device;
  const Pool pool(3);
  const auto rows = results(Eigen::Tensor<S, 4, Eigen::RowMajor>(), device), columns = results(Eigen::Tensor<S, 4>(), device);
  EXPECT_EQ(results(Eigen::Tensor<S, 4>(), pool.device), columns);
  for (std::size_t k = 0; k < 4; ++k) {
    S largest(1), difference(0);
    for (std::size_t i = 0; i < rows[k].size(); ++i) {
      largest = std::max(largest, std::abs(rows[k][i]));
      difference = support::larger(difference, std::abs(rows[k][i] - columns[k][i]));
    }
    EXPECT_LE(difference, 16 * std::numeric_limits<S>::epsilon() * largest) << (k == 0 ? "y" : k == 1 ? "dx" : k == 2 ? "dweight" : "dbias");
  }
}

// Rows that have a parameter each, which others meet again: many, few, too many or too seldom to be columns of wider rows, beside gradients
// of parameters in another order, and so many that they are cut into parts for threads.
TEST(LargeBatches, RowsThatMeetTheirParametersAgain) {
  using enum tn::AxisRole;
  const auto check = [](auto scalar) {
    using S = decltype(scalar);
    for (const std::array<Index, 4> shape :
         {std::array<Index, 4>{5, 3, 9, 9}, {8, 130, 7, 8}, {64, 140, 4, 3}, {16, 64, 2, 2}, {64, 50, 20, 20}, {2, 1, 3, 5}, {1, 6, 5, 4}})
      compare_orders<S>(shape, Roles<kept, reduced_affine, reduced, reduced>());
    for (const std::array<Index, 4> shape : {std::array<Index, 4>{5, 4, 6, 7}, {3, 7, 20, 9}, {2, 40, 3, 33}}) {
      compare_orders<S>(shape, Roles<kept, reduced_affine, reduced, reduced_affine>());
      compare_orders<S>(shape, Roles<kept, reduced, reduced_affine, reduced>());
      compare_orders<S>(shape, Roles<reduced_affine, reduced, reduced, kept_affine>());
      compare_orders<S>(shape, Roles<reduced_affine, reduced, kept_affine, reduced>());
      compare_orders<S>(shape, Roles<kept_affine, reduced_affine, reduced, kept>());
    }
  };
  check(float());
  check(double());
}

/// n rows of `width`, in a wider matrix or not; what is beside them is `around`.
struct Block {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static constexpr float kAround = -12345;
  Matrix all;
  Index width;
  Block(const Matrix& values, bool gaps) : all(Matrix::Constant(values.rows(), values.cols() + (gaps ? 24 : 0), kAround)), width(values.cols()) {
    all.leftCols(width) = values;
  }
  auto rows() { return all.leftCols(width); }
  bool intact() const { return (all.rightCols(all.cols() - width).array() == kAround).all(); }
};

Block::Matrix random_matrix(Index rows, Index columns, unsigned seed) {
  const auto values = support::random_values<float>(rows * columns, seed);
  return Eigen::Map<const Block::Matrix>(values.data(), rows, columns);
}

// Channels last, whose coefficients come again after a few vectors, stay in registers: y and dx are, bit for bit, what they are wherever
// they lie, and, by given statistics, what they are in rows with gaps, where they do not.
TEST(Matrices, RowsOfFewColumnsAreTheSameWhereverTheyLie) {
  using Matrix = Block::Matrix;
  const auto same = [](const auto& a, const Matrix& b) { return std::memcmp(a.data(), b.data(), sizeof(float) * std::size_t(b.size())) == 0; };
  support::at_each_level([&](tn::kernels::Level) {
    for (const Index columns : {1, 3, 5, 7, 8, 24, 31, 32, 40, 64, 80, 96, 100, 112, 128, 200})
      for (const Index rows : {2, 3, 40, 333, 2000}) {
        SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
        const Matrix x = random_matrix(rows, columns, 1), dy = random_matrix(rows, columns, 2), w = random_matrix(1, columns, 3);
        tn::BatchNorm1d<float> layer(columns);
        std::copy_n(w.data(), columns, layer.weight().data());
        tn::SavedStats<float> saved, given;
        auto gradients = layer.zero_gradients();
        Matrix y = x, dx = x, eval = x, eval_dx = x;
        layer.forward(x, y, saved);
        layer.backward(dy, x, saved, dx, gradients);
        tn::BatchNorm1d<float> trained = layer;
        trained.eval();
        trained.forward(x, eval, given);
        trained.backward(dy, x, given, eval_dx, tn::none);
        Matrix wide = Matrix::Zero(rows, columns + 3);
        trained.infer(x, wide.leftCols(columns));
        EXPECT_TRUE(same(Matrix(wide.leftCols(columns)), eval));
        trained.backward(dy, x, given, wide.leftCols(columns), tn::none);
        EXPECT_TRUE(same(Matrix(wide.leftCols(columns)), eval_dx));
        std::vector<float> memory(std::size_t(x.size()) + 64);
        for (int offset = 0; offset < 16; offset += 5) {
          SCOPED_TRACE(offset);
          Eigen::Map<Matrix> there(memory.data() + offset, rows, columns);
          layer.forward(x, there, saved);
          EXPECT_TRUE(same(there, y));
          there = x;
          layer.forward(there, there, saved);
          EXPECT_TRUE(same(there, y)) << "in place";
          layer.backward(dy, x, saved, there, gradients);
          EXPECT_TRUE(same(there, dx));
          there = dy;
          layer.backward(there, x, saved, there, gradients);
          EXPECT_TRUE(same(there, dx)) << "in the place of dy";
          there = x;
          layer.backward(dy, there, saved, there, gradients);
          EXPECT_TRUE(same(there, dx)) << "in the place of x";
          trained.infer(x, there);
          EXPECT_TRUE(same(there, eval));
          trained.backward(dy, x, given, there, tn::none);
          EXPECT_TRUE(same(there, eval_dx));
        }
      }
  });
}

TEST(Matrices, GapsBetweenRowsChangeNothing) {
  using Matrix = Block::Matrix;
  struct Sizes {
    Index images, channels, pixels;
  };
  for (const Sizes s : {Sizes{9, 5, 40}, {3, 3, 3}, {60, 7, 100}, {2, 400, 10}, {200, 3, 5}, {2, 50, 800}}) {
    const Index rows = s.images * s.channels;
    const Matrix x = random_matrix(rows, s.pixels, 1), dy = random_matrix(rows, s.pixels, 2);
    tn::Normalization<float, StackedImages> layer({s.channels}, {.affine = false}, {s.images});
    tn::SavedStats<float> saved, saved_of_blocks;
    auto none = layer.zero_gradients();
    Matrix y = x, dx = x;
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, none);
    for (int gaps = 1; gaps < 8; ++gaps) {
      SCOPED_TRACE(std::to_string(s.images) + " images, gaps " + std::to_string(gaps));
      Block of_x(x, (gaps & 1) != 0), of_dy(dy, (gaps & 2) != 0), out(x, (gaps & 4) != 0);
      layer.forward(of_x.rows(), out.rows(), saved_of_blocks);
      EXPECT_LE((out.rows() - y).lpNorm<Eigen::Infinity>(), 4e-6f);
      EXPECT_TRUE(out.intact());
      layer.backward(of_dy.rows(), of_x.rows(), saved, out.rows(), none);
      EXPECT_LE((out.rows() - dx).lpNorm<Eigen::Infinity>(), 4e-6f);
      EXPECT_TRUE(out.intact());
    }
  }
}

// The norm is formed in dx: more than the last-level cache holds, and row by row with the coefficients of the image before.
TEST(LargeMatrices, FromOutputIntoRowsWithGaps) {
  using Matrix = Block::Matrix;
  constexpr Index images = 2, channels = 3000, pixels = 800;
  const Matrix x = random_matrix(images * channels, pixels, 1), dy = random_matrix(images * channels, pixels, 2);
  tn::Normalization<float, StackedImages> layer({channels}, {.affine = false}, {images});
  tn::SavedStats<float> saved;
  Matrix y = x, dense = x;
  layer.forward(x, y, saved);
  auto none = layer.zero_gradients();
  layer.backward_from_output(dy, y, saved, dense, none);
  Block wide(x, true);
  layer.backward_from_output(dy, y, saved, wide.rows(), none);
  EXPECT_TRUE((wide.rows().array() == dense.array()).all());
  EXPECT_TRUE(wide.intact());
  Matrix from_x = x;
  layer.backward(dy, x, saved, from_x, none);
  EXPECT_LE((from_x - dense).lpNorm<Eigen::Infinity>(), 1e-5f);
}

}  // namespace
