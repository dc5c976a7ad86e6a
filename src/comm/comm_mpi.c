/* The transport over MPI; compiled by `make MPI=1` only. Messages go from rank to rank and are
 * waited for with a clock, so that a rank that is gone or hangs can be named: a collective call
 * would wait for ever. */
#include <limits.h>
#include <string.h>

#include <mpi.h>

#include "base/mem.h"
#include "comm/comm.h"
#include "os/os.h"

enum { TAG_NOTICE = 9, SPIN_NS = 1000000, NAP_NS = 20000, MOST_NS = 100000000 };

struct mpi {
    int rank, size;
    struct comm_notice notice; /* being received */
    MPI_Request noticed;
    MPI_Request *req; /* [2 * size] of the swap at hand: receives, then sends */
    MPI_Status *status;
    int *done;
    struct comm_notice told; /* being sent */
    MPI_Request *telling;    /* [size] */
    bool stuck;              /* a send that nobody will take */
};

static spt_status check(int code, spt_err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    if (code == MPI_SUCCESS)
        return SPT_OK;
    MPI_Error_string(code, text, &len);
    return err_set(err, SPT_E_DEVICE, "MPI: %s", text);
}

static void listen(struct mpi *x)
{
    MPI_Irecv(&x->notice, (int)sizeof x->notice, MPI_BYTE, MPI_ANY_SOURCE, TAG_NOTICE,
              MPI_COMM_WORLD, &x->noticed);
}

static bool heard(struct mpi *x, struct comm_event *event)
{
    int flag = 0;
    if (MPI_Test(&x->noticed, &flag, MPI_STATUS_IGNORE) != MPI_SUCCESS || !flag)
        return false;
    event->kind = COMM_NOTICE;
    event->notice = x->notice;
    event->notice.text[sizeof event->notice.text - 1] = '\0';
    listen(x);
    return true;
}

static spt_status post(struct mpi *x, int tag, const struct comm_message *m, int n, spt_err *err)
{
    for (int i = 0; i < 2 * x->size; i++)
        x->req[i] = MPI_REQUEST_NULL;
    for (int i = 0; i < n; i++)
        if (m[i].recv_n > INT_MAX || m[i].send_n > INT_MAX)
            return err_set(err, SPT_E_CONFIG, "ranks exchange %zu bytes at once, at most %d can be",
                           m[i].recv_n > m[i].send_n ? m[i].recv_n : m[i].send_n, INT_MAX);
    for (int i = 0; i < n; i++)
        if (m[i].recv_n)
            TRY(check(MPI_Irecv(m[i].recv, (int)m[i].recv_n, MPI_BYTE, m[i].peer, tag,
                                MPI_COMM_WORLD, &x->req[i]),
                      err));
    for (int i = 0; i < n; i++)
        if (m[i].send_n)
            TRY(check(MPI_Isend(m[i].send, (int)m[i].send_n, MPI_BYTE, m[i].peer, tag,
                                MPI_COMM_WORLD, &x->req[n + i]),
                      err));
    return SPT_OK;
}

/* What of the swap is not finished is given up. */
static void give_up(struct mpi *x, int n)
{
    for (int i = 0; i < 2 * n; i++) {
        if (x->req[i] == MPI_REQUEST_NULL)
            continue;
        if (i < n)
            MPI_Cancel(&x->req[i]);
        else
            x->stuck = true;
        MPI_Request_free(&x->req[i]);
    }
}

/* Receives that are short come from a rank that does something else. */
static spt_status check_lengths(const struct mpi *x, const struct comm_message *m, int n, int count,
                                spt_err *err)
{
    for (int k = 0; k < count; k++) {
        int got = 0;
        const int i = x->done[k];
        if (i >= n)
            continue;
        MPI_Get_count(&x->status[k], MPI_BYTE, &got);
        if ((size_t)got != m[i].recv_n)
            return err_set(err, SPT_E_INTERNAL,
                           "rank %d sent %d bytes to rank %d, which expects %zu: were they started "
                           "with the same command?",
                           m[i].peer, got, x->rank, m[i].recv_n);
    }
    return SPT_OK;
}

/* Finishes what it can; *left counts the rest. */
static spt_status progress(struct mpi *x, const struct comm_message *m, int n, bool *finished,
                           spt_err *err)
{
    int count = 0;
    const int code = MPI_Testsome(2 * n, x->req, &count, x->done, x->status);
    *finished = count == MPI_UNDEFINED;
    if (code == MPI_ERR_IN_STATUS) {
        for (int k = 0; k < count; k++)
            TRY(check(x->status[k].MPI_ERROR, err));
    }
    TRY(check(code, err));
    return *finished ? SPT_OK : check_lengths(x, m, n, count, err);
}

static int first_missing(const struct mpi *x, const struct comm_message *m, int n)
{
    for (int i = 0; i < 2 * n; i++)
        if (x->req[i] != MPI_REQUEST_NULL)
            return m[i % n].peer;
    return 0;
}

static spt_status swap(void *ctx, int tag, const struct comm_message *m, int n, int64_t wait_ns,
                       struct comm_event *event, spt_err *err)
{
    struct mpi *x = ctx;
    bool finished = false;
    int64_t last = os_monotonic_ns(), waited = 0;
    spt_status st = post(x, tag, m, n, err);
    while (!st) {
        if (n)
            st = progress(x, m, n, &finished, err);
        if (st || finished)
            break;
        if (heard(x, event))
            break;
        /* A process that was stopped itself does not blame the others for that time. */
        const int64_t now = os_monotonic_ns(), since = now - last;
        waited += since < MOST_NS ? since : MOST_NS;
        last = now;
        if (wait_ns > 0 && waited > wait_ns) {
            event->kind = COMM_LATE;
            event->late = n ? first_missing(x, m, n) : 0;
            break;
        }
        if (waited > SPIN_NS)
            os_sleep_ns(NAP_NS);
    }
    if (!finished)
        give_up(x, n);
    return st;
}

static void finish_telling(struct mpi *x)
{
    const int64_t until = os_monotonic_ns() + 2000000000;
    bool all = false;
    while (!all && os_monotonic_ns() < until) {
        all = true;
        for (int r = 0, done = 0; r < x->size; r++)
            all &= MPI_Test(&x->telling[r], &done, MPI_STATUS_IGNORE) || done;
        if (!all)
            os_sleep_ns(NAP_NS);
    }
    for (int r = 0; r < x->size; r++)
        if (x->telling[r] != MPI_REQUEST_NULL) {
            MPI_Request_free(&x->telling[r]);
            x->stuck = true;
        }
}

static void notify(void *ctx, const struct comm_notice *n)
{
    struct mpi *x = ctx;
    x->told = *n;
    for (int r = 0; r < x->size; r++) {
        x->telling[r] = MPI_REQUEST_NULL;
        if (r != x->rank)
            MPI_Isend(&x->told, (int)sizeof x->told, MPI_BYTE, r, TAG_NOTICE, MPI_COMM_WORLD,
                      &x->telling[r]);
    }
    finish_telling(x);
}

static void free_mpi(struct mpi *x)
{
    mem_free(x->req);
    mem_free(x->status);
    mem_free(x->done);
    mem_free(x->telling);
    mem_free(x);
}

/* MPI_Finalize waits for all, and for messages on their way: not after something went wrong there.
 * The launcher then ends what is left. */
static void leave(void *ctx, bool clean)
{
    struct mpi *x = ctx;
    if (clean || !x->stuck) {
        MPI_Cancel(&x->noticed);
        MPI_Request_free(&x->noticed);
        MPI_Finalize();
    }
    free_mpi(x);
}

spt_status comm_mpi_open(double timeout, comm **out, spt_err *err)
{
    static const struct comm_transport transport = {swap, notify, leave};
    int level;
    TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), err));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    struct mpi *x = mem_zalloc(1, sizeof *x);
    if (!x)
        return err_nomem(err, sizeof *x);
    MPI_Comm_rank(MPI_COMM_WORLD, &x->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &x->size);
    const size_t n = 2 * (size_t)x->size;
    x->req = mem_alloc(n, sizeof(MPI_Request));
    x->status = mem_alloc(n, sizeof(MPI_Status));
    x->done = mem_alloc(n, sizeof *x->done);
    x->telling = mem_alloc(n, sizeof(MPI_Request));
    spt_status st = x->req && x->status && x->done && x->telling
                        ? SPT_OK
                        : err_nomem(err, n * sizeof(MPI_Status));
    if (!st) {
        listen(x);
        st = comm_new(&transport, x, x->rank, x->size, timeout, out, err);
    }
    if (st)
        free_mpi(x);
    return st;
}
