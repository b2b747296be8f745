/* The inner loop of attention: rows of floats times 16 columns of the KV cache.
 *
 *     c[row][column] += a[row][k] * b[k][column],  k = 0 .. depth - 1 in order, each step fused
 *
 * An element's sum depends on its row and column alone, so machines may cut rows and columns as
 * their registers suit; entries become floats on their way in, once for all rows of a panel. */

#ifndef PANEL_H
#define PANEL_H

#include "formats.h"
#if defined(__aarch64__)
#include "panel_a53.h"
#endif

struct panel {
    const float *a; /* [rows][a_stride] */
    const void *b;  /* [depth][b_stride] entries of the cache, 16 of each row are read */
    float *c;       /* [rows][c_stride] */
    int64_t a_stride, b_stride, c_stride, depth;
    int fresh;         /* whether c begins at 0 */
    const void *ahead; /* what will be read soon: 64 bytes of it every `ahead_stride` bytes */
    int64_t ahead_stride;
};

/* Rows whose sums stay in registers. */
#if VECTOR_BYTES == 64
#define PANEL_ROWS 8
#elif VECTOR_BYTES == 32
#define PANEL_ROWS 6
#else
#define PANEL_ROWS 3
#endif

/* Steps from `k` on. */
INLINED void panel_rows(const struct panel *p, int rows, int format, int64_t k) {
    const char *b = (const char *)p->b + k * p->b_stride * entry_bytes(format);
    struct lanes sums[PANEL_ROWS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        sums[r] = p->fresh && !k ? lanes_of(0) : load(p->c + r * p->c_stride);
    for (; k < p->depth; k++, b += p->b_stride * entry_bytes(format)) {
        const struct lanes entries = load_entries(format, b);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
            sums[r] = multiply_add_one(entries, spread(p->a[r * p->a_stride + k]), sums[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        store(p->c + r * p->c_stride, sums[r]);
}

/* The number of rows and the format become constants, so that no loop over them is left. */
INLINED void panel_format(const struct panel *p, int rows, int format, int64_t k) {
    switch (rows) {
    case 1: panel_rows(p, 1, format, k); break;
    case 2: panel_rows(p, 2, format, k); break;
    case 3: panel_rows(p, 3, format, k); break;
#if PANEL_ROWS > 3
    case 4: panel_rows(p, 4, format, k); break;
    case 5: panel_rows(p, 5, format, k); break;
    case 6: panel_rows(p, 6, format, k); break;
#endif
#if PANEL_ROWS > 6
    case 7: panel_rows(p, 7, format, k); break;
    case 8: panel_rows(p, 8, format, k); break;
#endif
    }
}

/* Rows from `k` on, in parts of nearly equal size. */
static void panel_from(const struct panel *p, int rows, int format, int64_t k) {
    struct panel part = *p;
    for (int count; rows > 0; rows -= count) {
        const int parts = (rows + PANEL_ROWS - 1) / PANEL_ROWS;
        count = (rows + parts - 1) / parts;
        if (format == CACHE_FP32)
            panel_format(&part, count, CACHE_FP32, k);
        else if (format == CACHE_FP16)
            panel_format(&part, count, CACHE_FP16, k);
        else
            panel_format(&part, count, CACHE_INT8, k);
        part.a += count * part.a_stride, part.c += count * part.c_stride;
    }
}

#if defined(__aarch64__)

enum { ROWS_OF_FOURS = 8, HALF = LANES / 2 };

/* Whole fours of steps; the rest, and what is already in fp32, by panel_from. */
static void multiply_panel(const struct panel *p, int rows, int format) {
    const int64_t bytes = entry_bytes(format);
    const int fours = format == CACHE_FP32 ? 0 : (int)(p->depth / 4);
    for (int done = 0, count; fours && done < rows; done += count) {
        const int left = rows - done, parts = (left + ROWS_OF_FOURS - 1) / ROWS_OF_FOURS;
        const char *a = (const char *)(p->a + done * p->a_stride);
        count = (left + parts - 1) / parts;
        for (int half = 0; half < 2; half++) {
            float *c = p->c + done * p->c_stride + half * HALF;
            panel_fours(count, format, a, p->a_stride * 4,
                        (const char *)p->b + half * HALF * bytes, p->b_stride * bytes, c,
                        p->c_stride * 4, p->fresh,
                        (const char *)p->ahead + half * fours * p->ahead_stride, p->ahead_stride,
                        fours);
        }
    }
    if (4 * fours < p->depth)
        panel_from(p, rows, format, 4 * (int64_t)fours);
}

#else

static void multiply_panel(const struct panel *p, int rows, int format) {
    panel_from(p, rows, format, 0);
}

#endif

#endif
