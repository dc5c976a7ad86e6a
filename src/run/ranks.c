#include "run/ranks.h"

#include <string.h>

static spt_status differs(int rank, const char *first, size_t n, const char *other, size_t m,
                          spt_err *err)
{
    return err_set(err, SPT_E_CONFIG,
                   "ranks do not do the same work: rank 0 has \"%.*s\", rank %d has \"%.*s\"",
                   (int)n, first, rank, (int)m, other);
}

static spt_status compare(int rank, const char *a, size_t an, const char *b, size_t bn,
                          spt_err *err)
{
    const char *const a_end = a + an, *const b_end = b + bn;
    while (a < a_end || b < b_end) {
        const char *x = memchr(a, '\n', (size_t)(a_end - a));
        const char *y = memchr(b, '\n', (size_t)(b_end - b));
        const size_t n = (size_t)((x ? x : a_end) - a), m = (size_t)((y ? y : b_end) - b);
        if (n != m || memcmp(a, b, n))
            return differs(rank, a, n, b, m, err);
        a = x ? x + 1 : a_end;
        b = y ? y + 1 : b_end;
    }
    return SPT_OK;
}

spt_status ranks_split(struct settings *s, spt_err *err)
{
    s->part = NULL;
    s->data_ranks = s->comm;
    const bool plans = !strcmp(s->command, "plan") || !strcmp(s->command, "check");
    if (s->partitions < 2 || plans)
        return SPT_OK;
    if (!s->comm)
        return err_set(err, SPT_E_CONFIG,
                       "--num-partitions %lld: a model in parts needs as many processes: start this "
                       "with `mpirun -n %lld` (or a multiple)",
                       (long long)s->partitions, (long long)s->partitions);
    return comm_split(s->comm, (int)s->partitions, &s->part, &s->data_ranks, err);
}

spt_status ranks_same_text(comm *c, const buf *text, spt_status st, spt_err *err)
{
    struct comm_bytes all = {0};
    if (comm_size(c) == 1)
        return st;
    TRY(comm_gather(c, st, buf_str(text), text->len, &all, err));
    for (int r = 1; !st && r < comm_size(c); r++)
        st = compare(r, all.bytes, all.off[1], all.bytes + all.off[r], all.off[r + 1] - all.off[r],
                     err);
    comm_bytes_release(&all);
    return st;
}

spt_status ranks_take_u32(comm *c, uint32_t *value, spt_status st, spt_err *err)
{
    struct comm_bytes all = {0};
    if (comm_size(c) == 1)
        return st;
    TRY(comm_gather(c, st, value, sizeof *value, &all, err));
    memcpy(value, all.bytes, sizeof *value);
    comm_bytes_release(&all);
    return SPT_OK;
}
