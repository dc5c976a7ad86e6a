/* data/examples: files become ids; labels, cuts, counts, defaults; streaming equals loading. */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/examples.h"
#include "support/words.h"

static char log_text[8192];

static void keep_log(void *ctx, enum log_level level, const char *line)
{
    const size_t n = strlen(log_text), k = strlen(line);
    if (n + k + 2 < sizeof log_text) {
        memcpy(log_text + n, line, k);
        memcpy(log_text + n + k, "\n", 2);
    }
}

static const char *file(const char *name, const char *text, size_t len)
{
    const char *path = test_path(test_tmpdir(), name);
    test_write(path, text, len);
    return path;
}
#define FILE_OF(name, text) file(name, text, sizeof(text) - 1)

static examples *load(const struct examples_options *o)
{
    const struct data_encoder enc = words_encoder();
    examples *e = NULL;
    spt_err err;
    EXPECT_OK(examples_load(o, &enc, &e, &err), &err);
    return e;
}

static void refused(const struct examples_options *o, spt_status st, const char *part)
{
    const struct data_encoder enc = words_encoder();
    examples *e = NULL;
    spt_err err;
    EXPECT_STATUS(examples_load(o, &enc, &e, &err), st);
    EXPECT_MSG(&err, part);
    EXPECT_TRUE(!e);
}

static void labels_are_found_and_sorted(void **state)
{
    struct examples_options o = {.records.path = FILE_OF("a.csv", "text,label\nthe x y,b c\nz,a\n"
                                                                  ",b c\nq, b c\n"),
                                 .find_labels = true,
                                 .keep_text = true};
    log_text[0] = '\0';
    log_set_sink(keep_log, NULL);
    examples *e = load(&o);
    examples_log(e, "train");
    log_set_sink(NULL, NULL);
    EXPECT_EQ_I64(examples_count(e), 4);
    const label_set *s = examples_labels(e);
    EXPECT_EQ_I64(label_set_count(s), 2);
    EXPECT_STR(label_set_text(s, 0), "a");
    static const int want[] = {1, 0, 1, 1};
    for (size_t i = 0; i < 4; i++)
        EXPECT_EQ_I64(examples_at(e, i).label, want[i]);
    struct example x = examples_at(e, 0);
    EXPECT_EQ_I64(x.input_len, 4);
    EXPECT_EQ_I64(x.input[1], word_id("x"));
    EXPECT_EQ_I64(x.input[3], 1);
    EXPECT_EQ_I64(x.target_len, 3);
    EXPECT_EQ_I64(x.target[1], word_id("c"));
    EXPECT_EQ_I64(x.line, 2);
    EXPECT_STR(x.input_text, "the x y");
    EXPECT_STR(x.target_text, "b c");
    x = examples_at(e, 2); /* an empty text is just EOS */
    EXPECT_EQ_I64(x.input_len, 1);
    EXPECT_EQ_I64(x.input[0], 1);
    const struct examples_counts n = examples_counts(e);
    EXPECT_EQ_I64(n.empty_inputs, 1);
    EXPECT_EQ_I64(n.trimmed_targets, 1);
    EXPECT_EQ_I64(n.longest_input, 4);
    EXPECT_EQ_I64(n.tokens_in, 4 + 2 + 1 + 2);
    EXPECT_EQ_I64(n.tokens_out, 3 + 2 + 3 + 3);
    EXPECT_STR(examples_input_template(e), "{text}");
    EXPECT_STR(examples_target_template(e), "{label}");
    EXPECT_TRUE(strstr(log_text, "4 examples") && strstr(log_text, "\" b c\""));
    examples_free(e);
}

static void labels_given_must_hold(void **state)
{
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_parse("praise,billing", &s, &err), &err);
    struct examples_options o = {.records.path = FILE_OF("b.tsv", "a\tpraise\nb\tbilling \n"),
                                 .labels = s,
                                 .labels_from = "the training data"};
    examples *e = load(&o);
    EXPECT_EQ_I64(examples_at(e, 0).label, 0);
    EXPECT_EQ_I64(examples_at(e, 1).label, 1);
    EXPECT_TRUE(!examples_labels(e));
    examples_free(e);
    o.records.path = FILE_OF("c.tsv", "a\tpraise\nb\tdelivery\n");
    refused(&o, SPT_E_FORMAT,
            "line 2: label \"delivery\" is not among the 2 labels of the "
            "training data: praise, billing");
    o.records.path = FILE_OF("c2.tsv", "a\tPraise\n");
    refused(&o, SPT_E_FORMAT, "is \"praise\" meant?");
    o.records.path = FILE_OF("d.tsv", "a\tpraise\nb\t \n");
    refused(&o, SPT_E_FORMAT, "line 2: the label is empty");
    label_set_free(s);
    o = (struct examples_options){.records.path = FILE_OF("e.tsv", "a\tx\nb\t \n"),
                                  .find_labels = true};
    refused(&o, SPT_E_FORMAT, "line 2: the label is empty");
}

static void cuts_keep_the_end_token(void **state)
{
    struct examples_options o = {.records.path =
                                     FILE_OF("f.tsv", "a b c d\tnot billed\na b\tnot\na b c\tx\n"),
                                 .max_input = 4,
                                 .max_target = 2};
    examples *e = load(&o);
    const struct examples_counts n = examples_counts(e);
    EXPECT_EQ_I64(n.cut_inputs, 1);
    EXPECT_EQ_I64(n.cut_targets, 1);
    EXPECT_EQ_I64(n.longest_input_uncut, 5);
    EXPECT_EQ_I64(n.longest_target_uncut, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct example x = examples_at(e, i);
        EXPECT_TRUE(x.input_len <= 4 && x.input[x.input_len - 1] == 1);
        EXPECT_TRUE(x.target_len == 2 && x.target[1] == 1);
    }
    EXPECT_EQ_I64(examples_at(e, 0).input[2], word_id("c"));
    examples_free(e);
    o.find_labels = true;
    e = load(&o);
    EXPECT_EQ_I64(examples_counts(e).cut_targets, 1);
    examples_free(e);
}

static void templates_are_applied(void **state)
{
    text_template *in = NULL, *out = NULL;
    spt_err err;
    EXPECT_OK(template_parse("sst2 sentence: {sentence}", 25, &in, &err), &err);
    EXPECT_OK(template_parse("it is {y}", 9, &out, &err), &err);
    struct examples_options o = {.records.path = FILE_OF("g.csv", "sentence,y\nok,1\n"),
                                 .input = in,
                                 .target = out,
                                 .keep_text = true};
    examples *e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "sst2 sentence: ok");
    EXPECT_STR(examples_at(e, 0).target_text, "it is 1");
    EXPECT_EQ_I64(examples_at(e, 0).label, -1);
    examples_free(e);
    o.records.path = FILE_OF("h.csv", "text,y\nok,1\n");
    refused(&o, SPT_E_CONFIG, "no column \"sentence\"");
    o.optional_target = true;
    o.records.path = FILE_OF("i.csv", "sentence\nok\n");
    e = load(&o);
    EXPECT_EQ_I64(examples_at(e, 0).target_len, 0);
    EXPECT_TRUE(!examples_target_template(e));
    examples_free(e);
    template_free(in);
    template_free(out);
}

static void columns_are_chosen_and_said(void **state)
{
    struct examples_options o = {.find_labels = true};
    /* label first, text behind it, no header: field case 10 */
    o.records.path = FILE_OF("j.tsv", "\xef\xbb\xbf"
                                      "billing\tone a\npraise\ttwo\nbilling\tthree\n"
                                      "praise\tfour\n");
    log_text[0] = '\0';
    log_set_sink(keep_log, NULL);
    examples *e = load(&o);
    log_set_sink(NULL, NULL);
    EXPECT_EQ_I64(label_set_count(examples_labels(e)), 2);
    EXPECT_STR(label_set_text(examples_labels(e), 0), "billing");
    EXPECT_STR(examples_input_template(e), "{2}");
    EXPECT_TRUE(strstr(log_text, "column 1 is taken as the label") != NULL);
    examples_free(e);
    o.records.path = FILE_OF("k.tsv", "one\tx\ntwo\ty\nthree\tx\nfour\ty\n");
    e = load(&o);
    EXPECT_STR(examples_input_template(e), "{1}");
    examples_free(e);
    o.records.path = FILE_OF("l.csv", "Message,label\nx,y\n");
    e = load(&o);
    EXPECT_STR(examples_input_template(e), "{Message}");
    examples_free(e);
    o.records.path = FILE_OF("m.csv", "idx,Message,label\n0,x,y\n");
    refused(&o, SPT_E_CONFIG, "no text column");
    o.records.path = FILE_OF("n.csv", "idx,text,class\n0,x,y\n");
    refused(&o, SPT_E_CONFIG, "no label column");
    o.records.path = FILE_OF("o.tsv", "just text\nmore\n");
    refused(&o, SPT_E_CONFIG, "only one column");
    o.no_target = true;
    e = load(&o);
    EXPECT_EQ_I64(examples_count(e), 2);
    examples_free(e);
    o.records.path = FILE_OF("p.tsv", "");
    refused(&o, SPT_E_FORMAT, "empty");
}

/* A prompt brings templates with names; the file has none. */
static void prompts_take_columns_by_position(void **state)
{
    text_template *in = NULL, *out = NULL;
    spt_err err;
    EXPECT_OK(template_parse("sst2 sentence: {sentence}", 25, &in, &err), &err);
    EXPECT_OK(template_parse("{label}", 7, &out, &err), &err);
    struct examples_options o = {.records.path = FILE_OF("p1.tsv", "one\tx\ntwo\ty\n"),
                                 .input = in,
                                 .target = out,
                                 .keep_text = true};
    /* A name that stands for the text is its column; any other one is only if a prompt says so. */
    examples *known = load(&o);
    EXPECT_STR(examples_at(known, 1).input_text, "sst2 sentence: two");
    examples_free(known);
    text_template *other = NULL;
    EXPECT_OK(template_parse("{review}", 8, &other, &err), &err);
    o.input = other;
    refused(&o, SPT_E_CONFIG, "no column \"review\"");
    o.by_position = true;
    known = load(&o);
    EXPECT_STR(examples_at(known, 1).input_text, "two");
    examples_free(known);
    template_free(other);
    o.input = in;
    log_text[0] = '\0';
    log_set_sink(keep_log, NULL);
    examples *e = load(&o);
    log_set_sink(NULL, NULL);
    EXPECT_TRUE(strstr(log_text, "column 1 is taken as {sentence} and column 2 as {label}") !=
                NULL);
    EXPECT_STR(examples_at(e, 1).input_text, "sst2 sentence: two");
    EXPECT_STR(examples_at(e, 1).target_text, "y");
    examples_free(e);
    o.records.path = FILE_OF("p2.tsv", "x\tone\ny\ttwo\nx\tthree\ny\tfour\n");
    e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "sst2 sentence: one");
    EXPECT_STR(examples_at(e, 0).target_text, "x");
    examples_free(e);
    o.records.path = FILE_OF("p3.csv", "label,sentence\nx,one\n");
    e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "sst2 sentence: one");
    examples_free(e);
    /* Trained on a file without header, used on one with names in another order. */
    text_template *first = NULL, *second = NULL;
    EXPECT_OK(template_parse("say: {1}", 8, &first, &err), &err);
    EXPECT_OK(template_parse("{2}", 3, &second, &err), &err);
    o.input = first;
    o.target = second;
    e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "say: one");
    EXPECT_STR(examples_at(e, 0).target_text, "x");
    examples_free(e);
    o.records.path = FILE_OF("p3.jsonl", "{\"id\": 7, \"label\": \"x\", \"inputs\": \"one\"}\n");
    e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "say: one");
    EXPECT_STR(examples_at(e, 0).target_text, "x");
    examples_free(e);
    o.by_position = false; /* an option means what it says */
    o.records.path = FILE_OF("p3.csv", "label,sentence\nx,one\n");
    e = load(&o);
    EXPECT_STR(examples_at(e, 0).input_text, "say: x");
    examples_free(e);
    template_free(first);
    template_free(second);
    o.input = in;
    o.target = out;
    o.records =
        (struct records_options){.path = FILE_OF("p4.txt", "one\n\ntwo\twords"), .lines = true};
    o.by_position = false;
    o.no_target = true;
    e = load(&o);
    EXPECT_EQ_I64(examples_count(e), 3);
    EXPECT_STR(examples_at(e, 1).input_text, "sst2 sentence: ");
    EXPECT_STR(examples_at(e, 2).input_text, "sst2 sentence: two\twords");
    examples_free(e);
    template_free(in);
    template_free(out);
}

/* What some vocabularies make of "</s>" in a text: the end mark before the end. */
static spt_status encode_specials(void *ctx, const char *text, size_t len, struct id_list *out,
                                  spt_err *err)
{
    const size_t from = out->len;
    TRY(words_encode(ctx, text, len, out, err));
    for (size_t i = from; i < out->len; i++)
        out->id[i] = out->id[i] == word_id("</s>")    ? 1
                     : out->id[i] == word_id("<pad>") ? 0
                                                      : out->id[i];
    return SPT_OK;
}

static void special_ids_in_targets_are_counted(void **state)
{
    struct data_encoder enc = words_encoder();
    enc.encode = encode_specials;
    struct examples_options o = {.records.path = FILE_OF("s.tsv", "a </s>\tx\nb\tx </s> y\n"
                                                                  "c\t<pad>\nd\tx </s>\n")};
    for (int labels = 0; labels < 2; labels++) {
        spt_err err;
        examples *e = NULL;
        o.find_labels = labels;
        EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
        EXPECT_EQ_I64(examples_counts(e).special_targets, 3);
        log_text[0] = '\0';
        log_set_sink(keep_log, NULL);
        examples_log(e, "train");
        log_set_sink(NULL, NULL);
        EXPECT_TRUE(strstr(log_text, "3 of 4 targets hold the id of <pad>") != NULL);
        examples_free(e);
    }
}

static void unwritable_targets_are_counted(void **state)
{
    struct examples_options o = {.records.path = FILE_OF("q.tsv", "a\t~x y\nb\ty\nc\t~x y\n")};
    examples *e = load(&o);
    EXPECT_EQ_I64(examples_counts(e).unwritable_targets, 2);
    examples_free(e);
    o.find_labels = true;
    e = load(&o);
    EXPECT_EQ_I64(examples_counts(e).unwritable_targets, 2);
    examples_free(e);
}

/* More different targets than a label set may have: free text, each with its own ids. */
static void too_many_targets_are_texts(void **state)
{
    buf b;
    buf_init(&b, 1 << 24);
    for (int i = 0; i < LABELS_MAX + 10; i++)
        buf_addf(&b, "t\tw%d v\n", i);
    buf_adds(&b, "t\tw0 v\n");
    struct examples_options o = {.records.path = file("r.tsv", b.data, b.len), .find_labels = true};
    buf_release(&b);
    examples *e = load(&o);
    EXPECT_TRUE(!examples_labels(e));
    const struct example first = examples_at(e, 0), last = examples_at(e, LABELS_MAX + 10);
    EXPECT_EQ_I64(first.label, -1);
    EXPECT_EQ_I64(last.label, -1);
    EXPECT_TRUE(first.target_len == 3 && first.target[0] == last.target[0]);
    EXPECT_EQ_I64(examples_at(e, 9).target[0], word_id("w9"));
    EXPECT_EQ_I64(examples_at(e, LABELS_MAX + 9).target[1], word_id("v"));
    examples_free(e);
}

static void streaming_equals_loading(void **state)
{
    const struct data_encoder enc = words_encoder();
    struct examples_options o = {
        .records.path = FILE_OF("s.csv", "text,label\nthe x y,b c\n\nz,a\n,b c\n\"q\nr\",b\n"),
        .max_input = 3,
        .keep_text = true};
    examples *e = load(&o);
    example_stream *s = NULL;
    spt_err err;
    EXPECT_OK(example_stream_open(&o, &enc, &s, &err), &err);
    size_t i = 0;
    for (;; i++) {
        struct example x;
        bool more;
        EXPECT_OK(example_stream_next(s, &x, &more, &err), &err);
        if (!more)
            break;
        const struct example y = examples_at(e, i);
        EXPECT_EQ_I64(x.line, y.line);
        EXPECT_TRUE(x.input_len == y.input_len && x.target_len == y.target_len);
        EXPECT_TRUE(memcmp(x.input, y.input, x.input_len * sizeof *x.input) == 0);
        EXPECT_TRUE(memcmp(x.target, y.target, x.target_len * sizeof *x.target) == 0);
        EXPECT_STR(x.input_text, y.input_text);
        EXPECT_STR(x.target_text, y.target_text);
    }
    EXPECT_EQ_I64(i, examples_count(e));
    EXPECT_EQ_I64(example_stream_counts(s).cut_inputs, examples_counts(e).cut_inputs);
    EXPECT_EQ_I64(example_stream_counts(s).rows.blank, 1);
    EXPECT_STR(example_stream_input_template(s), "{text}");
    example_stream_close(s);
    examples_free(e);
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    const struct data_encoder enc = words_encoder();
    const struct examples_options o = {
        .records.path = ctx, .find_labels = true, .keep_text = true, .max_input = 2};
    examples *e = NULL;
    const spt_status st = examples_load(&o, &enc, &e, err);
    examples_free(e);
    return st;
}

/* The first without a text, the others with one. */
static spt_status add_both(void *ctx, spt_err *err)
{
    static int32_t ids[] = {4, 1};
    examples *e;
    (void)ctx;
    TRY(examples_new(&e, err));
    struct example x = {.line = 1, .label = -1, .input = ids, .input_len = 2, .target = ids, .target_len = 1};
    spt_status st = examples_add(e, &x, err);
    x.input_text = "a", x.target_text = "b";
    for (int i = 0; i < 20 && !st; i++)
        st = examples_add(e, &x, err);
    if (!st)
        EXPECT_EQ_I64(examples_count(e), 21);
    examples_free(e);
    return st;
}

static void allocations_and_calls_may_fail(void **state)
{
    char *path = mem_strdup(FILE_OF("t.tsv", "a b\tx\nc\ty z\nd\tx\ne\ty z\n"));
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, path) > 20);
    EXPECT_TRUE(fault_every_alloc(add_both, NULL) > 3);
    EXPECT_TRUE(fault_every_syscall(run_faults, path, EIO) > 3);
    fault_remove();
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_found_and_sorted),
        cmocka_unit_test(labels_given_must_hold),
        cmocka_unit_test(cuts_keep_the_end_token),
        cmocka_unit_test(templates_are_applied),
        cmocka_unit_test(columns_are_chosen_and_said),
        cmocka_unit_test(prompts_take_columns_by_position),
        cmocka_unit_test(unwritable_targets_are_counted),
        cmocka_unit_test(special_ids_in_targets_are_counted),
        cmocka_unit_test(too_many_targets_are_texts),
        cmocka_unit_test(streaming_equals_loading),
        cmocka_unit_test(allocations_and_calls_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
