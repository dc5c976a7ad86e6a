#include "run/feed.h"

#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "text/utf8.h"

/* A table read with one template; prompts with the same one share it. */
struct table {
    example_stream *stream;
    struct example now;
    uint64_t cut_before;
    bool cut;
};

struct feed {
    const struct settings *s;
    const struct members *u;
    const char *path;
    struct table *table;
    size_t tables;
    size_t *table_of;      /* [members] */
    example_stream *names; /* the column that names each row's prompt */
    text_template *names_template;
    struct example name;
    records *lines;
    size_t slot;
    const char *line;
    size_t line_len;
    struct line_encoder encoder;
    uint64_t cut;
    uint64_t odd, first_odd; /* lines that are no clean text, and the first of them */
    bool looked; /* the first line was looked at */
    uint64_t at; /* number of the next record */
    uint64_t examples;
    uint64_t shard, shards;
};

const char *feed_path(const struct settings *s)
{
    return s->data && s->data[0] ? s->data : s->arguments ? s->argument[0] : "-";
}

static bool is_set(const char *text)
{
    return text && text[0];
}

/* --- opening
 * --------------------------------------------------------------------------------------- */

static bool same_input(const struct task_text *a, const struct task_text *b)
{
    const char *x = a->input ? template_source(a->input) : "";
    const char *y = b->input ? template_source(b->input) : "";
    return !strcmp(x, y) && a->max_input == b->max_input;
}

static spt_status open_table(struct feed *f, const struct task_text *t, enum dataset_role role,
                             struct table *out, spt_err *err)
{
    struct examples_options o = dataset_options(f->s, t, f->path, role);
    o.keep_text = true;
    if (f->u->count > 1)
        o.labels = NULL; /* each row is its own prompt's affair */
    return example_stream_open(&o, &t->encoder, &out->stream, err);
}

/* Names are texts: no ids are needed. */
static spt_status encode_nothing(void *ctx, const char *text, size_t len, struct id_list *out,
                                 spt_err *err)
{
    (void)ctx, (void)text, (void)len;
    const int32_t id = 0;
    return id_list_add(out, &id, 1, err);
}

static spt_status open_names(struct feed *f, spt_err *err)
{
    static const struct data_encoder none = {.encode = encode_nothing, .eos_id = 1, .unk_id = -1,
                                             .pad_id = -1};
    TRY(template_column(f->s->prompt_column, &f->names_template, err));
    struct examples_options o = dataset_options(f->s, &f->u->m[0].task, f->path, DATASET_INPUTS);
    o.input = f->names_template;
    o.target = NULL;
    o.labels = NULL;
    o.no_target = true;
    o.max_input = 0;
    o.keep_text = true;
    return example_stream_open(&o, &none, &f->names, err);
}

static spt_status open_tables(struct feed *f, enum dataset_role role, spt_err *err)
{
    const struct members *u = f->u;
    f->table = mem_zalloc(u->count, sizeof *f->table);
    f->table_of = mem_zalloc(u->count, sizeof *f->table_of);
    if (!f->table || !f->table_of)
        return err_nomem(err, u->count * sizeof *f->table);
    for (size_t i = 0; i < u->count; i++) {
        size_t k = 0;
        while (k < i && !same_input(&u->m[k].task, &u->m[i].task))
            k++;
        if (k < i) {
            f->table_of[i] = f->table_of[k];
            continue;
        }
        f->table_of[i] = f->tables;
        TRY(open_table(f, &u->m[i].task, role, &f->table[f->tables++], err));
    }
    if (is_set(f->s->prompt_column))
        TRY(open_names(f, err));
    if (!strcmp(f->path, "-") && f->tables + (f->names != NULL) > 1)
        return err_set(err, SPT_E_USAGE,
                       "standard input can be read once, but these prompts need it %zu times: give "
                       "a file with --data",
                       f->tables + (f->names != NULL));
    return SPT_OK;
}

static spt_status open_lines(struct feed *f, spt_err *err)
{
    if (is_set(f->s->prompt_column))
        return err_set(err, SPT_E_USAGE, "--prompt-column needs a table: give --data FILE");
    const struct records_options o = {.path = f->path, .lines = true, .header = HEADER_NO};
    TRY(records_open(&o, &f->lines, err));
    return records_column(f->lines, "1", &f->slot, err);
}

spt_status feed_open(const struct settings *s, const struct members *u, enum dataset_role role,
                     struct feed **out, spt_err *err)
{
    const bool table = is_set(s->data);
    if (s->arguments > !table)
        return err_set(err, SPT_E_USAGE, "one input file at a time: what is \"%s\" for?",
                       s->argument[!table]);
    if (is_set(s->prompt_column) && u->count < 2)
        return err_set(err, SPT_E_USAGE, "--prompt-column chooses among --prompts A,B,..");
    struct feed *f = mem_zalloc(1, sizeof *f);
    if (!f)
        return err_nomem(err, sizeof *f);
    *f = (struct feed){.s = s, .u = u, .path = feed_path(s), .shards = 1};
    const spt_status st = table ? open_tables(f, role, err) : open_lines(f, err);
    if (st) {
        feed_close(f);
        return st;
    }
    *out = f;
    return SPT_OK;
}

void feed_close(struct feed *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->tables; i++)
        example_stream_close(f->table[i].stream);
    example_stream_close(f->names);
    template_free(f->names_template);
    mem_free(f->table);
    mem_free(f->table_of);
    records_close(f->lines);
    line_encoder_release(&f->encoder);
    mem_free(f);
}

void feed_shard(struct feed *f, uint64_t i, uint64_t n)
{
    f->shard = i;
    f->shards = n;
}

/* --- reading
 * --------------------------------------------------------------------------------------- */

static spt_status next_row(struct feed *f, bool *more, spt_err *err)
{
    *more = false;
    for (size_t i = 0; i < f->tables; i++) {
        struct table *t = &f->table[i];
        TRY(example_stream_next(t->stream, &t->now, more, err));
        if (!*more)
            return SPT_OK;
        const uint64_t cut = example_stream_counts(t->stream).cut_inputs;
        t->cut = cut > t->cut_before;
        t->cut_before = cut;
    }
    return f->names ? example_stream_next(f->names, &f->name, more, err) : SPT_OK;
}

/* A table given as an argument: its rows would be answered as texts, labels and all. */
static void warn_table(struct feed *f)
{
    const bool json = f->line_len > 1 && f->line[0] == '{' && f->line[f->line_len - 1] == '}';
    const bool tab = memchr(f->line, '\t', f->line_len) != NULL;
    f->looked = true;
    if (strcmp(f->path, "-") && (tab || json))
        log_warning("%s: line 1 %s, but each line is answered as one text: --data %s reads it as a "
                    "table",
                    f->path, tab ? "has a tab" : "is JSON", f->path);
}

static spt_status next_line(struct feed *f, bool *more, spt_err *err)
{
    TRY(records_next(f->lines, more, err));
    if (!*more)
        return SPT_OK;
    TRY(records_field(f->lines, f->slot, &f->line, &f->line_len, err));
    if (!f->looked)
        warn_table(f);
    return SPT_OK;
}

/* The next record of this shard. */
static spt_status next_record(struct feed *f, bool *more, spt_err *err)
{
    do
        TRY(f->lines ? next_line(f, more, err) : next_row(f, more, err));
    while (*more && f->at++ % f->shards != f->shard);
    return SPT_OK;
}

static uint64_t line_of(const struct feed *f)
{
    return f->lines ? records_line(f->lines) : f->table[0].now.line;
}

static spt_status refuse_cut(const struct feed *f, const struct member *m, spt_err *err)
{
    return err_set(err, SPT_E_CHECK,
                   "%s: line %llu: the input is longer than --max-input %lld (--strict)", f->path,
                   (unsigned long long)line_of(f), (long long)m->task.max_input);
}

static spt_status add(struct feed *f, size_t member, struct feed_chunk *c, spt_err *err)
{
    const struct member *m = &f->u->m[member];
    struct example e;
    bool cut;
    if (f->lines) {
        const spt_status st =
            line_encode(&f->encoder, &m->task, f->line, f->line_len, &e, &cut, err);
        if (st == SPT_E_FORMAT)
            return err_wrap(err, st, "%s: line %llu", records_path(f->lines),
                            (unsigned long long)line_of(f));
        TRY(st);
        e.line = records_line(f->lines);
    } else {
        e = f->table[f->table_of[member]].now;
        cut = f->table[f->table_of[member]].cut;
        if (f->u->count > 1)
            e.label = m->task.labels && e.target_text
                          ? label_set_find(m->task.labels, e.target_text, e.target_text_len)
                          : -1;
    }
    if (f->lines && (utf8_valid_prefix(f->line, f->line_len) < f->line_len ||
                     memchr(f->line, '\0', f->line_len))) {
        f->first_odd = f->odd++ ? f->first_odd : line_of(f);
    }
    f->cut += cut;
    if (cut && f->s->strict)
        return refuse_cut(f, m, err);
    const size_t n = examples_count(c->x);
    if (n == c->cap) {
        size_t cap = c->cap;
        TRY(mem_grow(&c->record, &cap, n + 1, sizeof *c->record, UINT32_MAX, err));
        TRY(mem_grow(&c->of, &c->cap, n + 1, sizeof *c->of, UINT32_MAX, err));
        c->cap = cap < c->cap ? cap : c->cap;
    }
    c->of[n] = (int32_t)member;
    c->record[n] = f->at - 1;
    f->examples++;
    return examples_add(c->x, &e, err);
}

static spt_status add_record(struct feed *f, struct feed_chunk *c, spt_err *err)
{
    if (!f->names) {
        for (size_t i = 0; i < f->u->count; i++)
            TRY(add(f, i, c, err));
        return SPT_OK;
    }
    const int64_t i = members_find(f->u, f->name.input_text, f->name.input_text_len);
    if (i < 0)
        return err_set(err, SPT_E_FORMAT, "%s: line %llu: \"%.80s\" is %s", f->path,
                       (unsigned long long)f->name.line, f->name.input_text,
                       "none of --prompts, or more than one of them");
    return add(f, (size_t)i, c, err);
}

spt_status feed_read(struct feed *f, size_t want, struct feed_chunk *out, spt_err *err)
{
    bool more = true;
    examples_free(out->x);
    out->x = NULL;
    out->first = f->examples;
    TRY(examples_new(&out->x, err));
    for (size_t i = 0; i < want; i++) {
        TRY(next_record(f, &more, err));
        if (!more)
            return SPT_OK;
        TRY(add_record(f, out, err));
    }
    return SPT_OK;
}

spt_status feed_skip(struct feed *f, uint64_t records_wanted, bool *more, spt_err *err)
{
    *more = true;
    for (uint64_t i = 0; i < records_wanted && *more; i++) {
        TRY(next_record(f, more, err));
        f->examples += *more ? (f->names ? 1 : f->u->count) : 0;
    }
    return SPT_OK;
}

void feed_chunk_release(struct feed_chunk *c)
{
    examples_free(c->x);
    mem_free(c->of);
    mem_free(c->record);
    *c = (struct feed_chunk){0};
}

/* --- targets that are labels
 * --------------------------------------------------------------------- */

enum { CHECKED_LABELS = 1000 };

/* Collects the different targets of a file; *classes: they read as labels. */
static spt_status collect_targets(example_stream *x, label_set *set, bool *classes, spt_err *err)
{
    struct example e;
    bool more = true;
    uint64_t rows = 0;
    size_t longest = 0;
    *classes = false;
    for (;; rows++) {
        TRY(example_stream_next(x, &e, &more, err));
        if (!more)
            break;
        const spt_status st = label_set_add(set, e.target_text, e.target_text_len, NULL, NULL);
        if (st == SPT_E_NOMEM)
            return err_nomem(err, e.target_text_len);
        if (st || label_set_count(set) > CHECKED_LABELS)
            return SPT_OK;
        longest = e.target_text_len > longest ? e.target_text_len : longest;
    }
    *classes = labels_look_like_classes(label_set_count(set), rows, longest);
    return SPT_OK;
}

/* Each score is right all the same, so that what elsewhere is an error is a warning here. */
spt_status feed_check_targets(const struct settings *s, const struct task_text *t,
                              spt_err *err)
{
    struct fs_info info;
    if (t->labels || fs_stat(s->data, &info, NULL) || !info.is_file)
        return SPT_OK; /* checked already; standard input and pipes are read once */
    struct examples_options o = dataset_options(s, t, s->data, DATASET_TARGETS);
    o.records.quiet = true; /* it is opened again */
    example_stream *x = NULL;
    label_set *set = NULL;
    bool classes = false;
    struct label_report report = {0};
    spt_status st = example_stream_open(&o, &t->encoder, &x, err);
    if (!st)
        st = label_set_new(&set, err);
    if (!st)
        st = collect_targets(x, set, &classes, err);
    example_stream_close(x);
    if (!st && classes) {
        label_set_sort(set);
        st = label_set_check(set, &t->encoder, t->max_target, &report, err);
    }
    for (size_t i = 0; !st && i < report.count; i++) {
        if (s->strict)
            st = err_set(err, SPT_E_CHECK, "the targets: %s (--strict)", report.finding[i].text);
        else
            log_warning("the targets: %s", report.finding[i].text);
    }
    label_report_release(&report);
    label_set_free(set);
    return st;
}

void feed_report(const struct feed *f)
{
    const struct examples_counts c =
        f->tables ? example_stream_counts(f->table[0].stream) : (struct examples_counts){0};
    if (f->odd)
        log_warning("%llu lines hold a zero byte or are not UTF-8 (the first is line %llu): what "
                    "they say is not what the model was asked",
                    (unsigned long long)f->odd, (unsigned long long)f->first_odd);
    if (c.unwritable_targets)
        log_warning("%llu of %llu targets contain characters this vocabulary cannot write: %s",
                    (unsigned long long)c.unwritable_targets, (unsigned long long)c.examples,
                    example_stream_unwritable(f->table[0].stream));
    if (c.special_targets)
        log_warning("%llu of %llu targets hold the id of <pad>, or of </s> before their end: no "
                    "answer ends as they do",
                    (unsigned long long)c.special_targets, (unsigned long long)c.examples);
    if (c.empty_inputs)
        log_warning("%llu of %llu inputs are empty (just the end token)",
                    (unsigned long long)c.empty_inputs, (unsigned long long)c.examples);
    if (c.cut_targets)
        log_warning("%llu targets were cut to --max-target %lld", (unsigned long long)c.cut_targets,
                    (long long)f->u->m[0].task.max_target);
    if (f->cut)
        log_warning("%llu inputs were cut to --max-input %lld", (unsigned long long)f->cut,
                    (long long)f->u->m[0].task.max_input);
}
