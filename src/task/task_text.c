/* Raw examples -> texts, as the reference writes them (spec/data.md 2). Texts are joined with
 * single spaces and nothing is trimmed unless a format collapses white space. */
#include "task/task.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/digest.h"
#include "task/user_internal.h"
#include "text/unicode.h"
#include "text/utf8.h"

enum { MAX_TEXT = 64 << 20, MAX_CANDIDATES = 1 << 20 };

/* --- characters --------------------------------------------------------------------------- */

/* RE2's \s: five ASCII bytes, not vertical tab, nothing beyond ASCII. */
static bool white(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool punctuation(char c)
{
    return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) ||
           (c >= 0x7b && c <= 0x7e);
}

void text_collapse(buf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!white(s[i])) {
            size_t n = 1;
            while (i + n < len && !white(s[i + n]))
                n++;
            buf_add(out, s + i, n);
            i += n - 1;
        } else if (i == 0 || !white(s[i - 1])) {
            buf_addc(out, ' ');
        }
    }
}

void text_pad_punctuation(buf *out, const char *s, size_t len)
{
    bool space = false; /* the output ends with white space that came from here */
    for (size_t i = 0; i < len; i++) {
        const bool mark = punctuation(s[i]);
        if (mark || white(s[i])) {
            if (!space)
                buf_addc(out, ' ');
            space = true;
        }
        if (mark) {
            buf_addc(out, s[i]);
            buf_addc(out, ' ');
        } else if (!white(s[i])) {
            buf_addc(out, s[i]);
            space = false;
        }
    }
}

struct field_text text_strip(const char *s, size_t len)
{
    const char *p = s, *end = s + len;
    uint32_t c;
    for (size_t n; p < end && (n = utf8_decode(p, end, &c)) && unicode_is_space(c); p += n)
        ;
    while (end > p) {
        const char *last = end - 1;
        while (last > p && ((unsigned char)*last & 0xc0) == 0x80)
            last--;
        if (!utf8_decode(last, end, &c) || !unicode_is_space(c))
            break;
        end = last;
    }
    return (struct field_text){p, (size_t)(end - p)};
}

void text_drop_first(const char **s, size_t *len)
{
    const char *space = *len ? memchr(*s, ' ', *len) : NULL;
    if (!space)
        return;
    *len -= (size_t)(space + 1 - *s);
    *s = space + 1;
}

static void add_field(buf *out, const struct field_text *t)
{
    buf_add(out, t->s, t->len);
}

/* --- targets ------------------------------------------------------------------------------ */

static const char *const *task_classes(const struct task *t)
{
    return t->verbalizer[0] ? t->verbalizer : t->config ? t->config->classes : NULL;
}

static size_t class_count(const char *const *classes)
{
    size_t n = 0;
    while (classes && n < TASK_MAX_CLASSES && classes[n])
        n++;
    return n;
}

static spt_status set_class(const struct task *t, const record *raw, const char *none, record *out,
                            spt_err *err)
{
    const char *const *classes = task_classes(t);
    int64_t label;
    TRY(record_int(raw, "label", &label, err));
    if (label == -1)
        return record_set_str(out, "targets", none, err);
    if (label < 0 || label >= (int64_t)class_count(classes))
        return err_set(err, SPT_E_FORMAT, "task %s: label %lld, the data set has %zu classes",
                       t->name, (long long)label, class_count(classes));
    return record_set_str(out, "targets", classes[label], err);
}

static spt_status pass(const record *raw, const char *from, const char *to, record *out,
                       spt_err *err)
{
    const struct record_field *f = record_find(raw, from);
    return f ? record_copy_field(out, to, f, err) : SPT_OK;
}

/* --- formats ------------------------------------------------------------------------------ */

/* Every <br> becomes a space, then <b> and </b> disappear, in the joined text. */
static void strip_tags(buf *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        if (len - i >= 4 && memcmp(s + i, "<br>", 4) == 0) {
            buf_addc(out, ' ');
            i += 4;
        } else if (len - i >= 3 && memcmp(s + i, "<b>", 3) == 0) {
            i += 3;
        } else if (len - i >= 4 && memcmp(s + i, "</b>", 4) == 0) {
            i += 4;
        } else {
            buf_addc(out, s[i++]);
        }
    }
}

static spt_status join_fields(const struct task *t, const record *raw, buf *out, spt_err *err)
{
    const struct task_config *k = t->config;
    buf_adds(out, k->prefix);
    for (size_t i = 0; k->field[i]; i++) {
        struct field_text v;
        TRY(record_text(raw, k->field[i], &v, err));
        buf_addf(out, " %s: ", k->shown[i] ? k->shown[i] : k->field[i]);
        add_field(out, &v);
    }
    return SPT_OK;
}

static spt_status format_fields(const struct task *t, const record *raw, buf *text, record *out,
                                spt_err *err)
{
    TRY(join_fields(t, raw, text, err));
    if (strcmp(t->config->name, "multirc") == 0) {
        buf clean;
        buf_init(&clean, MAX_TEXT);
        strip_tags(&clean, buf_str(text), text->len);
        const spt_status st = record_set_buf(out, "inputs", &clean, err);
        buf_release(&clean);
        TRY(st);
        TRY(pass(raw, "idx/paragraph", "idx/paragraph", out, err));
        TRY(pass(raw, "idx/question", "idx/question", out, err));
        TRY(pass(raw, "idx/answer", "idx/answer", out, err));
    } else {
        TRY(record_set_buf(out, "inputs", text, err));
        TRY(pass(raw, "idx", "idx", out, err));
    }
    return set_class(t, raw, "<unk>", out, err);
}

/* Scores in steps of 0.2, rounded in float32, half to even. */
static spt_status format_stsb(const struct task *t, const record *raw, buf *text, record *out,
                              spt_err *err)
{
    double label;
    char target[32];
    TRY(join_fields(t, raw, text, err));
    TRY(record_float(raw, "label", &label, err));
    const float five = (float)label * 5.0f;
    snprintf(target, sizeof target, "%.1f", (double)(rintf(five) / 5.0f));
    TRY(record_set_buf(out, "inputs", text, err));
    TRY(record_set_str(out, "targets", target, err));
    return pass(raw, "idx", "idx", out, err);
}

/* "\n@highlight\n" becomes ". ", or a space behind . ? ! " ' */
static void clean_passage(buf *out, const char *s, size_t len)
{
    static const char mark[] = "\n@highlight\n";
    const size_t n = sizeof mark - 1;
    for (size_t i = 0; i < len;) {
        if (len - i < n || memcmp(s + i, mark, n) != 0) {
            buf_addc(out, s[i++]);
            continue;
        }
        buf_adds(out, i > 0 && strchr(".?!\"'", s[i - 1]) && s[i - 1] ? " " : ". ");
        i += n;
    }
}

static spt_status record_inputs(const record *raw, buf *text, spt_err *err)
{
    struct field_text query, passage;
    const struct field_text *entity;
    size_t n;
    TRY(record_text(raw, "query", &query, err));
    TRY(record_text(raw, "passage", &passage, err));
    TRY(record_texts(raw, "entities", &entity, &n, err));
    buf_adds(text, "record query: ");
    add_field(text, &query);
    buf_adds(text, " entities: ");
    for (size_t i = 0; i < n; i++) {
        if (i)
            buf_adds(text, ", ");
        add_field(text, &entity[i]);
    }
    buf_adds(text, " passage: ");
    clean_passage(text, passage.s, passage.len);
    return SPT_OK;
}

static spt_status pass_record(const record *raw, record *out, spt_err *err)
{
    TRY(pass(raw, "idx/passage", "idx/passage", out, err));
    return pass(raw, "idx/query", "idx/query", out, err);
}

struct emitter {
    const struct task *t;
    int64_t position;
    task_emit_fn emit;
    void *ctx;
};

static spt_status finish(const struct emitter *e, record *out, spt_err *err);

/* One example per answer. */
static spt_status format_record(const struct emitter *e, const record *raw, buf *text, record *out,
                                spt_err *err)
{
    const struct field_text *answer;
    size_t n;
    TRY(record_inputs(raw, text, err));
    TRY(record_texts(raw, "answers", &answer, &n, err));
    static const struct field_text none = {"<unk>", 5};
    for (size_t i = 0; i < (n ? n : 1); i++) {
        const struct field_text *a = n ? &answer[i] : &none;
        record_clear(out);
        TRY(pass_record(raw, out, err));
        TRY(record_set_buf(out, "inputs", text, err));
        TRY(record_set_text(out, "targets", a->s, a->len, err));
        TRY(record_set_texts(out, "answers", answer, n, err));
        TRY(finish(e, out, err));
    }
    return SPT_OK;
}

static spt_status format_record_first(const record *raw, buf *text, record *out, spt_err *err)
{
    const struct field_text *answer, *entity;
    size_t n, entities;
    TRY(record_inputs(raw, text, err));
    TRY(record_texts(raw, "answers", &answer, &n, err));
    TRY(record_texts(raw, "entities", &entity, &entities, err));
    if (!n)
        return err_set(err, SPT_E_FORMAT, "the query has no answer, which this format needs");
    TRY(pass_record(raw, out, err));
    TRY(record_set_buf(out, "inputs", text, err));
    TRY(record_set_text(out, "targets", answer[0].s, answer[0].len, err));
    TRY(record_set_texts(out, "answers", answer, n, err));
    return record_set_texts(out, "entities", entity, entities, err);
}

/* --- pronouns ----------------------------------------------------------------------------- */

static const uint8_t wsc_him[SHA256_SIZE] = {
    0xff, 0x12, 0xfe, 0xa0, 0xd9, 0xc3, 0x8a, 0x35, 0xd4, 0x4c, 0xfb, 0x4e, 0x3c, 0xc0, 0xed, 0x92,
    0x36, 0xd1, 0x11, 0x7f, 0x5e, 0xe3, 0xdd, 0x2c, 0x57, 0xe5, 0xd2, 0x36, 0x8b, 0x6e, 0xda, 0x9a};
static const uint8_t wsc_use[SHA256_SIZE] = {
    0x22, 0x54, 0x04, 0x0d, 0x40, 0xa2, 0x43, 0x56, 0xfc, 0x41, 0xd8, 0x0d, 0x35, 0x06, 0xfe, 0xb8,
    0x08, 0x2d, 0x27, 0x1c, 0xa5, 0xf2, 0xaa, 0x47, 0x46, 0x79, 0x43, 0x3a, 0xa9, 0x29, 0x3d, 0x38};

static const char *find(const char *s, size_t len, const char *what, size_t n)
{
    for (size_t i = 0; n <= len && i + n <= len; i++)
        if (memcmp(s + i, what, n) == 0)
            return s + i;
    return NULL;
}

static bool replace_once(buf *out, const struct field_text *text, size_t len, const char *what,
                         const char *with)
{
    const char *at = find(text->s, len, what, strlen(what));
    if (!at)
        return false;
    buf_add(out, text->s, (size_t)(at - text->s));
    buf_adds(out, with);
    at += strlen(what);
    buf_add(out, at, (size_t)(text->s + len - at));
    return true;
}

/* The text with the pronoun's word replaced by X. Two texts of the data set are broken and known by
 * their hash. */
static spt_status mark_word(const struct field_text *text, const struct field_text *span,
                            int64_t index, buf *out, spt_err *err)
{
    uint8_t digest[SHA256_SIZE];
    sha256_of(text->s, text->len, digest);
    if (memcmp(digest, wsc_him, sizeof digest) == 0 &&
        replace_once(out, text, text->len - 1, "him,\"", "X ,\""))
        return SPT_OK;
    if (memcmp(digest, wsc_use, sizeof digest) == 0 &&
        replace_once(out, text, text->len, "use it ,", "use X ,"))
        return SPT_OK;
    const char *s = text->s, *end = s + text->len;
    for (int64_t i = 0; index > 0; i++) {
        const char *space = memchr(s, ' ', (size_t)(end - s));
        const char *stop = space ? space : end;
        if (i == index) {
            if ((size_t)(stop - s) != span->len || memcmp(s, span->s, span->len) != 0)
                break;
            buf_add(out, text->s, (size_t)(s - text->s));
            buf_addc(out, 'X');
            buf_add(out, stop, (size_t)(end - stop));
            return SPT_OK;
        }
        if (!space)
            break;
        s = space + 1;
    }
    return err_set(err, SPT_E_FORMAT, "word %lld of the text is not the pronoun '%s'",
                   (long long)index, span->s);
}

/* Every " X " becomes " *pronoun* ". */
static void star_marks(const buf *marked, const struct field_text *span, buf *out)
{
    const char *s = buf_str(marked), *end = s + marked->len;
    while (s < end) {
        if (end - s >= 3 && memcmp(s, " X ", 3) == 0) {
            buf_adds(out, " *");
            add_field(out, span);
            buf_adds(out, "* ");
            s += 3;
        } else {
            buf_addc(out, *s++);
        }
    }
}

static spt_status format_wsc(const record *raw, buf *text, record *out, spt_err *err)
{
    struct field_text all, span1, span2;
    int64_t index;
    buf marked;
    buf_init(&marked, MAX_TEXT);
    spt_status st = record_text(raw, "text", &all, err);
    if (!st)
        st = record_text(raw, "span1_text", &span1, err);
    if (!st)
        st = record_text(raw, "span2_text", &span2, err);
    if (!st)
        st = record_int(raw, "span2_index", &index, err);
    if (!st)
        st = mark_word(&all, &span2, index, &marked, err);
    if (!st) {
        buf_adds(text, "wsc: ");
        star_marks(&marked, &span2, text);
        st = record_set_buf(out, "inputs", text, err);
    }
    buf_release(&marked);
    TRY(st);
    TRY(record_set_text(out, "targets", span1.s, span1.len, err));
    TRY(record_find(raw, "label") ? pass(raw, "label", "label", out, err)
                                  : record_set_int(out, "label", 0, err));
    return pass(raw, "idx", "idx", out, err);
}

/* The first " pronoun" that is followed by a space, a point or a comma gets stars. */
static spt_status format_dpr(const record *raw, buf *text, record *out, spt_err *err)
{
    struct field_text sentence, pronoun;
    const struct field_text *candidate;
    size_t n;
    int64_t label;
    TRY(record_text(raw, "sentence", &sentence, err));
    TRY(record_text(raw, "pronoun", &pronoun, err));
    TRY(record_texts(raw, "candidates", &candidate, &n, err));
    TRY(record_int(raw, "label", &label, err));
    if (label < 0 || label >= (int64_t)n)
        return err_set(err, SPT_E_FORMAT, "label %lld, there are %zu candidates", (long long)label,
                       n);
    buf_adds(text, "wsc: ");
    const size_t p = pronoun.len;
    for (size_t i = 0; i < sentence.len; i++) {
        const char *s = sentence.s + i;
        if (sentence.len - i >= p + 2 && *s == ' ' && memcmp(s + 1, pronoun.s, p) == 0 &&
            (s[p + 1] == ' ' || s[p + 1] == '.' || s[p + 1] == ',')) {
            buf_adds(text, " *");
            add_field(text, &pronoun);
            buf_addc(text, '*');
            buf_add(text, s + p + 1, sentence.len - i - p - 1);
            break;
        }
        buf_addc(text, *s);
    }
    TRY(record_set_buf(out, "inputs", text, err));
    return record_set_text(out, "targets", candidate[label].s, candidate[label].len, err);
}

/* --- questions ---------------------------------------------------------------------------- */

static spt_status set_padded(record *out, const char *name, const struct field_text *v,
                             spt_err *err)
{
    buf b;
    buf_init(&b, MAX_TEXT);
    text_pad_punctuation(&b, v->s, v->len);
    const spt_status st = record_set_buf(out, name, &b, err);
    buf_release(&b);
    return st;
}

static spt_status set_padded_list(record *out, const char *name, const struct field_text *v,
                                  size_t n, spt_err *err)
{
    struct field_text *padded = record_alloc(out, n * sizeof *padded);
    if (!padded)
        return err_nomem(err, n * sizeof *padded);
    for (size_t i = 0; i < n; i++) {
        buf b;
        buf_init(&b, MAX_TEXT);
        text_pad_punctuation(&b, v[i].s, v[i].len);
        char *kept = b.st ? NULL : record_alloc(out, b.len + 1);
        if (kept)
            memcpy(kept, buf_str(&b), b.len + 1);
        padded[i] = (struct field_text){kept, b.len};
        buf_release(&b);
        if (!kept)
            return err_nomem(err, v[i].len);
    }
    return record_set_texts(out, name, padded, n, err);
}

/* inputs = collapse(join([name,] "question:", q, "context:", c)) from the padded fields. */
static spt_status set_question_inputs(const char *name, buf *text, record *out, spt_err *err)
{
    struct field_text question, context;
    TRY(record_text(out, "question", &question, err));
    TRY(record_text(out, "context", &context, err));
    buf joined;
    buf_init(&joined, MAX_TEXT);
    if (name)
        buf_addf(&joined, "%s ", name);
    buf_adds(&joined, "question: ");
    add_field(&joined, &question);
    buf_adds(&joined, " context: ");
    add_field(&joined, &context);
    text_collapse(text, buf_str(&joined), joined.len);
    spt_status st = buf_status(&joined, "inputs", err);
    buf_release(&joined);
    if (!st)
        st = record_set_buf(out, "inputs", text, err);
    return st;
}

static spt_status format_question(const struct task *t, const record *raw, buf *text, record *out,
                                  spt_err *err)
{
    const bool squad = t->text == TEXT_SQUAD;
    struct field_text question, context;
    const struct field_text *answer, *padded;
    size_t n;
    TRY(record_text(raw, "question", &question, err));
    TRY(record_text(raw, "context", &context, err));
    TRY(record_texts(raw, squad ? "answers/text" : "answers", &answer, &n, err));
    if (!n)
        return err_set(err, SPT_E_FORMAT, "the question has no answer");
    TRY(pass(raw, squad ? "id" : "qid", squad ? "id" : "idx", out, err));
    TRY(set_padded(out, "question", &question, err));
    TRY(set_padded(out, "context", &context, err));
    TRY(set_padded_list(out, "answers", answer, n, err));
    TRY(record_texts(out, "answers", &padded, &n, err));
    if (!squad)
        TRY(record_set_text(out, "answer", padded[0].s, padded[0].len, err));
    TRY(set_question_inputs(t->text_name, text, out, err));
    TRY(record_texts(out, "answers", &padded, &n, err));
    return record_set_text(out, "targets", padded[0].s, padded[0].len, err);
}

static spt_status split_answers(const char *s, size_t len, record *out, spt_err *err)
{
    size_t n = 1;
    for (const char *p = s; (p = find(p, len - (size_t)(p - s), "|||", 3)); p += 3)
        n++;
    struct field_text *list = record_alloc(out, n * sizeof *list);
    if (!list)
        return err_nomem(err, n * sizeof *list);
    const char *end = s + len;
    for (size_t i = 0; i < n; i++) {
        const char *bar = find(s, (size_t)(end - s), "|||", 3);
        list[i] = (struct field_text){s, (size_t)((bar ? bar : end) - s)};
        s = bar ? bar + 3 : end;
    }
    return set_padded_list(out, "answers", list, n, err);
}

spt_status task_format_tsv_qa(const char *line, size_t len, record *out, spt_err *err)
{
    static const char *const names[] = {"id", "context", "question", "answer", "answers"};
    struct field_text column[5];
    const char *s = line, *end = line + len;
    record_clear(out);
    for (size_t i = 0; i < 5; i++) {
        const char *tab = memchr(s, '\t', (size_t)(end - s));
        if (i < 4 ? !tab : tab != NULL)
            return err_set(err, SPT_E_FORMAT, "%s than 5 columns", i < 4 ? "fewer" : "more");
        column[i] = (struct field_text){s, (size_t)((tab ? tab : end) - s)};
        s = tab ? tab + 1 : end;
    }
    TRY(record_set_text(out, names[0], column[0].s, column[0].len, err));
    for (size_t i = 1; i < 4; i++)
        TRY(set_padded(out, names[i], &column[i], err));
    TRY(split_answers(column[4].s, column[4].len, out, err));
    buf text;
    buf_init(&text, MAX_TEXT);
    spt_status st = set_question_inputs(NULL, &text, out, err);
    buf_release(&text);
    struct field_text answer;
    if (!st)
        st = record_text(out, "answer", &answer, err);
    return st ? st : record_set_text(out, "targets", answer.s, answer.len, err);
}

/* --- summaries, inference, verbalisers ---------------------------------------------------- */

static spt_status format_summary(const struct task *t, const record *raw, buf *text, record *out,
                                 spt_err *err)
{
    struct field_text from, to;
    TRY(record_text(raw, t->from, &from, err));
    TRY(record_text(raw, t->to, &to, err));
    if (t->text == TEXT_NAMED_SUMMARY)
        buf_addf(text, "%s ", t->text_name);
    buf_adds(text, "summarize: ");
    add_field(text, &from);
    TRY(record_set_buf(out, "inputs", text, err));
    return record_set_text(out, "targets", to.s, to.len, err);
}

static spt_status format_nli(const struct task *t, const record *raw, buf *text, record *out,
                             spt_err *err)
{
    buf joined;
    buf_init(&joined, MAX_TEXT);
    buf_adds(&joined, t->text_name);
    spt_status st = SPT_OK;
    for (size_t i = 0; t->config->field[i] && !st; i++) {
        struct field_text v;
        st = record_text(raw, t->config->field[i], &v, err);
        if (!st) {
            buf_addf(&joined, " %s: ", t->config->field[i]);
            add_field(&joined, &v);
        }
    }
    text_collapse(text, buf_str(&joined), joined.len);
    if (!st)
        st = buf_status(&joined, "inputs", err);
    buf_release(&joined);
    TRY(st);
    TRY(record_set_buf(out, "inputs", text, err));
    return set_class(t, raw, "<unk>", out, err);
}

static spt_status format_verbalized(const struct task *t, const record *raw, record *out,
                                    spt_err *err)
{
    struct field_text v;
    TRY(record_text(raw, "text", &v, err));
    TRY(record_set_text(out, "inputs", v.s, v.len, err));
    return set_class(t, raw, "UNK", out, err);
}

static spt_status format_plain(const record *raw, record *out, spt_err *err)
{
    struct field_text v;
    TRY(record_text(raw, "text", &v, err));
    TRY(record_set_text(out, "inputs", "", 0, err));
    return record_set_text(out, "targets", v.s, v.len, err);
}

/* --- candidates --------------------------------------------------------------------------- */

/* The texts that may be the target, and which of them are. */
static spt_status list_candidates(const struct task *t, record *out, struct field_text **candidate,
                                  int64_t **correct, size_t *n, spt_err *err)
{
    const struct field_text *entity = NULL, *answer = NULL;
    struct field_text target;
    size_t answers = 0;
    const char *const *classes = task_classes(t);
    TRY(record_text(out, "targets", &target, err));
    *n = class_count(classes);
    if (t->text == TEXT_RECORD_FIRST) {
        TRY(record_texts(out, "entities", &entity, n, err));
        TRY(record_texts(out, "answers", &answer, &answers, err));
    }
    if (*n > MAX_CANDIDATES)
        return err_set(err, SPT_E_FORMAT, "%zu candidates, at most %d", *n, MAX_CANDIDATES);
    *candidate = record_alloc(out, *n * sizeof **candidate);
    *correct = record_alloc(out, *n * sizeof **correct);
    if (!*candidate || !*correct)
        return err_nomem(err, *n * sizeof **candidate);
    for (size_t j = 0; j < *n; j++) {
        struct field_text c =
            entity ? entity[j] : (struct field_text){classes[j], strlen(classes[j])};
        const struct field_text *right = entity ? answer : &target;
        (*candidate)[j] = c;
        (*correct)[j] = 0;
        for (size_t k = 0; k < (entity ? answers : 1); k++)
            (*correct)[j] |= c.len == right[k].len && memcmp(c.s, right[k].s, c.len) == 0;
    }
    return SPT_OK;
}

static spt_status emit_candidates(const struct emitter *e, record *out, spt_err *err)
{
    struct field_text inputs, *candidate = NULL;
    int64_t *correct = NULL;
    size_t n = 0;
    TRY(record_text(out, "inputs", &inputs, err));
    TRY(list_candidates(e->t, out, &candidate, &correct, &n, err));
    record one = {0};
    spt_status st = SPT_OK;
    if (e->t->rank == RANK_FEWSHOT) {
        int64_t *idx = record_alloc(out, 2 * n * sizeof *idx);
        struct field_text *same = record_alloc(out, n * sizeof *same);
        st = idx && same ? SPT_OK : err_nomem(err, n);
        for (size_t j = 0; j < n && !st; j++) {
            idx[2 * j] = e->position;
            idx[2 * j + 1] = (int64_t)j;
            same[j] = inputs;
        }
        if (!st)
            st = record_set_ints(&one, "idx", idx, 2 * n, err);
        if (!st)
            st = record_set_texts(&one, "inputs", same, n, err);
        if (!st)
            st = record_set_texts(&one, "targets", candidate, n, err);
        if (!st)
            st = record_set_ints(&one, "is_correct", correct, n, err);
        if (!st)
            st = e->emit(e->ctx, &one, err);
    }
    for (size_t j = 0; j < n && e->t->rank == RANK_EVAL && !st; j++) {
        const int64_t idx[2] = {e->position, (int64_t)j};
        record_clear(&one);
        st = record_set_ints(&one, "idx", idx, 2, err);
        if (!st)
            st = record_set_text(&one, "inputs", inputs.s, inputs.len, err);
        if (!st)
            st = record_set_text(&one, "targets", candidate[j].s, candidate[j].len, err);
        if (!st)
            st = record_set_int(&one, "is_correct", correct[j], err);
        if (!st)
            st = e->emit(e->ctx, &one, err);
    }
    record_release(&one);
    return st;
}

/* What follows the text: the task's first word dropped, candidates. */
static spt_status finish(const struct emitter *e, record *out, spt_err *err)
{
    if (e->t->drop_first) {
        struct field_text inputs;
        TRY(record_text(out, "inputs", &inputs, err));
        text_drop_first(&inputs.s, &inputs.len);
        TRY(record_set_text(out, "inputs", inputs.s, inputs.len, err));
    }
    return e->t->rank ? emit_candidates(e, out, err) : e->emit(e->ctx, out, err);
}

static spt_status format_one(const struct emitter *e, const record *raw, buf *text, record *out,
                             spt_err *err)
{
    const struct task *t = e->t;
    switch (t->text) {
    case TEXT_FIELDS:
        return format_fields(t, raw, text, out, err);
    case TEXT_STSB:
        return format_stsb(t, raw, text, out, err);
    case TEXT_RECORD_FIRST:
        return format_record_first(raw, text, out, err);
    case TEXT_WSC:
        return format_wsc(raw, text, out, err);
    case TEXT_DPR:
        return format_dpr(raw, text, out, err);
    case TEXT_SQUAD:
    case TEXT_MRQA:
        return format_question(t, raw, text, out, err);
    case TEXT_SUMMARY:
    case TEXT_NAMED_SUMMARY:
        return format_summary(t, raw, text, out, err);
    case TEXT_NLI:
        return format_nli(t, raw, text, out, err);
    case TEXT_VERBALIZED:
        return format_verbalized(t, raw, out, err);
    case TEXT_PLAIN:
        return format_plain(raw, out, err);
    case TEXT_USER:
        return user_format(t, raw, text, out, err);
    case TEXT_RECORD:
        break;
    }
    return err_set(err, SPT_E_INTERNAL, "task %s has no format", t->name);
}

spt_status task_format(const struct task *t, const record *raw, int64_t position, task_emit_fn emit,
                       void *ctx, spt_err *err)
{
    const struct emitter e = {t, position, emit, ctx};
    if (t->positive_only) {
        int64_t label = 0;
        if (record_find(raw, "label"))
            TRY(record_int(raw, "label", &label, err));
        if (!label)
            return SPT_OK;
    }
    record out = {0};
    buf text;
    buf_init(&text, MAX_TEXT);
    spt_status st;
    const struct task_hook *code = t->user ? t->user->preprocessor : NULL;
    if (t->text == TEXT_RECORD) {
        st = format_record(&e, raw, &text, &out, err);
    } else if (code) {
        st = code->run.preprocess(code->ctx, raw, position, &out, emit, ctx, err);
    } else {
        st = format_one(&e, raw, &text, &out, err);
        if (!st)
            st = finish(&e, &out, err);
    }
    buf_release(&text);
    record_release(&out);
    return st;
}
