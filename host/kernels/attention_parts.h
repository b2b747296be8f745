/* Grouped-query causal attention (Ainslie et al., arXiv 2305.13245) over the KV cache, with the
 * rotation of queries and keys (Su et al., arXiv 2104.09864) and the cache's new entries.
 *
 * Included once per instruction set, as layer_parts.h. A token's scores are sums over head_dim in
 * order; its weights are summed by position modulo 16; its values are summed position by position:
 * nothing depends on the other tokens of the pass or on the threads. */

#include "append.h"
#include "exponential.h"
#include "panel.h"
#include "rows.h"

enum {
    MIXED_AT_ONCE = 128, /* positions: their values stay in the first cache for all columns */
    AHEAD_BYTES = 64,   /* a cache line */
    /* Products that outweigh waking a thread. */
    WORTH_A_THREAD = VECTOR_BYTES == 16 ? 1 << 12 : 1 << 16,
};

/* Asks for memory, into the second cache. */
INLINED void fetch(const char *from, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += AHEAD_BYTES)
        __builtin_prefetch(from + i, 0, 2);
}

/* Scores to weights and what they sum to, which is returned. Positions from `length` on count as
 * far away; int8 keys and values have a scale each. */
INLINED float soften(float *scores, int64_t length, const uint16_t *key_scales,
                     const uint16_t *value_scales) {
    const int64_t end = padded(length);
    struct lanes most = lanes_of(-INFINITY);
    float sums[LANES] = {0};
    if (key_scales)
        for (int64_t i = 0; i < end; i += LANES)
            store(scores + i, multiply(load(scores + i), load_halves(key_scales + i)));
    for (int64_t i = length; i < end; i++)
        scores[i] = -INFINITY;
    for (int64_t i = 0; i < end; i += LANES)
        most = larger(load(scores + i), most);
    weigh_runs(scores, end / LANES, largest(most), sums);
    if (value_scales)
        for (int64_t i = 0; i < end; i += LANES)
            store(scores + i, multiply(load(scores + i), load_halves(value_scales + i)));
    return total(load(sums));
}

/* What the threads of one call share. */
struct NAMED(team) {
    const struct attention *a;
    int64_t start;
    int tokens, cuts, column_cuts; /* of each key head's positions, and of its columns */
    int token_cuts;                /* of each token's heads, and of its results */
    atomic_llong wrong;            /* FINE, or the first activation that is not finite */
};

INLINED void rows_part(const struct NAMED(team) *team, int token, int part) {
    const struct attention *a = team->a;
    const int heads = a->heads + a->kv_heads, cuts = team->token_cuts;
    append_heads(a, team->tokens, token, team->start + token, heads * part / cuts,
                 heads * (part + 1) / cuts);
    prepare(a->next + (team->tokens - 1), token * cuts + part, team->tokens * cuts);
}

INLINED int64_t score_room(const struct attention *a) { return a->context + LANES; }

/* Scores of all tokens and a key head's queries, for one part of the positions. */
INLINED void score_part(const struct NAMED(team) *team, int kv, int part) {
    const struct attention *a = team->a;
    const int64_t bytes = entry_bytes(a->format), block = a->head_dim * (int64_t)LANES;
    const int64_t blocks = (team->start + team->tokens + LANES - 1) / LANES;
    const int group = a->heads / a->kv_heads;
    for (int64_t b = blocks * part / team->cuts; b < blocks * (part + 1) / team->cuts; b++) {
        const char *keys = (const char *)a->keys + (kv * (a->context / LANES) + b) * block * bytes;
        const int64_t before = b * LANES - team->start; /* tokens that see nothing of it */
        const int first = before > 0 ? (int)before : 0;
        const int64_t row = row_of(a, team->tokens, kv, first);
        const struct panel panel = {
            .a = a->queries + row * a->head_dim, .a_stride = a->head_dim, .b = keys,
            .b_stride = LANES, .c = a->scores + row * score_room(a) + b * LANES,
            .c_stride = score_room(a), .depth = a->head_dim, .fresh = 1,
            .ahead = keys + block * bytes, .ahead_stride = AHEAD_BYTES,
        };
        multiply_panel(&panel, (team->tokens - first) * group, a->format);
    }
}

/* Asks for what the first panels of scores will read. */
INLINED void fetch_first(const struct NAMED(team) *team) {
    const struct attention *a = team->a;
    const int64_t blocks = (team->start + team->tokens + LANES - 1) / LANES;
    const int64_t bytes = a->head_dim * LANES * entry_bytes(a->format);
    for (int kv = 0; kv < a->kv_heads; kv++)
        for (int part = 0; part < team->cuts; part++)
            fetch((const char *)a->keys +
                      (kv * (a->context / LANES) + blocks * part / team->cuts) * bytes,
                  bytes);
}

/* Asks for a row's share of the values that will be mixed first. */
INLINED void fetch_values(const struct NAMED(team) *team, int kv, int row, int rows) {
    const struct attention *a = team->a;
    const int64_t end = team->start + team->tokens;
    const int64_t count = end < MIXED_AT_ONCE ? end : MIXED_AT_ONCE;
    const int64_t bytes = padded(a->head_dim) * entry_bytes(a->format);
    const int64_t low = count * row / rows, high = count * (row + 1) / rows;
    fetch((const char *)a->values + (kv * a->context + low) * bytes, (high - low) * bytes);
}

INLINED void soften_row(const struct NAMED(team) *team, int index) {
    const struct attention *a = team->a;
    const int group = a->heads / a->kv_heads, rows = team->tokens * group, kv = index / rows;
    const int64_t length = team->start + index % rows / group + 1, at = kv * a->context;
    const int scaled = a->format == CACHE_INT8;
    fetch_values(team, kv, index % rows, rows);
    a->shares[index] = 1.0f / soften(a->scores + index * score_room(a), length,
                                     scaled ? a->key_scales + at : NULL,
                                     scaled ? a->value_scales + at : NULL);
}

/* Weighted values of the positions `from` .. `from` + 127 that a token sees, for 16 columns: what
 * all tokens see for all of them at once. */
INLINED void mix_columns(const struct NAMED(team) *team, int kv, int64_t from, int unit,
                         int first) {
    const struct attention *a = team->a;
    const int64_t bytes = entry_bytes(a->format), wide = padded(a->head_dim);
    const int group = a->heads / a->kv_heads, nth = unit - first;
    const int64_t row = row_of(a, team->tokens, kv, 0), most = team->start + 1 - from;
    const char *values = (const char *)a->values + (kv * a->context + from) * wide * bytes;
    struct panel panel = {
        .a = a->scores + row * score_room(a) + from, .a_stride = score_room(a),
        .b = values + unit * LANES * bytes, .b_stride = wide,
        .c = a->mixed + row * wide + unit * LANES, .c_stride = wide, .fresh = from == 0,
        /* Two panels of 16 columns take the time in which a line of each position can be fetched. */
        .ahead = values + (MIXED_AT_ONCE + nth % 2 * MIXED_AT_ONCE / 2) * wide * bytes +
                 (first * LANES * bytes + nth / 2 * AHEAD_BYTES),
        .ahead_stride = wide * bytes,
    };
    const int64_t seen = most < MIXED_AT_ONCE ? most : MIXED_AT_ONCE;
    const int64_t all = seen < 0 ? 0 : team->tokens == 1 ? seen : seen / 4 * 4;
    panel.depth = all;
    if (all)
        multiply_panel(&panel, team->tokens * group, a->format);
    panel.ahead = values, panel.ahead_stride = 0; /* once is enough */
    panel.fresh &= !all;
    panel.a += all, panel.b = (const char *)panel.b + all * wide * bytes;
    for (int token = 0; token < team->tokens; token++) {
        const int64_t left = most + token < MIXED_AT_ONCE ? most + token : MIXED_AT_ONCE;
        panel.depth = left - all;
        if (left > all)
            multiply_panel(&panel, group, a->format);
        panel.a += group * score_room(a), panel.c += group * wide;
    }
}

/* A key head's weighted values for one part of the columns, divided by the sum of the weights. */
INLINED void mix_part(const struct NAMED(team) *team, int kv, int part) {
    const struct attention *a = team->a;
    const int64_t wide = padded(a->head_dim), room = row_room(a->heads * (int64_t)a->head_dim);
    const int units = (int)(wide / LANES), group = a->heads / a->kv_heads;
    const int first = units * part / team->column_cuts;
    const int last = units * (part + 1) / team->column_cuts;
    for (int64_t from = 0; from < team->start + team->tokens; from += MIXED_AT_ONCE)
        for (int unit = first; unit < last; unit++)
            mix_columns(team, kv, from, unit, first);
    for (int token = 0; token < team->tokens; token++) {
        for (int head = 0; head < group; head++) {
            const int64_t row = row_of(a, team->tokens, kv, token) + head;
            float *out = a->rows + token * room + (kv * group + head) * (int64_t)a->head_dim;
            const struct lanes share = lanes_of(a->shares[row]);
            for (int unit = first; unit < last; unit++) {
                float parts[LANES];
                const int64_t left = a->head_dim - unit * LANES;
                const struct lanes found =
                    multiply(load(a->mixed + row * wide + unit * LANES), share);
                if (left >= LANES)
                    store(out + unit * LANES, found);
                else
                    store(parts, found), memcpy(out + unit * LANES, parts, (size_t)left * 4);
            }
        }
    }
}

enum { ROWS, SCORES, WEIGHTS, MIXES, RESULTS, PHASES };

static void NAMED(attend_part)(void *argument, int phase, int index) {
    struct NAMED(team) *team = argument;
    const struct attention *a = team->a;
    const struct sink *next = a->next + (team->tokens - 1);
    switch (phase) {
    case ROWS: rows_part(team, index / team->token_cuts, index % team->token_cuts); break;
    case SCORES: score_part(team, index / team->cuts, index % team->cuts); break;
    case WEIGHTS: soften_row(team, index); break;
    case MIXES: mix_part(team, index / team->column_cuts, index % team->column_cuts); break;
    case RESULTS:
        note(&team->wrong,
             deliver_part(next, index / team->token_cuts,
                          a->rows + index / team->token_cuts *
                                        row_room(a->heads * (int64_t)a->head_dim),
                          index % team->token_cuts, team->token_cuts));
    }
}

/* Returns FINE or which activation is not finite. */
int64_t NAMED(attend)(const struct attention *a, int tokens, int64_t start) {
    const int units = (int)(padded(a->head_dim) / LANES);
    const int64_t work = (start + tokens + LANES) * tokens * a->heads * a->head_dim;
    const int64_t most = 1 + work / WORTH_A_THREAD;
    const int wanted = a->threads < 1 ? 1 : a->threads;
    const int threads = most < wanted ? (int)most : wanted;
    const int cuts = cuts_for(a->kv_heads, threads);
    struct NAMED(team) team = {a, start, tokens, cuts, cuts < units ? cuts : units,
                               cuts_for(tokens, threads), FINE};
    const int counts[PHASES] = {
        [ROWS] = tokens * team.token_cuts, [SCORES] = a->kv_heads * cuts,
        [WEIGHTS] = tokens * a->heads, [MIXES] = a->kv_heads * team.column_cuts,
        [RESULTS] = tokens * team.token_cuts,
    };
    fetch_first(&team);
    pool_phases(NAMED(attend_part), &team, counts, PHASES, threads);
    return team.wrong;
}
