#include "comm/comm.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/os.h"

enum meeting { AGREE = 1, ANY, GATHER, CLOSE };

struct comm {
    const struct comm_transport *t;
    int rank, size;
    struct header *all; /* [size] */
    size_t *n;          /* [size] bytes of each rank in the transfer at hand */
};

/* What each rank says first. */
struct header {
    int32_t status, meeting;
    uint32_t flags;
    uint64_t bytes;
};

int comm_rank(const comm *c)
{
    return c ? c->rank : 0;
}

int comm_size(const comm *c)
{
    return c ? c->size : 1;
}

spt_status comm_new(const struct comm_transport *t, int rank, int size, comm **out, spt_err *err)
{
    comm *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    *c = (comm){.t = t, .rank = rank, .size = size};
    c->all = mem_zalloc((size_t)size, sizeof *c->all);
    c->n = mem_zalloc((size_t)size, sizeof *c->n);
    if (!c->all || !c->n) {
        mem_free(c->all);
        mem_free(c->n);
        mem_free(c);
        return err_nomem(err, (size_t)size * sizeof *c->all);
    }
    *out = c;
    return SPT_OK;
}

static spt_status same_size_gather(comm *c, const void *send, void *recv, size_t n, spt_err *err)
{
    for (int r = 0; r < c->size; r++)
        c->n[r] = n;
    return c->t->gather(send, recv, c->n, c->size, err);
}

/* The error of the first rank that has one becomes everybody's. */
static spt_status share_error(comm *c, int failed, int failures, spt_status st, spt_err *err)
{
    spt_err mine = {0};
    if (err && st)
        mine = *err;
    spt_err *all = mem_zalloc((size_t)c->size, sizeof *all);
    if (!all)
        return err_nomem(err, (size_t)c->size * sizeof *all);
    const spt_status sent = same_size_gather(c, &mine, all, sizeof mine, err);
    if (sent) {
        mem_free(all);
        return sent;
    }
    const spt_status code = (spt_status)c->all[failed].status;
    const spt_err first = all[failed];
    mem_free(all);
    if (failures == c->size) { /* the same everywhere */
        if (err)
            *err = first;
        return code;
    }
    return err_set(err, code, "rank %d of %d: %s", failed, c->size, first.msg);
}

static spt_status meet(comm *c, enum meeting kind, spt_status st, unsigned flags, size_t bytes,
                       spt_err *err)
{
    const struct header mine = {(int32_t)st, (int32_t)kind, flags, bytes};
    int failed = -1, failures = 0;
    TRY(same_size_gather(c, &mine, c->all, sizeof mine, err));
    for (int r = c->size - 1; r >= 0; r--)
        if (c->all[r].status) {
            failed = r;
            failures++;
        }
    if (failed >= 0)
        return share_error(c, failed, failures, st, err);
    for (int r = 0; r < c->size; r++)
        if (c->all[r].meeting != c->all[0].meeting)
            return err_set(err, SPT_E_INTERNAL, "ranks 0 and %d do different things: were they "
                                                "started with the same command?", r);
    return SPT_OK;
}

spt_status comm_agree(comm *c, spt_status st, spt_err *err)
{
    return c ? meet(c, AGREE, st, 0, 0, err) : st;
}

spt_status comm_any(comm *c, unsigned *flags, spt_err *err)
{
    if (!c)
        return SPT_OK;
    TRY(meet(c, ANY, SPT_OK, *flags, 0, err));
    for (int r = 0; r < c->size; r++)
        *flags |= c->all[r].flags;
    return SPT_OK;
}

spt_status comm_gather(comm *c, spt_status st, const void *send, size_t n, struct comm_bytes *out,
                       spt_err *err)
{
    struct comm_bytes b = {0};
    TRY(meet(c, GATHER, st, 0, n, err));
    b.off = mem_zalloc((size_t)c->size + 1, sizeof *b.off);
    for (int r = 0; b.off && r < c->size; r++) {
        c->n[r] = (size_t)c->all[r].bytes;
        b.off[r + 1] = b.off[r] + c->n[r];
    }
    if (b.off)
        b.bytes = mem_alloc(b.off[c->size] + 1, 1);
    if (!b.bytes) {
        comm_bytes_release(&b);
        return err_nomem(err, n);
    }
    st = c->t->gather(send, b.bytes, c->n, c->size, err);
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

spt_status comm_close(comm *c, spt_status st, spt_err *err)
{
    if (!c)
        return st;
    st = meet(c, CLOSE, st, 0, 0, err);
    c->t->close();
    mem_free(c->all);
    mem_free(c->n);
    mem_free(c);
    return st;
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

spt_status comm_open(comm **out, spt_err *err)
{
    const long n = launched();
    *out = NULL;
    if (n <= 1)
        return SPT_OK;
#ifdef SPT_MPI
    return comm_mpi_open(out, err);
#else
    return err_set(err, SPT_E_CONFIG,
                   "started as one of %ld processes, but this program was built without MPI: build "
                   "it with `make MPI=1`, or start it without mpirun",
                   n);
#endif
}
