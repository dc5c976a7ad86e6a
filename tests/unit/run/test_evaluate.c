/* Answers of several prompts over the demo model: the bits of an example never depend on what else
 * is in its batch, how large the batch is, or how many threads work (rulings 1). */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/members.h"
#include "support/ranks.h"

enum { MEMBERS = 4, EXAMPLES = 24, GROUPINGS = 200, MAX_OUTPUT = 6 };

static uint32_t state = 12345;
static uint32_t draw(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(state >> 8) * n) >> 24);
}

/* Prompts of two lengths in different places, and one for the decoder, so that groups differ. */
static void write_prompt(const char *path, int64_t P, int64_t E, enum prompt_side side,
                         enum t5_combine combine)
{
    static const char *const labels[] = {"billing", "delivery", "account", "product"};
    struct prompt_use use;
    struct prompt *p;
    spt_err err = {0};
    float *rows = mem_alloc((size_t)(P * E), sizeof *rows);
    for (int64_t i = 0; i < P * E; i++)
        rows[i] = ((float)draw(2001) - 1000) / 100;
    prompt_use_init(&use);
    use.side = side;
    use.combine = combine;
    EXPECT_OK(prompt_set_labels(&use, labels, side == PROMPT_DECODER ? 2 : 4, &err), &err);
    EXPECT_OK(prompt_new(P, E, rows, &use, &p, &err), &err);
    EXPECT_OK(prompt_write(p, path, PROMPT_SAFETENSORS, NULL, NULL, &err), &err);
    prompt_use_release(&use);
    prompt_free(p);
    mem_free(rows);
}

struct bench {
    struct settings s;
    struct members u;
    examples *x;
};

static const char *way = "auto"; /* of cross-attention */

static void open_bench(struct bench *b, const char *threads)
{
    spt_err err = {0};
    static const char *dir; /* the same prompts every time */
    if (!dir)
        dir = test_tmpdir();
    char list[4096];
    snprintf(list, sizeof list, "%s,%s,%s,%s", test_path(dir, "a.safetensors"),
             test_path(dir, "b.safetensors"), test_path(dir, "c.safetensors"),
             test_path(dir, "d.safetensors"));
    if (!fs_exists(test_path(dir, "d.safetensors"))) {
        write_prompt(test_path(dir, "a.safetensors"), 5, 256, PROMPT_ENCODER, T5_PREFIX);
        write_prompt(test_path(dir, "b.safetensors"), 5, 256, PROMPT_ENCODER, T5_PREFIX);
        write_prompt(test_path(dir, "c.safetensors"), 3, 256, PROMPT_ENCODER, T5_PREFIX_AFTER_BOS);
        write_prompt(test_path(dir, "d.safetensors"), 2, 256, PROMPT_DECODER, T5_PREFIX);
    }
    EXPECT_OK(settings_init(&b->s, "infer", &err), &err);
    EXPECT_OK(settings_set(&b->s, "model", "demo/t5-mini", &err), &err);
    EXPECT_OK(settings_set(&b->s, "threads", threads, &err), &err);
    EXPECT_OK(settings_set(&b->s, "cross-attention", way, &err), &err);
    EXPECT_OK(settings_set(&b->s, "quiet", NULL, &err), &err);
    EXPECT_OK(settings_set(&b->s, "max-output", "6", &err), &err);
    EXPECT_OK(members_open(&b->s, list, NULL, 0, &b->u, &err), &err);
    const struct evaluate_opts o = evaluate_opts_of(&b->s, &b->u.m[0].task);
    EXPECT_OK(members_load(&b->s, &o, &b->u, &err), &err);
    examples *all;
    EXPECT_OK(dataset_load(&b->s, &b->u.m[0].task, "demo/desk/dev.tsv", DATASET_TARGETS, "test",
                           &all, &err),
              &err);
    EXPECT_OK(examples_new(&b->x, &err), &err);
    for (size_t i = 0; i < EXAMPLES; i++) {
        const struct example e = examples_at(all, i);
        EXPECT_OK(examples_add(b->x, &e, &err), &err);
    }
    examples_free(all);
}

static void close_bench(struct bench *b)
{
    examples_free(b->x);
    members_close(&b->u);
    settings_release(&b->s);
}

static void run(struct bench *b, bool generate, const struct generation *g, int64_t batch_size,
                int64_t micro_rows, const examples *x, const int32_t *of, struct answers *out)
{
    spt_err err = {0};
    struct evaluator v;
    struct evaluate_opts o = evaluate_opts_of(&b->s, &b->u.m[0].task);
    o.generate = generate;
    o.generation = g;
    o.batch = batch_size;
    o.micro_rows = micro_rows;
    const struct examples_counts c = examples_counts(x);
    EXPECT_OK(members_evaluator(&b->u, &b->s, &o, c.longest_input, c.longest_target, &v, &err),
              &err);
    EXPECT_OK(members_answer(&b->u, &v, x, of, out, &err), &err);
    evaluator_close(&v);
}

/* Every example by every member, alone. */
static void alone(struct bench *b, bool generate, const struct generation *g, struct answers *out)
{
    spt_err err = {0};
    for (size_t i = 0; i < EXAMPLES; i++)
        for (int32_t m = 0; m < MEMBERS; m++) {
            examples *x;
            const struct example e = examples_at(b->x, i);
            EXPECT_OK(examples_new(&x, &err), &err);
            EXPECT_OK(examples_add(x, &e, &err), &err);
            run(b, generate, g, 1, 1, x, &m, &out[i * MEMBERS + (size_t)m]);
            examples_free(x);
        }
}

static void same(const struct answers *got, size_t i, const struct answers *want, size_t labels)
{
    EXPECT_EQ_I64(got->label[i], want->label[0]);
    if (want->score) {
        EXPECT_TRUE(!memcmp(got->score + i * got->labels, want->score, labels * sizeof(float)));
        EXPECT_TRUE(!memcmp(got->prob + i * got->labels, want->prob, labels * sizeof(float)));
        return;
    }
    EXPECT_EQ_I64(got->results, want->results);
    for (size_t k = 0; k < want->results; k++) {
        const struct decoded *x = &got->all[i * got->results + k], *y = &want->all[k];
        EXPECT_STR(x->text, y->text);
        EXPECT_EQ_I64(x->tokens, y->tokens);
        EXPECT_TRUE(!memcmp(x->id, y->id, (size_t)y->tokens * sizeof *y->id));
        EXPECT_TRUE(!memcmp(&x->score, &y->score, sizeof x->score));
    }
}

static void groupings(struct bench *b, bool generate, const struct generation *g, int times,
                      const struct answers *want)
{
    spt_err err = {0};
    for (int t = 0; t < times; t++) {
        examples *x;
        size_t which[EXAMPLES];
        int32_t of[EXAMPLES];
        const size_t n = 1 + draw(12);
        EXPECT_OK(examples_new(&x, &err), &err);
        for (size_t i = 0; i < n; i++) {
            which[i] = draw(EXAMPLES);
            of[i] = (int32_t)draw(MEMBERS);
            const struct example e = examples_at(b->x, which[i]);
            EXPECT_OK(examples_add(x, &e, &err), &err);
        }
        struct answers got;
        run(b, generate, g, 1 + (int64_t)draw(12), 1 + (int64_t)draw(400), x, of, &got);
        for (size_t i = 0; i < n; i++)
            same(&got, i, &want[which[i] * MEMBERS + (size_t)of[i]],
                 b->u.m[of[i]].task.report.labels);
        answers_release(&got);
        examples_free(x);
    }
}

static void check_kind(bool generate, const struct generation *g, int times)
{
    static struct answers want[EXAMPLES * MEMBERS];
    struct bench one, two;
    open_bench(&one, "1");
    alone(&one, generate, g, want);
    groupings(&one, generate, g, times, want);
    close_bench(&one);
    open_bench(&two, "3");
    groupings(&two, generate, g, times / 10, want);
    close_bench(&two);
    for (size_t i = 0; i < EXAMPLES * MEMBERS; i++)
        answers_release(&want[i]);
}

static void test_ranked_groupings(void **ctx)
{
    (void)ctx;
    static const char *const ways[] = {"plain", "absorbed"};
    for (int i = 0; i < 2; i++) {
        way = ways[i];
        check_kind(false, NULL, GROUPINGS / 2);
    }
    way = "auto";
}

/* Absorbed cross-attention ranks labels as the plain one does, up to rounding. */
static void test_ways_agree(void **ctx)
{
    (void)ctx;
    static const char *const ways[] = {"plain", "absorbed"};
    struct answers a[2];
    int32_t of[EXAMPLES];
    for (size_t i = 0; i < EXAMPLES; i++)
        of[i] = (int32_t)(i % MEMBERS);
    for (int i = 0; i < 2; i++) {
        struct bench b;
        way = ways[i];
        open_bench(&b, "2");
        run(&b, false, NULL, 8, 64, b.x, of, &a[i]);
        close_bench(&b);
    }
    way = "auto";
    bool differ = false;
    for (size_t i = 0; i < EXAMPLES * a[0].labels; i++) {
        const double x = (double)a[0].score[i], y = (double)a[1].score[i];
        EXPECT_NEAR(x, y, 1e-4 * (1 + fabs(x)));
        differ |= a[0].score[i] != a[1].score[i];
    }
    EXPECT_TRUE(differ); /* else one way was tested twice */
    answers_release(&a[0]);
    answers_release(&a[1]);
}

static void test_greedy_groupings(void **ctx)
{
    (void)ctx;
    check_kind(true, NULL, GROUPINGS);
}

static void with_search(const char *option, const char *value, const char *more, const char *number,
                        int times)
{
    spt_err err = {0};
    struct bench b;
    struct generation g;
    open_bench(&b, "1");
    EXPECT_OK(settings_set(&b.s, option, value, &err), &err);
    EXPECT_OK(settings_set(&b.s, more, number, &err), &err);
    EXPECT_OK(generation_open(&b.s, &b.u.engine, &g, &err), &err);
    g.engine = NULL; /* no stop texts: not used */
    close_bench(&b);
    check_kind(true, &g, times);
    generation_close(&g);
}

static void test_beam_groupings(void **ctx)
{
    (void)ctx;
    with_search("decode", "beam", "n-best", "3", 40);
    with_search("decode", "beam-hf", "n-best", "2", 40);
}

/* A mixed batch over everything equals each prompt's own run. */
static void test_mixed_is_single(void **ctx)
{
    (void)ctx;
    struct bench b;
    spt_err err = {0};
    open_bench(&b, "2");
    examples *x;
    int32_t of[EXAMPLES * MEMBERS];
    EXPECT_OK(examples_new(&x, &err), &err);
    for (size_t i = 0; i < EXAMPLES * MEMBERS; i++) {
        const struct example e = examples_at(b.x, i / MEMBERS);
        of[i] = (int32_t)(i % MEMBERS);
        EXPECT_OK(examples_add(x, &e, &err), &err);
    }
    struct answers mixed;
    run(&b, false, NULL, 32, 256, x, of, &mixed);
    for (size_t m = 0; m < MEMBERS; m++) {
        struct members only = {.engine = b.u.engine, .m = &b.u.m[m], .count = 1};
        struct evaluate_opts o = evaluate_opts_of(&b.s, &only.m[0].task);
        struct evaluator v;
        struct answers a;
        const struct examples_counts c = examples_counts(b.x);
        o.micro_rows = 512;
        EXPECT_OK(members_evaluator(&only, &b.s, &o, c.longest_input, c.longest_target, &v, &err),
                  &err);
        EXPECT_OK(members_answer(&only, &v, b.x, NULL, &a, &err), &err);
        for (size_t i = 0; i < EXAMPLES; i++) {
            const size_t K = only.m[0].task.report.labels;
            EXPECT_TRUE(!memcmp(a.score + i * K, mixed.score + (i * MEMBERS + m) * mixed.labels,
                                K * sizeof(float)));
            EXPECT_EQ_I64(a.label[i], mixed.label[i * MEMBERS + m]);
        }
        answers_release(&a);
        evaluator_close(&v);
    }
    answers_release(&mixed);
    examples_free(x);
    close_bench(&b);
}

/* Two ranks answer one half each and tell each other; the memory of the second one ends. */
static struct bench half[2];

static void answer_half(comm *c, void *ctx)
{
    struct bench *b = &half[comm_rank(c)];
    spt_status *st = (spt_status *)ctx + comm_rank(c);
    spt_err err = {0};
    struct members only = {.engine = b->u.engine, .m = &b->u.m[0], .count = 1};
    struct evaluate_opts o = evaluate_opts_of(&b->s, &only.m[0].task);
    struct evaluator v = {0};
    struct answers a = {0};
    const struct examples_counts n = examples_counts(b->x);
    fault_mark_thread(comm_rank(c) == 1);
    only.engine.data = c;
    o.generate = true;
    o.batch = 4;
    *st = members_evaluator(&only, &b->s, &o, n.longest_input, n.longest_target, &v, &err);
    if (!*st) {
        *st = members_answer(&only, &v, b->x, NULL, &a, &err);
        if (!*st)
            answers_release(&a);
        evaluator_close(&v);
    }
    fault_mark_thread(false);
    comm_close(c, *st, &err);
}

static spt_status answer_together(void *ctx, spt_err *err)
{
    spt_status st[2] = {0};
    (void)ctx;
    for (int r = 0; r < 2; r++) {
        examples *few;
        open_bench(&half[r], "1");
        EXPECT_OK(examples_new(&few, err), err);
        for (size_t i = 0; i < 6; i++) {
            const struct example e = examples_at(half[r].x, i);
            EXPECT_OK(examples_add(few, &e, err), err);
        }
        examples_free(half[r].x);
        half[r].x = few;
    }
    ranks_run(2, 0, answer_half, st);
    close_bench(&half[0]);
    close_bench(&half[1]);
    return st[1] ? err_set(err, st[1], "rank 1") : st[0] ? err_set(err, st[0], "rank 0") : SPT_OK;
}

static void test_ranks_without_memory(void **ctx)
{
    (void)ctx;
    fault_only_marked(true);
    EXPECT_TRUE(fault_every_alloc_stack(answer_together, NULL, 16) > 1);
    fault_only_marked(false);
}

/* Contextual calibration: softmax of the difference to what the labels get without content. */
static void test_calibrated(void **ctx)
{
    (void)ctx;
    struct bench b;
    struct answers plain, calibrated;
    int32_t of[EXAMPLES] = {0};
    open_bench(&b, "1");
    spt_err err = {0};
    run(&b, false, NULL, 8, 256, b.x, of, &plain);
    EXPECT_OK(settings_set(&b.s, "calibrate", "N/A", &err), &err);
    run(&b, false, NULL, 8, 256, b.x, of, &calibrated);
    const float *prior = b.u.m[0].task.prior;
    EXPECT_TRUE(prior != NULL);
    const size_t K = plain.labels;
    bool moved = false;
    for (size_t i = 0; i < EXAMPLES; i++) {
        double sum = 0, total = 0;
        for (size_t k = 0; k < K; k++)
            sum += exp((double)plain.score[i * K + k] - (double)prior[k]);
        for (size_t k = 0; k < K; k++) {
            const double want = exp((double)plain.score[i * K + k] - (double)prior[k]) / sum;
            EXPECT_NEAR(calibrated.prob[i * K + k], want, 1e-6);
            total += (double)calibrated.prob[i * K + k];
            moved |= calibrated.prob[i * K + k] != plain.prob[i * K + k];
        }
        EXPECT_NEAR(total, 1, 1e-6);
        EXPECT_TRUE(!memcmp(plain.score + i * K, calibrated.score + i * K, K * sizeof(float)));
    }
    EXPECT_TRUE(moved);
    answers_release(&plain);
    answers_release(&calibrated);
    close_bench(&b);
}

static spt_status open_with_profile(void *ctx, spt_err *err)
{
    struct engine e = {0};
    struct settings s;
    (void)ctx;
    TRY(settings_init(&s, "bench", err));
    s.threads = 1;
    const spt_status st = engine_open_ops(&e, &s, true, err);
    if (!st)
        ops_close(e.ops);
    settings_release(&s);
    return st;
}

/* Who could not be opened has nothing to close. */
static void test_profile_without_memory(void **unused)
{
    (void)unused;
    EXPECT_TRUE(fault_every_alloc(open_with_profile, NULL) > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed_is_single),  cmocka_unit_test(test_calibrated),
        cmocka_unit_test(test_ranks_without_memory), cmocka_unit_test(test_profile_without_memory),
        cmocka_unit_test(test_ranked_groupings), cmocka_unit_test(test_greedy_groupings),
        cmocka_unit_test(test_beam_groupings),   cmocka_unit_test(test_ways_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
