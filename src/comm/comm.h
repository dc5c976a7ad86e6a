/* The processes ("ranks") that do one job together.
 *
 * Every exchange sends what it has and waits for all: messages go from rank to rank, without a
 * summing library in between. What is added is added in the order of the ranks, so the same number
 * of them gives the same bits. A rank that fails tells all others, which find out at their next
 * exchange, whatever that is for; so a rank that fails between two exchanges just returns to
 * comm_close(), which every job calls. A rank that does not answer is named after a time.
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
 * were started and this program was built without MPI. timeout: seconds to wait for a rank, 0: for
 * ever. */
spt_status comm_open(double timeout, comm **out, spt_err *err);
/* Did the launcher start this process as the first one, or no launcher start it? */
bool comm_launched_first(void);
/* The end of a job: st is how it ended here; returns how it ended on all ranks. */
spt_status comm_close(comm *c, spt_status st, spt_err *err);
/* Whether this rank is the one that says how the job ended; after comm_close. */
bool comm_speaks(const comm *c);
/* Leaves, after that was said. */
void comm_leave(comm *c);

/* Groups of a comm of `parts` times n ranks: *part has the `parts` neighbours that hold one model
 * together, *data the n ranks with the same part of it. NULL where that would be one rank. The
 * groups end with c. SPT_E_CONFIG when parts does not divide the ranks. */
spt_status comm_split(comm *c, int parts, comm **part, comm **data, spt_err *err);

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
/* The same in one exchange, when all know how much everybody has: n[r] bytes of rank r. all
 * [sum of n]: own bytes lie in their place already. */
spt_status comm_share(comm *c, spt_status st, void *all, const size_t *n, spt_err *err);
/* x[i] becomes the sum over all ranks, the same bits on each. */
spt_status comm_sum(comm *c, float *x, size_t n, spt_err *err);

/* What a comm (its groups not counted) did since the last comm_take_stats. */
struct comm_stats {
    int64_t exchanges;
    int64_t sent, received; /* bytes of this rank, not counting what MPI adds */
    int64_t wait_ns;
};
struct comm_stats comm_take_stats(comm *c);
size_t comm_held_bytes(const comm *c); /* buffers of sums so far */

/* --- transports -----------------------------------------------------------------------------
 * Of MPI in a build that has it (comm_mpi.c); tests have one between threads. */

/* To and from one other rank; either may be of no bytes: then there is no message. */
struct comm_message {
    int peer;
    const void *send;
    size_t send_n;
    void *recv;
    size_t recv_n;
};

/* "The job is over", sent by the rank that knows first. */
struct comm_notice {
    int32_t rank, status;
    int32_t told; /* whoever sent this says it */
    char text[sizeof((spt_err *)0)->msg];
};

/* What cut an exchange short. */
struct comm_event {
    enum { COMM_NOTHING, COMM_NOTICE, COMM_LATE } kind;
    struct comm_notice notice;
    int late; /* the first rank that something is missing from */
};

struct comm_transport {
    /* Until everything was received and sent, a notice came, or wait_ns (0: for ever) passed.
     * tag: of the group. Without messages: waits for a notice. */
    spt_status (*swap)(void *ctx, int tag, const struct comm_message *m, int n, int64_t wait_ns,
                       struct comm_event *event, spt_err *err);
    void (*notify)(void *ctx, const struct comm_notice *n); /* to all others */
    void (*leave)(void *ctx, bool clean);                   /* clean: nothing went wrong */
};
spt_status comm_new(const struct comm_transport *t, void *ctx, int rank, int size, double timeout,
                    comm **out, spt_err *err);
/* A comm that exchanges nothing but counts: what it would send goes nowhere; shared bytes are zeros, sums
 * are left alone. For plans. */
spt_status comm_count_open(int rank, int size, comm **out, spt_err *err);
bool comm_counts(const comm *c); /* c is one of those, or a group of one */

/* What a build with MPI provides. */
spt_status comm_mpi_open(double timeout, comm **out, spt_err *err);

#endif
