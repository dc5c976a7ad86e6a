/* One model held by several ranks (threads here): the golden case of the T5X stack within the same
 * tolerances as one rank, the same bits on all ranks and in every run, and everything else a model
 * does against the same model in one piece, with sizes that the number of ranks does not divide. */
#include "support/test.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"
#include "support/ranks.h"

#define CASE "tiny_forward"
#define TOL_LOGITS 1e-5
#define TOL_LOSS 1e-5
#define TOL_GRAD 1e-4

enum { MOST = 5, PROMPTS = 3, STEPS = 3 };

struct result {
    spt_status st;
    spt_err err;
    struct t5_loss loss;
    float *grad, *logits, *scores, *labels, *steps, *rows;
    int32_t *argmax;
    size_t weights;
    char bad[96];
};

struct work {
    const char *isa;
    struct t5_config c;
    struct test_params *params; /* NULL: the golden ones */
    struct test_batch batch;
    struct t5_prompts prompts;
    struct t5_loss_opts opts;
    struct t5_dropout drop;
    struct t5_acts_plan plan;
    bool absorb, more; /* more: scoring and decoding, too */
    struct result got[MOST];
};

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

#define STEP(call)                         \
    do {                                   \
        if (!r->st)                        \
            r->st = (call);                \
    } while (0)

/* Three targets for each example, two of which begin alike. */
static void score(const struct work *w, t5_model *m, t5_acts *a, struct result *r)
{
    enum { LEN = 3 };
    const int64_t B = w->batch.b.B, n = PROMPTS * B;
    int32_t *example = malloc((size_t)n * sizeof *example), *in = malloc((size_t)n * LEN * 4),
            *out = malloc((size_t)n * LEN * 4);
    int64_t *off = malloc((size_t)(n + 1) * sizeof *off);
    for (int64_t i = 0; i < n; i++) {
        example[i] = (int32_t)(i / PROMPTS);
        off[i] = i * LEN;
        for (int64_t k = 0; k < LEN; k++)
            out[i * LEN + k] = (int32_t)((i % PROMPTS && k < 2 ? 3 + k : 5 + i % PROMPTS + k) %
                                         w->c.vocab);
        for (int64_t k = 0; k < LEN; k++)
            in[i * LEN + k] = k ? out[i * LEN + k - 1] : 0;
    }
    off[n] = n * LEN;
    const struct t5_targets targets = {n, example, off, in, out, NULL};
    r->scores = malloc((size_t)n * sizeof(float));
    r->labels = malloc((size_t)n * sizeof(float));
    r->argmax = malloc((size_t)n * LEN * sizeof *r->argmax);
    STEP(t5_encode(m, &w->prompts, &w->batch.b, 0, B, a, &r->err));
    STEP(t5_score(m, &w->prompts, &targets, a, r->scores, NULL, r->argmax, &r->err));
    STEP(t5_encode(m, &w->prompts, &w->batch.b, 0, B, a, &r->err));
    STEP(t5_score_labels(m, &w->prompts, &targets, a, r->labels, NULL, NULL, &r->err));
    free(example), free(in), free(out), free(off);
}

static void decode(const struct work *w, t5_model *m, t5_acts *a, struct result *r)
{
    const int64_t B = w->batch.b.B, V = w->c.vocab;
    const struct t5_decoder_plan plan = {B, w->plan.rows, B, STEPS, 0};
    t5_decoder *d = NULL;
    int32_t row[64], token[64];
    r->steps = malloc((size_t)(STEPS * B * V) * sizeof(float));
    STEP(t5_decoder_new(m, &plan, &d, &r->err));
    STEP(t5_encode(m, &w->prompts, &w->batch.b, 0, B, a, &r->err));
    STEP(t5_decoder_start(d, &w->prompts, a, &r->err));
    for (int64_t s = 0; s < STEPS; s++) {
        for (int64_t b = 0; b < B; b++) {
            row[b] = (int32_t)b;
            token[b] = (int32_t)(s ? (7 * s + b) % V : 0);
        }
        STEP(t5_decoder_step(d, B, row, row, token, r->steps + s * B * V, &r->err));
    }
    t5_decoder_free(d);
}

static void run(comm *ranks, void *ctx)
{
    struct work *w = ctx;
    struct result *r = &w->got[comm_rank(ranks)];
    const struct packed_batch *b = &w->batch.b;
    const unsigned uses = T5_BACKWARD | (w->absorb ? T5_ABSORB : 0);
    const size_t PE = (size_t)(w->prompts.count * w->prompts.P * w->c.width);
    ops *o = NULL;
    t5_model *m = NULL;
    t5_acts *a = NULL;
    const struct ops_config cfg = {w->isa, OPS_FLOAT32, 1};
    pthread_mutex_lock(&one_at_a_time);
    STEP(ops_open(&cfg, &o, &r->err));
    if (!r->st && w->params) {
        const struct t5_getter get = params_getter(w->params);
        r->st = t5_model_new_part_from(o, &get, uses, ranks, &m, &r->err);
    } else if (!r->st) {
        m = golden_model_part(o, &w->c, CASE, "params", uses, ranks);
    }
    STEP(t5_acts_new(m, &w->plan, &a, &r->err));
    pthread_mutex_unlock(&one_at_a_time);
    if (!r->st) {
        r->weights = t5_model_bytes(m);
        r->grad = calloc(PE, sizeof(float));
        r->logits = malloc((size_t)(b->dec_off[b->B] * w->c.vocab) * sizeof(float));
    }
    const struct t5_dropout *drop = w->drop.rate > 0 ? &w->drop : NULL;
    for (int64_t first = 0; first < b->B; first += 2) { /* in ranges */
        const int64_t n = b->B - first < 2 ? b->B - first : 2;
        STEP(t5_forward(m, &w->prompts, b, first, n, &w->opts, drop, a, &r->loss, &r->err));
        if (!r->st && !isfinite(r->loss.loss) && !r->bad[0])
            t5_nonfinite(m, b, a, r->bad, sizeof r->bad);
        STEP(t5_acts_logits(m, a, r->logits + b->dec_off[first] * w->c.vocab, &r->err));
        STEP(t5_backward(m, b, a, NULL, r->grad, NULL, &r->err));
    }
    if (!r->st && w->more) {
        const int32_t ids[3] = {0, (int32_t)w->c.vocab - 1, (int32_t)w->c.vocab / 2};
        r->rows = malloc(3 * (size_t)w->c.width * sizeof(float));
        STEP(t5_model_embed(m, ids, 3, r->rows, &r->err));
        score(w, m, a, r);
        decode(w, m, a, r);
    }
    t5_acts_free(a);
    t5_model_free(m);
    ops_close(o);
    r->st = comm_close(ranks, r->st, &r->err);
}

static void run_on(struct work *w, int ranks)
{
    memset(w->got, 0, sizeof w->got);
    if (ranks == 1)
        run(NULL, w);
    else
        ranks_run(ranks, 0, run, w);
    for (int r = 0; r < ranks; r++)
        EXPECT_OK(w->got[r].st, &w->got[r].err);
}

static void release(struct result *r)
{
    free(r->grad), free(r->logits), free(r->scores), free(r->labels), free(r->steps), free(r->rows);
    free(r->argmax);
}

static void release_all(struct work *w)
{
    for (int r = 0; r < MOST; r++)
        release(&w->got[r]);
}

static void same_bits(const float *a, const float *b, size_t n, const char *what)
{
    if (a && memcmp(a, b, n * sizeof *a))
        fail_msg("%s: ranks have other bits", what);
}

/* All that ranks computed is the same on each. */
static void ranks_agree(const struct work *w, int ranks, const struct result *first)
{
    const struct packed_batch *b = &w->batch.b;
    const size_t V = (size_t)w->c.vocab, B = (size_t)b->B;
    for (int r = 0; r < ranks; r++) {
        const struct result *x = &w->got[r];
        EXPECT_TRUE(!memcmp(&x->loss.loss, &first->loss.loss, sizeof x->loss.loss));
        same_bits(first->grad, x->grad,
                  (size_t)(w->prompts.count * w->prompts.P * w->c.width), "gradient");
        same_bits(first->logits, x->logits, (size_t)b->dec_off[b->B] * V, "logits");
        same_bits(first->scores, x->scores, PROMPTS * B, "scores");
        same_bits(first->labels, x->labels, PROMPTS * B, "label scores");
        same_bits(first->steps, x->steps, STEPS * B * V, "decoder logits");
    }
}

/* --- the golden case ----------------------------------------------------------------------- */

static void golden_work(struct work *w, const char *isa)
{
    *w = (struct work){.isa = isa, .c = golden_config(CASE)};
    golden_batch(&w->batch, CASE, "batch");
    const struct golden_array p = golden_tensor(CASE, "params", "encoder/prompt/prompt/prompt");
    w->prompts = (struct t5_prompts){.enc = p.f32, .count = 1, .P = p.dim[0]};
    w->plan = batch_plan(&w->batch.b, p.dim[0], 0);
    w->plan.backward = true;
    w->opts.z_loss = (float)golden_number(CASE, "golden.json", "settings/z_loss");
}

static void golden_on(ops *o, const char *isa, void *ctx)
{
    (void)o, (void)ctx;
    struct work w;
    golden_work(&w, isa);
    const size_t PE = (size_t)(w.prompts.P * w.c.width);
    const struct golden_array grad = golden_npy(CASE, "grad_prompt.npy");
    const double loss = golden_number(CASE, "golden.json", "values/loss");
    for (int absorb = 0; absorb < 2; absorb++) {
        w.absorb = w.plan.absorb = absorb;
        size_t whole = 0;
        for (int ranks = 1; ranks <= 4; ranks++) {
            run_on(&w, ranks);
            const double off = fabs(w.got[0].loss.loss - loss) / fabs(loss);
            const double rel = golden_rel(w.got[0].grad, grad.f32, PE);
            printf("golden: %s%s on %d ranks: loss %.1e, gradient %.1e, %zu bytes of weights\n", isa,
                   absorb ? " absorbed" : "", ranks, off, rel, w.got[0].weights);
            EXPECT_BELOW("loss", off, TOL_LOSS);
            EXPECT_BELOW("gradient", rel, TOL_GRAD);
            EXPECT_EQ_I64(w.got[0].loss.counted,
                          golden_number(CASE, "golden.json", "values/weight_sum"));
            ranks_agree(&w, ranks, &w.got[0]);
            whole = ranks == 1 ? w.got[0].weights : whole;
            /* Every prepared matrix is split; panels are rounded up to 64 columns. */
            if (!strncmp(isa, "ref", 3) && w.c.heads % ranks == 0)
                for (int r = 0; r < ranks; r++)
                    EXPECT_TRUE(w.got[r].weights <= whole / (size_t)ranks + whole / 64);
            struct result before = w.got[0];
            w.got[0] = (struct result){0};
            release_all(&w);
            run_on(&w, ranks);
            ranks_agree(&w, ranks, &before);
            release(&before);
            release_all(&w);
        }
    }
    batch_free(&w.batch);
}

static void golden_case(void **state)
{
    golden_every_isa(golden_on, NULL);
}

/* --- everything else ----------------------------------------------------------------------- */

static struct t5_config odd_config(void)
{
    struct t5_config c = params_small_config();
    c.heads = 5;
    c.head_dim = 6;
    c.ff = 23;
    c.vocab = 37;
    return c;
}

static double far(const float *a, const float *b, size_t n)
{
    return a ? golden_rel(a, b, n) : 0;
}

static void compare(const struct work *w, const struct result *whole, int ranks, const char *what)
{
    const struct packed_batch *b = &w->batch.b;
    const struct result *x = &w->got[0];
    const size_t V = (size_t)w->c.vocab, B = (size_t)b->B, T = (size_t)b->dec_off[b->B];
    const double worst[] = {
        fabs(x->loss.loss - whole->loss.loss) / fabs(whole->loss.loss),
        far(x->grad, whole->grad, (size_t)(w->prompts.count * w->prompts.P * w->c.width)),
        far(x->logits, whole->logits, T * V),
        far(x->scores, whole->scores, PROMPTS * B),
        far(x->labels, whole->labels, PROMPTS * B),
        far(x->steps, whole->steps, STEPS * B * V),
        far(x->rows, whole->rows, 3 * (size_t)w->c.width)};
    for (size_t i = 0; i < sizeof worst / sizeof *worst; i++)
        if (!(worst[i] <= (i == 1 ? TOL_GRAD : TOL_LOGITS)))
            fail_msg("%s on %d ranks: difference %zu is %.3g", what, ranks, i, worst[i]);
    EXPECT_EQ_I64(x->loss.correct, whole->loss.correct);
    EXPECT_EQ_I64(x->loss.counted, whole->loss.counted);
    if (whole->argmax)
        EXPECT_TRUE(!memcmp(whole->argmax, x->argmax, B * PROMPTS * 3 * sizeof *x->argmax));
}

static void against_one_piece_on(ops *o, const char *isa, void *ctx)
{
    (void)o, (void)ctx;
    static const struct {
        const char *name;
        bool gated, tied, per_layer, absorb, remat;
        float dropout, smoothing;
        enum t5_combine combine;
    } kind[] = {
        {"gated", true, false, false, false, false, 0, 0, T5_PREFIX},
        {"plain feed-forward, tied head", false, true, false, false, true, 0, 0.1F, T5_SUFFIX},
        {"absorbed, tables per layer", true, false, true, true, false, 0, 0, T5_PREFIX},
        {"dropout", true, false, false, false, false, 0.3F, 0.2F, T5_PREFIX_AFTER_BOS},
    };
    for (size_t k = 0; k < sizeof kind / sizeof *kind; k++) {
        struct work w = {.isa = isa, .c = odd_config(), .more = true, .absorb = kind[k].absorb};
        struct test_params params;
        float prompt[2 * 3 * 16];
        uint64_t seed = 5;
        w.c.gated = kind[k].gated;
        w.c.head_is_embedding = w.c.scale_logits = kind[k].tied;
        w.c.per_layer_bias = kind[k].per_layer;
        params_random(&params, &w.c, 11 + k);
        w.params = &params;
        batch_random(&w.batch, 5, 7, 4, w.c.vocab, 3);
        for (size_t i = 0; i < sizeof prompt / sizeof *prompt; i++)
            prompt[i] = (float)test_uniform(&seed);
        w.prompts = (struct t5_prompts){.enc = prompt, .count = 2, .P = 3,
                                        .combine = kind[k].combine};
        w.opts = (struct t5_loss_opts){.z_loss = 1e-3F, .label_smoothing = kind[k].smoothing};
        w.drop = (struct t5_dropout){.rate = kind[k].dropout, .key = {1, 2}};
        w.plan = batch_plan(&w.batch.b, 3, 0);
        w.plan.dec_rows += 64;
        w.plan.examples += 64;
        w.plan.backward = true;
        w.plan.absorb = kind[k].absorb;
        w.plan.remat = kind[k].remat;
        w.plan.dropout = kind[k].dropout > 0;
        run_on(&w, 1);
        struct result whole = w.got[0];
        for (int ranks = 2; ranks <= MOST; ranks++) {
            run_on(&w, ranks);
            ranks_agree(&w, ranks, &w.got[0]);
            compare(&w, &whole, ranks, kind[k].name);
            release_all(&w);
        }
        release(&whole);
        batch_free(&w.batch);
        params_free(&params);
    }
}

static void against_one_piece(void **state)
{
    golden_every_isa(against_one_piece_on, NULL);
}

/* A NaN in one rank's part ends the step on all of them, under the same name. */
static void not_a_number(void **state)
{
    struct work w = {.isa = "ref", .c = odd_config()};
    struct test_params params;
    float prompt[3 * 16] = {1};
    params_random(&params, &w.c, 1);
    w.params = &params;
    batch_random(&w.batch, 3, 7, 4, w.c.vocab, 3);
    w.prompts = (struct t5_prompts){.enc = prompt, .count = 1, .P = 3};
    w.plan = batch_plan(&w.batch.b, 3, 0);
    w.plan.backward = true;
    for (int64_t i = 0; i < w.batch.b.B; i++)
        w.batch.prompt_of[i] = 0;
    float *wi = params_find(&params, "decoder/layers_1/mlp/wi_0/kernel"); /* [E, F] */
    wi[w.c.ff - 1] = NAN; /* the last rank's */
    run_on(&w, 3);
    for (int r = 0; r < 3; r++) {
        EXPECT_TRUE(isnan(w.got[r].loss.loss));
        EXPECT_STR(w.got[r].bad, "decoder/layers_1/mlp hidden");
    }
    release_all(&w);
    batch_free(&w.batch);
    params_free(&params);
}

static void too_many_ranks(void **state)
{
    struct t5_config c = odd_config();
    struct test_params params;
    ops *o;
    comm *ranks;
    t5_model *m = NULL;
    spt_err err;
    params_random(&params, &c, 1);
    const struct t5_getter get = params_getter(&params);
    EXPECT_OK(ops_ref_open_f32(&o, &err), &err);
    EXPECT_OK(comm_count_open(0, 6, &ranks, &err), &err);
    EXPECT_STATUS(t5_model_new_part_from(o, &get, 0, ranks, &m, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "5 heads");
    EXPECT_MSG(&err, "into 5 parts at most");
    comm_leave(ranks);
    ops_close(o);
    params_free(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_case),
        cmocka_unit_test(against_one_piece),
        cmocka_unit_test(not_a_number),
        cmocka_unit_test(too_many_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
