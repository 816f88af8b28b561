// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <latch>
#include <tensornorm/core/tensor.hpp>

namespace tensornorm {

/// Below this many bytes per thread, waking the thread costs more than it brings.
inline constexpr Index kBytesPerThread = Index{1} << 20;

/// The first of `pieces` that share i of `shares` takes; their number for the share after the last.
inline Index first_of_share(Index pieces, Index i, Index shares) { return Index(std::int64_t(pieces) * i / shares); }

/// A device of Eigen's with a thread pool behind it (Eigen::ThreadPoolDevice, after #define EIGEN_USE_THREADS).
template <class D>
concept ThreadPoolLike = requires(const D& device, std::function<void()> task) {
  device.getPool()->Schedule(task);
  { device.numThreads() } -> std::convertible_to<int>;
  { device.currentThreadId() } -> std::convertible_to<int>;
};

/// Any class but what Eigen computes with and those that say they are something else (SavedStats): what is no device of ours is then
/// refused with a sentence.
template <class D>
concept DeviceArgument = std::is_class_v<D> && !is_none<D> && !requires { typename D::Scalar; } && !requires { typename D::NotADevice; };

/// What a call can run on.
template <class D>
concept HostDevice = ThreadPoolLike<D> || std::is_same_v<D, Eigen::DefaultDevice>;

template <class D>
constexpr bool require_host_device() {
  static_assert(HostDevice<D>,
                "tensornorm: expected Eigen::DefaultDevice or Eigen::ThreadPoolDevice (after #define EIGEN_USE_THREADS); "
                "tensors of other devices, a GPU's among them, are not supported");
  return HostDevice<D>;
}

/// The number of threads worth using for `pieces` independent pieces of `bytes` bytes in all; 1 inside a task of the pool.
template <class Device>
Index useful_threads([[maybe_unused]] const Device& device, [[maybe_unused]] Index pieces, [[maybe_unused]] Index bytes) {
  if constexpr (ThreadPoolLike<Device>) {
    if (device.currentThreadId() >= 0) return 1;
    return std::max<Index>(1, std::min({Index(device.numThreads()), pieces, bytes / kBytesPerThread}));
  } else {
    return 1;
  }
}

/// Calls body(worker, first, last) so that [0, pieces) is covered once; worker < threads names a share of the scratch memory.
///
/// body must be noexcept and its results independent of the split: the same bits come out for any number of threads. The caller waits for
/// its tasks, and must hold no lock that another task of the pool waits for.
///
/// Not by Eigen's parallelFor: it allocates as it goes, and one that fails throws past tasks that still use the caller's stack. A task of
/// one pointer needs no memory, and whoever comes first takes the next share, the caller too.
template <class Device, class Body>
void parallel_for([[maybe_unused]] const Device& device, Index threads, Index pieces, const Body& body) noexcept {
  static_assert(std::is_nothrow_invocable_v<const Body&, Index, Index, Index>, "tensornorm: what runs on a pool must not throw");
  if (threads <= 1) {
    body(Index{0}, Index{0}, pieces);
    return;
  }
  if constexpr (ThreadPoolLike<Device>) {
    struct Shares {
      const Body& body;
      Index threads, pieces;
      std::latch finished;
      std::atomic<Index> next{0};
      void work() {
        for (Index i = next++; i < threads; i = next++) body(i, first_of_share(pieces, i, threads), first_of_share(pieces, i + 1, threads));
      }
    } shares{body, threads, pieces, std::latch(std::ptrdiff_t(threads - 1))};
    for (Index i = 1; i < threads; ++i) {
      device.getPool()->Schedule([all = &shares] {
        all->work();
        all->finished.count_down();
      });
    }
    shares.work();
    shares.finished.wait();
  }
}

/// The threads of a device, without its type: for the parts of a job that has more to do before and after them.
class Crew {
 public:
  /// No thread but the caller's.
  Crew() = default;
  /// `device` must outlive the crew.
  template <class Device>
  Crew(const Device& device, Index threads)
      : device_(&device), threads_(threads), share_([](const void* on, Index among, Index parts, const void* body, Part part) noexcept {
          parallel_for(*static_cast<const Device*>(on), among, parts, [=](Index, Index first, Index last) noexcept {
            for (Index i = first; i < last; ++i) part(body, i);
          });
        }) {}
  /// Calls body(i), which must be noexcept, for every i < parts; one thread alone takes them in this order.
  template <class Body>
  void for_each(Index parts, const Body& body) const noexcept {
    if (threads_ > 1 && parts > 1) {
      share_(device_, threads_, parts, &body, [](const void* self, Index i) noexcept { (*static_cast<const Body*>(self))(i); });
    } else {
      for (Index i = 0; i < parts; ++i) body(i);
    }
  }

 private:
  using Part = void (*)(const void* body, Index part) noexcept;
  const void* device_ = nullptr;
  Index threads_ = 1;
  void (*share_)(const void* device, Index threads, Index parts, const void* body, Part part) noexcept = nullptr;
};

/// The crew for the cuts of each piece, where there are fewer pieces than threads to be used: `threads` is then 1.
template <class Device>
Crew crew_for_cuts(const Device& device, Index cuts, Index bytes, Index& threads) {
  const Index crew = useful_threads(device, cuts, bytes);
  if (crew <= threads) return {};
  threads = 1;
  return {device, crew};
}

}  // namespace tensornorm
