/* Results of a few rows of an int8 matrix, exactly: the second step of the LM head.
 *
 * Each value equals the engine's for the same row and activations bit for bit: activations as one
 * or two terms of block floating point, an exact sum, one rounding per term (spec.numeric), then
 * the terms added in fp32.
 */

#include "rescore.h"

#include <string.h>

#include "round.h"

enum {
    RESCORE_ABI = 1, /* changes with struct rescore; host/kernels/rescore.py checks it */
    NOT_FINITE = 1,
    OUT_OF_RANGE = 2,
};

INLINED float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* spec.numeric.block_exponent of the largest magnitude in a block; BASE_MIN - 1 if not finite. */
INLINED int block_exponent(const float *values) {
    uint32_t most = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        bits &= 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    if (most >= 0x7F800000)
        return BASE_MIN - 1000;
    return most >> 23 ? (int)(most >> 23) - (127 + 6) + ((most & 0x7FFFFF) > 0x7E0000) : BASE_MIN;
}

/* One row of activations to block floating point; what that leaves over stays in `row`. */
static int quantise(const struct rescore *r, float *row, int *base) {
    const int64_t blocks = r->columns / BLOCK;
    *base = BASE_MIN;
    for (int64_t b = 0; b < blocks; b++) {
        const int wanted = block_exponent(row + b * BLOCK);
        if (wanted < BASE_MIN - 500)
            return NOT_FINITE;
        *base = wanted > *base ? wanted : *base;
    }
    *base = *base > BASE_MAX ? BASE_MAX : *base;
    for (int64_t b = 0; b < blocks; b++) {
        float *values = row + b * BLOCK;
        int shift = *base - block_exponent(values);
        shift = shift > SHIFT_MAX ? SHIFT_MAX : shift < 0 ? 0 : shift;
        r->lifts[b] = (uint8_t)(SHIFT_MAX - shift);
        const float up = float_of((uint32_t)(127 + shift - *base) << 23);
        const float step = float_of((uint32_t)(127 - shift + *base) << 23);
        for (int i = 0; i < BLOCK; i++) {
            float scaled = values[i] * up; /* exact, or too small to matter */
            scaled = scaled > MANTISSA_MAX ? MANTISSA_MAX : scaled;
            scaled = scaled < -MANTISSA_MAX ? -MANTISSA_MAX : scaled;
            scaled = (scaled + 12582912.0f) - 12582912.0f; /* nearest, ties to even */
            r->mantissas[b * BLOCK + i] = (int8_t)(int32_t)scaled;
            values[i] -= scaled * step; /* exact */
        }
    }
    return 0;
}

INLINED int32_t dot(const int8_t *weights, const int8_t *values, int unit) {
    int32_t sum = 0;
    for (int i = 0; i < unit; i++)
        sum += (int16_t)((int16_t)weights[i] * values[i]);
    return sum;
}

INLINED uint128_t exact(const struct rescore *r, int64_t row, int unit) {
    const int8_t *weights = r->values + row * r->columns;
    const uint16_t *scales = r->scales + row * (r->columns / r->group);
    uint128_t sum = 0;
    for (int64_t start = 0; start < r->columns; start += unit) {
        const int scale = scales[start / r->group];
        const int exponent = scale >> 10 & 31, fraction = scale & 0x3FF;
        const int64_t mantissa = exponent ? fraction | 0x400 : fraction;
        const int shift = (exponent ? exponent - 1 : 0) + r->lifts[start / BLOCK];
        const int64_t product = dot(weights + start, r->mantissas + start, unit) * mantissa;
        sum += (uint128_t)(__int128)product << shift;
    }
    return sum;
}

int rescore_abi(void) { return RESCORE_ABI; }

/* Returns 0, or why not: an activation that is not finite, a result that left fp32's range. */
int kernels_rescore(const struct rescore *r) {
    int in_range = 1, base;
    for (int token = 0; token < r->tokens; token++) {
        float *row = r->activations + token * r->columns;
        float *results = r->results + (int64_t)token * r->count;
        for (int term = 0; term < r->terms; term++) {
            if (quantise(r, row, &base))
                return NOT_FINITE;
            for (int i = 0; i < r->count; i++) {
                const int64_t index = r->rows[(int64_t)token * r->count + i];
                const uint128_t sum = r->group == 32 ? exact(r, index, 32) : exact(r, index, 64);
                const float result = float_of(round_result(sum, base, 0, &in_range));
                results[i] = term ? results[i] + result : result;
            }
        }
    }
    return in_range ? 0 : OUT_OF_RANGE;
}
