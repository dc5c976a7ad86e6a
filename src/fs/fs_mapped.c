/* Which file is mapped where. A handler of SIGBUS asks, so nothing here locks or allocates: a slot is
 * taken by one atomic exchange, filled, and shown by storing its start last. */
#include <stdatomic.h>
#include <string.h>

#include "fs/fs_internal.h"

enum { SLOTS = 512, NAME = 232 };

static struct slot {
    atomic_flag taken;
    _Atomic(const unsigned char *) start; /* NULL: not shown */
    size_t size;
    char name[NAME];
} slots[SLOTS];

void mapped_add(const void *start, size_t size, const char *path)
{
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (atomic_flag_test_and_set(&s->taken))
            continue;
        const size_t n = strlen(path), skip = n < NAME ? 0 : n - NAME + 1;
        memcpy(s->name, path + skip, n - skip + 1);
        s->size = size;
        atomic_store(&s->start, start);
        return;
    }
} /* more files than slots: the message goes without a name */

void mapped_remove(const void *start)
{
    for (struct slot *s = slots; s < slots + SLOTS; s++) {
        if (atomic_load(&s->start) != start)
            continue;
        atomic_store(&s->start, NULL);
        atomic_flag_clear(&s->taken);
        return;
    }
}

const char *fs_mapped_at(const void *address)
{
    for (const struct slot *s = slots; s < slots + SLOTS; s++) {
        const unsigned char *start = atomic_load(&s->start);
        if (start && (uintptr_t)address >= (uintptr_t)start &&
            (uintptr_t)address - (uintptr_t)start < s->size)
            return s->name;
    }
    return NULL;
}
