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

INLINED vector_bits whole(vector values) { return __builtin_convertvector(values, vector_bits); }

INLINED vector floating(vector_bits values) { return __builtin_convertvector(values, vector); }

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

INLINED struct lanes larger(struct lanes x, struct lanes y) {
#define DO(p) x.p = chosen(x.p > y.p, x.p, y.p);
    EACH(DO)
#undef DO
    return x;
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

/* The same of 16 values, bit for bit. */
INLINED vector exponential_part(vector x) {
    const vector_bits low = x < spread(-87.0f), high = x > spread(88.0f);
    const vector bounded = chosen(low, spread(-87.0f), chosen(high, spread(88.0f), x));
    const vector magic = spread(12582912.0f);
    const vector n = (bounded * spread(1.44269504f) + magic) - magic;
    vector rest = bounded - n * spread(0.693359375f);
    rest = rest - n * spread(-2.12194440e-4f);
    vector sum = spread(1.9875691500e-4f);
    sum = sum * rest + spread(1.3981999507e-3f);
    sum = sum * rest + spread(8.3334519073e-3f);
    sum = sum * rest + spread(4.1665795894e-2f);
    sum = sum * rest + spread(1.6666665459e-1f);
    sum = sum * rest + spread(5.0000001201e-1f);
    sum = sum * (rest * rest) + rest + spread(1.0f);
    const vector power = (vector)((whole(n) + 127) << 23);
    return (vector)(~low & (vector_bits)(sum * power));
}

INLINED struct lanes exponentials(struct lanes x) {
#define DO(p) x.p = exponential_part(x.p);
    EACH(DO)
#undef DO
    return x;
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

/* 16 values of fp16, exact. */
INLINED struct lanes load_halves(const uint16_t *from) {
    struct lanes result;
#if VECTOR_BYTES == 64
#define DO(p) result.p = (vector)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)from));
#elif VECTOR_BYTES == 32
#define DO(p) result.p = (vector)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)from)), from += 8;
#elif defined(__aarch64__)
#define DO(p) result.p = (vector)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))), from += 4;
#else
#define DO(p)                                                                                      \
    for (int i = 0; i < WIDTH; i++)                                                                \
        result.p[i] = from_half(*from++);
#endif
    EACH(DO)
#undef DO
    return result;
}

/* The low bytes of 16 integers. */
INLINED void store_bytes(int8_t *to, struct lane_bits from) {
#if defined(__aarch64__)
    const int16x8_t low = vcombine_s16(vmovn_s32((int32x4_t)from.a), vmovn_s32((int32x4_t)from.b));
    const int16x8_t high = vcombine_s16(vmovn_s32((int32x4_t)from.c), vmovn_s32((int32x4_t)from.d));
    vst1q_s8(to, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
#else
    typedef int8_t narrow __attribute__((vector_size(WIDTH)));
#define DO(p)                                                                                      \
    {                                                                                              \
        const narrow bytes = __builtin_convertvector(from.p, narrow);                              \
        memcpy(to, &bytes, sizeof bytes), to += WIDTH;                                             \
    }
    EACH(DO)
#undef DO
#endif
}

/* 16 values of int8. */
INLINED struct lanes load_bytes(const int8_t *from) {
#if defined(__aarch64__)
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (struct lanes){(vector)vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                          (vector)vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                          (vector)vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                          (vector)vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
#else
    typedef int8_t narrow __attribute__((vector_size(WIDTH)));
    struct lanes result;
    narrow bytes;
#define DO(p)                                                                                      \
    memcpy(&bytes, from, sizeof bytes), from += WIDTH;                                             \
    result.p = __builtin_convertvector(bytes, vector);
    EACH(DO)
#undef DO
    return result;
#endif
}

INLINED void halves_to_floats(const uint16_t *from, float *to, int64_t count) {
    int64_t i = 0;
#if VECTOR_BYTES > 16
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
