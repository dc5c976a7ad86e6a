/* report/events: the worked bytes of the formats, the reference's real files, resuming. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "codec/protobuf.h"
#include "report/events.h"
#include "report/jsonl.h"
#include "store/tfrecord.h"

static void expect_record(const buf *payload, const char *hex)
{
    buf framed;
    buf_init(&framed, 1000);
    tfrecord_frame(&framed, payload->data, payload->len);
    char *text = mem_zalloc(framed.len * 2 + 1, 1);
    for (size_t i = 0; i < framed.len; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned char)framed.data[i]);
    EXPECT_STR(text, hex);
    mem_free(text);
    buf_release(&framed);
}

/* spec/t5x.md 3.7 and spec/interop.md 14 */
static void worked_bytes(void **state)
{
    buf b;
    buf_init(&b, 1000);
    events_put_version(&b, 1.0);
    expect_record(&b, "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a32"
                      "86bf577a");
    buf_clear(&b);
    events_put_simple(&b, 2.0, 1, "loss", 0.5f);
    expect_record(&b, "1a00000000000000129bd82d09000000000000004010012a0d0a0b0a046c6f7373150000003f"
                      "e20576ce");
    buf_clear(&b);
    events_put_scalar(&b, 2.0, 1, "loss", 0.5f);
    expect_record(&b, "2e00000000000000c5cb57fa09000000000000004010012a210a1f0a046c6f7373420a080112"
                      "0022040000003f4a0b0a090a077363616c617273133ec28e");
    buf_clear(&b);
    events_put_version(&b, 1700000000.0);
    expect_record(&b, "1800000000000000a37f4b220900000040fc54d9411a0d627261696e2e4576656e743a32"
                      "eced8f9d");
    buf_release(&b);
}

struct parsed {
    double wall;
    int64_t step;
    bool is_event, is_text;
    char tag[200];
    float value;
    char *text;
};

static bool get(cursor c, uint32_t number, pb_field *f)
{
    while (pb_next(&c, f))
        if (f->number == number)
            return true;
    return false;
}

static void parse(const void *p, size_t n, struct parsed *out)
{
    pb_field f;
    const cursor c = cursor_make(p, n);
    *out = (struct parsed){0};
    if (get(c, 1, &f))
        out->wall = pb_double(&f);
    if (get(c, 2, &f))
        out->step = (int64_t)f.value;
    if (!get(c, 5, &f))
        return;
    EXPECT_TRUE(get(pb_message(&f), 1, &f));
    const cursor value = pb_message(&f);
    EXPECT_TRUE(get(value, 1, &f));
    snprintf(out->tag, sizeof out->tag, "%.*s", (int)f.size, (const char *)f.data);
    EXPECT_TRUE(get(value, 8, &f));
    const cursor tensor = pb_message(&f);
    out->is_event = true;
    if (get(tensor, 4, &f)) {
        EXPECT_EQ_I64(f.size, 4);
        memcpy(&out->value, f.data, 4);
    } else {
        EXPECT_TRUE(get(tensor, 8, &f));
        out->is_text = true;
        out->text = mem_strndup((const char *)f.data, f.size);
    }
}

/* What the reference wrote, taken apart and written again by us: the same bytes. */
static void the_real_files_again(void **state)
{
    static const char *const files[] = {
        "run_of_reference/train_run/train/events.out.tfevents.1795443347.host.11424.0.v2",
        "run_of_reference/train_run/training_eval/taskless_glue_sst2_v200_examples/"
        "events.out.tfevents.1795443347.host.11424.1.v2",
        "run_of_reference/train_run/inference_eval/taskless_glue_sst2_v200_examples/"
        "events.out.tfevents.1795443357.host.11424.2.v2"};
    const char *golden = test_golden_dir();
    size_t scalars = 0, texts = 0;
    if (!golden)
        skip();
    for (size_t i = 0; i < 3; i++) {
        tfrecord_reader *r;
        spt_err err;
        const void *data;
        size_t n;
        EXPECT_OK(tfrecord_open(test_path(golden, files[i]), &r, &err), &err);
        for (;;) {
            struct parsed e;
            buf b;
            EXPECT_OK(tfrecord_next(r, &data, &n, &err), &err);
            if (!data)
                break;
            parse(data, n, &e);
            if (!e.is_event)
                continue;
            buf_init(&b, 1 << 20);
            if (e.is_text)
                events_put_text(&b, e.wall, e.step, e.tag, e.text);
            else
                events_put_scalar(&b, e.wall, e.step, e.tag, e.value);
            if (b.len != n || memcmp(b.data, data, n))
                fail_msg("%s: record %llu (%s) is written differently", files[i],
                         (unsigned long long)tfrecord_index(r) - 1, e.tag);
            scalars += !e.is_text;
            texts += e.is_text;
            mem_free(e.text);
            buf_release(&b);
        }
        tfrecord_close(r);
    }
    EXPECT_EQ_I64(scalars, 43 + 55 + 2);
    EXPECT_EQ_I64(texts, 5);
}

static size_t count_records(const char *path)
{
    tfrecord_reader *r;
    spt_err err;
    const void *data;
    size_t n, count = 0;
    EXPECT_OK(tfrecord_open(path, &r, &err), &err);
    for (;; count++) {
        EXPECT_OK(tfrecord_next(r, &data, &n, &err), &err);
        if (!data)
            break;
    }
    tfrecord_close(r);
    return count;
}

static void a_resumed_file_has_no_step_twice(void **state)
{
    const char *dir = test_path(test_tmpdir(), "run/train");
    events_writer *w;
    spt_err err;
    EXPECT_OK(events_create(dir, &w, &err), &err);
    const char *base = path_base(events_path(w));
    EXPECT_TRUE(strstr(base, "events.out.tfevents.") == base && path_has_suffix(base, ".v2"));
    EXPECT_EQ_I64(events_size(w), 40);
    EXPECT_OK(events_scalar(w, 1, "loss", 2.5f, &err), &err);
    EXPECT_OK(events_text(w, 1, "config", "a = 1", &err), &err);
    EXPECT_OK(events_sync(w, &err), &err);
    const uint64_t saved = events_size(w);
    EXPECT_OK(events_scalar(w, 2, "loss", 2.25f, &err), &err);
    char *path = mem_strdup(events_path(w));
    events_close(w); /* killed here: step 2 was not saved */
    EXPECT_EQ_I64(count_records(path), 4);
    EXPECT_OK(events_resume(path, saved, &w, &err), &err);
    EXPECT_EQ_I64(events_size(w), saved);
    EXPECT_OK(events_scalar(w, 2, "loss", 2.25f, &err), &err);
    events_close(w);
    events_close(NULL);
    EXPECT_EQ_I64(count_records(path), 4);
    EXPECT_STATUS(events_resume(path, 1 << 20, &w, &err), SPT_E_FORMAT);
    mem_free(path);
}

static void put_line(jsonl *j, int step)
{
    spt_err err;
    json_writer *w = jsonl_begin(j, JSON_PYTHON);
    json_begin_object(w);
    json_key(w, "step");
    json_i64(w, step);
    json_key(w, "loss");
    json_f64(w, 0.1 * step);
    json_end_object(w);
    EXPECT_OK(jsonl_end(j, &err), &err);
}

static void json_lines_resume(void **state)
{
    const char *path = test_path(test_tmpdir(), "metrics.jsonl");
    jsonl *j;
    spt_err err;
    char *text;
    size_t n;
    EXPECT_OK(jsonl_open(path, UINT64_MAX, &j, &err), &err);
    put_line(j, 1);
    const uint64_t saved = jsonl_size(j);
    put_line(j, 2);
    EXPECT_OK(jsonl_sync(j, &err), &err);
    jsonl_close(j);
    EXPECT_OK(jsonl_open(path, saved, &j, &err), &err);
    put_line(j, 3);
    jsonl_close(j);
    jsonl_close(NULL);
    EXPECT_OK(fs_read_all(path, 1000, &text, &n, &err), &err);
    EXPECT_STR(text, "{\"step\": 1, \"loss\": 0.1}\n{\"step\": 3, \"loss\": 0.30000000000000004}\n");
    text[n - 1] = 'x'; /* a torn last line is dropped */
    test_write(path, text, n);
    mem_free(text);
    EXPECT_OK(jsonl_open(path, UINT64_MAX, &j, &err), &err);
    EXPECT_EQ_I64(jsonl_size(j), saved);
    jsonl_close(j);
}

static spt_status all_calls(void *ctx, spt_err *err)
{
    events_writer *w = NULL;
    jsonl *j = NULL;
    spt_status st = events_create(ctx, &w, err);
    if (!st)
        st = events_scalar(w, 1, "loss", 1.0f, err);
    if (!st)
        st = events_text(w, 1, "text", "text", err);
    if (!st)
        st = events_sync(w, err);
    events_close(w);
    if (!st)
        st = jsonl_open(test_path(ctx, "x.jsonl"), UINT64_MAX, &j, err);
    if (!st) {
        json_i64(jsonl_begin(j, JSON_PYTHON), 3);
        st = jsonl_end(j, err);
    }
    jsonl_close(j);
    return st;
}

static void faults(void **state)
{
    char *dir = mem_strdup(test_path(test_tmpdir(), "faults"));
    EXPECT_TRUE(fault_every_alloc(all_calls, dir) > 10);
    EXPECT_TRUE(fault_every_syscall(all_calls, dir, 5) > 5);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(the_real_files_again),
        cmocka_unit_test(a_resumed_file_has_no_step_twice),
        cmocka_unit_test(json_lines_resume),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
