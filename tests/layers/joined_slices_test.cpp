// SPDX-License-Identifier: MIT
// BatchNorm of a few small images, whose channels are taken together: against sums of long doubles, each channel the same as alone.
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/pool.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using Wide = long double;

struct Shape {
  Index images, channels, length;
};

template <class T>
class JoinedSlices : public testing::Test {
 protected:
  using X = Eigen::Tensor<T, 3, Eigen::RowMajor>;
  struct Result {
    X y, dx;
    std::vector<double> dweight, dbias, mean, variance, saved_mean, rstd;
  };

  static X random(const Shape& s, unsigned seed, T mean) {
    const support::Shape shape{s.images, s.channels, s.length};
    return support::tensor_of<X>(shape, support::random_values<T>(support::size_of(shape), seed, double(mean), 1.0));
  }
  static T weight(Index c) { return T(0.5) + T(c % 7) / 8; }
  static T bias(Index c) { return T(c % 5) - 2; }
  /// All channels of x, the first of which is the c-th of a layer.
  template <class... Device>
  static Result run(const X& x, const X& dy, Index c, const Device&... device) {
    const Index channels = x.dimension(1);
    tn::BatchNorm1d<T> layer(channels, {.momentum = 1.0});
    for (Index i = 0; i < channels; ++i) {
      layer.weight()(i) = weight(c + i);
      layer.bias()(i) = bias(c + i);
    }
    Result r;
    r.y = r.dx = x;
    tn::SavedStats<T> saved;
    auto gradients = layer.zero_gradients();
    layer.forward(x, r.y, saved, device...);
    layer.backward(dy, x, saved, r.dx, gradients, device...);
    const auto all = [channels](const auto& values) { return std::vector<double>(values.data(), values.data() + channels); };
    r.dweight = all(gradients.weight);
    r.dbias = all(gradients.bias);
    r.mean = all(layer.running_mean());
    r.variance = all(layer.running_var());
    r.saved_mean = all(saved.mean());
    r.rstd = all(saved.rstd());
    return r;
  }
  static X channel(const X& x, Index c) {
    const Index n = x.dimension(0), length = x.dimension(2);
    return x.slice(Eigen::array<Index, 3>{0, c, 0}, Eigen::array<Index, 3>{n, 1, length});
  }
  template <class V>
  static bool same(const V* a, const V* b, Index n) {
    return std::equal(a, a + n, b, support::same_number<V>);
  }
  static bool same(const Result& a, const Result& b) {
    const auto equal = [](const auto& p, const auto& q) { return p.size() == q.size() && same(p.data(), q.data(), Index(p.size())); };
    return equal(a.y, b.y) && equal(a.dx, b.dx) && equal(a.dweight, b.dweight) && equal(a.dbias, b.dbias) && equal(a.mean, b.mean) &&
           equal(a.variance, b.variance) && equal(a.saved_mean, b.saved_mean) && equal(a.rstd, b.rstd);
  }

  /// Lengths about those of vectors, numbers of channels about those that are taken together; the last are too long for some.
  static std::vector<Shape> shapes() {
    std::vector<Shape> result;
    for (const Index images : {2, 3, 4, 7, 8})
      for (const Index length : {6, 7, 12, 15, 16, 17, 25, 31, 32, 33, 49, 64, 81, 100, 128, 200})
        result.push_back({images, (images * 7 + length) % 20 + 1, length});
    return result;
  }
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(JoinedSlices, Types);

TYPED_TEST(JoinedSlices, AreTheSumsOfLongDoubles) {
  using T = TypeParam;
  Index held = 0;
  for (const Shape& s : this->shapes()) {
    SCOPED_TRACE(testing::PrintToString(std::vector<Index>{s.images, s.channels, s.length}));
    held += tn::kernels::joined_slices<T>.hold(s.images, s.length);
    const auto x = this->random(s, 1, T(3)), dy = this->random(s, 2, T(0.25));
    const Wide n = Wide(s.images * s.length);
    support::at_each_level([&](tn::kernels::Level) {
      const auto r = this->run(x, dy, 0);
      for (Index c = 0; c < s.channels; ++c) {
        Wide mean = 0, m2 = 0, sum = 0, product = 0;
        const auto each = [&](const auto& f) {
          for (Index i = 0; i < s.images; ++i)
            for (Index k = 0; k < s.length; ++k) f(i, k);
        };
        each([&](Index i, Index k) { mean += x(i, c, k) / n; });
        each([&](Index i, Index k) { m2 += (x(i, c, k) - mean) * (x(i, c, k) - mean); });
        const Wide variance = m2 / n, rstd = 1 / std::sqrt(variance + Wide(1e-5)), weight = this->weight(c), bias = this->bias(c);
        each([&](Index i, Index k) {
          sum += dy(i, c, k);
          product += dy(i, c, k) * (x(i, c, k) - mean) * rstd;
        });
        const auto ulps = [](Wide actual, Wide expected, Wide scale) {
          return std::abs(actual - expected) / (std::numeric_limits<T>::epsilon() * scale);
        };
        EXPECT_LE(ulps(r.mean[std::size_t(c)], mean, std::abs(mean)), 1);
        EXPECT_LE(ulps(r.variance[std::size_t(c)], m2 / (n - 1), m2 / (n - 1)), 4);
        EXPECT_LE(ulps(r.dbias[std::size_t(c)], sum, 2 * std::sqrt(n)), 4);
        EXPECT_LE(ulps(r.dweight[std::size_t(c)], product, 4 * std::sqrt(n)), 4);
        Wide worst = 0, worst_dx = 0;
        each([&](Index i, Index k) {
          const Wide norm = (x(i, c, k) - mean) * rstd;
          worst = support::larger(worst, ulps(r.y(i, c, k), norm * weight + bias, 4 * std::abs(weight) + std::abs(bias)));
          worst_dx = support::larger(worst_dx, ulps(r.dx(i, c, k), rstd * weight * (dy(i, c, k) - sum / n - norm * product / n), 4 * weight * rstd));
        });
        EXPECT_LE(worst, 4) << c;
        EXPECT_LE(worst_dx, 8) << c;
      }
    });
  }
  EXPECT_EQ(held >= 50, sizeof(T) == 4) << held << " shapes; doubles are not joined";
  EXPECT_EQ(held == 0, sizeof(T) > 4) << held;
}

// Zeros, constants, numbers to be scaled, far means, infinity: whatever stands beside a channel is not to be seen in it.
TYPED_TEST(JoinedSlices, AChannelIsTheSameAsAlone) {
  using T = TypeParam;
  if (sizeof(T) > 4) return;  // doubles are not joined
  for (const Shape& shape : {Shape{2, 19, 49}, Shape{4, 24, 25}, Shape{3, 16, 64}, Shape{8, 9, 49}, Shape{2, 40, 7}}) {
    ASSERT_TRUE(tn::kernels::joined_slices<T>.hold(shape.images, shape.length));
    for (const Index odd : {0, 3, 8}) {
      auto x = this->random(shape, 3, T(1));
      const auto dy = this->random(shape, 4, T(0));
      const auto each = [&](Index c, const auto& f) {
        for (Index i = 0; i < shape.images; ++i)
          for (Index k = 0; k < shape.length; ++k) x(i, c, k) = f(x(i, c, k), i, k);
      };
      if (odd > 0) {
        each(odd, [](T, Index, Index) { return T(0); });
        each(odd - 1, [](T, Index, Index) { return T(0.1); });
        each(odd - 2, [](T v, Index, Index) { return v * T(1e30F); });
        each(odd - 3, [](T v, Index, Index) { return v * T(1e-30F); });
      }
      if (odd > 3) {
        each(odd - 4, [](T v, Index i, Index) { return v + T(10 * i); });
        each(odd - 5, [](T v, Index i, Index k) { return i == 0 && k == 0 ? T(1e6) : v; });
        each(odd - 6, [](T v, Index, Index k) { return k == 3 ? std::numeric_limits<T>::infinity() : v; });
        each(odd - 7, [](T v, Index, Index) { return v + T(1e4); });
      }
      support::at_each_level([&](tn::kernels::Level) {
        const auto all = this->run(x, dy, 0);
        for (Index c = 0; c < shape.channels; ++c) {
          // Twice: slices of a single channel would be one.
          const Eigen::array<Index, 3> twice{1, 2, 1};
          const auto alone = this->run(this->channel(x, c).broadcast(twice), this->channel(dy, c).broadcast(twice), c);
          const auto y = this->channel(all.y, c), y_alone = this->channel(alone.y, 0);
          const auto dx = this->channel(all.dx, c), dx_alone = this->channel(alone.dx, 0);
          EXPECT_TRUE(this->same(y.data(), y_alone.data(), y.size())) << c;
          EXPECT_TRUE(this->same(dx.data(), dx_alone.data(), dx.size())) << c;
          EXPECT_TRUE(this->same(all.dweight.data() + c, alone.dweight.data(), 1)) << c;
          EXPECT_TRUE(this->same(all.dbias.data() + c, alone.dbias.data(), 1)) << c;
          EXPECT_TRUE(this->same(all.variance.data() + c, alone.variance.data(), 1)) << c;
          EXPECT_TRUE(this->same(all.mean.data() + c, alone.mean.data(), 1)) << c;
        }
      });
      const auto once = this->run(x, dy, 0);
      for (const int threads : {2, 3}) EXPECT_TRUE(this->same(once, this->run(x, dy, 0, support::Pool(threads).device))) << threads << " threads";
      if (odd == 0) continue;
      for (Index i = 0; i < shape.images; ++i)
        for (Index k = 0; k < shape.length; ++k)
          for (const Index c : {odd, odd - 1}) ASSERT_EQ(once.y(i, c, k), this->bias(c)) << "a constant is its bias";
    }
  }
}

TYPED_TEST(JoinedSlices, GiveTheSameBitsOnEveryInstructionSetWithFma) {
  for (const Shape& s : this->shapes()) {
    const auto x = this->random(s, 5, TypeParam(7)), dy = this->random(s, 6, TypeParam(-1));
    std::vector<typename TestFixture::Result> results;
    support::at_each_level([&](tn::kernels::Level level) {
      if (support::has_fma(level)) results.push_back(this->run(x, dy, 0));
    });
    for (const auto& r : results) EXPECT_TRUE(this->same(results.front(), r)) << s.images << ' ' << s.channels << ' ' << s.length;
  }
}

// dx written over x or dy; gradients, or dx, alone.
TYPED_TEST(JoinedSlices, WhatIsAskedForChangesNoBit) {
  using T = TypeParam;
  for (const Shape& s : {Shape{2, 21, 49}, Shape{4, 8, 20}}) {
    const auto x = this->random(s, 7, T(2)), dy = this->random(s, 8, T(1));
    const auto r = this->run(x, dy, 0);
    tn::BatchNorm1d<T> layer(s.channels);
    for (Index c = 0; c < s.channels; ++c) {
      layer.weight()(c) = this->weight(c);
      layer.bias()(c) = this->bias(c);
    }
    tn::SavedStats<T> saved;
    auto y = x;
    layer.forward(y, y, saved);
    EXPECT_TRUE(this->same(y.data(), r.y.data(), y.size()));
    auto gradients = layer.zero_gradients();
    layer.backward(dy, x, saved, tn::none, gradients);
    for (Index c = 0; c < s.channels; ++c) {
      EXPECT_EQ(gradients.weight(c), r.dweight[std::size_t(c)]);
      EXPECT_EQ(gradients.bias(c), r.dbias[std::size_t(c)]);
    }
    for (const bool over_x : {false, true}) {
      auto x_again = x, dy_again = dy;
      auto& dx = over_x ? x_again : dy_again;
      layer.backward(dy_again, x_again, saved, dx, tn::none);
      EXPECT_TRUE(this->same(dx.data(), r.dx.data(), dx.size())) << over_x;
    }
  }
}

}  // namespace
