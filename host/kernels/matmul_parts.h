/* The matmul for x86, on beats of 4 ports of 16 bytes and groups of 64 values or more.
 *
 * The same exact integers in fewer bits. Eight products of 64 values are summed per 32-bit lane,
 * multiplied by the scale (25 bits for int4, 28 for int8), added pairwise, shifted and accumulated
 * in four lanes of 64 bits. Shifts are taken relative to the smallest of the tile's scales and of
 * the token's blocks; where their spread does not leave room in 64 bits, matmul.c does the tile.
 *
 * Included once per instruction set (matmul_avx2.c, matmul_vnni.c). */

#include <immintrin.h>
#include <string.h>

#include "matmul.h"

enum {
    MAX_TILE_ROWS = 256,
    SCALES = 32, /* of a beat */
    AHEAD = 2048 /* bytes of a port that are asked for early; the machine stops at a page's end */
};

/* Smallest and largest shift of a tile's scales that are not zero. */
INLINED void scale_range(const struct job *job, const uint8_t *tile, int chunk_beats, int *low,
                         int *high) {
    const struct matmul *m = job->command;
    uint16_t least = 0xFFFF, most = 0;
    for (int chunk = 0; chunk < m->chunks; chunk++) {
        int beat = chunk * chunk_beats;
        for (int row = 0; row < m->tile_rows; row += job->scale_rows) {
            beat += !m->weights8 && row % job->zero_rows == 0;
            for (int port = 0; port < 4; port++) {
                uint16_t scales[8];
                memcpy(scales, tile + port * m->weight_stride + beat * 16, 16);
                for (int i = 0; i < 8; i++) {
                    const uint16_t scale = scales[i] & 0x7FFF;
                    const uint16_t bounded = scale ? scale : 0x7FFF;
                    most = scale > most ? scale : most;
                    least = bounded < least ? bounded : least;
                }
            }
            beat += 1 + (m->tile_rows - row < job->scale_rows ? m->tile_rows - row : job->scale_rows);
        }
    }
    *low = least >> 10 ? (least >> 10) - 1 : 0;
    *high = most >> 10 ? (most >> 10) - 1 : 0;
    *low = *low > *high ? *high : *low;
}

INLINED void read_meta(const struct job *job, const uint8_t *beat, int low, int32_t *mantissas,
                       int64_t *shifts) {
    for (int port = 0; port < 4; port++) {
        uint16_t scales[8];
        memcpy(scales, beat + port * job->command->weight_stride, 16);
        for (int i = 0; i < 8; i++) {
            const int exponent = scales[i] >> 10 & 31, fraction = scales[i] & 0x3FF;
            const int shift = (exponent ? exponent - 1 : 0) - low;
            mantissas[8 * port + i] = exponent ? fraction | 0x400 : fraction;
            shifts[8 * port + i] = shift < 0 ? 0 : shift; /* below the smallest: a zero scale */
        }
    }
}

INLINED __m256i two_ports(const uint8_t *from, int64_t stride) {
    const __m128i low = _mm_loadu_si128((const __m128i *)from);
    const __m128i high = _mm_loadu_si128((const __m128i *)(from + stride));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

INLINED __m256i load256(const void *from) { return _mm256_loadu_si256(from); }

/* sums + four products of unsigned weights (of 4 bits, or of 8 with VNNI) and activations a lane. */
INLINED __m256i dot(__m256i weights, __m256i values, __m256i sums) {
#if defined(__AVX512VNNI__)
    return _mm256_dpbusd_epi32(sums, weights, values);
#else
    const __m256i pairs = _mm256_maddubs_epi16(weights, values);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}

/* Adds eight lanes, 64 products, to four sums. */
INLINED void accumulate(__m256i scaled, int64_t shift, __m256i *sum) {
    const __m128i pairs = _mm_add_epi32(_mm256_castsi256_si128(scaled),
                                        _mm256_extracti128_si256(scaled, 1));
    const __m256i lifted = _mm256_sll_epi64(_mm256_cvtepi32_epi64(pairs), _mm_cvtsi64_si128(shift));
    *sum = _mm256_add_epi64(*sum, lifted);
}

/* 64 int4 weights of one row with every token's activations. */
INLINED void add_half4(__m256i weights, int32_t zero, int32_t mantissa, int64_t shift,
                       const struct half *halves, int tokens, __m256i *sums) {
    const __m256i mask = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
    const __m256i even = _mm256_and_si256(weights, mask);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi16(weights, 4), mask);
    const __m256i zeros = _mm256_set1_epi32(zero), scale = _mm256_set1_epi32(mantissa);
    for (int token = 0; token < tokens; token++) {
        const struct half *x = halves + token;
        const __m256i products = dot(even, load256(x->even), dot(odd, load256(x->odd), none));
        const __m256i offset = _mm256_madd_epi16(load256(x->sums), zeros);
        const __m256i inner = _mm256_sub_epi32(products, offset);
        accumulate(_mm256_madd_epi16(inner, scale), shift + x->lift, sums + token);
    }
}

/* 64 int8 weights: w + 128 in low and high nibbles. */
INLINED void add_half8(__m256i low, __m256i high, int32_t mantissa, int64_t shift,
                       const struct half *halves, int tokens, __m256i *sums) {
    const __m256i mask = _mm256_set1_epi8(15), none = _mm256_setzero_si256();
    const __m256i scale = _mm256_set1_epi32(mantissa);
    const __m256i low_even = _mm256_and_si256(low, mask), high_even = _mm256_and_si256(high, mask);
    const __m256i low_odd = _mm256_and_si256(_mm256_srli_epi16(low, 4), mask);
    const __m256i high_odd = _mm256_andnot_si256(mask, high); /* in place: times 16 */
    const __m256i even_bytes = _mm256_or_si256(low_even, _mm256_slli_epi16(high_even, 4));
    const __m256i odd_bytes = _mm256_or_si256(low_odd, high_odd);
    for (int token = 0; token < tokens; token++) {
        const struct half *x = halves + token;
        const __m256i even = load256(x->even), odd = load256(x->odd);
#if defined(__AVX512VNNI__)
        const __m256i whole = dot(even_bytes, even, dot(odd_bytes, odd, none));
        (void)low_even, (void)low_odd;
#else
        /* Bytes above 127 would overflow the pairs: low and high nibbles apart. */
        const __m256i highs = dot(high_even, even, dot(_mm256_srli_epi16(high_odd, 4), odd, none));
        const __m256i whole = dot(low_even, even, dot(low_odd, odd, _mm256_slli_epi32(highs, 4)));
        (void)even_bytes, (void)odd_bytes;
#endif
        const __m256i inner =
            _mm256_sub_epi32(whole, load256(x->sums));
        accumulate(_mm256_mullo_epi32(inner, scale), shift + x->lift, sums + token);
    }
}

/* Every sum of the tile [row][token] in four lanes. */
INLINED void add_all(const struct job *job, const uint8_t *from, int low, int weights8, int tokens,
                     __m256i *sums) {
    const struct matmul *m = job->command;
    const int64_t stride = m->weight_stride;
    const int per_row = job->row_scales, per_chunk = weights8 ? 1 : 2;
    int32_t mantissas[SCALES], zeros[2 * BLOCK] = {0};
    int64_t shifts[SCALES];
    for (int chunk = 0; chunk < m->chunks; chunk++) {
        const struct half *halves = job->halves + (int64_t)chunk * per_chunk * tokens;
        for (int row = 0; row < m->tile_rows; row++) {
            const int in_zeros = row % job->zero_rows * per_row;
            const int at = row % job->scale_rows * per_row, last = at + per_row - 1;
            if (!weights8 && in_zeros == 0) {
                for (int i = 0; i < BLOCK; i++) {
                    const uint8_t byte = from[i / 16 * stride + i % 16];
                    zeros[2 * i] = byte & 15, zeros[2 * i + 1] = byte >> 4;
                }
                from += 16;
            }
            if (at == 0) {
                read_meta(job, from, low, mantissas, shifts);
                from += 16;
            }
            _mm_prefetch((const char *)(from + (row & 3) * stride + AHEAD), _MM_HINT_T0);
            const __m256i first = two_ports(from, stride);
            const __m256i second = two_ports(from + 2 * stride, stride);
            __m256i *here = sums + (int64_t)row * tokens;
            from += 16;
            if (weights8) {
                add_half8(first, second, mantissas[at], shifts[at], halves, tokens, here);
            } else {
                add_half4(first, zeros[in_zeros], mantissas[at], shifts[at], halves, tokens, here);
                add_half4(second, zeros[in_zeros + per_row - 1], mantissas[last], shifts[last],
                          halves + tokens, tokens, here);
            }
        }
    }
}

/* Bits that hold `count` as a number of terms. */
INLINED int bits_for(int64_t count) { return 64 - __builtin_clzll((uint64_t)count); }

int NAMED(matmul_tile)(const struct job *job, int64_t tile, struct sums *sums) {
    const struct matmul *m = job->command;
    const int zero_beats = m->weights8 ? 0 : (m->tile_rows + job->zero_rows - 1) / job->zero_rows;
    const int scale_beats = (m->tile_rows + job->scale_rows - 1) / job->scale_rows;
    const int chunk_beats = m->tile_rows + scale_beats + zero_beats, tokens = m->tokens;
    const uint8_t *from = m->weights + tile * m->chunks * chunk_beats * 16;
    const int terms = bits_for(4 * (int64_t)m->chunks * job->columns / BLOCK);
    const int room = 62 - terms - (m->weights8 ? 29 : 26);
    __m256i totals[MAX_TILE_ROWS * MAX_TOKENS];
    int low, high;
    scale_range(job, from, chunk_beats, &low, &high);
    for (int token = 0; token < tokens; token++) {
        if (high - low + job->highs[token] - job->lows[token] > room)
            return 0;
        sums->lifts[token] = low + job->lows[token];
    }
    memset(totals, 0, (size_t)m->tile_rows * tokens * sizeof *totals);
    switch (2 * (tokens < 3 ? tokens : 0) + m->weights8) { /* constant loops for decode */
    case 2: add_all(job, from, low, 0, 1, totals); break;
    case 3: add_all(job, from, low, 1, 1, totals); break;
    case 4: add_all(job, from, low, 0, 2, totals); break;
    case 5: add_all(job, from, low, 1, 2, totals); break;
    case 0: add_all(job, from, low, 0, tokens, totals); break;
    case 1: add_all(job, from, low, 1, tokens, totals); break;
    }
    for (int64_t i = 0; i < (int64_t)m->tile_rows * tokens; i++) {
        int64_t lanes[4];
        memcpy(lanes, &totals[i], sizeof lanes);
        sums->narrow[i] = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
    return 1;
}
