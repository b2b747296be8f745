/* The steps of a pass, run one after the other without Python in between (host/forward/program.py prepares
 * them): kernels on fixed buffers, and command lists that are rung and waited for. */

#ifndef RUNNER_H
#define RUNNER_H

#include <stdint.h>

enum {
    RUNNER_ABI = 1, /* changes with any structure here; host/kernels/runner.py checks it */
    COUNTERS = 11,  /* spec.registers.COUNTERS */
    LANES_MOST = 3, /* two passes at a time, and the head's */
};

/* What a step calls; `call` points to its structure. */
enum step_kind {
    STEP_GATHER,      /* struct gathering */
    STEP_NORM,        /* struct norm, all tokens */
    STEP_LAST_NORM,   /* struct norm, `count` tokens from `first` on */
    STEP_ATTEND,      /* struct attention */
    STEP_SWIGLU,      /* struct swiglu */
    STEP_ACTIVATIONS, /* struct quantising: the head's of `count` tokens */
    STEP_START,       /* struct launch, one for each number of tokens */
    STEP_FINISH,      /* the same */
    STEP_RESCORE,     /* struct rescoring */
};

struct step {
    int32_t kind;
    int32_t lane; /* whose tokens: entry of `lanes` */
    const void *call;
};

/* The tokens of one pass. */
struct lane {
    int32_t tokens;
    int32_t first; /* the last norm takes `count` tokens from here on */
    int32_t count;
    int32_t reserved;
    int64_t start; /* position of token 0 */
};

struct gathering {
    const struct table *table;
    const int64_t *ids;
    float *hidden;
};

struct quantising {
    const struct sink *sinks;
    const float *values;
    float *scratch;
};

struct rescoring {
    struct rescore *rescore;
    const float *normed;     /* [tokens][width] */
    const uint32_t *choices; /* where the engine writes pairs of value and row, `pairs` per token */
    float *logits;           /* [tokens][rows]: minus infinity but for the rows of `told` */
    int32_t *told;           /* [tokens][count] */
    int32_t width;
    int32_t pairs;
    int32_t rows; /* of the table: what the engine names must lie in it */
    int32_t reserved;
};

/* Where a list runs. */
enum { ON_ENGINE, ON_PROCESSOR, BY_CALLER };

struct span {
    uint8_t *start;
    int64_t bytes;
};

struct matmul;

/* One command list with what has to happen around it. */
struct launch {
    const uint8_t *image;   /* descriptors where the engine reads them */
    const uint8_t *checked; /* those that passed the driver's check */
    int64_t image_bytes;
    uint64_t address; /* of the image, as the engine sees it */
    const struct span *written; /* activations: out of the caches before the start */
    const struct span *read;    /* results: out of the caches before they are read */
    const struct matmul *matmuls; /* ON_PROCESSOR */
    const uint32_t *costs; /* ON_PROCESSOR: what each run adds to the counters */
    struct meter *meter;
    int32_t spans_written;
    int32_t spans_read;
    int32_t commands;
    int32_t place;
};

/* What an operation's lists cost since Python looked. */
struct meter {
    uint64_t sums[COUNTERS];
    int64_t commands;
};

/* The engine's registers: mapped, or (what is mapped nowhere) behind functions, which return a
 * negative number when they fail. */
struct port {
    volatile uint32_t *window;
    int64_t (*read)(int32_t offset);
    int64_t (*write)(int32_t offset, uint32_t value);
    int64_t (*synchronise)(int32_t to_engine, const void *start, int64_t bytes);
    /* NULL: by instructions */
    int32_t list_low, list_high, doorbell, status; /* byte offsets */
    int32_t counters[COUNTERS];
    uint32_t busy, error; /* bits of the status */
    uint32_t counted[COUNTERS]; /* as they were last read */
    int32_t running; /* a list was started and not seen to end */
    double patience; /* seconds until Python is asked to wait */
};

struct runner {
    const struct step *steps;
    struct port *port;
    int64_t wrong; /* of the kernel at which a run stopped: the activation that is not finite */
    int32_t count;
    int32_t reserved;
    struct lane lanes[LANES_MOST];
};

#endif
