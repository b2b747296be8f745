/* The next token from logits: the largest, or one drawn by temperature, top-k and top-p.
 *
 * Included once per instruction set, as layer_parts.h. */

#include "lanes.h"

/* Index of the largest score, the first of equal ones; -1 when it is not finite or one is NaN. */
int64_t NAMED(largest_of)(const float *scores, int64_t count) {
    struct lanes most[4], wrong = lanes_of(0);
    float highest = -INFINITY;
    int64_t i = 0;
    for (int j = 0; j < 4; j++)
        most[j] = lanes_of(-INFINITY);
    for (; i + 4 * LANES <= count; i += 4 * LANES) {
        for (int j = 0; j < 4; j++) {
            const struct lanes part = load(scores + i + j * LANES);
            most[j] = larger(most[j], part);
            wrong = add(wrong, part); /* NaN stays NaN; infinities are looked at below */
        }
    }
    for (int j = 0; j < 4; j++) {
        const float found = largest(most[j]);
        highest = found > highest ? found : highest;
    }
    int odd = any_nan(wrong);
    for (; i < count; i++) {
        odd |= scores[i] != scores[i];
        highest = scores[i] > highest ? scores[i] : highest;
    }
    if (odd) /* NaN, or infinities of both signs, or a sum beyond fp32 */
        for (int64_t j = 0; j < count; j++)
            if (scores[j] != scores[j])
                return -1;
    if (!(highest > -INFINITY && highest < INFINITY))
        return -1;
    for (i = 0; i + 4 * LANES <= count; i += 4 * LANES) { /* to the run that holds it */
        uint32_t held = 0;
        for (int j = 0; j < 4 * LANES; j++)
            held |= scores[i + j] == highest;
        if (held)
            break;
    }
    while (scores[i] != highest)
        i++;
    return i;
}

/* exp(x) for x <= 0 to 15 digits, the same on every machine: Taylor's sum after range reduction. */
INLINED double exponential_double(double x) {
    if (x < -700)
        return 0;
    const double n = rint(x * 1.4426950408889634);
    double rest = x - n * 0.693147180369123816490, sum = 1;
    rest = rest - n * 1.90821492927058770002e-10;
    for (int k = 13; k > 0; k--)
        sum = 1 + sum * rest / k;
    const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double power;
    memcpy(&power, &bits, 8);
    return sum * power;
}

/* A score and its place: larger entries are larger scores, then lower places. */
INLINED uint64_t entry_of(float score, int64_t place) {
    const uint32_t bits = bits_of(score + 0.0f); /* -0 and 0 are equal */
    const uint32_t key = bits >> 31 ? ~bits : bits | 1u << 31;
    return (uint64_t)key << 32 | (uint32_t)~(uint32_t)place;
}

INLINED float score_of(uint64_t entry) {
    const uint32_t key = (uint32_t)(entry >> 32);
    return float_of(key >> 31 ? key ^ 1u << 31 : ~key);
}

/* Sinks the entry at `at` of a heap whose smallest entry is on top. */
INLINED void sink_entry(uint64_t *heap, int64_t count, int64_t at) {
    for (int64_t below; (below = 2 * at + 1) < count; at = below) {
        below += below + 1 < count && heap[below + 1] < heap[below];
        if (heap[at] <= heap[below])
            return;
        const uint64_t entry = heap[at];
        heap[at] = heap[below], heap[below] = entry;
    }
}

/* The `keep` largest entries, largest first. */
INLINED void keep_largest(const float *scores, int64_t count, uint64_t *heap, int64_t keep) {
    for (int64_t i = 0; i < keep; i++)
        heap[i] = entry_of(scores[i], i);
    for (int64_t i = keep / 2 - 1; i >= 0; i--)
        sink_entry(heap, keep, i);
    for (int64_t i = keep; i < count; i++) {
        const uint64_t entry = entry_of(scores[i], i);
        if (entry > heap[0]) {
            heap[0] = entry;
            sink_entry(heap, keep, 0);
        }
    }
    for (int64_t left = keep - 1; left > 0; left--) {
        const uint64_t entry = heap[0];
        heap[0] = heap[left], heap[left] = entry;
        sink_entry(heap, left, 0);
    }
}

/* A place by its probability among those that top-k and top-p keep; -1 for scores that are not
 * numbers. Weights are doubles, as is their sum, largest first. */
int64_t NAMED(draw)(const float *scores, int64_t count, const struct drawing *d) {
    const int64_t first = NAMED(largest_of)(scores, count);
    if (first < 0)
        return -1;
    const int64_t keep = d->top_k && d->top_k < count ? d->top_k : count;
    const double highest = (double)scores[first] / d->temperature;
    double sum = 0, enough;
    keep_largest(scores, count, d->entries, keep);
    for (int64_t i = 0; i < keep; i++) {
        sum += exponential_double((double)score_of(d->entries[i]) / d->temperature - highest);
        d->sums[i] = sum;
    }
    int64_t end = keep, chosen = 0;
    if (d->top_p < 1) {
        enough = d->top_p * sum;
        for (end = 0; d->sums[end] < enough;)
            end++;
        end++;
    }
    const double point = d->point * d->sums[end - 1];
    while (chosen < end - 1 && d->sums[chosen] <= point)
        chosen++;
    return (int64_t)(uint32_t)~(uint32_t)d->entries[chosen];
}
