// SPDX-License-Identifier: MIT
// Part D of the table of faults, whose rows faults_test lists: overlaps, alignment, the edges of pages, small stacks, and allocations that fail.
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/pages.hpp"
#include "support/reference.hpp"
#include "support/small_stack.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::same_bits;

using namespace faults;

template <class Kind>
class Faults : public testing::Test {};
TYPED_TEST_SUITE(Faults, FaultKinds, support::KindNames);

TYPED_TEST(Faults, Row55InPlaceIsOutOfPlace) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto copy = layer;
    auto data = x;
    copy.forward(data, data);
    EXPECT_TRUE(same_bits(support::logical(data), support::logical(layer(x))));
    EXPECT_EQ(state_of(copy), state_of(layer));
  });
}

TYPED_TEST(Faults, Row57AnOutputThatOverlapsAPartOfX) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    using Map = Eigen::TensorMap<X>;
    const auto distance = static_cast<std::ptrdiff_t>(x.size()) * std::ptrdiff_t{sizeof(S)};  // in bytes, as the shifts are
    std::vector<S> memory(3 * static_cast<std::size_t>(x.size()) + 2, S(1));
    auto* middle = reinterpret_cast<unsigned char*>(memory.data() + x.size() + 1);
    const auto at = [&](std::ptrdiff_t shift) { return Map(reinterpret_cast<S*>(middle + shift), x.dimensions()); };
    const Map data = at(0);
    const std::string before = bytes_of(memory);
    constexpr std::ptrdiff_t element = sizeof(S);
    for (const std::ptrdiff_t shift : {element, distance - element, std::ptrdiff_t{1}, element + 1, distance - 1})
      for (const std::ptrdiff_t signed_shift : {shift, -shift}) {
        expect_refused(layer, data, at(signed_shift), {"y partially overlaps x"}, Calls::of_y);
        EXPECT_TRUE(bytes_of(memory) == before) << signed_shift;
      }
    for (const std::ptrdiff_t shift : {distance, -distance, distance + 1, -distance - 1}) layer.forward(data, at(shift));
  });
}

TEST(FaultsOfMemory, Row57BlocksOfOneMatrix) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Matrix whole = Matrix::Random(7, 20);
  tn::LayerNorm<float> layer(5);
  const Matrix x = whole.middleCols(3, 5);
  Matrix expected(7, 5);
  layer.forward(x, expected);
  const std::string before = bytes_of(whole);
  for (const Index start : {0, 4, 7}) {
    expect_error([&] { layer.forward(whole.middleCols(3, 5), whole.middleCols(start, 5)); },
                 {"LayerNorm::forward: ", "y partially overlaps x"});
    EXPECT_TRUE(bytes_of(whole) == before) << start;
  }
  // By parts of an element: the same pitch, and a distance of no whole number of elements. The last ends within x's next row.
  using Block = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
  const auto block = [&](Index byte) {
    return Block(reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(whole.data()) + byte), 6, 5, Eigen::OuterStride<>(20));
  };
  for (const Index byte : {5 * 4 + 3, 3 * 4 - 1, 3 * 4 + 1, 7 * 4 + 2, 18 * 4 + 1}) {
    expect_error([&] { layer.forward(block(3 * 4), block(byte)); }, {"LayerNorm::forward: ", "y partially overlaps x"});
    expect_error([&] { layer.forward(block(byte), block(3 * 4)); }, {"LayerNorm::forward: ", "y partially overlaps x"});
    EXPECT_TRUE(bytes_of(whole) == before) << byte;
  }
  for (const Index start : {8, 15}) {
    layer.forward(whole.middleCols(3, 5), whole.middleCols(start, 5));
    EXPECT_EQ(Matrix(whole.middleCols(start, 5)), expected) << "side by side";
  }
  layer.forward(whole.middleCols(3, 5), whole.middleCols(3, 5));
  EXPECT_EQ(Matrix(whole.middleCols(3, 5)), expected) << "in place";
}

/// What of a layer's an output must not lie on, by its name in messages.
struct Operand {
  const char* name;
  const void* data;
  std::size_t bytes;
  /// Whether `size` bytes at `on` share one with it.
  bool meets(const unsigned char* on, std::size_t size) const {
    const auto first = reinterpret_cast<std::uintptr_t>(data), other = reinterpret_cast<std::uintptr_t>(on);
    return first < other + size && other < first + bytes;
  }
};

/// Refused by each call, in each mode: a y with its first or its last byte in one of the layer's operands, and those of the operand's
/// size that begin where it does or an element beside it. It is named where y meets neither another nor x.
template <class X, class Layer>
void expect_operands_are_refused(Layer layer, const support::Shape& shape) {
  SCOPED_TRACE(text_of(layer));
  const X x = random_tensor<X>(shape);
  const auto size = static_cast<std::size_t>(x.size()) * sizeof(typename X::Scalar);
  std::vector<Operand> operands;
  const auto add = [&](const char* name, const auto& tensor) {
    operands.push_back({name, tensor.data(), static_cast<std::size_t>(tensor.size()) * sizeof(*tensor.data())});
  };
  add("weight", layer.weight());
  if (name_of(layer) != "RMSNorm") add("bias", layer.bias());
  if constexpr (requires { layer.running_stats(); }) {
    add("running statistics", layer.running_mean());
    add("running statistics", layer.running_var());
  }
  for (const bool training : {true, false}) {
    training ? layer.train() : layer.eval();
    auto saved = saved_before<std::remove_cvref_t<decltype(layer.weight().data()[0])>>();
    for (const Operand& operand : operands) {
      ASSERT_EQ(operand.bytes, size) << "y fits on " << operand.name;
      const auto element = std::ptrdiff_t{sizeof(typename X::Scalar)}, most = static_cast<std::ptrdiff_t>(size) - 1;
      for (const std::ptrdiff_t shift : {std::ptrdiff_t{0}, element, -element, most, -most}) {
        auto* const on = static_cast<unsigned char*>(const_cast<void*>(operand.data)) + shift;
        Parts parts{"overlaps"};
        bool alone = !Operand{"x", x.data(), size}.meets(on, size);
        for (const Operand& other : operands) alone = alone && (other.data == operand.data || !other.meets(on, size));
        if (alone) parts.push_back(operand.name);
        EXPECT_TRUE(alone || std::abs(shift) > element) << "between two blocks of memory there is more than an element";
        Eigen::TensorMap<X> y(reinterpret_cast<typename X::Scalar*>(on), x.dimensions());
        SCOPED_TRACE(testing::Message() << operand.name << ' ' << shift);
        expect_calls_refused<std::invalid_argument>(name_of(layer), [&] { return state_of(layer) + saved_state(saved) + bytes_of(x); }, parts,
                                                    {{true, "forward", [&] { layer.forward(x, y); }},
                                                     {true, "forward", [&] { layer.forward(x, y, saved); }},
                                                     {true, "infer", [&] { std::as_const(layer).infer(x, y); }}});
      }
    }
  }
}

// Of a batch of two, x is of half the parameters' width: so y is as large as each of them.
TYPED_TEST(Faults, Row58AnOutputThatOverlapsTheLayersState) {
  using S = typename TypeParam::Scalar;
  using Rows = typename TypeParam::template Tensor<2>;
  using Half = std::conditional_t<sizeof(S) == 8, float, Eigen::bfloat16>;
  expect_operands_are_refused<Eigen::Tensor<Half, 2, TypeParam::order>>(tn::BatchNorm1d<S>(7), {2, 7});
  expect_operands_are_refused<Eigen::Tensor<Half, 2, TypeParam::order>>(
      tn::InstanceNorm1d<S>(7, {.affine = true, .track_running_stats = true}), {7, 2});
  expect_operands_are_refused<Rows>(tn::LayerNorm<S, 2>({2, 3}), {2, 3});
  expect_operands_are_refused<Rows>(tn::RMSNorm<S, 2>({2, 3}), {2, 3});
  expect_operands_are_refused<Rows>(tn::GroupNorm<S>(2, 6), {1, 6});
  expect_operands_are_refused<Rows>(tn::Normalization<S, PositionAxes>({6}), {1, 6});
}

// At offsets that are no multiple of anything, of x, y and both; a sanitizer sees a load that assumes more.
TYPED_TEST(Faults, Row59UnalignedMaps) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    const auto expected = support::logical(std::as_const(layer).infer(x));
    auto trained = layer;
    const auto expected_in_training = support::logical(trained(x));
    const std::size_t bytes = static_cast<std::size_t>(x.size()) * sizeof(S);
    for (const std::size_t offset : {1U, 2U, 4U, 8U, 12U, 33U}) {
      std::vector<unsigned char> from(bytes + 64), to(bytes + 64);
      auto* source = from.data() + offset;
      auto* target = to.data() + (offset ^ 1U);
      std::memcpy(source, x.data(), bytes);
      const Eigen::TensorMap<const X> in(reinterpret_cast<const S*>(source), x.dimensions());
      Eigen::TensorMap<X> out(reinterpret_cast<S*>(target), x.dimensions());
      auto y = x;
      std::as_const(layer).infer(in, out);
      std::memcpy(y.data(), target, bytes);
      EXPECT_TRUE(same_bits(support::logical(y), expected)) << offset;
      auto copy = layer;
      copy.forward(in, out);
      std::memcpy(y.data(), target, bytes);
      EXPECT_TRUE(same_bits(support::logical(y), expected_in_training)) << offset;
    }
  });
}

TEST(FaultsOfMemory, Row59OddStrides) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Strided = Eigen::Map<Matrix, Eigen::Unaligned, Eigen::OuterStride<>>;
  const Matrix x = Matrix::Random(9, 13);
  std::vector<float> from(9 * 17 + 1, -1), to(9 * 19 + 3, -1);
  Strided in(from.data() + 1, 9, 13, Eigen::OuterStride<>(17));
  Strided out(to.data() + 3, 9, 13, Eigen::OuterStride<>(19));
  in = x;
  const auto check = [&](auto layer) {
    Matrix expected(9, 13);
    std::as_const(layer).infer(x, expected);
    std::as_const(layer).infer(in, out);
    const auto came = [&](const char* call) {
      EXPECT_TRUE(((out - expected).array().abs() <= 1e-6F).all()) << text_of(layer) << ' ' << call;
      for (std::size_t i = 0; i < to.size(); ++i)
        if (i < 3 || (i - 3) % 19 >= 13) {
          EXPECT_EQ(to[i], -1) << "a gap was written";
        }
      out.setZero();
    };
    came("infer");
    auto copy = layer;
    copy.forward(x, expected);
    layer.forward(in, out);
    came("forward");
  };
  check(tn::LayerNorm<float>(13));
  check(tn::RMSNorm<float>(13));
  check(tn::BatchNorm1d<float>(13));
  check(tn::BatchNorm1d<float>(13, {.track_running_stats = false}));
}

#if defined(TENSORNORM_TEST_HAS_PAGES)

/// layer_norm and rms_norm of rows of n, batch_norm over columns and over slices of n, with everything at the edge of a
/// page.
template <class Kind>
void run_at_page_edges(Index n, support::Edge edge) {
  using S = typename Kind::Scalar;
  using support::Pages;
  const auto size = static_cast<std::size_t>(n);
  const Pages<S> x(support::random_values<S>(6 * n, 1), edge), y(6 * size, edge);
  const Pages<S> weight(std::vector<S>(size, S(2)), edge), bias(std::vector<S>(size, S(1)), edge);
  const Pages<S> pair(std::vector<S>(2, S(2)), edge);
  const auto map = []<std::size_t kRank>(const Pages<S>& pages, const std::array<Index, kRank>& extents) {
    return Eigen::TensorMap<typename Kind::template Tensor<int(kRank)>>(pages.data(), extents);
  };
  const auto vector = [](const Pages<S>& pages, Index length) {
    return Eigen::TensorMap<const Eigen::Tensor<S, 1>>(pages.data(), length);
  };
  const auto w = vector(weight, n), b = vector(bias, n), two = vector(pair, 2);
  const auto x2 = map.template operator()<2>(x, {6, n});
  auto y2 = map.template operator()<2>(y, {6, n});
  const auto x3 = map.template operator()<3>(x, {3, 2, n});
  auto y3 = map.template operator()<3>(y, {3, 2, n});
  tn::layer_norm(x2, y2, w, b);
  tn::layer_norm(x2, y2, tn::none, tn::none);
  tn::rms_norm(x2, y2, w);
  tn::batch_norm(x2, y2, b, w, w, b);
  tn::batch_norm(x3, y3, two, two, two, two);
  tn::group_norm(x3, y3, 1, two, two);
  tn::group_norm(x2, y2, n, w, b);
  if (n > 1) tn::instance_norm(x3, y3, two, two);
  tn::normalize(x2, y2, w, w, tn::over<0>);
  (void)tn::moments(x3, tn::over<0, 2>);
  tn::BatchNorm1d<S> columns(n), slices(2);
  columns.forward(x2, y2);
  slices.forward(x3, y3);
  EXPECT_TRUE(std::isfinite(y.values().back()));
}

// Sizes up to twice a vector of the narrowest type and one, and those about a block of the reduction.
TYPED_TEST(Faults, Row60NoAccessOutsideXYWeightOrBias) {
  support::at_each_level([](tn::kernels::Level) {
    for (const support::Edge edge : {support::Edge::start, support::Edge::end}) {
      for (Index n = 1; n <= 2 * 32 + 1; ++n) run_at_page_edges<TypeParam>(n, edge);
      for (const Index n : {63, 100, 511, 513, 1023, 1025, 4097}) run_at_page_edges<TypeParam>(n, edge);
    }
  });
}

TYPED_TEST(Faults, Row61XIsNeverWritten) {
  using S = typename TypeParam::Scalar;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using X = std::remove_cvref_t<decltype(x)>;
    support::Pages<S> pages(std::vector<S>(x.data(), x.data() + x.size()), support::Edge::end);
    pages.forbid_writing();
    const Eigen::TensorMap<const X> read_only(pages.data(), x.dimensions());
    auto y = like(x);
    tn::SavedStats<S> saved;
    layer.forward(read_only, y, saved);
    layer.forward(read_only, y);
    std::as_const(layer).infer(read_only, y);
  });
}

TYPED_TEST(Faults, Row67AThreadWithASmallStack) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "sanitized frames are larger";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto y = like(x), expected = like(x);
    tn::SavedStats<typename TypeParam::Scalar> saved;
    auto copy = layer;
    copy.forward(x, expected);
    support::on_small_stack([&] {
      layer.forward(x, y, saved);
      std::as_const(layer).infer(x, y);
      layer.forward(x, y);
    });
    EXPECT_TRUE(same_bits(support::logical(y), support::logical(expected)));
  });
}

#endif

/// A layer with y and saved statistics, of which a call may change what it likes.
template <class Layer, class X>
struct Outputs {
  Layer layer;
  X y;
  typename Layer::Saved saved;

  std::string state() const { return state_of(layer) + bytes_of(y) + saved_state(saved); }
};

// The first call of its size on a thread takes memory; whichever of its allocations fails, nothing has changed: in either mode, and
// saved statistics are what the call before has left, if any.
TYPED_TEST(Faults, Row65AnAllocationThatFails) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using Saved = tn::SavedStats<typename TypeParam::Scalar>;
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using O = Outputs<std::remove_cvref_t<decltype(layer)>, std::remove_cvref_t<decltype(x)>>;
    const auto state = [](const O& o) { return o.state(); };
    for (const bool training : {true, false}) {
      training ? layer.train() : layer.eval();
      for (const Saved& saved : {Saved(), saved_before<typename TypeParam::Scalar>(1)}) {  // of a row: all need more memory
        const auto make = [&] { return O{layer, like(x), saved}; };
        const long all = support::fail_each_allocation(make, [&](O& o) { o.layer.forward(x, o.y, o.saved); }, state);
        EXPECT_GE(all, 1) << "saved at least takes memory";
        EXPECT_LT(all, 10);
        EXPECT_LT(support::fail_each_allocation(make, [&](O& o) { o.layer.forward(x, o.y); }, state), 10);
      }
    }
  });
}

TYPED_TEST(Faults, Row65RunningStatisticsLoadedWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  using Layer = tn::BatchNorm2d<S>;
  Layer layer(3);
  layer(random_tensor<typename TypeParam::template Tensor<4>>({2, 3, 4, 5}));
  const std::vector<S> mean{1, 2, 3}, variance{4, 5, 6};
  EXPECT_GE(support::fail_each_allocation([&] { return layer; }, [&](Layer& of) { of.running_stats().load(mean, variance, 7); },
                                          [](const Layer& of) { return state_of(of); }),
            1);
}

/// support::fail_each_allocation() of a call that changes nothing: `state()` is always what it was.
template <class F, class State>
long fail_each_allocation(const F& f, const State& state) {
  return support::fail_each_allocation([] { return 0; }, [&](int) { f(); }, [&](int) { return state(); });
}

TYPED_TEST(Faults, Row65AConstructorWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  const auto check = [](const char* layer, long least, const auto& make) {
    const long all = fail_each_allocation(make, [] { return std::string(); });
    EXPECT_GE(all, least) << layer << ": its parameters and statistics at least";
    EXPECT_LT(all, 20) << layer;
  };
  check("BatchNorm2d", 4, [] { tn::BatchNorm2d<S> layer(3); });
  check("InstanceNorm1d", 4, [] { tn::InstanceNorm1d<S> layer(3, {.affine = true, .track_running_stats = true}); });
  check("GroupNorm", 2, [] { tn::GroupNorm<S> layer(3, 3); });
  check("LayerNorm", 2, [] { tn::LayerNorm<S> layer(5); });
  check("LayerNorm of three axes", 2, [] { tn::LayerNorm<S, 3> layer({3, 4, 5}); });
  check("RMSNorm", 1, [] { tn::RMSNorm<S> layer(5); });
  check("Normalization", 2, [] { tn::Normalization<S, PositionAxes> layer({3}); });
}

TYPED_TEST(Faults, Row65ACopyWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto&) {
    EXPECT_GE(fail_each_allocation([&] { auto copy = layer; }, [&] { return state_of(layer); }), 1) << text_of(layer);
  });
}

// From a larger layer and from a smaller one, in other modes and with other values.
TYPED_TEST(Faults, Row65AnAssignmentWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  const auto assign = [](auto to, auto from) {
    SCOPED_TRACE(text_of(to) + " = " + text_of(from));
    using Layer = decltype(to);
    to.weight().setConstant(S(2));
    from.weight().setConstant(S(3));
    from.eval();
    const auto both = [&](const Layer& left) { return state_of(left) + state_of(from); };
    EXPECT_GE(support::fail_each_allocation([&] { return to; }, [&](Layer& left) { left = from; }, both), 1);
    to = from;
    EXPECT_EQ(state_of(to), state_of(from)) << "once there is memory";
  };
  const auto each_to_the_other = [&](const auto& a, const auto& b) {
    assign(a, b);
    assign(b, a);
  };
  each_to_the_other(tn::BatchNorm2d<S>(3), tn::BatchNorm2d<S>(8, {.eps = 1e-3, .momentum = 0.5}));
  const tn::InstanceNormOptions tracking{.affine = true, .track_running_stats = true};
  each_to_the_other(tn::InstanceNorm1d<S>(3, tracking), tn::InstanceNorm1d<S>(8, tracking));
  each_to_the_other(tn::GroupNorm<S>(3, 3), tn::GroupNorm<S>(2, 8));
  each_to_the_other(tn::LayerNorm<S>(5), tn::LayerNorm<S>(100));
  each_to_the_other(tn::LayerNorm<S, 3>({3, 4, 5}), tn::LayerNorm<S, 3>({6, 5, 4}));
  each_to_the_other(tn::RMSNorm<S>(5), tn::RMSNorm<S>(100));
  each_to_the_other(tn::Normalization<S, PositionAxes>({3}), tn::Normalization<S, PositionAxes>({8}));
}

TYPED_TEST(Faults, Row65ANewResultWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    using Layer = std::remove_cvref_t<decltype(layer)>;
    const auto state = [&](const Layer& of) { return state_of(of) + bytes_of(x); };
    const auto check = [&](const auto& call) {
      const long all = support::fail_each_allocation([&] { return layer; }, call, state);
      EXPECT_GE(all, 1) << text_of(layer) << ": y at least takes memory";
      EXPECT_LT(all, 20) << text_of(layer);
    };
    check([&](Layer& of) { of(x); });
    check([&](const Layer& of) { of.infer(x); });
  });
}

TYPED_TEST(Faults, Row65AFunctionWithoutMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  using Rows = Eigen::TensorMap<typename TypeParam::template Tensor<2>>;
  using Images = Eigen::TensorMap<typename TypeParam::template Tensor<3>>;
  using Vector = Eigen::TensorMap<const Eigen::Tensor<S, 1>>;
  using Memory = std::vector<S>;
  Memory x(6 * 500, S(1));
  const Memory parameters(500, S(2)), canary(x.size() + 2 * 500, S(-12345));  // beside y, parameters' gradients
  x[7] = S(3);
  const Rows x2(x.data(), 6, 500);
  const Images x3(x.data(), 3, 2, 500);
  const auto y2 = [](Memory& y) { return Rows(y.data(), 6, 500); };
  const auto y3 = [](Memory& y) { return Images(y.data(), 3, 2, 500); };
  const auto sums = [&](Memory& y, std::size_t first, Index size) {
    return Eigen::TensorMap<Eigen::Tensor<S, 1>>(y.data() + x.size() + first, size);
  };
  const Vector w(parameters.data(), 500), two(parameters.data(), 2);
  tn::SavedStats<S> saved;
  const auto check = [&](const char* name, const auto& f) {
    SCOPED_TRACE(name);
    const auto state = [&](const Memory& y) { return bytes_of(y) + bytes_of(x) + bytes_of(parameters) + saved_state(saved); };
    const long all = support::fail_each_allocation([&] { return canary; }, f, state);
    EXPECT_GE(all, 1);
    EXPECT_LT(all, 10);
  };
  check("moments", [&](Memory&) { (void)tn::moments(x3, tn::over<0, 2>); });
  check("layer_norm", [&](Memory& y) { tn::layer_norm(x2, y2(y), w, w); });
  check("rms_norm", [&](Memory& y) { tn::rms_norm(x2, y2(y), w); });
  check("batch_norm", [&](Memory& y) { tn::batch_norm(x3, y3(y), two, two, two, two); });
  check("group_norm", [&](Memory& y) { tn::group_norm(x3, y3(y), 1, two, two); });
  check("instance_norm", [&](Memory& y) { tn::instance_norm(x3, y3(y), two, two); });
  check("normalize", [&](Memory& y) { tn::normalize(x2, y2(y), w, w, tn::over<0>); });
  Memory y = canary;
  tn::layer_norm(x2, y2(y), saved, w, w);
  check("layer_norm_backward", [&](Memory& out) { tn::layer_norm_backward(x2, x2, saved, w, y2(out), sums(out, 0, 500), sums(out, 500, 500)); });
  tn::rms_norm(x2, y2(y), saved, w);
  check("rms_norm_backward", [&](Memory& out) { tn::rms_norm_backward(x2, x2, saved, w, y2(out), sums(out, 0, 500)); });
  tn::instance_norm(x3, y3(y), saved, two, two);
  check("instance_norm_backward", [&](Memory& out) {
    tn::instance_norm_backward(x3, x3, saved, two, y3(out), sums(out, 0, 2), sums(out, 2, 2));
  });
  tn::group_norm(x3, y3(y), saved, 1, two, two);
  check("group_norm_backward", [&](Memory& out) {
    tn::group_norm_backward(x3, x3, saved, 1, two, y3(out), sums(out, 0, 2), sums(out, 2, 2));
  });
  check("batch_norm_backward", [&](Memory& out) { tn::batch_norm_backward(x3, x3, two, two, two, y3(out), sums(out, 0, 2), sums(out, 2, 2)); });
}

TYPED_TEST(Faults, Row66NoAllocationInTheSteadyState) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    auto y = like(x);
    auto data = x;
    tn::SavedStats<typename TypeParam::Scalar> saved;
    const auto calls = [&] {
      layer.forward(x, y, saved);
      layer.forward(x, y);
      std::as_const(layer).infer(x, y);
      layer.forward(data, data);
      layer.eval();
      layer.forward(x, y, saved);
      layer.train();
    };
    calls();
    EXPECT_EQ(support::allocations_in(calls), 0);
  });
}

// The functions that normalize and their gradients, but batch_norm_backward's, of shapes that take turns.
TYPED_TEST(Faults, Row66NoAllocationOfFunctionsInTheSteadyState) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  using Images = typename TypeParam::template Tensor<3>;
  const Images small = random_tensor<Images>({2, 4, 6}), large = random_tensor<Images>({3, 4, 50});
  Images small_y = like(small), large_y = like(large);
  Eigen::Tensor<S, 1> c(4), dc(4), last(6), dlast(6), long_last(50), dlong_last(50);
  for (auto* values : {&c, &dc, &last, &dlast, &long_last, &dlong_last}) values->setConstant(S(1));
  tn::SavedStats<S> saved[2];
  const auto calls = [&] {
    const auto of = [&](const Images& x, Images& y, const auto& w, auto& dw, tn::SavedStats<S>& kept) {
      tn::layer_norm(x, y, w, w);
      tn::layer_norm(x, y, kept, w, w);
      tn::layer_norm_backward(x, x, kept, w, y, dw, tn::none);
      tn::rms_norm(x, y, w);
      tn::rms_norm(x, y, kept, w);
      tn::rms_norm_backward(x, x, kept, w, y, dw);
      tn::instance_norm(x, y, c, c);
      tn::instance_norm(x, y, kept, c, c);
      tn::instance_norm_backward(x, x, kept, c, y, dc, tn::none);
      tn::group_norm(x, y, 2, c, c);
      tn::group_norm(x, y, kept, 2, c, c);
      tn::group_norm_backward(x, x, kept, 2, c, y, dc, tn::none);
      tn::batch_norm(x, y, c, c, c, c);
      tn::normalize(x, y, c, c, tn::over<0, 2>);
    };
    of(small, small_y, last, dlast, saved[0]);
    of(large, large_y, long_last, dlong_last, saved[1]);
  };
  calls();
  EXPECT_EQ(support::allocations_in(calls), 0);
}

// Few rows of a ColMajor matrix, which are copied into memory of the thread.
TEST(FaultsOfMemory, Row66NoAllocationOfTransposedRows) {
  if (!support::kCountsAllocations) GTEST_SKIP();
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(4, 100), dy = Eigen::MatrixXf::Random(4, 100);
  Eigen::MatrixXf y(4, 100), dx(4, 100);
  const tn::LayerNorm<float> layer(100);
  tn::SavedStats<float> saved;
  auto gradients = layer.zero_gradients();
  const auto calls = [&] {
    layer.forward(x, y, saved);
    layer.backward(dy, x, saved, dx, gradients);
    layer.backward_from_output(dy, y, saved, dx, gradients);
  };
  calls();
  EXPECT_EQ(support::allocations_in(calls), 0);
}

// What backward_from_output keeps for the norm is of y's elements, not of the gaps between its rows.
TEST(FaultsOfMemory, GapsOfAnOutputTakeNoMemory) {
  if (!support::kCountsAllocations) GTEST_SKIP();
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  constexpr Eigen::Index rows = 40, columns = 8, pitch = 5000;
  Matrix wide = Matrix::Zero(rows, pitch);
  auto y = wide.leftCols(columns);
  const Matrix x = Matrix::Random(rows, columns), dy = Matrix::Random(rows, columns);
  tn::LayerNorm<float> layer(columns);
  tn::SavedStats<float> saved;
  layer.forward(x, y, saved);
  auto gradients = layer.zero_gradients(), expected = layer.zero_gradients();
  const Matrix dense = y;
  Matrix dx = dy;
  const std::size_t most = support::largest_allocation_in([&] { layer.backward_from_output(dx, y, saved, dx, gradients); });
  EXPECT_LT(most, std::size_t(rows * pitch) * sizeof(float) / 4);
  Matrix dx_of_dense(rows, columns);
  layer.backward_from_output(dy, dense, saved, dx_of_dense, expected);
  EXPECT_EQ(dx, dx_of_dense);
  for (Eigen::Index i = 0; i < columns; ++i) EXPECT_EQ(gradients.weight(i), expected.weight(i));
}

TEST(FaultsOfMemory, Row66TheHookCounts) {
  if (!support::kCountsAllocations) GTEST_SKIP();
  EXPECT_GE(support::allocations_in([] { Eigen::Tensor<float, 1> tensor(100); }), 1);
  // By name: a compiler may leave out a new-expression together with its delete.
  void* kept = nullptr;
  EXPECT_EQ(support::blocks_left_by([&] { kept = ::operator new(64); }), 1);
  EXPECT_EQ(support::blocks_left_by([&] { ::operator delete(kept); }), -1);
  EXPECT_GE(support::allocations_in([] { ::operator delete(::operator new(64)); }), 1);
  EXPECT_GE(support::allocations_in(
                [] { ::operator delete(::operator new(64, std::align_val_t(64)), std::align_val_t(64)); }),
            1);
}

}  // namespace
