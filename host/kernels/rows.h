/* Into and out of the device's buffers: rows of results, rows of activations. */

#ifndef ROWS_H
#define ROWS_H

#include <stdatomic.h>

#include "formats.h"

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

/* A port's part of a beat; of constant lengths, that is one move. */
INLINED void copy_bytes(void *to, const void *from, int count) {
    if (count == 16)
        memcpy(to, from, 16);
    else if (count == 8)
        memcpy(to, from, 8);
    else
        memcpy(to, from, 4);
}

/* Zeros into the beat of bases and the beats of shifts; the slots' own bytes follow. */
INLINED void clear_headers(const struct sink *to, uint8_t *region) {
    static const uint8_t zeros[16];
    const int64_t step = (1 + to->vectors) * (int64_t)to->port_bytes;
    for (int port = 0; port < to->ports; port++) {
        uint8_t *beat = region + port * to->stride;
        copy_bytes(beat, zeros, to->port_bytes);
        beat += to->port_bytes;
        for (int span = 0; span < to->spans; span++, beat += step)
            copy_bytes(beat, zeros, to->port_bytes);
    }
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
#define DO(p) most.p = larger_bits((vector_bits)values.p & 0x7FFFFFFF, most.p);
        EACH(DO)
#undef DO
    }
    return (uint32_t)largest_bits(most);
}

/* Mantissas of 16 values; what they leave over stays in `values` if that is wanted. */
INLINED void mantissas_of(float *values, float up, float step, int leave, int8_t *out) {
    const vector top = spread(MANTISSA_MAX), bottom = spread(-MANTISSA_MAX);
    const vector ups = spread(up), steps = spread(-step);
    struct lanes rest = load(values);
    struct lane_bits found;
#define DO(p)                                                                                      \
    {                                                                                              \
        /* exact, or too small to matter */                                                        \
        found.p = rounded(at_most(at_least(rest.p * ups, bottom), top));                           \
        if (leave)                                                                                 \
            rest.p = fused(floating(found.p), steps, rest.p);                                      \
    }
    EACH(DO)
#undef DO
    store_bytes(out, found);
    if (leave)
        store(values, rest);
}

enum { MAX_BLOCKS = 1 << 9 }; /* max_k is at most 32768 */

enum { NOT_FINITE = 1 << 16 }; /* stands for the exponent of a block that has no number */

/* Exponents of blocks first .. last - 1 of a row that is padded with zeros to whole blocks. */
INLINED void block_exponents(const float *row, int64_t first, int64_t last, int32_t *wanted) {
    for (int64_t b = first; b < last; b++) {
        const uint32_t most = most_of(row + b * BLOCK);
        wanted[b] = most < 0x7F800000 ? block_exponent(most) : NOT_FINITE;
    }
}

/* The exponent that a row's blocks are shifted from; NOT_FINITE if one of them has none. */
INLINED int base_of(const int32_t *wanted, int64_t blocks) {
    int32_t base = BASE_MIN;
    for (int64_t b = 0; b < blocks; b++)
        base = wanted[b] > base ? wanted[b] : base;
    return base > BASE_MAX && base != NOT_FINITE ? BASE_MAX : base;
}

/* The first column that is not finite. */
INLINED int64_t wrong_column(const float *row) {
    int64_t column = 0;
    while ((bits_of(row[column]) & 0x7FFFFFFF) < 0x7F800000)
        column++;
    return column;
}

/* A block's mantissas and shift into a slot; `values` NULL for padding behind the row. */
INLINED void quantise_block(const struct sink *to, uint8_t *region, int slot, int64_t block,
                            float *values, int shift, int base, int leave) {
    const int span = to->ports * to->port_bytes, mine = slot / to->port_bytes; /* 16, 32 or 64 */
    uint8_t *head = region + mine * to->stride + slot % to->port_bytes;
    int8_t mantissas[BLOCK];
    if (!values)
        memset(mantissas, 0, sizeof mantissas);
    if (values) {
        const float up = float_of((uint32_t)(127 + shift - base) << 23);
        const float step = float_of((uint32_t)(127 - shift + base) << 23);
        for (int i = 0; i < BLOCK; i += LANES)
            mantissas_of(values + i, up, step, leave, mantissas + i);
    }
    const int8_t *from = mantissas;
    const int64_t first = block * (BLOCK / span), last = first + BLOCK / span;
    for (int64_t s = first; s < last && s < to->spans; s++) {
        const int64_t beat = (1 + s * (1 + to->vectors)) * to->port_bytes;
        uint8_t *out = region + beat + (1 + slot) * to->port_bytes;
        head[beat] = (uint8_t)shift;
        for (int port = 0; port < to->ports; port++, out += to->stride, from += to->port_bytes)
            copy_bytes(out, from, to->port_bytes);
    }
}

/* Blocks of a slot including those of padding. */
INLINED int64_t slot_blocks(const struct sink *to) {
    return ((int64_t)to->spans * to->ports * to->port_bytes + BLOCK - 1) / BLOCK;
}

/* Blocks first .. last - 1 of a row in block floating point into a slot of a region; what they
 * leave over stays in `row` if that is wanted. */
INLINED void quantise_blocks(const struct sink *to, uint8_t *region, int slot, float *row,
                             const int32_t *wanted, int base, int64_t first, int64_t last,
                             int leave) {
    const int64_t blocks = (to->columns + BLOCK - 1) / BLOCK;
    if (first == 0)
        region[slot / to->port_bytes * to->stride + slot % to->port_bytes] = (uint8_t)(int8_t)base;
    for (int64_t b = first; b < last; b++) {
        int shift = b < blocks ? base - wanted[b] : 0;
        shift = shift > SHIFT_MAX ? SHIFT_MAX : shift < 0 ? 0 : shift;
        quantise_block(to, region, slot, b, b < blocks ? row + b * BLOCK : NULL, shift, base, leave);
    }
}

/* One row into a slot of a region. Returns FINE or the first column that is not finite. */
INLINED int64_t quantise_into(const struct sink *to, uint8_t *region, int slot, float *row,
                              int leave) {
    const int64_t blocks = (to->columns + BLOCK - 1) / BLOCK;
    int32_t wanted[MAX_BLOCKS];
    block_exponents(row, 0, blocks, wanted);
    const int base = base_of(wanted, blocks);
    if (base == NOT_FINITE)
        return wrong_column(row);
    quantise_blocks(to, region, slot, row, wanted, base, 0, slot_blocks(to), leave);
    return FINE;
}

/* Before the tokens of a pass are delivered, in whatever order. */
INLINED void prepare(const struct sink *to) {
    if (to->plain)
        return;
    clear_headers(to, to->first);
    if (to->second && to->second != to->first)
        clear_headers(to, to->second);
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
    wrong = to->second ? quantise_into(to, to->first, token, row, 1) : FINE;
    if (wrong == FINE && to->second)
        wrong = quantise_into(to, to->second, to->second_slot + token, row, 0);
    else if (wrong == FINE)
        wrong = quantise_into(to, to->first, token, row, 0);
    return wrong == FINE ? FINE : (int64_t)token * to->columns + wrong;
}

/* Floats of a row with room for whole blocks. */
INLINED int64_t row_room(int64_t columns) { return (columns + BLOCK - 1) / BLOCK * BLOCK; }

/* Keeps the first activation that is not finite, of what several threads find. */
INLINED void note(atomic_llong *wrong, int64_t found) {
    long long held = atomic_load(wrong);
    while (found != FINE && (held == FINE || found < held))
        if (atomic_compare_exchange_weak(wrong, &held, found))
            return;
}

#endif
