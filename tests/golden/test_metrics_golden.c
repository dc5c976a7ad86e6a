/* Metrics of the reference: every entry of features/golden.json, "values" / "metrics". */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "metric/class_metrics.h"
#include "metric/text_metrics.h"
#include "text/json.h"

#define TOL_METRIC 1e-12

enum { MOST = 64 };

struct value { /* what an argument can be, flattened */
    size_t count;
    double number[MOST];
    struct text_ref text[MOST];
    struct text_ref answers[MOST][8];
    size_t answer_count[MOST];
    uint64_t group[MOST];
};

static char *texts; /* unescaped texts of one entry */
static size_t texts_len;

static struct text_ref take_text(const struct json_event *ev)
{
    struct text_ref t = {texts + texts_len, 0};
    t.len = json_unescape(ev, texts + texts_len);
    texts_len += t.len;
    return t;
}

static void read_value(json_reader *r, const struct json_event *ev, struct value *v);

/* {"group": ..., "value": ...} */
static void read_grouped(json_reader *r, struct value *v)
{
    spt_err err;
    bool more;
    struct json_event key, ev;
    const size_t at = v->count;
    while (json_next_key(r, &more, &key, &err) == SPT_OK && more) {
        if (json_is(&key, "group")) {
            const char *raw;
            size_t len;
            EXPECT_OK(json_raw(r, &raw, &len, &err), &err);
            v->group[at] = 5381;
            for (size_t i = 0; i < len; i++)
                v->group[at] = v->group[at] * 33 + (unsigned char)raw[i];
        } else if (json_is(&key, "value") || json_is(&key, "prediction")) {
            EXPECT_OK(json_next(r, &ev, &err), &err);
            v->count = at;
            read_value(r, &ev, v);
        } else {
            EXPECT_OK(json_skip(r, &err), &err);
        }
    }
}

static void read_value(json_reader *r, const struct json_event *ev, struct value *v)
{
    spt_err err;
    bool more;
    struct json_event item;
    EXPECT_TRUE(v->count < MOST);
    if (ev->kind == JSON_NUMBER) {
        EXPECT_OK(json_to_f64(ev, &v->number[v->count++], &err), &err);
    } else if (ev->kind == JSON_STRING) {
        v->text[v->count++] = take_text(ev);
    } else if (ev->kind == JSON_OBJECT) {
        read_grouped(r, v);
    } else {
        EXPECT_EQ_I64(ev->kind, JSON_ARRAY);
        size_t n = 0;
        while (json_next_item(r, &more, &item, &err) == SPT_OK && more)
            v->answers[v->count][n++] = take_text(&item);
        v->answer_count[v->count++] = n;
    }
}

/* The two argument lists, then the expected values by name. */
static void read_arguments(json_reader *r, struct value v[2])
{
    spt_err err;
    bool more;
    struct json_event item;
    memset(v, 0, 2 * sizeof *v);
    EXPECT_OK(json_enter_array(r, &err), &err); /* [args, kwargs] */
    EXPECT_OK(json_next_item(r, &more, &item, &err), &err);
    for (int k = 0; more; k++) {
        if (json_next_item(r, &more, &item, &err) != SPT_OK || !more)
            break;
        EXPECT_TRUE(k < 2 && item.kind == JSON_ARRAY);
        struct json_event one;
        bool some;
        while (json_next_item(r, &some, &one, &err) == SPT_OK && some)
            read_value(r, &one, &v[k]);
    }
    while (json_next_item(r, &more, &item, &err) == SPT_OK && more)
        EXPECT_OK(json_skip_rest(r, &item, &err), &err);
}

static void to_ints(const struct value *v, int32_t *out)
{
    for (size_t i = 0; i < v->count; i++)
        out[i] = (int32_t)v->number[i];
}

/* The value our functions give for key of this metric; false when the metric is not ours. */
static bool compute(const char *metric, const char *key, const struct value v[2], double *out)
{
    spt_err err;
    const size_t n = v[0].count;
    int32_t t[MOST], p[MOST];
    struct text_refs answers[MOST];
    double em, f1;
    to_ints(&v[0], t);
    to_ints(&v[1], p);
    for (size_t i = 0; i < n; i++)
        answers[i] = (struct text_refs){v[0].answers[i], v[0].answer_count[i]};
    if (strstr(metric, "accuracy") && strcmp(metric, "sequence_accuracy") != 0) {
        *out = metric_accuracy(t, p, n);
    } else if (strcmp(metric, "sequence_accuracy") == 0) {
        *out = metric_exact_match(v[0].text, v[1].text, n);
    } else if (strcmp(metric, "f1_score_with_invalid") == 0 ||
               strcmp(metric, "multirc_f1_over_all_answers") == 0) {
        *out = metric_f1_binary(t, p, n);
    } else if (strcmp(metric, "matthews_corrcoef") == 0) {
        EXPECT_OK(metric_matthews(t, p, n, out, &err), &err);
    } else if (strcmp(metric, "mean_multiclass_f1_3") == 0) {
        *out = metric_f1_macro(t, p, n, 3);
    } else if (strcmp(metric, "pearson") == 0) {
        *out = metric_pearson(v[0].number, v[1].number, n);
    } else if (strcmp(metric, "spearman") == 0) {
        EXPECT_OK(metric_spearman(v[0].number, v[1].number, n, out, &err), &err);
    } else if (strcmp(metric, "squad") == 0 || strcmp(metric, "trivia_qa") == 0) {
        EXPECT_OK((*metric == 's' ? metric_squad : metric_trivia_qa)(answers, v[1].text, n, &em,
                                                                     &f1, &err),
                  &err);
        *out = *key == 'e' ? em : f1;
    } else if (strcmp(metric, "deduplicate_metric(squad)") == 0) {
        size_t which[MOST], kept;
        struct text_refs a[MOST];
        struct text_ref b[MOST];
        EXPECT_OK(metric_first_of_groups(v[0].group, n, which, &kept, &err), &err);
        for (size_t i = 0; i < kept; i++) {
            a[i] = answers[which[i]];
            b[i] = v[1].text[which[i]];
        }
        EXPECT_OK(metric_squad(a, b, kept, &em, &f1, &err), &err);
        *out = *key == 'e' ? em : f1;
    } else if (strcmp(metric, "bleu") == 0) {
        for (size_t i = 0; i < n; i++)
            answers[i] = (struct text_refs){&v[0].text[i], 1};
        EXPECT_OK(metric_bleu(answers, v[1].text, n, out, &err), &err);
    } else if (strcmp(metric, "rouge") == 0) {
        struct rouge_scores s;
        EXPECT_OK(metric_rouge(v[0].text, v[1].text, n, &s, &err), &err);
        *out = key[5] == '1' ? s.rouge1 : key[5] == '2' ? s.rouge2 : s.rougeLsum;
    } else if (strcmp(metric, "edit_distance") == 0) {
        struct edit_scores s;
        EXPECT_OK(metric_edit_distance(v[0].text, v[1].text, n, &s, &err), &err);
        *out = strncmp(key, "min", 3) == 0    ? s.min
               : strncmp(key, "max", 3) == 0  ? s.max
               : strncmp(key, "mean", 4) == 0 ? s.mean
               : strncmp(key, "med", 3) == 0  ? s.median
                                              : s.sum;
    } else {
        return false;
    }
    return true;
}

/* {"metric": name, "arguments": [[targets, predictions], {}], "value": {...}} */
static int check_entry(json_reader *r, char *seen, size_t size)
{
    spt_err err;
    bool more;
    struct json_event key;
    static struct value v[2];
    buf name;
    buf_init(&name, 200);
    int compared = 0;
    texts_len = 0;
    while (json_next_key(r, &more, &key, &err) == SPT_OK && more) {
        if (json_is(&key, "metric")) {
            EXPECT_OK(json_read_text(r, &name, &err), &err);
        } else if (json_is(&key, "arguments")) {
            if (strcmp(buf_str(&name), "string_label_to_class_id") == 0)
                EXPECT_OK(json_skip(r, &err), &err); /* a postprocessor, not a metric */
            else
                read_arguments(r, v);
        } else {
            EXPECT_OK(json_enter_object(r, &err), &err);
            while (json_next_key(r, &more, &key, &err) == SPT_OK && more) {
                char name_of_value[64];
                double want, got = NAN;
                name_of_value[json_unescape(&key, name_of_value)] = '\0';
                EXPECT_OK(json_read_f64(r, &want, &err), &err);
                if (!compute(buf_str(&name), name_of_value, v, &got))
                    continue;
                if (!(fabs(got - want) <= TOL_METRIC * fabs(want)))
                    fail_msg("%s: %s is %.17g, wanted %.17g", buf_str(&name), name_of_value, got,
                             want);
                compared++;
                snprintf(seen + strlen(seen), size - strlen(seen), " %s", name_of_value);
            }
        }
    }
    buf_release(&name);
    return compared;
}

static void metrics_equal_the_reference(void **state)
{
    const char *dir = test_golden_dir();
    const char *path = dir ? test_path(dir, "features/golden.json") : NULL;
    if (!path || !fs_exists(path))
        skip();
    spt_err err;
    char *json = NULL;
    size_t size;
    EXPECT_OK(fs_read_all(path, 1 << 26, &json, &size, &err), &err);
    texts = mem_alloc(size, 1);
    json_reader r;
    json_open(&r, json, size, JSON_PYTHON_NAN);
    bool more;
    struct json_event key, item;
    int compared = 0;
    char seen[1000] = "";
    EXPECT_OK(json_enter_object(&r, &err), &err);
    while (json_next_key(&r, &more, &key, &err) == SPT_OK && more) {
        if (!json_is(&key, "values")) {
            EXPECT_OK(json_skip(&r, &err), &err);
            continue;
        }
        EXPECT_OK(json_enter_object(&r, &err), &err);
        while (json_next_key(&r, &more, &key, &err) == SPT_OK && more) {
            if (!json_is(&key, "metrics")) {
                EXPECT_OK(json_skip(&r, &err), &err);
                continue;
            }
            EXPECT_OK(json_enter_array(&r, &err), &err);
            while (json_next_item(&r, &more, &item, &err) == SPT_OK && more)
                compared += check_entry(&r, seen, sizeof seen);
        }
    }
    EXPECT_OK(json_finish(&r, &err), &err);
    json_close(&r);
    mem_free(texts);
    mem_free(json);
    print_message("compared %d values:%s\n", compared, seen);
    EXPECT_TRUE(compared >= 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(metrics_equal_the_reference)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
