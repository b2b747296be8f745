/* Grouped-query causal attention (Ainslie et al., arXiv 2305.13245) over the KV cache, with the
 * rotation of queries and keys (Su et al., arXiv 2104.09864) and the cache's new entries.
 *
 * Included once per instruction set, as layer_parts.h. A token's scores are sums over head_dim in
 * order; its weights are summed by position modulo 16; its values are summed position by position:
 * nothing depends on the other tokens of the pass or on the threads. */

#include "rows.h"

INLINED int64_t padded(int64_t count) { return (count + LANES - 1) / LANES * LANES; }

/* Pairs (i, i + half) turned by the position's angles: the rotate-half order of Hugging Face. */
INLINED void rotate(const struct attention *a, float *head, int64_t position) {
    const int half = a->head_dim / 2;
    const float *cosines = a->cosines + position * half, *sines = a->sines + position * half;
    for (int i = 0; i < half; i++) {
        const float low = head[i], high = head[i + half];
        head[i] = low * cosines[i] - high * sines[i];
        head[i + half] = high * cosines[i] + low * sines[i];
    }
}

/* int8 with an fp16 scale: the smallest one with which the largest value stays within 127. */
INLINED uint16_t scale_of(const float *values, int count) {
    float most = 0;
    for (int i = 0; i < count; i++) {
        const float size = values[i] < 0 ? -values[i] : values[i];
        most = size > most ? size : most;
    }
    uint16_t scale = to_half(most / MANTISSA_MAX);
    while (from_half(scale) * MANTISSA_MAX < most && scale < 0x7BFF)
        scale++;
    return scale;
}

INLINED int8_t mantissa_of(float value, float scale) {
    const float scaled = scale == 0 ? 0 : value / scale;
    const float upper = scaled > MANTISSA_MAX ? MANTISSA_MAX : scaled;
    return (int8_t)(int32_t)nearest(upper < -MANTISSA_MAX ? -MANTISSA_MAX : upper);
}

/* One position's key and value of one head into the cache. */
INLINED void append(const struct attention *a, int kv, int64_t position, const float *key,
                    const float *value) {
    const int64_t wide = padded(a->head_dim);
    const int64_t block = (kv * (a->context / LANES) + position / LANES) * a->head_dim * LANES;
    const int64_t at = block + position % LANES, to = (kv * a->context + position) * wide;
    float key_scale = 1, value_scale = 1;
    if (a->format == CACHE_INT8) {
        const int64_t place = kv * a->context + position;
        a->key_scales[place] = scale_of(key, a->head_dim);
        a->value_scales[place] = scale_of(value, a->head_dim);
        key_scale = from_half(a->key_scales[place]);
        value_scale = from_half(a->value_scales[place]);
    }
    for (int64_t i = 0; i < a->head_dim; i++) {
        if (a->format == CACHE_FP32) {
            ((float *)a->keys)[at + i * LANES] = key[i];
            ((float *)a->values)[to + i] = value[i];
        } else if (a->format == CACHE_FP16) {
            ((uint16_t *)a->keys)[at + i * LANES] = to_half(key[i]);
            ((uint16_t *)a->values)[to + i] = to_half(value[i]);
        } else {
            ((int8_t *)a->keys)[at + i * LANES] = mantissa_of(key[i], key_scale);
            ((int8_t *)a->values)[to + i] = mantissa_of(value[i], value_scale);
        }
    }
}

/* Entries of the cache as floats, a multiple of 16; int8 without their scales. */
INLINED void unpack_entries(int format, const void *from, int64_t at, int64_t count, float *to) {
    if (format == CACHE_FP32)
        memcpy(to, (const float *)from + at, (size_t)count * sizeof *to);
    else if (format == CACHE_FP16)
        for (int64_t i = 0; i < count; i += LANES)
            store(to + i, load_halves((const uint16_t *)from + at + i));
    else
        for (int64_t i = 0; i < count; i += LANES)
            store(to + i, load_bytes((const int8_t *)from + at + i));
}

/* Scores of 1 .. 4 query heads that share keys, for 16 positions; `count` is a constant. */
INLINED void score(const float *queries, const float *keys, int head_dim, int count,
                   int64_t context, float *scores) {
    struct lanes s0 = lanes_of(0), s1 = s0, s2 = s0, s3 = s0;
    for (int i = 0; i < head_dim; i++) {
        const struct lanes key = load(keys + i * LANES);
        s0 = multiply_add_one(key, spread(queries[i]), s0);
        if (count > 1)
            s1 = multiply_add_one(key, spread(queries[head_dim + i]), s1);
        if (count > 2)
            s2 = multiply_add_one(key, spread(queries[2 * head_dim + i]), s2);
        if (count > 3)
            s3 = multiply_add_one(key, spread(queries[3 * head_dim + i]), s3);
    }
    store(scores, s0);
    if (count > 1)
        store(scores + context, s1);
    if (count > 2)
        store(scores + 2 * context, s2);
    if (count > 3)
        store(scores + 3 * context, s3);
}

/* Scores to weights that sum to `total`, which is returned. Positions from `length` on weigh 0. */
INLINED float soften(float *scores, int64_t length) {
    const int64_t end = padded(length);
    for (int64_t i = length; i < end; i++)
        scores[i] = -INFINITY;
    struct lanes most = load(scores), sums = lanes_of(0);
    for (int64_t i = LANES; i < end; i += LANES)
        most = larger(most, load(scores + i));
    const float highest = largest(most);
    const struct lanes highests = lanes_of(highest);
    for (int64_t i = 0; i < end; i += LANES) {
        const struct lanes weights = exponentials(subtract(load(scores + i), highests));
        store(scores + i, weights);
        sums = add(sums, weights);
    }
    return total(sums);
}

/* mixed[0 .. wide) += the weighted values of `count` positions, one after the other. */
INLINED void mix(const float *weights, const float *values, int64_t wide, int count, float *mixed) {
    int64_t i = 0;
    for (; i + 4 * LANES <= wide; i += 4 * LANES) {
        const float *value = values + i;
        float *to = mixed + i;
        struct lanes s0 = load(to), s1 = load(to + LANES);
        struct lanes s2 = load(to + 2 * LANES), s3 = load(to + 3 * LANES);
        for (int p = 0; p < count; p++, value += wide) {
            const vector weight = spread(weights[p]);
            s0 = multiply_add_one(load(value), weight, s0);
            s1 = multiply_add_one(load(value + LANES), weight, s1);
            s2 = multiply_add_one(load(value + 2 * LANES), weight, s2);
            s3 = multiply_add_one(load(value + 3 * LANES), weight, s3);
        }
        store(to, s0), store(to + LANES, s1);
        store(to + 2 * LANES, s2), store(to + 3 * LANES, s3);
    }
    for (; i < wide; i += LANES) {
        struct lanes sum = load(mixed + i);
        for (int p = 0; p < count; p++)
            sum = multiply_add_one(load(values + p * wide + i), spread(weights[p]), sum);
        store(mixed + i, sum);
    }
}

enum { MAX_HEAD_DIM = 512 };

/* Query heads `low` .. `high` (of one key head) of tokens `first` .. `last`. */
struct share {
    const struct attention *a;
    int64_t start;
    int kv, low, high, first, last;
};

INLINED void score_share(const struct share *s) {
    const struct attention *a = s->a;
    const int64_t blocks = (s->start + s->last + LANES - 1) / LANES;
    float keys[MAX_HEAD_DIM * LANES];
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t at = (s->kv * (a->context / LANES) + b) * a->head_dim * LANES;
        unpack_entries(a->format, a->keys, at, (int64_t)a->head_dim * LANES, keys);
        for (int token = s->first; token < s->last; token++) {
            int head = s->low;
            const int64_t row = (int64_t)token * a->heads;
            const float *queries = a->queries + row * a->head_dim;
            float *scores = a->scores + row * a->context + b * LANES;
            for (int left; (left = s->high - head) > 0; head += left < 4 ? left : 4) {
                const float *query = queries + (int64_t)head * a->head_dim;
                float *to = scores + head * a->context;
                switch (left) {
                case 1: score(query, keys, a->head_dim, 1, a->context, to); break;
                case 2: score(query, keys, a->head_dim, 2, a->context, to); break;
                case 3: score(query, keys, a->head_dim, 3, a->context, to); break;
                default: score(query, keys, a->head_dim, 4, a->context, to);
                }
            }
        }
    }
}

INLINED void soften_share(const struct share *s) {
    const struct attention *a = s->a;
    for (int token = s->first; token < s->last; token++) {
        for (int head = s->low; head < s->high; head++) {
            const int64_t length = s->start + token + 1, row = (int64_t)token * a->heads + head;
            float *scores = a->scores + row * a->context;
            if (a->format == CACHE_INT8)
                for (int64_t p = 0; p < length; p++)
                    scores[p] *= from_half(a->key_scales[s->kv * a->context + p]);
            a->sums[row] = soften(scores, length);
            if (a->format == CACHE_INT8)
                for (int64_t p = 0; p < length; p++)
                    scores[p] *= from_half(a->value_scales[s->kv * a->context + p]);
        }
    }
}

INLINED void mix_share(const struct share *s) {
    const struct attention *a = s->a;
    const int64_t wide = padded(a->head_dim), blocks = (s->start + s->last + LANES - 1) / LANES;
    float values[MAX_HEAD_DIM * LANES];
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t at = (s->kv * a->context + b * LANES) * wide;
        unpack_entries(a->format, a->values, at, wide * LANES, values);
        for (int token = s->first; token < s->last; token++) {
            const int64_t left = s->start + token + 1 - b * LANES;
            for (int head = s->low; head < s->high && left > 0; head++) {
                const int64_t row = (int64_t)token * a->heads + head;
                mix(a->scores + row * a->context + b * LANES, values, wide,
                    left < LANES ? (int)left : LANES, a->mixed + row * wide);
            }
        }
    }
}

static void NAMED(attend_share)(const struct share *s) {
    const struct attention *a = s->a;
    const int64_t wide = padded(a->head_dim);
    score_share(s);
    soften_share(s);
    for (int token = s->first; token < s->last; token++)
        memset(a->mixed + ((int64_t)token * a->heads + s->low) * wide, 0,
               (size_t)((s->high - s->low) * wide) * sizeof(float));
    mix_share(s);
    for (int token = s->first; token < s->last; token++)
        for (int head = s->low; head < s->high; head++) {
            const int64_t row = (int64_t)token * a->heads + head;
            for (int64_t i = 0; i < wide; i++)
                a->mixed[row * wide + i] /= a->sums[row];
        }
}

/* What the threads of one call share. */
struct NAMED(team) {
    const struct attention *a;
    int64_t start;
    int tokens, head_parts, token_parts;
};

static void NAMED(attend_part)(void *argument, int index) {
    const struct NAMED(team) *team = argument;
    const struct attention *a = team->a;
    const int group = a->heads / a->kv_heads;
    const int part = index % team->head_parts, slice = index / team->head_parts % team->token_parts;
    const int kv = index / team->head_parts / team->token_parts;
    const struct share share = {
        .a = a, .start = team->start, .kv = kv,
        .low = kv * group + group * part / team->head_parts,
        .high = kv * group + group * (part + 1) / team->head_parts,
        .first = team->tokens * slice / team->token_parts,
        .last = team->tokens * (slice + 1) / team->token_parts,
    };
    NAMED(attend_share)(&share);
}

/* Splits heads and tokens until every thread has a part, and only where that pays. */
static void NAMED(attend_all)(const struct attention *a, int tokens, int64_t start) {
    const int group = a->heads / a->kv_heads;
    struct NAMED(team) team = {a, start, tokens, 1, 1};
    const int64_t work = (start + tokens) * tokens * a->heads * a->head_dim;
    const int64_t most = 1 + work / (1 << 16); /* products that outweigh waking a thread */
    const int threads = most < a->threads ? (int)most : a->threads;
    while (a->kv_heads * team.token_parts < threads && team.token_parts < tokens)
        team.token_parts++;
    while (a->kv_heads * team.token_parts * team.head_parts < threads && team.head_parts < group)
        team.head_parts++;
    pool_run(NAMED(attend_part), &team, a->kv_heads * team.token_parts * team.head_parts, threads);
}

/* Returns FINE or which activation is not finite. */
int64_t NAMED(attend)(const struct attention *a, int tokens, int64_t start) {
    const int64_t wide = padded(a->head_dim), rotated = a->heads + a->kv_heads;
    const int64_t joined = (rotated + a->kv_heads) * a->head_dim;
    const int64_t queries = (int64_t)a->heads * a->head_dim;
    float *row = a->joined_row;
    for (int token = 0; token < tokens; token++) {
        read_row(a->joined + (tokens - 1), token, 0, joined, row);
        if (a->bias)
            for (int64_t i = 0; i < joined; i++)
                row[i] += a->bias[i];
        for (int64_t head = 0; head < rotated; head++)
            rotate(a, row + head * a->head_dim, start + token);
        for (int64_t i = 0; i < queries; i++)
            a->queries[token * queries + i] = row[i] * a->query_scale;
        for (int kv = 0; kv < a->kv_heads; kv++)
            append(a, kv, start + token, row + (a->heads + kv) * (int64_t)a->head_dim,
                   row + (rotated + kv) * a->head_dim);
    }
    NAMED(attend_all)(a, tokens, start);
    for (int token = 0; token < tokens; token++) {
        for (int head = 0; head < a->heads; head++)
            memcpy(a->row + (int64_t)head * a->head_dim,
                   a->mixed + ((int64_t)token * a->heads + head) * wide,
                   (size_t)a->head_dim * sizeof(float));
        const int64_t wrong = deliver(a->next + (tokens - 1), token, a->row);
        if (wrong != FINE)
            return wrong;
    }
    return FINE;
}
