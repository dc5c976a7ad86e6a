/* A run is a set of settings of `spt train`: what the user gave for all, one row of --runs, and one
 * value of each list. It is named by the row's name and by the values of the lists that were given,
 * so that a sweep which is made larger later finds its old runs under their names. */
#include "run/train/sweep_runs.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/records.h"
#include "fs/fs.h"
#include "run/commands.h"
#include "run/init_prompt.h"
#include "run/train/train_internal.h"

enum { NAME_MAX_BYTES = 100 };

/* What a row of --runs may set: what one prompt can differ in while all share data and passes. */
static const char *const own_options[] = {
    "seed",     "lr",         "init",   "init-text",       "init-file", "init-population",
    "init-scale", "length",   "steps",  "epochs",          "batch",     "optimizer",
    "schedule", "warmup",     "weight-decay", "clip-norm", "z-loss",    "label-smoothing",
    "normalize", "eval-every", "save-every", "keep",       "patience"};

static bool is_set(const char *text)
{
    return text && text[0];
}

bool sweep_asked(const struct settings *s)
{
    return is_set(s->seeds) || is_set(s->lrs) || is_set(s->inits) || is_set(s->lengths) ||
           is_set(s->runs);
}

/* --- lists -------------------------------------------------------------------------------------- */

struct list {
    const char *option, *name, *prefix; /* "lrs", "lr", "lr": names begin with the prefix */
    const char *text;
};

enum { LISTS = 4 };

/* In the order of names. */
static void lists_of(const struct settings *s, struct list l[LISTS])
{
    const struct list all[LISTS] = {{"inits", "init", "", s->inits},
                                    {"lengths", "length", "p", s->lengths},
                                    {"lrs", "lr", "lr", s->lrs},
                                    {"seeds", "seed", "seed", s->seeds}};
    memcpy(l, all, sizeof all);
}

/* The i-th item of a list; false behind the last. */
static bool item_at(const char *text, size_t i, const char **item, size_t *len)
{
    for (; i && *text; i--) {
        text += strcspn(text, ",");
        if (!*text)
            return false;
        text++;
    }
    *item = text;
    *len = strcspn(text, ",");
    return true;
}

static size_t items(const struct list *l)
{
    const char *item;
    size_t n = 0, len;
    if (!is_set(l->text))
        return 1; /* nothing to choose */
    while (item_at(l->text, n, &item, &len))
        n++;
    return n;
}

/* --- names -------------------------------------------------------------------------------------- */

static spt_status check_name(const char *name, spt_err *err)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
    /* What else may stand in the directory of a sweep, or is swept from it. */
    static const char *const taken[] = {"sweep.jsonl", "state-", "tmp", "trash"};
    const size_t n = strlen(name);
    bool free_name = !strstr(name, ".tmp-");
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        free_name = free_name && strncmp(name, taken[i], strlen(taken[i]));
    if (!free_name)
        return err_set(err, SPT_E_USAGE, "\"%s\" cannot name a run: such names have other uses",
                       name);
    if (n && n <= NAME_MAX_BYTES && name[0] != '.' && name[0] != '-' && strspn(name, good) == n)
        return SPT_OK;
    return err_set(err, SPT_E_USAGE,
                   "\"%.110s\" cannot name a run: up to %d letters, digits and . _ + -, none of . "
                   "and - in front",
                   name, NAME_MAX_BYTES);
}

static spt_status check_names(const struct sweep_runs *r, spt_err *err)
{
    for (size_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < i; k++)
            if (!strcmp(r->run[i].name, r->run[k].name))
                return err_set(err, SPT_E_USAGE, "two runs would be called \"%s\"", r->run[i].name);
    return SPT_OK;
}

/* --- one run ------------------------------------------------------------------------------------ */

static void run_release(struct sweep_run *r)
{
    mem_free(r->name);
    settings_release(&r->settings);
}

static spt_status set_own(struct sweep_run *r, const char *option, const char *value, spt_err *err)
{
    if (settings_given(&r->settings, option))
        return err_set(err, SPT_E_USAGE, "--%s is given for all runs and for each", option);
    return settings_set(&r->settings, option, value, err);
}

/* One row of --runs: the columns as options, "name" apart. */
struct row {
    records *file;
    size_t *slot;
    size_t columns, name; /* name: its column, or columns */
    size_t number;
};

static spt_status take_row(const struct row *row, struct sweep_run *r, buf *name, spt_err *err)
{
    for (size_t i = 0; row && i < row->columns; i++) {
        const char *text;
        size_t len;
        TRY(records_field(row->file, row->slot[i], &text, &len, err));
        if (i == row->name) {
            buf_add(name, text, len);
            continue;
        }
        if (!len) /* an empty field: the default */
            continue;
        char *value = mem_strndup(text, len);
        if (!value)
            return err_nomem(err, len);
        const spt_status st = set_own(r, records_column_name(row->file, i), value, err);
        mem_free(value);
        if (st)
            return st == SPT_E_NOMEM ? st : records_error(row->file, err, "%s", err ? err->msg : "");
    }
    if (row && !name->len)
        buf_addf(name, "run%zu", row->number);
    return SPT_OK;
}

static spt_status take_items(const struct list l[LISTS], const size_t at[LISTS],
                             struct sweep_run *r, buf *name, spt_err *err)
{
    for (int i = 0; i < LISTS; i++) {
        const char *item = "";
        size_t len = 0;
        if (!is_set(l[i].text))
            continue;
        item_at(l[i].text, at[i], &item, &len);
        char *value = mem_strndup(item, len);
        if (!value)
            return err_nomem(err, len);
        spt_status st = len ? set_own(r, l[i].name, value, err)
                            : err_set(err, SPT_E_USAGE, "an item is empty");
        mem_free(value);
        if (st)
            return err_wrap(err, st, "--%s", l[i].option);
        buf_addf(name, "%s%s%.*s", name->len ? "-" : "", l[i].prefix, (int)len, item);
    }
    return SPT_OK;
}

static spt_status fill_run(const struct settings *s, const struct row *row,
                           const struct list l[LISTS], const size_t at[LISTS], struct sweep_run *r,
                           spt_err *err)
{
    buf name;
    buf_init(&name, 1 << 16);
    spt_status st = settings_copy(&r->settings, s, err);
    if (!st)
        st = take_row(row, r, &name, err);
    if (!st)
        st = take_items(l, at, r, &name, err);
    if (!st && !name.len)
        buf_adds(&name, "run");
    if (!st)
        st = buf_status(&name, "name of a run", err);
    if (!st)
        st = check_name(buf_str(&name), err);
    if (!st && !(r->name = mem_strdup(buf_str(&name))))
        st = err_nomem(err, name.len);
    if (!st && is_set(s->out)) {
        buf path;
        buf_init(&path, 1 << 16);
        st = path_join(&path, s->out, r->name, err);
        if (!st)
            st = settings_set(&r->settings, "out", buf_str(&path), err);
        buf_release(&path);
    }
    buf_release(&name);
    return st;
}

/* --- all ---------------------------------------------------------------------------------------- */

/* Every combination of the lists for one row (NULL: none). */
static spt_status add_runs(const struct settings *s, const struct row *row, struct sweep_runs *out,
                           size_t *cap, spt_err *err)
{
    struct list l[LISTS];
    size_t at[LISTS] = {0};
    lists_of(s, l);
    for (;;) {
        if (out->count == SWEEP_MOST_RUNS)
            return err_set(err, SPT_E_USAGE, "more than %d runs: make several sweeps",
                           SWEEP_MOST_RUNS);
        TRY(mem_grow(&out->run, cap, out->count + 1, sizeof *out->run, SWEEP_MOST_RUNS, err));
        struct sweep_run *r = &out->run[out->count];
        *r = (struct sweep_run){0};
        TRY(settings_init(&r->settings, "train", err));
        out->count++;
        TRY(fill_run(s, row, l, at, r, err));
        int k = LISTS - 1;
        while (k >= 0 && ++at[k] == items(&l[k]))
            at[k--] = 0;
        if (k < 0)
            return SPT_OK;
    }
}

static spt_status check_columns(struct row *row, spt_err *err)
{
    row->name = row->columns;
    for (size_t i = 0; i < row->columns; i++) {
        const char *name = records_column_name(row->file, i);
        bool known = !strcmp(name, "name");
        if (known)
            row->name = i;
        for (size_t k = 0; !known && k < sizeof own_options / sizeof *own_options; k++)
            known = !strcmp(own_options[k], name);
        if (!known)
            return err_set(err, SPT_E_USAGE,
                           "%s: \"%s\" is nothing that runs can differ in (name, seed, lr, init, "
                           "init-text, init-file, length, steps, epochs, batch, optimizer, schedule, "
                           "...): give it as an option for all",
                           records_path(row->file), name);
        TRY(records_column(row->file, name, &row->slot[i], err));
    }
    return SPT_OK;
}

static spt_status add_rows(const struct settings *s, struct row *row, struct sweep_runs *out,
                           size_t *cap, spt_err *err)
{
    bool more;
    TRY(check_columns(row, err));
    for (;;) {
        TRY(records_next(row->file, &more, err));
        if (!more)
            return SPT_OK;
        row->number++;
        TRY(add_runs(s, row, out, cap, err));
    }
}

static spt_status add_file(const struct settings *s, struct sweep_runs *out, size_t *cap,
                           spt_err *err)
{
    struct row row = {0};
    const struct records_options o = {.path = s->runs, .header = HEADER_YES, .quiet = true};
    TRY(records_open(&o, &row.file, err));
    row.columns = records_columns(row.file);
    row.slot = mem_alloc(row.columns + 1, sizeof *row.slot);
    const spt_status st = row.slot ? add_rows(s, &row, out, cap, err)
                                   : err_nomem(err, row.columns * sizeof *row.slot);
    mem_free(row.slot);
    records_close(row.file);
    return st;
}

/* Runs without a seed share one: that of a run which was begun before, else a drawn one. */
static spt_status seed_runs(const struct settings *s, struct sweep_runs *r, spt_err *err)
{
    char text[16];
    uint32_t seed = 0;
    bool known = false;
    for (size_t i = 0; i < r->count; i++) {
        struct settings *own = &r->run[i].settings;
        if (settings_given(own, "seed"))
            continue;
        /* All are asked at the first one, when none has the seed yet. */
        for (size_t k = 0; !known && is_set(s->out) && k < r->count; k++)
            known = !settings_given(&r->run[k].settings, "seed") &&
                    train_saved_seed(r->run[k].settings.out, &seed);
        if (!known)
            TRY(prompt_seed(own, &seed, err));
        known = true;
        snprintf(text, sizeof text, "%u", seed);
        TRY(settings_set(own, "seed", text, err));
    }
    return SPT_OK;
}

static spt_status make_all(const struct settings *s, struct sweep_runs *r, spt_err *err)
{
    size_t cap = 0;
    TRY(is_set(s->runs) ? add_file(s, r, &cap, err) : add_runs(s, NULL, r, &cap, err));
    TRY(check_names(r, err));
    return seed_runs(s, r, err);
}

spt_status sweep_runs_make(const struct settings *s, struct sweep_runs *out, spt_err *err)
{
    struct sweep_runs r = {0};
    const spt_status st = make_all(s, &r, err);
    if (st) {
        sweep_runs_release(&r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void sweep_runs_release(struct sweep_runs *r)
{
    for (size_t i = 0; i < r->count; i++)
        run_release(&r->run[i]);
    mem_free(r->run);
    *r = (struct sweep_runs){0};
}
