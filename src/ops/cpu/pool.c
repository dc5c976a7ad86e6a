/* Jobs are published by a counter: the caller fills in the job, then adds one to `turn`; every
 * worker that sees a new turn runs its share and counts itself off in `busy`. The job fields are
 * written before the release on `turn` and read after the acquire, and the caller returns only
 * when `busy` is zero, so there is no other synchronisation and a thread sanitizer can follow it.
 *
 * Waiting: a step of training runs thousands of jobs of some 100 us each, so a worker that slept
 * in between would lose a tenth of the time to waking up. It spins for SPIN turns (some 50 us),
 * then sleeps on the condition variable. `asleep` tells the publisher whether anybody needs the
 * wake-up. Where other programs want the cores too, spinning longer or pinning costs far more than
 * waking: with 8 busy neighbours on 2 cores a demo run took 20 times as long with 20,000 turns and
 * pinned workers. So pinning is on request (SPT_PIN=1), for machines that run nothing else. */
#include "ops/cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "os/os.h"

enum { SPIN = 3000, SPIN_CROWDED = 50 };

struct worker {
    pool *p;
    int index;
    uint64_t handle;
};

struct pool {
    int threads;
    int started; /* workers that exist */
    int spin;
    bool pin;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    _Atomic unsigned turn;
    _Atomic int busy;
    _Atomic int asleep;  /* workers on `wake` */
    _Atomic int waiting; /* the caller is on `done` */
    pool_fn fn;          /* NULL: leave */
    void *ctx;
    int64_t items;
    struct worker worker[POOL_MAX_THREADS];
};

enum { PAUSES = 500 };

void pool_relax(int i)
{
    if (i >= PAUSES)
        sched_yield();
    else {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#else
        sched_yield();
#endif
    }
}

static void relax(void)
{
    pool_relax(0);
}

static void share(const pool *p, int t)
{
    const int64_t first = p->items * t / p->threads, last = p->items * (t + 1) / p->threads;
    if (first < last)
        p->fn(p->ctx, first, last, t);
}

static unsigned wait_turn(pool *p, unsigned seen)
{
    for (int i = 0; i < p->spin; i++) {
        const unsigned now = atomic_load_explicit(&p->turn, memory_order_acquire);
        if (now != seen)
            return now;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    unsigned now;
    while ((now = atomic_load(&p->turn)) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->lock);
    return now;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    pool *p = w->p;
    if (p->pin)
        (void)os_thread_pin(w->index);
    for (unsigned turn = 0;;) {
        turn = wait_turn(p, turn);
        if (!p->fn)
            return NULL;
        share(p, w->index);
        if (atomic_fetch_sub(&p->busy, 1) == 1 && atomic_load(&p->waiting)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

/* The order "turn, then asleep" here against "asleep, then turn" in wait_turn (all sequentially
 * consistent) leaves no window in which a sleeper misses the new turn. */
static void publish(pool *p)
{
    atomic_fetch_add(&p->turn, 1);
    if (atomic_load(&p->asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

static void wait_done(pool *p)
{
    for (int i = 0; i < p->spin; i++) {
        if (!atomic_load_explicit(&p->busy, memory_order_acquire))
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, 1);
    while (atomic_load(&p->busy))
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->waiting, 0);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(pool *p, int64_t items, pool_fn fn, void *ctx)
{
    if (items <= 0)
        return;
    if (p->threads == 1 || items == 1) {
        /* The owner of a lone item is the last thread; the caller may as well do it itself. */
        fn(ctx, 0, items, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->items = items;
    atomic_store(&p->busy, p->threads - 1);
    publish(p);
    share(p, 0);
    wait_done(p);
}

int pool_threads(const pool *p)
{
    return p->threads;
}

void pool_free(pool *p)
{
    if (!p)
        return;
    p->fn = NULL;
    publish(p);
    for (int i = 1; i <= p->started; i++)
        (void)os_thread_join(p->worker[i].handle);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

spt_status pool_new(int threads, pool **out, spt_err *err)
{
    const int cores = os_cpu_count();
    if (threads <= 0)
        threads = cores > 0 ? cores : 1;
    if (threads > POOL_MAX_THREADS)
        threads = POOL_MAX_THREADS;
    pool *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    const char *pin = os_getenv("SPT_PIN");
    p->threads = threads;
    p->spin = threads > cores ? SPIN_CROWDED : SPIN;
    p->pin = threads == cores && pin && !strcmp(pin, "1");
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (int i = 1; i < threads; i++) {
        p->worker[i] = (struct worker){.p = p, .index = i};
        const int r = os_thread_start(&p->worker[i].handle, work, &p->worker[i]);
        if (r < 0) {
            pool_free(p);
            return err_sys(err, SPT_E_DEVICE, -r, "cannot start thread %d of %d", i + 1, threads);
        }
        p->started = i;
    }
    *out = p;
    return SPT_OK;
}
