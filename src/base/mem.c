#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static void *libc_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    return realloc(p, size);
}

static void libc_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static spt_alloc hooks = {libc_realloc, libc_free, NULL};

void spt_set_alloc(const spt_alloc *h)
{
    hooks = h ? *h : (spt_alloc){libc_realloc, libc_free, NULL};
}

bool mul_size(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

void *mem_realloc(void *p, size_t count, size_t size)
{
    size_t n;
    if (!mul_size(count, size, &n) || n > PTRDIFF_MAX)
        return NULL;
    return hooks.realloc_fn(hooks.ctx, p, n ? n : 1);
}

void *mem_alloc(size_t count, size_t size)
{
    return mem_realloc(NULL, count, size);
}

void *mem_zalloc(size_t count, size_t size)
{
    void *p = mem_alloc(count, size);
    if (p)
        memset(p, 0, count * size);
    return p;
}

void mem_free(void *p)
{
    if (p)
        hooks.free_fn(hooks.ctx, p);
}

/* The block start is kept just below the aligned address. */
void *mem_alloc_aligned(size_t count, size_t size)
{
    size_t n;
    if (!mul_size(count, size, &n) || !add_size(n, ALIGNMENT + sizeof(void *), &n))
        return NULL;
    char *block = mem_alloc(n, 1);
    if (!block)
        return NULL;
    const uintptr_t first = (uintptr_t)(block + sizeof(void *));
    char *aligned = (char *)((first + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    memcpy(aligned - sizeof(void *), &block, sizeof(void *));
    return aligned;
}

void mem_free_aligned(void *p)
{
    if (!p)
        return;
    void *block;
    memcpy(&block, (char *)p - sizeof(void *), sizeof(void *));
    mem_free(block);
}

char *mem_strndup(const char *s, size_t len)
{
    size_t n;
    if (!add_size(len, 1, &n))
        return NULL;
    char *copy = mem_alloc(n, 1);
    if (!copy)
        return NULL;
    if (len)
        memcpy(copy, s, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_strndup(s, strlen(s));
}

spt_status mem_grow(void *items, size_t *cap, size_t need, size_t size, size_t max, spt_err *err)
{
    if (need <= *cap)
        return SPT_OK;
    if (need > max)
        return err_set(err, SPT_E_FORMAT, "more than %zu items", max);
    size_t want = *cap ? *cap : 8;
    while (want < need)
        want = want > max / 2 ? max : want * 2;
    void *p;
    memcpy(&p, items, sizeof p);
    p = mem_realloc(p, want, size);
    if (!p)
        return err_nomem(err, want * size);
    memcpy(items, &p, sizeof p);
    *cap = want;
    return SPT_OK;
}
