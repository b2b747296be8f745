/* A matmul command on the packed memory image, exactly: the `cpu` device's arithmetic.
 *
 * Every row is accumulated in a 128-bit integer and rounded once, as spec.numeric defines it, so
 * the results equal the golden model's and the hardware's bit for bit. A weights beat is decoded
 * once for all tokens. Loops are written for the compiler's vectoriser: 16-bit integers, constant
 * lengths, one multiply-add per pair of values.
 *
 * Values of a unit (a run under one scale and one block shift) are kept with its even lanes first
 * and its odd lanes after them, as the nibbles come apart; activations are put in the same order.
 */

#include <stdlib.h>
#include <string.h>

#include "matmul.h"

/* The better of two versions is chosen when the library is loaded (needs glibc's ifunc). */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define MULTIVERSIONED __attribute__((target_clones("avx2", "default")))
#else
#define MULTIVERSIONED
#endif

INLINED void read_beat(const struct matmul *m, const uint8_t *region, int64_t stride, int64_t beat,
                       uint8_t *out) {
    for (int port = 0; port < m->ports; port++) {
        const uint8_t *from = region + port * stride + beat * m->port_bytes;
        if (m->port_bytes == 16)
            memcpy(out + 16 * port, from, 16); /* constant length: one move */
        else
            memcpy(out + port * m->port_bytes, from, (size_t)m->port_bytes);
    }
}

/* Signed values of one unit of an int4 weights beat. */
INLINED void decode4(const uint8_t *bytes, int zero, int unit, int16_t *out) {
    for (int i = 0; i < unit / 2; i++) {
        out[i] = (int16_t)((bytes[i] & 15) - zero);
        out[unit / 2 + i] = (int16_t)((bytes[i] >> 4) - zero);
    }
}

/* Signed values of one unit of an int8 weights beat: low and high nibbles lie half a beat apart. */
INLINED void decode8(const uint8_t *low, const uint8_t *high, int unit, int16_t *out) {
    for (int i = 0; i < unit / 2; i++) {
        out[i] = (int16_t)(((low[i] & 15) | (high[i] & 15) << 4) - 128);
        out[unit / 2 + i] = (int16_t)(((low[i] >> 4) | (high[i] & 0xF0)) - 128);
    }
}

INLINED int32_t dot(const int16_t *weights, const int16_t *values, int unit) {
    int32_t sum = 0;
    for (int i = 0; i < unit; i++)
        sum += (int32_t)weights[i] * values[i];
    return sum;
}

/* One row's beat in the image: its weights, its first scale, the nibble of its first zero point. */
struct row {
    const uint8_t *weights;
    const uint16_t *scales;
    const uint8_t *zeros;
    int zero;
};

/* Adds one row's weights beat to the row's sums, one per token. */
INLINED void add_beat(const struct job *job, int chunk, struct row row, int weights8, int unit,
                      uint128_t *sums) {
    const int tokens = job->command->tokens, group = job->command->group;
    const int16_t *values = job->values + (int64_t)chunk * job->units * tokens * unit;
    const uint8_t *shifts = job->shifts + (int64_t)chunk * job->units * tokens;
    for (int u = 0; u < job->units; u++, values += tokens * unit, shifts += tokens) {
        const int scale = row.scales[u * unit / group], zero = row.zero + u * unit / group;
        const int exponent = scale >> 10 & 31, fraction = scale & 0x3FF;
        const int64_t mantissa = exponent ? fraction | 0x400 : fraction;
        const int shift = exponent ? exponent - 1 : 0;
        const uint8_t *bytes = row.weights + u * (unit / 2);
        int16_t weights[64];
        if (mantissa == 0)
            continue;
        if (weights8)
            decode8(bytes, bytes + job->beat_bytes / 2, unit, weights);
        else
            decode4(bytes, row.zeros[zero / 2] >> 4 * (zero % 2) & 15, unit, weights);
        for (int token = 0; token < tokens; token++) {
            const int64_t product = dot(weights, values + token * unit, unit) * mantissa;
            sums[token] += (uint128_t)(__int128)product << (shift + shifts[token]);
        }
    }
}

/* Exact sums [row][token] of one tile. */
INLINED void add_tile(const struct job *job, int64_t tile, int weights8, int unit,
                      uint128_t *sums) {
    const struct matmul *m = job->command;
    const int zero_beats = weights8 ? 0 : (m->tile_rows + job->zero_rows - 1) / job->zero_rows;
    const int scale_beats = (m->tile_rows + job->scale_rows - 1) / job->scale_rows;
    int64_t beat = tile * m->chunks * (m->tile_rows + scale_beats + zero_beats);
    uint8_t data[MAX_BEAT_BYTES], zeros[MAX_BEAT_BYTES];
    uint16_t scales[MAX_BEAT_BYTES / 2];
    for (int chunk = 0; chunk < m->chunks; chunk++) {
        for (int row = 0; row < m->tile_rows; row++) {
            const int in_zeros = row % job->zero_rows, in_scales = row % job->scale_rows;
            if (!weights8 && in_zeros == 0)
                read_beat(m, m->weights, m->weight_stride, beat++, zeros);
            if (in_scales == 0)
                read_beat(m, m->weights, m->weight_stride, beat++, (uint8_t *)scales);
            read_beat(m, m->weights, m->weight_stride, beat++, data);
            const struct row found = {data, scales + in_scales * job->row_scales, zeros,
                                      in_zeros * job->row_scales};
            add_beat(job, chunk, found, weights8, unit, sums + (int64_t)row * m->tokens);
        }
    }
}

/* The same for the lengths that occur, each with its own constant loops. */
MULTIVERSIONED
void kernels_add_tile(const struct job *job, int64_t tile, uint128_t *sums) {
    const int kind = job->unit + job->command->weights8;
    switch (kind) {
    case 16: add_tile(job, tile, 0, 16, sums); break;
    case 17: add_tile(job, tile, 1, 16, sums); break;
    case 32: add_tile(job, tile, 0, 32, sums); break;
    case 33: add_tile(job, tile, 1, 32, sums); break;
    case 64: add_tile(job, tile, 0, 64, sums); break;
    case 65: add_tile(job, tile, 1, 64, sums); break;
    }
}

/* The result of one row and token. */
INLINED uint32_t result_of(const struct job *job, const struct sums *sums, int64_t row, int token,
                           int *good) {
    const int64_t at = row * job->command->tokens + token;
    const int base = job->bases[token], bf16 = job->command->bf16;
    if (!sums->is_narrow)
        return round_result(sums->wide[at], base, bf16, good);
    const int64_t narrow = sums->narrow[at];
    const int lift = sums->lifts[token], exponent = base - SHIFT_MAX + SCALE_EXPONENT_LSB + lift;
    if (!bf16 && base >= BASE_MIN && base <= BASE_MAX) {
        /* One rounding, to nearest even; then an exact power of two, for results are normal. */
        const uint32_t power = (uint32_t)(127 + exponent) << 23;
        float value;
        uint32_t pattern;
        memcpy(&value, &power, 4);
        value *= (float)narrow;
        memcpy(&pattern, &value, 4);
        if ((pattern & 0x7F800000) != 0x7F800000)
            return narrow ? pattern : 0;
    }
    return round_result((uint128_t)(__int128)narrow << lift, base, bf16, good);
}

static int write_tile(const struct job *job, int64_t tile, const struct sums *sums) {
    const struct matmul *m = job->command;
    const int64_t size = m->bf16 ? 2 : 4;
    uint8_t *out = m->results + tile * m->tokens * m->tile_rows * size;
    int good = 1;
    for (int token = 0; token < m->tokens; token++) {
        for (int row = 0; row < m->tile_rows; row++, out += size) {
            const uint32_t pattern = result_of(job, sums, row, token, &good);
            memcpy(out, &pattern, (size_t)size);
        }
    }
    return good;
}

static void choose(struct choices *choices, int top_k, uint64_t entry) {
    int place = choices->count;
    if (place == top_k && entry < choices->entries[--place])
        return;
    for (; place > 0 && choices->entries[place - 1] < entry; place--)
        choices->entries[place] = choices->entries[place - 1];
    choices->entries[place] = entry;
    choices->count += choices->count < top_k;
}

static int choose_tile(const struct job *job, int64_t tile, const struct sums *sums,
                       struct choices *choices) {
    const struct matmul *m = job->command;
    const int64_t first = tile * m->tile_rows;
    int good = 1;
    for (int64_t row = 0; row < m->tile_rows; row++) {
        for (int token = 0; token < m->tokens; token++) {
            const uint32_t pattern = result_of(job, sums, row, token, &good);
            const uint32_t key = pattern >> 31 ? ~pattern : pattern | 1u << 31;
            if (first + row < m->rows)
                choose(&choices[token], m->top_k, (uint64_t)key << 32 | ~(uint32_t)(first + row));
        }
    }
    return good;
}

/* Adds a thread's choices to the command's. */
static void merge(struct job *job, const struct choices *choices) {
    pthread_mutex_lock(&job->lock);
    for (int token = 0; token < job->command->tokens; token++)
        for (int i = 0; i < choices[token].count; i++)
            choose(&job->choices[token], job->command->top_k, choices[token].entries[i]);
    pthread_mutex_unlock(&job->lock);
}

static void write_choices(const struct job *job) {
    const struct matmul *m = job->command;
    uint8_t *out = m->results;
    for (int token = 0; token < m->tokens; token++) {
        for (int i = 0; i < m->top_k; i++, out += 8) {
            const uint64_t entry = job->choices[token].entries[i];
            const uint32_t key = (uint32_t)(entry >> 32);
            const uint32_t words[2] = {key >> 31 ? key ^ 1u << 31 : ~key, ~(uint32_t)entry};
            memcpy(out, words, sizeof words);
        }
    }
}

static void work(void *argument, int index) {
    (void)index; /* every thread takes tiles until none is left */
    struct job *job = argument;
    const struct matmul *m = job->command;
    const size_t bytes = (size_t)m->tile_rows * m->tokens * sizeof(uint128_t);
    uint128_t *wide = aligned_alloc(64, (bytes + 63) / 64 * 64);
    struct sums sums = {.wide = wide, .narrow = (int64_t *)wide};
    struct choices choices[MAX_TOKENS];
    for (int token = 0; token < m->tokens; token++)
        choices[token].count = 0;
    if (!wide) {
        atomic_fetch_or(&job->failed, 2);
        return;
    }
    for (int tile; (tile = atomic_fetch_add(&job->next_tile, 1)) < m->tiles;) {
        sums.is_narrow = job->halves && fast_matmul_tile(job, tile, &sums);
        if (!sums.is_narrow) {
            memset(wide, 0, bytes);
            kernels_add_tile(job, tile, wide);
        }
        if (!(m->top_k ? choose_tile(job, tile, &sums, choices) : write_tile(job, tile, &sums)))
            atomic_fetch_or(&job->failed, 1);
    }
    merge(job, choices);
    free(wide);
}

/* Puts the activations of a command in the order in which the dot products read them. */
static void read_activations(struct job *job) {
    const struct matmul *m = job->command;
    const int span = job->beat_bytes, per_span = span / job->unit, unit = job->unit;
    const int spans = m->chunks * job->columns / span;
    uint8_t data[MAX_BEAT_BYTES];
    int64_t beat = 0;
    read_beat(m, m->activations, m->activation_stride, beat++, data);
    for (int token = 0; token < m->tokens; token++)
        job->bases[token] = (int8_t)data[token];
    for (int64_t s = 0; s < spans; s++) {
        read_beat(m, m->activations, m->activation_stride, beat++, data);
        for (int u = 0; u < per_span; u++)
            for (int token = 0; token < m->tokens; token++)
                job->shifts[(s * per_span + u) * m->tokens + token] =
                    (uint8_t)(SHIFT_MAX - (data[token] & SHIFT_MAX));
        for (int token = 0; token < m->tokens; token++) {
            read_beat(m, m->activations, m->activation_stride, beat++, data);
            for (int u = 0; u < per_span; u++) {
                int16_t *out = job->values + ((s * per_span + u) * m->tokens + token) * unit;
                for (int i = 0; i < unit; i++)
                    out[i % 2 * (unit / 2) + i / 2] = (int8_t)data[u * unit + i];
            }
        }
    }
}

/* The same for the fast form. */
static void arrange_halves(struct job *job) {
    const struct matmul *m = job->command;
    const int64_t count = (int64_t)m->chunks * job->columns / BLOCK;
    for (int token = 0; token < m->tokens; token++) {
        int low = SHIFT_MAX, high = 0;
        for (int64_t b = 0; b < count; b++) {
            struct half *half = &job->halves[b * m->tokens + token];
            const int16_t *values = job->values + (b * m->tokens + token) * BLOCK;
            int any = 0;
            half->lift = job->shifts[b * m->tokens + token];
            for (int i = 0; i < BLOCK / 2; i++) {
                half->even[i] = (int8_t)values[i];
                half->odd[i] = (int8_t)values[BLOCK / 2 + i];
                any |= values[i] | values[BLOCK / 2 + i];
            }
            for (int i = 0; i < 8; i++) {
                int32_t sum = 0;
                for (int j = 4 * i; j < 4 * i + 4; j++)
                    sum += half->even[j] + half->odd[j];
                half->sums[i] = m->weights8 ? 128 * sum : sum;
            }
            if (!any)
                half->lift = -1;
            else if (half->lift < low)
                low = (int)half->lift;
            if (half->lift > high)
                high = (int)half->lift;
        }
        for (int64_t b = 0; b < count; b++) {
            struct half *half = &job->halves[b * m->tokens + token];
            half->lift = half->lift < 0 ? 0 : half->lift - low;
        }
        job->lows[token] = low, job->highs[token] = high > low ? high : low;
    }
}

static int threads_for(const struct job *job) {
    const struct matmul *m = job->command;
    const int64_t products = (int64_t)m->tiles * m->tile_rows * m->chunks * job->columns;
    int64_t threads = 1 + products * m->tokens / MIN_WORK;
    if (threads > m->threads)
        threads = m->threads;
    if (threads > m->tiles)
        threads = m->tiles;
    return threads > MAX_THREADS ? MAX_THREADS : (int)threads;
}

/* Performs a checked command. Returns 0; 1 when a result left the range of fp32; 2 for no memory. */
int kernels_matmul(const struct matmul *m) {
    struct job job = {.command = m, .beat_bytes = m->ports * m->port_bytes,
                      .lock = PTHREAD_MUTEX_INITIALIZER};
    job.columns = m->weights8 ? job.beat_bytes : 2 * job.beat_bytes;
    job.unit = m->group < job.beat_bytes ? m->group : job.beat_bytes;
    job.units = job.columns / job.unit;
    job.row_scales = job.columns > m->group ? job.columns / m->group : 1;
    job.scale_rows = job.beat_bytes / 2 / job.row_scales;
    job.zero_rows = job.beat_bytes * 2 / job.row_scales;
    const size_t units = (size_t)m->chunks * job.units * m->tokens;
    job.values = malloc(units * job.unit * sizeof(int16_t));
    job.shifts = malloc(units);
    if (job.values && job.shifts) {
        const int threads = threads_for(&job);
        read_activations(&job);
        /* The fast form wants units of a whole block. */
        if (kernels_preferred() != 1 && job.unit == BLOCK && fast_matmul_fits(m))
            job.halves = aligned_alloc(64, (units * sizeof *job.halves + 63) / 64 * 64);
        if (job.halves)
            arrange_halves(&job);
        pool_run(work, &job, threads, threads);
        if (m->top_k && !(job.failed & 2))
            write_choices(&job);
    } else {
        job.failed = 2;
    }
    free(job.halves);
    free(job.values);
    free(job.shifts);
    return job.failed & 2 ? 2 : job.failed;
}
