/* An exact sum to a result, the only rounding of a matmul. */

#ifndef ROUND_H
#define ROUND_H

#include "kernels.h"

enum { SCALE_EXPONENT_LSB = -24 }; /* spec.numeric */

typedef unsigned __int128 uint128_t; /* sums wrap by definition; a sum that fits is exact */

/* spec.numeric.round_result: nearest even, once. Clears *good when fp32 has no such exponent. */
static inline uint32_t round_result(uint128_t sum, int base, int bf16, int *good) {
    const int significant = bf16 ? 8 : 24;
    const uint32_t sign = (uint32_t)(sum >> 127);
    uint128_t size = sign ? -sum : sum;
    if (size == 0)
        return 0;
    const uint64_t top = (uint64_t)(size >> 64);
    const int length = top ? 128 - __builtin_clzll(top) : 64 - __builtin_clzll((uint64_t)size);
    int drop = length - significant;
    if (drop > 0) {
        const uint128_t rest = size & (((uint128_t)1 << drop) - 1), half = (uint128_t)1 << (drop - 1);
        size >>= drop;
        size += rest > half || (rest == half && (size & 1));
    } else {
        size <<= -drop;
    }
    if (size >> significant) {
        size >>= 1;
        drop++;
    }
    const int exponent = base - SHIFT_MAX + SCALE_EXPONENT_LSB + drop + significant - 1 + 127;
    if (exponent < 1 || exponent > 254)
        *good = 0;
    const uint32_t fraction = (uint32_t)(size << (24 - significant)) & 0x7FFFFF;
    const uint32_t pattern = sign << 31 | ((uint32_t)exponent & 255) << 23 | fraction;
    return bf16 ? pattern >> 16 : pattern;
}

#endif
