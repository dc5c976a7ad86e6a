/* What every fuzz target includes: an allocator that counts, checks that abort with a message, and
 * the memory bound (reliability.md C6).
 *
 * A target is a file tests/fuzz/fuzz_<name>.c with LLVMFuzzerTestOneInput(); seeds lie in
 * tests/fuzz/corpus/<name>/. `make fuzz FUZZ=<name> TIME=60` runs it under libFuzzer with the
 * address and undefined-behaviour sanitizers; `make test` replays the seeds without them. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fails the run when x does not hold; survives NDEBUG. */
#define FUZZ_CHECK(x)                                                             \
    do {                                                                          \
        if (!(x)) {                                                               \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);     \
            abort();                                                              \
        }                                                                         \
    } while (0)

#ifdef FUZZ_ARENA
#include "fuzz/fuzz_arena.h"
#else
#define fuzz_raw_realloc realloc
#define fuzz_raw_free free
#define fuzz_raw_reset(keep) ((void)(keep))
#endif

static size_t fuzz_now, fuzz_peak, fuzz_blocks;
static size_t fuzz_kept, fuzz_kept_blocks; /* what lived before the input */

static void *fuzz_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    size_t *old = p ? (size_t *)p - 2 : NULL; /* two words keep the alignment */
    const size_t old_size = old ? *old : 0;
    size_t *b = fuzz_raw_realloc(old, size + 2 * sizeof(size_t));
    if (!b)
        return NULL;
    *b = size;
    fuzz_blocks += old ? 0 : 1;
    fuzz_now += size - old_size;
    if (fuzz_now > fuzz_peak)
        fuzz_peak = fuzz_now;
    return b + 2;
}

static void fuzz_free(void *ctx, void *p)
{
    (void)ctx;
    if (!p)
        return;
    size_t *b = (size_t *)p - 2;
    fuzz_now -= *b;
    fuzz_blocks--;
    fuzz_raw_free(b);
}

/* Starts counting. */
static inline void fuzz_begin(void)
{
    static const spt_alloc hooks = {fuzz_realloc, fuzz_free, NULL};
    spt_set_alloc(&hooks);
    fuzz_raw_reset(false);
    fuzz_kept_blocks = fuzz_blocks;
    fuzz_kept = fuzz_peak = fuzz_now;
}

/* What was allocated since fuzz_begin() stays for the inputs that follow (a registry, say) and is no leak. */
static inline void fuzz_keep(void)
{
    fuzz_raw_reset(true);
    fuzz_kept_blocks = fuzz_blocks;
    fuzz_kept = fuzz_peak = fuzz_now;
}

/* After opening n bytes the peak must have stayed within 16 n + 1 MB (+ extra: what the target itself
 * asked for, or the stated cap of a decompressor). */
static inline void fuzz_check_peak(size_t n, size_t extra)
{
    const size_t bound = 16 * n + (1 << 20) + extra;
    if (fuzz_peak - fuzz_kept > bound) {
        fprintf(stderr, "%zu bytes of heap for %zu bytes of input (bound %zu)\n",
                fuzz_peak - fuzz_kept, n, bound);
        abort();
    }
}

/* Everything must be freed. */
static inline void fuzz_check_leaks(void)
{
    if (fuzz_blocks != fuzz_kept_blocks || fuzz_now != fuzz_kept) {
        fprintf(stderr, "%zu blocks leaked\n", fuzz_blocks - fuzz_kept_blocks);
        abort();
    }
}

static inline void fuzz_end(size_t n, size_t extra)
{
    fuzz_check_peak(n, extra);
    fuzz_check_leaks();
}

#endif
