/* The files of a user's task, row by row, through the one reader of tables. */
#include "task/user_internal.h"

#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"

struct user_source {
    const struct task_user *u;
    records *r;
    const char **name; /* of the fields that are read */
    size_t *slot;
    size_t fields;
    bool lenient; /* all columns are offered to code; a missing one is just absent */
    buf path;
};

/* The file of a split or of a slice of it; NULL. */
static const struct task_file *file_of(const struct task_user *u, const char *split)
{
    const size_t len = strcspn(split, "[");
    for (size_t i = 0; i < u->spec.files; i++)
        if (strlen(u->spec.file[i].split) == len && memcmp(u->spec.file[i].split, split, len) == 0)
            return &u->spec.file[i];
    return NULL;
}

/* As written, else below the directory of data sets. */
static spt_status find_file(user_source *s, const char *path, const char *dir, spt_err *err)
{
    buf_adds(&s->path, path);
    if (fs_exists(path) || !dir || path_is_absolute(path))
        return buf_status(&s->path, "path", err);
    buf other;
    buf_init(&other, 65536);
    spt_status st = path_join(&other, dir, path, err);
    if (!st && fs_exists(buf_str(&other))) {
        buf_clear(&s->path);
        buf_adds(&s->path, buf_str(&other));
    } else if (!st) {
        st = err_set(err, SPT_E_NOTFOUND, "needs %s: neither that nor %s exists", path,
                     buf_str(&other));
    }
    buf_release(&other);
    return st ? st : buf_status(&s->path, "path", err);
}

static spt_status choose_columns(user_source *s, spt_err *err)
{
    const struct task_user *u = s->u;
    s->lenient = u->preprocessor != NULL;
    const size_t n = s->lenient ? records_columns(s->r) : u->fields;
    s->name = mem_alloc(n + 1, sizeof *s->name);
    s->slot = mem_alloc(n + 1, sizeof *s->slot);
    if (!s->name || !s->slot)
        return err_nomem(err, n * sizeof *s->slot);
    for (size_t i = 0; i < n; i++) {
        s->name[i] = s->lenient ? records_column_name(s->r, i) : u->field[i];
        TRY(records_column(s->r, s->name[i], &s->slot[i], err));
    }
    s->fields = n;
    return SPT_OK;
}

static bool is_number(const char *s)
{
    return strspn(s, "0123456789") == strlen(s);
}

static spt_status open_file(user_source *s, bool *told, spt_err *err)
{
    const struct task_user *u = s->u;
    const char **named = mem_alloc(u->fields + 1, sizeof *named);
    struct records_options o = {.path = buf_str(&s->path),
                                .kind = u->spec.kind,
                                .delimiter = u->spec.delimiter,
                                .header = u->spec.header,
                                .quiet = *told,
                                .columns = named};
    if (!named)
        return err_nomem(err, u->fields);
    for (size_t i = 0; i < u->fields; i++)
        if (!is_number(u->field[i]))
            named[o.column_count++] = u->field[i];
    spt_status st = records_open(&o, &s->r, err);
    mem_free(named);
    *told = true;
    if (!st && !records_can_rewind(s->r))
        st = err_set(err, SPT_E_FORMAT,
                     "%s: a task's file is read again and again; a pipe cannot be",
                     buf_str(&s->path));
    return st ? st : choose_columns(s, err);
}

spt_status user_source_open(const struct task *t, const char *split, const char *dir,
                            user_source **out, spt_err *err)
{
    const struct task_file *file = file_of(t->user, split);
    if (!file)
        return err_set(err, SPT_E_CONFIG, "task %s has no split '%s'", t->name, split);
    user_source *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->u = t->user;
    buf_init(&s->path, 65536);
    spt_status st = find_file(s, file->path, dir, err);
    if (!st)
        st = open_file(s, &t->user->told[file - t->user->spec.file], err);
    if (st) {
        user_source_close(s);
        return err_wrap(err, st, "task %s", t->name);
    }
    *out = s;
    return SPT_OK;
}

spt_status user_source_next(user_source *s, record *out, bool *more, spt_err *err)
{
    record_clear(out);
    TRY(records_next(s->r, more, err));
    for (size_t i = 0; *more && i < s->fields; i++) {
        const char *text;
        size_t len;
        const spt_status st = records_field(s->r, s->slot[i], &text, &len, err);
        if (st && s->lenient && st == SPT_E_FORMAT)
            continue;
        TRY(st);
        char *name = record_alloc(out, strlen(s->name[i]) + 1);
        if (!name)
            return err_nomem(err, strlen(s->name[i]));
        memcpy(name, s->name[i], strlen(s->name[i]) + 1);
        TRY(record_set_text(out, name, text, len, err));
    }
    return SPT_OK;
}

spt_status user_source_rewind(user_source *s, spt_err *err)
{
    return records_rewind(s->r, err);
}

spt_status user_source_count(user_source *s, uint64_t *out, spt_err *err)
{
    bool more = true;
    uint64_t n = 0;
    while (more) {
        TRY(records_next(s->r, &more, err));
        n += more;
    }
    *out = n;
    return records_rewind(s->r, err);
}

spt_status user_source_wrap(const user_source *s, spt_status st, spt_err *err)
{
    return err_wrap(err, st, "%s: line %llu", records_path(s->r),
                    (unsigned long long)records_line(s->r));
}

void user_source_close(user_source *s)
{
    if (!s)
        return;
    records_close(s->r);
    mem_free(s->name);
    mem_free(s->slot);
    buf_release(&s->path);
    mem_free(s);
}
