/* A file system in memory behind the os table, with a power switch.
 *
 * Everything that changes files is recorded as an event: a write, a truncation, a directory entry
 * that appears, moves or goes, and the syncs. What has not been synced when the power goes may
 * survive or not: memfs_cut() builds the file system that the next boot finds after the first k
 * events, for one of six outcomes (reliability.md K2). The model is harsher than real file systems:
 * fsync of a file does not make its directory entry durable, and entries of one directory may
 * survive in any combination. Order rules (K8) are checked while the program runs. */
#ifndef TESTS_SUPPORT_MEMFS_H
#define TESTS_SUPPORT_MEMFS_H

#include "os/os.h"

enum memfs_outcome {
    CUT_ALL_KEPT,   /* as if everything had been synced */
    CUT_ALL_LOST,   /* only what was synced */
    CUT_RANDOM,     /* each unsynced event by the toss of a coin */
    CUT_TORN_512,   /* unsynced writes survive in pieces of 512 bytes, entries all */
    CUT_TORN_4096,  /* the same in pages */
    CUT_REORDERED,  /* entries survive in any order and combination, unsynced data is lost */
    CUT_OUTCOMES
};

typedef struct memfs memfs;
memfs *memfs_new(void);
void memfs_free(memfs *m);
/* Installs it as the os table (clock, random and pid are deterministic); NULL: the real system. */
void memfs_use(memfs *m);

size_t memfs_events(const memfs *m);
/* After the first `events` events the power goes. */
memfs *memfs_cut(const memfs *m, size_t events, enum memfs_outcome outcome, uint64_t seed);

/* The n-th call (from 1) of a kind fails with -errno_value; 0 switches it off. `seen` counts. */
enum memfs_call { MEMFS_WRITE, MEMFS_FSYNC, MEMFS_RENAME, MEMFS_OPEN, MEMFS_ANY, MEMFS_CALLS };
void memfs_fail(memfs *m, enum memfs_call kind, size_t nth, bool persistent, int errno_value);
size_t memfs_seen(const memfs *m, enum memfs_call kind);

/* First order rule that was broken, or NULL: a file or directory was renamed while something below
 * it was not synced. Static text. */
const char *memfs_broken_rule(const memfs *m);
/* Renames whose directory has not been synced since. */
size_t memfs_unsynced_renames(const memfs *m);
/* Open descriptors. */
size_t memfs_open_count(const memfs *m);
/* The bytes of a file, or NULL; valid until it changes. */
const unsigned char *memfs_bytes(memfs *m, const char *path, size_t *size);
/* The first `events` events to standard error, for looking at a failure. */
void memfs_dump(const memfs *m, size_t events);

#endif
