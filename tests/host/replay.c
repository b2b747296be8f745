/* Runs calls of the kernels that were written to a file elsewhere, and writes what they left behind:
 * tests/host/replay.py makes the file and reads the answer. For machines without Python.
 *
 * File: calls until its end, each: name, arguments (whole numbers, or a buffer and an offset),
 * buffers (size, bytes), pointers (in buffer, at offset: to buffer, at offset). Numbers have 8 bytes.
 * Answer: each call's result and the bytes of its buffers, pointers as zeros. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "rescore.h"

enum { MAX_ARGUMENTS = 4, MAX_BUFFERS = 64, NAME = 16 };

int64_t kernels_norm(const struct norm *n, int tokens, int first, int count);
int64_t kernels_swiglu(const struct swiglu *s, int tokens);
int64_t kernels_attend(const struct attention *a, int tokens, int64_t start);
void kernels_gather(const struct table *t, const int64_t *ids, int count, float *out);
void kernels_results(const struct source *from, int tokens, int64_t columns, float *out);
int64_t kernels_activations(const struct sink *to, int tokens, const float *values, float *row);
int64_t kernels_largest(const float *scores, int64_t count);
int64_t kernels_draw(const float *scores, int64_t count, const struct drawing *d);
int kernels_matmul(const struct matmul *m);

static void fail(const char *why) {
    fprintf(stderr, "replay: %s\n", why);
    exit(2);
}

static int64_t number(FILE *file) {
    int64_t value;
    if (fread(&value, 8, 1, file) != 1)
        fail("the file is cut off");
    return value;
}

static int64_t call(const char *name, const int64_t *a) {
#define P(index) (void *)(uintptr_t)a[index]
    if (!strcmp(name, "norm"))
        return kernels_norm(P(0), (int)a[1], (int)a[2], (int)a[3]);
    if (!strcmp(name, "swiglu"))
        return kernels_swiglu(P(0), (int)a[1]);
    if (!strcmp(name, "attend"))
        return kernels_attend(P(0), (int)a[1], a[2]);
    if (!strcmp(name, "gather"))
        return kernels_gather(P(0), P(1), (int)a[2], P(3)), 0;
    if (!strcmp(name, "results"))
        return kernels_results(P(0), (int)a[1], a[2], P(3)), 0;
    if (!strcmp(name, "activations"))
        return kernels_activations(P(0), (int)a[1], P(2), P(3));
    if (!strcmp(name, "largest"))
        return kernels_largest(P(0), a[1]);
    if (!strcmp(name, "draw"))
        return kernels_draw(P(0), a[1], P(2));
    if (!strcmp(name, "rescore"))
        return kernels_rescore(P(0));
    if (!strcmp(name, "matmul"))
        return kernels_matmul(P(0));
    fail(name);
    return 0;
}

static void replay(FILE *in, FILE *out, const char *name) {
    struct { int64_t is_pointer, value, offset; } given[MAX_ARGUMENTS] = {0};
    uint8_t *buffers[MAX_BUFFERS];
    int64_t sizes[MAX_BUFFERS], values[MAX_ARGUMENTS] = {0};
    const int64_t arguments = number(in), count = number(in), pointers = number(in);
    if (arguments > MAX_ARGUMENTS || count > MAX_BUFFERS)
        fail("too many arguments or buffers");
    for (int64_t i = 0; i < arguments; i++) {
        given[i].is_pointer = number(in);
        given[i].value = number(in);
        given[i].offset = number(in);
    }
    for (int64_t i = 0; i < count; i++) {
        sizes[i] = number(in);
        buffers[i] = aligned_alloc(64, (size_t)(sizes[i] + 127) / 64 * 64);
        if (!buffers[i] || fread(buffers[i], 1, (size_t)sizes[i], in) != (size_t)sizes[i])
            fail("a buffer is cut off");
    }
    int64_t *places = calloc((size_t)pointers + 1, 2 * sizeof *places);
    for (int64_t i = 0; i < pointers; i++) {
        const int64_t buffer = places[2 * i] = number(in), at = places[2 * i + 1] = number(in);
        const int64_t target = number(in);
        const uint64_t pointer = (uintptr_t)(buffers[target] + number(in));
        memcpy(buffers[buffer] + at, &pointer, 8);
    }
    for (int64_t i = 0; i < arguments; i++)
        values[i] = given[i].is_pointer
                        ? (int64_t)(uintptr_t)(buffers[given[i].value] + given[i].offset)
                        : given[i].value;
    const int64_t result = call(name, values);
    for (int64_t i = 0; i < pointers; i++)
        memset(buffers[places[2 * i]] + places[2 * i + 1], 0, 8);
    fwrite(&result, 8, 1, out);
    for (int64_t i = 0; i < count; i++) {
        fwrite(buffers[i], 1, (size_t)sizes[i], out);
        free(buffers[i]);
    }
    free(places);
}

int main(int count, char **names) {
    char name[NAME];
    if (count != 3)
        fail("usage: replay CALLS ANSWERS");
    FILE *in = fopen(names[1], "rb"), *out = fopen(names[2], "wb");
    if (!in || !out)
        fail("a file cannot be opened");
    while (fread(name, NAME, 1, in) == 1)
        replay(in, out, name);
    if (fclose(out))
        fail("the answers cannot be written");
    return 0;
}
