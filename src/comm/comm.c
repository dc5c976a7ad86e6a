#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/os.h"

enum { HOST = 64, SMALL_SUM = 16384 };
enum { TAG_ALL = 1, TAG_PART, TAG_DATA };

/* What all groups of a job share. */
struct job {
    const struct comm_transport *t;
    void *ctx;
    int rank, size;
    double timeout;
    char (*host)[HOST];  /* [size] */
    bool over;           /* notice says why */
    bool lost;           /* a rank does not answer: leaving politely would wait for it */
    bool speaks;
    struct comm_notice notice;
};

struct comm {
    struct job *job;
    int tag;
    int rank, size;
    int *member; /* [size] of the job */
    struct comm_message *m;
    struct word *words; /* [size] */
    float *scratch;
    size_t scratch_cap;
    struct comm_stats stats;
    comm *group[2]; /* of the whole job's comm: what comm_split made */
};

/* Small exchanges: what for, and a number. */
enum meeting { AGREE = 1, ANY, GATHER };
struct word {
    uint64_t meeting, value;
};

int comm_rank(const comm *c)
{
    return c ? c->rank : 0;
}

int comm_size(const comm *c)
{
    return c ? c->size : 1;
}

bool comm_speaks(const comm *c)
{
    return !c || c->job->speaks;
}

static void free_group(comm *c)
{
    if (!c)
        return;
    mem_free(c->member);
    mem_free(c->m);
    mem_free(c->words);
    mem_free(c->scratch);
    mem_free(c);
}

/* Members first, first + step, ... of the job. */
static spt_status new_group(struct job *job, int tag, int first, int step, int size, comm **out,
                            spt_err *err)
{
    comm *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    *c = (comm){.job = job, .tag = tag, .rank = (job->rank - first) / step, .size = size};
    c->member = mem_zalloc((size_t)size, sizeof *c->member);
    c->m = mem_zalloc((size_t)size, sizeof *c->m);
    c->words = mem_zalloc((size_t)size, sizeof *c->words);
    if (!c->member || !c->m || !c->words) {
        free_group(c);
        return err_nomem(err, (size_t)size * sizeof *c->m);
    }
    for (int r = 0; r < size; r++)
        c->member[r] = first + r * step;
    *out = c;
    return SPT_OK;
}

static void free_job(struct job *job)
{
    if (job)
        mem_free(job->host);
    mem_free(job);
}

spt_status comm_new(const struct comm_transport *t, void *ctx, int rank, int size, double timeout,
                    comm **out, spt_err *err)
{
    struct job *job = mem_zalloc(1, sizeof *job);
    if (!job)
        return err_nomem(err, sizeof *job);
    *job = (struct job){.t = t, .ctx = ctx, .rank = rank, .size = size, .timeout = timeout,
                        .speaks = rank == 0};
    comm *c = NULL;
    job->host = mem_zalloc((size_t)size, sizeof *job->host);
    spt_status st = job->host ? new_group(job, TAG_ALL, 0, 1, size, &c, err)
                              : err_nomem(err, (size_t)size * sizeof *job->host);
    if (st) {
        free_job(job);
        return st;
    }
    if (os_hostname(job->host[rank], HOST) < 0)
        job->host[rank][0] = '\0';
    size_t *n = mem_alloc((size_t)size, sizeof *n);
    for (int r = 0; n && r < size; r++)
        n[r] = HOST;
    st = n ? comm_share(c, SPT_OK, job->host, n, err) : err_nomem(err, (size_t)size * sizeof *n);
    mem_free(n);
    /* A rank that failed at once may be heard of already: the next exchange says so. */
    if (st && !job->over) {
        free_group(c);
        free_job(job);
        return st;
    }
    c->stats = (struct comm_stats){0};
    *out = c;
    return SPT_OK;
}

spt_status comm_split(comm *c, int parts, comm **part, comm **data, spt_err *err)
{
    const int size = comm_size(c);
    *part = NULL;
    *data = parts == 1 ? c : NULL;
    if (parts < 1 || size % parts)
        return err_set(err, SPT_E_CONFIG,
                       "%d processes cannot hold models of %d parts each: their number must be a "
                       "multiple of it",
                       size, parts);
    if (parts == 1)
        return SPT_OK;
    const int own = c->job->rank;
    TRY(new_group(c->job, TAG_PART, own - own % parts, 1, parts, &c->group[0], err));
    *part = c->group[0];
    if (size == parts)
        return SPT_OK;
    TRY(new_group(c->job, TAG_DATA, own % parts, parts, size / parts, &c->group[1], err));
    *data = c->group[1];
    return SPT_OK;
}

/* --- the end ------------------------------------------------------------------------------- */

static const char *host_of(const struct job *job, int rank)
{
    return job->host[rank][0] ? job->host[rank] : "unknown host";
}

static spt_status over(const struct job *job, spt_err *err)
{
    const struct comm_notice *n = &job->notice;
    const spt_status code = n->status ? (spt_status)n->status : SPT_E_INTERNAL;
    if (n->told || n->rank == job->rank)
        return err_set(err, code, "%s", n->text);
    return err_set(err, code, "rank %d of %d (%s): %s", n->rank, job->size, host_of(job, n->rank),
                   n->text);
}

static spt_status take_notice(struct job *job, const struct comm_notice *n, spt_err *err)
{
    if (!job->over) {
        job->notice = *n;
        job->over = true;
        if (n->told) {
            job->speaks = false;
            job->lost = true;
        }
    }
    return over(job, err);
}

/* The rank that finds out says it: the first one may be what hangs. */
static spt_status name_late(struct job *job, int late, spt_err *err)
{
    struct comm_notice n = {.rank = late, .status = SPT_E_DEVICE, .told = 1};
    err_set(err, SPT_E_DEVICE,
            "rank %d of %d (%s) has not answered for %g s (--comm-timeout): it hangs, or the "
            "network to it is down; found by rank %d (%s)",
            late, job->size, host_of(job, late), job->timeout, job->rank,
            host_of(job, job->rank));
    memcpy(n.text, err->msg, sizeof n.text);
    job->t->notify(job->ctx, &n);
    take_notice(job, &n, err);
    job->speaks = true;
    return SPT_E_DEVICE;
}

/* Lower ranks find out first, so that one speaks. */
static int64_t patience(const struct job *job)
{
    const int grace = job->rank < 10 ? job->rank : 10;
    return job->timeout > 0 ? (int64_t)((job->timeout + 0.5 * grace) * 1e9) : 0;
}

static spt_status count_swap(void *ctx, int tag, const struct comm_message *m, int n,
                             int64_t wait_ns, struct comm_event *event, spt_err *err);

bool comm_counts(const comm *c)
{
    return c && c->job->t->swap == count_swap;
}

static spt_status swap(comm *c, spt_err *err)
{
    struct job *job = c->job;
    struct comm_event event = {COMM_NOTHING, {0}, 0};
    spt_err ours = {0};
    if (job->over)
        return over(job, err);
    const int64_t from = os_monotonic_ns();
    const spt_status st =
        job->t->swap(job->ctx, c->tag, c->m, c->size, patience(job), &event, &ours);
    c->stats.wait_ns += os_monotonic_ns() - from;
    c->stats.exchanges++;
    for (int r = 0; r < c->size; r++) {
        c->stats.sent += (int64_t)c->m[r].send_n;
        c->stats.received += (int64_t)c->m[r].recv_n;
    }
    if (!st && event.kind == COMM_NOTICE)
        return take_notice(job, &event.notice, err);
    if (!st && event.kind == COMM_LATE) {
        const spt_status late = name_late(job, event.late, &ours);
        if (err)
            *err = ours;
        return late;
    }
    if (st && err)
        *err = ours;
    return st;
}

static void notify(struct job *job, spt_status st, const spt_err *err)
{
    struct comm_notice n = {.rank = job->rank, .status = (int32_t)st};
    if (err)
        memcpy(n.text, err->msg, sizeof n.text);
    if (!n.text[0])
        memcpy(n.text, "failed", 7);
    job->t->notify(job->ctx, &n);
    job->notice = n;
    job->over = true;
}

/* After a failure here: did all fail the same way? Then who did does not matter. */
static bool all_alike(const comm *c)
{
    struct job *job = c->job;
    const int64_t until = os_monotonic_ns() + 1000000000;
    int alike = 1;
    while (alike < job->size) {
        struct comm_event event = {COMM_NOTHING, {0}, 0};
        spt_err ignored;
        const int64_t left = until - os_monotonic_ns();
        if (left <= 0 ||
            job->t->swap(job->ctx, TAG_ALL, NULL, 0, left, &event, &ignored) ||
            event.kind != COMM_NOTICE || strcmp(event.notice.text, job->notice.text))
            return false;
        alike++;
    }
    return true;
}

spt_status comm_close(comm *c, spt_status st, spt_err *err)
{
    if (!c)
        return st;
    struct job *job = c->job;
    if (!st)
        st = comm_agree(c, SPT_OK, err);
    if (!st)
        return st;
    const bool ours = !job->over;
    if (ours)
        notify(job, st, err);
    if (job->notice.rank == job->rank && !job->notice.told && err && job->speaks && !all_alike(c))
        err_wrap(err, st, "rank %d of %d (%s)", job->rank, job->size, host_of(job, job->rank));
    return st;
}

void comm_leave(comm *c)
{
    if (!c)
        return;
    struct job *job = c->job;
    if (job->over) { /* the first rank's word comes before anybody's end: mpirun kills the rest */
        struct comm_event event = {COMM_NOTHING, {0}, 0};
        spt_err ignored;
        const int64_t until = os_monotonic_ns() + (job->lost ? 300000000 : 5000000000);
        if (job->speaks)
            job->t->notify(job->ctx, &(struct comm_notice){.rank = -1});
        while (!job->speaks && os_monotonic_ns() < until &&
               !job->t->swap(job->ctx, TAG_ALL, NULL, 0, until - os_monotonic_ns(), &event,
                             &ignored) &&
               event.kind == COMM_NOTICE && event.notice.rank >= 0)
            event.kind = COMM_NOTHING;
    }
    job->t->leave(job->ctx, !job->over);
    for (int i = 0; i < 2; i++)
        free_group(c->group[i]);
    free_group(c);
    free_job(job);
}

/* --- exchanges ----------------------------------------------------------------------------- */

/* A word to everybody, and everybody's into c->words. */
static spt_status meet(comm *c, enum meeting kind, uint64_t value, spt_err *err)
{
    const struct word mine = {kind, value};
    for (int r = 0; r < c->size; r++) {
        const size_t n = r == c->rank ? 0 : sizeof mine;
        c->m[r] = (struct comm_message){c->member[r], &mine, n, &c->words[r], n};
    }
    c->words[c->rank] = mine;
    TRY(swap(c, err));
    for (int r = 0; r < c->size; r++)
        if (c->words[r].meeting != kind)
            return err_set(err, SPT_E_INTERNAL, "ranks %d and %d do different things: were they "
                                                "started with the same command?",
                           c->job->rank, c->member[r]);
    return SPT_OK;
}

/* This rank cannot take part: the others hear of it. */
static spt_status abstain(comm *c, spt_status st, const spt_err *err)
{
    if (!c->job->over)
        notify(c->job, st, err);
    return st;
}

spt_status comm_agree(comm *c, spt_status st, spt_err *err)
{
    if (!c)
        return st;
    return st ? abstain(c, st, err) : meet(c, AGREE, 0, err);
}

spt_status comm_any(comm *c, unsigned *flags, spt_err *err)
{
    if (!c)
        return SPT_OK;
    TRY(meet(c, ANY, *flags, err));
    for (int r = 0; r < c->size; r++)
        *flags |= (unsigned)c->words[r].value;
    return SPT_OK;
}

spt_status comm_share(comm *c, spt_status st, void *all, const size_t *n, spt_err *err)
{
    if (!c)
        return st;
    if (st)
        return abstain(c, st, err);
    char *own = all, *at = all;
    for (int r = 0; r < c->rank; r++)
        own += n[r];
    for (int r = 0; r < c->size; at += n[r++]) {
        const bool self = r == c->rank;
        c->m[r] = (struct comm_message){c->member[r], own, self ? 0 : n[c->rank], at,
                                        self ? 0 : n[r]};
    }
    for (int r = 0; comm_counts(c) && r < c->size; r++)
        if (c->m[r].recv_n)
            memset(c->m[r].recv, 0, c->m[r].recv_n);
    return swap(c, err);
}

static spt_status gather_room(const comm *c, size_t **n, struct comm_bytes *b, spt_err *err)
{
    *n = mem_alloc((size_t)c->size, sizeof **n);
    b->off = mem_zalloc((size_t)c->size + 1, sizeof *b->off);
    for (int r = 0; *n && b->off && r < c->size; r++) {
        (*n)[r] = (size_t)c->words[r].value;
        b->off[r + 1] = b->off[r] + (*n)[r];
    }
    if (*n && b->off)
        b->bytes = mem_alloc(b->off[c->size] + 1, 1);
    return b->bytes ? SPT_OK : err_nomem(err, b->off ? b->off[c->size] : 0);
}

spt_status comm_gather(comm *c, spt_status st, const void *send, size_t n, struct comm_bytes *out,
                       spt_err *err)
{
    struct comm_bytes b = {0};
    size_t *each = NULL;
    if (st)
        return abstain(c, st, err);
    TRY(meet(c, GATHER, n, err));
    st = gather_room(c, &each, &b, err);
    if (!st && n)
        memcpy(b.bytes + b.off[c->rank], send, n);
    st = comm_share(c, st, b.bytes, each, err);
    mem_free(each);
    if (st) {
        comm_bytes_release(&b);
        return st;
    }
    *out = b;
    return SPT_OK;
}

void comm_bytes_release(struct comm_bytes *b)
{
    mem_free(b->bytes);
    mem_free(b->off);
    *b = (struct comm_bytes){0};
}

/* --- sums ------------------------------------------------------------------------------------
 * Rank p adds up the p-th piece of everybody's x, in the order of the ranks, and hands it out: each
 * number is added by one rank, so all have the same bits. Short ones are added by every rank. */

static size_t piece(size_t n, int p, int size)
{
    return n / (size_t)size * (size_t)p +
           ((size_t)p < n % (size_t)size ? (size_t)p : n % (size_t)size);
}

/* x[0..n) = sum in order of the pieces in scratch [size, n], own one in x. */
static void add_in_order(const comm *c, float *x, size_t n)
{
    if (comm_counts(c))
        return;
    for (size_t i = 0; i < n; i++) {
        float sum = c->rank ? c->scratch[i] : x[i];
        for (int r = 1; r < c->size; r++)
            sum += r == c->rank ? x[i] : c->scratch[(size_t)r * n + i];
        x[i] = sum;
    }
}

static spt_status sum_short(comm *c, float *x, size_t n, spt_err *err)
{
    for (int r = 0; r < c->size; r++) {
        const size_t bytes = r == c->rank ? 0 : n * sizeof *x;
        c->m[r] = (struct comm_message){c->member[r], x, bytes, c->scratch + (size_t)r * n, bytes};
    }
    TRY(swap(c, err));
    add_in_order(c, x, n);
    return SPT_OK;
}

static spt_status sum_long(comm *c, float *x, size_t n, spt_err *err)
{
    const size_t first = piece(n, c->rank, c->size), own = piece(n, c->rank + 1, c->size) - first;
    for (int r = 0; r < c->size; r++) {
        const size_t at = piece(n, r, c->size), len = piece(n, r + 1, c->size) - at;
        const bool self = r == c->rank;
        c->m[r] = (struct comm_message){c->member[r], x + at, self ? 0 : len * sizeof *x,
                                        c->scratch + (size_t)r * own, self ? 0 : own * sizeof *x};
    }
    TRY(swap(c, err));
    add_in_order(c, x + first, own);
    for (int r = 0; r < c->size; r++) {
        const size_t at = piece(n, r, c->size), len = piece(n, r + 1, c->size) - at;
        const bool self = r == c->rank;
        c->m[r] = (struct comm_message){c->member[r], x + first, self ? 0 : own * sizeof *x, x + at,
                                        self ? 0 : len * sizeof *x};
    }
    return swap(c, err);
}

spt_status comm_sum(comm *c, float *x, size_t n, spt_err *err)
{
    if (!c || !n)
        return SPT_OK;
    const bool brief = n <= SMALL_SUM;
    const size_t room = (size_t)c->size * (brief ? n : n / (size_t)c->size + 1);
    const spt_status st =
        mem_grow(&c->scratch, &c->scratch_cap, room, sizeof *c->scratch, SIZE_MAX / 16, err);
    if (st)
        return abstain(c, st, err);
    return brief ? sum_short(c, x, n, err) : sum_long(c, x, n, err);
}

struct comm_stats comm_take_stats(comm *c)
{
    const struct comm_stats s = c ? c->stats : (struct comm_stats){0};
    if (c)
        c->stats = (struct comm_stats){0};
    return s;
}

size_t comm_held_bytes(const comm *c)
{
    return c ? c->scratch_cap * sizeof *c->scratch : 0;
}

/* --- opening ------------------------------------------------------------------------------- */

/* Counting: c->words must make sense to the callers. */
static spt_status count_swap(void *ctx, int tag, const struct comm_message *m, int n,
                             int64_t wait_ns, struct comm_event *event, spt_err *err)
{
    (void)ctx, (void)tag, (void)wait_ns, (void)event, (void)err;
    for (int i = 0; i < n; i++)
        if (m[i].recv_n == sizeof(struct word) && m[i].send_n == m[i].recv_n)
            memcpy(m[i].recv, m[i].send, m[i].recv_n);
    return SPT_OK;
}

static void count_notify(void *ctx, const struct comm_notice *n)
{
    (void)ctx, (void)n;
}

static void count_leave(void *ctx, bool clean)
{
    (void)ctx, (void)clean;
}

spt_status comm_count_open(int rank, int size, comm **out, spt_err *err)
{
    static const struct comm_transport counting = {count_swap, count_notify, count_leave};
    return comm_new(&counting, NULL, rank, size, 0, out, err);
}

/* Processes that the launcher started; each tells it in its own way. */
static long launched(void)
{
    const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE",
                                 os_getenv("PMIX_RANK") ? "SLURM_STEP_NUM_TASKS" : NULL};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = names[i] ? os_getenv(names[i]) : NULL;
        if (text)
            return strtol(text, NULL, 10);
    }
    return 1;
}

bool comm_launched_first(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = os_getenv(names[i]);
        if (text)
            return strtol(text, NULL, 10) == 0;
    }
    return true;
}

spt_status comm_open(double timeout, comm **out, spt_err *err)
{
    const long n = launched();
    *out = NULL;
    if (n <= 1)
        return SPT_OK;
#ifdef SPT_MPI
    return comm_mpi_open(timeout, out, err);
#else
    return err_set(err, SPT_E_CONFIG,
                   "started as one of %ld processes, but this program was built without MPI: build "
                   "it with `make MPI=1`, or start it without mpirun",
                   n);
#endif
}
