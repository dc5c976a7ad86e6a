/* data/shuffle, data/batch: every example exactly once per epoch, resuming anywhere gives the same
 * sequence, packed rows say what the examples say. */
#include "support/test.h"

#include <string.h>

#include "data/batch.h"
#include "data/shuffle.h"

static void shuffles_are_permutations(void **state)
{
    uint32_t order[1000], other[1000];
    for (size_t n = 0; n <= 1000; n = n < 20 ? n + 1 : n * 3) {
        if (n > 1000)
            break;
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            bool seen[1000] = {0};
            shuffle_epoch(7, epoch, order, n);
            for (size_t i = 0; i < n; i++) {
                EXPECT_TRUE(order[i] < n && !seen[order[i]]);
                seen[order[i]] = true;
            }
        }
    }
    shuffle_epoch(7, 0, order, 1000);
    shuffle_epoch(7, 0, other, 1000);
    EXPECT_TRUE(memcmp(order, other, sizeof order) == 0);
    shuffle_epoch(7, 1, other, 1000);
    EXPECT_TRUE(memcmp(order, other, sizeof order) != 0);
    shuffle_epoch(8, 0, other, 1000);
    EXPECT_TRUE(memcmp(order, other, sizeof order) != 0);
    shuffle_epoch((uint64_t)7 << 32, 0, other, 1000);
    EXPECT_TRUE(memcmp(order, other, sizeof order) != 0);
    /* Frozen: a saved position means the same order in every later version. */
    static const uint32_t want[8] = {7, 4, 6, 0, 5, 3, 2, 1};
    shuffle_epoch(3, 2, order, 8);
    for (int i = 0; i < 8; i++)
        EXPECT_EQ_I64(order[i], want[i]);
}

/* All 24 orders of four about equally often: 24,000 draws, five sigma of the binomial. */
static void shuffles_are_uniform(void **state)
{
    int count[256] = {0};
    for (uint64_t seed = 0; seed < 24000; seed++) {
        uint32_t o[4];
        shuffle_epoch(seed, 0, o, 4);
        count[o[0] | o[1] << 2 | o[2] << 4 | o[3] << 6]++;
    }
    int kinds = 0;
    for (int i = 0; i < 256; i++) {
        if (!count[i])
            continue;
        kinds++;
        EXPECT_TRUE(count[i] > 845 && count[i] < 1155);
    }
    EXPECT_EQ_I64(kinds, 24);
}

static void every_example_once_per_epoch(void **state)
{
    static const size_t counts[] = {1, 2, 3, 7, 8, 9, 31, 37, 100};
    static const size_t batches[] = {1, 2, 3, 8, 32, 37};
    for (size_t c = 0; c < 9; c++) {
        for (size_t b = 0; b < 6; b++) {
            for (int drop = 0; drop < 2; drop++) {
                const struct train_order_options o = {
                    .count = counts[c], .batch = batches[b], .seed = 5, .drop_last = drop};
                train_order *t = NULL;
                spt_err err;
                const spt_status st = train_order_new(&o, &t, &err);
                if (drop && counts[c] < batches[b]) {
                    EXPECT_EQ_I64(st, SPT_E_CONFIG);
                    continue;
                }
                EXPECT_OK(st, &err);
                for (int epoch = 0; epoch < 3; epoch++) {
                    bool seen[100] = {0};
                    size_t total = 0;
                    for (uint64_t s = 0; s < train_order_steps_per_epoch(t); s++) {
                        const uint32_t *which;
                        size_t n;
                        EXPECT_EQ_I64(train_order_tell(t).epoch, epoch);
                        EXPECT_EQ_I64(train_order_tell(t).offset, total);
                        EXPECT_OK(train_order_next(t, &which, &n, &err), &err);
                        EXPECT_TRUE(n == batches[b] || (!drop && n > 0 && n < batches[b]));
                        for (size_t i = 0; i < n; i++) {
                            EXPECT_TRUE(which[i] < counts[c] && !seen[which[i]]);
                            seen[which[i]] = true;
                        }
                        total += n;
                    }
                    EXPECT_EQ_I64(total, drop ? counts[c] / batches[b] * batches[b] : counts[c]);
                }
                train_order_free(t);
            }
        }
    }
}

static void resuming_gives_the_same_sequence(void **state)
{
    enum { STEPS = 40, COUNT = 37, BATCH = 5 };
    for (int drop = 0; drop < 2; drop++) {
        const struct train_order_options o = {
            .count = COUNT, .batch = BATCH, .seed = 11, .drop_last = drop};
        uint32_t all[STEPS][BATCH];
        size_t len[STEPS];
        struct batch_position at[STEPS];
        spt_err err;
        train_order *t = NULL;
        EXPECT_OK(train_order_new(&o, &t, &err), &err);
        for (int s = 0; s < STEPS; s++) {
            const uint32_t *which;
            at[s] = train_order_tell(t);
            EXPECT_OK(train_order_next(t, &which, &len[s], &err), &err);
            memcpy(all[s], which, len[s] * sizeof *which);
        }
        for (int from = STEPS - 1; from >= 0; from--) {
            if (from % 2) { /* a used order seeks as well as a fresh one */
                train_order_free(t);
                t = NULL;
                EXPECT_OK(train_order_new(&o, &t, &err), &err);
            }
            EXPECT_OK(train_order_seek(t, at[from], &err), &err);
            for (int s = from; s < STEPS && s < from + 12; s++) {
                const uint32_t *which;
                size_t n;
                EXPECT_OK(train_order_next(t, &which, &n, &err), &err);
                EXPECT_EQ_I64(n, len[s]);
                EXPECT_TRUE(memcmp(which, all[s], n * sizeof *which) == 0);
            }
        }
        EXPECT_STATUS(train_order_seek(t, (struct batch_position){0, COUNT + 1}, &err),
                      SPT_E_FORMAT);
        EXPECT_MSG(&err, "training data changed");
        train_order_free(t);
    }
    train_order *t = NULL;
    spt_err err;
    EXPECT_STATUS(train_order_new(&(struct train_order_options){.batch = 3}, &t, &err),
                  SPT_E_CONFIG);
    EXPECT_STATUS(train_order_new(&(struct train_order_options){.count = 3}, &t, &err),
                  SPT_E_CONFIG);
}

static examples *some(size_t n)
{
    static const int32_t ids[] = {11, 12, 13, 14, 15, 16, 17, 1};
    examples *e = NULL;
    spt_err err;
    EXPECT_OK(examples_new(&e, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const size_t in = 1 + i * 5 % 7, out = 1 + i % 3;
        const struct example x = {.input = ids + 8 - in,
                                  .input_len = in,
                                  .target = ids + 8 - out,
                                  .target_len = out,
                                  .label = -1,
                                  .line = i + 1};
        EXPECT_OK(examples_add(e, &x, &err), &err);
    }
    return e;
}

static void rows_are_packed(void **state)
{
    examples *e = some(5); /* input lengths 1 6 4 2 7, targets 1 2 3 1 2 */
    batch b = {0};
    spt_err err;
    const uint32_t which[] = {4, 0, 2};
    EXPECT_OK(batch_make(&b, e, which, 3, 0, 8, &err), &err);
    EXPECT_EQ_I64(b.view.B, 3);
    EXPECT_EQ_I64(b.view.enc_off[3], 7 + 1 + 4);
    EXPECT_EQ_I64(b.view.dec_off[1], 2);
    EXPECT_EQ_I64(b.view.dec_off[3], 2 + 1 + 3);
    EXPECT_EQ_I64(b.view.Le, 7);
    EXPECT_EQ_I64(b.view.Ld, 8);
    static const int32_t want_target[] = {17, 1, 1, 16, 17, 1}, want_in[] = {0, 17, 0, 0, 16, 17};
    for (int i = 0; i < 6; i++) {
        EXPECT_EQ_I64(b.view.dec_target[i], want_target[i]);
        EXPECT_EQ_I64(b.view.dec_in[i], want_in[i]);
    }
    for (int i = 0; i < 3; i++)
        EXPECT_EQ_I64(b.view.index[i], which[i]);
    EXPECT_EQ_I64(b.view.enc_ids[7], 1);
    EXPECT_TRUE(!b.view.dec_weight && !b.view.prompt_of);
    EXPECT_OK(batch_make(&b, e, which, 0, 0, 0, &err), &err);
    EXPECT_EQ_I64(b.view.B, 0);
    batch_release(&b);
    examples_free(e);
}

static void evaluation_covers_everything_in_order_of_work(void **state)
{
    for (size_t n = 0; n < 40; n += 1 + n / 5) {
        examples *e = some(n);
        eval_order *t = NULL;
        spt_err err;
        EXPECT_OK(eval_order_new(e, 8, &t, &err), &err);
        EXPECT_EQ_I64(eval_order_batches(t), (n + 7) / 8);
        bool seen[40] = {0};
        size_t last = SIZE_MAX, total = 0, last_index = 0;
        for (size_t b = 0; b < eval_order_batches(t); b++) {
            const uint32_t *which;
            size_t k;
            eval_order_at(t, b, &which, &k);
            for (size_t i = 0; i < k; i++) {
                const struct example x = examples_at(e, which[i]);
                const size_t work = x.input_len + x.target_len;
                EXPECT_TRUE(!seen[which[i]] && work <= last);
                EXPECT_TRUE(work < last || which[i] > last_index);
                seen[which[i]] = true;
                last = work;
                last_index = which[i];
            }
            total += k;
        }
        EXPECT_EQ_I64(total, n);
        eval_order_free(t);
        examples_free(e);
    }
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    batch b = {0};
    eval_order *eo = NULL;
    train_order *to = NULL;
    const uint32_t which[] = {1, 0};
    spt_status st = batch_make(&b, ctx, which, 2, 0, 0, err);
    st = st ? st : eval_order_new(ctx, 2, &eo, err);
    st = st ? st : train_order_new(&(struct train_order_options){.count = 3, .batch = 2}, &to, err);
    batch_release(&b);
    eval_order_free(eo);
    train_order_free(to);
    return st;
}

static void allocations_may_fail(void **state)
{
    examples *e = some(3);
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, e) > 8);
    fault_remove();
    examples_free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shuffles_are_permutations),
        cmocka_unit_test(shuffles_are_uniform),
        cmocka_unit_test(every_example_once_per_epoch),
        cmocka_unit_test(resuming_gives_the_same_sequence),
        cmocka_unit_test(rows_are_packed),
        cmocka_unit_test(evaluation_covers_everything_in_order_of_work),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
