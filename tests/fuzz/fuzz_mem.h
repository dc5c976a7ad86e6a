/* Heap accounting for fuzz targets: the bound of docs/design and CONTRIBUTING.md (16 bytes per
 * input byte and 1 MB) is asserted on every input, and that nothing is left behind. */
#ifndef TESTS_FUZZ_FUZZ_MEM_H
#define TESTS_FUZZ_FUZZ_MEM_H

#include <stdio.h>
#include <stdlib.h>

#include <spt/types.h>

static size_t fuzz_now, fuzz_peak;

struct fuzz_block {
    size_t size, pad;
};

static void *fuzz_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    struct fuzz_block *old = p ? (struct fuzz_block *)p - 1 : NULL;
    const size_t before = old ? old->size : 0;
    struct fuzz_block *b = realloc(old, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    fuzz_now += size - before;
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

static void fuzz_start(void)
{
    spt_set_alloc(&(spt_alloc){fuzz_realloc, fuzz_free, NULL});
    fuzz_now = fuzz_peak = 0;
}

/* Fails the run when x does not hold; survives NDEBUG. */
#define FUZZ_CHECK(x)                                                     \
    do {                                                                  \
        if (!(x)) {                                                       \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);       \
            abort();                                                      \
        }                                                                 \
    } while (0)

/* After opening n bytes. */
static inline void fuzz_check_peak(size_t n)
{
    if (fuzz_peak > 16 * n + (1u << 20)) {
        fprintf(stderr, "%zu bytes of heap for %zu bytes of input\n", fuzz_peak, n);
        abort();
    }
}

/* After everything was closed. */
static inline void fuzz_check_leaks(void)
{
    FUZZ_CHECK(fuzz_now == 0);
}

#endif
