/* All memory of the library. The only file that calls the C allocator is mem.c; the hooks can be
 * replaced with spt_set_alloc(), so that tests can fail each allocation. */
#ifndef SPT_BASE_MEM_H
#define SPT_BASE_MEM_H

#include <stdbool.h>

#include "base/status.h"

/* Checked arithmetic: false on overflow, *out untouched. The only way to size an allocation. */
bool mul_size(size_t a, size_t b, size_t *out);
bool add_size(size_t a, size_t b, size_t *out);

/* NULL when out of memory or when count * size overflows. Size 0 yields a unique pointer. */
void *mem_alloc(size_t count, size_t size);
void *mem_zalloc(size_t count, size_t size);
void *mem_realloc(void *p, size_t count, size_t size);
void mem_free(void *p);
/* 64-byte aligned storage; release with mem_free_aligned(). Contents are undefined. */
void *mem_alloc_aligned(size_t count, size_t size);
void mem_free_aligned(void *p);
/* Copies `len` bytes and adds a NUL. */
char *mem_strndup(const char *s, size_t len);
char *mem_strdup(const char *s);

/* Grows *items (of `size` bytes each) so that it holds at least `need`; doubles the capacity.
 * `max` bounds the number of items: exceeding it is SPT_E_FORMAT, running out SPT_E_NOMEM. */
spt_status mem_grow(void *items, size_t *cap, size_t need, size_t size, size_t max, spt_err *err);

#endif
