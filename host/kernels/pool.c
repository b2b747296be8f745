/* Threads that stay: started when first wanted, asleep while there is nothing to do.
 *
 * One call runs at a time; a second caller, or a call from within a call, does all its work itself.
 * After a fork the child starts its own threads. */

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "kernels.h"

#if defined(__aarch64__)
enum { SPINS = 256 }; /* of up to 100 us: longer than the fabric works between two calls */
#else
enum { SPINS = 2000 }; /* some microseconds: the gap between two calls of one token */
#endif

/* Lets some time pass, less if `place` is written; `seen` is what it held. On ARM the core sleeps
 * until another one writes to the line, or the timer's event stream wakes it (every 100 us under
 * Linux): the pool waits for milliseconds at next to no power, and is there at once. */
#if defined(__aarch64__)
static inline void pause_until(atomic_uint *place, unsigned seen) {
    unsigned value;
    __asm__ volatile("ldaxr %w0, %1" : "=r"(value) : "Q"(*place) : "memory");
    if (value == seen)
        __asm__ volatile("wfe" ::: "memory");
}
#elif defined(__x86_64__)
#define pause_until(place, seen) ((void)(place), (void)(seen), __builtin_ia32_pause())
#else
#define pause_until(place, seen) ((void)(place), (void)(seen))
#endif

static struct {
    pthread_mutex_t busy;  /* held by the caller whose work the threads do */
    pthread_mutex_t sleep; /* guards the fields below against lost wake-ups */
    pthread_cond_t wake;
    int started;          /* threads beside the caller's */
    atomic_uint round;    /* a new value is a new piece of work */
    atomic_int wanted;    /* threads that may still join this round */
    atomic_int next;      /* index that is handed out next */
    atomic_uint working;  /* threads within this round */
    int count;
    void (*work)(void *, int);
    void *argument;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER,
          .sleep = PTHREAD_MUTEX_INITIALIZER,
          .wake = PTHREAD_COND_INITIALIZER};

static void take_part(void) {
    for (int index; (index = atomic_fetch_add(&pool.next, 1)) < pool.count;)
        pool.work(pool.argument, index);
}

static void *serve(void *argument) {
    unsigned seen = (unsigned)(uintptr_t)argument;
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load(&pool.round) == seen; spin++)
            pause_until(&pool.round, seen);
        pthread_mutex_lock(&pool.sleep);
        while (atomic_load(&pool.round) == seen)
            pthread_cond_wait(&pool.wake, &pool.sleep);
        seen = atomic_load(&pool.round);
        const int joined = pool.wanted > 0;
        pool.wanted -= joined;
        pool.working += joined;
        pthread_mutex_unlock(&pool.sleep);
        if (joined) {
            take_part();
            atomic_fetch_sub(&pool.working, 1);
        }
    }
    return NULL;
}

static void forget_threads(void) {
    pthread_mutex_init(&pool.busy, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.started = 0;
    pool.working = 0;
}

/* Starts threads up to `wanted`; fewer are only slower. */
static void start_threads(int wanted) {
    static int prepared;
    if (!prepared)
        prepared = !pthread_atfork(NULL, NULL, forget_threads);
    while (pool.started < wanted) {
        pthread_t thread;
        const uintptr_t seen = atomic_load(&pool.round);
        if (pthread_create(&thread, NULL, serve, (void *)seen))
            return;
        pthread_detach(thread);
        pool.started++;
    }
}

void pool_run(void (*work)(void *, int), void *argument, int count, int threads) {
    int others = (threads < count ? threads : count) - 1;
    others = others > MAX_THREADS - 1 ? MAX_THREADS - 1 : others;
    if (others < 1 || pthread_mutex_trylock(&pool.busy)) {
        for (int index = 0; index < count; index++)
            work(argument, index);
        return;
    }
    start_threads(others);
    pthread_mutex_lock(&pool.sleep);
    pool.work = work, pool.argument = argument, pool.count = count;
    atomic_store(&pool.next, 0);
    pool.wanted = others;
    atomic_fetch_add(&pool.round, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
    take_part();
    /* Nobody may join once the caller returns: its argument is gone then. */
    pthread_mutex_lock(&pool.sleep);
    pool.wanted = 0;
    pthread_mutex_unlock(&pool.sleep);
    unsigned left;
    for (int spin = 0; (left = atomic_load(&pool.working)); spin++) {
        pause_until(&pool.working, left);
        if (spin > SPINS) /* another process has the core that the last thread needs */
            sched_yield();
    }
    pthread_mutex_unlock(&pool.busy);
}

/* What the items of one call of pool_phases share. */
struct phases {
    void (*work)(void *, int, int);
    void *argument;
    int ends[MAX_PHASES]; /* first item behind each */
    atomic_uint done; /* items of all phases */
};

/* Items are handed out in order, so those that an item waits for are all under way. */
static void phase_item(void *argument, int index) {
    struct phases *all = argument;
    int phase = 0;
    while (index >= all->ends[phase])
        phase++;
    const unsigned first = phase ? (unsigned)all->ends[phase - 1] : 0;
    unsigned done;
    for (int spin = 0; (done = atomic_load(&all->done)) < first; spin++) {
        pause_until(&all->done, done);
        if (spin > SPINS)
            sched_yield();
    }
    all->work(all->argument, phase, index - (int)first);
    atomic_fetch_add(&all->done, 1);
}

void pool_phases(void (*work)(void *, int, int), void *argument, const int *counts, int phases,
                 int threads) {
    struct phases all = {.work = work, .argument = argument};
    int end = 0;
    for (int phase = 0; phase < phases; phase++)
        all.ends[phase] = end += counts[phase];
    pool_run(phase_item, &all, end, threads);
}
