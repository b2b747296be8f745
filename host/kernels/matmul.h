/* A matmul command under way: shared by its exact definition (matmul.c) and its fast form for x86
 * (matmul_avx2.c). */

#ifndef MATMUL_H
#define MATMUL_H

#include <pthread.h>
#include <stdatomic.h>

#include "round.h"

enum {
    MAX_BEAT_BYTES = 64,      /* spec.config: at most 512 bits */
    MAX_TOKENS = 16,          /* spec.numeric */
    TOP_K_MAX = 64,           /* spec.commands */
    MIN_WORK = 1 << 17,       /* products below which another thread costs more than it gives */
};

/* The largest results of one token, best first. An entry is the pattern turned so that unsigned
 * order is numeric order, then the row turned so that of equal results the lowest row is best. */
struct choices {
    uint64_t entries[TOP_K_MAX];
    int count;
};

/* 64 activations of one token: the even ones, the odd ones, sums of eight neighbours. */
struct half {
    int8_t even[32], odd[32];
    int32_t sums[8]; /* times 128 for int8 weights */
    int64_t lift;    /* left shift of the block beyond the token's smallest */
};

/* Sums of one tile [row][token], in 128 bits, or in 64 where no bit is lost: the exact sum is then
 * narrow << lifts[token]. */
struct sums {
    uint128_t *wide;
    int64_t *narrow;
    int is_narrow;
    int lifts[MAX_TOKENS];
};

/* What the threads of one command share. */
struct job {
    const struct matmul *command;
    int beat_bytes, columns, unit, units; /* of a weights beat; units: runs of `unit` values */
    int row_scales, scale_rows, zero_rows;
    struct half *halves; /* activations for the fast form [chunk][half][token]; NULL without it */
    int lows[MAX_TOKENS], highs[MAX_TOKENS]; /* smallest and largest lift of a token's blocks */
    int16_t *values;   /* activations [chunk][unit][token][even lanes, odd lanes] */
    uint8_t *shifts;   /* left shift by block [chunk][unit][token] */
    int bases[MAX_TOKENS];
    struct choices choices[MAX_TOKENS];
    pthread_mutex_t lock; /* of the choices */
    atomic_int next_tile;
    atomic_int failed; /* bit 0: a result out of range, bit 1: no memory */
};

/* Whether this processor and this command's layout have the fast form. */
int fast_matmul_fits(const struct matmul *m);

/* Sums of a tile in 64 bits. Returns 0, with nothing done, where a sum might not fit. */
int fast_matmul_tile(const struct job *job, int64_t tile, struct sums *sums);

#endif
