/* Bump memory and interned strings. Chunks start small, so that a small configuration costs a few
 * kilobytes, and double up to 256 KB, so that a large one wastes little. */
#include "gin/gin_internal.h"

#include <string.h>

#include "base/mem.h"

size_t gin_pool_first = 2048, gin_pool_last = 256 * 1024;

void gin_pool_release(gin_pool *p)
{
    while (p->head) {
        struct gin_chunk *next = p->head->next;
        mem_free(p->head);
        p->head = next;
    }
    mem_free(p->slot);
    *p = (gin_pool){0};
}

void *gin_pool_alloc(gin_pool *p, size_t size)
{
    /* never: no text of ours is that long */
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + 7) & ~(size_t)7;
    struct gin_chunk *k = p->head;
    if (!k || k->size - k->used < size) {
        if (!p->next_size)
            p->next_size = gin_pool_first;
        const size_t want = size > p->next_size / 4 ? size : p->next_size;
        k = mem_alloc(1, sizeof *k + want);
        if (!k)
            return NULL;
        *k = (struct gin_chunk){.size = want};
        if (want == size && p->head) { /* a large piece goes behind the chunk in use */
            k->next = p->head->next;
            p->head->next = k;
        } else {
            k->next = p->head;
            p->head = k;
            if (p->next_size < gin_pool_last)
                p->next_size *= 2;
        }
    }
    void *at = (char *)(k + 1) + k->used;
    k->used += size;
    return at;
}

char *gin_pool_copy(gin_pool *p, const char *s, size_t len)
{
    char *d = gin_pool_alloc(p, len + 1);
    if (!d)
        return NULL;
    if (len)
        memcpy(d, s, len);
    d[len] = 0;
    return d;
}

/* FNV-1a with a final mix; inputs are short. */
uint64_t gin_hash_bytes(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 1099511628211u;
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

/* Half full at most, hashes beside the texts: a miss costs one look at memory, not one per probe. */
static bool grow_slots(gin_pool *p)
{
    const size_t n = p->slots ? p->slots * 2 : 64;
    struct gin_intern_slot *slot = mem_zalloc(n, sizeof *slot);
    if (!slot)
        return false;
    for (size_t i = 0; i < p->slots; i++) {
        if (!p->slot[i].text)
            continue;
        size_t at = p->slot[i].hash & (n - 1);
        while (slot[at].text)
            at = (at + 1) & (n - 1);
        slot[at] = p->slot[i];
    }
    mem_free(p->slot);
    p->slot = slot;
    p->slots = n;
    return true;
}

const char *gin_intern(gin_pool *p, const char *s, size_t len)
{
    /* never: a text has at most GIN_MAX_TOTAL bytes */
    if (len > UINT32_MAX)
        return NULL;
    if (p->interned * 2 >= p->slots && !grow_slots(p))
        return NULL;
    const uint32_t hash = (uint32_t)gin_hash_bytes(s, len);
    size_t at = hash & (p->slots - 1);
    for (; p->slot[at].text; at = (at + 1) & (p->slots - 1)) {
        const struct gin_intern_slot *t = &p->slot[at];
        if (t->hash == hash && t->len == len && memcmp(t->text, s, len) == 0)
            return t->text;
    }
    char *d = gin_pool_alloc(p, len + 1);
    if (!d)
        return NULL;
    if (len)
        memcpy(d, s, len);
    d[len] = 0;
    p->slot[at] = (struct gin_intern_slot){d, hash, (uint32_t)len};
    p->interned++;
    return d;
}
