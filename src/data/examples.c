/* One preparation (a record becomes texts, texts become ids) serves the streaming and the
 * in-memory reader. In memory an example is a few numbers into three pools: ids, texts, and the
 * ids of labels, which are encoded once each. */
#include "data/examples.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define TEXT_MAX ((size_t)1 << 30)
#define POOL_MAX (SIZE_MAX / 4)
/* Rows looked at to tell which column of a two-column file without header is the label. */
#define GUESS_ROWS 1000
/* Bytes of characters that a warning about unwritable targets lists. */
#define UNWRITABLE_SHOWN 160

static const char *const input_names[] = {"text", "input", "inputs", "sentence", "prompt"};
static const char *const target_names[] = {"label", "target", "targets"};

spt_status ids_finish(struct id_list *ids, size_t from, int64_t max, int32_t eos_id, bool *cut,
                      spt_err *err)
{
    *cut = max > 0 && (uint64_t)(ids->len - from) > (uint64_t)max - 1;
    if (*cut)
        ids->len = from + (size_t)max - 1;
    return id_list_add(ids, &eos_id, 1, err);
}

/* --- where the texts come from ------------------------------------------------------------ */

struct source {
    records *r;
    text_template *own_input, *own_target; /* made here because the options gave none */
    struct template_binding input, target; /* target.t: NULL without targets */
};

static void close_source(struct source *s)
{
    template_unbind(&s->input);
    template_unbind(&s->target);
    template_free(s->own_input);
    template_free(s->own_target);
    records_close(s->r);
    *s = (struct source){0};
}

static const char *first_of(const records *r, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (records_has_column(r, names[i]))
            return names[i];
    return NULL;
}

/* Columns 1 and 2 of the first rows: how many different values each holds. */
static spt_status count_values(records *r, size_t distinct[2], uint64_t *rows, spt_err *err)
{
    label_set *set[2] = {NULL, NULL};
    size_t slot[2];
    spt_status st = records_column(r, "1", &slot[0], err);
    st = st ? st : records_column(r, "2", &slot[1], err);
    for (int i = 0; i < 2 && !st; i++)
        st = label_set_new(&set[i], err);
    bool more = true;
    for (*rows = 0; !st && *rows < GUESS_ROWS;) {
        st = records_next(r, &more, err);
        if (st || !more)
            break;
        ++*rows;
        for (int i = 0; i < 2 && !st; i++) {
            const char *text;
            size_t len;
            st = records_field(r, slot[i], &text, &len, err);
            if (!st) {
                const spt_status added = label_set_add(set[i], text, len, NULL, NULL);
                st = added == SPT_E_NOMEM ? err_nomem(err, len) : SPT_OK;
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        distinct[i] = set[i] ? label_set_count(set[i]) : 0;
        label_set_free(set[i]);
    }
    return st ? st : records_rewind(r, err);
}

/* A file of two columns without header is text, label. When the second column never repeats and
 * the first one does, it is the other way round; the line says so. */
static spt_status guess_columns(records *r, const char **input, const char **target, spt_err *err)
{
    *input = "1";
    *target = "2";
    if (records_columns(r) != 2 || !records_can_rewind(r))
        return SPT_OK;
    size_t distinct[2];
    uint64_t rows = 0;
    TRY(count_values(r, distinct, &rows, err));
    if (rows >= 4 && distinct[0] > 1 && distinct[1] == rows && distinct[0] * 2 <= rows) {
        *input = "2";
        *target = "1";
        if (!records_quiet(r))
            log_warning("%s: column 1 holds %zu different values in %llu rows and column 2 never "
                    "repeats: column 1 is taken as the label (--input '{1}' --target '{2}' for "
                    "the other way round)",
                    records_path(r), distinct[0], (unsigned long long)rows);
    }
    return SPT_OK;
}

static spt_status no_column(const records *r, const char *what, const char *option,
                            const char *names, spt_err *err)
{
    char list[200];
    records_list_columns(r, list, sizeof list);
    return err_set(err, SPT_E_CONFIG,
                   "%s: no %s column (%s) among the columns %s; say which with %s '{COLUMN}'",
                   records_path(r), what, names, list, option);
}

static spt_status default_columns(records *r, const char **input, const char **target, spt_err *err)
{
    if (!records_has_header(r) && records_table_kind(r) != TABLE_JSONL)
        return guess_columns(r, input, target, err);
    *input = first_of(r, input_names, sizeof input_names / sizeof *input_names);
    *target = first_of(r, target_names, sizeof target_names / sizeof *target_names);
    if (records_columns(r) == 2 && !*input != !*target) {
        const char *known = *input ? *input : *target;
        for (size_t i = 0; i < 2; i++) {
            const char *name = records_column_name(r, i);
            if (records_has_column(r, name) && strcmp(name, known) != 0)
                *(*input ? target : input) = name;
        }
    } else if (records_columns(r) == 1 && !*input) {
        *input = records_column_name(r, 0);
    }
    return SPT_OK;
}

static spt_status bind_default(struct source *s, const struct examples_options *o, spt_err *err)
{
    const char *input = NULL, *target = NULL;
    if (o->no_target && !records_has_header(s->r) && records_table_kind(s->r) != TABLE_JSONL)
        input = "1";
    else
        TRY(default_columns(s->r, &input, &target, err));
    if (!o->input) {
        if (!input)
            return no_column(s->r, "text", "--input", "text, input, inputs, sentence, prompt", err);
        TRY(template_column(input, &s->own_input, err));
    }
    if (!o->target && !o->no_target && target && !records_has_column(s->r, target)) {
        if (!o->optional_target) /* a table of one column without header */
            return err_set(err, SPT_E_CONFIG,
                           "%s: only one column, so there are no labels; is the delimiter right?",
                           records_path(s->r));
        target = NULL;
    }
    if (!o->target && !o->no_target) {
        if (!target && !o->optional_target)
            return no_column(s->r, "label", "--target", "label, target, targets", err);
        if (target)
            TRY(template_column(target, &s->own_target, err));
    }
    return SPT_OK;
}

/* Columns named by the templates make a first row a header. */
static spt_status open_records(struct source *s, const struct examples_options *o, spt_err *err)
{
    struct records_options ro = o->records;
    const size_t a = o->input ? template_fields(o->input) : 0;
    const size_t b = o->target ? template_fields(o->target) : 0;
    const char **names = NULL;
    if (!ro.column_count && a + b) {
        names = mem_zalloc(a + b, sizeof *names);
        if (!names)
            return err_nomem(err, (a + b) * sizeof *names);
        for (size_t i = 0; i < a; i++)
            names[i] = template_field(o->input, i);
        for (size_t i = 0; i < b; i++)
            names[a + i] = template_field(o->target, i);
        ro.columns = names;
        ro.column_count = a + b;
    }
    const spt_status st = records_open(&ro, &s->r, err);
    mem_free(names);
    return st;
}

/* With optional targets a target template whose columns are missing means: no targets. */
static bool target_fits(const struct source *s, const text_template *t)
{
    for (size_t i = 0; i < template_fields(t); i++)
        if (!records_has_column(s->r, template_field(t, i)))
            return false;
    return true;
}

/* The only field of a template, when the file has no such column; unless any name will do, it must
 * be one of the names that stand for the column. */
static const char *lone_missing(const records *r, const text_template *t, bool any,
                                const char *const *names, size_t n)
{
    if (!t || template_fields(t) != 1 || records_has_column(r, template_field(t, 0)))
        return NULL;
    const char *field = template_field(t, 0);
    for (size_t i = 0; i < n && !any; i++)
        any = !strcmp(field, names[i]);
    return any ? field : NULL;
}

static spt_status place_columns(struct source *s, const struct examples_options *o, spt_err *err)
{
    records *r = s->r;
    if (records_has_header(r) || records_table_kind(r) == TABLE_JSONL)
        return SPT_OK;
    const bool any = o->by_position || o->records.lines;
    const char *in = lone_missing(r, o->input, any, input_names,
                                  sizeof input_names / sizeof *input_names);
    const char *out = o->no_target ? NULL
                                   : lone_missing(r, o->target, any, target_names,
                                                  sizeof target_names / sizeof *target_names);
    const char *input = "1", *target = "2";
    if (!in && !out)
        return SPT_OK;
    if (!o->no_target && records_columns(r) >= 2)
        TRY(guess_columns(r, &input, &target, err));
    if (records_columns(r) < 2)
        out = NULL;
    if (in)
        TRY(records_name_column(r, *input == '2', in, err));
    if (out)
        TRY(records_name_column(r, *target == '2', out, err));
    if (!o->records.lines && !records_quiet(r))
        log_info("%s: there is no header, so column %s is taken as {%s}%s%s%s%s%s", records_path(r),
                 in ? input : target, in ? in : out, in && out ? " and column " : "",
                 in && out ? target : "", in && out ? " as {" : "", in && out ? out : "",
                 in && out ? "}" : "");
    return SPT_OK;
}

static bool is_number(const char *name)
{
    return name[0] && name[strspn(name, "0123456789")] == '\0';
}

/* A prompt's field that this file does not have, or only as a number, stands for its text (label)
 * column. */
static spt_status bind(records *r, const text_template *t, const char *column,
                       struct template_binding *out, spt_err *err)
{
    const char *field = template_fields(t) == 1 ? template_field(t, 0) : NULL;
    if (!column || !field || !strcmp(field, column) ||
        (records_has_column(r, field) && !is_number(field)))
        return template_bind(t, r, out, err);
    if (!records_quiet(r))
        log_info("%s: column %s is taken as the {%s} of the prompt", records_path(r), column, field);
    return template_bind_to(t, r, column, out, err);
}

static spt_status open_source(struct source *s, const struct examples_options *o, spt_err *err)
{
    const char *in = NULL, *out = NULL;
    TRY(open_records(s, o, err));
    TRY(place_columns(s, o, err));
    if (o->by_position && (records_has_header(s->r) || records_table_kind(s->r) == TABLE_JSONL))
        TRY(default_columns(s->r, &in, &out, err));
    if (!o->input || (!o->target && !o->no_target))
        TRY(bind_default(s, o, err));
    TRY(bind(s->r, o->input ? o->input : s->own_input, in, &s->input, err));
    const text_template *target = o->target ? o->target : s->own_target;
    if (!target || o->no_target || (o->optional_target && !out && !target_fits(s, target)))
        return SPT_OK;
    return bind(s->r, target, out, &s->target, err);
}

/* --- one record --------------------------------------------------------------------------- */

struct prepared {
    buf input, target;
    struct id_list input_ids, target_ids;
    int64_t label;
    bool new_target; /* target_ids belong to this record (not to a label seen before) */
};

struct maker {
    const struct data_encoder *enc;
    const struct examples_options *o;
    struct source src;
    struct prepared p;
    struct examples_counts n;
    /* labels given: their ids, encoded when the file is opened */
    struct id_list label_ids;
    size_t *label_off;
    bool *label_cut;
    uint8_t *label_flags; /* of their ids */
    char first_trimmed[64];
    buf unwritable; /* characters of targets that became the unknown id, each once */
};

static void close_maker(struct maker *m)
{
    close_source(&m->src);
    buf_release(&m->p.input);
    buf_release(&m->p.target);
    id_list_release(&m->p.input_ids);
    id_list_release(&m->p.target_ids);
    id_list_release(&m->label_ids);
    mem_free(m->label_off);
    mem_free(m->label_cut);
    mem_free(m->label_flags);
    buf_release(&m->unwritable);
    *m = (struct maker){0};
}

enum { UNWRITABLE = 1, SPECIAL = 2 }; /* what can be odd about the ids of a target */

/* Of the ids behind `from`, whose last one is the end mark. */
static uint8_t flags_of(const struct maker *m, const struct id_list *l, size_t from)
{
    uint8_t flags = 0;
    for (size_t i = from; i + 1 < l->len; i++) {
        if (l->id[i] == m->enc->unk_id && m->enc->unk_id >= 0)
            flags |= UNWRITABLE;
        if (l->id[i] == m->enc->eos_id || (l->id[i] == m->enc->pad_id && m->enc->pad_id >= 0))
            flags |= SPECIAL;
    }
    return flags;
}

static void count_flags(struct maker *m, uint8_t flags)
{
    m->n.unwritable_targets += (flags & UNWRITABLE) != 0;
    m->n.special_targets += (flags & SPECIAL) != 0;
}

/* Ids of a text behind what `out` holds, cut and with EOS. */
static spt_status encode(const struct maker *m, const char *text, size_t len, int64_t max,
                         struct id_list *out, int64_t *uncut, bool *cut, spt_err *err)
{
    const size_t from = out->len;
    TRY(m->enc->encode(m->enc->ctx, text, len, out, err));
    if (m->enc->no_second_eos && out->len > from && out->id[out->len - 1] == m->enc->eos_id)
        out->len--;
    const spt_status st = encoder_check_ids(m->enc, out->id + from, out->len - from, err);
    if (st && m->src.r)
        return err_wrap(err, st, "%s: line %llu", records_path(m->src.r),
                        (unsigned long long)records_line(m->src.r));
    TRY(st);
    *uncut = (int64_t)(out->len - from) + 1;
    return ids_finish(out, from, max, m->enc->eos_id, cut, err);
}

/* Remembers what of this text the vocabulary cannot write, for the warning; long lists are cut. */
static spt_status note_unwritable(struct maker *m, const char *text, size_t len, spt_err *err)
{
    if (!m->enc->unwritable || m->unwritable.len > UNWRITABLE_SHOWN)
        return SPT_OK;
    buf chars;
    buf_init(&chars, TEXT_MAX);
    spt_status st = m->enc->unwritable(m->enc->ctx, text, len, &chars, err);
    st = st ? st : buf_status(&chars, "characters", err);
    for (char *p = chars.data; !st && p && *p && m->unwritable.len <= UNWRITABLE_SHOWN;) {
        const size_t n = strcspn(p, " ");
        const bool last = p[n] == '\0';
        p[n] = '\0';
        if (n && n < 16 && !strstr(buf_str(&m->unwritable), p))
            buf_addf(&m->unwritable, "%s%s", m->unwritable.len ? " " : "", p);
        p += n + !last;
    }
    st = st ? st : buf_status(&m->unwritable, "characters", err);
    buf_release(&chars);
    return st;
}

static spt_status encode_given_labels(struct maker *m, spt_err *err)
{
    const label_set *s = m->o->labels;
    if (!s)
        return SPT_OK;
    const size_t n = label_set_count(s);
    m->label_off = mem_zalloc(n + 1, sizeof *m->label_off);
    m->label_cut = mem_zalloc(n + 1, sizeof *m->label_cut);
    m->label_flags = mem_zalloc(n + 1, sizeof *m->label_flags);
    if (!m->label_off || !m->label_cut || !m->label_flags)
        return err_nomem(err, n);
    for (size_t i = 0; i < n; i++) {
        const size_t from = m->label_ids.len;
        int64_t uncut;
        m->label_off[i] = from;
        TRY(encode(m, label_set_text(s, i), label_set_len(s, i), m->o->max_target, &m->label_ids,
                   &uncut, &m->label_cut[i], err));
        m->label_flags[i] = flags_of(m, &m->label_ids, from);
        if (m->label_flags[i] & UNWRITABLE)
            TRY(note_unwritable(m, label_set_text(s, i), label_set_len(s, i), err));
    }
    m->label_off[n] = m->label_ids.len;
    return SPT_OK;
}

static void note_trimmed(struct maker *m, size_t whole, size_t kept, const char *text)
{
    if (whole == kept)
        return;
    if (!m->n.trimmed_targets++)
        snprintf(m->first_trimmed, sizeof m->first_trimmed, "%.*s", (int)(whole < 60 ? whole : 60),
                 text);
}

static bool same_ignoring_case(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char x = a[i], y = b[i];
        if ((x >= 'A' && x <= 'Z' ? x | 0x20 : x) != (y >= 'A' && y <= 'Z' ? y | 0x20 : y))
            return false;
    }
    return true;
}

/* A label that differs only in case is what was meant. */
static const char *nearest_label(const label_set *s, const char *text, size_t len)
{
    for (size_t i = 0; i < label_set_count(s); i++)
        if (label_set_len(s, i) == len && same_ignoring_case(label_set_text(s, i), text, len))
            return label_set_text(s, i);
    return NULL;
}

static spt_status unknown_label(const struct maker *m, const char *text, size_t len, spt_err *err)
{
    const char *near = nearest_label(m->o->labels, text, len);
    buf list;
    buf_init(&list, 1 << 16);
    label_set_describe(m->o->labels, &list);
    const spt_status st = records_error(
        m->src.r, err,
        "label \"%.*s\" is not among the %zu labels of %s: %.120s%s%.60s%s; correct the row, or "
        "name the whole set with --labels%s",
        (int)(len < 60 ? len : 60), text, label_set_count(m->o->labels),
        m->o->labels_from ? m->o->labels_from : "the label set", buf_str(&list),
        near ? "; is \"" : "", near ? near : "", near ? "\" meant?" : "",
        m->o->labels_hint ? m->o->labels_hint : "");
    buf_release(&list);
    return st;
}

/* The target as one of the given labels. */
static spt_status take_label(struct maker *m, spt_err *err)
{
    struct prepared *p = &m->p;
    const char *text = buf_str(&p->target);
    size_t len = p->target.len;
    label_trim(&text, &len);
    note_trimmed(m, p->target.len, len, buf_str(&p->target));
    if (!len)
        return records_error(m->src.r, err, "the label is empty");
    p->label = label_set_find(m->o->labels, text, len);
    if (p->label < 0)
        return unknown_label(m, text, len, err);
    const size_t i = (size_t)p->label;
    p->target_ids.len = 0;
    m->n.cut_targets += m->label_cut[i];
    count_flags(m, m->label_flags[i]);
    return id_list_add(&p->target_ids, m->label_ids.id + m->label_off[i],
                       m->label_off[i + 1] - m->label_off[i], err);
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static spt_status take_free_target(struct maker *m, spt_err *err)
{
    struct prepared *p = &m->p;
    int64_t uncut;
    bool cut;
    p->target_ids.len = 0;
    TRY(encode(m, buf_str(&p->target), p->target.len, m->o->max_target, &p->target_ids, &uncut,
               &cut, err));
    m->n.cut_targets += cut;
    m->n.longest_target_uncut = larger(m->n.longest_target_uncut, uncut);
    const uint8_t flags = flags_of(m, &p->target_ids, 0);
    count_flags(m, flags);
    if (!(flags & UNWRITABLE))
        return SPT_OK;
    return note_unwritable(m, buf_str(&p->target), p->target.len, err);
}

/* Prepares the next record in m->p; targets of a label set being collected are left as text. */
static spt_status make_next(struct maker *m, bool collecting, bool *more, spt_err *err)
{
    struct prepared *p = &m->p;
    TRY(records_next(m->src.r, more, err));
    if (!*more)
        return SPT_OK;
    buf_clear(&p->input);
    p->input_ids.len = 0;
    p->target_ids.len = 0;
    p->label = -1;
    int64_t uncut;
    bool cut;
    TRY(template_render(&m->src.input, m->src.r, &p->input, err));
    TRY(encode(m, buf_str(&p->input), p->input.len, m->o->max_input, &p->input_ids, &uncut, &cut,
               err));
    m->n.examples++;
    m->n.cut_inputs += cut;
    m->n.empty_inputs += uncut == 1;
    m->n.tokens_in += p->input_ids.len;
    m->n.longest_input = larger(m->n.longest_input, (int64_t)p->input_ids.len);
    m->n.longest_input_uncut = larger(m->n.longest_input_uncut, uncut);
    if (!m->src.target.t)
        return SPT_OK;
    buf_clear(&p->target);
    TRY(template_render(&m->src.target, m->src.r, &p->target, err));
    if (collecting)
        return SPT_OK;
    TRY(m->o->labels ? take_label(m, err) : take_free_target(m, err));
    m->n.tokens_out += p->target_ids.len;
    m->n.longest_target = larger(m->n.longest_target, (int64_t)p->target_ids.len);
    return SPT_OK;
}

static spt_status open_maker(struct maker *m, const struct examples_options *o,
                             const struct data_encoder *enc, spt_err *err)
{
    m->o = o;
    m->enc = enc;
    buf_init(&m->p.input, TEXT_MAX);
    buf_init(&m->p.target, TEXT_MAX);
    buf_init(&m->unwritable, TEXT_MAX);
    TRY(encode_given_labels(m, err));
    return open_source(&m->src, o, err);
}

/* --- in memory ---------------------------------------------------------------------------- */

struct meta {             /* 32 bytes per example: large files hold millions */
    size_t input, target; /* into ids */
    uint32_t input_len, target_len;
    uint32_t line; /* UINT32_MAX: that or more */
    int32_t label;
};

struct texts {            /* only when texts are kept */
    size_t input, target; /* into text */
    uint32_t input_len, target_len;
};

struct examples {
    struct id_list ids;
    char *text;
    size_t text_len, text_cap;
    struct meta *meta;
    struct texts *texts; /* [count] when has_text */
    size_t count, cap, texts_cap;
    bool has_text;
    label_set *labels; /* found; NULL otherwise */
    struct examples_counts n;
    char first_trimmed[64];
    char *path, *input_template, *target_template, *unwritable;
    int64_t max_input, max_target;
};

spt_status examples_new(examples **out, spt_err *err)
{
    examples *e = mem_zalloc(1, sizeof *e);
    if (!e)
        return err_nomem(err, sizeof *e);
    *out = e;
    return SPT_OK;
}

void examples_free(examples *e)
{
    if (!e)
        return;
    id_list_release(&e->ids);
    mem_free(e->text);
    mem_free(e->meta);
    mem_free(e->texts);
    label_set_free(e->labels);
    mem_free(e->path);
    mem_free(e->input_template);
    mem_free(e->target_template);
    mem_free(e->unwritable);
    mem_free(e);
}

size_t examples_count(const examples *e)
{
    return e->count;
}

struct example examples_at(const examples *e, size_t i)
{
    const struct meta *m = &e->meta[i];
    struct example x = {
        .input = e->ids.id + m->input,
        .input_len = m->input_len,
        .target = m->target_len ? e->ids.id + m->target : NULL,
        .target_len = m->target_len,
        .label = m->label,
        .line = m->line,
    };
    if (e->has_text) {
        const struct texts *t = &e->texts[i];
        x.input_text = t->input_len ? e->text + t->input : "";
        x.input_text_len = t->input_len;
        x.target_text = t->target_len ? e->text + t->target : "";
        x.target_text_len = t->target_len;
    }
    return x;
}

struct examples_counts examples_counts(const examples *e)
{
    return e->n;
}

const char *examples_path(const examples *e)
{
    return e->path ? e->path : "memory";
}

const char *examples_unwritable(const examples *e)
{
    return e->unwritable ? e->unwritable : "";
}

const label_set *examples_labels(const examples *e)
{
    return e->labels;
}

const char *examples_input_template(const examples *e)
{
    return e->input_template;
}

const char *examples_target_template(const examples *e)
{
    return e->target_template;
}

static spt_status add_text(examples *e, const char *text, size_t len, size_t *at, uint32_t *n,
                           spt_err *err)
{
    if (len > UINT32_MAX)
        return err_set(err, SPT_E_FORMAT, "a text of %zu bytes", len);
    TRY(mem_grow(&e->text, &e->text_cap, e->text_len + len + 1, 1, POOL_MAX, err));
    *at = e->text_len;
    *n = (uint32_t)len;
    if (len)
        memcpy(e->text + e->text_len, text, len);
    e->text[e->text_len + len] = '\0';
    e->text_len += len + 1;
    return SPT_OK;
}

static spt_status add_ids(examples *e, const int32_t *ids, size_t len, size_t *at, uint32_t *n,
                          spt_err *err)
{
    if (len > UINT32_MAX)
        return err_set(err, SPT_E_FORMAT, "%zu ids in one example", len);
    *at = e->ids.len;
    *n = (uint32_t)len;
    return id_list_add(&e->ids, ids, len, err);
}

static uint32_t short_line(uint64_t line)
{
    return line < UINT32_MAX ? (uint32_t)line : UINT32_MAX;
}

/* t: NULL without texts. */
static spt_status add_meta(examples *e, struct meta m, const struct texts *t, spt_err *err)
{
    if (e->count == UINT32_MAX)
        return err_set(err, SPT_E_FORMAT, "more than %u examples", UINT32_MAX);
    TRY(mem_grow(&e->meta, &e->cap, e->count + 1, sizeof *e->meta, UINT32_MAX, err));
    if (t && !e->has_text) { /* the ones so far have none */
        TRY(mem_grow(&e->texts, &e->texts_cap, e->count + 1, sizeof *e->texts, UINT32_MAX, err));
        memset(e->texts, 0, e->count * sizeof *e->texts);
        e->has_text = true;
    }
    if (e->has_text) {
        TRY(mem_grow(&e->texts, &e->texts_cap, e->count + 1, sizeof *e->texts, UINT32_MAX, err));
        e->texts[e->count] = t ? *t : (struct texts){0};
    }
    e->meta[e->count++] = m;
    return SPT_OK;
}

spt_status examples_add(examples *e, const struct example *x, spt_err *err)
{
    struct meta m = {.line = short_line(x->line), .label = (int32_t)x->label};
    struct texts t = {0};
    const bool text = x->input_text || x->target_text;
    TRY(add_ids(e, x->input, x->input_len, &m.input, &m.input_len, err));
    TRY(add_ids(e, x->target, x->target_len, &m.target, &m.target_len, err));
    if (text) {
        TRY(add_text(e, x->input_text, x->input_text_len, &t.input, &t.input_len, err));
        TRY(add_text(e, x->target_text, x->target_text_len, &t.target, &t.target_len, err));
    }
    TRY(add_meta(e, m, text ? &t : NULL, err));
    e->n.examples++;
    e->n.tokens_in += x->input_len;
    e->n.tokens_out += x->target_len;
    e->n.longest_input = larger(e->n.longest_input, (int64_t)x->input_len);
    e->n.longest_target = larger(e->n.longest_target, (int64_t)x->target_len);
    return SPT_OK;
}

/* --- collecting the label set ------------------------------------------------------------- */

struct found_label { /* of label i in order of appearance: its ids in the pool */
    size_t at;
    uint32_t len;
    bool cut;
    uint8_t flags;
};

struct collector {
    bool on;
    struct found_label *found;
    size_t cap;
};

static spt_status encode_target(struct maker *m, examples *e, const char *text, size_t len,
                                struct found_label *out, spt_err *err)
{
    struct id_list *ids = &m->p.target_ids;
    int64_t uncut;
    ids->len = 0;
    TRY(encode(m, text, len, m->o->max_target, ids, &uncut, &out->cut, err));
    out->flags = flags_of(m, ids, 0);
    m->n.longest_target_uncut = larger(m->n.longest_target_uncut, uncut);
    if (out->flags & UNWRITABLE)
        TRY(note_unwritable(m, text, len, err));
    return add_ids(e, ids->id, ids->len, &out->at, &out->len, err);
}

/* Too many different targets: they are free text, not labels. */
static void stop_collecting(struct collector *c, examples *e)
{
    c->on = false;
    label_set_free(e->labels);
    e->labels = NULL;
    for (size_t i = 0; i < e->count; i++)
        e->meta[i].label = -1;
}

static spt_status collect_target(struct maker *m, examples *e, struct collector *c,
                                 struct meta *meta, spt_err *err)
{
    const char *text = buf_str(&m->p.target);
    size_t len = m->p.target.len;
    label_trim(&text, &len);
    struct found_label f = {0};
    const size_t before = c->on ? label_set_count(e->labels) : 0;
    if (c->on && before == LABELS_MAX && label_set_find(e->labels, text, len) < 0)
        stop_collecting(c, e);
    if (c->on) {
        const spt_status st = label_set_add(e->labels, text, len, NULL, err);
        if (st)
            return err_wrap(err, st, "%s: line %llu", records_path(m->src.r),
                            (unsigned long long)records_line(m->src.r));
        note_trimmed(m, m->p.target.len, len, buf_str(&m->p.target));
        const size_t label = (size_t)label_set_find(e->labels, text, len);
        meta->label = (int32_t)label;
        if (label == before) {
            TRY(mem_grow(&c->found, &c->cap, before + 1, sizeof *c->found, LABELS_MAX, err));
            TRY(encode_target(m, e, text, len, &f, err));
            c->found[label] = f;
        }
        f = c->found[label];
    } else {
        TRY(encode_target(m, e, buf_str(&m->p.target), m->p.target.len, &f, err));
    }
    meta->target = f.at;
    meta->target_len = f.len;
    m->n.cut_targets += f.cut;
    count_flags(m, f.flags);
    m->n.tokens_out += f.len;
    m->n.longest_target = larger(m->n.longest_target, (int64_t)f.len);
    return SPT_OK;
}

/* Labels sorted by their bytes; the examples follow. */
static spt_status sort_labels(examples *e, spt_err *err)
{
    const size_t n = label_set_count(e->labels);
    buf names;
    buf_init(&names, POOL_MAX);
    size_t *at = mem_zalloc(n + 1, sizeof *at);
    int32_t *now = mem_zalloc(n + 1, sizeof *now);
    spt_status st = at && now ? SPT_OK : err_nomem(err, n * sizeof *at);
    for (size_t i = 0; i < n && !st; i++) {
        at[i] = names.len;
        buf_add(&names, label_set_text(e->labels, i), label_set_len(e->labels, i) + 1);
    }
    st = st ? st : buf_status(&names, "labels", err);
    if (!st) {
        label_set_sort(e->labels);
        for (size_t i = 0; i < n; i++)
            now[i] =
                (int32_t)label_set_find(e->labels, names.data + at[i], strlen(names.data + at[i]));
        for (size_t i = 0; i < e->count; i++)
            if (e->meta[i].label >= 0)
                e->meta[i].label = now[e->meta[i].label];
    }
    buf_release(&names);
    mem_free(at);
    mem_free(now);
    return st;
}

static spt_status load_one(struct maker *m, examples *e, struct collector *c, bool collecting,
                           spt_err *err)
{
    const struct prepared *p = &m->p;
    struct meta meta = {.line = short_line(records_line(m->src.r)), .label = (int32_t)p->label};
    struct texts t = {0};
    TRY(add_ids(e, p->input_ids.id, p->input_ids.len, &meta.input, &meta.input_len, err));
    if (collecting)
        TRY(collect_target(m, e, c, &meta, err));
    else if (m->src.target.t)
        TRY(add_ids(e, p->target_ids.id, p->target_ids.len, &meta.target, &meta.target_len, err));
    if (m->o->keep_text) {
        TRY(add_text(e, buf_str(&p->input), p->input.len, &t.input, &t.input_len, err));
        TRY(add_text(e, buf_str(&p->target), m->src.target.t ? p->target.len : 0, &t.target,
                     &t.target_len, err));
    }
    return add_meta(e, meta, m->o->keep_text ? &t : NULL, err);
}

static spt_status load_all(struct maker *m, examples *e, spt_err *err)
{
    const bool collecting = m->o->find_labels && !m->o->labels && m->src.target.t;
    struct collector c = {.on = collecting};
    spt_status st = collecting ? label_set_new(&e->labels, err) : SPT_OK;
    bool more = true;
    while (!st) {
        st = make_next(m, collecting, &more, err);
        if (st || !more)
            break;
        st = load_one(m, e, &c, collecting, err);
    }
    mem_free(c.found);
    if (!st && c.on)
        st = sort_labels(e, err);
    return st;
}

/* What stays when the file is closed. */
static spt_status keep_facts(const struct maker *m, examples *e, spt_err *err)
{
    e->n = m->n;
    e->n.rows = records_count(m->src.r);
    e->max_input = m->o->max_input;
    e->max_target = m->o->max_target;
    memcpy(e->first_trimmed, m->first_trimmed, sizeof e->first_trimmed);
    e->path = mem_strdup(records_path(m->src.r));
    e->input_template = mem_strdup(template_source(m->src.input.t));
    if (m->src.target.t)
        e->target_template = mem_strdup(template_source(m->src.target.t));
    e->unwritable = mem_strdup(buf_str(&m->unwritable));
    if (!e->path || !e->input_template || !e->unwritable ||
        (m->src.target.t && !e->target_template))
        return err_nomem(err, 64);
    return SPT_OK;
}

spt_status examples_load(const struct examples_options *o, const struct data_encoder *enc,
                         examples **out, spt_err *err)
{
    examples *e = NULL;
    TRY(examples_new(&e, err));
    struct maker m = {0};
    spt_status st = open_maker(&m, o, enc, err);
    st = st ? st : load_all(&m, e, err);
    st = st ? st : keep_facts(&m, e, err);
    close_maker(&m);
    if (st) {
        examples_free(e);
        return st;
    }
    *out = e;
    return SPT_OK;
}

void examples_log(const examples *e, const char *role)
{
    const struct examples_counts *n = &e->n;
    log_info("%s: %s: %zu examples (%llu blank lines and %llu empty rows skipped); inputs up to "
             "%lld ids, %llu cut, %llu empty; targets up to %lld ids, %llu cut",
             role, examples_path(e), e->count, (unsigned long long)n->rows.blank,
             (unsigned long long)n->rows.empty, (long long)n->longest_input,
             (unsigned long long)n->cut_inputs, (unsigned long long)n->empty_inputs,
             (long long)n->longest_target, (unsigned long long)n->cut_targets);
    if (n->cut_inputs)
        log_warning("%s: %s: %llu of %zu inputs are longer than %lld ids (the longest has %lld): "
                    "their ends are cut off",
                    role, examples_path(e), (unsigned long long)n->cut_inputs, e->count,
                    (long long)e->max_input, (long long)n->longest_input_uncut);
    if (n->cut_targets)
        log_warning("%s: %s: %llu of %zu targets are longer than %lld ids: their ends are cut off",
                    role, examples_path(e), (unsigned long long)n->cut_targets, e->count,
                    (long long)e->max_target);
    if (n->trimmed_targets)
        log_warning("%s: %s: %llu labels had spaces around them, which are not part of a label "
                    "(the first is \"%s\")",
                    role, examples_path(e), (unsigned long long)n->trimmed_targets,
                    e->first_trimmed);
    if (n->unwritable_targets)
        log_warning(
            "%s: %s: %llu of %zu targets contain characters this vocabulary cannot write%s%s: "
            "generated answers never equal them",
            role, examples_path(e), (unsigned long long)n->unwritable_targets, e->count,
            *examples_unwritable(e) ? ": " : "", examples_unwritable(e));
    if (n->special_targets)
        log_warning("%s: %s: %llu of %zu targets hold the id of <pad>, or of </s> before their "
                    "end: no answer ends as they do",
                    role, examples_path(e), (unsigned long long)n->special_targets, e->count);
    if (n->empty_inputs)
        log_warning("%s: %s: %llu of %zu inputs are empty (just the end token)", role,
                    examples_path(e), (unsigned long long)n->empty_inputs, e->count);
    if (n->rows.quoted)
        log_warning("%s: %s: %llu rows have a field in quotes; TSV has no quoting, so the quotes "
                    "are part of the text (--format csv --delimiter tab undoes them)",
                    role, examples_path(e), (unsigned long long)n->rows.quoted);
    if (n->rows.ragged)
        log_warning("%s: %s: %llu rows have empty fields behind the last column", role,
                    examples_path(e), (unsigned long long)n->rows.ragged);
}

/* --- one at a time ------------------------------------------------------------------------ */

struct example_stream {
    struct examples_options o;
    struct maker m;
};

spt_status example_stream_open(const struct examples_options *o, const struct data_encoder *enc,
                               example_stream **out, spt_err *err)
{
    example_stream *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->o = *o;
    const spt_status st = open_maker(&s->m, &s->o, enc, err);
    if (st) {
        example_stream_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

spt_status example_stream_next(example_stream *s, struct example *out, bool *more, spt_err *err)
{
    TRY(make_next(&s->m, false, more, err));
    if (!*more)
        return SPT_OK;
    const struct prepared *p = &s->m.p;
    const bool target = s->m.src.target.t != NULL;
    *out = (struct example){
        .input = p->input_ids.id,
        .input_len = p->input_ids.len,
        .target = target ? p->target_ids.id : NULL,
        .target_len = target ? p->target_ids.len : 0,
        .label = p->label,
        .line = records_line(s->m.src.r),
        .input_text = buf_str(&p->input),
        .input_text_len = p->input.len,
        .target_text = target ? buf_str(&p->target) : NULL,
        .target_text_len = target ? p->target.len : 0,
    };
    return SPT_OK;
}

struct examples_counts example_stream_counts(const example_stream *s)
{
    struct examples_counts n = s->m.n;
    n.rows = records_count(s->m.src.r);
    return n;
}

const char *example_stream_unwritable(const example_stream *s)
{
    return buf_str(&s->m.unwritable);
}

const char *example_stream_input_template(const example_stream *s)
{
    return template_source(s->m.src.input.t);
}

void example_stream_close(example_stream *s)
{
    if (!s)
        return;
    close_maker(&s->m);
    mem_free(s);
}
