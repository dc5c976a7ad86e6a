#include "run/dataset.h"

#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "run/plain_code.h"

static spt_status differs(const struct settings *s, const char *what, const char *option,
                          const char *prompt, spt_err *err)
{
    if (s->strict)
        return err_set(err, SPT_E_CHECK, "the prompt was trained with %s \"%s\", not \"%s\" "
                       "(--strict)", what, prompt, option);
    log_warning("the prompt was trained with %s \"%s\"; \"%s\" is used as asked", what, prompt,
                option);
    return SPT_OK;
}

/* The template in force: the option, else the prompt's, else none. */
static spt_status choose_template(const struct settings *s, const char *option, const char *prompt,
                                  const char *what, text_template **out, spt_err *err)
{
    const char *text = option && option[0] ? option : prompt;
    if (!text)
        return SPT_OK;
    if (option && option[0] && prompt && strcmp(option, prompt))
        TRY(differs(s, what, option, prompt, err));
    const spt_status st = template_parse(text, strlen(text), out, err);
    return st ? err_wrap(err, st, "%s", what) : SPT_OK;
}

static spt_status labels_of_prompt(const struct prompt *p, label_set **out, spt_err *err)
{
    label_set *set;
    TRY(label_set_new(&set, err));
    for (size_t i = 0; i < p->use.label_count; i++) {
        const char *text = p->use.labels[i];
        const spt_status st = label_set_add(set, text, strlen(text), NULL, err);
        if (st) {
            label_set_free(set);
            return st;
        }
    }
    *out = set;
    return SPT_OK;
}

static spt_status check_labels(struct task_text *t, const struct settings *s, spt_err *err)
{
    label_report_release(&t->report);
    TRY(label_set_check(t->labels, &t->encoder, t->max_target, &t->report, err));
    TRY(label_report_log(&t->report, t->labels_from, err));
    if (s->strict && t->report.warnings)
        return err_set(err, SPT_E_CHECK, "labels from %s: %s (--strict)", t->labels_from,
                       t->report.finding[0].text);
    return SPT_OK;
}

static bool same_labels(const label_set *set, const struct prompt_use *use)
{
    if (label_set_count(set) != use->label_count)
        return false;
    for (size_t i = 0; i < use->label_count; i++)
        if (label_set_find(set, use->labels[i], strlen(use->labels[i])) < 0)
            return false;
    return true;
}

static spt_status open_labels(struct task_text *t, const struct settings *s,
                              const struct prompt *prompt, spt_err *err)
{
    const bool own = settings_given(s, "labels") && !(s->labels && s->labels[0]);
    if (own && !(prompt && prompt->use.label_count))
        return err_set(err, SPT_E_CONFIG,
                       "--labels without a value means the prompt's own labels, and %s",
                       prompt ? "this prompt names none: --labels A,B,.." : "there is no prompt");
    if (s->labels && s->labels[0]) {
        TRY(label_set_parse(s->labels, &t->labels, err));
        t->labels_from = "--labels";
        if (prompt && prompt->use.label_count && !same_labels(t->labels, &prompt->use)) {
            buf text;
            buf_init(&text, 4096);
            for (size_t i = 0; i < prompt->use.label_count; i++)
                buf_addf(&text, "%s%s", i ? "," : "", prompt->use.labels[i]);
            const spt_status st = differs(s, "the labels", s->labels, buf_str(&text), err);
            buf_release(&text);
            TRY(st);
        }
    } else if (prompt && prompt->use.label_count) {
        TRY(labels_of_prompt(prompt, &t->labels, err));
        t->labels_from = "the prompt";
    }
    return t->labels ? check_labels(t, s, err) : SPT_OK;
}

static int64_t choose_length(const struct settings *s, const char *option, int64_t value,
                             int64_t prompt)
{
    return !settings_given(s, option) && prompt > 0 ? prompt : value;
}

spt_status task_text_open(const struct engine *e, const struct settings *s,
                          const struct prompt *prompt, struct task_text *out, spt_err *err)
{
    struct task_text t = {0};
    if (s->delimiter && s->delimiter[0])
        TRY(records_delimiter(s->delimiter, &t.delimiter, err));
    TRY(data_encoder_of_vocab(e->vocab, &t.encoder, err));
    t.owns_encoder = true;
    t.encoder.rows = e->config.vocab;
    const struct prompt_use *use = prompt ? &prompt->use : NULL;
    t.max_input = choose_length(s, "max-input", s->max_input, use ? use->max_input : -1);
    t.max_target = choose_length(s, "max-target", s->max_target, use ? use->max_target : -1);
    t.of_prompt = prompt != NULL;
    spt_status st = choose_template(s, s->input, use ? use->input_template : NULL,
                                    "the input template", &t.input, err);
    if (!st)
        st = choose_template(s, s->target, use ? use->target_template : NULL,
                             "the target template", &t.target, err);
    if (!st)
        st = open_labels(&t, s, prompt, err);
    if (st) {
        task_text_close(&t);
        return st;
    }
    *out = t;
    return SPT_OK;
}

void task_text_close(struct task_text *t)
{
    template_free(t->input);
    template_free(t->target);
    label_set_free(t->labels);
    label_report_release(&t->report);
    mem_free(t->prior);
    if (t->owns_encoder)
        data_encoder_release(&t->encoder);
    *t = (struct task_text){0};
}

spt_status task_text_set_labels(struct task_text *t, const struct settings *s,
                                const label_set *labels, const char *from, spt_err *err)
{
    label_set *copy;
    TRY(label_set_new(&copy, err));
    for (size_t i = 0; i < label_set_count(labels); i++) {
        const spt_status st =
            label_set_add(copy, label_set_text(labels, i), label_set_len(labels, i), NULL, err);
        if (st) {
            label_set_free(copy);
            return st;
        }
    }
    label_set_free(t->labels);
    t->labels = copy;
    t->labels_from = from;
    return check_labels(t, s, err);
}

bool labels_found(const examples *x)
{
    const label_set *found = examples_labels(x);
    size_t longest = 0;
    for (size_t i = 0; found && i < label_set_count(found); i++)
        if (label_set_len(found, i) > longest)
            longest = label_set_len(found, i);
    return found && labels_look_like_classes(label_set_count(found), examples_count(x), longest);
}

static enum records_kind kind_of(const char *format)
{
    static const struct {
        const char *name;
        enum records_kind kind;
    } kinds[] = {{"tsv", RECORDS_TSV}, {"csv", RECORDS_CSV}, {"jsonl", RECORDS_JSONL}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(format, kinds[i].name))
            return kinds[i].kind;
    return RECORDS_BY_NAME;
}

struct examples_options dataset_options(const struct settings *s, const struct task_text *t,
                                        const char *path, enum dataset_role role)
{
    return (struct examples_options){
        .records = {.path = path,
                    .kind = kind_of(s->format),
                    .delimiter = t->delimiter,
                    .header = !strcmp(s->header, "yes")  ? HEADER_YES
                              : !strcmp(s->header, "no") ? HEADER_NO
                                                         : HEADER_AUTO},
        .input = t->input,
        .target = t->target,
        .by_position = t->of_prompt && !settings_given(s, "input"),
        .optional_target = role == DATASET_INPUTS,
        .labels = role == DATASET_TARGETS ? NULL : t->labels,
        .labels_from = t->labels_from,
        .labels_hint = t->labels_hint,
        .find_labels = (role == DATASET_TRAIN || role == DATASET_EXAMINE) && !t->labels,
        .max_input = t->max_input,
        .max_target = t->max_target,
        .keep_text = role != DATASET_TRAIN,
    };
}

spt_status dataset_load(const struct settings *s, const struct task_text *t, const char *path,
                        enum dataset_role role, const char *name, examples **out, spt_err *err)
{
    if (s->preprocess && s->preprocess[0])
        return code_examples(s, t, path, role, name, out, err);
    const struct examples_options o = dataset_options(s, t, path, role);
    TRY(examples_load(&o, &t->encoder, out, err));
    examples_log(*out, name);
    const struct examples_counts c = examples_counts(*out);
    if (!s->strict || !c.cut_inputs)
        return SPT_OK;
    examples_free(*out);
    *out = NULL;
    return err_set(err, SPT_E_CHECK, "%s: %llu inputs are longer than --max-input %lld (--strict)",
                   path, (unsigned long long)c.cut_inputs, (long long)t->max_input);
}

/* --- plain texts ----------------------------------------------------------------------------------- */

enum { TEXT_BYTES = 1 << 26 };

struct piece {
    const char *text;
    size_t len;
};

static spt_status same_value(void *ctx, size_t which, const char **text, size_t *len, spt_err *err)
{
    (void)which, (void)err;
    const struct piece *p = ctx;
    *text = p->text;
    *len = p->len;
    return SPT_OK;
}

spt_status line_encode(struct line_encoder *l, const struct task_text *t, const char *text,
                       size_t len, struct example *out, bool *cut, spt_err *err)
{
    if (t->input && template_fields(t->input) > 1)
        return err_set(err, SPT_E_CONFIG,
                       "the input template \"%s\" names %zu columns, a plain line has one: give a "
                       "table with --data",
                       template_source(t->input), template_fields(t->input));
    if (!l->text.max)
        buf_init(&l->text, TEXT_BYTES);
    buf_clear(&l->text);
    struct piece p = {text, len};
    if (t->input)
        TRY(template_render_with(t->input, same_value, &p, &l->text, err));
    else
        buf_add(&l->text, text, len);
    TRY(buf_status(&l->text, "input text", err));
    l->ids.len = 0;
    TRY(t->encoder.encode(t->encoder.ctx, buf_str(&l->text), l->text.len, &l->ids, err));
    TRY(encoder_check_ids(&t->encoder, l->ids.id, l->ids.len, err));
    *cut = false;
    TRY(ids_finish(&l->ids, 0, t->max_input, t->encoder.eos_id, cut, err));
    *out = (struct example){.input = l->ids.id,
                            .input_len = l->ids.len,
                            .label = -1,
                            .input_text = buf_str(&l->text),
                            .input_text_len = l->text.len};
    return SPT_OK;
}

void line_encoder_release(struct line_encoder *l)
{
    buf_release(&l->text);
    id_list_release(&l->ids);
}

spt_status dataset_hash(const examples *x, char hex[33], spt_err *err)
{
    hash_state *h;
    TRY(hash_new(&h, err));
    for (size_t i = 0; i < examples_count(x); i++) {
        const struct example e = examples_at(x, i);
        const uint64_t len[2] = {e.input_len, e.target_len};
        hash_add(h, len, sizeof len);
        hash_add(h, e.input, e.input_len * sizeof *e.input);
        hash_add(h, e.target, e.target_len * sizeof *e.target);
    }
    hash_text(hash_value(h), hex);
    hash_free(h);
    return SPT_OK;
}
