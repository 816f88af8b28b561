// SPDX-License-Identifier: MIT
// The row walks of gradients: a statistic after the other, written beside the sums of the next one, and from the caches.
#include <gtest/gtest.h>

#include <tensornorm/ops/backward_op.hpp>
#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <cmath>
#include <compare>
#include <string>
#include <type_traits>
#include <vector>

#include "support/compare.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/nests.hpp"

namespace tensornorm {
namespace {

using kernels::Store;

/// A number type of a user's own, of one byte: sixteenths between -8 and 8. More elements to a line than to a part.
struct Sixteenths {
  signed char count = 0;
  Sixteenths() = default;
  template <class Number>
    requires std::is_arithmetic_v<Number>
  explicit Sixteenths(Number value) : count(static_cast<signed char>(std::clamp(std::nearbyint(double(value) * 16), -127.0, 127.0))) {}
  explicit operator double() const { return count / 16.0; }
  friend Sixteenths operator+(Sixteenths a, Sixteenths b) { return Sixteenths(double(a) + double(b)); }
  friend Sixteenths operator-(Sixteenths a, Sixteenths b) { return Sixteenths(double(a) - double(b)); }
  friend Sixteenths operator*(Sixteenths a, Sixteenths b) { return Sixteenths(double(a) * double(b)); }
  friend Sixteenths operator/(Sixteenths a, Sixteenths b) { return Sixteenths(double(a) / double(b)); }
  [[maybe_unused]] friend Sixteenths sqrt(Sixteenths a) { return Sixteenths(std::sqrt(double(a))); }
  friend auto operator<=>(Sixteenths, Sixteenths) = default;
};

struct Case {
  const char* name;
  std::string letters;
  support::Shape shape;
};

template <class T>
class BackwardWalksTest : public testing::Test {
 protected:
  using A = accumulator_t<T>;
  using S = statistic_t<T>;
  static constexpr Index kAround = 64;  ///< elements before and after dx, and the most it is moved by
  static constexpr Index kLine = kernels::kLine<A>;

  struct Result {
    std::vector<T> dx;  ///< with kAround elements before it and after it
    std::vector<S> dweight, dbias;
  };

  enum class By { rows, rows_beside_next, cached_rows, short_rows };

  /// Elements from an address of 64 bytes to x and to dy; the arrays beside the elements have a line before them and one after them.
  struct Places {
    Index x = 0, dy = 0;
    bool padded = false;
  };

  /// The values once more, `past` elements after an address of 64 bytes.
  template <class V>
  static V* moved(const std::vector<V>& values, Index past, std::vector<V>& memory) {
    memory.assign(values.size() + 3 * kAround, V(77));
    V* to = memory.data() + kAround;
    while (reinterpret_cast<std::uintptr_t>(to) % 64 != 0) ++to;
    return std::copy(values.begin(), values.end(), to + past) - std::ptrdiff_t(values.size());
  }

  /// By the walk asked for; dx begins `offset` elements after an address of 64 bytes.
  static Result run(const Case& c, Index offset, By by, bool gradients, bool extreme, Index first, const Places& places = {}) {
    const LoopNest nest = support::nest_of_roles<Eigen::RowMajor>(c.shape, c.letters);
    const RowWalk walk = make_row_walk(nest, without_params(nest));
    const auto x = support::random_values<T>(nest.size(), 1, 3, 2), dy = support::random_values<T>(nest.size(), 2, 0, 1);
    const auto weight = support::random_values<A>(nest.params, 3, 1, 0.5);
    const auto count = static_cast<std::size_t>(nest.statistics);
    std::vector<S> mean(count, S(3)), mean_lo(count, S(0)), rstd(count, S(0.5));
    // x so far from 1 that it is scaled, as its neighbours are not.
    if (extreme) rstd[count - 1] = std::is_same_v<T, double> ? S(1e-200) : S(1e-30);

    const bool beside = walk.run.param != 0;
    Result result;
    result.dweight.resize(static_cast<std::size_t>(2 * nest.params + 16));
    result.dbias.resize(result.dweight.size());
    std::vector<A> zeros(static_cast<std::size_t>(nest.params + 2 * kLine));
    if (!places.padded) std::fill_n(zeros.begin(), kLine, A(-0.0));  // which 0 added to it would change
    std::vector<A> few_dweight, few_dbias;
    A* const dweight = moved(zeros, places.x % kLine, few_dweight) + kLine;
    A* const dbias = moved(zeros, places.x % kLine, few_dbias) + kLine;
    std::vector<T> room(static_cast<std::size_t>(nest.size() + 3 * kAround), T(77));
    T* dx = room.data() + kAround;
    while (reinterpret_cast<std::uintptr_t>(dx) % 64 != 0) ++dx;
    dx += offset;

    kernels::BackwardArguments<T> args;
    std::vector<T> x_memory, dy_memory;
    args.x = moved(x, places.x, x_memory);
    args.dy = moved(dy, places.dy, dy_memory);
    args.dx = dx;
    args.weight = gradients || beside ? weight.data() : nullptr;
    args.samples = nest.samples;
    args.statistics = {mean.data(), mean_lo.data(), rstd.data(), nullptr};
    args.gradients = gradients;
    const auto sums = [](std::vector<S>& v) {
      return kernels::SumArray<A, S>{v.data(), kernels::keeps_rest<A, S> ? v.data() + v.size() / 2 : v.data()};
    };
    const kernels::ParameterSums<A, S> totals{sums(result.dweight), sums(result.dbias)};
    if (by == By::cached_rows)
      kernels::dispatch(kernels::CachedRowBackward<kernels::BackwardArguments<T>>{args, walk, true, first, walk.kept.size(), totals});
    else if (by == By::short_rows)
      kernels::dispatch(kernels::ShortRowBackward<kernels::BackwardArguments<T>>{args, walk, first, walk.kept.size(), totals, dweight, dbias,
                                                                                beside ? nest.params : 0, places.padded, true});
    else
      kernels::dispatch(kernels::RowBackward<kernels::BackwardArguments<T>>{args, walk, Store::streaming, by == By::rows_beside_next, first,
                                                                            walk.kept.size(), totals, dweight, dbias,
                                                                            beside ? nest.params : 0, places.padded});
    result.dx.assign(dx - kAround, dx + nest.size() + kAround);
    const auto is_untouched = [&](A zero) {
      return zero == A(0) && (!std::is_floating_point_v<A> || std::signbit(double(zero)) == !places.padded);
    };
    EXPECT_TRUE(std::all_of(dweight - kLine, dweight, is_untouched));
    EXPECT_TRUE(std::all_of(dbias - kLine, dbias, is_untouched));
    return result;
  }

  /// Whether BackwardOp might ask for the walk.
  static bool is_taken(const Case& c, By by, bool gradients) {
    const bool beside = c.letters.back() == 'R';
    if (by == By::cached_rows) return !beside;  // its runs have one weight each
    return by != By::short_rows || (c.shape.back() <= kernels::kBlock<A> && (!beside || gradients));
  }

  static std::vector<Case> cases() {
    return {{"rows beside their parameters", "kR", {5, 1029}},
            {"a row alone", "kR", {1, 2000}},
            {"rows of whole parts", "kR", {3, 2048}},
            {"an element after the last part", "kR", {3, 1025}},
            {"several runs of a statistic", "rKr", {4, 3, 1543}},
            {"a weight for each run", "kRr", {3, 4, 800}},
            {"short rows beside their parameters", "kR", {43, 77}},
            {"short rows, a weight for each", "kKr", {3, 21, 49}},
            {"short rows of part of a vector, a weight for many", "Kkr", {2, 19, 7}},
            {"short rows without parameters", "kkr", {2, 25, 64}},
            {"rows of a part beside their parameters", "kR", {35, 300}},
            {"rows of a part, a weight for each", "kKr", {3, 5, 211}},
            {"no parameters", "kkr", {2, 3, 1111}}};
  }
};
using Types = testing::Types<float, double, Eigen::bfloat16, Sixteenths>;
TYPED_TEST_SUITE(BackwardWalksTest, Types);

static_assert(kernels::may_write_beside_next<float, float> == kernels::kStreams);
static_assert(kernels::may_write_beside_next<double, double> == kernels::kStreams);
static_assert(!kernels::may_write_beside_next<float, Eigen::bfloat16> && !kernels::may_write_beside_next<Sixteenths, Sixteenths>,
              "they are here for what is outside of dx");

TYPED_TEST(BackwardWalksTest, GiveTheSameBits) {
  using Walk = typename TestFixture::By;
  for (const Case& c : this->cases())
    for (const Index offset : {0, 1, 4, 13})
      for (const bool gradients : {true, false})
        for (const bool extreme : {false, true}) {
          SCOPED_TRACE(std::string(c.name) + ", dx moved by " + std::to_string(offset));
          const Index first = extreme && c.shape[0] > 1 ? 1 : 0;  // a chunk that is not the first
          support::at_each_level([&](kernels::Level) {
            const auto expected = this->run(c, offset, Walk::rows, gradients, extreme, first);
            for (const Walk by : {Walk::rows_beside_next, Walk::cached_rows, Walk::short_rows}) {
              if (!this->is_taken(c, by, gradients)) continue;
              const auto actual = this->run(c, offset, by, gradients, extreme, first);
              EXPECT_TRUE(support::same_bits(actual.dx, expected.dx));
              EXPECT_TRUE(support::same_bits(actual.dweight, expected.dweight));
              EXPECT_TRUE(support::same_bits(actual.dbias, expected.dbias));
              const auto around = [&](std::size_t i) { return actual.dx[i] == TypeParam(77); };
              for (std::size_t i = 0; i < std::size_t(this->kAround); ++i)
                EXPECT_TRUE(around(i) && around(actual.dx.size() - 1 - i)) << "an element outside of dx was written";
            }
          });
        }
}

// Not those of joined slices, whose lanes are added to each other's.
TYPED_TEST(BackwardWalksTest, JoinedSlicesHaveTheSameBitsWhereverTheyBegin) {
  using Walk = typename TestFixture::By;
  const Case c{"joined slices", "rKr", {3, 5, 150}};
  if (!kernels::joined_slices<accumulator_t<TypeParam>>.hold(c.shape[0], c.shape[2])) GTEST_SKIP() << "slices of this type are not joined";
  support::at_each_level([&](kernels::Level) {
    const auto expected = this->run(c, 0, Walk::short_rows, true, false, 0, {4, 0, true});  // not together
    for (const Index past : {0, 1, 4, 15}) {
      const auto actual = this->run(c, 0, Walk::short_rows, true, false, 0, {past, past, true});
      EXPECT_TRUE(support::same_bits(actual.dx, expected.dx)) << past;
      EXPECT_TRUE(support::same_bits(actual.dweight, expected.dweight)) << past;
      EXPECT_TRUE(support::same_bits(actual.dbias, expected.dbias)) << past;
    }
  });
}

// Sums begin at a line where x and dy do so together. Nothing of that is seen, nor written before the arrays beside the elements.
TYPED_TEST(BackwardWalksTest, GiveTheSameBitsWhereverVectorsBegin) {
  using Fixture = TestFixture;
  using Walk = typename Fixture::By;
  constexpr Index last = kernels::kLine<TypeParam> - 1;
  for (const Case& c : this->cases())
    for (const bool gradients : {true, false})
      support::at_each_level([&](kernels::Level) {
        const auto expected = this->run(c, 0, Walk::rows, gradients, false, 0);
        for (const Walk by : {Walk::rows, Walk::rows_beside_next, Walk::cached_rows, Walk::short_rows}) {
          if (!this->is_taken(c, by, gradients)) continue;
          for (const auto& places :
               {typename Fixture::Places{1, 1, true}, {4, 4, true}, {4, 4, false}, {last, last, true}, {4, 0, true}, {0, 4, true}}) {
            SCOPED_TRACE(std::string(c.name) + ", x moved by " + std::to_string(places.x) + ", dy by " + std::to_string(places.dy));
            const auto actual = this->run(c, 4, by, gradients, false, 0, places);
            EXPECT_TRUE(support::same_bits(actual.dx, expected.dx));
            EXPECT_TRUE(support::same_bits(actual.dweight, expected.dweight));
            EXPECT_TRUE(support::same_bits(actual.dbias, expected.dbias));
          }
        }
      });
}

// The arrays of the operation itself, beside rows that lie together or apart: a few rows, whose arrays are the result, and more.
TYPED_TEST(BackwardWalksTest, RowsOfALayerHaveTheSameBitsWhereverTheyLie) {
  using T = TypeParam;
  if constexpr (std::is_floating_point_v<T>) {
    using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using Rows = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
    for (const Index n : {128, 768, 1029, 1040})
      for (const Index rows : {7, 70}) {
        LayerNorm<T> layer(n);
        const auto weight = support::random_values<T>(n, 5, 1, 0.5);
        std::copy(weight.begin(), weight.end(), layer.weight().data());
        const auto values = support::random_values<T>(rows * n, 1, 3, 2), gradients_of_y = support::random_values<T>(rows * n, 2, 0, 1);
        const auto run = [&](Index past, Index stride) {
          std::vector<T> memory[3];
          const auto place = [&](std::vector<T>& of, const std::vector<T>& from) {
            of.assign(static_cast<std::size_t>(rows * stride + 3 * TestFixture::kAround), T(77));
            T* to = of.data() + kernels::elements_to_alignment(of.data(), TestFixture::kLine) + past;
            Rows map(to, rows, n, Eigen::OuterStride<>(stride));
            map = Eigen::Map<const Matrix>(from.data(), rows, n);
            return map;
          };
          const auto x = place(memory[0], values), dy = place(memory[1], gradients_of_y);
          auto dx = place(memory[2], values);
          typename LayerNorm<T>::Saved saved;
          layer.forward(x, dx, saved);
          auto gradients = layer.zero_gradients();
          layer.backward(dy, x, saved, dx, gradients);
          const Matrix result = dx;
          std::vector<T> all(result.data(), result.data() + result.size());
          for (const auto* g : {&gradients.weight, &gradients.bias}) all.insert(all.end(), g->data(), g->data() + g->size());
          return all;
        };
        support::at_each_level([&](kernels::Level) {
          const auto expected = run(0, n);
          for (const Index stride : {n, n + 4, n + kernels::kLine<T>})
            for (const Index past : {1, 4, 15})
              EXPECT_TRUE(support::same_bits(run(past, stride), expected)) << rows << " rows of " << n << ", " << stride << " apart, at " << past;
        });
      }
  }
}

}  // namespace
}  // namespace tensornorm
