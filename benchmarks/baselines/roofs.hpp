// SPDX-License-Identifier: MIT
/// What the memory allows: plain sweeps over bytes, with all the width the building machine has.
/// Every range is a whole number of cache lines long, as a Buffer is, and all of a call begin as far past one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

/// to = from, past the caches.
void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes);
/// to = a + b: two tensors read and one written, the traffic of a backward pass.
void triad(std::byte* to, const std::byte* a, const std::byte* b, std::size_t bytes);
/// The same, past the caches.
void streaming_triad(std::byte* to, const std::byte* a, const std::byte* b, std::size_t bytes);
/// Reads everything once: whoever uses y next.
std::uint64_t read_all(const std::byte* from, std::size_t bytes);

}  // namespace bench
