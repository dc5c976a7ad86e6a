/* Counting allocator hooks for fuzz targets: reliability.md C6 and leaks. Include once per target. */
#ifndef TESTS_FUZZ_FUZZ_MEMORY_H
#define TESTS_FUZZ_FUZZ_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

struct fuzz_block {
    size_t size, pad;
};
static size_t fuzz_now, fuzz_peak;

static void *fuzz_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    struct fuzz_block *old = p ? (struct fuzz_block *)p - 1 : NULL;
    const size_t old_size = old ? old->size : 0;
    struct fuzz_block *b = realloc(old, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    fuzz_now += size - old_size;
    fuzz_peak = fuzz_now > fuzz_peak ? fuzz_now : fuzz_peak;
    return b + 1;
}

static void fuzz_free(void *ctx, void *p)
{
    (void)ctx;
    if (!p)
        return;
    struct fuzz_block *b = (struct fuzz_block *)p - 1;
    fuzz_now -= b->size;
    free(b);
}

#define FUZZ_CHECK(x)                                               \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

static inline void fuzz_memory_start(void)
{
    static int done;
    if (!done++)
        spt_set_alloc(&(spt_alloc){fuzz_realloc, fuzz_free, NULL});
    FUZZ_CHECK(fuzz_now == 0);
    fuzz_peak = 0;
}

/* Opening n bytes took at most 16 n + 1 MB. */
static inline void fuzz_memory_bound(size_t n)
{
    if (fuzz_peak > 16 * n + (1 << 20)) {
        fprintf(stderr, "input of %zu bytes took %zu bytes\n", n, fuzz_peak);
        abort();
    }
}

static inline void fuzz_memory_end(void)
{
    FUZZ_CHECK(fuzz_now == 0);
}

#endif
