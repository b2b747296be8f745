/* The float kernels for every processor, and the choice of the best version. */

#include <stdlib.h>

#define NAMED(name) plain_##name
#include "attention_parts.h"
#include "choose_parts.h"
#include "layer_parts.h"

#include "versions.h"

static int wanted; /* 0: the best; for tests 1: that of every processor, 2: at most AVX2 */

int kernels_preferred(void) { return wanted; }
void kernels_prefer(int version) { wanted = version; }

/* x86 with AVX2, FMA and F16C (since 2013) or AVX-512 has versions of its own, with the same
 * results. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define CHOSEN(name, ...)                                                                          \
    return (use_avx512() ? avx512_##name : use_avx2() ? avx2_##name : plain_##name)(__VA_ARGS__)

static int use_avx2(void) {
    return wanted != 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static int use_avx512(void) {
    return !wanted && use_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq");
}
#else
#define CHOSEN(name, ...) return plain_##name(__VA_ARGS__)
#endif

int kernels_abi(void) { return ABI; }

int64_t kernels_norm(const struct norm *n, int tokens, int first, int count) {
    CHOSEN(norm, n, tokens, first, count);
}
int64_t kernels_swiglu(const struct swiglu *s, int tokens) { CHOSEN(swiglu, s, tokens); }
int64_t kernels_attend(const struct attention *a, int tokens, int64_t start) {
    CHOSEN(attend, a, tokens, start);
}
void kernels_gather(const struct table *t, const int64_t *ids, int count, float *out) {
    CHOSEN(gather, t, ids, count, out);
}
void kernels_results(const struct source *from, int tokens, int64_t columns, float *out) {
    CHOSEN(results, from, tokens, columns, out);
}
int64_t kernels_activations(const struct sink *to, int tokens, const float *values, float *row) {
    CHOSEN(activations, to, tokens, values, row);
}
int64_t kernels_largest(const float *scores, int64_t count) { CHOSEN(largest_of, scores, count); }
int64_t kernels_draw(const float *scores, int64_t count, const struct drawing *d) {
    CHOSEN(draw, scores, count, d);
}

/* setuptools names this library as a Python extension module; ctypes opens it, nobody imports it. */
void *PyInit__kernels(void) { return NULL; }
