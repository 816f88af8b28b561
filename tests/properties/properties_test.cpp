// SPDX-License-Identifier: MIT
// Random layers, shapes, options, data and ways to call: what comes out is the reference's, and the same bits however it
// was called.
//
// A run by hand draws its own cases and prints the seed; TENSORNORM_PROPERTY_SEED and TENSORNORM_PROPERTY_CASES (1000 of each
// property, over all types) give them again. Under ctest the seed is always the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <utility>

#include "random_layer.hpp"
#include "support/compare.hpp"
#include "support/instruction_sets.hpp"

namespace {

using namespace properties;
using support::all_near;
using support::Kind;
using support::largest;
using support::same_bits;
using support::ulps;
using tensornorm::kernels::Level;

template <class K>
class Properties : public testing::Test {
 protected:
  using Element = typename K::Scalar;
  using Parameter = typename K::Parameter;
  using Layer = RandomLayer<Element, Parameter>;
  using Values = std::vector<Element>;
  using Parameters = std::vector<Parameter>;
  static constexpr bool narrow = sizeof(Element) == 2;

  // What the library promises: y within 4 ulp of its largest term, gradients within 8 of theirs, elements of 16 bits and
  // their gradients within 1. Statistics are at least those of float.
  static constexpr double kForward = narrow ? 1 : 4;
  static constexpr double kBackward = narrow ? 1 : 8;
  static constexpr double kParameters = sizeof(Parameter) == 2 ? 1 : 8;
  using Statistic = std::conditional_t<sizeof(Parameter) == 2, float, Parameter>;
  /// The running estimate, two products and a sum.
  static constexpr double kRunning = 8;

  /// Results of elements below this are denormal numbers, or 0.
  static reference::Values tolerances(double k, reference::Values scales) {
    const long double least = std::is_same_v<Element, Eigen::half> ? 0x1p-24L : std::numeric_limits<float>::min();
    for (long double& scale : scales) scale = std::max(ulps<Element>(k, scale), least);
    return scales;
  }

  static Values random_values(Random& random, Index size) {
    const double deviation = random.one_of({1.0, 1.0, 0.01, 30.0});
    const double mean = deviation * random.one_of({0.0, 0.5, -3.0, 100.0, sizeof(Element) < 4 ? 0.0 : 1e4});
    auto values = support::random_values<Element>(size, random.seed(), mean, deviation);
    if (random.between(0, 9) == 0) std::fill(values.begin(), values.end(), values[0]);
    return values;
  }
  static std::pair<Parameters, Parameters> set_parameters(Random& random, Layer& layer) {
    std::pair<Parameters, Parameters> result;
    const Index size = layer.norm.parameters();
    if (layer.has_weight) result.first = support::random_values<Parameter>(size, random.seed(), 1.0, 0.5);
    if (layer.has_bias) result.second = support::random_values<Parameter>(size, random.seed(), 0.0, 1.0);
    layer.set_parameters(result.first, result.second);
    return result;
  }

  /// In RowMajor order of the logical indices, for the reference.
  static Values logical(const Values& memory, const Shape& shape) {
    Values result(memory.size());
    for (std::size_t i = 0; i < memory.size(); ++i) result[i] = memory[in_memory(i, shape)];
    return result;
  }
  static std::size_t in_memory(std::size_t flat, const Shape& shape) {
    if (K::order == Eigen::RowMajor) return flat;
    return static_cast<std::size_t>(support::storage_index<K::order>(support::coordinates(Index(flat), shape), shape));
  }

  /// What a forward call has been given and backward may be asked about.
  struct Call {
    Shape shape;
    Values x;
    reference::Statistics statistics;
    bool frozen;
  };

  /// The statistics a call uses: of x, or with `running` those.
  static reference::Statistics statistics_of(const Layer& layer, const Call& call, const typename Layer::Running* running) {
    const auto norm = layer.norm_of(call.shape);
    if (running == nullptr) return reference::moments(norm, reference::real(logical(call.x, call.shape)));
    reference::Statistics result;
    for (std::size_t s = 0; s < static_cast<std::size_t>(norm.statistics()); ++s) {
      const std::size_t channel = s % running->mean.size();  // the last kept axis
      result.mean.push_back(running->mean[channel]);
      result.mean_lo.push_back(0);
      result.variance.push_back(running->variance[channel]);
    }
    return result;
  }

  /// |actual - expected| <= k ulp of the scale; beyond the largest element expected is infinity.
  static testing::AssertionResult near(Values actual, reference::Values expected, double k, const reference::Values& scales) {
    for (std::size_t i = 0; i < actual.size(); ++i) {
      if (std::isfinite(static_cast<float>(static_cast<Element>(expected[i])))) continue;
      if (!std::isinf(static_cast<float>(actual[i])) || (actual[i] > Element(0)) != (expected[i] > 0)) continue;
      actual[i] = Element(0);
      expected[i] = 0;
    }
    return all_near(actual, expected, tolerances(k, scales));
  }

  static void expect_y(const Layer& layer, const Call& call, const std::pair<Parameters, Parameters>& parameters, const Values& y) {
    const auto norm = layer.norm_of(call.shape);
    const auto x = reference::real(logical(call.x, call.shape));
    const auto weight = reference::real(parameters.first), bias = reference::real(parameters.second);
    const auto expected = reference::forward(norm, x, weight, bias, call.statistics);
    const auto norms = reference::normalized(norm, x, call.statistics);
    const long double scale = largest(norms) * (weight.empty() ? 1 : largest(weight)) + largest(bias);
    EXPECT_TRUE(near(logical(y, call.shape), expected, kForward, reference::Values(y.size(), scale))) << "y";
  }
  static void expect_gradients(const Layer& layer, const Call& call, const Parameters& weight, const Values& dy,
                               const typename Layer::Gradients& actual) {
    const auto norm = layer.norm_of(call.shape);
    const auto real_x = reference::real(logical(call.x, call.shape)), real_dy = reference::real(logical(dy, call.shape));
    const auto real_weight = reference::real(weight);
    const auto expected = reference::backward(norm, real_dy, real_x, real_weight, call.statistics, call.frozen);
    const auto terms_of_dx = reference::terms_of_dx(norm, real_dy, real_x, real_weight, call.statistics);
    EXPECT_TRUE(near(logical(actual.dx, call.shape), expected.dx, kBackward, terms_of_dx)) << "dx";
    const auto terms = ulps<Parameter>(
        kParameters, reference::terms_of_parameters(norm, real_dy, reference::normalized(norm, real_x, call.statistics)));
    if (layer.has_weight) {
      EXPECT_TRUE(all_near(actual.dweight, expected.dweight, terms)) << "dweight";
    }
    if (layer.has_bias) {
      EXPECT_TRUE(all_near(actual.dbias, expected.dbias, terms)) << "dbias";
    }
  }
  /// running = (1 - momentum) * before + momentum * batch; per channel the average over the images.
  static void expect_moved(const Layer& layer, const Call& call, const typename Layer::Running& before) {
    const auto after = layer.running();
    const std::size_t channels = before.mean.size(), count = call.statistics.mean.size();
    const auto samples = static_cast<long double>(layer.norm_of(call.shape).samples());
    const long double momentum = layer.momentum ? *layer.momentum : 1.0L / static_cast<long double>(before.batches + 1);
    reference::Values mean(channels), variance(channels);
    for (std::size_t s = 0; s < count; ++s) {
      const auto share = static_cast<long double>(channels) / static_cast<long double>(count);
      mean[s % channels] += share * call.statistics.mean[s];
      variance[s % channels] +=
          share * call.statistics.variance[s] * (layer.unbiased_running_variance ? samples / (samples - 1) : 1);
    }
    for (std::size_t c = 0; c < channels; ++c) {
      mean[c] = (1 - momentum) * before.mean[c] + momentum * mean[c];
      variance[c] = (1 - momentum) * before.variance[c] + momentum * variance[c];
    }
    const auto tolerance = [&](const std::vector<double>& a, const reference::Values& b, long double terms) {
      return ulps<Statistic>(kRunning, std::max({largest(a), largest(b), terms}));
    };
    EXPECT_TRUE(all_near(after.mean, mean, tolerance(before.mean, mean, largest(call.x)))) << "running mean";
    EXPECT_TRUE(all_near(after.variance, variance, tolerance(before.variance, variance, 0))) << "running variance";
    EXPECT_EQ(after.batches, before.batches + 1);
  }

  /// All that one layer gives for one x: forward, backward, infer.
  struct Results {
    typename Layer::Result forward;
    typename Layer::Gradients backward;
    Values infer;
    typename Layer::Running running;
  };
  static Results results_of(const Layer& from, const Values& x, const Values& dy, const Shape& shape, const Situation& situation) {
    const auto layer = from.copy();
    Results result;
    result.forward = layer->forward(x, shape, situation);
    result.backward = layer->backward(dy, x, shape, situation);
    result.infer = layer->infer(x, shape, situation);
    result.running = layer->running();
    return result;
  }
  static void expect_same(const Results& actual, const Results& expected) {
    EXPECT_TRUE(same_bits(actual.forward.y, expected.forward.y)) << "y";
    EXPECT_TRUE(same_bits(actual.forward.mean, expected.forward.mean)) << "saved mean";
    EXPECT_TRUE(same_bits(actual.forward.rstd, expected.forward.rstd)) << "saved rstd";
    EXPECT_TRUE(same_bits(actual.backward.dx, expected.backward.dx)) << "dx";
    EXPECT_TRUE(same_bits(actual.backward.dweight, expected.backward.dweight)) << "dweight";
    EXPECT_TRUE(same_bits(actual.backward.dbias, expected.backward.dbias)) << "dbias";
    EXPECT_TRUE(same_bits(actual.infer, expected.infer)) << "infer";
    EXPECT_TRUE(same_bits(actual.running.mean, expected.running.mean)) << "running mean";
    EXPECT_TRUE(same_bits(actual.running.variance, expected.running.variance)) << "running variance";
  }

  static constexpr std::uint64_t kinds = 8;
  /// f(random, layer, x) for this type's share of the cases.
  template <class F>
  static void for_layers(Index most, F f) {
    for_random_cases(kinds, [&](Random& random) {
      const auto layer = random_layer<K>(random, random.one_of<Index>({30, 300, most}));
      SCOPED_TRACE(layer->name);
      f(random, *layer);
    });
  }
};
using AllKinds =
    testing::Types<Kind<float, Eigen::RowMajor>, Kind<float, Eigen::ColMajor>, Kind<double, Eigen::RowMajor>,
                   Kind<double, Eigen::ColMajor>, Kind<Eigen::half, Eigen::ColMajor>, Kind<Eigen::half, Eigen::RowMajor, float>,
                   Kind<Eigen::bfloat16, Eigen::RowMajor>, Kind<Eigen::bfloat16, Eigen::ColMajor, float>>;
TYPED_TEST_SUITE(Properties, AllKinds, support::KindNames);

// Training, evaluating, copying, loading and going backward in any order: each call gives what the reference gives for
// the state the layer is in, at any dispatch level.
TYPED_TEST(Properties, CallSequencesGiveWhatTheReferenceGives) {
  using Fixture = TestFixture;
  Fixture::for_layers(5000, [](Random& random, auto& first) {
    const support::AtLevel level(random.one_of({Level::baseline, Level::avx2, Level::avx512}));
    auto layer = first.copy();
    auto parameters = Fixture::set_parameters(random, *layer);
    typename Fixture::Call last{};
    const auto batch = [&] {
      typename Fixture::Call call{layer->shape, {}, {}, false};
      const auto role = layer->norm.roles[0];
      const bool any_batch = role == reference::Role::kept || role == reference::Role::reduced;
      if (any_batch && random.coin()) call.shape[0] += random.between(0, 2);
      call.x = Fixture::random_values(random, support::size_of(call.shape));
      return call;
    };
    for (Index step = random.between(1, 6); step > 0 && !testing::Test::HasFailure(); --step) {
      switch (random.between(0, 5)) {
        case 0:
        case 1: {
          auto call = batch();
          const auto before = layer->running();
          call.frozen = layer->tracks && !layer->training;
          call.statistics = Fixture::statistics_of(*layer, call, call.frozen ? &before : nullptr);
          Fixture::expect_y(*layer, call, parameters, layer->forward(call.x, call.shape, random_situation(random)).y);
          if (layer->tracks && layer->training) {
            Fixture::expect_moved(*layer, call, before);
          } else {
            EXPECT_EQ(layer->running().mean, before.mean);
          }
          last = std::move(call);
          break;
        }
        case 2: {
          auto call = batch();
          const auto running = layer->running();
          call.statistics = Fixture::statistics_of(*layer, call, layer->tracks ? &running : nullptr);
          Fixture::expect_y(*layer, call, parameters, layer->infer(call.x, call.shape, random_situation(random)));
          break;
        }
        case 3: {
          if (last.x.empty()) break;
          const auto dy = support::random_values<typename TypeParam::Scalar>(Index(last.x.size()), random.seed(), 0.3, 1.0);
          Fixture::expect_gradients(*layer, last, parameters.first, dy,
                                    layer->backward(dy, last.x, last.shape, random_situation(random)));
          break;
        }
        case 4: {
          auto other = layer->copy();
          std::swap(layer, other);
          Fixture::set_parameters(random, *other);
          other->forward(other->shape == last.shape ? last.x : Fixture::random_values(random, support::size_of(other->shape)),
                         other->shape, {});
          layer->train(random.coin());
          break;
        }
        default:
          if (layer->tracks) {
            auto running = layer->running();
            for (double& mean : running.mean) mean = random.one_of({0.0, 1.0, -2.5, 0.375});
            for (double& variance : running.variance) variance = random.one_of({0.25, 1.0, 3.0});
            running.batches = random.between(0, 5);
            layer->load(running);
          }
          parameters = Fixture::set_parameters(random, *layer);
      }
    }
  });
}

TYPED_TEST(Properties, TheSameBitsForAnyThreadsAlignmentAndPlace) {
  using Fixture = TestFixture;
  using S = typename TypeParam::Scalar;
  // Work for several threads is 2 MiB and more, and one case in ten.
  Fixture::for_layers(5000, [](Random& random, auto& small) {
    auto layer = small.copy();
    if (random.between(0, 9) == 0)
      do layer = random_layer<TypeParam>(random, Index((6 << 20) / sizeof(S)));
      while (support::size_of(layer->shape) * Index(sizeof(S)) < Index{2 << 20});
    SCOPED_TRACE(layer->name);
    Fixture::set_parameters(random, *layer);
    if (random.coin()) layer->train(false);
    const auto x = Fixture::random_values(random, support::size_of(layer->shape));
    const auto dy = Fixture::random_values(random, support::size_of(layer->shape));
    const auto expected = Fixture::results_of(*layer, x, dy, layer->shape, {});
    Fixture::expect_same(Fixture::results_of(*layer, x, dy, layer->shape, random_situation(random)), expected);
  });
}

TYPED_TEST(Properties, TheSameBitsForEveryInstructionSetWithFma) {
  using Fixture = TestFixture;
  if (support::AtLevel(Level::avx512).forced != Level::avx512) GTEST_SKIP() << "this processor has one level with FMA or none";
  Fixture::for_layers(20000, [](Random& random, auto& layer) {
    Fixture::set_parameters(random, layer);
    if (random.coin()) layer.train(false);
    const auto x = Fixture::random_values(random, support::size_of(layer.shape));
    const auto dy = Fixture::random_values(random, support::size_of(layer.shape));
    const auto at = [&](Level level) {
      const support::AtLevel forced(level);
      return Fixture::results_of(layer, x, dy, layer.shape, {});
    };
    Fixture::expect_same(at(Level::avx2), at(Level::avx512));
  });
}

// Where statistics do not span the batch, or are given, an example comes out the same alone and among others.
TYPED_TEST(Properties, TheSameBitsForAnExampleAloneAndAmongOthers) {
  using Fixture = TestFixture;
  using S = typename TypeParam::Scalar;
  Fixture::for_layers(5000, [](Random& random, auto& first) {
    auto layer = first.copy();
    bool given = layer->tracks && random.coin();
    const auto promised = [&] {
      const auto role = layer->norm.roles[0];
      // In ColMajor the batch is innermost: its extent decides how the sums of an example are walked.
      return role == reference::Role::kept ? given || TypeParam::order == Eigen::RowMajor : given && role == reference::Role::reduced;
    };
    while (!promised()) {
      layer = random_layer<TypeParam>(random, random.one_of<Index>({30, 300, 5000}));
      given = layer->tracks && random.coin();
    }
    SCOPED_TRACE(layer->name);
    Fixture::set_parameters(random, *layer);
    layer->train(!given);
    const Index examples = layer->shape[0] + 1, size = support::size_of(layer->shape) / layer->shape[0];
    Shape shape = layer->shape;
    shape[0] = examples;
    const auto x = Fixture::random_values(random, size * examples), dy = Fixture::random_values(random, size * examples);
    const Index start = random.between(0, examples - 1), count = random.between(1, examples - start);
    const auto cut = [&](const std::vector<S>& all) {
      std::vector<S> part;
      for (Index i = 0; i < size * examples; ++i) {
        const Index example = TypeParam::order == Eigen::RowMajor ? i / size : i % examples;
        if (example >= start && example < start + count) part.push_back(all[static_cast<std::size_t>(i)]);
      }
      return part;
    };
    struct Images {
      std::vector<S> y, inferred, dx;
    };
    const auto results_of = [&](const std::vector<S>& of_x, const std::vector<S>& of_dy) {
      Images results;
      results.y = layer->forward(of_x, shape, {}).y;
      results.dx = layer->backward(of_dy, of_x, shape, {}).dx;
      if (given) results.inferred = layer->infer(of_x, shape, {});
      return results;
    };
    const Images all = results_of(x, dy);
    shape[0] = count;
    const Images part = results_of(cut(x), cut(dy));
    SCOPED_TRACE("examples " + std::to_string(start) + " to " + std::to_string(start + count) + " of " + std::to_string(examples));
    EXPECT_TRUE(same_bits(part.y, cut(all.y))) << "y";
    EXPECT_TRUE(same_bits(part.dx, cut(all.dx))) << "dx";
    if (given) {
      EXPECT_TRUE(same_bits(part.inferred, cut(all.inferred))) << "infer";
    }
  });
}

/// FNV-1a over the bits of numbers, of any byte order.
class Digest {
 public:
  template <class T>
  void add(const std::vector<T>& values) {
    for (const T& value : values) {
      if constexpr (sizeof(T) == 2)
        add_number(std::bit_cast<std::uint16_t>(value));
      else if constexpr (sizeof(T) == 4)
        add_number(std::bit_cast<std::uint32_t>(value));
      else
        add_number(std::bit_cast<std::uint64_t>(value));
    }
  }
  std::uint64_t hash = 14695981039346656037U;

 private:
  void add_number(std::uint64_t number) { hash = (hash ^ number) * 1099511628211U; }
};

// For machines that cannot be had in one process: what they print is compared by matrix.sh. The cases are always the
// same, and nothing in them comes from a mathematical library.
TYPED_TEST(Properties, DigestOfTheSameCases) {
  using Fixture = TestFixture;
  using S = typename TypeParam::Scalar;
  using P = typename TypeParam::Parameter;
  Digest digest;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    const auto layer = random_layer<TypeParam>(random, 3000);
    const auto numbers = [&]<class T>(const T&, Index count) {
      std::vector<T> result(static_cast<std::size_t>(count));
      for (T& number : result) number = static_cast<T>(static_cast<float>(random.between(-2000, 3000)) / 1024.0F);
      return result;
    };
    const Index parameters = layer->norm.parameters(), size = support::size_of(layer->shape);
    const auto weight = numbers(P(0), layer->has_weight ? parameters : 0), bias = numbers(P(0), layer->has_bias ? parameters : 0);
    layer->set_parameters(weight, bias);
    const auto x = numbers(S(0), size), dy = numbers(S(0), size);
    const auto results = Fixture::results_of(*layer, x, dy, layer->shape, {});
    digest.add(results.forward.y);
    digest.add(results.forward.mean);
    digest.add(results.forward.rstd);
    digest.add(results.backward.dx);
    digest.add(results.backward.dweight);
    digest.add(results.backward.dbias);
    digest.add(results.infer);
    digest.add(results.running.mean);
    digest.add(results.running.variance);
  }
  std::printf("digest %s %016llx\n", support::KindNames::GetName<TypeParam>(0).c_str(), static_cast<unsigned long long>(digest.hash));
}

}  // namespace
