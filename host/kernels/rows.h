/* Into and out of the device's buffers: rows of results, rows of activations. */

#ifndef ROWS_H
#define ROWS_H

#include "lanes.h"

/* out = x + y; any of them may be the same. */
INLINED void add_rows(const float *x, const float *y, int64_t count, float *out) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        store(out + i, add(load(x + i), load(y + i)));
    for (; i < count; i++)
        out[i] = x[i] + y[i];
}

/* Results `start` .. `start + count` of one token, both terms added. */
INLINED void read_row(const struct source *from, int64_t token, int64_t start, int64_t count,
                      float *out) {
    while (count > 0) {
        const int64_t tile = start / from->tile_rows, inside = start % from->tile_rows;
        const int64_t left = from->tile_rows - inside, run = left < count ? left : count;
        const int64_t at = (tile * from->tile_tokens + token) * from->tile_rows + inside;
        if (from->second)
            add_rows(from->first + at, from->second + at, run, out);
        else
            memcpy(out, from->first + at, (size_t)run * sizeof *out);
        start += run, out += run, count -= run;
    }
}

/* The byte at `byte` of a beat. */
INLINED uint8_t *beat_byte(const struct sink *to, uint8_t *region, int64_t beat, int byte) {
    return region + byte / to->port_bytes * to->stride + beat * to->port_bytes +
           byte % to->port_bytes;
}

INLINED void clear_beat(const struct sink *to, uint8_t *region, int64_t beat) {
    for (int port = 0; port < to->ports; port++)
        memset(region + port * to->stride + beat * to->port_bytes, 0, (size_t)to->port_bytes);
}

/* spec.numeric.block_exponent of a block's largest pattern without sign; BASE_MIN for zero. */
INLINED int block_exponent(uint32_t pattern) {
    const int exponent = (int)(pattern >> 23);
    return exponent ? exponent - (127 + 6) + ((pattern & 0x7FFFFF) > 0x7E0000) : BASE_MIN;
}

/* The largest of a block's patterns without sign, which are ordered as integers. */
INLINED uint32_t most_of(const float *block) {
    struct lane_bits most = {0};
    for (int i = 0; i < BLOCK; i += LANES) {
        const struct lanes values = load(block + i);
#define DO(p)                                                                                      \
    {                                                                                              \
        const vector_bits size = (vector_bits)values.p & 0x7FFFFFFF;                               \
        most.p = (vector_bits)chosen(size > most.p, (vector)size, (vector)most.p);                 \
    }
        EACH(DO)
#undef DO
    }
#define DO(p) most.a = (vector_bits)chosen(most.p > most.a, (vector)most.p, (vector)most.a);
    EACH(DO)
#undef DO
    int32_t found = most.a[0];
    for (int i = 1; i < WIDTH; i++)
        found = most.a[i] > found ? most.a[i] : found;
    return (uint32_t)found;
}

/* Mantissas of 16 values; what they leave over stays in `values`. */
INLINED void mantissas_of(float *values, float up, float step, int8_t *out) {
    const vector top = spread(MANTISSA_MAX), bottom = spread(-MANTISSA_MAX);
    const vector magic = spread(12582912.0f), ups = spread(up), steps = spread(step);
    struct lanes rest = load(values);
    struct lane_bits found;
#define DO(p)                                                                                      \
    {                                                                                              \
        vector scaled = rest.p * ups; /* exact, or too small to matter */                          \
        scaled = chosen(scaled > top, top, scaled);                                                \
        scaled = chosen(scaled < bottom, bottom, scaled);                                          \
        scaled = (scaled + magic) - magic;                                                         \
        found.p = whole(scaled);                                                                   \
        rest.p -= scaled * steps;                                                                  \
    }
    EACH(DO)
#undef DO
    store_bytes(out, found);
    store(values, rest);
}

/* Exponents of a row's blocks: returns the base, or a value below BASE_MIN - 1 - column if that
 * column is not finite. `row` is padded with zeros to whole blocks. */
INLINED int64_t block_exponents(const float *row, int64_t blocks, int32_t *wanted) {
    int base = BASE_MIN;
    for (int64_t b = 0; b < blocks; b++) {
        const uint32_t most = most_of(row + b * BLOCK);
        if (most >= 0x7F800000) {
            int64_t column = b * BLOCK;
            while ((bits_of(row[column]) & 0x7FFFFFFF) < 0x7F800000)
                column++;
            return BASE_MIN - 1 - column;
        }
        wanted[b] = block_exponent(most);
        base = wanted[b] > base ? wanted[b] : base;
    }
    return base > BASE_MAX ? BASE_MAX : base;
}

/* One row in block floating point into a slot of a region; what it leaves over stays in `row`.
 * Returns FINE or the first column that is not finite. */
INLINED int64_t quantise_into(const struct sink *to, uint8_t *region, int slot, float *row) {
    const int64_t blocks = (to->columns + BLOCK - 1) / BLOCK;
    const int span = to->ports * to->port_bytes;
    int32_t wanted[MAX_COLUMNS / BLOCK / 16]; /* max_k is at most 32768 */
    const int64_t base = block_exponents(row, blocks, wanted);
    if (base < BASE_MIN)
        return BASE_MIN - 1 - base;
    if (slot == 0)
        clear_beat(to, region, 0);
    *beat_byte(to, region, 0, slot) = (uint8_t)(int8_t)base;
    for (int64_t start = 0; start < (int64_t)to->spans * span; start += BLOCK) {
        const int64_t b = start / BLOCK;
        int8_t mantissas[BLOCK] = {0};
        int shift = 0;
        if (b < blocks) {
            float *values = row + start;
            shift = (int)base - wanted[b];
            shift = shift > SHIFT_MAX ? SHIFT_MAX : shift < 0 ? 0 : shift;
            const float up = float_of((uint32_t)(127 + shift - (int)base) << 23);
            const float step = float_of((uint32_t)(127 - shift + (int)base) << 23);
            for (int i = 0; i < BLOCK; i += LANES)
                mantissas_of(values + i, up, step, mantissas + i);
        }
        for (int64_t at = start; at < start + BLOCK && at < (int64_t)to->spans * span;) {
            const int64_t s = at / span, beat = 1 + s * (1 + to->vectors);
            const int inside = (int)(at % span);
            if (inside == 0) {
                if (slot == 0)
                    clear_beat(to, region, beat);
                *beat_byte(to, region, beat, slot) = (uint8_t)shift;
            }
            uint8_t *out = beat_byte(to, region, beat + 1 + slot, inside);
            if (to->port_bytes == 16)
                memcpy(out, mantissas + (at - start), 16); /* constant length: one move */
            else
                memcpy(out, mantissas + (at - start), (size_t)to->port_bytes);
            at += to->port_bytes;
        }
    }
    return FINE;
}

/* A token's activations to where the matmul reads them. `row` is overwritten and has room for
 * whole blocks. Returns FINE or token * columns + the first column that is not finite. */
INLINED int64_t deliver(const struct sink *to, int token, float *row) {
    int64_t wrong;
    if (to->plain) {
        memcpy(to->plain + (int64_t)token * to->columns, row, (size_t)to->columns * sizeof *row);
        return FINE;
    }
    for (int64_t i = to->columns; i % BLOCK; i++)
        row[i] = 0;
    wrong = quantise_into(to, to->first, token, row);
    if (wrong == FINE && to->second)
        wrong = quantise_into(to, to->second, to->second_slot + token, row);
    return wrong == FINE ? FINE : (int64_t)token * to->columns + wrong;
}

#endif
