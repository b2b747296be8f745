/* RMSNorm and SwiGLU, each fused with what comes before and after it; embedding rows; results.
 *
 * Included once per instruction set (floats.c, floats_avx2.c): NAMED gives each its own names. */

#include "rows.h"

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

/* hidden / rms(hidden) * weight (Zhang and Sennrich, arXiv 1910.07467) for tokens first ..
 * first + count of a pass of `tokens`. Returns FINE or which activation is not finite. */
int64_t NAMED(norm)(const struct norm *n, int tokens, int first, int count) {
    float *row = n->scratch;
    for (int token = 0; token < count; token++) {
        float *hidden = n->hidden + (first + token) * n->columns;
        if (n->previous) {
            read_row(n->previous + (tokens - 1), first + token, 0, n->columns, row);
            add_rows(hidden, row, n->columns, hidden);
        }
        const float mean = squares(hidden, n->columns) / (float)n->columns;
        const float scale = 1.0f / sqrtf(mean + n->epsilon);
        const struct lanes scales = lanes_of(scale);
        int64_t i = 0;
        for (; i + LANES <= n->columns; i += LANES)
            store(row + i, multiply(multiply(load(hidden + i), scales), load(n->weight + i)));
        for (; i < n->columns; i++)
            row[i] = hidden[i] * scale * n->weight[i];
        const int64_t wrong = deliver(n->next + (count - 1), token, row);
        if (wrong != FINE)
            return wrong;
    }
    return FINE;
}

INLINED void gate(const float *gates, const float *ups, int64_t count, float *out) {
    const vector one = spread(1.0f);
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        struct lanes x = load(gates + i);
        const struct lanes up = load(ups + i);
#define DO(p) x.p = x.p / (one + exponential_part(-x.p)) * up.p;
        EACH(DO)
#undef DO
        store(out + i, x);
    }
    for (; i < count; i++)
        out[i] = gates[i] / (1.0f + exponential(-gates[i])) * ups[i];
}

/* What the threads of one token share. */
struct NAMED(gating) {
    const struct swiglu *s;
    int tokens, token, parts;
};

static void NAMED(gate_part)(void *argument, int index) {
    const struct NAMED(gating) *team = argument;
    const struct swiglu *s = team->s;
    const int64_t blocks = (s->columns + BLOCK - 1) / BLOCK;
    const int64_t first = blocks * index / team->parts * BLOCK;
    int64_t last = blocks * (index + 1) / team->parts * BLOCK;
    last = last > s->columns ? s->columns : last;
    const struct source *from = s->gate_up + (team->tokens - 1);
    read_row(from, team->token, first, last - first, s->gates + first);
    read_row(from, team->token, s->columns + first, last - first, s->gates + s->columns + first);
    gate(s->gates + first, s->gates + s->columns + first, last - first, s->scratch + first);
}

enum { GATES_FOR_A_THREAD = 1024 }; /* fewer cost less than waking one */

/* silu(gate) * up (Shazeer, arXiv 2002.05202), silu(x) = x / (1 + exp(-x)). */
int64_t NAMED(swiglu)(const struct swiglu *s, int tokens) {
    const int64_t most = 1 + s->columns / GATES_FOR_A_THREAD;
    const int parts = most < s->threads ? (int)most : s->threads < 1 ? 1 : s->threads;
    for (int token = 0; token < tokens; token++) {
        struct NAMED(gating) team = {s, tokens, token, parts};
        pool_run(NAMED(gate_part), &team, parts, parts);
        const int64_t wrong = deliver(s->next + (tokens - 1), token, s->scratch);
        if (wrong != FINE)
            return wrong;
    }
    return FINE;
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
    for (int token = 0; token < tokens; token++) {
        memcpy(row, values + (int64_t)token * to->columns, (size_t)to->columns * sizeof *row);
        const int64_t wrong = deliver(to, token, row);
        if (wrong != FINE)
            return wrong;
    }
    return FINE;
}
