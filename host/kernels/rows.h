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

/* out += x, or x + y where there is a y. */
INLINED void add_to_row(const float *x, const float *y, int64_t count, float *out) {
    int64_t i = 0;
    if (!y) {
        add_rows(out, x, count, out);
        return;
    }
    for (; i + LANES <= count; i += LANES)
        store(out + i, add(load(out + i), add(load(x + i), load(y + i))));
    for (; i < count; i++)
        out[i] += x[i] + y[i];
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

/* Adds the results of one token, both terms. */
INLINED void add_results(const struct source *from, int64_t token, int64_t count, float *out) {
    const float *first = from->first + token * from->tile_rows;
    const float *second = from->second ? from->second + token * from->tile_rows : NULL;
    const int64_t tile = from->tile_rows * from->tile_tokens;
    while (count > 0) {
        const int64_t run = from->tile_rows < count ? from->tile_rows : count;
        add_to_row(first, second, run, out);
        first += tile, second = second ? second + tile : NULL, out += run, count -= run;
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

/* Zeros into the beat of bases and one part of the beats of shifts; the slots' own bytes follow. */
INLINED void clear_headers(const struct sink *to, uint8_t *region, int part, int parts) {
    static const uint8_t zeros[16];
    const int64_t step = (1 + to->vectors) * (int64_t)to->port_bytes;
    const int64_t low = to->spans * (int64_t)part / parts, high = to->spans * (part + 1LL) / parts;
    for (int port = 0; port < to->ports; port++) {
        uint8_t *base = region + port * to->stride, *beat = base + to->port_bytes + low * step;
        if (part == 0)
            copy_bytes(base, zeros, to->port_bytes);
        if (to->port_bytes == 16)
            for (int64_t span = low; span < high; span++, beat += step)
                memcpy(beat, zeros, 16);
        else
            for (int64_t span = low; span < high; span++, beat += step)
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
INLINED void mantissas_of(float *values, float up, float step, int leave, int clip, int8_t *out) {
    const vector top = spread(MANTISSA_MAX), bottom = spread(-MANTISSA_MAX);
    const vector ups = spread(up), steps = spread(-step);
    struct lanes rest = load(values);
    struct lane_bits found;
    struct lanes scaled = rest; /* exact, or too small to matter */
#define DO(p) scaled.p *= ups;
    EACH(DO)
#undef DO
#define DO(p) scaled.p = at_most(at_least(scaled.p, bottom), top);
    if (clip) {
        EACH(DO)
    }
#undef DO
#define DO(p) found.p = rounded(scaled.p);
    EACH(DO)
#undef DO
#define DO(p) rest.p = fused(floating(found.p), steps, rest.p);
    if (leave) {
        EACH(DO)
    }
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

/* A block's mantissas, 16 every `stride` bytes. */
INLINED void mantissas_every(float *values, float up, float step, int leave, int8_t *out,
                             int64_t stride, int clip) {
#if defined(__aarch64__)
    for (int half = 0; !clip && half < 2; half++) { /* 32 values at once wait less for each other */
        float32x4_t rest[8], scaled[8];
        int32x4_t found[8];
        float *from = values + half * BLOCK / 2;
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            rest[i] = vld1q_f32(from + 4 * i);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            scaled[i] = vmulq_n_f32(rest[i], up);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            found[i] = vcvtnq_s32_f32(scaled[i]);
#pragma GCC unroll 8
        for (int i = 0; leave && i < 8; i++)
            scaled[i] = vcvtq_f32_s32(found[i]);
#pragma GCC unroll 8
        for (int i = 0; leave && i < 8; i++)
            rest[i] = vfmsq_n_f32(rest[i], scaled[i], step);
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++)
            store_bytes(out + (2 * half + i) * stride,
                        (struct lane_bits){(vector_bits)found[4 * i], (vector_bits)found[4 * i + 1],
                                           (vector_bits)found[4 * i + 2],
                                           (vector_bits)found[4 * i + 3]});
#pragma GCC unroll 8
        for (int i = 0; leave && i < 8; i++)
            vst1q_f32(from + 4 * i, rest[i]);
    }
    if (!clip)
        return;
#endif
    for (int i = 0; i < BLOCK / LANES; i++)
        mantissas_of(values + i * LANES, up, step, leave, clip, out + i * stride);
}

/* A block's mantissas and shift into a slot; `values` NULL for padding behind the row. `clip`: the
 * block wants a larger exponent than there is. */
INLINED void quantise_block(const struct sink *to, uint8_t *region, int slot, int64_t block,
                            float *values, int shift, int base, int leave, int clip) {
    const int span = to->ports * to->port_bytes; /* 16, 32 or 64 */
    const int64_t step_bytes = (1 + to->vectors) * (int64_t)to->port_bytes;
    const int64_t first = block * (BLOCK / span), last = first + BLOCK / span;
    const int whole_beat = span == BLOCK && to->port_bytes == LANES; /* no detour */
    uint8_t *head = region + slot / to->port_bytes * to->stride + slot % to->port_bytes;
    uint8_t *out = region + (1 + first * (1 + to->vectors) + 1 + slot) * (int64_t)to->port_bytes;
    int8_t mantissas[BLOCK] = {0};
    int8_t *write = whole_beat ? (int8_t *)out : mantissas;
    const int64_t stride = whole_beat ? to->stride : LANES;
    if (values) {
        const float up = float_of((uint32_t)(127 + shift - base) << 23);
        const float step = float_of((uint32_t)(127 - shift + base) << 23);
        if (clip)
            mantissas_every(values, up, step, leave, write, stride, 1);
        else
            mantissas_every(values, up, step, leave, write, stride, 0);
    }
    if (whole_beat && values) {
        head[to->port_bytes + first * step_bytes] = (uint8_t)shift;
        return;
    }
    const int8_t *from = mantissas;
    for (int64_t s = first; s < last && s < to->spans; s++, out += step_bytes) {
        head[to->port_bytes + s * step_bytes] = (uint8_t)shift;
        for (int port = 0; port < to->ports; port++, from += to->port_bytes)
            copy_bytes(out + port * to->stride, from, to->port_bytes);
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
        quantise_block(to, region, slot, b, b < blocks ? row + b * BLOCK : NULL, shift, base, leave,
                       b < blocks && wanted[b] > base);
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

/* Before the tokens of a pass are delivered, in whatever order; one of several parts. */
INLINED void prepare(const struct sink *to, int part, int parts) {
    if (to->plain)
        return;
    clear_headers(to, to->first, part, parts);
    if (to->second && to->second != to->first)
        clear_headers(to, to->second, part, parts);
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

/* The same by one of several threads, each its share of the blocks where these can be shared. */
INLINED int64_t deliver_part(const struct sink *to, int token, float *row, int part, int parts) {
    const int64_t blocks = to->columns / BLOCK, all = slot_blocks(to);
    int32_t wanted[MAX_BLOCKS];
    if (parts == 1 || to->plain || to->second || to->columns % BLOCK)
        return part ? FINE : deliver(to, token, row);
    block_exponents(row, 0, blocks, wanted);
    const int base = base_of(wanted, blocks);
    if (base == NOT_FINITE)
        return (int64_t)token * to->columns + wrong_column(row);
    quantise_blocks(to, to->first, token, row, wanted, base, all * part / parts,
                    all * (part + 1) / parts, 0);
    return FINE;
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
