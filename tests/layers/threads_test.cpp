// SPDX-License-Identifier: MIT
// Rows 63, 65 and 68 to 76 of the table of faults: many threads, pools, and tensors beyond 2^31 elements.
//
// Rows without a test: 74, 77 and 78, for the library owns no thread: the pool is Eigen's and the caller's. Row 75 is
// core/parallel_test.
#define EIGEN_USE_THREADS
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <tensornorm/tensornorm.hpp>
#include <thread>
#include <typeinfo>
#include <vector>

#include "support/allocations.hpp"
#include "support/compare.hpp"
#include "support/faults.hpp"
#include "support/instruction_sets.hpp"
#include "support/logical.hpp"
#include "support/pool.hpp"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace {

using namespace faults;
using support::logical;
using support::Pool;
using support::same_bits;

using Kinds = testing::Types<support::Kind<float, Eigen::RowMajor>, support::Kind<double, Eigen::ColMajor>>;
template <class Kind>
class Threads : public testing::Test {};
TYPED_TEST_SUITE(Threads, Kinds, support::KindNames);

/// f(i) on `count` threads at once.
template <class F>
void on_threads(int count, F f) {
  std::atomic<int> ready{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      for (++ready; ready < count;) std::this_thread::yield();
      f(i);
    });
  for (std::thread& thread : threads) thread.join();
}

/// Work for several threads, along and across memory: 6 MiB and odd extents, one of them enough for several strips.
template <class Kind>
auto large_rows() {
  return random_tensor<typename Kind::template Tensor<2>>({4111, 401});
}

/// The same bits: large tensors are compared as they lie, not index by index.
template <class X, class Y>
bool same_memory(const X& x, const Y& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), sizeof(*x.data()) * static_cast<std::size_t>(x.size())) == 0;
}

// Whichever allocation of a call that uses a pool fails: std::bad_alloc, and nothing has changed.
TYPED_TEST(Threads, Row65AnAllocationThatFailsBesideAPool) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  struct Operands {
    tn::BatchNorm1d<S> layer;
    typename TypeParam::template Tensor<2> y, dx;
    tn::SavedStats<S> saved;
    typename tn::BatchNorm1d<S>::Gradients gradients;
  };
  const auto x = large_rows<TypeParam>();
  const tn::BatchNorm1d<S> layer(x.dimension(1));
  const Pool pool(4);
  const auto state = [](const Operands& o) {
    return state_of(o.layer) + saved_state(o.saved) + bytes_of(o.gradients.weight) + bytes_of(o.gradients.bias) + bytes_of(o.y) +
           bytes_of(o.dx);
  };
  Operands operands{layer, like(x), like(x), {}, layer.zero_gradients()};
  const auto check = [&](const auto& call) {
    const long all = support::fail_each_allocation([&] { return operands; }, call, state);
    EXPECT_GE(all, 1);
    EXPECT_LT(all, 10);
  };
  const auto forward = [&](Operands& o) { o.layer.forward(x, o.y, o.saved, pool.device); };
  check(forward);
  forward(operands);
  check([&](Operands& o) { o.layer.backward(x, x, o.saved, o.dx, o.gradients, pool.device); });
}

TYPED_TEST(Threads, Row68ManyThreadsInferOnOneConstLayer) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    layer(x);
    const auto& shared = std::as_const(layer);
    const auto expected = logical(shared.infer(x));
    std::atomic<int> wrong{0};
    on_threads(64, [&](int) {
      auto y = like(x);
      for (int repeat = 0; repeat < 5; ++repeat) {
        shared.infer(x, y);
        wrong += logical(y) == expected ? 0 : 1;
      }
    });
    EXPECT_EQ(wrong, 0);
  });
}

// While the first thread writes its y, a second one is refused, whatever it brings, and neither sees the other: the first ends as alone,
// and then the turn is free. A copy has a turn of its own.
TYPED_TEST(Threads, Row69ASecondThreadIsRefused) {
  using S = typename TypeParam::Scalar;
  const auto check = [](auto layer, const auto& x, const auto& small) {
    SCOPED_TRACE(text_of(layer));
    auto alone = layer;
    auto expected = like(x), y = like(x);
    tn::SavedStats<S> expected_saved, saved;
    alone.forward(x, expected, expected_saved);
    int meetings = 0;
    const support::ScheduledBy device{[&](const std::function<void()>& task) {
      ++meetings;
      std::thread([&] {
        expect_refused<std::logic_error>(layer, small, like(small), {"one thread at a time"}, Calls::forward_only);
        auto copy = layer;
        copy(small);
      }).join();
      task();
    }};
    layer.forward(x, y, saved, device);
    EXPECT_GE(meetings, 1);
    EXPECT_TRUE(same_memory(y, expected));
    EXPECT_EQ(saved_state(saved), saved_state(expected_saved));
    EXPECT_EQ(state_of(layer), state_of(alone));
    layer(small);
    EXPECT_EQ(layer.running_stats().num_batches(), 2);
  };
  const auto x = large_rows<TypeParam>();
  const Index c = x.dimension(1);
  using Images = typename TypeParam::template Tensor<3>;
  check(tn::BatchNorm1d<S>(c), x, random_tensor<typename TypeParam::template Tensor<2>>({3, c}));
  check(tn::InstanceNorm1d<S>(c, {.track_running_stats = true}), random_tensor<Images>({2, c, 2053}), random_tensor<Images>({2, c, 3}));
}

// Whenever they meet: one batch is counted per call that returned, and one that was refused has changed nothing of its thread's.
TYPED_TEST(Threads, Row69FourThreadsTrainOneLayer) {
  using S = typename TypeParam::Scalar;
  const auto x = random_tensor<typename TypeParam::template Tensor<2>>({257, 255});
  tn::BatchNorm1d<S> layer(255);
  std::atomic<int> trained{0}, refused{0};
  on_threads(4, [&](int) {
    for (int i = 0; i < 50; ++i) {
      auto y = like(x);
      auto saved = saved_before<S>();
      const std::string before = bytes_of(y) + saved_state(saved);
      try {
        layer.forward(x, y, saved);
        ++trained;
      } catch (const std::exception& error) {
        EXPECT_EQ(typeid(error), typeid(std::logic_error)) << error.what();
        EXPECT_PRED_FORMAT2(testing::IsSubstring, "BatchNorm1d::forward: ", error.what());
        EXPECT_TRUE(bytes_of(y) + saved_state(saved) == before);
        ++refused;
      }
    }
  });
  EXPECT_EQ(trained + refused, 200);
  EXPECT_EQ(layer.running_stats().num_batches(), trained);
  layer(x);
  EXPECT_EQ(layer.running_stats().num_batches(), trained + 1);
}

// With a lock around everything that changes the layer, evaluation may go on beside it.
TYPED_TEST(Threads, Row70EvalBesideTrainingUnderALock) {
  using S = typename TypeParam::Scalar;
  const auto x = random_tensor<typename TypeParam::template Tensor<4>>({3, 5, 4, 7});
  tn::BatchNorm2d<S> layer(5);
  std::mutex mutex;
  std::atomic<int> wrong{0};
  on_threads(4, [&](int thread) {
    auto y = like(x);
    for (int i = 0; i < 50; ++i) {
      const std::lock_guard lock(mutex);
      if (thread == 0)
        layer.forward(x, y);
      else if (thread == 1)
        layer.running_stats().load(std::vector<S>(5, S(1)), std::vector<S>(5, S(2)), 3);
      else if (thread == 2)
        tn::BatchNorm2d<S>(layer).infer(x, y);
      else
        std::as_const(layer).infer(x, y);
      for (const S value : logical(y)) wrong += std::isfinite(value) ? 0 : 1;
      if (thread < 2) continue;
      for (Index k = 0; k < 3 * 5 * 4 * 7; ++k) {  // by the statistics that it has now
        const support::Shape at = support::coordinates(k, {3, 5, 4, 7});
        const double norm = (double(support::coefficient(x, at)) - layer.running_mean()(at[1])) / std::sqrt(layer.running_var()(at[1]) + layer.eps());
        wrong += std::abs(double(support::coefficient(y, at)) - norm) < 1e-4 ? 0 : 1;
      }
    }
  });
  EXPECT_EQ(wrong, 0);
}

TYPED_TEST(Threads, Row71LayersOnManyThreadsShareOnePool) {
  using S = typename TypeParam::Scalar;
  const auto x = large_rows<TypeParam>();
  const tn::LayerNorm<S> rows(x.dimension(1));
  const tn::BatchNorm1d<S> columns(x.dimension(1), {.track_running_stats = false});
  const auto expected_rows = rows.infer(x), expected_columns = columns.infer(x);
  for (const int threads : {1, 3}) {
    const Pool pool(threads);
    std::atomic<int> wrong{0};
    on_threads(6, [&](int i) {
      auto y = like(x);
      for (int repeat = 0; repeat < 3; ++repeat) {
        if (i % 2 == 0)
          rows.infer(x, y, pool.device);
        else
          columns.infer(x, y, pool.device);
        wrong += same_memory(y, i % 2 == 0 ? expected_rows : expected_columns) ? 0 : 1;
      }
    });
    EXPECT_EQ(wrong, 0) << threads;
  }
}

// On a pool of one thread nobody else could run what it waits for.
TYPED_TEST(Threads, Row72CallsInsideATaskOfTheSamePool) {
  using S = typename TypeParam::Scalar;
  const auto x = large_rows<TypeParam>();
  using X = std::decay_t<decltype(x)>;
  struct Results {
    X y, trained, dx;
    std::string gradients;
  };
  const auto check = [&](const auto& layer) {
    const auto call = [&](Results& to, const auto& device) {
      layer.infer(x, to.y, device);
      auto training = layer;
      tn::SavedStats<S> saved;
      training.forward(x, to.trained, saved, device);
      auto gradients = training.zero_gradients();
      training.backward(x, x, saved, to.dx, gradients, device);
      to.gradients = faults::bytes_of(gradients.weight) + faults::bytes_of(gradients.bias);
    };
    const Results empty{like(x), like(x), like(x), ""};
    Results expected = empty;
    call(expected, Eigen::DefaultDevice());
    for (const int threads : {1, 3}) {
      Pool pool(threads, 4);
      std::vector<Results> results(4, empty);
      Eigen::Barrier done(4);
      for (Results& to : results)
        pool.pool.Schedule([&] {
          call(to, pool.device);
          done.Notify();
        });
      done.Wait();
      for (const Results& to : results)
        EXPECT_TRUE(same_memory(to.y, expected.y) && same_memory(to.trained, expected.trained) && same_memory(to.dx, expected.dx) &&
                    to.gradients == expected.gradients)
            << layer << ' ' << threads;
    }
  };
  check(tn::LayerNorm<S>(x.dimension(1)));
  check(tn::BatchNorm1d<S>(x.dimension(1)));
}

// Bodies given to a pool are noexcept, or they do not compile (compile_fail/throwing_body), and allocate nothing: the
// only worker's allocations are counted. It has done its task before the caller goes on, so that no share is left for him: the result is
// all the worker's.
TYPED_TEST(Threads, Row73WorkersAllocateNothing) {
  if (!support::kCountsAllocations) GTEST_SKIP() << "allocations belong to the sanitizer";
  using S = typename TypeParam::Scalar;
  const auto x = large_rows<TypeParam>();
  auto y = like(x), dx = like(x);
  const auto canary = y;
  tn::LayerNorm<S> rows(x.dimension(1));
  tn::BatchNorm1d<S> columns(x.dimension(1));
  tn::SavedStats<S> saved;
  auto gradients = columns.zero_gradients();
  Pool pool(1);
  long tasks = 0, allocated = 0;
  std::string left;  // in y and dx by the last task
  const support::ScheduledBy device{[&](const std::function<void()>& task) {
    Eigen::Barrier done(1);
    pool.pool.Schedule([&] {
      const long before = support::allocations.count;
      task();
      allocated += support::allocations.count - before;
      ++tasks;
      done.Notify();
    });
    done.Wait();
    left = bytes_of(y) + bytes_of(dx);
  }};
  const auto check = [&](const char* call, const auto& run, const auto& result) {
    tasks = allocated = 0;
    run();
    EXPECT_GE(tasks, 1) << call;
    EXPECT_EQ(allocated, 0) << call;
    EXPECT_FALSE(same_memory(result, canary)) << call;
    EXPECT_TRUE(left == bytes_of(y) + bytes_of(dx)) << call << ": not by the worker";
    y = dx = canary;
  };
  check("rows", [&] { rows.forward(x, y, saved, device); }, y);
  check("rows' gradients", [&] { rows.backward(x, x, saved, dx, tn::none, device); }, dx);
  check("columns", [&] { columns.forward(x, y, saved, device); }, y);
  check("columns' gradients", [&] { columns.backward(x, x, saved, dx, gradients, device); }, dx);
}

/// The part [first, first + count) of the first axis.
template <class X>
X part_of(const X& x, Index first, Index count) {
  auto from = x.dimensions(), extents = x.dimensions();
  for (auto& start : from) start = 0;
  from[0] = first;
  extents[0] = count;
  return x.slice(from, extents);
}

// Where statistics do not span the batch, every image comes out as it does alone, and all as they did the call before.
// In ColMajor the batch is the fastest axis: its extent decides how memory is walked, and so the order of the sums.
TYPED_TEST(Threads, Row76TheSameCallTwiceAndImagesAlone) {
  for_each_layer<TypeParam>([](auto& layer, const auto& x) {
    const auto& shared = std::as_const(layer);
    const auto y = shared.infer(x);
    EXPECT_TRUE(same_bits(logical(shared.infer(x)), logical(y)));
    if (TypeParam::order == Eigen::ColMajor || name_of(layer) == "InstanceNorm3d")
      return;  // one image: its first axis is the channels
    for (Index i = 0; i < x.dimension(0); ++i) {
      const std::remove_cvref_t<decltype(x)> image = part_of(x, i, 1);
      EXPECT_TRUE(same_bits(logical(shared.infer(image)), logical(part_of(y, i, 1)))) << i;
    }
  });
}

// Coefficients of short runs are made once for all images; for an image alone, and where a channel's x has to be scaled, they are made for
// each run. By three threads, two of which begin within an image. What is not in place is written past the caches, an image alone is not.
TEST(RunningStatistics, Row76AnImageAmongOthersIsTheImageAlone) {
  using Images = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  constexpr Index n = 1102, c = 51, small = 17;
  support::Pool pool(3);
  Images x(n, c, 7, 11);
  x.setRandom();
  const auto values = support::random_values<double>(4 * std::size_t(c), 1, 2, 0.25);
  Eigen::ArrayXd mean = Eigen::Map<const Eigen::ArrayXd>(values.data(), c);
  Eigen::ArrayXd variance = Eigen::Map<const Eigen::ArrayXd>(values.data() + c, c).square();
  tn::BatchNorm2d<double> layer(c, {.eps = 0});
  for (Index i = 0; i < c; ++i) {
    layer.weight()(i) = values[std::size_t(2 * c + i)];
    layer.bias()(i) = values[std::size_t(3 * c + i)];
  }
  const auto same_in_every_way = [&] {
    const Images y = layer.infer(x);
    Images threaded(x.dimensions()), in_place = x;
    layer.infer(x, threaded, pool.device);
    EXPECT_TRUE(same_bits(logical(threaded), logical(y)));
    layer.infer(in_place, in_place);
    EXPECT_TRUE(same_bits(logical(in_place), logical(y)));
    for (Index i = 0; i < n; ++i) {
      const Images image = part_of(x, i, 1);
      EXPECT_TRUE(same_bits(logical(layer.infer(image)), logical(part_of(y, i, 1)))) << i;
    }
    return y;
  };
  layer.running_stats().load(mean, variance, 1);
  support::at_each_level([&](tn::kernels::Level) { same_in_every_way(); });

  // 2^-118 times x in one channel: its squares are below every float.
  const Images ordinary = layer.infer(x);
  const double scale = std::ldexp(1, -118);
  mean(small) *= scale;
  variance(small) *= scale * scale;
  layer.running_stats().load(mean, variance, 1);
  x.chip(small, 1) = x.chip(small, 1) * static_cast<float>(scale);
  support::at_each_level([&](tn::kernels::Level) {
    const Images y = same_in_every_way();
    const Eigen::Tensor<float, 0, Eigen::RowMajor> largest = (y - ordinary).abs().maximum<Eigen::PropagateNaN>();
    EXPECT_LE(largest(), 1e-5f);
  });
}

#if defined(__linux__) && !defined(TENSORNORM_TEST_SANITIZED) && PTRDIFF_MAX > INT32_MAX
using NarrowScalar = Eigen::bfloat16;  // half of a float's memory, and of its time

/// 2^31 + 17 numbers: 16 MiB of memory over and over at consecutive addresses, where what is written at one is read at all,
/// and after them, from element 2^31 on, memory of their own.
class Repeated {
 public:
  static constexpr std::size_t repeated = std::size_t{1} << 31, size = repeated + 17;
  static constexpr std::size_t piece = (std::size_t{1} << 24) / sizeof(NarrowScalar);  // more than the caches of a core: else stores crawl
  Repeated() {
    const int file = memfd_create("repeated", 0);
    const bool sized = ftruncate(file, static_cast<off_t>(piece * sizeof(NarrowScalar))) == 0;
    void* all = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    good = sized && all != MAP_FAILED;
    data = static_cast<NarrowScalar*>(all);
    // Populated: a fault for each of the pages takes minutes on some virtual machines.
    for (std::size_t i = 0; good && i < repeated; i += piece) {
      good = mmap(data + i, piece * sizeof(NarrowScalar), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) !=
             MAP_FAILED;
    }
    good = good && mprotect(data + repeated, kBytes - repeated * sizeof(NarrowScalar), PROT_READ | PROT_WRITE) == 0;
    close(file);
  }
  Repeated(const Repeated&) = delete;
  Repeated& operator=(const Repeated&) = delete;
  ~Repeated() { munmap(data, kBytes); }
  /// f(i) is the value at element i, and has a period that divides piece below 2^31.
  template <class F>
  void fill(F f) {
    for (std::size_t i = 0; i < piece; ++i) data[i] = static_cast<NarrowScalar>(static_cast<float>(f(i)));
    for (std::size_t i = repeated; i < size; ++i) data[i] = static_cast<NarrowScalar>(static_cast<float>(f(i)));
  }
  /// What a call has not written is found out.
  void forget() {
    fill([](std::size_t) { return -100; });
  }
  auto map(Index rows, Index columns) { return Eigen::TensorMap<Eigen::Tensor<NarrowScalar, 2, Eigen::RowMajor>>(data, rows, columns); }
  auto const_map(Index rows, Index columns) const {
    return Eigen::TensorMap<const Eigen::Tensor<NarrowScalar, 2, Eigen::RowMajor>>(data, rows, columns);
  }

  NarrowScalar* data = nullptr;
  bool good = false;

 private:
  static constexpr std::size_t kBytes = (size * sizeof(NarrowScalar) + 4095) / 4096 * 4096;
};

// 2^31 + 17 = 5 * 429496733. x is i % 64 at element i, and dy a permutation of it, so that five rows or columns have the same means; from
// element 2^31 on they are at 63 - i % 64, which stands nowhere else at such an i. Of every fifth element, or the last 2^31 / 5, the
// numbers of each of the 64 values differ by one at most, and the last 17 make no difference that shows.
class LargeTensors : public testing::Test {
 protected:
  static constexpr Index kSize = Index(Repeated::size), kFifth = kSize / 5;
  static_assert(kFifth * 5 == kSize);
  static constexpr double mean = 31.5, variance = (64 * 64 - 1) / 12.0, eps = 1e-5;

  static int x_at(std::size_t i) { return static_cast<int>(i < Repeated::repeated ? i % 64 : 63 - i % 64); }
  static int dy_at(std::size_t i) { return x_at(i) * 37 % 64; }
  static double norm_of(int x) { return (x - mean) / std::sqrt(variance + eps); }

  static void SetUpTestSuite() {
    x_ = std::make_unique<Repeated>();
    dy_ = std::make_unique<Repeated>();
    y_ = std::make_unique<Repeated>();
    if (!x_->good || !dy_->good || !y_->good) return;
    x_->fill(x_at);
    dy_->fill(dy_at);
  }
  static void TearDownTestSuite() {
    for (auto* tensor : {&x_, &dy_, &y_}) tensor->reset();
  }
  LargeTensors() {
    for (std::size_t i = 0; i < 64; ++i) {
      mean_dy_ += dy_at(i) / 64.0;
      mean_dy_norm_ += dy_at(i) * norm_of(x_at(i)) / 64;
    }
  }
  void SetUp() override {
    if (!x_->good || !dy_->good || !y_->good) GTEST_SKIP() << "no such mapping";
    y_->forget();
  }
  /// The last elements of y, or of dx, are f of x and dy, within an ulp of the largest and what 17 elements move.
  template <class F>
  void expect_last(F f) const {
    double largest = 0;
    for (std::size_t i = 0; i < 64; ++i) largest = std::max(largest, std::abs(f(x_at(i), dy_at(i))));
    const double tolerance = double(support::ulps<NarrowScalar>(1, largest)) + 1e-6 * largest;
    for (std::size_t i = std::size_t(kSize) - 100; i < std::size_t(kSize); ++i)
      ASSERT_NEAR(double(y_->data[i]), f(x_at(i), dy_at(i)), tolerance) << i;
  }
  void expect_last_y() const {
    expect_last([](int value, int) { return norm_of(value); });
  }
  void expect_last_dx() const {
    expect_last([this](int value, int gradient) {
      return (gradient - mean_dy_ - norm_of(value) * mean_dy_norm_) / std::sqrt(variance + eps);
    });
  }

  static inline std::unique_ptr<Repeated> x_, dy_, y_;
  double mean_dy_ = 0, mean_dy_norm_ = 0;
};

// An int cannot count the row.
TEST_F(LargeTensors, Row63MoreElementsThanAnIntCountsInOneRow) {
  const auto x = x_->const_map(1, kSize), dy = dy_->const_map(1, kSize);
  auto y = y_->map(1, kSize);
  tn::SavedStats<NarrowScalar> saved;
  tn::layer_norm(x, y, saved, tn::none, tn::none);
  expect_last_y();
  y_->forget();
  tn::layer_norm_backward(dy, x, saved, tn::none, y, tn::none, tn::none);
  expect_last_dx();
}

TEST_F(LargeTensors, Row63MoreElementsThanAnIntCountsInFiveRows) {
  tn::SavedStats<NarrowScalar> saved;
  tn::layer_norm(x_->const_map(5, kFifth), y_->map(5, kFifth), saved, tn::none, tn::none);
  expect_last_y();
}

TEST_F(LargeTensors, Row63MoreElementsThanAnIntCountsInColumns) {
  const auto x = x_->const_map(kFifth, 5), dy = dy_->const_map(kFifth, 5);
  auto y = y_->map(kFifth, 5);
  tn::BatchNorm1d<NarrowScalar> layer(5);
  tn::SavedStats<NarrowScalar> saved;
  layer.forward(x, y, saved);
  expect_last_y();
  y_->forget();
  auto gradients = layer.zero_gradients();
  layer.backward(dy, x, saved, y, gradients);
  expect_last_dx();
  for (Index c = 0; c < 5; ++c) {
    const double dbias = mean_dy_ * kFifth, dweight = mean_dy_norm_ * kFifth;
    EXPECT_NEAR(double(gradients.bias(c)), dbias, double(support::ulps<NarrowScalar>(1, dbias)) + 100 * 64) << c;
    EXPECT_NEAR(double(gradients.weight(c)), dweight, double(support::ulps<NarrowScalar>(1, std::abs(dweight))) + 100 * 64) << c;
  }
}
#endif

}  // namespace
