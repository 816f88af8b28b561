// SPDX-License-Identifier: MIT
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <tensornorm/tensornorm.hpp>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/logical.hpp"
#include "support/pool.hpp"

namespace {

namespace tn = tensornorm;
using support::Index;
using support::Pool;
using support::same_bits;

static_assert(tn::ThreadPoolLike<Eigen::ThreadPoolDevice> && !tn::ThreadPoolLike<Eigen::DefaultDevice>);
static_assert(tn::DeviceArgument<Eigen::ThreadPoolDevice> && tn::DeviceArgument<Eigen::DefaultDevice>);
// Or a const SavedStats in the place of a mutable one would be taken for a device.
static_assert(!tn::DeviceArgument<tn::SavedStats<float>> && !tn::DeviceArgument<int>);

TEST(ParallelFor, CoversEachPieceOnce) {
  Pool pool(4);
  for (const Index threads : {1, 2, 3, 4, 9})
    for (const Index pieces : {1, 2, 7, 100}) {
      if (threads > pieces) continue;
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(pieces));
      std::mutex mutex;
      std::vector<Index> workers;
      tn::parallel_for(pool.device, threads, pieces, [&](Index worker, Index first, Index last) noexcept {
        for (Index i = first; i < last; ++i) ++visits[static_cast<std::size_t>(i)];
        const std::lock_guard lock(mutex);
        workers.push_back(worker);
      });
      for (const auto& count : visits) EXPECT_EQ(count, 1) << threads << " threads, " << pieces << " pieces";
      std::sort(workers.begin(), workers.end());
      for (std::size_t i = 0; i < workers.size(); ++i) EXPECT_EQ(workers[i], Index(i)) << "each share of memory once";
      EXPECT_EQ(Index(workers.size()), threads);
    }
}

TEST(ParallelFor, SharesAsManyPiecesAsAnIndexCounts) {
  constexpr Index most = std::numeric_limits<std::int32_t>::max();
  for (const Index shares : {1, 2, 3, 16}) {
    EXPECT_EQ(tn::first_of_share(most, 0, shares), 0);
    EXPECT_EQ(tn::first_of_share(most, shares, shares), most);
    for (Index i = 0; i < shares; ++i)
      EXPECT_NEAR(double(tn::first_of_share(most, i + 1, shares) - tn::first_of_share(most, i, shares)), double(most) / double(shares), 1);
  }
}

// Row 65: nothing is allocated, so nothing can fail, even the first time.
TEST(ParallelFor, AllocatesNothing) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  Pool pool(4);
  std::atomic<Index> sum{0};
  EXPECT_EQ(support::allocations_in([&] {
              tn::parallel_for(pool.device, 4, 100, [&](Index, Index first, Index last) noexcept {
                for (Index i = first; i < last; ++i) sum += i;
              });
            }),
            0);
  EXPECT_EQ(sum, 4950);
  static_assert(noexcept(tn::parallel_for(pool.device, 4, 100, [](Index, Index, Index) noexcept {})));
}

TEST(UsefulThreads, AreNoMoreThanThereIsWorkFor) {
  Pool pool(8);
  EXPECT_EQ(tn::useful_threads(pool.device, 1000, 1000 * tn::kBytesPerThread), 8);
  EXPECT_EQ(tn::useful_threads(pool.device, 3, 1000 * tn::kBytesPerThread), 3);
  EXPECT_EQ(tn::useful_threads(pool.device, 1000, 2 * tn::kBytesPerThread), 2);
  EXPECT_EQ(tn::useful_threads(pool.device, 1000, 100), 1);
  EXPECT_EQ(tn::useful_threads(pool.device, 0, 0), 1);
  EXPECT_EQ(tn::useful_threads(Eigen::DefaultDevice(), 1000, 1000 * tn::kBytesPerThread), 1);
}

/// 20 MiB: work for 16 threads and more, and odd numbers of everything.
template <class Kind>
class Threads : public testing::Test {
 protected:
  using Scalar = typename Kind::Scalar;
  static constexpr Index kPart = 4 / Index(sizeof(Scalar) / sizeof(float));

  /// f(device, y) writes y; the bits are those of the first device, the default one, for any number of threads.
  template <class X, class F>
  static void expect_same(const X& x, F f) {
    X expected(x.dimensions()), y(x.dimensions());
    f(Eigen::DefaultDevice(), expected);
    for (const int threads : {1, 2, 3, 7, 16}) {
      Pool pool(threads);
      y.setConstant(Scalar(-12345));
      f(pool.device, y);
      ASSERT_EQ(std::memcmp(y.data(), expected.data(), static_cast<std::size_t>(y.size()) * sizeof(Scalar)), 0)
          << threads << " threads";
    }
  }
  template <class Layer, class X>
  static void check(const Layer& layer, const X& x) {
    SCOPED_TRACE(testing::PrintToString(support::shape_of(x)));
    std::vector<std::vector<double>> rstd;
    expect_same(x, [&](const auto& device, X& y) {
      Layer copy = layer;
      tn::SavedStats<Scalar> saved;
      copy.forward(x, y, saved, device);
      rstd.push_back(support::logical(saved.rstd()));
      EXPECT_TRUE(same_bits(rstd.back(), rstd.front()));
      if constexpr (requires { copy.running_stats(); }) {
        EXPECT_EQ(copy.running_stats().num_batches(), 1);
      }
    });
    expect_same(x, [&](const auto& device, X& y) { layer.infer(x, y, device); });
  }
  template <int kRank>
  static auto random(std::array<Index, kRank> shape) {
    typename Kind::template Tensor<kRank> x(shape);
    const auto values = support::random_values<Scalar>(997, 1);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = values[static_cast<std::size_t>(i % 997)] + Scalar(i % 1013) / 7;
    return x;
  }
};
TYPED_TEST_SUITE(Threads, support::Kinds, support::KindNames);

TYPED_TEST(Threads, TheSameBitsForAnyNumber) {
  using S = typename TypeParam::Scalar;
  const Index part = this->kPart;
  this->check(tn::LayerNorm<S>(1277), this->template random<2>({1023 * part, 1277}));
  this->check(tn::BatchNorm2d<S>(37), this->template random<4>({3 * part, 37, 109, 113}));
  this->check(tn::BatchNorm2d<S>(1023), this->template random<4>({23 * part, 1023, 7, 9}));
  this->check(tn::GroupNorm<S>(5, 35), this->template random<4>({3 * part, 35, 109, 117}));
}

TYPED_TEST(Threads, MomentsAndFunctionalForms) {
  using S = typename TypeParam::Scalar;
  const auto x = this->template random<2>({1023 * this->kPart, 1277});
  this->expect_same(x, [&](const auto& device, auto& y) {
    const auto [mean, variance] = tn::moments(x, tn::over<1>, device);
    tn::normalize(x, y, mean, variance, tn::over<1>, {}, device);
  });
  this->expect_same(x, [&](const auto& device, auto& y) { tn::rms_norm(x, y, tn::none, {.eps = S(1)}, device); });
}

// Inside a task of the pool there is nobody to wait for: a pool of one would wait for itself.
TEST(ThreadsOfThePoolItself, RunACallInline) {
  for (const int threads : {1, 2}) {
    Pool pool(threads);
    Eigen::Tensor<float, 2, Eigen::RowMajor> x(4096, 1024), y(4096, 1024), expected(4096, 1024);
    x.setRandom();
    const tn::LayerNorm<float> layer(1024);
    layer.infer(x, expected);
    Eigen::Barrier done(1);
    pool.pool.Schedule([&] {
      layer.infer(x, y, pool.device);
      done.Notify();
    });
    done.Wait();
    EXPECT_EQ(std::memcmp(y.data(), expected.data(), sizeof(float) * 4096 * 1024), 0);
  }
}

// Row 68 of the faults: infer is const and safe from many threads on one layer; each has its own scratch.
TEST(ThreadsOfTheUsers, InferFromManyOnOneLayer) {
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(4, 40, 7, 7);
  x.setRandom();
  tn::BatchNorm2d<float> layer(40, {.track_running_stats = false});
  const auto& shared = layer;
  const auto expected = support::logical(shared.infer(x));
  std::vector<std::vector<float>> results(64);
  std::vector<std::thread> threads;
  for (auto& result : results)
    threads.emplace_back([&] {
      for (int i = 0; i < 5; ++i) result = support::logical(shared.infer(x));
    });
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_TRUE(same_bits(result, expected));
}

}  // namespace
