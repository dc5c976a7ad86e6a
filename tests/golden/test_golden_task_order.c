/* The order in which the reference's training run saw its examples (golden/run_of_reference): rows
 * through the task's format, the vocabulary, EOS, repetition and the shuffle buffer of seed 7 give
 * the recorded batches, id for id. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "task/convert.h"
#include "task/task.h"
#include "task/tf_order.h"
#include "vocab/vocab.h"

enum { ROWS = 64, BATCH = 8, STEPS = 10, INPUTS = 48, TARGETS = 8 };

struct row {
    int32_t inputs[512], targets[64];
    size_t n, m;
};

static vocab *t5;
static struct row rows[ROWS];

static size_t to_ids(const struct field_text *t, int32_t *out, size_t limit)
{
    struct vocab_ids ids = {0};
    spt_err err;
    EXPECT_OK(vocab_encode(t5, t->s, t->len, &ids, &err), &err);
    const size_t n = ids.count < limit - 1 ? ids.count : limit - 1;
    memcpy(out, ids.id, n * sizeof *out);
    out[n] = 1;
    vocab_ids_release(&ids);
    return n + 1;
}

static spt_status keep_row(void *ctx, record *r, spt_err *err)
{
    struct row *row = ctx;
    struct field_text inputs, targets;
    TRY(record_text(r, "inputs", &inputs, err));
    TRY(record_text(r, "targets", &targets, err));
    row->n = to_ids(&inputs, row->inputs, INPUTS);
    row->m = to_ids(&targets, row->targets, TARGETS);
    return SPT_OK;
}

/* sentence TAB label, with or without a header. */
static void read_rows(const struct task *t, const char *path)
{
    char *text;
    size_t size, at = 0;
    spt_err err;
    record raw = {0};
    EXPECT_OK(fs_read_all(path, 64 << 20, &text, &size, &err), &err);
    for (char *line = text, *next; *line && at < ROWS; line = next) {
        next = line + strcspn(line, "\n");
        if (*next)
            *next++ = 0;
        char *tab = strchr(line, '\t');
        if (!tab)
            continue;
        const char *label = tab + 1;
        if (strcmp(label, "label") == 0)
            continue;
        *tab = 0;
        const bool positive = *label == '1' || strncmp(label, "positive", 8) == 0;
        record_clear(&raw);
        EXPECT_OK(record_set_str(&raw, "sentence", line, &err), &err);
        EXPECT_OK(record_set_int(&raw, "label", positive, &err), &err);
        EXPECT_OK(record_set_int(&raw, "idx", (int64_t)at, &err), &err);
        EXPECT_OK(task_format(t, &raw, (int64_t)at, keep_row, &rows[at], &err), &err);
        at++;
    }
    EXPECT_EQ_I64(at, ROWS);
    record_release(&raw);
    mem_free(text);
}

/* A version 1 .npy file of int32 values. */
static void load(const char *golden, const char *name, int32_t *out, size_t want)
{
    char file[128], *bytes;
    size_t size;
    spt_err err;
    snprintf(file, sizeof file, "run_of_reference/train_batches.%s.npy", name);
    EXPECT_OK(fs_read_all(test_path(golden, file), 64 << 20, &bytes, &size, &err), &err);
    const size_t header =
        10 + (size_t)(unsigned char)bytes[8] + 256 * (size_t)(unsigned char)bytes[9];
    EXPECT_TRUE(strstr(bytes + 10, "'<i4'") != NULL);
    EXPECT_EQ_I64(size - header, want * sizeof *out);
    memcpy(out, bytes + header, want * sizeof *out);
    mem_free(bytes);
}

static void training_batches(void **state)
{
    const char *golden = test_golden_dir(), *shared = test_shared_dir();
    struct vocab_opts o;
    spt_err err;
    task_registry *r;
    tf_shuffle *s;
    if (!golden || !shared)
        skip();
    vocab_opts_init(&o);
    o.rule = VOCAB_SEQIO;
    EXPECT_OK(vocab_open(test_path(shared, "data/upstream/t5_vocab"), &o, &t5, &err), &err);
    EXPECT_OK(task_registry_new(&r, &err), &err);
    read_rows(task_find(r, "taskless_glue_sst2_v200_examples"),
              test_path(shared, "data/sst2/train.tsv"));
    static int32_t encoder[STEPS * BATCH * INPUTS], target[STEPS * BATCH * TARGETS];
    static int32_t input[STEPS * BATCH * TARGETS];
    load(golden, "encoder_input_tokens", encoder, STEPS * BATCH * INPUTS);
    load(golden, "decoder_target_tokens", target, STEPS * BATCH * TARGETS);
    load(golden, "decoder_input_tokens", input, STEPS * BATCH * TARGETS);
    EXPECT_OK(tf_shuffle_new(1000, 7, &s, &err), &err);
    size_t wrong = 0;
    for (size_t i = 0, pushed = 0; i < STEPS * BATCH; i++) {
        uint64_t which;
        int32_t e[INPUTS], t[TARGETS], d[TARGETS], w[TARGETS];
        const struct encdec_features f = {e, t, d, w};
        while (tf_shuffle_wants(s)) /* repeated without end */
            tf_shuffle_push(s, pushed++ % ROWS);
        EXPECT_TRUE(tf_shuffle_pop(s, &which));
        const struct row *k = &rows[which];
        EXPECT_OK(convert_encdec(k->inputs, k->n, INPUTS, k->targets, k->m, TARGETS, &f, &err),
                  &err);
        wrong += memcmp(e, encoder + i * INPUTS, sizeof e) != 0 ||
                 memcmp(t, target + i * TARGETS, sizeof t) != 0 ||
                 memcmp(d, input + i * TARGETS, sizeof d) != 0;
    }
    print_message("golden: run_of_reference: %d training examples in order, %zu differ\n",
                  STEPS * BATCH, wrong);
    EXPECT_EQ_I64(wrong, 0);
    tf_shuffle_free(s);
    task_registry_free(r);
    vocab_close(t5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(training_batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
