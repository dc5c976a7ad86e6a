/* Texts -> values: what a target or a decoded answer means for a task (spec/data.md 5.4). */
#include "task/task.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "task/user_internal.h"

enum { MAX_WORDS = 1 << 20 };

int64_t text_to_class(const char *s, size_t len, const char *const *classes)
{
    for (int64_t i = 0; classes && i < TASK_MAX_CLASSES && classes[i]; i++)
        if (strlen(classes[i]) == len && memcmp(classes[i], s, len) == 0)
            return i;
    return -1;
}

/* --- Python's float() --------------------------------------------------------------------- */

static bool blank(char c)
{
    return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f);
}

static bool digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Copies [sign] digits [. digits] [e digits] with underscores between digits; false otherwise. */
static bool plain_number(const char *s, size_t len, char *out, size_t room)
{
    size_t n = 0, digits = 0;
    bool point = false, exponent = false;
    for (size_t i = 0; i < len; i++) {
        const char c = s[i];
        if (n + 1 >= room)
            return false;
        if (c == '_') {
            if (i == 0 || i + 1 >= len || !digit(s[i - 1]) || !digit(s[i + 1]))
                return false;
            continue;
        }
        if (digit(c)) {
            digits++;
        } else if (c == '.' && !point && !exponent) {
            point = true;
        } else if ((c == 'e' || c == 'E') && digits && !exponent) {
            exponent = true;
            digits = 0;
        } else if ((c != '+' && c != '-') || (i > 0 && s[i - 1] != 'e' && s[i - 1] != 'E')) {
            return false;
        }
        out[n++] = c;
    }
    out[n] = 0;
    return digits > 0;
}

static bool same_word(const char *s, size_t len, const char *word)
{
    if (strlen(word) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((s[i] | 32) != word[i])
            return false;
    return true;
}

double text_to_float(const char *s, size_t len)
{
    char number[400];
    while (len && blank(*s)) {
        s++;
        len--;
    }
    while (len && blank(s[len - 1]))
        len--;
    if (plain_number(s, len, number, sizeof number))
        return strtod(number, NULL);
    const bool sign = len && (*s == '+' || *s == '-');
    const double unit = sign && *s == '-' ? -1 : 1;
    if (same_word(s + sign, len - sign, "inf") || same_word(s + sign, len - sign, "infinity"))
        return unit * (double)INFINITY;
    if (same_word(s + sign, len - sign, "nan"))
        return (double)NAN;
    return -1.0;
}

/* --- pronoun referents -------------------------------------------------------------------- */

static bool determiner(const char *s, size_t len)
{
    static const char *const words[] = {
        "a",    "an",   "few", "her",   "his",   "each", "every", "many",  "much",  "my",  "our",
        "some", "that", "the", "their", "these", "this", "those", "which", "whose", "your"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strlen(words[i]) == len && memcmp(words[i], s, len) == 0)
            return true;
    return false;
}

/* Stripped, lower case, without determiners. Only ASCII changes case: answers are English words. */
static void clean_words(const char *s, size_t len, buf *out)
{
    while (len && blank(*s)) {
        s++;
        len--;
    }
    while (len && blank(s[len - 1]))
        len--;
    buf lower;
    buf_init(&lower, len + 1);
    for (size_t i = 0; i < len; i++)
        buf_addc(&lower, s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 32) : s[i]);
    const char *p = buf_str(&lower), *end = p + lower.len;
    bool first = true;
    for (;;) {
        const char *space = p < end ? memchr(p, ' ', (size_t)(end - p)) : NULL;
        const char *stop = space ? space : end;
        if (!determiner(p, (size_t)(stop - p))) {
            if (!first)
                buf_addc(out, ' ');
            buf_add(out, p, (size_t)(stop - p));
            first = false;
        }
        if (!space)
            break;
        p = space + 1;
    }
    if (lower.st)
        out->st = lower.st;
    buf_release(&lower);
}

/* Every word (empty ones included) of a is a word of b. */
static bool words_within(const buf *a, const buf *b)
{
    const char *p = buf_str(a), *end = p + a->len;
    for (;;) {
        const char *space = memchr(p, ' ', (size_t)(end - p));
        const size_t n = (size_t)((space ? space : end) - p);
        const char *q = buf_str(b), *stop = q + b->len;
        bool found = false;
        while (!found) {
            const char *next = memchr(q, ' ', (size_t)(stop - q));
            const size_t m = (size_t)((next ? next : stop) - q);
            found = m == n && memcmp(p, q, n) == 0;
            if (!next)
                break;
            q = next + 1;
        }
        if (!found)
            return false;
        if (!space)
            return true;
        p = space + 1;
    }
}

spt_status text_same_referent(const char *prediction, size_t len, const char *referent,
                              size_t referent_len, int64_t *out, spt_err *err)
{
    buf p, r;
    buf_init(&p, len + 1);
    buf_init(&r, referent_len + 1);
    clean_words(prediction, len, &p);
    clean_words(referent, referent_len, &r);
    spt_status st = buf_status(&p, "answer", err);
    if (!st)
        st = buf_status(&r, "referent", err);
    if (!st) {
        const bool a = memchr(buf_str(&p), '\'', p.len) != NULL;
        const bool b = memchr(buf_str(&r), '\'', r.len) != NULL;
        *out = !p.len ? -1 : a != b ? 0 : words_within(&p, &r) || words_within(&r, &p);
    }
    buf_release(&p);
    buf_release(&r);
    return st;
}

void text_strip_extra_id_0(const char **s, size_t *len)
{
    static const char mark[] = "<extra_id_0>";
    const size_t n = sizeof mark - 1;
    if (*len >= n && memcmp(*s, mark, n) == 0) {
        *s += n;
        *len -= n;
    }
    while (*len && blank(**s)) {
        (*s)++;
        (*len)--;
    }
}

/* --- per task ----------------------------------------------------------------------------- */

/* The text with one word replaced everywhere; kept in scratch. */
static spt_status translate(const struct task *t, const char **s, size_t *len, record *scratch,
                            spt_err *err)
{
    const size_t n = strlen(t->translate_from);
    buf b;
    buf_init(&b, *len * 2 + 64);
    for (size_t i = 0; i < *len;) {
        if (*len - i >= n && memcmp(*s + i, t->translate_from, n) == 0) {
            buf_adds(&b, t->translate_to);
            i += n;
        } else {
            buf_addc(&b, (*s)[i++]);
        }
    }
    spt_status st = buf_status(&b, "answer", err);
    char *kept = st ? NULL : record_alloc(scratch, b.len + 1);
    if (kept) {
        memcpy(kept, buf_str(&b), b.len + 1);
        *s = kept;
        *len = b.len;
    } else if (!st) {
        st = err_nomem(err, b.len);
    }
    buf_release(&b);
    return st;
}

static spt_status answer_rank(const record *example, struct task_value *out, spt_err *err)
{
    const struct record_field *idx = record_find(example, "idx");
    const struct record_field *targets = record_find(example, "targets");
    int64_t correct;
    if (!idx || idx->kind != FIELD_INTS || idx->count != 2)
        return err_set(err, SPT_E_FORMAT, "rank classification needs idx = [example, candidate]");
    if (!targets || targets->kind != FIELD_INTS)
        return err_set(err, SPT_E_FORMAT, "rank classification needs the target ids");
    TRY(record_int(example, "is_correct", &correct, err));
    out->rank_index[0] = idx->u.ints[0];
    out->rank_index[1] = idx->u.ints[1];
    out->rank_correct = correct != 0;
    out->rank_length = (int64_t)targets->count;
    return SPT_OK;
}

/* Perceptron examples hold all candidates: the target is the correct one. */
static spt_status pick_correct(const record *example, const char **s, size_t *len, spt_err *err)
{
    const struct record_field *correct = record_find(example, "is_correct");
    const struct field_text *text;
    size_t n, best = 0;
    TRY(record_texts(example, "targets_pretokenized", &text, &n, err));
    if (!correct || correct->kind != FIELD_INTS || correct->count != n || !n)
        return err_set(err, SPT_E_FORMAT, "is_correct does not fit the %zu candidates", n);
    for (size_t i = 1; i < n; i++)
        if (correct->u.ints[i] > correct->u.ints[best])
            best = i;
    *s = text[best].s;
    *len = text[best].len;
    return SPT_OK;
}

static spt_status answer_wsc(const char *s, size_t len, const record *example, bool is_target,
                             struct task_value *out, spt_err *err)
{
    struct field_text referent;
    if (is_target)
        return record_int(example, "label", &out->label, err);
    TRY(record_text(example, "targets_pretokenized", &referent, err));
    return text_same_referent(s, len, referent.s, referent.len, &out->label, err);
}

spt_status task_answer(const struct task *t, const char *text, size_t len, const record *example,
                       bool is_target, record *scratch, struct task_value *out, spt_err *err)
{
    *out = (struct task_value){.label = -1};
    if (t->answer == ANSWER_RANK)
        return is_target ? answer_rank(example, out, err) : SPT_OK;
    if (t->perceptron && is_target)
        TRY(pick_correct(example, &text, &len, err));
    if (t->translate_from)
        TRY(translate(t, &text, &len, scratch, err));
    out->text = (struct field_text){text, len};
    switch (t->answer) {
    case ANSWER_CODE: {
        const struct task_hook *h = t->user->postprocessor;
        return h->run.answer(h->ctx, text, len, example, is_target, scratch, out, err);
    }
    case ANSWER_CLASS:
        if (t->user) {
            out->label = user_class(t->user, text, len);
            return SPT_OK;
        }
        out->label =
            text_to_class(text, len, t->verbalizer[0] ? t->verbalizer : t->config->classes);
        return SPT_OK;
    case ANSWER_FLOAT:
        out->number = text_to_float(text, len);
        return SPT_OK;
    case ANSWER_MULTIRC:
        out->label = text_to_class(text, len, t->config->classes);
        return is_target ? record_int(example, "idx/question", &out->group[0], err) : SPT_OK;
    case ANSWER_RECORD:
        if (!is_target)
            return SPT_OK;
        TRY(record_int(example, "idx/passage", &out->group[0], err));
        TRY(record_int(example, "idx/query", &out->group[1], err));
        return record_texts(example, "answers", &out->texts, &out->text_count, err);
    case ANSWER_QA:
        return is_target ? record_texts(example, "answers", &out->texts, &out->text_count, err)
                         : SPT_OK;
    case ANSWER_WSC:
        return answer_wsc(text, len, example, is_target, out, err);
    default:
        return SPT_OK;
    }
}
