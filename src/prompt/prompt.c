/* The prompt object and the comparison of its use. */
#include "prompt/prompt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* --- use ----------------------------------------------------------------------------------- */

void prompt_use_init(struct prompt_use *u)
{
    *u = (struct prompt_use){.combine = T5_PREFIX, .side = PROMPT_ENCODER};
#define UNKNOWN(field, key, what) u->field = -1;
    PROMPT_NUMBER_MAP(UNKNOWN)
#undef UNKNOWN
}

static void free_labels(struct prompt_use *u)
{
    for (size_t i = 0; i < u->label_count; i++)
        mem_free(u->labels[i]);
    mem_free(u->labels);
    u->labels = NULL;
    u->label_count = 0;
}

void prompt_use_release(struct prompt_use *u)
{
#define FREE(field, key, what) mem_free(u->field);
    PROMPT_TEXT_MAP(FREE)
#undef FREE
    free_labels(u);
    prompt_use_init(u);
}

spt_status prompt_set_text(char **field, const char *text, spt_err *err)
{
    char *copy = text ? mem_strdup(text) : NULL;
    if (text && !copy)
        return err_nomem(err, strlen(text) + 1);
    mem_free(*field);
    *field = copy;
    return SPT_OK;
}

spt_status prompt_set_labels(struct prompt_use *u, const char *const *labels, size_t count,
                             spt_err *err)
{
    struct prompt_use fresh = {0};
    if (!labels || !count) {
        free_labels(u);
        return SPT_OK;
    }
    fresh.labels = mem_zalloc(count, sizeof *fresh.labels);
    if (!fresh.labels)
        return err_nomem(err, count * sizeof *fresh.labels);
    for (size_t i = 0; i < count; i++) {
        fresh.labels[i] = mem_strdup(labels[i]);
        fresh.label_count = i + 1;
        if (!fresh.labels[i]) {
            free_labels(&fresh);
            return err_nomem(err, strlen(labels[i]) + 1);
        }
    }
    free_labels(u);
    u->labels = fresh.labels;
    u->label_count = count;
    return SPT_OK;
}

static spt_status copy_fields(struct prompt_use *to, const struct prompt_use *from, spt_err *err)
{
#define COPY(field, key, what) TRY(prompt_set_text(&to->field, from->field, err));
    PROMPT_TEXT_MAP(COPY)
#undef COPY
#define COPY(field, key, what) to->field = from->field;
    PROMPT_NUMBER_MAP(COPY)
#undef COPY
    to->combine = from->combine;
    to->side = from->side;
    return prompt_set_labels(to, (const char *const *)from->labels, from->label_count, err);
}

spt_status prompt_use_copy(struct prompt_use *to, const struct prompt_use *from, spt_err *err)
{
    struct prompt_use u;
    prompt_use_init(&u);
    const spt_status st = copy_fields(&u, from, err);
    if (st) {
        prompt_use_release(&u);
        return st;
    }
    prompt_use_release(to);
    *to = u;
    return SPT_OK;
}

/* --- the object ---------------------------------------------------------------------------- */

static spt_status fill(struct prompt *p, const float *rows, const struct prompt_use *use,
                       spt_err *err)
{
    size_t n;
    const struct tensor_shape s = shape_2d(p->P, p->E);
    size_t bytes;
    if (p->P < 1 || p->E < 1)
        return err_set(err, SPT_E_FORMAT, "a prompt of %lld rows of width %lld", (long long)p->P,
                       (long long)p->E);
    TRY(tensor_size(DT_F32, &s, &n, &bytes, err));
    p->rows = mem_alloc_aligned(n, sizeof *p->rows);
    if (!p->rows)
        return err_nomem(err, bytes);
    memcpy(p->rows, rows, bytes);
    return use ? prompt_use_copy(&p->use, use, err) : SPT_OK;
}

spt_status prompt_new(int64_t P, int64_t E, const float *rows, const struct prompt_use *use,
                      struct prompt **out, spt_err *err)
{
    struct prompt *p = mem_zalloc(1, sizeof *p);
    if (!p)
        return err_nomem(err, sizeof *p);
    prompt_use_init(&p->use);
    p->P = P;
    p->E = E;
    const spt_status st = fill(p, rows, use, err);
    if (st)
        prompt_free(p);
    else
        *out = p;
    return st;
}

void prompt_free(struct prompt *p)
{
    if (!p)
        return;
    prompt_use_release(&p->use);
    mem_free_aligned(p->rows);
    mem_free(p->source);
    mem_free(p->kind);
    mem_free(p);
}

spt_status prompt_check_values(const struct prompt *p, spt_err *err)
{
    for (int64_t i = 0; i < p->P; i++)
        for (int64_t j = 0; j < p->E; j++) {
            const float x = p->rows[i * p->E + j];
            if (!isfinite(x))
                return err_set(err, SPT_E_FORMAT, "the prompt is %s in row %lld, column %lld (of "
                               "%lld x %lld, counted from 0)", isnan(x) ? "NaN" : "infinite",
                               (long long)i, (long long)j, (long long)p->P, (long long)p->E);
        }
    return SPT_OK;
}

spt_status prompt_check_width(const struct prompt *p, int64_t model_width, spt_err *err)
{
    if (p->E == model_width)
        return SPT_OK;
    return err_set(err, SPT_E_FORMAT,
                   "%s%sthe prompt has rows of width %lld, the model has width %lld%s",
                   p->source ? p->source : "", p->source ? ": " : "", (long long)p->E,
                   (long long)model_width,
                   p->P == model_width
                       ? "; its number of rows is that width, so it looks transposed"
                       : "");
}

/* --- findings ------------------------------------------------------------------------------ */

void prompt_want_init(struct prompt_want *w)
{
    *w = (struct prompt_want){.max_input = -1, .max_target = -1};
}

static void add_finding(struct prompt_findings *f, enum prompt_finding_kind kind, const char *what,
                        const char *mine, const char *theirs)
{
    if (f->count == PROMPT_MAX_FINDINGS)
        return;
    struct prompt_finding *to = &f->item[f->count++];
    to->kind = kind;
    snprintf(to->text, sizeof to->text, "%s: the prompt was trained with %.180s%.*s, this run uses "
             "%.180s%.*s", what, mine, strlen(mine) > 180 ? 3 : 0, "...", theirs,
             strlen(theirs) > 180 ? 3 : 0, "...");
}

static void compare_text(struct prompt_findings *f, enum prompt_finding_kind kind, const char *what,
                         const char *mine, const char *theirs, bool quoted)
{
    char a[400], b[400];
    if (!mine || !theirs || !strcmp(mine, theirs))
        return;
    snprintf(a, sizeof a, quoted ? "\"%.390s\"" : "%.390s", mine);
    snprintf(b, sizeof b, quoted ? "\"%.390s\"" : "%.390s", theirs);
    add_finding(f, kind, what, a, b);
}

static void compare_number(struct prompt_findings *f, const char *what, int64_t mine,
                           int64_t theirs)
{
    char a[24], b[24];
    if (mine < 0 || theirs < 0 || mine == theirs)
        return;
    snprintf(a, sizeof a, "%lld", (long long)mine);
    snprintf(b, sizeof b, "%lld", (long long)theirs);
    add_finding(f, PROMPT_OTHER_LENGTHS, what, a, b);
}

/* "{billing, praise}" cut at the end of the text. */
static const char *list_labels(char *const *labels, size_t n, char *text, size_t cap)
{
    size_t at = (size_t)snprintf(text, cap, "{");
    for (size_t i = 0; i < n && at < cap - 8; i++) {
        const int k = snprintf(text + at, cap - at, "%s%s", i ? ", " : "", labels[i]);
        at += k > 0 ? (size_t)k : 0;
    }
    if (at >= cap - 2) {
        memcpy(text + cap - 5, "...", 4);
        at = cap - 2;
    }
    memcpy(text + at, "}", 2);
    return text;
}

/* The same labels in another order are the same set. */
static bool same_labels(const struct prompt_use *u, const struct prompt_want *w)
{
    if (u->label_count != w->label_count)
        return false;
    for (size_t i = 0; i < u->label_count; i++) {
        bool found = false;
        for (size_t j = 0; j < w->label_count && !found; j++)
            found = !strcmp(u->labels[i], w->labels[j]);
        if (!found)
            return false;
    }
    return true;
}

static void compare_labels(struct prompt_findings *f, const struct prompt_use *u,
                           const struct prompt_want *w)
{
    char a[180], b[180];
    if (!u->labels || !w->labels || same_labels(u, w))
        return;
    char *const *theirs = (char *const *)(uintptr_t)w->labels;
    add_finding(f, PROMPT_OTHER_LABELS, "label set",
                list_labels(u->labels, u->label_count, a, sizeof a),
                list_labels(theirs, w->label_count, b, sizeof b));
}

/* A hash says little: the name, where it is known, says more. */
static void compare_base(struct prompt_findings *f, const struct prompt_use *u,
                         const struct prompt_want *w)
{
    char a[180], b[180];
    if (!u->base_hash || !w->base_hash || !strcmp(u->base_hash, w->base_hash))
        return;
    snprintf(a, sizeof a, "%.40s%s%.120s%s", u->base_hash, u->base_name ? " (" : "",
             u->base_name ? u->base_name : "", u->base_name ? ")" : "");
    snprintf(b, sizeof b, "%.40s%s%.120s%s", w->base_hash, w->base_name ? " (" : "",
             w->base_name ? w->base_name : "", w->base_name ? ")" : "");
    add_finding(f, PROMPT_OTHER_BASE, "base model", a, b);
}

static const char *combine_name(enum t5_combine c)
{
    return c == T5_PREFIX ? "prefix" : c == T5_SUFFIX ? "suffix" : "prefix_after_bos";
}

void prompt_check_use(const struct prompt *p, const struct prompt_want *w,
                      struct prompt_findings *out)
{
    const struct prompt_use *u = &p->use;
    out->count = 0;
    compare_base(out, u, w);
    compare_text(out, PROMPT_OTHER_VOCAB, "vocabulary", u->vocab_hash, w->vocab_hash, false);
    compare_text(out, PROMPT_OTHER_VOCAB, "vocabulary rule", u->vocab_rule, w->vocab_rule, false);
    compare_text(out, PROMPT_OTHER_TEMPLATE, "input template", u->input_template, w->input_template,
                 true);
    compare_text(out, PROMPT_OTHER_TEMPLATE, "target template", u->target_template,
                 w->target_template, true);
    compare_labels(out, u, w);
    compare_number(out, "input length", u->max_input, w->max_input);
    compare_number(out, "target length", u->max_target, w->max_target);
    compare_text(out, PROMPT_OTHER_COMPUTE, "compute type", u->compute, w->compute, false);
    if (w->has_combine)
        compare_text(out, PROMPT_OTHER_COMBINE, "combination", combine_name(u->combine),
                     combine_name(w->combine), false);
}
