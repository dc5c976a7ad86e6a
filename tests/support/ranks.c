#include "support/test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/ranks.h"

/* A letter: kept until its reader comes. Messages of one pair and tag stay in order. */
struct letter {
    struct letter *next;
    int from, to, tag; /* tag 0: a notice */
    size_t n;
    char bytes[];
};

struct post_office {
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct letter *first, **last;
    int size;
};

struct seat {
    struct post_office *office;
    int rank;
    double timeout;
    ranks_body body;
    void *ctx;
};

static void deliver(struct post_office *o, int from, int to, int tag, const void *bytes, size_t n)
{
    struct letter *l = malloc(sizeof *l + n);
    *l = (struct letter){NULL, from, to, tag, n};
    memcpy(l->bytes, bytes, n);
    *o->last = l;
    o->last = &l->next;
}

static struct letter *take(struct post_office *o, int from, int to, int tag)
{
    for (struct letter **at = &o->first; *at; at = &(*at)->next) {
        struct letter *l = *at;
        if ((from >= 0 && l->from != from) || l->to != to || l->tag != tag)
            continue;
        *at = l->next;
        if (o->last == &l->next)
            o->last = at;
        return l;
    }
    return NULL;
}

static bool late(const struct timespec *until)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec > until->tv_sec ||
           (now.tv_sec == until->tv_sec && now.tv_nsec >= until->tv_nsec);
}

static spt_status wait_all(struct seat *s, int tag, const struct comm_message *m, int n,
                           const struct timespec *until, struct comm_event *event, spt_err *err)
{
    struct post_office *o = s->office;
    for (int i = 0; i < n || !n;) {
        struct letter *l = NULL;
        if (n && (!m[i].recv_n || (l = take(o, m[i].peer, s->rank, tag)) != NULL)) {
            const size_t want = m[i].recv_n, got = want ? l->n : 0;
            if (want && got == want)
                memcpy(m[i].recv, l->bytes, want);
            if (want)
                free(l);
            if (got != want)
                return err_set(err, SPT_E_INTERNAL, "%zu bytes for %zu", got, want);
            i++;
        } else if ((l = take(o, -1, s->rank, 0)) != NULL) {
            event->kind = COMM_NOTICE;
            memcpy(&event->notice, l->bytes, sizeof event->notice);
            free(l);
            return SPT_OK;
        } else if (until && late(until)) {
            event->kind = COMM_LATE;
            event->late = n ? m[i].peer : 0;
            return SPT_OK;
        } else if (until) {
            pthread_cond_timedwait(&o->news, &o->lock, until);
        } else {
            pthread_cond_wait(&o->news, &o->lock);
        }
    }
    return SPT_OK;
}

static spt_status swap(void *ctx, int tag, const struct comm_message *m, int n, int64_t wait_ns,
                       struct comm_event *event, spt_err *err)
{
    struct seat *s = ctx;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)((until.tv_nsec + wait_ns) / 1000000000);
    until.tv_nsec = (long)((until.tv_nsec + wait_ns) % 1000000000);
    pthread_mutex_lock(&s->office->lock);
    for (int i = 0; i < n; i++)
        if (m[i].send_n)
            deliver(s->office, s->rank, m[i].peer, tag, m[i].send, m[i].send_n);
    pthread_cond_broadcast(&s->office->news);
    const spt_status st = wait_all(s, tag, m, n, wait_ns > 0 ? &until : NULL, event, err);
    pthread_mutex_unlock(&s->office->lock);
    return st;
}

static void notify(void *ctx, const struct comm_notice *n)
{
    struct seat *s = ctx;
    pthread_mutex_lock(&s->office->lock);
    for (int r = 0; r < s->office->size; r++)
        if (r != s->rank)
            deliver(s->office, s->rank, r, 0, n, sizeof *n);
    pthread_cond_broadcast(&s->office->news);
    pthread_mutex_unlock(&s->office->lock);
}

static void leave(void *ctx, bool clean)
{
    (void)ctx, (void)clean;
}

static void *sit(void *arg)
{
    static const struct comm_transport between_threads = {swap, notify, leave};
    struct seat *s = arg;
    comm *c = NULL;
    spt_err err;
    if (comm_new(&between_threads, s, s->rank, s->office->size, s->timeout, &c, &err))
        abort();
    s->body(c, s->ctx);
    comm_leave(c);
    return NULL;
}

void ranks_run(int size, double timeout, ranks_body body, void *ctx)
{
    struct post_office office = {.size = size};
    struct seat seat[16];
    pthread_t thread[16];
    assert_true(size <= 16);
    office.last = &office.first;
    pthread_mutex_init(&office.lock, NULL);
    pthread_cond_init(&office.news, NULL);
    for (int r = 0; r < size; r++) {
        seat[r] = (struct seat){&office, r, timeout, body, ctx};
        assert_int_equal(pthread_create(&thread[r], NULL, sit, &seat[r]), 0);
    }
    for (int r = 0; r < size; r++)
        pthread_join(thread[r], NULL);
    while (office.first) {
        struct letter *l = office.first;
        office.first = l->next;
        free(l);
    }
    pthread_cond_destroy(&office.news);
    pthread_mutex_destroy(&office.lock);
}
