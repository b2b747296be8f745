/* Functions of floats_avx2.c and floats_avx512.c. */

#ifndef VERSIONS_H
#define VERSIONS_H

#include "kernels.h"

int64_t avx2_norm(const struct norm *n, int tokens, int first, int count);
int64_t avx2_swiglu(const struct swiglu *s, int tokens);
int64_t avx2_attend(const struct attention *a, int tokens, int64_t start);
void avx2_gather(const struct table *t, const int64_t *ids, int count, float *out);
void avx2_results(const struct source *from, int tokens, int64_t columns, float *out);
int64_t avx2_activations(const struct sink *to, int tokens, const float *values, float *row);
int64_t avx2_largest_of(const float *scores, int64_t count);
int64_t avx2_draw(const float *scores, int64_t count, const struct drawing *d);

int64_t avx512_norm(const struct norm *n, int tokens, int first, int count);
int64_t avx512_swiglu(const struct swiglu *s, int tokens);
int64_t avx512_attend(const struct attention *a, int tokens, int64_t start);
void avx512_gather(const struct table *t, const int64_t *ids, int count, float *out);
void avx512_results(const struct source *from, int tokens, int64_t columns, float *out);
int64_t avx512_activations(const struct sink *to, int tokens, const float *values, float *row);
int64_t avx512_largest_of(const float *scores, int64_t count);
int64_t avx512_draw(const float *scores, int64_t count, const struct drawing *d);

#endif
