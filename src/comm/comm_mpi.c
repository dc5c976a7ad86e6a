/* The transport over MPI; compiled by `make MPI=1` only. One communicator, all processes. */
#include <limits.h>

#include <mpi.h>

#include "base/mem.h"
#include "comm/comm.h"

static spt_status check(int code, spt_err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int len = 0;
    if (code == MPI_SUCCESS)
        return SPT_OK;
    MPI_Error_string(code, text, &len);
    return err_set(err, SPT_E_IO, "MPI: %s", text);
}

static spt_status gather_same(const void *send, void *recv, size_t n, spt_err *err)
{
    return check(MPI_Allgather(send, (int)n, MPI_BYTE, recv, (int)n, MPI_BYTE, MPI_COMM_WORLD),
                 err);
}

static spt_status gather_each(const void *send, void *recv, const size_t *n, int size, spt_err *err)
{
    int rank;
    int *count = mem_alloc((size_t)size * 2, sizeof *count), *at = count + size;
    if (!count)
        return err_nomem(err, (size_t)size * 2 * sizeof *count);
    for (int r = 0, sum = 0; r < size; sum += count[r++]) {
        count[r] = (int)n[r];
        at[r] = sum;
    }
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    const int code = MPI_Allgatherv(send, count[rank], MPI_BYTE, recv, count, at, MPI_BYTE,
                                    MPI_COMM_WORLD);
    mem_free(count);
    return check(code, err);
}

static spt_status gather(const void *send, void *recv, const size_t *n, int size, spt_err *err)
{
    size_t sum = 0;
    bool same = true;
    for (int r = 0; r < size; r++) {
        same = same && n[r] == n[0];
        sum += n[r];
    }
    if (sum > INT_MAX)
        return err_set(err, SPT_E_CONFIG, "ranks exchange %zu bytes at once, at most %d can be", sum,
                       INT_MAX);
    return same ? gather_same(send, recv, n[0], err) : gather_each(send, recv, n, size, err);
}

static void close_mpi(void)
{
    MPI_Finalize();
}

spt_status comm_mpi_open(comm **out, spt_err *err)
{
    static const struct comm_transport transport = {gather, close_mpi};
    int rank, size, level;
    TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level), err));
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return comm_new(&transport, rank, size, out, err);
}
