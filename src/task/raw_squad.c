/* SQuAD is one JSON object of 5 to 42 MB. The articles, which are the elements of "data", are cut
 * out by a small scanner that follows only brackets and strings, and parsed one by one; what
 * remains, with 0 in the place of each article, is parsed at the end, so that nothing goes
 * unchecked. */
#include <string.h>

#include "base/mem.h"
#include "task/json_node.h"
#include "task/raw_qa.h"

enum { MAX_ARTICLE = 64 << 20, MAX_SKELETON = 1 << 20, BLOCK = 1 << 16 };

struct scanner {
    bool v2;
    raw_qa_fn emit;
    void *ctx;
    record arena, out;
    buf article, skeleton, word; /* word: the string read last at depth 1 */
    int depth;
    bool in_string, escaped, in_data;
    uint64_t articles;
};

/* --- an article ------------------------------------------------------------------------------- */

/* texts and starts of a list of answers, as "<prefix>/text" and "<prefix>/answer_start" */
static spt_status set_answers(const struct json_node *list, const char *const name[2],
                              record *arena, record *out, spt_err *err)
{
    const size_t n = json_node_children(list);
    struct field_text *text = record_alloc(arena, (n + 1) * sizeof *text);
    int64_t *start = record_alloc(arena, (n + 1) * sizeof *start);
    size_t i = 0;
    if (!text || !start)
        return err_nomem(err, n);
    for (const struct json_node *a = list ? list->child : NULL; a; a = a->next, i++) {
        const struct json_node *t, *s;
        TRY(json_node_need(a, "text", JSON_STRING, &t, err));
        TRY(json_node_need(a, "answer_start", JSON_NUMBER, &s, err));
        text[i] = t->text;
        start[i] = s->number;
    }
    TRY(record_set_texts(out, name[0], text, n, err));
    return record_set_ints(out, name[1], start, n, err);
}

static spt_status set_text(record *out, const char *name, const struct json_node *n, spt_err *err)
{
    return record_set_text(out, name, n->text.s, n->text.len, err);
}

static spt_status read_question(struct scanner *s, const struct json_node *title,
                                const struct json_node *context, const struct json_node *qa,
                                spt_err *err)
{
    static const char *const answer_names[] = {"answers/text", "answers/answer_start"};
    static const char *const plausible_names[] = {"plausible_answers/text",
                                                  "plausible_answers/answer_start"};
    const struct json_node *id, *question, *answers;
    record *out = &s->out;
    record_clear(out);
    TRY(json_node_need(qa, "id", JSON_STRING, &id, err));
    TRY(json_node_need(qa, "question", JSON_STRING, &question, err));
    TRY(json_node_need(qa, "answers", JSON_ARRAY, &answers, err));
    TRY(title ? set_text(out, "title", title, err) : record_set_str(out, "title", "", err));
    TRY(set_text(out, "context", context, err));
    TRY(set_text(out, "question", question, err));
    TRY(set_text(out, "id", id, err));
    TRY(set_answers(answers, answer_names, &s->arena, out, err));
    if (s->v2) {
        const struct json_node *impossible = json_node_member(qa, "is_impossible");
        const struct json_node *plausible = json_node_member(qa, "plausible_answers");
        if (!impossible || (impossible->kind != JSON_TRUE && impossible->kind != JSON_FALSE))
            return err_set(err, SPT_E_FORMAT,
                           "question %.60s has no is_impossible: this is no SQuAD 2.0", id->text.s);
        TRY(record_set_int(out, "is_impossible", impossible->kind == JSON_TRUE, err));
        TRY(set_answers(plausible, plausible_names, &s->arena, out, err));
    }
    return s->emit(s->ctx, id->text.s, out, err);
}

static spt_status read_article(struct scanner *s, spt_err *err)
{
    struct json_node *article = NULL;
    const struct json_node *paragraphs;
    TRY(buf_status(&s->article, "article", err));
    record_clear(&s->arena);
    TRY(json_node_read(buf_str(&s->article), s->article.len, &s->arena, &article, err));
    const struct json_node *title = json_node_member(article, "title");
    if (title && title->kind != JSON_STRING)
        title = NULL;
    TRY(json_node_need(article, "paragraphs", JSON_ARRAY, &paragraphs, err));
    for (const struct json_node *p = paragraphs->child; p; p = p->next) {
        const struct json_node *context, *qas;
        TRY(json_node_need(p, "context", JSON_STRING, &context, err));
        TRY(json_node_need(p, "qas", JSON_ARRAY, &qas, err));
        for (const struct json_node *qa = qas->child; qa; qa = qa->next)
            TRY(read_question(s, title, context, qa, err));
    }
    return SPT_OK;
}

/* --- the scanner ------------------------------------------------------------------------------ */

static spt_status end_article(struct scanner *s, spt_err *err)
{
    const spt_status st = read_article(s, err);
    s->articles++;
    buf_clear(&s->article);
    buf_addc(&s->skeleton, '0');
    return st ? err_wrap(err, st, "article %llu", (unsigned long long)s->articles) : SPT_OK;
}

/* Depth 1: the object; 2: the list under "data"; deeper: an article. */
static spt_status take(struct scanner *s, char c, spt_err *err)
{
    const bool inside = s->in_data && (s->depth > 2 || (s->depth == 2 && (c == '{' || c == '[')));
    buf_addc(inside ? &s->article : &s->skeleton, c);
    if (s->in_string) {
        if (s->depth == 1 && (c != '"' || s->escaped) && s->word.len < 64)
            buf_addc(&s->word, c);
        s->in_string = c != '"' || s->escaped;
        s->escaped = c == '\\' && !s->escaped;
    } else if (c == '"') {
        s->in_string = true;
        s->escaped = false;
        buf_clear(&s->word);
    } else if (c == '{' || c == '[') {
        if (s->depth == 1)
            s->in_data = c == '[' && strcmp(buf_str(&s->word), "data") == 0;
        s->depth++;
    } else if (c == '}' || c == ']') {
        s->depth--;
        if (inside && s->depth == 2)
            return end_article(s, err);
        if (s->depth < 2)
            s->in_data = false;
    }
    return SPT_OK;
}

/* The long way through strings without a call per character. */
static size_t plain_run(const struct scanner *s, const char *p, size_t n)
{
    size_t i = 0;
    if (!s->in_string || s->escaped || !s->in_data || s->depth < 3)
        return 0;
    while (i < n && p[i] != '"' && p[i] != '\\')
        i++;
    return i;
}

static spt_status check_skeleton(struct scanner *s, spt_err *err)
{
    struct json_node *top = NULL;
    const struct json_node *data;
    TRY(buf_status(&s->skeleton, "what is not in the articles", err));
    record_clear(&s->arena);
    TRY(json_node_read(buf_str(&s->skeleton), s->skeleton.len, &s->arena, &top, err));
    return json_node_need(top, "data", JSON_ARRAY, &data, err);
}

static spt_status scan(struct scanner *s, lines_source_fn source, void *source_ctx, spt_err *err)
{
    char *block = mem_alloc(BLOCK, 1);
    if (!block)
        return err_nomem(err, BLOCK);
    spt_status st = SPT_OK;
    for (size_t got = 1; got && !st;) {
        st = source(source_ctx, block, BLOCK, &got, err);
        for (size_t i = 0; i < got && !st;) {
            const size_t n = plain_run(s, block + i, got - i);
            buf_add(&s->article, block + i, n);
            i += n;
            if (i < got)
                st = take(s, block[i++], err);
        }
    }
    mem_free(block);
    return st ? st : check_skeleton(s, err);
}

spt_status raw_squad_stream(bool v2, const char *path, lines_source_fn source, void *source_ctx,
                            raw_qa_fn emit, void *ctx, spt_err *err)
{
    struct scanner s = {.v2 = v2, .emit = emit, .ctx = ctx};
    buf_init(&s.article, MAX_ARTICLE);
    buf_init(&s.skeleton, MAX_SKELETON);
    buf_init(&s.word, 64);
    spt_status st = scan(&s, source, source_ctx, err);
    if (st)
        err_wrap(err, st, "%s", path);
    buf_release(&s.article);
    buf_release(&s.skeleton);
    buf_release(&s.word);
    record_release(&s.arena);
    record_release(&s.out);
    return st;
}
