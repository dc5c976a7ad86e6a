/* The processes ("ranks") that do one job together.
 *
 * Every exchange begins with the ranks' statuses: when one of them failed, all leave with that
 * error, and nobody waits for a rank that is gone. So a rank that fails between two exchanges just
 * returns; the others meet it at comm_close(), which every job calls. Nothing is summed on the way:
 * bytes come back in the order of the ranks, and what is added is added by every rank alike.
 *
 * NULL stands for one process alone, for which every call is local. */
#ifndef SPT_COMM_COMM_H
#define SPT_COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct comm comm;

/* Joins the processes that mpirun or srun started; NULL for one process. SPT_E_CONFIG when several
 * were started and this program was built without MPI. */
spt_status comm_open(comm **out, spt_err *err);
/* Did the launcher start this process as the first one, or no launcher start it? */
bool comm_launched_first(void);
/* The end of a job: st is how it ended here; returns how it ended on all ranks. */
spt_status comm_close(comm *c, spt_status st, spt_err *err);

int comm_rank(const comm *c);
int comm_size(const comm *c);
/* The rank that writes files and tells the story. */
static inline bool comm_leads(const comm *c)
{
    return comm_rank(c) == 0;
}

/* Waits for all. st: how it went here; SPT_OK only if it went well everywhere. */
spt_status comm_agree(comm *c, spt_status st, spt_err *err);
/* *flags becomes the bits that any rank has set. */
spt_status comm_any(comm *c, unsigned *flags, spt_err *err);
/* Everybody's bytes, in the order of the ranks: *out (mem_free) has off[size] bytes, those of rank
 * r from off[r] on. st as above. Not for one process. */
struct comm_bytes {
    char *bytes;
    size_t *off; /* [size + 1] */
};
spt_status comm_gather(comm *c, spt_status st, const void *send, size_t n, struct comm_bytes *out,
                       spt_err *err);
void comm_bytes_release(struct comm_bytes *b); /* accepts an all-zero object */

/* What a build with MPI provides (comm_mpi.c). */
spt_status comm_mpi_open(comm **out, spt_err *err);
/* Transport: n bytes from every rank to every rank, n[r] from rank r. 0 or an error. */
struct comm_transport {
    spt_status (*gather)(const void *send, void *recv, const size_t *n, int size, spt_err *err);
    void (*close)(void);
};
spt_status comm_new(const struct comm_transport *t, int rank, int size, comm **out, spt_err *err);

#endif
