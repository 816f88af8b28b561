// SPDX-License-Identifier: MIT
#include "cases.hpp"

#include <optional>
#include <utility>

namespace bench {
namespace {

struct Goals {
  double eval = 0, forward = 0, backward = 0;
};

struct Row {
  Layer layer;
  std::vector<long> shape;
  Goals first;                               ///< channels first
  std::optional<Goals> last = std::nullopt;  ///< channels last; not measured without
  long groups = 0;
  bool apart = false;  ///< measured once more as a batch whose images' means are apart, as those of activations are: sums of short slices
                       ///< about the first one's mean reach further there
};

// Ratios to memcpy in float, RowMajor, on one core with AVX-512 (see README.md).
const std::vector<Row>& rows() {
  static const std::vector<Row> table = {
      {Layer::batch_norm, {32, 64, 112, 112}, {0.85, 1.25, 1.8}, Goals{0.85, 1.3, 2.1}},
      {Layer::batch_norm, {32, 256, 56, 56}, {0.85, 1.25, 1.8}, Goals{0.85, 1.5, 2.1}},
      {Layer::batch_norm, {32, 512, 28, 28}, {1.05, 1.5, 2.4}, Goals{0.85, 1.5, 2.1}},
      {Layer::batch_norm, {32, 1024, 14, 14}, {1.05, 1.5, 2.4}, Goals{0.85, 1.5, 2.1}, 0, true},
      {Layer::batch_norm, {32, 2048, 7, 7}, {1.15, 2.0, 2.8}, Goals{1.0, 1.7, 2.4}, 0, true},
      {Layer::batch_norm, {8, 64, 32, 32}, {1.05, 1.45, 2.2}, Goals{1.0, 1.7, 2.4}, 0, true},
      {Layer::batch_norm, {1, 32, 112, 112}, {1.05, 1.45, 2.2}, Goals{1.0, 1.7, 2.4}},
      {Layer::batch_norm, {4, 32, 16, 56, 56}, {1.05, 1.5, 2.4}, Goals{0.85, 1.5, 2.1}},
      {Layer::batch_norm, {128, 1024}, {1.6, 1.8, 3.0}},
      {Layer::batch_norm, {4096, 256}, {1.6, 1.8, 3.0}},
      {Layer::batch_norm, {8, 512}, {}},  // mostly statistics
      {Layer::batch_norm, {16, 64, 16000}, {0.85, 1.2, 1.7}},
      {Layer::layer_norm, {4096, 768}, {0, 1.05, 2.2}},
      {Layer::layer_norm, {2048, 4096}, {0, 1.15, 2.2}},
      {Layer::layer_norm, {64, 65536}, {0, 1.35, 2.2}},
      {Layer::layer_norm, {512, 1024}, {0, 1.4, 2.3}},
      {Layer::layer_norm, {1576, 768}, {0, 1.4, 2.3}},
      {Layer::rms_norm, {2048, 4096}, {0, 1.1, 2.0}},
      {Layer::rms_norm, {1, 4096}, {}},
      {Layer::instance_norm, {4, 64, 256, 256}, {0, 1.2, 1.8}, Goals{}},
      {Layer::instance_norm, {8, 128, 64, 64}, {0, 1.35, 1.8}, Goals{}},
      {Layer::group_norm, {8, 128, 64, 64}, {0, 1.3, 2.3}, Goals{0, 1.7, 2.6}, 32},
      {Layer::group_norm, {2, 320, 64, 64}, {0, 1.6, 2.3}, Goals{0, 1.7, 2.6}, 32},
      {Layer::group_norm, {2, 1280, 8, 8}, {0, 1.6, 2.3}, Goals{0, 1.7, 2.6}, 32},
  };
  return table;
}

struct SmallRow {
  std::vector<long> shape;
  bool fixed_size;
  Goals microseconds;
};

// LayerNorm calls that last less than a microsecond or two: time a call, in microseconds.
const std::vector<SmallRow>& small_rows() {
  static const std::vector<SmallRow> table = {
      {{32, 64}, false, {0, 0.6, 0.31}}, {{16, 512}, false, {0, 0.9, 0.87}}, {{1, 4096}, false, {0, 0.42, 1.9}},
      {{1, 16}, false, {0, 0.05, 0.15}}, {{1, 16}, true, {0, 0.02, 0}},
  };
  return table;
}

double goal_of(const Goals& goals, Job job) {
  return job == Job::eval ? goals.eval : job == Job::forward ? goals.forward : goals.backward;
}

/// One base shape in all storage orders and precisions, for each of its jobs.
void append_variants(std::vector<Case>& cases, const Case& base, const std::vector<Job>& jobs, const Goals& ratios,
                     const Goals& microseconds) {
  for (Precision precision : {Precision::float32, Precision::float64}) {
    for (Storage storage : {Storage::row_major, Storage::col_major}) {
      // double is to stay within 1.1 times the ratios of float, a ColMajor tensor within 1.5 times those of RowMajor.
      const bool wide = precision == Precision::float64, col_major = storage == Storage::col_major;
      const double allowance = (wide ? 1.1 : 1.0) * (col_major ? 1.5 : 1.0);
      for (Job job : jobs) {
        Case c = base;
        c.precision = precision;
        c.storage = storage;
        c.job = job;
        c.goal = allowance * goal_of(ratios, job);
        if (!wide && !col_major) c.goal_microseconds = goal_of(microseconds, job);
        cases.push_back(std::move(c));
      }
    }
  }
}

std::string join(const std::vector<long>& values, const char* separator) {
  std::string text;
  for (long value : values) text += (text.empty() ? "" : separator) + std::to_string(value);
  return text;
}

std::string layer_name(const Case& c) {
  const std::size_t spatial_axes = c.shape.size() > 2 ? c.shape.size() - 2 : 1;
  const std::string dimensions = std::to_string(spatial_axes) + "d";
  switch (c.layer) {
    case Layer::batch_norm:
      return "BatchNorm" + dimensions;
    case Layer::instance_norm:
      return "InstanceNorm" + dimensions;
    case Layer::group_norm:
      return "GroupNorm(" + std::to_string(c.groups) + ")";
    case Layer::layer_norm:
      return "LayerNorm";
    case Layer::rms_norm:
      return "RMSNorm";
  }
  return {};
}

std::string axes_name(const Case& c) {
  const bool last = c.channels == Channels::last;
  switch (c.shape.size()) {
    case 2:
      return c.layer == Layer::batch_norm ? "NC" : "rows";
    case 3:
      return last ? "NLC" : "NCL";
    case 4:
      return last ? "NHWC" : "NCHW";
    default:
      return last ? "NDHWC" : "NCDHW";
  }
}

}  // namespace

long Case::count() const {
  long n = 1;
  for (long extent : shape) n *= extent;
  return n;
}

long Case::spatial() const { return count() / (shape[0] * shape[1]); }

long Case::bytes() const { return count() * (precision == Precision::float32 ? 4 : 8); }

std::vector<long> Case::tensor_shape() const {
  if (channels == Channels::first) return shape;
  std::vector<long> moved = {shape[0]};
  moved.insert(moved.end(), shape.begin() + 2, shape.end());
  moved.push_back(shape[1]);
  return moved;
}

std::string Case::name() const {
  const char* job_name = job == Job::forward ? "forward" : job == Job::eval ? "eval" : "backward";
  return layer_name(*this) + "/" + join(tensor_shape(), "x") + (fixed_size ? "-fixed" : "") + (apart ? "-apart" : "") + "/" + axes_name(*this) +
         "/" + (precision == Precision::float32 ? "float" : "double") + "/" +
         (storage == Storage::row_major ? "RowMajor" : "ColMajor") + "/" + job_name;
}

std::vector<Case> suite() {
  std::vector<Case> cases;
  const Goals none = {};
  for (const Row& row : rows()) {
    // One image is what a network is served with; it is never trained on.
    const bool only_eval = row.layer == Layer::batch_norm && row.shape[0] == 1;
    std::vector<Job> jobs;
    if (!only_eval) jobs = {Job::forward, Job::backward};
    if (row.layer == Layer::batch_norm) jobs.push_back(Job::eval);
    for (Channels channels : {Channels::first, Channels::last}) {
      if (channels == Channels::last && !row.last) continue;
      const Case base = {.layer = row.layer, .shape = row.shape, .channels = channels, .groups = row.groups};
      const Goals& goals = channels == Channels::first ? row.first : *row.last;
      append_variants(cases, base, jobs, goals, none);
      if (!row.apart) continue;
      Case apart = base;
      apart.apart = true;
      apart.goal = goals.forward;
      cases.push_back(std::move(apart));
    }
  }
  for (const SmallRow& row : small_rows()) {
    const Case base = {.layer = Layer::layer_norm, .shape = row.shape, .fixed_size = row.fixed_size};
    append_variants(cases, base, {Job::forward, Job::eval, Job::backward}, none, row.microseconds);
  }
  return cases;
}

std::vector<Limit> limits() {
  const std::vector<std::string> copy = {"memcpy"}, triads = {"triad", "streaming_triad"};
  return {
      {"LayerNorm/4096x768/rows/float/RowMajor/forward", copy, 1.3},
      {"BatchNorm2d/32x64x112x112/NCHW/float/RowMajor/forward", copy, 1.5},
      {"BatchNorm2d/32x112x112x64/NHWC/float/RowMajor/forward", copy, 1.9},
      {"BatchNorm2d/32x2048x7x7/NCHW/float/RowMajor/forward", copy, 3.0},
      {"BatchNorm2d/32x2048x7x7/NCHW/float/ColMajor/forward", copy, 3.0},
      {"BatchNorm2d/32x64x112x112/NCHW/float/RowMajor/eval", copy, 1.2},
      {"BatchNorm2d/32x112x112x64/NHWC/float/RowMajor/eval", copy, 1.2},
      {"LayerNorm/4096x768/rows/float/RowMajor/backward", triads, 1.7},
      {"BatchNorm2d/32x64x112x112/NCHW/float/RowMajor/backward", triads, 1.7},
      {"BatchNorm2d/32x112x112x64/NHWC/float/RowMajor/backward", triads, 2.2},
  };
}

}  // namespace bench
