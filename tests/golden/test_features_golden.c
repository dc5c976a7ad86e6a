/* SeqIO's features: the texts of features/golden.json through data/ (JSON Lines, examples, batch)
 * give the recorded ids, padded and shifted as EncDecFeatureConverter does. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "data/batch.h"
#include "fs/fs.h"
#include "store/npy.h"
#include "text/json.h"
#include "vocab/vocab.h"

static const char *golden(const char *name)
{
    const char *dir = test_golden_dir();
    return dir ? test_path(dir, name) : NULL;
}

/* The texts of a task as JSON Lines: {"inputs": ..., "targets": ...}. */
static size_t write_task(const char *json, size_t size, const char *task, const char *path)
{
    spt_err err;
    bool more;
    struct json_event key, item;
    json_reader r;
    json_writer w;
    buf out, text;
    size_t rows = 0;
    buf_init(&out, 1 << 24);
    buf_init(&text, 1 << 20);
    json_open(&r, json, size, JSON_PYTHON_NAN);
    EXPECT_OK(json_enter_object(&r, &err), &err);
    while (json_next_key(&r, &more, &key, &err) == SPT_OK && more && !json_is(&key, "values"))
        EXPECT_OK(json_skip(&r, &err), &err);
    EXPECT_OK(json_enter_object(&r, &err), &err);
    while (json_next_key(&r, &more, &key, &err) == SPT_OK && more && !json_is(&key, task))
        EXPECT_OK(json_skip(&r, &err), &err);
    if (more)
        EXPECT_OK(json_enter_array(&r, &err), &err);
    while (more && json_next_item(&r, &more, &item, &err) == SPT_OK && more) {
        json_write_init(&w, &out, JSON_PYTHON);
        json_begin_object(&w);
        while (json_next_key(&r, &more, &key, &err) == SPT_OK && more) {
            const bool in = json_is(&key, "inputs_pretokenized");
            if (!in && !json_is(&key, "targets_pretokenized")) {
                EXPECT_OK(json_skip(&r, &err), &err);
                continue;
            }
            buf_clear(&text);
            EXPECT_OK(json_read_text(&r, &text, &err), &err);
            json_key(&w, in ? "inputs" : "targets");
            json_string_n(&w, buf_str(&text), text.len);
        }
        json_end_object(&w);
        buf_addc(&out, '\n');
        rows++;
        more = true;
    }
    json_close(&r);
    test_write(path, buf_str(&out), out.len);
    buf_release(&out);
    buf_release(&text);
    return rows;
}

/* Row b of the padded rectangle in the file must be these ids, then zeros. */
static void compare(const char *task, int le, int ld, const char *feature, const int64_t *off,
                    const int32_t *ids, int64_t B, int64_t width)
{
    char name[200];
    snprintf(name, sizeof name, "features/%s.%d_%d.%s.npy", task, le, ld, feature);
    store *s = NULL;
    spt_err err;
    EXPECT_OK(npy_open(golden(name), NULL, &s, &err), &err);
    struct store_data d = {0};
    EXPECT_OK(store_load(s, 0, &d, &err), &err);
    const struct tensor_view v = d.view;
    EXPECT_EQ_I64(v.dtype, DT_I32);
    EXPECT_EQ_I64(v.shape.rank, 2);
    EXPECT_EQ_I64(v.shape.dim[0], B);
    EXPECT_EQ_I64(v.shape.dim[1], width);
    const int32_t *want = v.data;
    for (int64_t b = 0; b < B; b++) {
        const int64_t n = off[b + 1] - off[b];
        for (int64_t i = 0; i < width; i++) {
            const int32_t got = i >= n ? 0 : ids ? ids[off[b] + i] : 1;
            if (got != want[b * width + i])
                fail_msg("%s: row %d, place %d is %d, wanted %d", name, (int)b, (int)i, (int)got,
                         (int)want[b * width + i]);
        }
    }
    store_release(s, &d);
    store_close(s);
}

static void check_task(const vocab *v, const char *json, size_t size, const char *task, int le,
                       int ld)
{
    const char *path = test_path(test_tmpdir(), "task.jsonl");
    const size_t rows = write_task(json, size, task, path);
    EXPECT_TRUE(rows > 0);
    struct data_encoder enc;
    spt_err err;
    EXPECT_OK(data_encoder_of_vocab(v, &enc, &err), &err);
    const struct examples_options o = {.records.path = path, .max_input = le, .max_target = ld};
    examples *e = NULL;
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    EXPECT_EQ_I64(examples_count(e), rows);
    uint32_t which[64];
    EXPECT_TRUE(rows <= 64);
    for (uint32_t i = 0; i < rows; i++)
        which[i] = i;
    batch b = {0};
    EXPECT_OK(batch_make(&b, e, which, rows, le, ld, &err), &err);
    const int64_t B = (int64_t)rows;
    compare(task, le, ld, "encoder_input_tokens", b.view.enc_off, b.view.enc_ids, B, le);
    compare(task, le, ld, "decoder_target_tokens", b.view.dec_off, b.view.dec_target, B, ld);
    /* The rectangle's inputs are shifted after padding: one more real id when there is room. */
    compare(task, le, ld, "decoder_loss_weights", b.view.dec_off, NULL, B, ld);
    for (int64_t i = 0; i < B; i++)
        EXPECT_EQ_I64(b.view.dec_in[b.view.dec_off[i]], 0);
    batch_release(&b);
    examples_free(e);
    data_encoder_release(&enc);
}

static void features_equal_seqio(void **state)
{
    const char *shared = test_shared_dir();
    const char *path = golden("features/golden.json");
    if (!shared || !path || !fs_exists(path))
        skip();
    spt_err err;
    char *json = NULL;
    size_t size;
    EXPECT_OK(fs_read_all(path, 1 << 26, &json, &size, &err), &err);
    vocab *v = NULL;
    struct vocab_opts vo;
    vocab_opts_init(&vo);
    vo.rule = VOCAB_SEQIO;
    EXPECT_OK(vocab_open(test_path(shared, "data/upstream/t5_vocab"), &vo, &v, &err), &err);
    static const char *const tasks[] = {"taskless_glue_sst2_v200_examples",
                                        "glue_sst2_v200_examples", "glue_sst2_v002"};
    for (size_t i = 0; i < 3; i++) {
        check_task(v, json, size, tasks[i], 32, 8);
        check_task(v, json, size, tasks[i], 12, 2);
    }
    vocab_close(v);
    mem_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(features_equal_seqio)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
