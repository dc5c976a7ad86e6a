/* Field cases 10, 12, 14, 17, 19 and 28 where data/ and metric/ decide them: the files of the
 * cases, and what must come out of the one reader. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/examples.h"
#include "metric/class_metrics.h"
#include "support/words.h"

static const char *file(const char *name, const char *text, size_t len)
{
    const char *path = test_path(test_tmpdir(), name);
    test_write(path, text, len);
    return path;
}
#define FILE_OF(name, text) file(name, text, sizeof(text) - 1)
#define BOM "\xef\xbb\xbf"

static examples *load_with(const char *path, const label_set *labels)
{
    const struct data_encoder enc = words_encoder();
    const struct examples_options o = {.records.path = path,
                                       .find_labels = labels == NULL,
                                       .labels = labels,
                                       .labels_from = "the training data",
                                       .keep_text = true};
    examples *e = NULL;
    spt_err err;
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    return e;
}

static void refused(const char *path, const char *part)
{
    const struct data_encoder enc = words_encoder();
    const struct examples_options o = {.records.path = path, .find_labels = true};
    examples *e = NULL;
    spt_err err;
    const spt_status st = examples_load(&o, &enc, &e, &err);
    EXPECT_TRUE(st == SPT_E_FORMAT || st == SPT_E_CONFIG);
    EXPECT_MSG(&err, part);
    EXPECT_MSG(&err, path);
}

static void expect_labels(const examples *e, size_t n, const char *const *want)
{
    const label_set *s = examples_labels(e);
    EXPECT_EQ_I64(label_set_count(s), n);
    for (size_t i = 0; i < n; i++)
        EXPECT_STR(label_set_text(s, i), want[i]);
}

/* --- 10: tables from a spreadsheet --- */

#define ROWS10(E)                                                                                  \
    "\"My card was charged, twice.\",billing" E                                                    \
    "\"She said \"\"best soap ever\"\" and meant it.\",praise" E                                   \
    "\"Two lines:\r\nfirst invoice, second refund\",billing" E "\"Ends in a quote\"\"\",praise" E  \
    "=SUM(A1:A2) shows on my bill,billing" E "lovely,praise"

static const char *const texts10[] = {"My card was charged, twice.",
                                      "She said \"best soap ever\" and meant it.",
                                      "Two lines:\r\nfirst invoice, second refund",
                                      "Ends in a quote\"",
                                      "=SUM(A1:A2) shows on my bill",
                                      "lovely"};
static const char *const labels10[] = {"billing", "praise"};

static void field_10_bom_and_csv(void **state)
{
    const char *const good[] = {
        FILE_OF("excel.csv", BOM "text,label\r\n" ROWS10("\r\n")),
        FILE_OF("excel_quoted_header.csv", BOM "\"text\",\"label\"\r\n" ROWS10("\r\n")),
        FILE_OF("plain.csv", "text,label\n" ROWS10("\n") "\n"),
        FILE_OF("bom.jsonl",
                BOM "{\"text\": \"My card was charged, twice.\", \"label\": \"billing\"}\r\n"
                    "{\"text\": \"She said \\\"best soap ever\\\" and meant it.\", \"label\": "
                    "\"praise\"}\r\n"
                    "{\"text\": \"Two lines:\\r\\nfirst invoice, second refund\", \"label\": "
                    "\"billing\"}\r\n"
                    "{\"text\": \"Ends in a quote\\\"\", \"label\": \"praise\"}\r\n"
                    "{\"text\": \"=SUM(A1:A2) shows on my bill\", \"label\": \"billing\"}\r\n"
                    "{\"text\": \"lovely\", \"label\": \"praise\"}\r\n"),
    };
    for (size_t f = 0; f < 4; f++) {
        examples *e = load_with(good[f], NULL);
        EXPECT_EQ_I64(examples_count(e), 6);
        for (size_t i = 0; i < 6; i++)
            EXPECT_STR(examples_at(e, i).input_text, texts10[i]);
        expect_labels(e, 2, labels10);
        examples_free(e);
    }
    examples *e = load_with(FILE_OF("label_first_no_header.tsv", BOM
                                    "billing\tone text\npraise\ttwo\nbilling\tthree\npraise\tfour\n"
                                    "billing\tfive\npraise\tsix\n"),
                            NULL);
    expect_labels(e, 2, labels10);
    examples_free(e);
    e = load_with(FILE_OF("two_boms.tsv", BOM "text\tlabel\na\tbilling\nb\tpraise\nc\tbilling\n" BOM
                                              "d\tpraise\ne\tbilling\nf\tpraise\n"),
                  NULL);
    expect_labels(e, 2, labels10);
    EXPECT_EQ_I64(examples_count(e), 6);
    EXPECT_STR(examples_at(e, 3).input_text, BOM "d");
    examples_free(e);
    /* Its kind: labels in front, so that the second mark stands before a label. */
    e = load_with(FILE_OF("two_boms_label_first.csv",
                          BOM "label,text\nbilling,a\npraise,b\n" BOM "billing,c\n"),
                  NULL);
    expect_labels(e, 2, labels10);
    examples_free(e);
    refused(FILE_OF("semicolons.csv", BOM "text;label\r\nMy card;billing\r\n"), "';'");
    refused(FILE_OF("utf16.csv", "\xff\xfet\0e\0x\0t\0,\0l\0\r\0\n\0a\0,\0b\0"), "UTF-16");
    refused(FILE_OF("empty_but_bom.csv", BOM), "empty");
    refused(FILE_OF("latin1.csv", "text,label\ncaf\xe9,billing\n"), "not UTF-8");
}

/* --- 12: line ends --- */

static const char *const labels12[] = {"billing", "delivery", "praise"};
#define R12(E1, E2)                                                                                \
    "the parcel is late\tdelivery" E1 "refund the second charge\tbilling" E2                       \
    "what a nice vase\tpraise" E1 "no update since Tuesday\tdelivery" E2                           \
    "the invoice total is wrong\tbilling" E1 "best tea I ever had\tpraise"

static void field_12_mixed_line_ends(void **state)
{
    examples *train = load_with(FILE_OF("lf.tsv", R12("\n", "\n") "\n"), NULL);
    expect_labels(train, 3, labels12);
    const char *const evals[] = {
        FILE_OF("crlf.tsv", R12("\r\n", "\r\n") "\r\n"),
        FILE_OF("cr.tsv", R12("\r", "\r") "\r"),
        FILE_OF("mixed.tsv", R12("\n", "\r\n") "\r\n"),
        FILE_OF("crlf_no_last.tsv", R12("\r\n", "\r\n")),
        FILE_OF("crlf_blank_lines.tsv", R12("\r\n\r\n", "\r\n\r\n") "\r\n\r\n"),
        FILE_OF("trailing_space.tsv", R12(" \n", " \n") " \n"),
        FILE_OF("extra_tab.tsv", R12("\t\n", "\t\n") "\t\n"),
    };
    for (size_t f = 0; f < sizeof evals / sizeof *evals; f++) {
        examples *e = load_with(evals[f], examples_labels(train));
        EXPECT_EQ_I64(examples_count(e), 6);
        for (size_t i = 0; i < 6; i++) {
            const struct example x = examples_at(e, i), y = examples_at(train, i);
            EXPECT_EQ_I64(x.label, y.label);
            EXPECT_STR(x.input_text, y.input_text);
            EXPECT_TRUE(x.input_len == y.input_len && x.target_len == y.target_len);
            EXPECT_TRUE(!memcmp(x.input, y.input, x.input_len * sizeof *x.input));
            EXPECT_TRUE(!memcmp(x.target, y.target, x.target_len * sizeof *x.target));
        }
        EXPECT_EQ_I64(examples_counts(e).trimmed_targets, strstr(evals[f], "trailing") ? 6 : 0);
        examples_free(e);
        e = load_with(evals[f], NULL);
        expect_labels(e, 3, labels12);
        examples_free(e);
    }
    examples_free(train);
    char spec[300];
    snprintf(spec, sizeof spec, "@%s",
             FILE_OF("labels_crlf.txt", "delivery\r\nbilling\r\npraise\r\n"));
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_parse(spec, &s, &err), &err);
    EXPECT_EQ_I64(label_set_count(s), 3);
    EXPECT_EQ_I64(label_set_len(s, 0), 8);
    label_set_free(s);
}

/* --- 14: words for "missing", numbers as labels --- */

static void field_14_null_words_and_numbers(void **state)
{
    examples *e = load_with(
        FILE_OF("words.csv",
                "text,label\nthe country code field is empty,NA\nnobody answered,null\n"
                "none of the sizes fit,None\nthe price is strange,nan\nyes,TRUE\nit,true\n"
                "zero,0\none,1\none late,1.0\na seven,007\n"),
        NULL);
    static const char *const words[] = {"0",    "007",  "1",   "1.0",  "NA",
                                        "None", "TRUE", "nan", "null", "true"};
    EXPECT_EQ_I64(examples_count(e), 10);
    expect_labels(e, 10, words);
    examples_free(e);
    e = load_with(FILE_OF("numbers.jsonl",
                          "{\"text\": \"one item arrived\", \"label\": 1}\n"
                          "{\"text\": \"one item arrived again\", \"label\": \"1\"}\n"
                          "{\"text\": \"it was one point zero\", \"label\": 1.0}\n"
                          "{\"text\": \"it works\", \"label\": true}\n"
                          "{\"text\": \"the id is long\", \"label\": 9007199254740993}\n"
                          "{\"text\": \"caf\\u00e9 au lait \\ud83d\\ude42\", \"label\": \"ok\"}\n"),
                  NULL);
    static const char *const numbers[] = {"1", "1.0", "9007199254740993", "ok", "true"};
    expect_labels(e, 5, numbers);
    EXPECT_EQ_I64(examples_at(e, 0).label, examples_at(e, 1).label);
    EXPECT_STR(examples_at(e, 5).input_text, "caf\xc3\xa9 au lait \xf0\x9f\x99\x82");
    examples_free(e);
    const char *first = "{\"text\": \"first\", \"label\": \"a\"}\n";
    static const struct {
        const char *second, *part;
    } bad[] = {
        {"{\"text\": \"second\", \"label\": null}\n", "line 2: \"label\" is null"},
        {"{\"text\": \"second\", \"label\": [\"a\", \"b\"]}\n", "line 2: \"label\" is a list"},
        {"{\"text\": \"half a smile \\ud83d here\", \"label\": \"b\"}\n", "line 2, byte"},
        {"{\"text\": \"second\", \"label\": \"a\", \"label\": \"b\"}\n", "stands twice"},
    };
    for (size_t i = 0; i < 4; i++) {
        char text[200];
        const int n = snprintf(text, sizeof text, "%s%s", first, bad[i].second);
        refused(file("bad.jsonl", text, (size_t)n), bad[i].part);
    }
}

/* --- 17: targets that the vocabulary cannot write --- */

static char log_text[4096];

static void keep_log(void *ctx, enum log_level level, const char *line)
{
    const size_t n = strlen(log_text);
    snprintf(log_text + n, sizeof log_text - n, "%s\n", line);
}

static void field_17_targets_the_vocabulary_cannot_write(void **state)
{
    const char *golden = test_golden_dir();
    if (!golden)
        skip();
    spt_err err;
    vocab *v = NULL;
    struct vocab_opts vo;
    vocab_opts_init(&vo);
    vo.rule = VOCAB_SEQIO;
    EXPECT_OK(vocab_open(test_path(golden, "vocab/spm.model"), &vo, &v, &err), &err);
    struct data_encoder enc;
    EXPECT_OK(data_encoder_of_vocab(v, &enc, &err), &err);
    struct examples_options o = {
        .records.path =
            FILE_OF("train.tsv", "the compiler is strict\trust\na short function\t\xce\xbb\n"),
        .find_labels = true};
    examples *e = NULL;
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    struct label_report r;
    EXPECT_OK(label_set_check(examples_labels(e), &enc, 0, &r, &err), &err);
    EXPECT_EQ_I64(r.errors, 0);
    EXPECT_EQ_I64(r.unwritable, 1);
    EXPECT_TRUE(strstr(r.finding[0].text, "1 of 2 labels contain characters this vocabulary cannot "
                                          "write: \xce\xbb ") != NULL);
    label_report_release(&r);
    examples_free(e);
    o.find_labels = false;
    o.records.path =
        FILE_OF("open_ended.tsv", "x\tplain words\ny\t\xce\xbb is \xe2\x98\x83\nz\t\xe2\x98\x83\n"
                                  "w\t\xce\xbb\n");
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    EXPECT_EQ_I64(examples_counts(e).unwritable_targets, 3);
    log_text[0] = '\0';
    log_set_sink(keep_log, NULL);
    examples_log(e, "train");
    log_set_sink(NULL, NULL);
    EXPECT_TRUE(strstr(log_text, "3 of 4 targets contain characters this vocabulary cannot write: "
                                 "\xce\xbb \xe2\x98\x83") != NULL);
    examples_free(e);
    data_encoder_release(&enc);
    vocab_close(v);
}

/* --- 19: cut inputs and targets --- */

static void field_19_cut_inputs_and_targets(void **state)
{
    buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 12; i++) {
        for (int k = 0; k < 2 + 4 * i; k++)
            buf_adds(
                &b,
                "the committee met again and talked about the harbour and the price of timber ");
        buf_addf(&b, "question: was the request granted? %s it was\t%s\n", i % 2 ? "yes" : "no",
                 i % 2 ? "not billed" : "not approved");
    }
    const char *path = file("long.tsv", b.data, b.len);
    const struct data_encoder enc = words_encoder();
    struct examples_options o = {
        .records.path = path, .find_labels = true, .max_input = 64, .max_target = 2};
    examples *e = NULL;
    spt_err err;
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    const struct examples_counts n = examples_counts(e);
    EXPECT_EQ_I64(n.examples, 12);
    EXPECT_EQ_I64(n.cut_inputs, 11); /* 14 words a sentence: two of them and the question fit */
    EXPECT_EQ_I64(n.cut_targets, 12);
    for (size_t i = 0; i < 12; i++) {
        const struct example x = examples_at(e, i);
        EXPECT_TRUE(x.input_len <= 64 && x.input[x.input_len - 1] == 1);
        EXPECT_TRUE(x.target_len == 2 && x.target[1] == 1);
    }
    struct label_report r;
    EXPECT_OK(label_set_check(examples_labels(e), &enc, 2, &r, &err), &err);
    EXPECT_EQ_I64(r.errors, 1);
    EXPECT_STATUS(label_report_log(&r, path, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "\"not approved\"");
    EXPECT_MSG(&err, "\"not billed\"");
    EXPECT_MSG(&err, "at least 3");
    label_report_release(&r);
    examples_free(e);
    buf_clear(&b);
    for (int i = 0; i < 200000; i++)
        buf_addc(&b, 'x');
    buf_adds(&b, "\tnot billed\nshort\tnot approved\n");
    o.records.path = file("one_word_without_spaces.tsv", b.data, b.len);
    o.max_target = 0;
    fault_install();
    fault_reset_peak();
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    EXPECT_TRUE(fault_peak_bytes() <= 16 * b.len + (1 << 20));
    EXPECT_EQ_I64(examples_count(e), 2);
    examples_free(e);
    fault_remove();
    buf_release(&b);
}

/* --- 28: macro F1 --- */

static void field_28_macro_f1_outside_the_set(void **state)
{
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_parse("account,billing,cancel,delivery,praise,repair", &s, &err), &err);
    static const char *const answers[][2] = {{"billing", "billing"},  {"billing", "billing"},
                                             {"billing", "the bill"}, {"billing", "delivery"},
                                             {"billing", "billing"},  {"praise", "praise"},
                                             {"praise", "praise"},    {"praise", "Praise"},
                                             {"praise", "PRAISE!"},   {"praise", ""}};
    int32_t t[10], p[10];
    for (int i = 0; i < 10; i++) {
        t[i] = (int32_t)label_set_find(s, answers[i][0], strlen(answers[i][0]));
        p[i] = (int32_t)label_set_find(s, answers[i][1], strlen(answers[i][1]));
    }
    EXPECT_TRUE(fabs(metric_accuracy_declared(t, p, 10, 6) - 50) < 1e-9);
    EXPECT_TRUE(fabs(metric_f1_macro(t, p, 10, 6) - 22.02381) < 5e-6);
    EXPECT_EQ_I64(metric_outside(p, 10, 6), 4);
    label_set_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(field_10_bom_and_csv),
        cmocka_unit_test(field_12_mixed_line_ends),
        cmocka_unit_test(field_14_null_words_and_numbers),
        cmocka_unit_test(field_17_targets_the_vocabulary_cannot_write),
        cmocka_unit_test(field_19_cut_inputs_and_targets),
        cmocka_unit_test(field_28_macro_f1_outside_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
