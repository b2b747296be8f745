/* fp16 and int8 in memory, floats in registers. */

#ifndef FORMATS_H
#define FORMATS_H

#include "lanes.h"

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
    struct lanes result;
#if VECTOR_BYTES == 64
    const __m128i bytes = _mm_loadu_si128((const void *)from);
    result.a = (vector)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
#elif VECTOR_BYTES == 32
#define DO(p)                                                                                      \
    result.p = (vector)_mm256_cvtepi32_ps(                                                         \
        _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from))),                             \
    from += 8;
    EACH(DO)
#undef DO
#elif defined(__aarch64__)
    const int8x16_t bytes = vld1q_s8(from);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    result = (struct lanes){(vector)vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))),
                            (vector)vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
                            (vector)vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))),
                            (vector)vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))};
#else
#define DO(p)                                                                                      \
    for (int i = 0; i < WIDTH; i++)                                                                \
        result.p[i] = *from++;
    EACH(DO)
#undef DO
#endif
    return result;
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

/* 16 values as fp16, to nearest even; what is larger than fp16 holds becomes its largest value. */
INLINED void store_halves(uint16_t *to, struct lanes values) {
#if VECTOR_BYTES > 16 || defined(__aarch64__)
    const vector top = spread(65504.0f), bottom = spread(-65504.0f);
#define DO(p) values.p = at_most(at_least(values.p, bottom), top);
    EACH(DO)
#undef DO
#endif
#if VECTOR_BYTES == 64
    const __m256i halves = _mm512_cvtps_ph((__m512)values.a, _MM_FROUND_TO_NEAREST_INT);
    _mm256_storeu_si256((void *)to, halves);
#elif VECTOR_BYTES == 32
#define DO(p)                                                                                      \
    _mm_storeu_si128((void *)to, _mm256_cvtps_ph((__m256)values.p, _MM_FROUND_TO_NEAREST_INT)),    \
        to += 8;
    EACH(DO)
#undef DO
#elif defined(__aarch64__)
#define DO(p) vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)values.p))), to += 4;
    EACH(DO)
#undef DO
#else
#define DO(p)                                                                                      \
    for (int i = 0; i < WIDTH; i++)                                                                \
        *to++ = to_half(values.p[i]);
    EACH(DO)
#undef DO
#endif
}

INLINED int64_t entry_bytes(int format) {
    return format == CACHE_FP32 ? 4 : format == CACHE_FP16 ? 2 : 1;
}

/* 16 entries as floats; int8 without its scale. */
INLINED struct lanes load_entries(int format, const void *from) {
    return format == CACHE_FP32 ? load(from) : format == CACHE_FP16 ? load_halves(from)
                                                                    : load_bytes(from);
}

#endif
