/* Four steps at a time of panel.h for 8 columns, in the order that a Cortex-A53 wants: it issues in
 * order, so counters and loads come first, then conversions, then products, each sum again after
 * 14 others. Registers: sums in v0 .. v7 (columns 0 .. 3) and v8 .. v15, rows in v16 .. v23, four
 * steps' entries in v24 .. v31. */

#ifndef PANEL_A53_H
#define PANEL_A53_H

#include "kernels.h"

/* Each row: its two sums, its values, its offset. */
#define ROWS_1(DO, ...) DO(0, 8, 16, "", __VA_ARGS__)
#define ROWS_2(DO, ...) ROWS_1(DO, __VA_ARGS__) DO(1, 9, 17, ", %[o1]", __VA_ARGS__)
#define ROWS_3(DO, ...) ROWS_2(DO, __VA_ARGS__) DO(2, 10, 18, ", %[o2]", __VA_ARGS__)
#define ROWS_4(DO, ...) ROWS_3(DO, __VA_ARGS__) DO(3, 11, 19, ", %[o3]", __VA_ARGS__)
#define ROWS_5(DO, ...) ROWS_4(DO, __VA_ARGS__) DO(4, 12, 20, ", %[o4]", __VA_ARGS__)
#define ROWS_6(DO, ...) ROWS_5(DO, __VA_ARGS__) DO(5, 13, 21, ", %[o5]", __VA_ARGS__)
#define ROWS_7(DO, ...) ROWS_6(DO, __VA_ARGS__) DO(6, 14, 22, ", %[o6]", __VA_ARGS__)
#define ROWS_8(DO, ...) ROWS_7(DO, __VA_ARGS__) DO(7, 15, 23, ", %[o7]", __VA_ARGS__)

#define GET_SUMS(low, high, x, offset, ...)                                                        \
    "ldr q" #low ", [%[at]]\n ldr q" #high ", [%[at], #16]\n add %[at], %[at], %[begin]\n"
#define PUT_SUMS(low, high, x, offset, ...)                                                        \
    "str q" #low ", [%[at]]\n str q" #high ", [%[at], #16]\n add %[at], %[at], %[room]\n"
#define GET_ROW(low, high, x, offset, ...) "ldr q" #x ", [%[a]" offset "]\n"
#define LOW_PRODUCT(low, high, x, offset, entry, step, ...)                                        \
    "fmla v" #low ".4s, v" #entry ".4s, v" #x ".s[" #step "]\n"
#define HIGH_PRODUCT(low, high, x, offset, entry, step, ...)                                       \
    "fmla v" #high ".4s, v" #entry ".4s, v" #x ".s[" #step "]\n"
#define PRODUCTS(rows, low, high, step)                                                            \
    ROWS_##rows(LOW_PRODUCT, low, step, ) ROWS_##rows(HIGH_PRODUCT, high, step, )

#define GET_ENTRIES(kind)                                                                          \
    "ldr " kind "24, [%[b]]\n ldr " kind "26, [%[b], %[s1]]\n"                                     \
    "ldr " kind "28, [%[b], %[s2]]\n ldr " kind "30, [%[b], %[s3]]\n"

/* Entries of a step in one register become floats in it and in the next one. */
#define EACH_STEP(DO) DO(24, 25) DO(26, 27) DO(28, 29) DO(30, 31)
#define FROM_HALVES(low, high)                                                                     \
    "fcvtl2 v" #high ".4s, v" #low ".8h\n fcvtl v" #low ".4s, v" #low ".4h\n"
#define TO_16(low, high) "sshll v" #low ".8h, v" #low ".8b, #0\n"
#define TO_32(low, high)                                                                           \
    "sshll2 v" #high ".4s, v" #low ".8h, #0\n sshll v" #low ".4s, v" #low ".4h, #0\n"
#define TO_FLOATS(low, high)                                                                       \
    "scvtf v" #high ".4s, v" #high ".4s\n scvtf v" #low ".4s, v" #low ".4s\n"
#define HALVES GET_ENTRIES("q"), EACH_STEP(FROM_HALVES)
#define BYTES GET_ENTRIES("d"), EACH_STEP(TO_16) EACH_STEP(TO_32) EACH_STEP(TO_FLOATS)

#define PANEL_LOOP(rows, entries) PANEL_LOOP_OF(rows, entries)
#define PANEL_LOOP_OF(rows, get, convert)                                                          \
    __asm__ volatile(                                                                              \
        ROWS_##rows(GET_SUMS, )                                                \
        "0: add %[a], %[a], #16\n add %[b], %[b], %[s4]\n add %[ahead], %[ahead], %[stride]\n"     \
        "subs %w[count], %w[count], #1\n" get ROWS_##rows(GET_ROW, )                               \
        "prfm pldl1keep, [%[ahead]]\n"                                                             \
        convert PRODUCTS(rows, 24, 25, 0) PRODUCTS(rows, 26, 27, 1) PRODUCTS(rows, 28, 29, 2)      \
        PRODUCTS(rows, 30, 31, 3) "b.ne 0b\n"                                                      \
        "mov %[at], %[c]\n" ROWS_##rows(PUT_SUMS, )                                                \
        : [at] "+r"(at), [a] "+r"(a), [b] "+r"(b), [ahead] "+r"(ahead), [count] "+r"(count)       \
        : [c] "r"(c), [room] "r"(room), [begin] "r"(begin), [stride] "r"(stride),          \
          [s1] "r"(step), [s2] "r"(2 * step), [s3] "r"(3 * step), [s4] "r"(4 * step), [o1] "r"(row), [o2] "r"(2 * row),                \
          [o3] "r"(3 * row), [o4] "r"(4 * row), [o5] "r"(5 * row), [o6] "r"(6 * row),              \
          [o7] "r"(7 * row)                                                                        \
        : "cc", "memory", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",       \
          "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22",      \
          "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31")

/* `count` times four steps, at least once, from 0 if `fresh`. Distances in bytes. */
INLINED void panel_fours(int rows, int format, const char *a, int64_t row, const char *b,
                         int64_t step, float *c, int64_t room, int fresh, const char *ahead,
                         int64_t stride, int count) {
    static const float zeros[8];
    const float *at = fresh ? zeros : c;
    const int64_t begin = fresh ? 0 : room;
    a -= 16, b -= 4 * step, ahead -= stride; /* the loop begins by moving on */
    switch (rows * 2 + (format == CACHE_INT8)) {
    case 2: PANEL_LOOP(1, HALVES); break;
    case 3: PANEL_LOOP(1, BYTES); break;
    case 4: PANEL_LOOP(2, HALVES); break;
    case 5: PANEL_LOOP(2, BYTES); break;
    case 6: PANEL_LOOP(3, HALVES); break;
    case 7: PANEL_LOOP(3, BYTES); break;
    case 8: PANEL_LOOP(4, HALVES); break;
    case 9: PANEL_LOOP(4, BYTES); break;
    case 10: PANEL_LOOP(5, HALVES); break;
    case 11: PANEL_LOOP(5, BYTES); break;
    case 12: PANEL_LOOP(6, HALVES); break;
    case 13: PANEL_LOOP(6, BYTES); break;
    case 14: PANEL_LOOP(7, HALVES); break;
    case 15: PANEL_LOOP(7, BYTES); break;
    case 16: PANEL_LOOP(8, HALVES); break;
    case 17: PANEL_LOOP(8, BYTES); break;
    }
}

#endif
