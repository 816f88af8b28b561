// SPDX-License-Identifier: MIT
// transform_run over all sizes, misalignments and stores, between canaries. The numbers are small integers, so that
// every product and sum is exact and one answer is right on every instruction set.
#include <gtest/gtest.h>

#include <tensornorm/kernels/normalize.hpp>
#include <tensornorm/kernels/staging.hpp>

#include <cstddef>
#include <cstring>
#include <vector>

#include "support/compare.hpp"
#include "support/dispatch_level.hpp"
#include "support/instruction_sets.hpp"
#include "support/pages.hpp"

namespace tensornorm::kernels {
namespace {

using support::at_each_level;
using support::run_in_instruction_set;

constexpr std::size_t kMargin = 128;  // bytes of canary on either side
constexpr unsigned char kCanary = 0xA5;

/// n elements at any byte offset from a cache line, with canaries around them.
template <class T>
class Guarded {
 public:
  Guarded(Index n, std::size_t offset)
      : bytes_(static_cast<std::size_t>(n) * sizeof(T)), memory_(bytes_ + offset + 2 * kMargin + 64, kCanary) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data()) + kMargin;
    start_ = kMargin + (64 - address % 64) % 64 + offset;
  }
  T* data() { return reinterpret_cast<T*>(memory_.data() + start_); }
  void fill(const std::vector<T>& values) {
    if (!values.empty()) std::memcpy(memory_.data() + start_, values.data(), bytes_);
  }
  std::vector<T> values() const {
    std::vector<T> result(bytes_ / sizeof(T));
    if (!result.empty()) std::memcpy(result.data(), memory_.data() + start_, bytes_);
    return result;
  }
  bool intact() const {
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if ((i < start_ || i >= start_ + bytes_) && memory_[i] != kCanary) return false;
    return true;
  }

 private:
  std::size_t bytes_, start_;
  std::vector<unsigned char> memory_;
};

template <class T>
std::vector<T> integers(Index n, int seed, int range) {
  std::vector<T> values;
  for (Index i = 0; i < n; ++i) values.push_back(static_cast<T>((i * 37 + seed * 11) % range - range / 2));
  return values;
}

template <class T>
struct Coefficients {
  explicit Coefficients(Index n)
      : mean(integers<T>(n, 1, 19)),
        scale(integers<T>(n, 2, 13)),
        shift(integers<T>(n, 3, 17)),
        weight(integers<T>(n, 4, 7)),
        bias(integers<T>(n, 5, 23)) {}
  std::vector<T> mean, scale, shift, weight, bias;
};

/// What is asked of one run. The map is the first element's coefficients for all, each element's own, or the affine
/// one.
enum class Kind { uniform, per_element, affine };

template <class T>
std::vector<T> expected(const std::vector<T>& x, const Coefficients<T>& c, Kind kind) {
  std::vector<T> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t k = kind == Kind::per_element ? i : 0;
    const T norm = (x[i] - c.mean[k]) * c.scale[k] + c.shift[k];
    y.push_back(kind == Kind::affine ? norm * c.weight[i] + c.bias[i] : norm);
  }
  return y;
}

template <class T>
void transform(const T* x, T* y, Index n, const Coefficients<T>& c, Kind kind, Store store) {
  run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
    using L = HardwareLanes<T, I>;
    using U = Uniform<L>;
    using P = PerElement<L, T>;
    const U mean{L(c.mean[0])}, scale{L(c.scale[0])}, shift{L(c.shift[0])};
    if (kind == Kind::uniform) {
      transform_run<T, I>(x, y, n, ScaleMap<L, U>{mean, scale, shift}, {}, store);
    } else if (kind == Kind::per_element) {
      const ScaleMap<L, P> map{{c.mean.data()}, {c.scale.data()}, {c.shift.data()}};
      transform_run<T, I>(x, y, n, map, {}, store);
    } else {
      const AffineMap<L, U, P> map{mean, scale, shift, {c.weight.data()}, {c.bias.data()}};
      transform_run<T, I>(x, y, n, map, {}, store);
    }
  });
}

template <class T>
class TransformRun : public testing::Test {
 protected:
  static constexpr Index N = virtual_width<T>;

  /// All sizes up to some vectors, and a few beyond.
  static std::vector<Index> sizes() {
    std::vector<Index> result;
    for (Index n = 1; n <= 5 * N + 1; ++n) result.push_back(n);
    for (const Index n : {8 * N + 2, 32 * N - 1, Index{1023}}) result.push_back(n);
    return result;
  }
  void check(Index n, std::size_t x_offset, std::size_t y_offset, Store store) {
    const std::vector<T> values = integers<T>(n, 0, 101);
    const Coefficients<T> c(n);
    for (const Kind kind : {Kind::uniform, Kind::per_element, Kind::affine}) {
      Guarded<T> x(n, x_offset), y(n, y_offset);
      x.fill(values);
      transform(x.data(), y.data(), n, c, kind, store);
      ASSERT_TRUE(support::same_bits(y.values(), expected(values, c, kind)))
          << "n = " << n << ", x + " << x_offset << " bytes, y + " << y_offset << " bytes, map "
          << static_cast<int>(kind);
      ASSERT_TRUE(y.intact()) << "n = " << n << ", y + " << y_offset << " bytes";
      ASSERT_TRUE(support::same_bits(x.values(), values));
    }
  }
};
using Scalars = testing::Types<float, double>;
TYPED_TEST_SUITE(TransformRun, Scalars);

TYPED_TEST(TransformRun, WritesAllOfYAndNothingElseAtAnyAlignment) {
  at_each_level([this](Level) {
    for (const Index n : this->sizes())
      for (std::size_t offset = 0; offset < 64; offset += n < 100 ? sizeof(TypeParam) : 28) {
        this->check(n, 0, offset, Store::ordinary);
        this->check(n, offset, 0, Store::ordinary);
      }
  });
}

TYPED_TEST(TransformRun, StreamsToAnyAlignmentOfAnElement) {
  for (const bool intel : {false, true}) {
    const support::OnIntel maker(intel);
    at_each_level([this](Level) {
      for (const Index n : this->sizes())
        for (std::size_t offset = 0; offset < 64; offset += sizeof(TypeParam))
          this->check(n, 8, offset, Store::streaming);
    });
  }
}

// Long ones are written in parts of kPacedLines whole lines; the last has what is left of them.
TYPED_TEST(TransformRun, StreamsLongRunsInParts) {
  constexpr Index part = kPacedLines * kLine<TypeParam>;
  for (const bool intel : {false, true}) {
    const support::OnIntel maker(intel);
    at_each_level([this](Level) {
      for (const Index n : {2 * part - 1, 2 * part, 2 * part + 1, 3 * part + kLine<TypeParam> - 1, 7 * part + 5})
        for (std::size_t offset = 0; offset < 64; offset += sizeof(TypeParam)) this->check(n, 8, offset, Store::streaming);
    });
  }
}

// Nothing is read beside x, or beside the coefficients, however much of a vector there is at the ends.
TYPED_TEST(TransformRun, ReadsFromPagesWithNothingBesideThem) {
  using T = TypeParam;
  at_each_level([](Level) {
    for (const support::Edge edge : {support::Edge::start, support::Edge::end})
      for (Index n = 1; n <= 5 * TestFixture::N; ++n) {
        const std::vector<T> values = integers<T>(n, 0, 101);
        const Coefficients<T> c(n);
        const support::Pages<T> x(values, edge), mean(c.mean, edge), scale(c.scale, edge), shift(c.shift, edge), weight(c.weight, edge), bias(c.bias, edge);
        std::vector<T> expected_y;
        for (std::size_t i = 0; i < values.size(); ++i) expected_y.push_back(((values[i] - c.mean[i]) * c.scale[i] + c.shift[i]) * c.weight[i] + c.bias[i]);
        for (std::size_t offset = 0; offset < 64; offset += sizeof(T))
          for (const Store store : {Store::ordinary, Store::streaming}) {
            Guarded<T> y(n, offset);
            const T* const from = x.data();
            T* const to = y.data();
            run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
              using P = PerElement<HardwareLanes<T, I>, T>;
              const AffineMap<HardwareLanes<T, I>, P, P> map{{mean.data()}, {scale.data()}, {shift.data()}, {weight.data()}, {bias.data()}};
              transform_run<T, I>(from, to, n, map, {}, store);
              fence();
            });
            ASSERT_TRUE(support::same_bits(y.values(), expected_y) && y.intact()) << "n = " << n << ", y + " << offset;
          }
      }
  });
}

// Up to four vectors, in place as well: every size there is one for, from 8 numbers on whatever the instruction set.
TYPED_TEST(TransformRun, FewVectorsWriteAllOfARunAndNothingElse) {
  at_each_level([](Level level) {
    const Index widest = level == Level::baseline ? 16 : 32;
    for (Index n = 1; n <= 5 * TestFixture::N; ++n)
      for (std::size_t offset = 0; offset < 64; offset += sizeof(TypeParam)) {
        const std::vector<TypeParam> values = integers<TypeParam>(n, 0, 101);
        const Coefficients<TypeParam> c(n);
        Guarded<TypeParam> y(n, offset);
        y.fill(values);
        TypeParam* const in_place = y.data();
        bool few = false;
        run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          few = with_few_vectors<TypeParam, I>(n, [&]<class J>(auto vectors, J) TENSORNORM_INLINE_LAMBDA {
            using L = HardwareLanes<TypeParam, J>;
            const ScaleMap<L, PerElement<L, TypeParam>> map{{c.mean.data()}, {c.scale.data()}, {c.shift.data()}};
            transform_few<decltype(vectors)::value, TypeParam, J>(in_place, in_place, n, map);
          });
        });
        if (n >= 8 && n * Index(sizeof(TypeParam)) <= 4 * widest) {
          ASSERT_TRUE(few) << n;
        }
        ASSERT_TRUE(support::same_bits(y.values(), few ? expected(values, c, Kind::per_element) : values)) << "n = " << n << ", y + " << offset;
        ASSERT_TRUE(y.intact()) << "n = " << n << ", y + " << offset << " bytes";
      }
  });
}

// Runs with the same coefficients and a weight and a bias each, apart from each other, of every size, in parts of a few vectors; in place.
TYPED_TEST(TransformRun, RunsInPartsOfAFewVectorsMeetTheirOwnWeights) {
  using T = TypeParam;
  at_each_level([](Level) {
    Index shortest = 0;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA { shortest = kShortestFew<T, I>; });
    for (Index n = shortest; n <= 9 * TestFixture::N; ++n)
      for (const auto& [count, again] : {std::pair<Index, Index>{0, 1}, {1, 0}, {1, 1}, {3, 1}, {2, 3}})
        for (std::size_t offset = 0; offset < 64; offset += 5 * sizeof(T)) {
          const Index step = n + 3, times = count, runs = count * again, each = again;
          const std::vector<T> values = integers<T>(step * runs, 0, 101), weights = integers<T>(count, 5, 3), biases = integers<T>(count, 9, 7);
          const Coefficients<T> c(n);
          Guarded<T> y(step * runs, offset);
          y.fill(values);
          T* const in_place = y.data();
          run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
            with_parts_of_few_vectors<T, I>(n, [&]<class J>(auto vectors, J, Index first, Index length) TENSORNORM_INLINE_LAMBDA {
              using L = HardwareLanes<T, J>;
              const AffineMap<L, PerElement<L, T>, Uniform<L>> map{
                  {c.mean.data() + first}, {c.scale.data() + first}, {c.shift.data() + first}, {L(T(7))}, {L(T(7))}};
              const auto begin = [&](auto& of_run, Index run) TENSORNORM_INLINE_LAMBDA {
                of_run.weight = {L(weights[static_cast<std::size_t>(run)])};
                of_run.bias = {L(biases[static_cast<std::size_t>(run)])};
              };
              transform_few_runs<decltype(vectors)::value, T, J>(in_place + first, in_place + first, length, step, times, each, map, begin);
            });
          });
          std::vector<T> expected_y = values;
          for (std::size_t i = 0; i < values.size(); ++i) {
            const std::size_t k = i % static_cast<std::size_t>(step), run = i / static_cast<std::size_t>(step * each);
            if (k < c.mean.size()) expected_y[i] = ((values[i] - c.mean[k]) * c.scale[k] + c.shift[k]) * weights[run] + biases[run];
          }
          ASSERT_TRUE(support::same_bits(y.values(), expected_y) && y.intact()) << "n = " << n << ", runs = " << runs << ", y + " << offset;
        }
  });
}

// Up to eight vectors again and again, to any alignment and in place.
TYPED_TEST(TransformRun, RowsOfAFewVectorsHaveTheSameCoefficients) {
  using T = TypeParam;
  const auto check = [](auto vectors, Index rows, std::size_t offset) {
    Index width = 0;
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA { width = HardwareLanes<T, I>::width; });
    const Index columns = vectors * width, n = rows * columns;
    const std::vector<T> values = integers<T>(n, 0, 101);
    Coefficients<T> c(columns);
    Guarded<T> x(n, 8), y(n, offset), again(n, offset);
    x.fill(values);
    again.fill(values);
    const T* const from = x.data();
    T *const to = y.data(), *const in_place = again.data();
    run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
      using L = HardwareLanes<T, I>;
      const ScaleMap<L, PerElement<L, T>> map{{c.mean.data()}, {c.scale.data()}, {c.shift.data()}};
      transform_rows<decltype(vectors)::value, T, I>(from, to, rows, map);
      transform_rows<decltype(vectors)::value, T, I>(in_place, in_place, rows, map);
    });
    for (std::vector<T>* all : {&c.mean, &c.scale, &c.shift})
      for (Index i = columns; i < n; ++i) all->push_back((*all)[static_cast<std::size_t>(i - columns)]);
    EXPECT_TRUE(support::same_bits(y.values(), expected(values, c, Kind::per_element)) && y.intact()) << vectors << " vectors, y + " << offset;
    EXPECT_TRUE(support::same_bits(again.values(), y.values()) && again.intact()) << vectors << " vectors, y + " << offset;
  };
  at_each_level([&](Level) {
    for (Index rows = 0; rows < 4; ++rows)
      for (std::size_t offset = 0; offset < 64; offset += sizeof(T))
        [&]<int... less>(std::integer_sequence<int, less...>) {
          (check(std::integral_constant<int, 8 - less>(), rows, offset), ...);
        }(std::make_integer_sequence<int, 8>());
  });
}

template <class T>
class NarrowRun : public testing::Test {};
using Narrows = testing::Types<Eigen::half, Eigen::bfloat16>;
TYPED_TEST_SUITE(NarrowRun, Narrows);

/// Two vectors and more to a line: those before the first whole one and after the last are stored as usual.
TYPED_TEST(NarrowRun, StreamsToAnyAlignmentOfAnElement) {
  using T = TypeParam;
  at_each_level([](Level) {
    for (const bool intel : {false, true}) {
      const support::OnIntel maker(intel);
      for (Index n = 1; n < 200; ++n)
        for (std::size_t offset = 0; offset < 64; offset += sizeof(T)) {
          std::vector<T> values;
          for (const float value : integers<float>(n, 0, 101)) values.push_back(static_cast<T>(value));
          Guarded<T> x(n, 8), y(n, offset);
          x.fill(values);
          const T* const from = x.data();
          T* const to = y.data();
          run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
            using L = HardwareLanes<float, I>;
            using U = Uniform<L>;
            const U mean{L(0)}, scale{L(1)}, shift{L(0)};
            transform_run<float, I>(from, to, n, ScaleMap<L, U>{mean, scale, shift}, {}, Store::streaming);
            fence();
          });
          ASSERT_TRUE(support::same_bits(y.values(), values)) << "n = " << n << ", y + " << offset << " bytes";
          ASSERT_TRUE(y.intact()) << "n = " << n << ", y + " << offset << " bytes";
        }
    }
  });
}

TYPED_TEST(TransformRun, PiecesOfAnyLengthAreOneStretchAtAnyAlignment) {
  constexpr Index longest = 500;
  const auto check = [](Level) {
    for (const Index pieces : {1, 2, 3, 4, 5, 8, 11, 30})
      for (std::size_t offset = 0; offset < 64; offset += sizeof(TypeParam)) {
        std::vector<Index> lengths;
        Index n = 0;
        for (Index k = 0; k < pieces; ++k) n += lengths.emplace_back(pieces % 2 == 0 ? longest : 1 + (7 * k + pieces) % longest);
        const std::vector<TypeParam> values = integers<TypeParam>(n, 0, 101);
        Guarded<TypeParam> y(n, offset);
        TypeParam* to = y.data();
        run_in_instruction_set([&]<class I>() TENSORNORM_INLINE_LAMBDA {
          LineStage<TypeParam, longest> stage(to);
          Index first = 0;
          for (const Index length : lengths) {
            TypeParam* room = stage.template next<I>(length);
            for (Index i = 0; i < length; ++i) room[i] = values[static_cast<std::size_t>(first + i)];
            first += length;
          }
          stage.template finish<I>();
          fence();
        });
        ASSERT_TRUE(support::same_bits(y.values(), values)) << pieces << " pieces, y + " << offset << " bytes";
        ASSERT_TRUE(y.intact()) << pieces << " pieces, y + " << offset << " bytes";
      }
  };
  for (const bool intel : {false, true}) {
    const support::OnIntel maker(intel);
    at_each_level(check);
  }
}

TYPED_TEST(TransformRun, TakesElementsThatAreNotAligned) {
  at_each_level([this](Level) {
    for (const Index n : this->sizes())
      for (const std::size_t offset : {1U, 2U, 3U, 4U, 7U, 33U}) this->check(n, offset, offset ^ 1U, Store::ordinary);
  });
}

TYPED_TEST(TransformRun, InPlaceIsOutOfPlace) {
  at_each_level([this](Level) {
    for (const Index n : this->sizes()) {
      const auto values = integers<TypeParam>(n, 0, 101);
      const Coefficients<TypeParam> c(n);
      for (const Kind kind : {Kind::uniform, Kind::per_element, Kind::affine})
        for (std::size_t offset = 0; offset < 64; offset += sizeof(TypeParam)) {
          Guarded<TypeParam> x(n, offset);
          x.fill(values);
          transform(x.data(), x.data(), n, c, kind, Store::ordinary);
          ASSERT_TRUE(support::same_bits(x.values(), expected(values, c, kind))) << "n = " << n << ", x + " << offset;
          ASSERT_TRUE(x.intact());
        }
    }
  });
}

// y = (x - mean) * scale + shift rounds twice with fma: the difference and the rest.
TYPED_TEST(TransformRun, RoundsTheProductAndTheSumTogether) {
  using T = TypeParam;
  const T x = T(1) + std::numeric_limits<T>::epsilon(), scale = T(1) - std::numeric_limits<T>::epsilon();
  at_each_level([&](Level level) {
    if (!support::has_fma(level)) return;
    std::vector<T> values(40, x), y(40);
    Coefficients<T> c(40);
    c.mean.assign(40, T(0));
    c.scale.assign(40, scale);
    c.shift.assign(40, T(-1));
    transform(values.data(), y.data(), 40, c, Kind::per_element, Store::ordinary);
    // x * scale = 1 - eps^2 exactly, which a product rounded by itself takes for 1.
    const T expected_y = -std::numeric_limits<T>::epsilon() * std::numeric_limits<T>::epsilon();
    EXPECT_TRUE(support::same_bits(y, std::vector<T>(40, expected_y)));
  });
}

}  // namespace
}  // namespace tensornorm::kernels
