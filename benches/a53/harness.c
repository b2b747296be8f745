/* Runs one kernel on made-up operands: harness KERNEL REPEATS NUMBER..., with the KV260's layout
 * (four ports of 16 bytes, tiles of 64 rows), and prints a check sum of what it wrote: the same on
 * every machine. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "rescore.h"

enum { CORES = 4 };

enum { PORTS = 4, PORT_BYTES = 16, TILE_ROWS = 64, SPAN = PORTS * PORT_BYTES, PASS = 8 };

int64_t kernels_norm(const struct norm *, int, int, int);
int64_t kernels_swiglu(const struct swiglu *, int);
int64_t kernels_attend(const struct attention *, int, int64_t);
void kernels_gather(const struct table *, const int64_t *, int, float *);
void kernels_results(const struct source *, int, int64_t, float *);
int64_t kernels_activations(const struct sink *, int, const float *, float *);
int64_t kernels_largest(const float *, int64_t);
int64_t kernels_draw(const float *, int64_t, const struct drawing *);
int kernels_matmul(const struct matmul *);

static uint32_t state = 1;

static void *bytes(int64_t size) {
    void *memory = aligned_alloc(64, (size_t)(size + 4159) / 64 * 64);
    if (!memory)
        exit(2);
    memset(memory, 0, (size_t)size + 4096);
    return memory;
}

static float *floats(int64_t count) {
    float *values = bytes(count * 4);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223;
        values[i] = ((float)(state >> 8) / 8388608.0f - 1.0f) * 2.0f;
    }
    return values;
}

/* Small integers and positive scales, wherever they are read. */
static uint8_t *numbers(int64_t count) {
    uint8_t *values = bytes(count);
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223;
        values[i] = (state >> 24) & 0x3F;
    }
    return values;
}

static int64_t tiles(int64_t rows) { return (rows + TILE_ROWS - 1) / TILE_ROWS; }

static const struct source *sources(int64_t rows, int terms) {
    struct source *all = bytes(PASS * sizeof *all);
    const float *values = floats(tiles(rows) * TILE_ROWS * PASS * 2);
    for (int n = 0; n < PASS; n++)
        all[n] = (struct source){values, terms == 2 ? values + (n + 1) * TILE_ROWS : NULL,
                                 TILE_ROWS, (n + 1) * terms};
    return all;
}

static const struct sink *sinks(int64_t columns, int terms) {
    const int64_t spans = (columns + SPAN - 1) / SPAN;
    const int64_t stride = (1 + spans * (1 + 2 * PASS)) * PORT_BYTES;
    struct sink *all = bytes(PASS * sizeof *all);
    uint8_t *region = bytes(stride * PORTS);
    for (int n = 0; n < PASS; n++)
        all[n] = (struct sink){NULL, region, terms == 2 ? region : NULL, stride, (int32_t)columns,
                               PORTS, PORT_BYTES, (int32_t)spans, (n + 1) * terms, n + 1};
    return all;
}

static int repeats;
static long n[8];

static const uint8_t *written;
static int64_t written_size;

static void *output(void *memory, int64_t size) {
    written = memory, written_size = size;
    return memory;
}

static const struct sink *shown(const struct sink *all) {
    output(all->first, all->stride * PORTS);
    return all;
}

static void norm(void) { /* columns, tokens, terms of what is added, terms of what follows */
    struct norm a = {floats(n[0] * PASS), floats(n[0]), sources(n[0], (int)n[2]),
                     shown(sinks(n[0], (int)n[3])), bytes(PASS * (n[0] + 64) * 4), n[0], 1e-6f, CORES};
    for (int i = 0; i < repeats; i++)
        kernels_norm(&a, (int)n[1], 0, (int)n[1]);
}

static void swiglu(void) { /* columns, tokens */
    struct swiglu a = {sources(2 * n[0], 1), shown(sinks(n[0], 1)), bytes(PASS * (n[0] + 64) * 4),
                       bytes(PASS * n[0]), n[0], CORES};
    for (int i = 0; i < repeats; i++)
        kernels_swiglu(&a, (int)n[1]);
}

static void attend(void) { /* heads, kv heads, head_dim, past, tokens, format, terms */
    const int64_t context = (n[3] + n[4] + 15) / 16 * 16, wide = (n[2] + 15) / 16 * 16;
    const int64_t rows = (n[0] + 2 * n[1]) * n[2], entries = n[1] * context * wide;
    struct attention a = {
        .joined = sources(rows, (int)n[6]), .next = shown(sinks(n[0] * n[2], 1)), .bias = floats(rows),
        .cosines = floats(context * n[2] / 2), .sines = floats(context * n[2] / 2),
        .keys = n[5] == CACHE_FP32 ? (void *)floats(entries) : numbers(entries * 2),
        .values = n[5] == CACHE_FP32 ? (void *)floats(entries) : numbers(entries * 2),
        .key_scales = (void *)numbers(n[1] * context * 2),
        .value_scales = (void *)numbers(n[1] * context * 2),
        .queries = bytes(PASS * n[0] * n[2] * 4), .scores = bytes(PASS * n[0] * (context + 16) * 4),
        .shares = bytes(PASS * n[0] * 4), .mixed = bytes(PASS * n[0] * wide * 4),
        .rows = bytes(PASS * (n[0] * n[2] + 64) * 4), .context = context, .heads = (int)n[0],
        .kv_heads = (int)n[1], .head_dim = (int)n[2], .format = (int)n[5], .threads = CORES,
        .query_scale = 0.125f};
    for (int i = 0; i < repeats; i++)
        kernels_attend(&a, (int)n[4], n[3]);
}

static void gather(void) { /* columns, tokens, format */
    const struct table a = {numbers(n[0] * 64 * 4), (void *)numbers(n[0] * 4), NULL, 64, n[0],
                            (int)n[2], n[2] == TABLE_INT8 ? 64 : 0};
    const int64_t ids[PASS] = {3, 9, 27, 31, 4, 50, 60, 7};
    float *out = output(bytes(n[0] * PASS * 4), n[0] * PASS * 4);
    for (int i = 0; i < repeats; i++)
        kernels_gather(&a, ids, (int)n[1], out);
}

static void results(void) { /* columns, tokens, terms */
    const struct source *from = sources(n[0], (int)n[2]);
    float *out = output(bytes(n[0] * PASS * 4), n[0] * PASS * 4);
    for (int i = 0; i < repeats; i++)
        kernels_results(from + n[1] - 1, (int)n[1], n[0], out);
}

static void activations(void) { /* columns, tokens, terms */
    const struct sink *to = shown(sinks(n[0], (int)n[2]));
    const float *values = floats(n[0] * PASS);
    float *row = bytes((n[0] + 64) * 4);
    for (int i = 0; i < repeats; i++)
        kernels_activations(to + n[1] - 1, (int)n[1], values, row);
}

static void largest(void) { /* count */
    const float *scores = floats(n[0]);
    int64_t *found = output(bytes(8), 8);
    for (int i = 0; i < repeats; i++)
        *found = kernels_largest(scores, n[0]);
}

static void draw(void) { /* count */
    const float *scores = floats(n[0]);
    const struct drawing a = {bytes(n[0] * 8), bytes(n[0] * 8), 0.8, 0.95, 0.5, 0};
    int64_t *found = output(bytes(8), 8);
    for (int i = 0; i < repeats; i++)
        *found = kernels_draw(scores, n[0], &a);
}

static void rescore(void) { /* columns, tokens, rows */
    float *values = floats(n[0] * PASS);
    int32_t *rows = bytes(PASS * n[2] * 4);
    for (int64_t i = 0; i < PASS * n[2]; i++)
        rows[i] = (int32_t)(i * 37 % n[2]);
    struct rescore a = {values, (int8_t *)numbers(n[0] * n[2]), (void *)numbers(n[0] / 32 * n[2]),
                        rows, output(bytes(PASS * n[2] * 4), PASS * n[2] * 4), bytes(n[0]), bytes(n[0]), n[0], 64, (int)n[1],
                        (int)n[2], 2};
    for (int i = 0; i < repeats; i++)
        kernels_rescore(&a);
}

static void matmul(void) { /* rows, columns, tokens, bits, group */
    const int bits8 = n[3] == 8;
    const int64_t chunks = n[1] / (bits8 ? SPAN : 2 * SPAN), spans = n[1] / SPAN;
    const int64_t beats = tiles(n[0]) * chunks * (TILE_ROWS + 8);
    struct matmul a = {
        .weights = numbers(beats * SPAN), .activations = numbers((1 + spans * (1 + n[2])) * SPAN),
        .results = output(bytes(tiles(n[0]) * TILE_ROWS * n[2] * 4), tiles(n[0]) * TILE_ROWS * n[2] * 4), .weight_stride = beats * PORT_BYTES,
        .activation_stride = (1 + spans * (1 + n[2])) * PORT_BYTES, .ports = PORTS,
        .port_bytes = PORT_BYTES, .tile_rows = TILE_ROWS, .weights8 = bits8, .group = (int)n[4],
        .tokens = (int)n[2], .chunks = (int)chunks, .tiles = (int)tiles(n[0]), .rows = (int)n[0],
        .threads = 1};
    for (int i = 0; i < repeats; i++)
        kernels_matmul(&a);
}

static const struct {
    const char *name;
    void (*run)(void);
} KERNELS[] = {{"norm", norm}, {"swiglu", swiglu}, {"attend", attend}, {"gather", gather},
               {"results", results}, {"activations", activations}, {"largest", largest},
               {"draw", draw}, {"rescore", rescore}, {"matmul", matmul}};

int main(int argc, char **argv) {
    if (argc < 3)
        return 1;
    repeats = atoi(argv[2]);
    for (int i = 3; i < argc && i < 11; i++)
        n[i - 3] = atol(argv[i]);
    for (unsigned i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++)
        if (!strcmp(argv[1], KERNELS[i].name)) {
            uint64_t sum = 0xCBF29CE484222325; /* FNV-1a */
            KERNELS[i].run();
            for (int64_t at = 0; at < written_size; at++)
                sum = (sum ^ written[at]) * 0x100000001B3;
            printf("%016llx\n", (unsigned long long)sum);
            return 0;
        }
    return 1;
}
