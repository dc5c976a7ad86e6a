/* Answers that ranks of the reference's programs share: a rank takes over what the others answered,
 * and says so when there is no memory for it. */
#include "support/test.h"

#include <string.h>

#include "run/reference/gin_settings.h"
#include "run/reference/task_answers.h"
#include "support/ranks.h"

static const char told[] = "a text of rank 0";

struct shared {
    spt_status st[2];
    char *text;
    float score;
};

/* Rank 0 stands for one that has answered: length, text, score of its one example. */
static void tell(comm *c, struct shared *s)
{
    const uint64_t n = sizeof told - 1;
    const float score = -1.5f;
    char bytes[sizeof n + sizeof told - 1 + sizeof score];
    struct comm_bytes all = {0};
    unsigned stopped = 0;
    spt_err err = {0};
    memcpy(bytes, &n, sizeof n);
    memcpy(bytes + sizeof n, told, n);
    memcpy(bytes + sizeof n + n, &score, sizeof score);
    s->st[0] = comm_any(c, &stopped, &err);
    if (!s->st[0])
        s->st[0] = comm_gather(c, SPT_OK, bytes, sizeof bytes, &all, &err);
    comm_bytes_release(&all);
}

static void take(comm *c, struct shared *s)
{
    struct gin_model model = {0};
    struct t5x_base base = {.model = &model, .engine.data = c};
    struct answerer a = {.base = &base, .batch = 1, .together = 1};
    spt_err err = {0};
    fault_mark_thread(true);
    s->st[1] = answers_predict(&a, NULL, 0, 1, (struct rng_key){0}, &s->text, &s->score, &err);
    fault_mark_thread(false);
}

static void share(comm *c, void *ctx)
{
    struct shared *s = ctx;
    spt_err err = {0};
    if (comm_leads(c))
        tell(c, s);
    else
        take(c, s);
    comm_close(c, s->st[comm_rank(c)], &err);
}

static spt_status shared_answers(void *ctx, spt_err *err)
{
    struct shared s = {0};
    (void)ctx;
    ranks_run(2, 0, share, &s);
    if (!s.st[1]) {
        EXPECT_OK(s.st[0], err);
        EXPECT_STR(s.text, told);
        EXPECT_NEAR(s.score, -1.5, 0);
    }
    mem_free(s.text);
    return s.st[1] ? err_set(err, s.st[1], "rank 1") : SPT_OK;
}

static void answers_of_others_without_memory(void **state)
{
    (void)state;
    spt_err err = {0};
    EXPECT_OK(shared_answers(NULL, &err), &err);
    fault_only_marked(true);
    EXPECT_TRUE(fault_every_alloc(shared_answers, NULL) > 1);
    fault_only_marked(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_of_others_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
