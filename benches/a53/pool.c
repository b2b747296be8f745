/* Stands for host/kernels/pool.c where cycles are counted: does what the first of the threads would,
 * one after the other's share left out, so that a run costs what its busiest core spends. Items of a
 * phase are of equal size. */

#include "kernels.h"

void pool_run(void (*work)(void *, int), void *argument, int count, int threads) {
    for (int index = 0; index < count; index += threads < 1 ? 1 : threads)
        work(argument, index);
}

void pool_phases(void (*work)(void *, int, int), void *argument, const int *counts, int phases,
                 int threads) {
    for (int phase = 0; phase < phases; phase++)
        for (int index = 0; index < counts[phase]; index += threads < 1 ? 1 : threads)
            work(argument, phase, index);
}
