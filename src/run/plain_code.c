#include "run/plain_code.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "run/extensions.h"
#include "task/user_task.h"

bool names_code(const char *value)
{
    const char *dot = value ? strchr(value, '.') : NULL;
    return dot && dot > value && dot[1];
}

static spt_status find_hook(const struct settings *s, enum task_hook_kind kind, const char *option,
                            const char *name, const struct task_hook **out, spt_err *err)
{
    const extensions *x = s->gin ? gin_attached(s->gin) : NULL;
    *out = x ? task_hook_find(extensions_tasks(x), kind, name) : NULL;
    return *out ? SPT_OK
                : err_set(err, SPT_E_CONFIG,
                          "--%s %s: no plug-in that is loaded has it (--plugin FILE.so)", option,
                          name);
}

/* --- initialisers --------------------------------------------------------------------------------- */

spt_status code_init(const struct settings *s, struct prompt_init *init, spt_err *err)
{
    gin_value v;
    spt_err why = {0};
    bool is = s->gin && extensions_own(s->gin, s->init);
    spt_status st = is ? gin_call(s->gin, s->init, NULL, 0, &v, &why) : SPT_OK;
    if (is && !st)
        st = extensions_initializer(s->gin, &v, init, &is, &why);
    if (st == SPT_E_NOMEM)
        return err_nomem(err, 0);
    if (!is || st)
        return err_set(err, SPT_E_CONFIG,
                       "--init %s: no plug-in that is loaded has this initialiser (--plugin "
                       "FILE.so)%s%s",
                       s->init, why.msg[0] ? ": " : "", why.msg);
    return SPT_OK;
}

/* --- metrics --------------------------------------------------------------------------------------- */

spt_status code_check(const struct settings *s, spt_err *err)
{
    const struct task_hook *h;
    if (names_code(s->metric))
        TRY(find_hook(s, HOOK_METRIC, "metric", s->metric, &h, err));
    if (names_code(s->postprocess))
        TRY(find_hook(s, HOOK_POSTPROCESSOR, "postprocess", s->postprocess, &h, err));
    return SPT_OK;
}

struct valuing {
    const struct task_hook *post; /* NULL: label and text as they are */
    record example, scratch;      /* empty; what postprocessors keep until the metric is done */
};

static spt_status value_of(struct valuing *v, const char *text, size_t len, int64_t label,
                           bool is_target, struct task_value *out, spt_err *err)
{
    char *end;
    *out = (struct task_value){.label = label, .text = {text, len}};
    if (len) {
        out->number = strtod(text, &end);
        out->number = end == text ? 0 : out->number;
    }
    if (!v->post)
        return SPT_OK;
    *out = (struct task_value){.label = -1, .text = {text, len}};
    return v->post->run.answer(v->post->ctx, text, len, &v->example, is_target, &v->scratch, out,
                               err);
}

static spt_status add_score(void *ctx, const char *name, double value, spt_err *err)
{
    struct figures *f = ctx;
    (void)err;
    if (f->more == FIGURES_MORE) {
        log_warning("score %s: only the first %d scores of a metric are used", name, FIGURES_MORE);
        return SPT_OK;
    }
    snprintf(f->score[f->more].name, sizeof f->score[f->more].name, "%s", name);
    f->score[f->more++].value = value;
    return SPT_OK;
}

static spt_status all_values(struct valuing *v, const struct answers *a, const examples *x,
                             const struct task_text *t, struct task_value *target,
                             struct task_value *answer, spt_err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct example e = examples_at(x, i);
        const bool label = !a->text && a->label[i] >= 0;
        const char *text = a->text ? a->text[i]
                           : label ? label_set_text(t->labels, (size_t)a->label[i])
                                   : "";
        TRY(value_of(v, e.target_text ? e.target_text : "", e.target_text_len,
                     a->target ? a->target[i] : -1, true, &target[i], err));
        TRY(value_of(v, text, strlen(text), a->label ? a->label[i] : -1, false, &answer[i], err));
    }
    return SPT_OK;
}

spt_status code_figures(const struct settings *s, const struct answers *a, const examples *x,
                        const struct task_text *t, struct figures *f, spt_err *err)
{
    const struct task_hook *metric;
    struct valuing v = {0};
    if (!names_code(s->metric))
        return SPT_OK;
    TRY(find_hook(s, HOOK_METRIC, "metric", s->metric, &metric, err));
    if (names_code(s->postprocess))
        TRY(find_hook(s, HOOK_POSTPROCESSOR, "postprocess", s->postprocess, &v.post, err));
    struct task_value *values = mem_zalloc(2 * a->n + 1, sizeof *values);
    if (!values)
        return err_nomem(err, 2 * a->n * sizeof *values);
    spt_status st = all_values(&v, a, x, t, values, values + a->n, err);
    if (!st)
        st = metric->run.score(metric->ctx, values, values + a->n, a->n, add_score, f, err);
    if (!st && !f->more)
        st = err_set(err, SPT_E_CONFIG, "--metric %s gave no score", s->metric);
    mem_free(values);
    record_release(&v.example);
    record_release(&v.scratch);
    return st ? err_wrap(err, st, "%s", s->metric) : SPT_OK;
}

/* --- preprocessors ----------------------------------------------------------------------------------- */

struct making {
    const struct task_text *t;
    enum dataset_role role;
    records *r;
    examples *x;
    struct id_list input, target;
    uint64_t cut_inputs, cut_targets;
};

static spt_status encode(const struct making *m, const struct field_text *text, int64_t most,
                         struct id_list *ids, uint64_t *cuts, spt_err *err)
{
    const struct data_encoder *e = &m->t->encoder;
    bool cut = false;
    ids->len = 0;
    TRY(e->encode(e->ctx, text->s, text->len, ids, err));
    TRY(encoder_check_ids(e, ids->id, ids->len, err));
    TRY(ids_finish(ids, 0, most, e->eos_id, &cut, err));
    *cuts += cut;
    return SPT_OK;
}

static spt_status take(void *ctx, record *made, spt_err *err)
{
    struct making *m = ctx;
    struct field_text in, out;
    const label_set *labels = m->role == DATASET_TARGETS ? NULL : m->t->labels;
    if (record_text(made, "inputs", &in, err) || record_text(made, "targets", &out, err))
        return records_error(m->r, err, "the preprocessor gave no texts \"inputs\" and \"targets\"");
    const int64_t label = labels ? label_set_find(labels, out.s, out.len) : -1;
    if (labels && label < 0)
        return records_error(m->r, err, "label \"%.60s\" is not among the labels (%s)", out.s,
                             m->t->labels_from);
    TRY(encode(m, &in, m->t->max_input, &m->input, &m->cut_inputs, err));
    TRY(encode(m, &out, m->t->max_target, &m->target, &m->cut_targets, err));
    const bool keep = m->role != DATASET_TRAIN;
    const struct example x = {
        .input = m->input.id,
        .input_len = m->input.len,
        .target = m->target.id,
        .target_len = m->target.len,
        .label = label,
        .line = records_line(m->r),
        .input_text = keep ? in.s : NULL,
        .input_text_len = keep ? in.len : 0,
        .target_text = keep ? out.s : NULL,
        .target_text_len = keep ? out.len : 0,
    };
    TRY(examples_add(m->x, &x, err));
    record_clear(made);
    return SPT_OK;
}

/* A row as the plug-in sees it: texts under the names of the columns. */
static spt_status read_row(const records *r, const size_t *slot, record *raw, spt_err *err)
{
    record_clear(raw);
    for (size_t i = 0; i < records_columns(r); i++) {
        const char *text;
        size_t len;
        TRY(records_field(r, slot[i], &text, &len, err));
        TRY(record_set_text(raw, records_column_name(r, i), text, len, err));
    }
    return SPT_OK;
}

static spt_status make_all(struct making *m, const struct task_hook *h, spt_err *err)
{
    const size_t n = records_columns(m->r);
    size_t *slot = mem_zalloc(n + 1, sizeof *slot);
    record raw = {0}, out = {0};
    bool more = true;
    spt_status st = slot ? SPT_OK : err_nomem(err, n * sizeof *slot);
    for (size_t i = 0; !st && i < n; i++)
        st = records_column(m->r, records_column_name(m->r, i), &slot[i], err);
    for (int64_t position = 0; !st; position++) {
        st = records_next(m->r, &more, err);
        if (st || !more)
            break;
        st = read_row(m->r, slot, &raw, err);
        if (!st)
            st = h->run.preprocess(h->ctx, &raw, position, &out, take, m, err);
    }
    mem_free(slot);
    record_release(&raw);
    record_release(&out);
    return st ? err_wrap(err, st, "%s", h->name) : SPT_OK;
}

spt_status code_examples(const struct settings *s, const struct task_text *t, const char *path,
                         enum dataset_role role, const char *name, examples **out, spt_err *err)
{
    const struct task_hook *h;
    const struct examples_options o = dataset_options(s, t, path, role);
    struct making m = {.t = t, .role = role};
    if (settings_given(s, "input") || settings_given(s, "target"))
        return err_set(err, SPT_E_USAGE, "--preprocess makes inputs and targets: --input and "
                                         "--target do not go together with it");
    TRY(find_hook(s, HOOK_PREPROCESSOR, "preprocess", s->preprocess, &h, err));
    TRY(records_open(&o.records, &m.r, err));
    spt_status st = examples_new(&m.x, err);
    if (!st)
        st = make_all(&m, h, err);
    if (!st && !examples_count(m.x))
        st = err_set(err, SPT_E_FORMAT, "%s: %s made no example of it", path, s->preprocess);
    if (!st) {
        const struct examples_counts c = examples_counts(m.x);
        log_info("%s: %s: %zu examples of %llu rows by %s; inputs up to %lld ids, %llu cut; targets "
                 "up to %lld ids, %llu cut",
                 name, path, examples_count(m.x), (unsigned long long)records_count(m.r).records,
                 s->preprocess, (long long)c.longest_input, (unsigned long long)m.cut_inputs,
                 (long long)c.longest_target, (unsigned long long)m.cut_targets);
    }
    records_close(m.r);
    id_list_release(&m.input);
    id_list_release(&m.target);
    if (st) {
        examples_free(m.x);
        return st;
    }
    *out = m.x;
    return SPT_OK;
}
