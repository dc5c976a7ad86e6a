/* Exchanges between ranks that are threads here. Each thread writes down what it saw; the checks are
 * made afterwards. */
#include "support/test.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "os/os.h"
#include "support/ranks.h"

enum { MOST = 8 };

struct seen {
    spt_status st;
    spt_err err;
    bool speaks;
    unsigned flags;
    struct comm_stats stats;
    float *x;
    char text[256];
};

struct plan {
    int size, parts, failing;
    size_t n;
    struct seen seen[MOST];
};

/* --- what goes well ------------------------------------------------------------------------ */

static float number(int rank, size_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u + (uint32_t)rank * 40503u;
    h ^= h >> 15;
    return ((float)(h % 20001) - 10000) * powf(10, (float)(h % 7) - 3);
}

static void add_up(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    s->x = malloc((p->n + 1) * sizeof *s->x);
    for (size_t i = 0; i < p->n; i++)
        s->x[i] = number(comm_rank(c), i);
    s->st = comm_sum(c, s->x, p->n, &s->err);
    s->stats = comm_take_stats(c);
    comm_close(c, s->st, &s->err);
}

static void sums_in_order(void **state)
{
    const size_t lengths[] = {0, 1, 2, 7, 8, 1000, 16384, 16385, 100003};
    for (int size = 2; size <= MOST; size++)
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            struct plan p = {.size = size, .n = lengths[k]};
            ranks_run(size, 0, add_up, &p);
            for (int r = 0; r < size; r++) {
                EXPECT_OK(p.seen[r].st, &p.seen[r].err);
                for (size_t i = 0; i < p.n; i++) {
                    float want = number(0, i);
                    for (int q = 1; q < size; q++)
                        want += number(q, i);
                    if (memcmp(&want, &p.seen[r].x[i], sizeof want))
                        fail_msg("%d ranks, %zu: x[%zu] on rank %d is %g, wanted %g", size, p.n, i, r,
                                 (double)p.seen[r].x[i], (double)want);
                }
                EXPECT_EQ_I64(p.seen[r].stats.exchanges, !p.n ? 0 : p.n <= 16384 ? 1 : 2);
            }
            for (int r = 0; r < size; r++)
                free(p.seen[r].x);
        }
}

static void gather_and_share(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    struct comm_bytes all = {0};
    char mine[16];
    const int n = snprintf(mine, sizeof mine, "%.*s", comm_rank(c), "abcdefgh");
    s->st = comm_gather(c, SPT_OK, mine, (size_t)n, &all, &s->err);
    if (!s->st)
        snprintf(s->text, sizeof s->text, "%.*s", (int)all.off[comm_size(c)], all.bytes);
    comm_bytes_release(&all);
    s->flags = 1u << comm_rank(c);
    if (!s->st)
        s->st = comm_any(c, &s->flags, &s->err);
    char each[MOST + 1] = "........";
    size_t one[MOST];
    for (int r = 0; r < comm_size(c); r++)
        one[r] = r != 1; /* rank 1 has nothing */
    each[comm_rank(c) ? comm_rank(c) - 1 : 0] = (char)('0' + comm_rank(c));
    if (!s->st)
        s->st = comm_share(c, SPT_OK, each, one, &s->err);
    strncat(s->text, each, (size_t)comm_size(c) - 1);
    s->st = comm_close(c, s->st, &s->err);
    s->speaks = comm_speaks(c);
}

static void everybody_hears_all(void **state)
{
    struct plan p = {.size = 5};
    ranks_run(5, 0, gather_and_share, &p);
    for (int r = 0; r < 5; r++) {
        EXPECT_OK(p.seen[r].st, &p.seen[r].err);
        EXPECT_STR(p.seen[r].text, "aababcabcd0234");
        EXPECT_EQ_I64(p.seen[r].flags, 31);
        EXPECT_EQ_I64(p.seen[r].speaks, r == 0);
    }
}

static void in_groups(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    comm *part, *data;
    float x[2] = {(float)(1 << comm_rank(c)), (float)(1 << comm_rank(c))};
    s->st = comm_split(c, p->parts, &part, &data, &s->err);
    if (!s->st)
        s->st = comm_sum(part, &x[0], 1, &s->err);
    if (!s->st)
        s->st = comm_sum(data, &x[1], 1, &s->err);
    snprintf(s->text, sizeof s->text, "%d/%d %d/%d %g %g", comm_rank(part), comm_size(part),
             comm_rank(data), comm_size(data), (double)x[0], (double)x[1]);
    s->st = comm_close(c, s->st, &s->err);
}

static void groups(void **state)
{
    struct plan p = {.size = 6, .parts = 3};
    ranks_run(6, 0, in_groups, &p);
    const char *want[] = {"0/3 0/2 7 9",   "1/3 0/2 7 18",  "2/3 0/2 7 36",
                          "0/3 1/2 56 9",  "1/3 1/2 56 18", "2/3 1/2 56 36"};
    for (int r = 0; r < 6; r++) {
        EXPECT_OK(p.seen[r].st, &p.seen[r].err);
        EXPECT_STR(p.seen[r].text, want[r]);
    }
    struct plan whole = {.size = 4, .parts = 4};
    ranks_run(4, 0, in_groups, &whole);
    EXPECT_STR(whole.seen[2].text, "2/4 0/1 15 4");
    struct plan odd = {.size = 5, .parts = 2};
    ranks_run(5, 0, in_groups, &odd);
    for (int r = 0; r < 5; r++) {
        EXPECT_STATUS(odd.seen[r].st, SPT_E_CONFIG);
        EXPECT_MSG(&odd.seen[r].err, "5 processes cannot hold models of 2 parts");
    }
}

/* --- what goes wrong ----------------------------------------------------------------------- */

/* One rank fails before the exchange that the others are in, in a group or not. */
static void one_fails(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    comm *part, *data;
    float x = 1;
    s->st = comm_split(c, p->parts, &part, &data, &s->err);
    if (!s->st && comm_rank(c) == p->failing)
        s->st = err_set(&s->err, SPT_E_IO, "the disk is full");
    else if (!s->st)
        s->st = comm_sum(part ? part : c, &x, 1, &s->err);
    if (!s->st)
        s->st = comm_agree(c, SPT_OK, &s->err);
    s->st = comm_close(c, s->st, &s->err);
    s->speaks = comm_speaks(c);
}

static void failures_reach_all(void **state)
{
    for (int parts = 1; parts <= 3; parts++)
        for (int failing = 0; failing < 6; failing++) {
            struct plan p = {.size = 6, .parts = parts, .failing = failing};
            char who[32];
            snprintf(who, sizeof who, "rank %d of 6 (", failing);
            ranks_run(6, 0, one_fails, &p);
            for (int r = 0; r < 6; r++) {
                EXPECT_STATUS(p.seen[r].st, SPT_E_IO);
                EXPECT_MSG(&p.seen[r].err, "the disk is full");
                if (r == 0 || r != failing)
                    EXPECT_MSG(&p.seen[r].err, who);
                EXPECT_EQ_I64(p.seen[r].speaks, r == 0);
            }
        }
}

static void all_fail(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    s->st = err_set(&s->err, SPT_E_NOTFOUND, "no such file");
    s->st = comm_close(c, s->st, &s->err);
}

static void the_same_failure_is_nobodys(void **state)
{
    struct plan p = {.size = 4};
    ranks_run(4, 0, all_fail, &p);
    EXPECT_STATUS(p.seen[0].st, SPT_E_NOTFOUND);
    EXPECT_STR(p.seen[0].err.msg, "no such file");
}

static void one_sleeps(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    if (comm_rank(c) == p->failing) {
        nanosleep(&(struct timespec){1, 0}, NULL);
        s->st = SPT_OK;
        return;
    }
    s->st = comm_agree(c, SPT_OK, &s->err);
    s->st = comm_close(c, s->st, &s->err);
    s->speaks = comm_speaks(c);
}

static void a_rank_that_hangs_is_named(void **state)
{
    for (int failing = 0; failing < 3; failing++) {
        struct plan p = {.size = 3, .failing = failing};
        const int first = failing == 0;
        char who[32];
        snprintf(who, sizeof who, "rank %d of 3 (", failing);
        ranks_run(3, 0.1, one_sleeps, &p);
        for (int r = 0; r < 3; r++) {
            if (r == failing)
                continue;
            EXPECT_STATUS(p.seen[r].st, SPT_E_DEVICE);
            EXPECT_MSG(&p.seen[r].err, who);
            EXPECT_MSG(&p.seen[r].err, "has not answered for 0.1 s");
            EXPECT_EQ_I64(p.seen[r].speaks, r == first);
        }
    }
}

static void other_meetings(comm *c, void *ctx)
{
    struct plan *p = ctx;
    struct seen *s = &p->seen[comm_rank(c)];
    unsigned flags = 0;
    s->st = comm_rank(c) ? comm_any(c, &flags, &s->err) : comm_agree(c, SPT_OK, &s->err);
    s->st = comm_close(c, s->st, &s->err);
}

static void ranks_that_do_different_things(void **state)
{
    struct plan p = {.size = 2};
    ranks_run(2, 0, other_meetings, &p);
    for (int r = 0; r < 2; r++) {
        EXPECT_STATUS(p.seen[r].st, SPT_E_INTERNAL);
        EXPECT_MSG(&p.seen[r].err, "do different things");
    }
}

/* --- one process, and counting ------------------------------------------------------------- */

static void alone(void **state)
{
    spt_err err;
    float x = 3;
    unsigned flags = 5;
    char byte = 1;
    const size_t one = 1;
    EXPECT_OK(comm_sum(NULL, &x, 1, &err), &err);
    EXPECT_OK(comm_any(NULL, &flags, &err), &err);
    EXPECT_OK(comm_share(NULL, SPT_OK, &byte, &one, &err), &err);
    EXPECT_STATUS(comm_agree(NULL, SPT_E_IO, &err), SPT_E_IO);
    EXPECT_STATUS(comm_close(NULL, SPT_E_IO, &err), SPT_E_IO);
    EXPECT_TRUE(x == 3 && flags == 5 && comm_size(NULL) == 1 && comm_leads(NULL) &&
                comm_speaks(NULL));
    comm_leave(NULL);
}

static void counts_what_it_would_send(void **state)
{
    enum { N = 40000 };
    struct plan p = {.size = 3, .n = N};
    ranks_run(3, 0, add_up, &p);
    for (int r = 0; r < 3; r++) {
        comm *c;
        spt_err err;
        float *x = calloc(N, sizeof *x);
        EXPECT_OK(comm_count_open(r, 3, &c, &err), &err);
        EXPECT_OK(comm_sum(c, x, N, &err), &err);
        unsigned flags = 4;
        const struct comm_stats s = comm_take_stats(c);
        EXPECT_OK(comm_any(c, &flags, &err), &err);
        EXPECT_EQ_I64(flags, 4);
        EXPECT_EQ_I64(s.sent, p.seen[r].stats.sent);
        EXPECT_EQ_I64(s.received, p.seen[r].stats.received);
        EXPECT_EQ_I64(s.exchanges, p.seen[r].stats.exchanges);
        EXPECT_OK(comm_close(c, SPT_OK, &err), &err);
        comm_leave(c);
        free(x);
        free(p.seen[r].x);
    }
}

/* What a rank allocates for the others, who need not be there. */
static spt_status one_of_four(void *ctx, spt_err *err)
{
    enum { LONG = 20000 };
    static float x[LONG];
    comm *c = NULL, *part, *data;
    struct comm_bytes all = {0};
    (void)ctx;
    TRY(comm_count_open(2, 4, &c, err));
    spt_status st = comm_split(c, 2, &part, &data, err);
    if (!st)
        st = comm_sum(c, x, 7, err);
    if (!st)
        st = comm_sum(data, x, LONG, err);
    if (!st)
        st = comm_gather(part, SPT_OK, "abc", 3, &all, err);
    comm_bytes_release(&all);
    comm_leave(c);
    return st;
}

static void every_allocation(void **state)
{
    (void)state;
    fault_set_after(one_of_four);
    EXPECT_TRUE(fault_every_alloc(one_of_four, NULL) > 15);
    fault_set_after(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_in_order),
        cmocka_unit_test(everybody_hears_all),
        cmocka_unit_test(groups),
        cmocka_unit_test(failures_reach_all),
        cmocka_unit_test(the_same_failure_is_nobodys),
        cmocka_unit_test(a_rank_that_hangs_is_named),
        cmocka_unit_test(ranks_that_do_different_things),
        cmocka_unit_test(alone),
        cmocka_unit_test(counts_what_it_would_send),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
