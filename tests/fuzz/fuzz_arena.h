/* For volume (make fuzz-volume): blocks in one piece of memory that the address sanitizer is told about by
 * hand. Its own malloc costs ten times what our parsers cost. What is seen is the same: bytes before and
 * behind a block are poisoned, so are blocks that were freed, and no address is given out twice for one input;
 * a block freed twice ends the run. Blocks that are large or find no room come from malloc(). Reports do not
 * say who allocated: run the finding again under `make fuzz`. */
#ifndef TESTS_FUZZ_FUZZ_ARENA_H
#define TESTS_FUZZ_FUZZ_ARENA_H

#include <sanitizer/asan_interface.h>

enum { ARENA_SIZE = 8 << 20, ARENA_LARGE = 1 << 20, ARENA_ZONE = 16, ARENA_LIVE = 0x5a17, ARENA_DEAD = 0xdead };

/* A header of 16 bytes, the block, and 16 to 31 bytes behind it. */
struct arena_head {
    uint64_t state, size;
};

static _Alignas(64) uint8_t arena[ARENA_SIZE];
static size_t arena_top, arena_base;

static bool arena_has(const void *p)
{
    return (const uint8_t *)p >= arena && (const uint8_t *)p < arena + ARENA_SIZE;
}

/* Written and read while poisoned. */
__attribute__((no_sanitize("address"))) static void arena_mark(void *p, uint64_t state, uint64_t size)
{
    struct arena_head *h = (struct arena_head *)p - 1;
    h->state = state;
    h->size = size;
}

__attribute__((no_sanitize("address"))) static size_t arena_live(const void *p)
{
    const struct arena_head *h = (const struct arena_head *)p - 1;
    if (h->state != ARENA_LIVE) {
        fprintf(stderr, "a block freed twice, or none\n");
        abort();
    }
    return h->size;
}

static void *arena_new(size_t size)
{
    const size_t room = (size + ARENA_ZONE + sizeof(struct arena_head) + 15) / 16 * 16;
    static bool ready; /* what is given back is poisoned one by one */
    if (!ready)
        ASAN_POISON_MEMORY_REGION(arena, ARENA_SIZE);
    ready = true;
    if (size > ARENA_LARGE || room > ARENA_SIZE - arena_top)
        return malloc(size);
    uint8_t *p = arena + arena_top + sizeof(struct arena_head);
    arena_top += room;
    arena_mark(p, ARENA_LIVE, size);
    ASAN_UNPOISON_MEMORY_REGION(p, size);
    memset(p, 0xbe, size < 4096 ? size : 4096);
    return p;
}

static void fuzz_raw_free(void *p)
{
    if (!arena_has(p)) {
        free(p);
        return;
    }
    const size_t size = arena_live(p);
    arena_mark(p, ARENA_DEAD, size);
    ASAN_POISON_MEMORY_REGION(p, size);
}

static void *fuzz_raw_realloc(void *p, size_t size)
{
    if (p && !arena_has(p))
        return realloc(p, size);
    void *q = arena_new(size);
    if (q && p) {
        const size_t old = arena_live(p);
        memcpy(q, p, old < size ? old : size);
        fuzz_raw_free(p);
    }
    return q;
}

/* Before an input: everything since the last mark is given out anew, when nothing of it lives (a leak has ended
 * the run before). */
static void fuzz_raw_reset(bool keep)
{
    if (keep)
        arena_base = arena_top;
    else
        arena_top = arena_base;
}

#endif
