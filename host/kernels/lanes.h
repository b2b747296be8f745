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

#if defined(__AVX2__) && defined(__FMA__)
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

/* 16 floats in as many registers as they take. */
struct lanes {
    vector part[PARTS];
};

INLINED vector fused(vector a, vector b, vector c) {
#if defined(__AVX2__) && defined(__FMA__)
    return (vector)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vector)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    for (int i = 0; i < WIDTH; i++)
        c[i] = fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

INLINED vector spread(float value) {
    vector result;
    for (int i = 0; i < WIDTH; i++)
        result[i] = value;
    return result;
}

INLINED struct lanes lanes_of(float value) {
    struct lanes result;
    for (int i = 0; i < PARTS; i++)
        result.part[i] = spread(value);
    return result;
}

INLINED struct lanes load(const float *from) {
    struct lanes result;
    memcpy(&result, from, sizeof result);
    return result;
}

INLINED void store(float *to, struct lanes values) { memcpy(to, &values, sizeof values); }

/* a * b + c, rounded once. */
INLINED struct lanes multiply_add(struct lanes a, struct lanes b, struct lanes c) {
    for (int i = 0; i < PARTS; i++)
        c.part[i] = fused(a.part[i], b.part[i], c.part[i]);
    return c;
}

INLINED struct lanes add(struct lanes a, struct lanes b) {
    for (int i = 0; i < PARTS; i++)
        a.part[i] += b.part[i];
    return a;
}

INLINED struct lanes larger(struct lanes a, struct lanes b) {
    for (int i = 0; i < PARTS; i++) {
        const vector_bits mask = a.part[i] > b.part[i];
        a.part[i] =
            (vector)((mask & (vector_bits)a.part[i]) | (~mask & (vector_bits)b.part[i]));
    }
    return a;
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
    float all[LANES];
    store(all, values);
    for (int i = 1; i < LANES; i++)
        all[0] = all[i] > all[0] ? all[i] : all[0];
    return all[0];
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

/* exp(x) with a relative error below 2**-22; 0 below -87, exp(88) above 88.
 * Range reduction and polynomial: Cephes, expf.c (Moshier). */
INLINED float exponential(float x) {
    const float bounded = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = nearest(bounded * 1.44269504f);
    float rest = bounded - n * 0.693359375f;
    rest = rest - n * -2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * (rest * rest) + rest + 1.0f;
    const float power = float_of((uint32_t)((int32_t)n + 127) << 23);
    return x < -87.0f ? 0.0f : sum * power;
}

/* fp16 to fp32, exact, for finite patterns. */
INLINED float from_half(uint16_t half) {
    const float size = float_of((uint32_t)(half & 0x7FFF) << 13) * 0x1p112f;
    return float_of(bits_of(size) | (uint32_t)(half & 0x8000) << 16);
}

/* fp32 to fp16, to nearest even; what is larger than fp16 holds becomes its largest value. */
INLINED uint16_t to_half(float value) {
    const uint32_t bits = bits_of(value), size = bits & 0x7FFFFFFF, sign = bits >> 16 & 0x8000;
    const uint32_t small = bits_of(float_of(size) + 0.5f) - 0x3F000000; /* units of 2**-24 */
    const uint32_t normal = (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13;
    const uint32_t found = size < 0x38800000 ? small : size >= 0x477FF000 ? 0x7BFF : normal;
    return (uint16_t)(sign | found);
}

INLINED void halves_to_floats(const uint16_t *from, float *to, int64_t count) {
    int64_t i = 0;
#if defined(__AVX2__) && defined(__F16C__)
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#elif defined(__aarch64__)
    for (; i + 4 <= count; i += 4)
        vst1q_f32(to + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + i))));
#endif
    for (; i < count; i++)
        to[i] = from_half(from[i]);
}

#endif
