/* RMSNorm and SwiGLU, each fused with what comes before and after it; embedding rows; results.
 *
 * Included once per instruction set (floats.c, floats_avx2.c): NAMED gives each its own names. */

#include "exponential.h"
#include "rows.h"

/* Fewer cost less than waking a thread. */
enum { VALUES_FOR_A_THREAD = VECTOR_BYTES == 16 ? 256 : 1024 };

/* Sum of squares. */
INLINED float squares(const float *values, int64_t count) {
    struct lanes sums = lanes_of(0);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        const struct lanes part = load(values + i);
        sums = multiply_add(part, part, sums);
    }
    if (i < count) {
        float rest[LANES] = {0};
        memcpy(rest, values + i, (size_t)(count - i) * sizeof *rest);
        sums = multiply_add(load(rest), load(rest), sums);
    }
    return total(sums);
}

/* What the threads of one norm share. */
struct NAMED(norming) {
    const struct norm *n;
    int tokens, first, count;
    atomic_llong wrong; /* FINE, or the first activation that is not finite */
};

static void NAMED(norm_token)(void *argument, int token) {
    struct NAMED(norming) *team = argument;
    const struct norm *n = team->n;
    const int64_t columns = n->columns;
    const float *weight = n->weight;
    float *row = n->scratch + token * row_room(columns);
    float *hidden = n->hidden + (team->first + token) * columns;
    if (n->previous)
        add_results(n->previous + (team->tokens - 1), team->first + token, columns, hidden);
    const float mean = squares(hidden, columns) / (float)columns;
    const float scale = 1.0f / sqrtf(mean + n->epsilon);
    const struct lanes scales = lanes_of(scale);
    int64_t i = 0;
    for (; i + LANES <= columns; i += LANES)
        store(row + i, multiply(multiply(load(hidden + i), scales), load(weight + i)));
    for (; i < columns; i++)
        row[i] = hidden[i] * scale * weight[i];
    note(&team->wrong, deliver(n->next + (team->count - 1), token, row));
}

/* hidden / rms(hidden) * weight (Zhang and Sennrich, arXiv 1910.07467) for tokens first ..
 * first + count of a pass of `tokens`. Returns FINE or which activation is not finite. */
int64_t NAMED(norm)(const struct norm *n, int tokens, int first, int count) {
    const int64_t most = 1 + count * n->columns / VALUES_FOR_A_THREAD;
    struct NAMED(norming) team = {n, tokens, first, count, FINE};
    prepare(n->next + (count - 1), 0, 1);
    pool_run(NAMED(norm_token), &team, count, most < n->threads ? (int)most : n->threads);
    return team.wrong;
}

/* 64 results of a token from `start` on, where they lie if they lie together, else in `read`. */
INLINED const float *results_at(const struct source *from, int64_t token, int64_t start,
                                int64_t count, float *read) {
    const int64_t tile = start / from->tile_rows, inside = start % from->tile_rows;
    if (!from->second && count == BLOCK && inside + BLOCK <= from->tile_rows)
        return from->first + (tile * from->tile_tokens + token) * from->tile_rows + inside;
    read_row(from, token, start, count, read);
    return read;
}

/* What the threads of one call share. */
struct NAMED(gating) {
    const struct swiglu *s;
    const struct sink *next;
    int tokens, parts;  /* of each token */
    atomic_llong wrong; /* FINE, or the first activation that is not finite */
};

INLINED void gate_blocks(const struct NAMED(gating) *team, int token, int64_t first, int64_t last) {
    const struct swiglu *s = team->s;
    const struct source *from = s->gate_up + (team->tokens - 1);
    const int64_t blocks = row_room(s->columns) / BLOCK;
    float gates[BLOCK] = {0}, ups[BLOCK] = {0}, *row = s->scratch + token * row_room(s->columns);
    for (int64_t b = first; b < last; b++) {
        const int64_t left = s->columns - b * BLOCK, count = left < BLOCK ? left : BLOCK;
        if (count < BLOCK) /* the row is padded with zeros */
            memset(gates, 0, sizeof gates), memset(ups, 0, sizeof ups);
        gate_runs(results_at(from, token, b * BLOCK, count, gates),
                  results_at(from, token, s->columns + b * BLOCK, count, ups), row + b * BLOCK,
                  BLOCK / LANES);
    }
    block_exponents(row, first, last, s->exponents + token * blocks);
}

enum { GATES, ACTIVATIONS, STEPS };

static void NAMED(gate_part)(void *argument, int phase, int index) {
    struct NAMED(gating) *team = argument;
    const struct swiglu *s = team->s;
    const int token = index / team->parts, part = index % team->parts;
    const int64_t blocks = row_room(s->columns) / BLOCK;
    const int32_t *wanted = s->exponents + token * blocks;
    float *row = s->scratch + token * row_room(s->columns);
    if (phase == GATES) {
        const int64_t first = blocks * part / team->parts;
        gate_blocks(team, token, first, blocks * (part + 1) / team->parts);
        prepare(team->next, index, team->tokens * team->parts);
    } else if (team->next->plain || team->next->second) {
        if (part == 0)
            note(&team->wrong, deliver(team->next, token, row));
    } else {
        const int64_t all = slot_blocks(team->next), first = all * part / team->parts;
        const int base = base_of(wanted, blocks);
        if (base == NOT_FINITE)
            note(&team->wrong, token * s->columns + wrong_column(row));
        else
            quantise_blocks(team->next, team->next->first, token, row, wanted, base, first,
                            all * (part + 1) / team->parts, 0);
    }
}

/* silu(gate) * up (Shazeer, arXiv 2002.05202). Returns FINE or which activation is not finite. */
int64_t NAMED(swiglu)(const struct swiglu *s, int tokens) {
    const int64_t most = 1 + tokens * s->columns / VALUES_FOR_A_THREAD;
    const int threads = most < s->threads ? (int)most : s->threads < 1 ? 1 : s->threads;
    const int parts = cuts_for(tokens, threads), items = tokens * parts;
    struct NAMED(gating) team = {s, s->next + (tokens - 1), tokens, parts, FINE};
    pool_phases(NAMED(gate_part), &team, (int[STEPS]){items, items}, STEPS, threads);
    return team.wrong;
}

/* Rows of an embedding table as floats [count][columns]. */
void NAMED(gather)(const struct table *t, const int64_t *ids, int count, float *out) {
    for (int k = 0; k < count; k++, out += t->columns) {
        const int64_t start = ids[k] * t->columns, groups = t->group ? t->columns / t->group : 0;
        if (t->format == TABLE_FP32)
            memcpy(out, (const float *)t->values + start, (size_t)t->columns * sizeof *out);
        if (t->format == TABLE_FP16)
            halves_to_floats((const uint16_t *)t->values + start, out, t->columns);
        for (int64_t g = 0; g < groups; g++) {
            const float scale = from_half(t->scales[ids[k] * groups + g]);
            const int zero = t->zeros ? t->zeros[ids[k] * groups + g] : 0;
            for (int64_t i = g * t->group; i < (g + 1) * t->group; i++) {
                const int value = t->format == TABLE_INT8 ? ((const int8_t *)t->values)[start + i]
                                                          : ((const uint8_t *)t->values)[start + i];
                out[i] = (float)(value - zero) * scale;
            }
        }
    }
}

/* Results [tokens][columns] of a pass. */
void NAMED(results)(const struct source *from, int tokens, int64_t columns, float *out) {
    for (int token = 0; token < tokens; token++)
        read_row(from, token, 0, columns, out + token * columns);
}

/* Activations [tokens][columns] to where a matmul reads them. */
int64_t NAMED(activations)(const struct sink *to, int tokens, const float *values, float *row) {
    prepare(to, 0, 1);
    for (int token = 0; token < tokens; token++) {
        memcpy(row, values + (int64_t)token * to->columns, (size_t)to->columns * sizeof *row);
        const int64_t wrong = deliver(to, token, row);
        if (wrong != FINE)
            return wrong;
    }
    return FINE;
}
