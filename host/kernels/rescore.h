/* What Python gives to kernels_rescore (host/kernels/rescore.py has it once more for ctypes). */

#ifndef RESCORE_H
#define RESCORE_H

#include <stdint.h>

struct rescore {
    float *activations;     /* [tokens][columns], whole blocks; used up */
    const int8_t *values;   /* [rows][columns] */
    const uint16_t *scales; /* fp16 [rows][columns / group] */
    const int32_t *rows;    /* [tokens][count] */
    float *results;         /* [tokens][count] */
    int8_t *mantissas;      /* scratch [columns] */
    uint8_t *lifts;         /* scratch [columns / BLOCK] */
    int64_t columns;        /* a multiple of BLOCK and of the group */
    int32_t group;          /* 32, 64 or 128 */
    int32_t tokens;
    int32_t count;
    int32_t terms; /* 1 or 2 */
};

int kernels_rescore(const struct rescore *r);

#endif
