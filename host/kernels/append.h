/* A token's queries, keys and values out of a matmul's results: bias, rotation (Su et al., arXiv
 * 2104.09864), and the cache's new entries. */

#ifndef APPEND_H
#define APPEND_H

#include "rows.h"

enum { MAX_HEAD_DIM = 512 }; /* host/forward/cache.py refuses more */

INLINED int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

/* The first of a key head's queries of a token, in scratch: [kv_heads][tokens][queries of a key head],
 * so that a panel may take those of several tokens. */
INLINED int64_t row_of(const struct attention *a, int tokens, int kv, int token) {
    return ((int64_t)kv * tokens + token) * (a->heads / a->kv_heads);
}

/* Pairs (i, i + half) turned by the position's angles, the rotate-half order of Hugging Face, and
 * multiplied by `scale`. */
INLINED void rotate(const struct attention *a, const float *head, int64_t position, float scale,
                    float *out) {
    const int half = a->head_dim / 2;
    const float *cosines = a->cosines + position * half, *sines = a->sines + position * half;
    const vector scales = spread(scale);
    int i = 0;
    for (; i + LANES <= half; i += LANES) {
        struct lanes low = load(head + i), high = load(head + half + i);
        const struct lanes cosine = load(cosines + i), sine = load(sines + i);
#define DO(p)                                                                                      \
    {                                                                                              \
        const vector turned = fused(-high.p, sine.p, low.p * cosine.p) * scales;                   \
        high.p = fused(low.p, sine.p, high.p * cosine.p) * scales;                                 \
        low.p = turned;                                                                            \
    }
        EACH(DO)
#undef DO
        store(out + i, low), store(out + half + i, high);
    }
    for (; i < half; i++) {
        const float low = head[i], high = head[i + half];
        out[i] = fmaf(-high, sines[i], low * cosines[i]) * scale;
        out[i + half] = fmaf(low, sines[i], high * cosines[i]) * scale;
    }
}

/* int8 with an fp16 scale: the smallest one with which the largest value stays within 127. */
INLINED uint16_t scale_of(const float *values, int64_t count) {
    struct lanes most = lanes_of(0);
    for (int64_t i = 0; i < count; i += LANES) {
        struct lanes part = load(values + i);
#define DO(p) part.p = (vector)((vector_bits)part.p & 0x7FFFFFFF);
        EACH(DO)
#undef DO
        most = larger(part, most);
    }
    const float found = largest(most);
    uint16_t scale = to_half(found / MANTISSA_MAX);
    while (from_half(scale) * MANTISSA_MAX < found && scale < 0x7BFF)
        scale++;
    return scale;
}

/* Values, padded with zeros to whole runs of 16, as entries of the cache; the scale of int8. */
INLINED uint16_t entries_of(int format, const float *values, int64_t count, void *out) {
    const uint16_t half = format == CACHE_INT8 ? scale_of(values, count) : 0;
    const float scale = from_half(half);
    const vector scales = spread(scale == 0 ? INFINITY : scale);
    for (int64_t i = 0; i < count; i += LANES) {
        const struct lanes part = load(values + i);
        if (format == CACHE_FP32) {
            store((float *)out + i, part);
        } else if (format == CACHE_FP16) {
            store_halves((uint16_t *)out + i, part);
        } else {
            const vector top = spread(MANTISSA_MAX), bottom = spread(-MANTISSA_MAX);
            struct lane_bits found;
#define DO(p) found.p = rounded(at_most(at_least(part.p / scales, bottom), top));
            EACH(DO)
#undef DO
            store_bytes((int8_t *)out + i, found);
        }
    }
    return half;
}

/* One position's key and value of one head into the cache; both padded with zeros. */
INLINED void append(const struct attention *a, int kv, int64_t position, const float *key,
                    const float *value) {
    const int64_t wide = padded(a->head_dim), bytes = entry_bytes(a->format);
    const int64_t block = (kv * (a->context / LANES) + position / LANES) * a->head_dim * LANES;
    const int64_t at = block + position % LANES, place = kv * a->context + position;
    union {
        float floats[MAX_HEAD_DIM];
        uint16_t halves[MAX_HEAD_DIM];
        int8_t bytes[MAX_HEAD_DIM];
    } entries;
    const uint16_t scale = entries_of(a->format, key, wide, &entries);
    for (int64_t i = 0; i < a->head_dim; i++) { /* one column of the block */
        if (a->format == CACHE_FP32)
            ((float *)a->keys)[at + i * LANES] = entries.floats[i];
        else if (a->format == CACHE_FP16)
            ((uint16_t *)a->keys)[at + i * LANES] = entries.halves[i];
        else
            ((int8_t *)a->keys)[at + i * LANES] = entries.bytes[i];
    }
    char *to = (char *)a->values + place * wide * bytes;
    const uint16_t other = entries_of(a->format, value, wide, to);
    if (a->format == CACHE_INT8)
        a->key_scales[place] = scale, a->value_scales[place] = other;
}

/* One head's results of a token, with their bias. */
INLINED void read_head(const struct attention *a, const struct source *from, int token, int head,
                       float *out) {
    const int64_t start = (int64_t)head * a->head_dim;
    read_row(from, token, start, a->head_dim, out);
    if (a->bias)
        add_rows(out, a->bias + start, a->head_dim, out);
}

/* Heads `low` .. `high` - 1 of a token's queries and then of its keys and values: queries ready to
 * be multiplied with keys, the others into the cache. */
INLINED void append_heads(const struct attention *a, int tokens, int token, int64_t position,
                          int low, int high) {
    const struct source *from = a->joined + (tokens - 1);
    float read[MAX_HEAD_DIM], key[MAX_HEAD_DIM];
    for (int64_t i = a->head_dim; i < padded(a->head_dim); i++)
        read[i] = key[i] = 0;
    for (int head = low; head < high && head < a->heads; head++) {
        read_head(a, from, token, head, read);
        const int64_t row = row_of(a, tokens, head / (a->heads / a->kv_heads), token) +
                            head % (a->heads / a->kv_heads);
        rotate(a, read, position, a->query_scale, a->queries + row * a->head_dim);
    }
    for (int head = low < a->heads ? a->heads : low; head < high; head++) {
        read_head(a, from, token, head, read);
        rotate(a, read, position, 1.0f, key);
        read_head(a, from, token, head + a->kv_heads, read);
        append(a, head - a->heads, position, key, read);
    }
}

#endif
