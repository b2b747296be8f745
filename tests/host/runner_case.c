/* The compiled runner with mapped registers, memory standing for the window: what it writes, what it
 * reads, and that the instructions for the caches are allowed. Says what is wrong; else nothing. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner.h"

int64_t kernels_run(struct runner *r, int64_t from);

enum { WORDS = 256, STRIDE = 16 };

static int wrong;

static void expect(const char *what, uint64_t found, uint64_t wanted) {
    if (found != wanted) {
        printf("%s is %llu, not %llu\n", what, (unsigned long long)found,
               (unsigned long long)wanted);
        wrong = 1;
    }
}

int main(void) {
    static uint32_t window[WORDS];
    static uint8_t activations[1000], results[333], image[64], checked[64];
    memset(activations, 7, sizeof activations);
    memset(results, 9, sizeof results);
    struct meter meter = {.commands = 0};
    const struct span written[2] = {{activations, 100}, {activations + 201, 799}};
    const struct span read[1] = {{results + 1, 332}};
    const struct launch launch = {
        .image = image, .checked = checked, .image_bytes = 64, .address = 0x812345678,
        .written = written, .read = read, .meter = &meter, .spans_written = 2, .spans_read = 1,
        .commands = 3, .place = ON_ENGINE,
    };
    struct port port = {.window = window, .list_low = 0, .list_high = STRIDE,
                        .doorbell = 2 * STRIDE, .status = 3 * STRIDE, .busy = 1, .error = 2,
                        .patience = 0.001};
    for (int i = 0; i < COUNTERS; i++) {
        port.counters[i] = (4 + i) * STRIDE;
        port.counted[i] = 0xFFFFFFF0u;
        window[(4 + i) * STRIDE / 4] = (uint32_t)i; /* wrapped since */
    }
    const struct step steps[2] = {{STEP_START, 0, &launch}, {STEP_FINISH, 0, &launch}};
    struct runner runner = {.steps = steps, .port = &port, .count = 2};
    runner.lanes[0].tokens = 1;

    expect("the run", (uint64_t)kernels_run(&runner, 0), (uint64_t)-1);
    expect("the list's low half", window[0], 0x12345678);
    expect("its high half", window[STRIDE / 4], 8);
    expect("the doorbell", window[2 * STRIDE / 4], 3);
    expect("commands", (uint64_t)meter.commands, 3);
    for (int i = 0; i < COUNTERS; i++) {
        expect("a counter's sum", meter.sums[i], 16 + (uint64_t)i);
        expect("a counter", port.counted[i], (uint32_t)i);
    }
    expect("running", (uint64_t)port.running, 0);

    window[3 * STRIDE / 4] = 2; /* an error: the caller finishes */
    expect("a run with an error", (uint64_t)kernels_run(&runner, 0), 1);
    expect("running", (uint64_t)port.running, 1);
    window[3 * STRIDE / 4] = 1; /* busy for ever */
    expect("a run that takes long", (uint64_t)kernels_run(&runner, 1), 1);
    window[3 * STRIDE / 4] = 0;
    expect("its end", (uint64_t)kernels_run(&runner, 1), (uint64_t)-1);

    window[2 * STRIDE / 4] = 0;
    image[63] = 1;
    expect("a changed descriptor", (uint64_t)kernels_run(&runner, 0), 0);
    expect("the doorbell", window[2 * STRIDE / 4], 0);
    for (unsigned i = 0; i < sizeof activations; i++)
        expect("an activation", activations[i], 7);
    for (unsigned i = 0; i < sizeof results; i++)
        expect("a result", results[i], 9);
    return wrong;
}
