/* The vector passes for AVX2 with FMA and F16C. */
#if defined(__x86_64__)
#include "ops/cpu/simd_avx2.h"

#define KERNELS kernels_avx2
#define KERNELS_NAME "avx2"
#define TRANSPOSE_PAIRS NULL
#define GEMM_BF16 NULL
#include "ops/cpu/kernels_impl.h"
#else
#include "ops/cpu/cpu_internal.h"

const struct kernels *kernels_avx2(void)
{
    return NULL;
}
#endif
