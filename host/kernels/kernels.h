/* What the compiled kernels share: the structures that Python fills (host/kernels/__init__.py has
 * them once more for ctypes) and what one file needs of another.
 *
 * Needs gcc or clang on a 64-bit little-endian machine. Loaded by ctypes, so without Python.h.
 */

#ifndef KERNELS_H
#define KERNELS_H

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || !defined(__SIZEOF_INT128__)
#error "the kernels need a 64-bit little-endian machine"
#endif

#define INLINED static inline __attribute__((always_inline))

enum {
    ABI = 5, /* changes with any structure here; host/kernels/__init__.py checks it */
    MAX_THREADS = 64,
    BLOCK = 64,             /* spec.numeric */
    SHIFT_MAX = 15,         /* spec.numeric */
    MANTISSA_MAX = 127,     /* spec.numeric */
    BASE_MIN = -80,         /* spec.numeric */
    BASE_MAX = 80,          /* spec.numeric */
    LANES = 16,             /* partial sums of every reduction, on every machine */
    MAX_COLUMNS = 1 << 20,  /* longest row of floats that a kernel takes */
    FINE = -1,              /* what a kernel returns when every value was finite */
};

/* Results of a matmul where the device wrote them: value n of token t is
 * first[(n / tile_rows * tile_tokens + t) * tile_rows + n % tile_rows], plus the same of `second`
 * where the activations went in as two terms. */
struct source {
    const float *first;
    const float *second; /* NULL: one term */
    int64_t tile_rows;
    int64_t tile_tokens;
};

/* Where a matmul's activations go: plain rows, or int8 block floating point in the layout that the
 * engine reads (spec.layout), as one term or as two. */
struct sink {
    float *plain;    /* [tokens][columns]; NULL for the engine's layout */
    uint8_t *first;  /* region of the first terms */
    uint8_t *second; /* region of the second terms, maybe the same; NULL for one term */
    int64_t stride;  /* bytes between the ports' parts of a region */
    int32_t columns;
    int32_t ports;
    int32_t port_bytes;
    int32_t spans;
    int32_t vectors;     /* slots of one region */
    int32_t second_slot; /* of token 0's second term in its region */
};

/* hidden += previous; the norm of it into the next matmul's activations. Sources and sinks are
 * arrays: entry n - 1 serves a pass of n tokens. */
struct norm {
    float *hidden;                 /* [tokens][columns] */
    const float *weight;           /* [columns] */
    const struct source *previous; /* NULL: nothing to add */
    const struct sink *next;
    float *scratch; /* [tokens][columns, padded to whole blocks] */
    int64_t columns;
    float epsilon;
    int32_t threads;
};

/* Formats of the KV cache. */
enum { CACHE_FP32 = 0, CACHE_FP16 = 1, CACHE_INT8 = 2 };

/* Bias and rotation of queries and keys, the cache's new entries, attention over all of it, and its
 * result into the next matmul's activations.
 *
 * Keys lie [kv_heads][context / 16][head_dim][16 positions], values [kv_heads][context][padded
 * head_dim]: both are then read in order, and no sum runs across a vector register. */
struct attention {
    const struct source *joined;
    const struct sink *next;
    const float *bias;    /* [(heads + 2 kv_heads) * head_dim] or NULL */
    const float *cosines; /* [context][head_dim / 2] */
    const float *sines;
    void *keys;
    void *values;
    uint16_t *key_scales; /* fp16 [kv_heads][context]; NULL unless the cache is int8 */
    uint16_t *value_scales;
    float *queries;  /* scratch [kv_heads][tokens][heads / kv_heads][head_dim] */
    float *scores;   /* scratch, a row of context + 16 for each of queries: rows that differ in a
                        power of two would share a set of the cache */
    float *shares;   /* scratch, one for each of queries: 1 / the sum of its weights */
    float *mixed;    /* scratch, a row of padded head_dim for each of queries */
    float *rows;     /* scratch [tokens][heads * head_dim, padded to whole blocks] */
    int64_t context; /* positions, a multiple of 16 */
    int32_t heads;
    int32_t kv_heads;
    int32_t head_dim;
    int32_t format;
    int32_t threads;
    float query_scale;
};

/* silu(gate) * up into the next matmul's activations. */
struct swiglu {
    const struct source *gate_up;
    const struct sink *next;
    float *scratch;     /* [tokens][columns, padded to whole blocks] */
    int32_t *exponents; /* scratch [tokens][blocks of columns] */
    int64_t columns;
    int32_t threads;
};

/* Rows of an embedding table. */
enum { TABLE_FP32 = 0, TABLE_FP16 = 1, TABLE_INT8 = 2, TABLE_INT4 = 3 };

struct table {
    const void *values;     /* [rows][columns]: float, fp16, int8, or one int4 value in a byte */
    const uint16_t *scales; /* fp16 [rows][columns / group]; quantised tables only */
    const uint8_t *zeros;   /* [rows][columns / group]; int4 only */
    int64_t rows;
    int64_t columns;
    int32_t format;
    int32_t group;
};

/* How to draw a token. */
struct drawing {
    uint64_t *entries; /* scratch [count] */
    double *sums;      /* scratch [count] */
    double temperature;
    double top_p;
    double point; /* 0 <= point < 1: where in the sum of probabilities */
    int64_t top_k; /* 0: all */
};

/* One matmul command: geometry from the configuration, the rest from the descriptor. */
struct matmul {
    const uint8_t *weights;
    const uint8_t *activations;
    uint8_t *results;
    int64_t weight_stride;
    int64_t activation_stride;
    int32_t ports;
    int32_t port_bytes;
    int32_t tile_rows;
    int32_t weights8;
    int32_t group;
    int32_t tokens;
    int32_t chunks;
    int32_t tiles;
    int32_t bf16;
    int32_t top_k; /* 0: all results are written */
    int32_t rows;  /* those that are not padding; read for top-k only */
    int32_t threads;
};

/* The version that tests ask for: 0 the best, 1 that of every processor, 2 at most AVX2. */
int kernels_preferred(void);

/* Runs `work(argument, index)` for index 0 .. count - 1 on up to `threads` threads (pool.c). */
void pool_run(void (*work)(void *, int), void *argument, int count, int threads);

enum { MAX_PHASES = 8 };

/* Runs `work(argument, phase, index)` for index 0 .. counts[phase] - 1 of each phase; a phase
 * begins when the one before it has ended. For one waking of the threads instead of one a phase. */
void pool_phases(void (*work)(void *, int, int), void *argument, const int *counts, int phases,
                 int threads);

/* Parts of each of `count` things so that the threads share all of them evenly. */
INLINED int cuts_for(int count, int threads) {
    int cuts = 1;
    while (count * cuts % threads && cuts < threads)
        cuts++;
    return cuts;
}

#endif
