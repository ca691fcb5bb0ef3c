// Matrix products over threads: what training is made of. C (+)= op(A) · op(B), inputs float32 or bfloat16, sums and C float32.
//
//   Y = X · Wᵀ     transpose_b               dX = dY · W     neither               dW = dYᵀ · X     transpose_a
//
// Each thread makes its own part of C from its own packed panels: there is no barrier, nothing is allocated, and the bits of C
// are those of one thread. Several products, as those of the experts of a layer, are split as one list of work, so that threads
// stay busy however rows fall to experts. Rejected: panels packed once for all threads, which saves a few per cent on two
// cores and costs a barrier a block.
#pragma once

#include <cstddef>
#include <span>

#include "backends/cpu/kernels.h"
#include "core/threads.h"

namespace moe::cpu {

// Bytes that n_threads need together; a multiple of 64.
size_t gemm_scratch_bytes(const KernelTable& kernels, int n_threads);

// Rows and columns of C alone.
GemmArgs gemm_block(const GemmArgs& product, DType type, Range rows, Range columns);

// What gemm_part() makes of a single product, for callers that have more to do with their rows and columns of C.
GemmArgs gemm_piece(const KernelTable& kernels, DType type, const GemmArgs& product, int thread, int n_threads);

// One product by this thread alone. Its `scratch` is used.
void gemm_alone(const KernelTable& kernels, DType type, const GemmArgs& product);

// The share of thread `thread` of `n_threads`, for callers that already run on all threads. Products must not overlap in what
// they write; `scratch` of each is not looked at: `scratch` here is gemm_scratch_bytes(kernels, 1) of this thread's own,
// aligned to 64. type: kF32 or kBF16, that of A and B.
void gemm_part(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, int thread, int n_threads,
               void* scratch);

// All shares; scratch: gemm_scratch_bytes(kernels, pool.size()), aligned to 64.
void gemm(const KernelTable& kernels, DType type, std::span<const GemmArgs> products, ThreadPool& pool, void* scratch);

}  // namespace moe::cpu
