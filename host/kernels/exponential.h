/* exp and 1 / x of whole registers, the same bits on every machine. */

#ifndef EXPONENTIAL_H
#define EXPONENTIAL_H

#include "lanes.h"
#if defined(__aarch64__)
#include "exponential_a53.h"
#endif

/* exp(sign * x); |x| above 86 counts as 86, NaN stays NaN. Relative error below 2**-19, and below
 * 2**-21 for |x| < 16. 2**n by its exponent, and a polynomial for the rest, fitted to the least
 * relative error over -0.5 .. 0.5; in pairs (Estrin), which wait less for each other. */
INLINED struct lanes exponentials(struct lanes x, float sign) {
#define DO(p)                                                                                      \
    {                                                                                              \
        const vector magic = spread(12582912.0f), rate = spread(sign * 1.44269504f);               \
        const vector bounded = at_most(at_least(x.p, spread(-86.0f)), spread(86.0f));              \
        const vector shifted = fused(bounded, rate, magic); /* n in the low bits */                \
        const vector rest = fused(bounded, rate, magic - shifted), square = rest * rest;           \
        const vector high = rest * spread(0.00132644549f) + spread(0.00967172533f);                \
        const vector middle = fused(rest, spread(0.0555073619f), spread(0.240222394f));            \
        const vector low = fused(rest, spread(0.693147004f), spread(1.0f));                        \
        const vector sum = fused(fused(high, square, middle), square, low);                        \
        x.p = sum * (vector)(((vector_bits)shifted << 23) + 0x3F800000);                           \
    }
    EACH(DO)
#undef DO
    return x;
}

/* 1 / x for 1 <= x <= exp(87), relative error below 2**-22: no machine's own estimate, which would
 * differ, but one from the pattern and three steps of Newton's. */
INLINED struct lanes reciprocals(struct lanes x) {
#define DO(p)                                                                                      \
    {                                                                                              \
        vector found = (vector)(0x7EF311C7 - (vector_bits)x.p);                                    \
        for (int step = 0; step < 3; step++)                                                       \
            found *= two_less(x.p, found);                                                         \
        x.p = found;                                                                               \
    }
    EACH(DO)
#undef DO
    return x;
}

#if !defined(__aarch64__)

/* `count` runs of 16 scores to exp(score - highest), added to 16 sums. */
INLINED void weigh_runs(float *scores, int64_t count, float highest, float *sums) {
    const struct lanes highests = lanes_of(highest);
    struct lanes all = load(sums);
    for (; count > 0; count--, scores += LANES) {
        const struct lanes weights = exponentials(subtract(load(scores), highests), 1.0f);
        store(scores, weights);
        all = add(all, weights);
    }
    store(sums, all);
}

/* `count` runs of 16: out = gate * up / (1 + exp(-gate)). */
INLINED void gate_runs(const float *gates, const float *ups, float *out, int64_t count) {
    for (; count > 0; count--, gates += LANES, ups += LANES, out += LANES) {
        const struct lanes gate = load(gates);
        const struct lanes below = add(exponentials(gate, -1.0f), lanes_of(1.0f));
        store(out, multiply(multiply(gate, load(ups)), reciprocals(below)));
    }
}

#endif

#endif
