/* The loops of exponential.h in the order that a Cortex-A53 wants: each stage for four registers
 * together, so that none waits for the stage before it, and short operations before long ones. */

#ifndef EXPONENTIAL_A53_H
#define EXPONENTIAL_A53_H

#include "kernels.h"

/* Registers of a stage. Constants lie in v8, v9, v18, v19, v28 .. v31. */
#define A 0, 1, 2, 3
#define B 4, 5, 6, 7
#define C 10, 11, 12, 13
#define D 14, 15, 16, 17
#define E 20, 21, 22, 23
#define F 24, 25, 26, 27

#define THREE(op, to, x, y) op " v" #to ".4s, v" #x ".4s, v" #y ".4s\n"
#define FOUR(op, to, x, y) FOUR_OF(op, to, x, y)
#define FOUR_OF(op, t0, t1, t2, t3, x0, x1, x2, x3, y0, y1, y2, y3)                                \
    THREE(op, t0, x0, y0) THREE(op, t1, x1, y1) THREE(op, t2, x2, y2) THREE(op, t3, x3, y3)
#define WITH(op, to, x, constant) WITH_OF(op, to, x, constant)
#define WITH_OF(op, t0, t1, t2, t3, x0, x1, x2, x3, c)                                             \
    THREE(op, t0, x0, c) THREE(op, t1, x1, c) THREE(op, t2, x2, c) THREE(op, t3, x3, c)
#define FROM(op, to, constant, x) FROM_OF(op, to, constant, x)
#define FROM_OF(op, t0, t1, t2, t3, c, x0, x1, x2, x3)                                             \
    THREE(op, t0, c, x0) THREE(op, t1, c, x1) THREE(op, t2, c, x2) THREE(op, t3, c, x3)
#define LANE(op, to, x, constant, lane) LANE_OF(op, to, x, constant, lane)
#define LANE_OF(op, t0, t1, t2, t3, x0, x1, x2, x3, c, i)                                          \
    op " v" #t0 ".4s, v" #x0 ".4s, v" #c ".s[" #i "]\n" op " v" #t1 ".4s, v" #x1 ".4s, v" #c ".s[" \
    #i "]\n" op " v" #t2 ".4s, v" #x2 ".4s, v" #c ".s[" #i "]\n" op " v" #t3 ".4s, v" #x3          \
    ".4s, v" #c ".s[" #i "]\n"
#define SET(to, constant) SET_OF(to, constant)
#define SET_OF(t0, t1, t2, t3, c)                                                                  \
    "mov v" #t0 ".16b, v" #c ".16b\n mov v" #t1 ".16b, v" #c ".16b\n"                              \
    "mov v" #t2 ".16b, v" #c ".16b\n mov v" #t3 ".16b, v" #c ".16b\n"
#define SHIFT(to) SHIFT_OF(to)
#define SHIFT_OF(t0, t1, t2, t3)                                                                   \
    "shl v" #t0 ".4s, v" #t0 ".4s, #23\n shl v" #t1 ".4s, v" #t1 ".4s, #23\n"                      \
    "shl v" #t2 ".4s, v" #t2 ".4s, #23\n shl v" #t3 ".4s, v" #t3 ".4s, #23\n"
#define PAIRS(op, set, at) PAIRS_OF(op, set, at)
#define PAIRS_OF(op, t0, t1, t2, t3, at)                                                           \
    op " q" #t0 ", q" #t1 ", [%[" at "]]\n" op " q" #t2 ", q" #t3 ", [%[" at "], #32]\n"

/* A = exp(A * sign): uses B .. E. Constants: v8 rate, C1, C3, C5; v9 magic, v18 lowest, v28 1, v29
 * C2, v30 C4. */
#define EXPONENTIALS                                                                               \
    WITH("fmax", A, A, 18) LANE("fmla", B, A, 8, 0) FROM("fsub", C, 9, B) SHIFT(B)                 \
    WITH("add", B, B, 28) LANE("fmla", C, A, 8, 0) SET(A, 28) SET(E, 29) FOUR("fmul", D, C, C)     \
    LANE("fmla", A, C, 8, 1) LANE("fmla", E, C, 8, 2) LANE("fmul", C, C, 8, 3)                     \
    WITH("fadd", C, C, 30) FOUR("fmla", E, C, D) FOUR("fmla", A, E, D) FOUR("fmul", A, A, B)

#define CLOBBERED                                                                                  \
    "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",      \
        "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", \
        "v25", "v26", "v27", "v28", "v29", "v30", "v31"

#define VECTOR_OF(value) value, value, value, value

/* `count` runs of 16 scores to exp(score - highest), added to 16 sums. */
INLINED void weigh_runs(float *scores, int64_t count, float highest, float *sums) {
    const float constants[] = {
        1.44269504f, 0.693147004f, 0.0555073619f, 0.00132644549f, VECTOR_OF(12582912.0f),
        VECTOR_OF(-86.0f), VECTOR_OF(highest), VECTOR_OF(1.0f), VECTOR_OF(0.240222394f),
        VECTOR_OF(0.00967172533f),
    };
    __asm__ volatile(
        "ldp q8, q9, [%[k]]\n ldp q18, q19, [%[k], #32]\n ldp q28, q29, [%[k], #64]\n"
        "ldr q30, [%[k], #96]\n" PAIRS("ldp", F, "sums")
        "0: subs %[count], %[count], #1\n" SET(B, 9) PAIRS("ldp", A, "at")
        WITH("fsub", A, A, 19) EXPONENTIALS FOUR("fadd", F, F, A) PAIRS("stp", A, "at")
        "add %[at], %[at], #64\n b.ne 0b\n" PAIRS("stp", F, "sums")
        : [at] "+r"(scores), [count] "+r"(count)
        : [sums] "r"(sums), [k] "r"(constants)
        : CLOBBERED);
}

/* `count` runs of 16: out = gate * up / (1 + exp(-gate)). */
INLINED void gate_runs(const float *gates, const float *ups, float *out, int64_t count) {
    static const float constants[] = {
        -1.44269504f, 0.693147004f, 0.0555073619f, 0.00132644549f, VECTOR_OF(12582912.0f),
        VECTOR_OF(-86.0f), VECTOR_OF(86.0f), VECTOR_OF(1.0f), VECTOR_OF(0.240222394f),
        VECTOR_OF(0.00967172533f), VECTOR_OF(0x1.e6238ep+126f), /* pattern 0x7EF311C7 */
    };
    __asm__ volatile(
        "ldp q8, q9, [%[k]]\n ldp q18, q19, [%[k], #32]\n ldp q28, q29, [%[k], #64]\n"
        "ldp q30, q31, [%[k], #96]\n"
        "0: subs %[count], %[count], #1\n" SET(B, 9) PAIRS("ldp", F, "gates")
        PAIRS("ldp", C, "ups") WITH("fmin", A, F, 19) FOUR("fmul", F, F, C) EXPONENTIALS
        WITH("fadd", A, A, 28) FROM("sub", B, 31, A)
        FOUR("frecps", C, A, B) FOUR("fmul", B, B, C) FOUR("frecps", C, A, B) FOUR("fmul", B, B, C)
        FOUR("frecps", C, A, B) FOUR("fmul", B, B, C) FOUR("fmul", F, F, B) PAIRS("stp", F, "out")
        "add %[gates], %[gates], #64\n add %[ups], %[ups], #64\n"
        "add %[out], %[out], #64\n b.ne 0b\n"
        : [gates] "+r"(gates), [ups] "+r"(ups), [out] "+r"(out), [count] "+r"(count)
        : [k] "r"(constants)
        : CLOBBERED);
}

#undef A
#undef B
#undef C
#undef D
#undef E
#undef F

#endif
