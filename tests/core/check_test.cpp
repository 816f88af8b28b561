// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>

#include <tensornorm/core/check.hpp>

#include <limits>
#include <sstream>
#include <string>

namespace tensornorm {
namespace {

constexpr Call kCall{"Layer", "call"};

template <class Error, class F>
std::string text_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

std::string text_of(const ShapeText& shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

TEST(ShapeText, PrintsAsAList) {
  const Index extents[] = {2, 4, 5, 5};
  EXPECT_EQ(text_of(ShapeText{extents, 4}), "[2,4,5,5]");
  EXPECT_EQ(text_of(ShapeText{extents, 1}), "[2]");
  EXPECT_EQ(text_of(ShapeText{extents, 0}), "[]");
}

TEST(Fail, NamesLayerAndCallAndJoinsTheParts) {
  const Index extents[] = {2, 3};
  EXPECT_EQ(text_of<std::invalid_argument>([&] {
              fail(kCall, "expected ", 3, ", got ", ShapeText{extents, 2});
            }),
            "Layer::call: expected 3, got [2,3]");
  EXPECT_EQ(text_of<std::logic_error>([] { fail<std::logic_error>(kCall, "order"); }), "Layer::call: order");
}

TEST(CheckEps, TakesWhatIsFiniteAndNotNegative) {
  for (const double eps : {0.0, 1e-300, 1e-5, 1e300}) EXPECT_NO_THROW(check_eps(kCall, eps));
  EXPECT_EQ(text_of<std::invalid_argument>([] { check_eps(kCall, -1); }),
            "Layer::call: expected eps to be finite and >= 0, got -1");
  for (const double eps : {-1e-300, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    EXPECT_THROW(check_eps(kCall, eps), std::invalid_argument);
}

TEST(IsFromZeroTo, IsDecidedByBits) {
  using Limits = std::numeric_limits<double>;
  for (const double x : {0.0, -0.0, Limits::denorm_min(), 0.5, 1.0}) EXPECT_TRUE(is_from_zero_to(1, x)) << x;
  for (const double x : {-Limits::denorm_min(), -1.0, 1 + Limits::epsilon(), Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN(), -Limits::quiet_NaN()})
    EXPECT_FALSE(is_from_zero_to(1, x)) << x;
  EXPECT_TRUE(is_from_zero_to(Limits::infinity(), Limits::infinity()));
  EXPECT_FALSE(is_from_zero_to(Limits::infinity(), Limits::quiet_NaN()));
}

TEST(CheckedSize, IsTheProductOfExtentsOfOneAndMore) {
  const Index good[] = {2, 3, 4}, zero[] = {2, 0}, negative[] = {-1, 2};
  EXPECT_EQ(checked_size(kCall, "shape", good, 3), 24);
  EXPECT_EQ(text_of<std::invalid_argument>([&] { checked_size(kCall, "shape", good, 0); }),
            "Layer::call: expected shape of at least one extent, got []");
  EXPECT_EQ(text_of<std::invalid_argument>([&] { checked_size(kCall, "shape", zero, 2); }),
            "Layer::call: expected shape[1] >= 1, got 0 in [2,0]");
  EXPECT_EQ(text_of<std::invalid_argument>([&] { checked_size(kCall, "shape", negative, 2); }),
            "Layer::call: expected shape[0] >= 1, got -1 in [-1,2]");
}

// The bytes of doubles count, not the elements.
TEST(CheckedSize, OverflowIsALengthError) {
  constexpr Index most = std::numeric_limits<Index>::max() / Index(sizeof(double));
  EXPECT_EQ(checked_size(kCall, "shape", &most, 1), most);
  constexpr Index root = Index{1} << (std::numeric_limits<Index>::digits + 1) / 2;
  const Index more[] = {most + 1}, product[] = {root / 2, root / 2}, wraps[] = {root, root};
  EXPECT_THROW(checked_size(kCall, "shape", more, 1), std::length_error);
  EXPECT_THROW(checked_size(kCall, "shape", product, 2), std::length_error);
  EXPECT_EQ(text_of<std::length_error>([&] { checked_size(kCall, "shape", wraps, 2); }),
            "Layer::call: expected shape to have a representable number of elements, got [" + std::to_string(root) + "," +
                std::to_string(root) + "]");
}

TEST(CheckedFeatures, AreOneAndMore) {
  EXPECT_EQ(checked_features(kCall, "num_features", 7), 7);
  EXPECT_EQ(text_of<std::invalid_argument>([] { checked_features(kCall, "num_features", 0); }),
            "Layer::call: num_features must be >= 1, got 0");
}

}  // namespace
}  // namespace tensornorm
