/* Sixteen floats at a time, the same on every machine.
 *
 * Every sum runs in 16 partial sums that are joined in one fixed tree, every multiply-add is fused
 * where it says so and nowhere else (-ffp-contract=off), and exp is a polynomial of its own. So x86
 * and ARM give the same bits, and a token's values do not depend on what shares its pass.
 */

#ifndef LANES_H
#define LANES_H

#include <math.h>
#include <string.h>

#include "kernels.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#define VECTOR_BYTES 32
#elif defined(__aarch64__)
#include <arm_neon.h>
#define VECTOR_BYTES 16
#else
#define VECTOR_BYTES 16
#endif

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vector_bits __attribute__((vector_size(VECTOR_BYTES)));
enum { WIDTH = VECTOR_BYTES / 4, PARTS = LANES / WIDTH };

/* 16 floats in as many registers as they take. Named members, no array: an array that is indexed
 * stays in memory with some compilers. */
#if VECTOR_BYTES == 64
struct lanes {
    vector a;
};
struct lane_bits {
    vector_bits a;
};
#define EACH(DO) DO(a)
#elif VECTOR_BYTES == 32
struct lanes {
    vector a, b;
};
struct lane_bits {
    vector_bits a, b;
};
#define EACH(DO) DO(a) DO(b)
#else
struct lanes {
    vector a, b, c, d;
};
struct lane_bits {
    vector_bits a, b, c, d;
};
#define EACH(DO) DO(a) DO(b) DO(c) DO(d)
#endif

/* x * y + z, rounded once. */
INLINED vector fused(vector x, vector y, vector z) {
#if VECTOR_BYTES == 64
    return (vector)_mm512_fmadd_ps((__m512)x, (__m512)y, (__m512)z);
#elif VECTOR_BYTES == 32
    return (vector)_mm256_fmadd_ps((__m256)x, (__m256)y, (__m256)z);
#elif defined(__aarch64__)
    return (vector)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#else
    for (int i = 0; i < WIDTH; i++)
        z[i] = fmaf(x[i], y[i], z[i]);
    return z;
#endif
}

INLINED vector spread(float value) {
#if VECTOR_BYTES == 64
    return (vector)_mm512_set1_ps(value);
#elif VECTOR_BYTES == 32
    return (vector)_mm256_set1_ps(value);
#elif defined(__aarch64__)
    return (vector)vdupq_n_f32(value);
#else
    return (vector){value, value, value, value};
#endif
}

/* 2 - x * y, rounded once. */
INLINED vector two_less(vector x, vector y) {
#if VECTOR_BYTES == 64
    return (vector)_mm512_fnmadd_ps((__m512)x, (__m512)y, (__m512)spread(2.0f));
#elif VECTOR_BYTES == 32
    return (vector)_mm256_fnmadd_ps((__m256)x, (__m256)y, (__m256)spread(2.0f));
#elif defined(__aarch64__)
    return (vector)vrecpsq_f32((float32x4_t)x, (float32x4_t)y);
#else
    return fused(-x, y, spread(2.0f));
#endif
}

/* The larger of two values; NaN in x stays. */
INLINED vector at_least(vector x, vector bound) {
#if VECTOR_BYTES == 64
    return (vector)_mm512_max_ps((__m512)bound, (__m512)x);
#elif VECTOR_BYTES == 32
    return (vector)_mm256_max_ps((__m256)bound, (__m256)x);
#elif defined(__aarch64__)
    return (vector)vmaxq_f32((float32x4_t)x, (float32x4_t)bound);
#else
    for (int i = 0; i < WIDTH; i++)
        x[i] = x[i] < bound[i] ? bound[i] : x[i];
    return x;
#endif
}

/* The smaller of two values; NaN in x stays. */
INLINED vector at_most(vector x, vector bound) {
#if VECTOR_BYTES == 64
    return (vector)_mm512_min_ps((__m512)bound, (__m512)x);
#elif VECTOR_BYTES == 32
    return (vector)_mm256_min_ps((__m256)bound, (__m256)x);
#elif defined(__aarch64__)
    return (vector)vminq_f32((float32x4_t)x, (float32x4_t)bound);
#else
    for (int i = 0; i < WIDTH; i++)
        x[i] = x[i] > bound[i] ? bound[i] : x[i];
    return x;
#endif
}

INLINED vector_bits whole(vector values) { return __builtin_convertvector(values, vector_bits); }

INLINED vector floating(vector_bits values) { return __builtin_convertvector(values, vector); }

/* The nearest integers, ties to even, of values below 2**22: an addition rounds them. */
INLINED vector_bits rounded(vector values) {
#if defined(__aarch64__)
    return (vector_bits)vcvtnq_s32_f32((float32x4_t)values);
#else
    const vector magic = spread(12582912.0f);
    return whole((values + magic) - magic);
#endif
}

/* x where the mask is all ones, else y. */
INLINED vector chosen(vector_bits mask, vector x, vector y) {
    return (vector)((mask & (vector_bits)x) | (~mask & (vector_bits)y));
}

INLINED struct lanes lanes_of(float value) {
    const vector all = spread(value);
    struct lanes result;
#define DO(p) result.p = all;
    EACH(DO)
#undef DO
    return result;
}

INLINED struct lanes load(const float *from) {
    struct lanes result;
#define DO(p) memcpy(&result.p, from, sizeof(vector)), from += WIDTH;
    EACH(DO)
#undef DO
    return result;
}

INLINED void store(float *to, struct lanes values) {
#define DO(p) memcpy(to, &values.p, sizeof(vector)), to += WIDTH;
    EACH(DO)
#undef DO
}

/* x * y + z, rounded once. */
INLINED struct lanes multiply_add(struct lanes x, struct lanes y, struct lanes z) {
#define DO(p) z.p = fused(x.p, y.p, z.p);
    EACH(DO)
#undef DO
    return z;
}

/* x * y + z with one y. */
INLINED struct lanes multiply_add_one(struct lanes x, vector y, struct lanes z) {
#define DO(p) z.p = fused(x.p, y, z.p);
    EACH(DO)
#undef DO
    return z;
}

INLINED struct lanes add(struct lanes x, struct lanes y) {
#define DO(p) x.p += y.p;
    EACH(DO)
#undef DO
    return x;
}

INLINED struct lanes subtract(struct lanes x, struct lanes y) {
#define DO(p) x.p -= y.p;
    EACH(DO)
#undef DO
    return x;
}

INLINED struct lanes multiply(struct lanes x, struct lanes y) {
#define DO(p) x.p *= y.p;
    EACH(DO)
#undef DO
    return x;
}

/* The larger of two lanes; NaN in x stays. */
INLINED struct lanes larger(struct lanes x, struct lanes y) {
#define DO(p) x.p = at_least(x.p, y.p);
    EACH(DO)
#undef DO
    return x;
}

/* The smaller of two lanes; NaN in x stays. */
INLINED struct lanes smaller(struct lanes x, struct lanes y) {
#define DO(p) x.p = at_most(x.p, y.p);
    EACH(DO)
#undef DO
    return x;
}

INLINED vector_bits larger_bits(vector_bits x, vector_bits y) {
#if defined(__aarch64__)
    return (vector_bits)vmaxq_s32((int32x4_t)x, (int32x4_t)y);
#else
    return (vector_bits)chosen(x > y, (vector)x, (vector)y);
#endif
}

/* Whether a lane is NaN. */
INLINED int any_nan(struct lanes values) {
    float all[LANES];
    int found = 0;
    store(all, values);
    for (int i = 0; i < LANES; i++)
        found |= all[i] != all[i];
    return found;
}

/* The sum of all lanes: halves, quarters, eighths, pairs. */
INLINED float total(struct lanes values) {
    float sums[LANES];
    store(sums, values);
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++)
            sums[i] += sums[i + width];
    return sums[0];
}

INLINED float largest(struct lanes values) {
#define DO(p) values.a = at_least(values.a, values.p);
    EACH(DO)
#undef DO
    float found = values.a[0];
    for (int i = 1; i < WIDTH; i++)
        found = values.a[i] > found ? values.a[i] : found;
    return found;
}

INLINED int32_t largest_bits(struct lane_bits values) {
#define DO(p) values.a = larger_bits(values.a, values.p);
    EACH(DO)
#undef DO
#if defined(__aarch64__)
    return vmaxvq_s32((int32x4_t)values.a);
#else
    int32_t found = values.a[0];
    for (int i = 1; i < WIDTH; i++)
        found = values.a[i] > found ? values.a[i] : found;
    return found;
#endif
}

INLINED uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

INLINED float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* The nearest integer, ties to even, of a value below 2**22: an addition rounds it. */
INLINED float nearest(float value) { return (value + 12582912.0f) - 12582912.0f; }

#endif
