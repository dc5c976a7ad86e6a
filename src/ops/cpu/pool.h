/* A small pool of threads with a fixed split of work.
 *
 *     pool_run(p, items, fn, ctx);     fn(ctx, first, last, thread) on every thread, then return
 *
 * Thread t of T always gets items [items t / T, items (t + 1) / T): who computes what depends on
 * nothing but the two numbers, so caches stay warm and nothing about the result can depend on
 * timing. The calling thread is thread 0. Workers wait by spinning for a moment, then sleep.
 * One caller at a time. */
#ifndef SPT_OPS_CPU_POOL_H
#define SPT_OPS_CPU_POOL_H

#include "tensor/tensor.h"

typedef struct pool pool;

enum { POOL_MAX_THREADS = 256 };

typedef void (*pool_fn)(void *ctx, int64_t first, int64_t last, int thread);

/* threads 0: as many as this process may use cores. Workers are pinned, one core each, when they
 * fill all of those cores (SPT_PIN=0 leaves them to the scheduler). */
spt_status pool_new(int threads, pool **out, spt_err *err);
void pool_free(pool *p); /* accepts NULL */
int pool_threads(const pool *p);
/* For turn `i` of a loop that waits for another thread: pauses, later gives the core away. */
void pool_relax(int i);
/* Threads whose share is empty are not called. */
void pool_run(pool *p, int64_t items, pool_fn fn, void *ctx);

#endif
