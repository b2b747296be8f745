/* Results of a few rows of an int8 matrix, exactly: the second step of the LM head.
 *
 * Each value equals the engine's for the same row and activations bit for bit: activations as one
 * or two terms of block floating point, an exact sum, one rounding per term (spec.numeric), then
 * the terms added in fp32.
 */

#include "rescore.h"

#include <string.h>

#include "round.h"
#include "rows.h"

enum {
    RESCORE_ABI = 1, /* changes with struct rescore; host/kernels/rescore.py checks it */
    WRONG_ACTIVATION = 1,
    OUT_OF_RANGE = 2,
};

/* One row of activations to block floating point; what that leaves over stays in `row`. */
static int quantise(const struct rescore *r, float *row, int *base) {
    const int64_t blocks = r->columns / BLOCK;
    int32_t wanted;
    *base = BASE_MIN;
    for (int64_t b = 0; b < blocks; b++) {
        block_exponents(row + b * BLOCK, 0, 1, &wanted);
        if (wanted == NOT_FINITE)
            return WRONG_ACTIVATION;
        *base = wanted > *base ? wanted : *base;
    }
    *base = *base > BASE_MAX ? BASE_MAX : *base;
    for (int64_t b = 0; b < blocks; b++) {
        float *values = row + b * BLOCK;
        block_exponents(values, 0, 1, &wanted);
        int shift = *base - wanted;
        shift = shift > SHIFT_MAX ? SHIFT_MAX : shift < 0 ? 0 : shift;
        r->lifts[b] = (uint8_t)(SHIFT_MAX - shift);
        const float up = float_of((uint32_t)(127 + shift - *base) << 23);
        const float step = float_of((uint32_t)(127 - shift + *base) << 23);
        mantissas_every(values, up, step, 1, r->mantissas + b * BLOCK, LANES, wanted > *base);
    }
    return 0;
}

/* Products of 32 weights and activations, as four or more partial sums. */
#if defined(__aarch64__)
typedef int32x4_t partial;
INLINED partial dot(const int8_t *weights, const int8_t *values) {
    const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + 16);
    const int8x16_t v0 = vld1q_s8(values), v1 = vld1q_s8(values + 16);
    int16x8_t low = vmull_s8(vget_low_s8(w0), vget_low_s8(v0));
    int16x8_t high = vmull_s8(vget_low_s8(w1), vget_low_s8(v1));
    low = vmlal_s8(low, vget_high_s8(w0), vget_high_s8(v0)); /* fits: |values| are at most 127 */
    high = vmlal_s8(high, vget_high_s8(w1), vget_high_s8(v1));
    return vpadalq_s16(vpaddlq_s16(low), high);
}
INLINED int32_t joined(partial sums) { return vaddvq_s32(sums); }
#else
typedef int32_t partial;
INLINED partial dot(const int8_t *weights, const int8_t *values) {
    int32_t sum = 0;
    for (int i = 0; i < 32; i++)
        sum += (int16_t)((int16_t)weights[i] * values[i]);
    return sum;
}
INLINED int32_t joined(partial sum) { return sum; }
#endif

/* A row's exact sum; `unit` values share a scale and a shift. */
INLINED uint128_t exact(const struct rescore *r, int64_t row, int unit) {
    const int8_t *weights = r->values + row * r->columns;
    const uint16_t *scales = r->scales + row * (r->columns / r->group);
    uint128_t sum = 0;
    for (int64_t start = 0; start < r->columns; start += unit) {
        const int scale = scales[start / r->group];
        const int exponent = scale >> 10 & 31, fraction = scale & 0x3FF;
        const int64_t mantissa = exponent ? fraction | 0x400 : fraction;
        const int shift = (exponent ? exponent - 1 : 0) + r->lifts[start / BLOCK];
        partial found = dot(weights + start, r->mantissas + start);
        if (unit == 64)
            found += dot(weights + start + 32, r->mantissas + start + 32);
        sum += (uint128_t)(__int128)(joined(found) * mantissa) << shift;
    }
    return sum;
}

enum { LINE = 64, ROWS_AHEAD = 2 };

/* Asks for a row: rows lie anywhere in a large table. */
INLINED void fetch_row(const struct rescore *r, int64_t row) {
    const int8_t *weights = r->values + row * r->columns;
    for (int64_t i = 0; i < r->columns; i += LINE)
        __builtin_prefetch(weights + i);
    __builtin_prefetch(r->scales + row * (r->columns / r->group));
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
                return WRONG_ACTIVATION;
            for (int i = 0; i < r->count; i++) {
                const int32_t *rows = r->rows + (int64_t)token * r->count;
                const int64_t index = rows[i];
                if (i + ROWS_AHEAD < r->count)
                    fetch_row(r, rows[i + ROWS_AHEAD]);
                const uint128_t sum = r->group == 32 ? exact(r, index, 32) : exact(r, index, 64);
                const float result = float_of(round_result(sum, base, 0, &in_range));
                results[i] = term ? results[i] + result : result;
            }
        }
    }
    return in_range ? 0 : OUT_OF_RANGE;
}
