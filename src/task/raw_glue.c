/* Readers of the raw archives. Tables have no quoting: a tab is the only separator. */
#include "task/raw_glue.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "task/json_node.h"
#include "text/number.h"

enum { MAX_COLUMNS = 64, MAX_LINE = 64 << 20 };

/* --- tables ------------------------------------------------------------------------------- */

struct column {
    const char *field, *header;
};

static const struct table_format {
    const char *config, *dir, *label;
    struct column column[2];
} tables[] = {
    {"cola", "CoLA", NULL, {{"sentence", "sentence"}}},
    {"sst2", "SST-2", "label", {{"sentence", "sentence"}}},
    {"mrpc", "MRPC", "Quality", {{"sentence1", "#1 String"}, {"sentence2", "#2 String"}}},
    {"qqp", "QQP", "is_duplicate", {{"question1", "question1"}, {"question2", "question2"}}},
    {"stsb", "STS-B", "score", {{"sentence1", "sentence1"}, {"sentence2", "sentence2"}}},
    {"mnli", "MNLI", "gold_label", {{"premise", "sentence1"}, {"hypothesis", "sentence2"}}},
    {"qnli", "QNLI", "label", {{"question", "question"}, {"sentence", "sentence"}}},
    {"rte", "RTE", "label", {{"sentence1", "sentence1"}, {"sentence2", "sentence2"}}},
    {"wnli", "WNLI", "label", {{"sentence1", "sentence1"}, {"sentence2", "sentence2"}}},
    {"ax", "AX", NULL, {{"premise", "sentence1"}, {"hypothesis", "sentence2"}}},
};

struct glue_tsv {
    const struct table_format *format;
    const struct task_config *config;
    bool has_header, float_label, hide_labels;
    int column[2], label; /* positions, -1: the file has none */
    int64_t row;          /* number of the next data row; -1: the header is still to come */
};

spt_status glue_tsv_new(const char *config, const char *split, glue_tsv **out, spt_err *err)
{
    const struct table_format *format = NULL;
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strcmp(tables[i].config, config) == 0 ||
            (strncmp(config, "mnli_", 5) == 0 && strcmp(tables[i].config, "mnli") == 0))
            format = &tables[i];
    if (!format)
        return err_set(err, SPT_E_CONFIG, "no GLUE configuration is named '%s'", config);
    glue_tsv *g = mem_zalloc(1, sizeof *g);
    if (!g)
        return err_nomem(err, sizeof *g);
    const bool test = strncmp(split, "test", 4) == 0;
    g->format = format;
    g->config = task_config_find("glue", config);
    g->float_label = strcmp(config, "stsb") == 0;
    g->has_header = strcmp(config, "cola") != 0 || test;
    g->hide_labels = strcmp(config, "mrpc") == 0 && test;
    g->column[0] = g->column[1] = g->label = -1;
    if (g->has_header) {
        g->row = -1;
    } else {
        g->column[0] = 3;
        g->label = 1;
    }
    *out = g;
    return SPT_OK;
}

void glue_tsv_free(glue_tsv *g)
{
    mem_free(g);
}

static size_t split_tabs(const char *line, size_t len, struct field_text *cell)
{
    size_t n = 0;
    const char *s = line, *end = line + len;
    while (n < MAX_COLUMNS) {
        const char *tab = memchr(s, '\t', (size_t)(end - s));
        cell[n++] = (struct field_text){s, (size_t)((tab ? tab : end) - s)};
        if (!tab)
            break;
        s = tab + 1;
    }
    return n;
}

static int find_column(const struct field_text *cell, size_t n, const char *name)
{
    for (size_t i = 0; name && i < n; i++)
        if (cell[i].len == strlen(name) && memcmp(cell[i].s, name, cell[i].len) == 0)
            return (int)i;
    return -1;
}

static spt_status read_header(glue_tsv *g, const struct field_text *cell, size_t n, spt_err *err)
{
    for (size_t i = 0; i < 2 && g->format->column[i].field; i++) {
        g->column[i] = find_column(cell, n, g->format->column[i].header);
        if (g->column[i] < 0)
            return err_set(err, SPT_E_FORMAT, "the header has no column '%s'",
                           g->format->column[i].header);
    }
    g->label = g->hide_labels ? -1 : find_column(cell, n, g->format->label);
    g->row = 0;
    return SPT_OK;
}

static int label_length(const struct field_text *t)
{
    return t->len < 60 ? (int)t->len : 60;
}

/* -1 is no label, as TFDS has it. shown: what stood in the file. */
static spt_status set_class_number(int64_t v, const struct field_text *shown,
                                   const char *const *classes, const char *config, record *out,
                                   spt_err *err)
{
    int64_t n = 0;
    while (n < TASK_MAX_CLASSES && classes[n])
        n++;
    if (v < -1 || v >= n)
        return err_set(err, SPT_E_FORMAT, "the label '%.*s' is no class of %s (0 to %lld, or %s)",
                       label_length(shown), shown->s, config, (long long)n - 1,
                       n ? classes[0] : "");
    return record_set_int(out, "label", v, err);
}

/* A class name, else a class index. *have false: empty. */
static spt_status read_label(const glue_tsv *g, const struct field_text *t, record *out, bool *have,
                             spt_err *err)
{
    char number[64];
    *have = t->len > 0;
    if (!*have)
        return SPT_OK;
    if (t->len >= sizeof number)
        return err_set(err, SPT_E_FORMAT, "a label of %zu characters", t->len);
    memcpy(number, t->s, t->len);
    number[t->len] = 0;
    if (g->float_label) {
        double v;
        if (!number_f64(number, t->len, &v) || !isfinite((float)v))
            return err_set(err, SPT_E_FORMAT, "the score '%s' is no number", number);
        return record_set_float(out, "label", (double)(float)v, err);
    }
    const int64_t named = text_to_class(t->s, t->len, g->config->classes);
    if (named >= 0)
        return record_set_int(out, "label", named, err);
    int64_t v;
    if (!number_i64(number, t->len, &v))
        return err_set(err, SPT_E_FORMAT, "the label '%s' is neither a class nor a number", number);
    return set_class_number(v, t, g->config->classes, g->config->name, out, err);
}

spt_status glue_tsv_line(glue_tsv *g, const char *line, size_t len, record *out, bool *have,
                         spt_err *err)
{
    struct field_text cell[MAX_COLUMNS];
    *have = false;
    if (!len)
        return SPT_OK;
    if (g->row <= 0 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        len -= 3;
    }
    const size_t n = split_tabs(line, len, cell);
    if (g->row < 0)
        return read_header(g, cell, n, err);
    const int64_t row = g->row++;
    record_clear(out);
    for (size_t i = 0; i < 2 && g->format->column[i].field; i++) {
        if ((size_t)g->column[i] >= n)
            return SPT_OK;
        const struct field_text *t = &cell[g->column[i]];
        TRY(record_set_text(out, g->format->column[i].field, t->s, t->len, err));
    }
    TRY(record_set_int(out, "idx", row, err));
    if (g->label >= 0 && (size_t)g->label >= n)
        return SPT_OK;
    if (g->label >= 0)
        return read_label(g, &cell[g->label], out, have, err);
    *have = true;
    return g->float_label ? record_set_float(out, "label", -1, err)
                          : record_set_int(out, "label", -1, err);
}

/* --- SuperGLUE lines ---------------------------------------------------------------------- */

static const char *const *super_glue_classes(const char *config)
{
    static const char *const truth[] = {"False", "True", NULL};
    const struct task_config *k = task_config_find("super_glue", config);
    return k && k->classes[0] ? k->classes : truth; /* WSC is no task's configuration */
}

/* false and true are classes of their name, and COPA's second choice is the true one. */
static spt_status set_truth(bool v, const char *config, const char *const *classes, record *out,
                            spt_err *err)
{
    const char *const name = v ? "True" : "False";
    const int64_t named =
        strcmp(config, "copa") == 0 ? v : text_to_class(name, strlen(name), classes);
    return named < 0 ? err_set(err, SPT_E_FORMAT, "the label %s is no class of %s",
                               v ? "true" : "false", config)
                     : record_set_int(out, "label", named, err);
}

static spt_status set_label(const char *config, const struct json_node *label, record *out,
                            spt_err *err)
{
    const char *const *classes = super_glue_classes(config);
    if (!label || label->kind == JSON_NULL)
        return record_set_int(out, "label", -1, err);
    if (label->kind == JSON_TRUE || label->kind == JSON_FALSE)
        return set_truth(label->kind == JSON_TRUE, config, classes, out, err);
    if (label->kind == JSON_NUMBER && label->whole)
        return set_class_number(label->number, &label->text, classes, config, out, err);
    const int64_t named =
        label->kind == JSON_STRING ? text_to_class(label->text.s, label->text.len, classes) : -1;
    if (named >= 0)
        return record_set_int(out, "label", named, err);
    if (label->kind == JSON_STRING || label->kind == JSON_NUMBER)
        return err_set(err, SPT_E_FORMAT, "the label '%.*s' is no class of %s",
                       label_length(&label->text), label->text.s, config);
    return err_set(err, SPT_E_FORMAT, "the label is %s, wanted a class of %s",
                   json_kind_name(label->kind), config);
}

/* What the rows of a configuration hold besides the label; other members are dropped, as TFDS does.
 * A "#" stands for a number. */
static const struct {
    const char *config, *field[8];
} plain_fields[] = {
    {"boolq", {"question", "passage"}},
    {"cb", {"premise", "hypothesis"}},
    {"copa", {"premise", "choice1", "choice2", "question"}},
    {"rte", {"premise", "hypothesis"}},
    {"wic", {"word", "sentence1", "sentence2", "#start1", "#start2", "#end1", "#end2"}},
    {"axb", {"sentence1", "sentence2"}},
    {"axg", {"premise", "hypothesis"}},
};

static spt_status plain_field(const struct json_node *row, const char *name, record *out,
                              spt_err *err)
{
    const struct json_node *n = NULL;
    if (*name == '#') {
        TRY(json_node_need(row, name + 1, JSON_NUMBER, &n, err));
        return record_set_int(out, name + 1, n->number, err);
    }
    TRY(json_node_need(row, name, JSON_STRING, &n, err));
    return record_set_text(out, name, n->text.s, n->text.len, err);
}

static spt_status plain_line(const char *config, const struct json_node *row, record *out,
                             spt_err *err)
{
    const char *const *field = NULL;
    for (size_t i = 0; i < sizeof plain_fields / sizeof *plain_fields; i++)
        if (strcmp(plain_fields[i].config, config) == 0)
            field = plain_fields[i].field;
    if (!field)
        return err_set(err, SPT_E_CONFIG, "no SuperGLUE configuration is named '%s'", config);
    for (; *field; field++)
        TRY(plain_field(row, *field, out, err));
    TRY(plain_field(row, "#idx", out, err));
    return set_label(config, json_node_member(row, "label"), out, err);
}

static spt_status multirc_line(const struct json_node *row, record *out, task_emit_fn emit,
                               void *ctx, spt_err *err)
{
    const struct json_node *idx, *passage, *text, *questions;
    TRY(json_node_need(row, "idx", JSON_NUMBER, &idx, err));
    TRY(json_node_need(row, "passage", JSON_OBJECT, &passage, err));
    TRY(json_node_need(passage, "text", JSON_STRING, &text, err));
    TRY(json_node_need(passage, "questions", JSON_ARRAY, &questions, err));
    for (const struct json_node *q = questions->child; q; q = q->next) {
        const struct json_node *question, *answers, *q_idx;
        TRY(json_node_need(q, "idx", JSON_NUMBER, &q_idx, err));
        TRY(json_node_need(q, "question", JSON_STRING, &question, err));
        TRY(json_node_need(q, "answers", JSON_ARRAY, &answers, err));
        for (const struct json_node *a = answers->child; a; a = a->next) {
            const struct json_node *answer, *a_idx;
            TRY(json_node_need(a, "idx", JSON_NUMBER, &a_idx, err));
            TRY(json_node_need(a, "text", JSON_STRING, &answer, err));
            out->fields = 0;
            TRY(record_set_text(out, "paragraph", text->text.s, text->text.len, err));
            TRY(record_set_text(out, "question", question->text.s, question->text.len, err));
            TRY(record_set_text(out, "answer", answer->text.s, answer->text.len, err));
            TRY(set_label("multirc", json_node_member(a, "label"), out, err));
            TRY(record_set_int(out, "idx/paragraph", idx->number, err));
            TRY(record_set_int(out, "idx/question", q_idx->number, err));
            TRY(record_set_int(out, "idx/answer", a_idx->number, err));
            TRY(emit(ctx, out, err));
        }
    }
    return SPT_OK;
}

static int compare_texts(const void *a, const void *b)
{
    const struct field_text *x = a, *y = b;
    const size_t n = x->len < y->len ? x->len : y->len;
    const int d = n ? memcmp(x->s, y->s, n) : 0;
    return d ? d : (x->len > y->len) - (x->len < y->len);
}

/* Distinct, in order of code points (which is the order of UTF-8 bytes). */
static size_t sort_distinct(struct field_text *t, size_t n)
{
    size_t kept = 0;
    if (n)
        qsort(t, n, sizeof *t, compare_texts);
    for (size_t i = 0; i < n; i++)
        if (!kept || compare_texts(&t[kept - 1], &t[i]) != 0)
            t[kept++] = t[i];
    return kept;
}

/* Characters from .. to, both included. */
static spt_status take_span(const struct field_text *text, int64_t from, int64_t to,
                            struct field_text *out, spt_err *err)
{
    int64_t at = -1;
    const char *start = NULL, *end = NULL;
    for (size_t i = 0; i < text->len; i++) {
        at += ((unsigned char)text->s[i] & 0xc0) != 0x80;
        if (at == from && !start)
            start = text->s + i;
        if (at == to)
            end = text->s + i + 1;
    }
    if (!start || !end || end < start)
        return err_set(err, SPT_E_FORMAT, "the entity %lld..%lld lies outside the passage",
                       (long long)from, (long long)to);
    *out = (struct field_text){start, (size_t)(end - start)};
    return SPT_OK;
}

static spt_status record_line(const struct json_node *row, record *out, task_emit_fn emit,
                              void *ctx, spt_err *err)
{
    const struct json_node *idx, *passage, *text, *spans, *qas;
    TRY(json_node_need(row, "idx", JSON_NUMBER, &idx, err));
    TRY(json_node_need(row, "passage", JSON_OBJECT, &passage, err));
    TRY(json_node_need(passage, "text", JSON_STRING, &text, err));
    TRY(json_node_need(passage, "entities", JSON_ARRAY, &spans, err));
    TRY(json_node_need(row, "qas", JSON_ARRAY, &qas, err));
    size_t entities = 0;
    struct field_text *entity = record_alloc(out, json_node_children(spans) * sizeof *entity);
    if (!entity)
        return err_nomem(err, json_node_children(spans));
    for (const struct json_node *e = spans->child; e; e = e->next) {
        const struct json_node *from, *to;
        TRY(json_node_need(e, "start", JSON_NUMBER, &from, err));
        TRY(json_node_need(e, "end", JSON_NUMBER, &to, err));
        TRY(take_span(&text->text, from->number, to->number, &entity[entities++], err));
    }
    entities = sort_distinct(entity, entities);
    for (const struct json_node *q = qas->child; q; q = q->next) {
        const struct json_node *q_idx, *query, *answers = json_node_member(q, "answers");
        TRY(json_node_need(q, "idx", JSON_NUMBER, &q_idx, err));
        TRY(json_node_need(q, "query", JSON_STRING, &query, err));
        struct field_text *answer = record_alloc(out, json_node_children(answers) * sizeof *answer);
        size_t n = 0;
        if (!answer)
            return err_nomem(err, json_node_children(answers));
        for (const struct json_node *a = answers ? answers->child : NULL; a; a = a->next) {
            const struct json_node *t;
            TRY(json_node_need(a, "text", JSON_STRING, &t, err));
            answer[n++] = t->text;
        }
        n = sort_distinct(answer, n);
        out->fields = 0;
        TRY(record_set_text(out, "passage", text->text.s, text->text.len, err));
        TRY(record_set_text(out, "query", query->text.s, query->text.len, err));
        TRY(record_set_texts(out, "entities", entity, entities, err));
        TRY(record_set_texts(out, "answers", answer, n, err));
        TRY(record_set_int(out, "idx/passage", idx->number, err));
        TRY(record_set_int(out, "idx/query", q_idx->number, err));
        TRY(emit(ctx, out, err));
    }
    return SPT_OK;
}

/* --- WSC ---------------------------------------------------------------------------------- */

static bool contains(const struct field_text *t, const char *s, size_t n)
{
    for (size_t i = 0; n <= t->len && i + n <= t->len; i++)
        if (memcmp(t->s + i, s, n) == 0)
            return true;
    return false;
}

static bool space(char c)
{
    return c == ' ' || (c >= 9 && c <= 13);
}

/* First letter of word `index` of a text split at white space; 0: there is none. */
static char word_initial(const struct field_text *text, int64_t index)
{
    int64_t at = -1;
    for (size_t i = 0; i < text->len; i++)
        if (!space(text->s[i]) && (i == 0 || space(text->s[i - 1])) && ++at == index)
            return text->s[i];
    return 0;
}

/* The reference's repairs of spans that are not found in the text. */
static spt_status repair_span(const struct field_text *text, int64_t *index,
                              struct field_text *span, record *arena, spt_err *err)
{
    static const char *const alone[] = {"Kamenev and Zinoviev", "Kamenev, Zinoviev, and Stalin"};
    if (contains(text, span->s, span->len))
        return SPT_OK;
    for (size_t i = 0; i < 2; i++)
        if (span->len == strlen(alone[i]) && memcmp(span->s, alone[i], span->len) == 0)
            return SPT_OK;
    if (contains(span, "theyscold", 9))
        *index = 10;
    char *s = record_alloc(arena, span->len + 1);
    if (!s)
        return err_nomem(err, span->len);
    memcpy(s, span->s, span->len);
    size_t n = span->len;
    const char initial = word_initial(text, *index);
    const bool letter = n && ((*s | 32) >= 'a' && (*s | 32) <= 'z');
    if (letter && initial >= 'a' && initial <= 'z')
        *s = (char)(*s | 32);
    else if (letter && initial)
        *s = (char)(*s & ~32);
    while (n && s[n - 1] == '.')
        n--;
    for (size_t i = 0; i < n; i++)
        s[i] = s[i] == '\n' ? ' ' : s[i];
    s[n] = 0;
    if (!contains(text, s, n))
        return err_set(err, SPT_E_FORMAT, "the span '%.100s' is not in the text", s);
    *span = (struct field_text){s, n};
    return SPT_OK;
}

static spt_status wsc_line(const struct json_node *row, bool repair, record *out, spt_err *err)
{
    static const char *const text_name[] = {"span1_text", "span2_text"};
    static const char *const index_name[] = {"span1_index", "span2_index"};
    const struct json_node *text, *target, *idx;
    TRY(json_node_need(row, "text", JSON_STRING, &text, err));
    TRY(json_node_need(row, "target", JSON_OBJECT, &target, err));
    TRY(json_node_need(row, "idx", JSON_NUMBER, &idx, err));
    TRY(record_set_text(out, "text", text->text.s, text->text.len, err));
    for (size_t i = 0; i < 2; i++) {
        const struct json_node *span, *at;
        TRY(json_node_need(target, text_name[i], JSON_STRING, &span, err));
        TRY(json_node_need(target, index_name[i], JSON_NUMBER, &at, err));
        struct field_text t = span->text;
        int64_t index = at->number;
        if (repair)
            TRY(repair_span(&text->text, &index, &t, out, err));
        TRY(record_set_text(out, text_name[i], t.s, t.len, err));
        TRY(record_set_int(out, index_name[i], index, err));
    }
    TRY(record_set_int(out, "idx", idx->number, err));
    return set_label("wsc", json_node_member(row, "label"), out, err);
}

static spt_status read_row(const char *config, const struct json_node *row, record *out,
                           task_emit_fn emit, void *ctx, spt_err *err)
{
    if (strcmp(config, "multirc") == 0)
        return multirc_line(row, out, emit, ctx, err);
    if (strcmp(config, "record") == 0)
        return record_line(row, out, emit, ctx, err);
    if (strncmp(config, "wsc", 3) == 0)
        TRY(wsc_line(row, strcmp(config, "wsc.fixed") == 0, out, err));
    else
        TRY(plain_line(config, row, out, err));
    return emit(ctx, out, err);
}

spt_status super_glue_line(const char *config, const char *line, size_t len, task_emit_fn emit,
                           void *ctx, spt_err *err)
{
    record arena = {0}, out = {0};
    struct json_node *row = NULL;
    spt_status st = json_node_read(line, len, &arena, &row, err);
    if (!st)
        st = read_row(config, row, &out, emit, ctx, err);
    record_release(&arena);
    record_release(&out);
    return st;
}

/* --- files -------------------------------------------------------------------------------- */

bool raw_glue_file(const char *group, const char *config, const char *split, buf *out)
{
    static const struct {
        const char *config, *dir;
    } sets[] = {{"boolq", "BoolQ"},     {"cb", "CB"},         {"copa", "COPA"},
                {"multirc", "MultiRC"}, {"record", "ReCoRD"}, {"rte", "RTE"},
                {"wic", "WiC"},         {"wsc", "WSC"},       {"wsc.fixed", "WSC"}};
    if (strcmp(group, "super_glue") == 0) {
        if (strncmp(config, "ax", 2) == 0) {
            buf_addf(out, "AX-%s/AX-%s.jsonl", config + 2, config + 2);
            return true;
        }
        for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
            if (strcmp(sets[i].config, config) != 0)
                continue;
            buf_addf(out, "%s/%s.jsonl", sets[i].dir,
                     strcmp(split, "validation") == 0 ? "val" : split);
            return true;
        }
        return false;
    }
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        const bool mnli = strncmp(config, "mnli", 4) == 0 && strcmp(tables[i].config, "mnli") == 0;
        if (!mnli && strcmp(tables[i].config, config) != 0)
            continue;
        const bool validation = strncmp(split, "validation", 10) == 0;
        const char *tail = mnli && config[4]                ? config + 4
                           : validation                     ? split + 10
                           : strncmp(split, "test", 4) == 0 ? split + 4
                                                            : "";
        buf_addf(out, "%s/%s%s.tsv", tables[i].dir,
                 validation                       ? "dev"
                 : strncmp(split, "test", 4) == 0 ? "test"
                                                  : split,
                 tail);
        return true;
    }
    return false;
}

struct reading {
    const char *config, *path;
    glue_tsv *table;
    record row;
    task_emit_fn emit;
    void *ctx;
};

static spt_status read_line(struct reading *r, const char *line, size_t len, spt_err *err)
{
    if (!r->table)
        return len ? super_glue_line(r->config, line, len, r->emit, r->ctx, err) : SPT_OK;
    bool have;
    TRY(glue_tsv_line(r->table, line, len, &r->row, &have, err));
    return have ? r->emit(r->ctx, &r->row, err) : SPT_OK;
}

static spt_status read_lines(struct reading *r, lines_source_fn source, void *ctx, spt_err *err)
{
    line_reader *lines;
    TRY(line_reader_new(source, ctx, MAX_LINE, &lines, err));
    for (;;) {
        const char *line;
        size_t len;
        spt_status st = line_reader_next(lines, &line, &len, err);
        const bool end = !st && !line;
        if (!st && line)
            st = read_line(r, line, len, err);
        if (st)
            line_reader_blame(lines, r->path, st, err);
        if (st || end) {
            line_reader_free(lines);
            return st;
        }
    }
}

spt_status raw_glue_stream(const char *group, const char *config, const char *split,
                           const char *path, lines_source_fn source, void *source_ctx,
                           task_emit_fn emit, void *ctx, spt_err *err)
{
    struct reading r = {.config = config, .path = path, .emit = emit, .ctx = ctx};
    spt_status st = SPT_OK;
    if (strcmp(group, "glue") == 0)
        st = glue_tsv_new(config, split, &r.table, err);
    if (!st)
        st = read_lines(&r, source, source_ctx, err);
    glue_tsv_free(r.table);
    record_release(&r.row);
    return st;
}

static spt_status file_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    return fs_stream_read(ctx, p, n, got, err);
}

spt_status raw_glue_read(const char *group, const char *config, const char *split, const char *path,
                         task_emit_fn emit, void *ctx, spt_err *err)
{
    fs_stream *s = NULL;
    TRY(fs_stream_open(path, &s, err));
    const spt_status st =
        raw_glue_stream(group, config, split, path, file_source, s, emit, ctx, err);
    fs_stream_close(s);
    return st;
}
