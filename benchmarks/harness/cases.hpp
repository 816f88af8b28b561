// SPDX-License-Identifier: MIT
/// What is measured: shapes, jobs and the ratios to reach. Data only, and nothing included but the standard library, so
/// that a contender (a baseline, another library) needs nothing else to join.
#pragma once

#include <string>
#include <vector>

namespace bench {

enum class Layer { batch_norm, layer_norm, rms_norm, instance_norm, group_norm };
/// Where the channel axis of a tensor stands: (N, C, spatial...) or (N, spatial..., C).
enum class Channels { first, last };
enum class Storage { row_major, col_major };
enum class Precision { float32, float64 };
/// forward: batch statistics, saved for backward. eval: running statistics. backward: dx and parameter gradients.
enum class Job { forward, eval, backward };

struct Case {
  Layer layer;
  std::vector<long> shape;  ///< (N, C, spatial...), whatever channels says; (rows, columns) for layer_norm and rms_norm
  Channels channels = Channels::first;
  long groups = 0;          ///< group_norm only
  bool fixed_size = false;  ///< extents known at compile time
  bool apart = false;       ///< the images' means are deviations apart, not equal; RowMajor only
  Storage storage = Storage::row_major;
  Precision precision = Precision::float32;
  Job job = Job::forward;
  double goal = 0;               ///< time to reach, as a ratio to memcpy of x; 0: none set
  double goal_microseconds = 0;  ///< for calls too short for a ratio to mean anything; 0: none set

  long count() const;
  long spatial() const;                    ///< elements of one channel of one image
  long bytes() const;                      ///< of x
  std::vector<long> tensor_shape() const;  ///< the shape with the channel axis where channels says
  /// "BatchNorm2d/32x64x112x112/NHWC/float/RowMajor/forward"
  std::string name() const;
};

/// The shape suite: every shape with every channel order, storage order, precision and job it is measured with.
std::vector<Case> suite();

/// A promise: `case_name` takes at most `ratio` times as long as the fastest of `yardsticks`.
struct Limit {
  std::string case_name;
  std::vector<std::string> yardsticks;
  double ratio;
};
std::vector<Limit> limits();

}  // namespace bench
