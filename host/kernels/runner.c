/* Runs the steps of a pass. Whatever is out of the ordinary (a changed descriptor, an error, a list
 * that takes long, a device whose registers Python alone can reach) ends the run at that step: the
 * caller does the step in Python, which tells what is wrong, and goes on behind it. */

#include "runner.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "kernels.h"
#include "rescore.h"

int64_t kernels_norm(const struct norm *n, int tokens, int first, int count);
int64_t kernels_attend(const struct attention *a, int tokens, int64_t start);
int64_t kernels_swiglu(const struct swiglu *s, int tokens);
int64_t kernels_activations(const struct sink *s, int tokens, const float *values, float *scratch);
void kernels_gather(const struct table *t, const int64_t *ids, int count, float *out);
int kernels_matmul(const struct matmul *m);

enum { DONE = -1, STOP = 0, GO_ON = 1 };

enum {
    TO_ENGINE = 1,
    FROM_ENGINE = 0,
    POLLS_A_LOOK = 16, /* readings of the status between two of the clock */
};

static const double SPIN_SECONDS = 1e-3; /* a layer's lists end within it; sleeping is coarser */
static const long NAP_NANOSECONDS = 50000;

int runner_abi(void) { return RUNNER_ABI; }

/* 1 where the caches can be emptied from user space, or need not be. */
int runner_synchronises(void) {
#if defined(__aarch64__) || defined(__x86_64__)
    return 1;
#else
    return 0;
#endif
}

/* The lines of a buffer out of the caches, by the instructions that Linux allows on aarch64. A line
 * that only the engine writes is never dirty, so "clean and invalidate" does to drop it; there is no
 * plain invalidate for user space. On x86 devices see the caches. */
static void clean(const uint8_t *start, int64_t bytes, int to_engine) {
#if defined(__aarch64__)
    uint64_t type;
    __asm__ volatile("mrs %0, ctr_el0" : "=r"(type));
    const uintptr_t line = (uintptr_t)4 << (type >> 16 & 15), end = (uintptr_t)start + bytes;
    for (uintptr_t at = (uintptr_t)start & ~(line - 1); at < end; at += line)
        if (to_engine)
            __asm__ volatile("dc cvac, %0" ::"r"(at) : "memory");
        else
            __asm__ volatile("dc civac, %0" ::"r"(at) : "memory");
#else
    (void)start, (void)bytes, (void)to_engine;
#endif
}

/* Orders memory and device accesses, cache maintenance included. */
static void barrier(void) {
#if defined(__aarch64__)
    __asm__ volatile("dsb sy" ::: "memory");
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static int synchronise(const struct port *p, const struct span *spans, int count, int to_engine) {
    for (int i = 0; i < count; i++) {
        if (!p->synchronise)
            clean(spans[i].start, spans[i].bytes, to_engine);
        else if (p->synchronise(to_engine, spans[i].start, spans[i].bytes) < 0)
            return STOP;
    }
    barrier();
    return GO_ON;
}

static int64_t read_register(const struct port *p, int32_t offset) {
    return p->window ? (int64_t)p->window[offset / 4] : p->read(offset);
}

static int write_register(const struct port *p, int32_t offset, uint32_t value) {
    if (!p->window)
        return p->write(offset, value) >= 0;
    p->window[offset / 4] = value;
    return 1;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Waits until the engine is idle; STOP when that takes too long, or it reports an error. */
static int idle(const struct port *p) {
    double begin = 0;
    for (uint32_t looks = 0;; looks++) {
        const int64_t status = read_register(p, p->status);
        if (status < 0)
            return STOP;
        if (!((uint32_t)status & p->busy))
            return (uint32_t)status & p->error ? STOP : GO_ON;
        if (looks % POLLS_A_LOOK)
            continue;
        const double time = now();
        begin = looks ? begin : time;
        if (time - begin > p->patience)
            return STOP;
        if (time - begin > SPIN_SECONDS)
            nanosleep(&(struct timespec){.tv_nsec = NAP_NANOSECONDS}, NULL);
    }
}

static int on_processor(const struct port *p, const struct launch *l) {
    for (int i = 0; i < l->commands; i++)
        if (kernels_matmul(l->matmuls + i))
            return STOP; /* the same again in Python, which says what is wrong */
    for (int i = 0; l->costs && i < COUNTERS; i++)
        l->meter->sums[i] += l->costs[i];
    l->meter->commands += l->commands;
    /* A line left dirty would be written back later, over what the engine writes there. */
    return p ? synchronise(p, l->read, l->spans_read, TO_ENGINE) : GO_ON;
}

static int start(struct port *p, const struct launch *l) {
    if (l->place == BY_CALLER || memcmp(l->image, l->checked, (size_t)l->image_bytes))
        return STOP;
    if (l->place == ON_PROCESSOR)
        return on_processor(p, l);
    if (!p || !synchronise(p, l->written, l->spans_written, TO_ENGINE))
        return STOP;
    if (!write_register(p, p->list_low, (uint32_t)l->address) ||
        !write_register(p, p->list_high, (uint32_t)(l->address >> 32)))
        return STOP;
    p->running = 1; /* even if the doorbell fails: nobody knows then */
    if (!write_register(p, p->doorbell, (uint32_t)l->commands))
        return STOP;
    return GO_ON;
}

static int finish(struct port *p, const struct launch *l) {
    if (l->place == ON_PROCESSOR)
        return GO_ON;
    if (l->place == BY_CALLER || !p || !p->running || !idle(p))
        return STOP;
    uint32_t counted[COUNTERS];
    for (int i = 0; i < COUNTERS; i++) {
        const int64_t value = read_register(p, p->counters[i]);
        if (value < 0)
            return STOP;
        counted[i] = (uint32_t)value;
    }
    if (!synchronise(p, l->read, l->spans_read, FROM_ENGINE))
        return STOP;
    p->running = 0;
    for (int i = 0; i < COUNTERS; i++) {
        l->meter->sums[i] += counted[i] - p->counted[i]; /* they wrap at 2**32 */
        p->counted[i] = counted[i];
    }
    l->meter->commands += l->commands;
    return GO_ON;
}

static int rescore(const struct rescoring *r, int tokens) {
    struct rescore *call = r->rescore;
    for (int t = 0; t < tokens; t++) {
        float *row = call->activations + t * call->columns;
        memset(row, 0, sizeof(float) * (size_t)call->columns);
        memcpy(row, r->normed + (int64_t)t * r->width, sizeof(float) * (size_t)r->width);
        int32_t *rows = (int32_t *)call->rows + (int64_t)t * call->count;
        for (int i = 0; i < call->count; i++) {
            rows[i] = (int32_t)r->choices[2 * ((int64_t)t * r->pairs + i) + 1];
            if ((uint32_t)rows[i] >= (uint32_t)r->rows)
                return STOP;
        }
    }
    call->tokens = tokens;
    if (kernels_rescore(call))
        return STOP;
    for (int t = 0; t < tokens; t++) {
        float *logits = r->logits + (int64_t)t * r->rows;
        int32_t *told = r->told + (int64_t)t * call->count;
        for (int i = 0; i < call->count; i++)
            logits[told[i]] = -INFINITY;
        for (int i = 0; i < call->count; i++) {
            told[i] = call->rows[(int64_t)t * call->count + i];
            logits[told[i]] = call->results[(int64_t)t * call->count + i];
        }
    }
    return GO_ON;
}

static int do_step(struct runner *r, const struct step *s) {
    const struct lane *lane = r->lanes + s->lane;
    const int tokens = lane->tokens;
    r->wrong = FINE;
    if (!s->call)
        return STOP;
    switch (s->kind) {
    case STEP_GATHER: {
        const struct gathering *g = s->call;
        kernels_gather(g->table, g->ids, tokens, g->hidden);
        return GO_ON;
    }
    case STEP_NORM:
        r->wrong = kernels_norm(s->call, tokens, 0, tokens);
        break;
    case STEP_LAST_NORM:
        r->wrong = kernels_norm(s->call, tokens, lane->first, lane->count);
        break;
    case STEP_ATTEND:
        r->wrong = kernels_attend(s->call, tokens, lane->start);
        break;
    case STEP_SWIGLU:
        r->wrong = kernels_swiglu(s->call, tokens);
        break;
    case STEP_ACTIVATIONS: {
        const struct quantising *q = s->call;
        r->wrong = kernels_activations(q->sinks + tokens - 1, tokens, q->values, q->scratch);
        break;
    }
    case STEP_START:
        return start(r->port, (const struct launch *)s->call + tokens - 1);
    case STEP_FINISH:
        return finish(r->port, (const struct launch *)s->call + tokens - 1);
    case STEP_RESCORE:
        return rescore(s->call, tokens);
    default:
        return STOP;
    }
    return r->wrong == FINE ? GO_ON : STOP;
}

/* Runs from step `from` on. Returns -1 at the end, or the step that the caller has to do. */
int64_t kernels_run(struct runner *r, int64_t from) {
    for (int64_t i = from; i < r->count; i++)
        if (do_step(r, r->steps + i) == STOP)
            return i;
    return DONE;
}
