/* MRQA 2019: a header line, then one paragraph a line with its questions. Texts are stripped as
 * Python's str.strip does, because TFDS does so. */
#include <stdio.h>
#include <string.h>

#include "task/json_node.h"
#include "task/raw_qa.h"

enum { MAX_LINE = 256 << 20, MAX_SUBSET = 100, MAX_KEY = 4096 };

struct mrqa {
    const char *split;
    char subset[MAX_SUBSET];
    raw_qa_fn emit;
    void *ctx;
    record arena, out;
};

/* [["token", 0], ["next", 6]] */
static spt_status set_tokens(struct mrqa *m, const struct json_node *list,
                             const char *const name[2], spt_err *err)
{
    const size_t n = json_node_children(list);
    struct field_text *token = record_alloc(&m->arena, (n + 1) * sizeof *token);
    int64_t *offset = record_alloc(&m->arena, (n + 1) * sizeof *offset);
    size_t i = 0;
    if (!token || !offset)
        return err_nomem(err, n);
    for (const struct json_node *t = list->child; t; t = t->next, i++) {
        const struct json_node *text = t->child, *at = text ? text->next : NULL;
        if (t->kind != JSON_ARRAY || !at || text->kind != JSON_STRING || at->kind != JSON_NUMBER ||
            !at->whole)
            return err_set(err, SPT_E_FORMAT, "token %zu is no pair of text and offset", i);
        token[i] = text->text;
        offset[i] = at->number;
    }
    TRY(record_set_texts(&m->out, name[0], token, n, err));
    return record_set_ints(&m->out, name[1], offset, n, err);
}

/* Spans of all answers one behind the other, and how many each has: [[[1, 2], [5, 6]], ...]. */
static spt_status set_spans(struct mrqa *m, const struct json_node *answers, const char *key,
                            const char *const name[4], spt_err *err)
{
    const size_t rows = json_node_children(answers);
    size_t total = 0, at = 0, row = 0;
    for (const struct json_node *a = answers->child; a; a = a->next)
        total += json_node_children(json_node_member(a, key));
    int64_t *start = record_alloc(&m->arena, (total + 1) * sizeof *start);
    int64_t *end = record_alloc(&m->arena, (total + 1) * sizeof *end);
    int64_t *length = record_alloc(&m->arena, (rows + 1) * sizeof *length);
    if (!start || !end || !length)
        return err_nomem(err, total);
    for (const struct json_node *a = answers->child; a; a = a->next, row++) {
        const struct json_node *spans;
        TRY(json_node_need(a, key, JSON_ARRAY, &spans, err));
        length[row] = (int64_t)json_node_children(spans);
        for (const struct json_node *s = spans->child; s; s = s->next, at++) {
            const struct json_node *from = s->child, *to = from ? from->next : NULL;
            if (s->kind != JSON_ARRAY || !to || !from->whole || !to->whole)
                return err_set(err, SPT_E_FORMAT, "'%s' is no list of pairs of numbers", key);
            start[at] = from->number;
            end[at] = to->number;
        }
    }
    TRY(record_set_ints(&m->out, name[0], start, total, err));
    TRY(record_set_ints(&m->out, name[1], length, rows, err));
    TRY(record_set_ints(&m->out, name[2], end, total, err));
    return record_set_ints(&m->out, name[3], length, rows, err);
}

static spt_status set_detected(struct mrqa *m, const struct json_node *answers, spt_err *err)
{
#define SPANS(kind)                                                                                \
    {                                                                                              \
        "detected_answers/" kind "/start/ragged_flat_values",                                      \
            "detected_answers/" kind "/start/ragged_row_lengths_0",                                \
            "detected_answers/" kind "/end/ragged_flat_values",                                    \
            "detected_answers/" kind "/end/ragged_row_lengths_0"                                   \
    }
    static const char *const chars[] = SPANS("char_spans"), *const tokens[] = SPANS("token_spans");
#undef SPANS
    const size_t n = json_node_children(answers);
    struct field_text *text = record_alloc(&m->arena, (n + 1) * sizeof *text);
    size_t i = 0;
    if (!text)
        return err_nomem(err, n);
    for (const struct json_node *a = answers->child; a; a = a->next) {
        const struct json_node *t;
        TRY(json_node_need(a, "text", JSON_STRING, &t, err));
        text[i++] = text_strip(t->text.s, t->text.len);
    }
    TRY(record_set_texts(&m->out, "detected_answers/text", text, n, err));
    TRY(set_spans(m, answers, "char_spans", chars, err));
    return set_spans(m, answers, "token_spans", tokens, err);
}

static spt_status set_answers(struct mrqa *m, const struct json_node *answers, spt_err *err)
{
    const size_t n = json_node_children(answers);
    struct field_text *text = record_alloc(&m->arena, (n + 1) * sizeof *text);
    size_t i = 0;
    if (!text)
        return err_nomem(err, n);
    for (const struct json_node *a = answers->child; a; a = a->next) {
        if (a->kind != JSON_STRING)
            return err_set(err, SPT_E_FORMAT, "answer %zu is %s, wanted a string", i,
                           json_kind_name(a->kind));
        text[i++] = a->text;
    }
    return record_set_texts(&m->out, "answers", text, n, err);
}

static spt_status set_stripped(struct mrqa *m, const char *name, const struct json_node *n,
                               spt_err *err)
{
    const struct field_text t = text_strip(n->text.s, n->text.len);
    return record_set_text(&m->out, name, t.s, t.len, err);
}

static spt_status read_question(struct mrqa *m, const struct json_node *context,
                                const struct json_node *context_tokens, const struct json_node *qa,
                                spt_err *err)
{
    static const char *const of_context[] = {"context_tokens/tokens", "context_tokens/offsets"};
    static const char *const of_question[] = {"question_tokens/tokens", "question_tokens/offsets"};
    const struct json_node *qid, *question, *tokens, *detected, *answers;
    char key[MAX_KEY];
    record_clear(&m->out);
    TRY(json_node_need(qa, "qid", JSON_STRING, &qid, err));
    TRY(json_node_need(qa, "question", JSON_STRING, &question, err));
    TRY(json_node_need(qa, "question_tokens", JSON_ARRAY, &tokens, err));
    TRY(json_node_need(qa, "detected_answers", JSON_ARRAY, &detected, err));
    TRY(json_node_need(qa, "answers", JSON_ARRAY, &answers, err));
    TRY(record_set_str(&m->out, "subset", m->subset, err));
    TRY(set_stripped(m, "context", context, err));
    TRY(set_tokens(m, context_tokens, of_context, err));
    TRY(record_set_text(&m->out, "qid", qid->text.s, qid->text.len, err));
    TRY(set_stripped(m, "question", question, err));
    TRY(set_tokens(m, tokens, of_question, err));
    TRY(set_detected(m, detected, err));
    TRY(set_answers(m, answers, err));
    const int n = snprintf(key, sizeof key, "%s+%s_%s", m->split, m->subset, qid->text.s);
    if (n < 0 || (size_t)n >= sizeof key)
        return err_set(err, SPT_E_FORMAT, "a question id of %zu bytes", qid->text.len);
    return m->emit(m->ctx, key, &m->out, err);
}

static spt_status read_header(struct mrqa *m, const struct json_node *row, spt_err *err)
{
    const struct json_node *header, *dataset;
    TRY(json_node_need(row, "header", JSON_OBJECT, &header, err));
    TRY(json_node_need(header, "dataset", JSON_STRING, &dataset, err));
    if (dataset->text.len >= sizeof m->subset)
        return err_set(err, SPT_E_FORMAT, "a data set name of %zu bytes", dataset->text.len);
    memcpy(m->subset, dataset->text.s, dataset->text.len + 1);
    return SPT_OK;
}

static spt_status read_line(struct mrqa *m, bool first, const char *line, size_t len, spt_err *err)
{
    struct json_node *row = NULL;
    const struct json_node *context, *tokens, *qas;
    record_clear(&m->arena);
    TRY(json_node_read(line, len, &m->arena, &row, err));
    if (first)
        return read_header(m, row, err);
    TRY(json_node_need(row, "context", JSON_STRING, &context, err));
    TRY(json_node_need(row, "context_tokens", JSON_ARRAY, &tokens, err));
    TRY(json_node_need(row, "qas", JSON_ARRAY, &qas, err));
    for (const struct json_node *qa = qas->child; qa; qa = qa->next)
        TRY(read_question(m, context, tokens, qa, err));
    return SPT_OK;
}

spt_status raw_mrqa_stream(const char *split, const char *path, lines_source_fn source,
                           void *source_ctx, raw_qa_fn emit, void *ctx, spt_err *err)
{
    struct mrqa m = {.split = split, .emit = emit, .ctx = ctx};
    line_reader *lines;
    TRY(line_reader_new(source, source_ctx, MAX_LINE, &lines, err));
    spt_status st;
    for (bool first = true;; first = false) {
        const char *line;
        size_t len;
        st = line_reader_next(lines, &line, &len, err);
        if (st || !line)
            break;
        st = read_line(&m, first, line, len, err);
        if (st)
            break;
    }
    if (st)
        line_reader_blame(lines, path, st, err);
    line_reader_free(lines);
    record_release(&m.arena);
    record_release(&m.out);
    return st;
}
