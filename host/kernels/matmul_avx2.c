/* The fast matmul for x86 with AVX2, and the choice of the best version. */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("avx2")
#define NAMED(name) avx2_##name
#include "matmul_parts.h"

int vnni_matmul_tile(const struct job *job, int64_t tile, struct sums *sums);

int fast_matmul_fits(const struct matmul *m) {
    return __builtin_cpu_supports("avx2") && m->ports == 4 && m->port_bytes == 16 &&
           m->group >= BLOCK;
}

int fast_matmul_tile(const struct job *job, int64_t tile, struct sums *sums) {
    if (kernels_preferred() == 0 && __builtin_cpu_supports("avx512vnni") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
        return vnni_matmul_tile(job, tile, sums);
    return avx2_matmul_tile(job, tile, sums);
}

#else
#include "matmul.h"

int fast_matmul_fits(const struct matmul *m) {
    (void)m;
    return 0;
}

int fast_matmul_tile(const struct job *job, int64_t tile, struct sums *sums) {
    (void)job, (void)tile, (void)sums;
    return 0;
}

#endif
