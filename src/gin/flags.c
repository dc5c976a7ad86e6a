/* absl's flag syntax for the flags of the reference's programs. Every argument that begins with
 * exactly "--gin." becomes a --gin_bindings flag first; that is pure text, without quoting. */
#include "gin/flags.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "fs/fs.h"

enum { MAX_ARGS = 1 << 20, MAX_ARG = 16 << 20, MAX_FLAGFILES = 64, MAX_FLAGFILE = 1 << 20 };

enum kind { STRING, REPEATED, LIST, BOOL, INT, UNDEFOK };

static const struct flag {
    const char *name;
    enum kind kind;
    unsigned programs;
    size_t field;     /* offset in gin_flags */
    size_t has_field; /* INT: offset of its bool */
} flags[] = {
#define FIELD(x) offsetof(gin_flags, x)
    {"gin_file", REPEATED, GIN_PROGRAM_ALL, FIELD(gin_file), 0},
    {"gin_bindings", REPEATED, GIN_PROGRAM_ALL, FIELD(gin_bindings), 0},
    {"gin_search_paths", LIST, GIN_PROGRAM_ALL, FIELD(search_paths), 0},
    {"tfds_data_dir", STRING, GIN_PROGRAM_ALL, FIELD(tfds_data_dir), 0},
    {"seqio_additional_cache_dirs", LIST, GIN_PROGRAM_TRAIN, FIELD(cache_dirs), 0},
    {"multiprocess_gpu", BOOL, GIN_PROGRAM_TRAIN, FIELD(multiprocess_gpu), 0},
    {"coordinator_address", STRING, GIN_PROGRAM_TRAIN, FIELD(coordinator_address), 0},
    {"process_count", INT, GIN_PROGRAM_TRAIN, FIELD(process_count), FIELD(has_process_count)},
    {"process_index", INT, GIN_PROGRAM_TRAIN, FIELD(process_index), FIELD(has_process_index)},
    {"initialization_timeout", INT, GIN_PROGRAM_TRAIN, FIELD(initialization_timeout),
     FIELD(has_initialization_timeout)},
    {"shard_id", INT, GIN_PROGRAM_INFER, FIELD(shard_id), FIELD(has_shard_id)},
    {"run_mode", STRING, GIN_PROGRAM_MAIN, FIELD(run_mode), 0},
    {"dry_run", BOOL, GIN_PROGRAM_MAIN, FIELD(dry_run), 0},
    {"undefok", UNDEFOK, GIN_PROGRAM_ALL, 0, 0},
};

struct parser {
    gin_flags *out;
    unsigned programs;
    gin_strings args; /* flag files expanded, --gin. rewritten */
    gin_strings undefok;
    size_t flagfiles;
};

/* --- lists of strings --------------------------------------------------------------------- */

static spt_status add_owned(gin_strings *l, char *s, spt_err *err)
{
    const spt_status st =
        s ? mem_grow(&l->item, &l->cap, l->count + 1, sizeof *l->item, MAX_ARGS, err)
          : err_nomem(err, 0);
    if (st) {
        mem_free(s);
        return st;
    }
    l->item[l->count++] = s;
    return SPT_OK;
}

static spt_status add(gin_strings *l, const char *s, size_t len, spt_err *err)
{
    return add_owned(l, mem_strndup(s, len), err);
}

static void clear(gin_strings *l)
{
    for (size_t i = 0; i < l->count; i++)
        mem_free(l->item[i]);
    mem_free(l->item);
    *l = (gin_strings){0};
}

void gin_flags_release(gin_flags *f)
{
    clear(&f->gin_file);
    clear(&f->gin_bindings);
    clear(&f->search_paths);
    clear(&f->cache_dirs);
    clear(&f->rest);
    mem_free(f->tfds_data_dir);
    mem_free(f->coordinator_address);
    mem_free(f->run_mode);
    *f = (gin_flags){0};
}

/* --- rewriting ---------------------------------------------------------------------------- */

spt_status gin_flag_rewrite(const char *arg, char **out, spt_err *err)
{
    if (strncmp(arg, "--gin.", 6) != 0) {
        char *copy = mem_strdup(arg);
        if (!copy)
            return err_nomem(err, strlen(arg));
        *out = copy;
        return SPT_OK;
    }
    const char *eq = strchr(arg, '=');
    if (!eq)
        return err_set(err, SPT_E_USAGE,
                       "Gin bindings must be of the form "
                       "'--gin.<param>=<value>', got: %s",
                       arg);
    buf b;
    buf_init(&b, MAX_ARG);
    buf_addf(&b, "--gin_bindings=%.*s = ", (int)(eq - arg - 6), arg + 6);
    buf_adds(&b, eq + 1);
    const spt_status st = buf_status(&b, "gin binding", err);
    if (!st)
        *out = buf_detach(&b);
    buf_release(&b);
    return st;
}

/* --- collecting arguments ----------------------------------------------------------------- */

static spt_status add_argument(struct parser *p, const char *arg, spt_err *err);

static spt_status read_flagfile(struct parser *p, const char *path, spt_err *err)
{
    char *text;
    size_t size;
    if (++p->flagfiles > MAX_FLAGFILES)
        return err_set(err, SPT_E_USAGE,
                       "--flagfile=%s: more than %d flag files; do they name each other?", path,
                       MAX_FLAGFILES);
    spt_status st = fs_read_all(path, MAX_FLAGFILE, &text, &size, err);
    if (st)
        return err_wrap(err, st, "--flagfile=%s", path);
    for (char *line = text, *next; line && !st; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        while (*line == ' ' || *line == '\t')
            line++;
        size_t len = strlen(line);
        while (len && strchr(" \t\r", line[len - 1]))
            line[--len] = 0;
        if (len && *line != '#' && strncmp(line, "//", 2) != 0)
            st = add_argument(p, line, err);
    }
    mem_free(text);
    return st;
}

static const char *flag_name(const char *arg)
{
    return arg[0] != '-' || !arg[1] ? NULL : arg[1] == '-' ? arg + 2 : arg + 1;
}

static spt_status add_argument(struct parser *p, const char *arg, spt_err *err)
{
    const char *name = flag_name(arg);
    if (name && strncmp(name, "flagfile=", 9) == 0)
        return read_flagfile(p, name + 9, err);
    char *rewritten;
    TRY(gin_flag_rewrite(arg, &rewritten, err));
    return add_owned(&p->args, rewritten, err);
}

static spt_status collect(struct parser *p, int argc, char *const *argv, spt_err *err)
{
    bool ended = false;
    for (int i = 1; i < argc; i++) {
        const char *name = ended ? NULL : flag_name(argv[i]);
        if (name && strcmp(name, "flagfile") == 0) {
            if (i + 1 >= argc)
                return err_set(err, SPT_E_USAGE, "--flagfile with no argument");
            TRY(read_flagfile(p, argv[++i], err));
            continue;
        }
        ended |= strcmp(argv[i], "--") == 0;
        TRY(ended ? add(&p->args, argv[i], strlen(argv[i]), err) : add_argument(p, argv[i], err));
    }
    return SPT_OK;
}

/* --- values ------------------------------------------------------------------------------- */

static spt_status set_bool(bool *out, const struct flag *f, const char *value, spt_err *err)
{
    static const char *const yes[] = {"true", "t", "1"}, *const no[] = {"false", "f", "0"};
    for (size_t i = 0; i < 3; i++) {
        const bool is_yes = !value || strcmp(value, yes[i]) == 0 ||
                            (i == 0 && (strcmp(value, "True") == 0 || strcmp(value, "TRUE") == 0));
        const bool is_no =
            value && (strcmp(value, no[i]) == 0 ||
                      (i == 0 && (strcmp(value, "False") == 0 || strcmp(value, "FALSE") == 0)));
        if (is_yes || is_no) {
            *out = is_yes;
            return SPT_OK;
        }
    }
    return err_set(err, SPT_E_USAGE, "flag --%s=%s: Non-boolean argument to boolean flag", f->name,
                   value);
}

static spt_status set_int(gin_flags *out, const struct flag *f, const char *value, spt_err *err)
{
    char *end;
    const long long v = strtoll(value, &end, 0);
    if (!*value || *end || v == LLONG_MAX || v == LLONG_MIN)
        return err_set(err, SPT_E_USAGE, "flag --%s=%s: not an integer", f->name, value);
    *(int64_t *)(void *)((char *)out + f->field) = v;
    *(bool *)(void *)((char *)out + f->has_field) = true;
    return SPT_OK;
}

/* One line of CSV, items trimmed; the empty string is the empty list. */
static spt_status set_list(gin_strings *out, const struct flag *f, const char *value, spt_err *err)
{
    clear(out);
    if (!*value)
        return SPT_OK;
    for (const char *s = value;; s++) {
        buf item;
        buf_init(&item, MAX_ARG);
        if (*s == '"') {
            for (s++; *s && (*s != '"' || s[1] == '"'); s++) {
                s += *s == '"';
                buf_addc(&item, *s);
            }
            if (*s != '"' || (s[1] && s[1] != ',')) {
                buf_release(&item);
                return err_set(err, SPT_E_USAGE, "flag --%s=%s: unbalanced quotes in the list",
                               f->name, value);
            }
            s++;
        } else {
            while (*s && *s != ',')
                buf_addc(&item, *s++);
        }
        const char *t = buf_str(&item), *e = t + item.len;
        while (t < e && strchr(" \t", *t))
            t++;
        while (e > t && strchr(" \t", e[-1]))
            e--;
        spt_status st = buf_status(&item, f->name, err);
        if (!st)
            st = add(out, t, (size_t)(e - t), err);
        buf_release(&item);
        TRY(st);
        if (!*s)
            return SPT_OK;
    }
}

static spt_status set_value(struct parser *p, const struct flag *f, const char *value, spt_err *err)
{
    void *field = (char *)p->out + f->field;
    /* never: every kind has its case */
    switch (f->kind) {
    case STRING: {
        char *copy = mem_strdup(value);
        if (!copy)
            return err_nomem(err, strlen(value));
        mem_free(*(char **)field);
        *(char **)field = copy;
        return SPT_OK;
    }
    case REPEATED:
        p->out->any = true;
        return add(field, value, strlen(value), err);
    case LIST:
        return set_list(field, f, value, err);
    case BOOL:
        return set_bool(field, f, value, err);
    case INT:
        return set_int(p->out, f, value, err);
    case UNDEFOK:
        return set_list(&p->undefok, f, value, err);
    }
    return SPT_OK;
}

/* --- the loop ----------------------------------------------------------------------------- */

static const struct flag *find_flag(const struct parser *p, const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strlen(flags[i].name) == len && memcmp(flags[i].name, name, len) == 0 &&
            flags[i].programs & p->programs)
            return &flags[i];
    return NULL;
}

bool gin_is_flag(const char *arg, unsigned programs)
{
    const struct parser p = {.programs = programs};
    const char *name = flag_name(arg);
    if (!name)
        return false;
    if (strncmp(name, "gin.", 4) == 0 || strcmp(name, "flagfile") == 0 ||
        strncmp(name, "flagfile=", 9) == 0)
        return true;
    return find_flag(&p, name, strcspn(name, "=")) != NULL;
}

const char *gin_flag_name(size_t i)
{
    return i < sizeof flags / sizeof *flags ? flags[i].name : NULL;
}

unsigned gin_flag_programs(size_t i)
{
    return i < sizeof flags / sizeof *flags ? flags[i].programs : 0;
}

bool gin_flag_is_switch(size_t i)
{
    return i < sizeof flags / sizeof *flags && flags[i].kind == BOOL;
}

static spt_status parse_all(struct parser *p, spt_err *err)
{
    bool ended = false;
    for (size_t i = 0; i < p->args.count; i++) {
        const char *arg = p->args.item[i];
        const char *name = ended ? NULL : flag_name(arg);
        ended |= strcmp(arg, "--") == 0;
        const char *eq = name ? strchr(name, '=') : NULL;
        const size_t len = !name ? 0 : eq ? (size_t)(eq - name) : strlen(name);
        const struct flag *f = name ? find_flag(p, name, len) : NULL;
        if (f && f->kind == BOOL) {
            TRY(set_value(p, f, eq ? eq + 1 : NULL, err));
        } else if (f && (eq || i + 1 < p->args.count)) {
            TRY(set_value(p, f, eq ? eq + 1 : p->args.item[++i], err));
        } else if (f) {
            return err_set(err, SPT_E_USAGE, "Missing value for flag --%s", f->name);
        } else if (len > 2 && !eq && strncmp(name, "no", 2) == 0 &&
                   (f = find_flag(p, name + 2, len - 2)) && f->kind == BOOL) {
            TRY(set_value(p, f, "false", err));
        } else {
            TRY(add(&p->out->rest, arg, strlen(arg), err));
        }
    }
    return SPT_OK;
}

/* Unknown flags that --undefok names are dropped. */
static void drop_undefok(struct parser *p)
{
    size_t kept = 0;
    gin_strings *rest = &p->out->rest;
    for (size_t i = 0; i < rest->count; i++) {
        const char *name = flag_name(rest->item[i]);
        const size_t len = name ? strcspn(name, "=") : 0;
        bool drop = false;
        for (size_t k = 0; name && k < p->undefok.count; k++) {
            const char *u = p->undefok.item[k];
            const size_t n = strlen(u);
            drop |= (n == len && memcmp(u, name, n) == 0) ||
                    (n + 2 == len && memcmp(name, "no", 2) == 0 && memcmp(u, name + 2, n) == 0);
        }
        if (drop)
            mem_free(rest->item[i]);
        else
            rest->item[kept++] = rest->item[i];
    }
    rest->count = kept;
}

spt_status gin_flags_apply(const gin_flags *f, gin_config *c, const char *const *defaults, size_t n,
                           spt_err *err)
{
    for (size_t i = 0; i < f->search_paths.count; i++)
        TRY(gin_add_search_path(c, f->search_paths.item[i], err));
    for (size_t i = 0; i < n; i++)
        TRY(gin_add_search_path(c, defaults[i], err));
    for (size_t i = 0; i < f->gin_file.count; i++)
        TRY(gin_parse_file(c, f->gin_file.item[i], err));
    return gin_parse_bindings(c, (const char *const *)f->gin_bindings.item, f->gin_bindings.count,
                              err);
}

spt_status gin_flags_parse(int argc, char *const *argv, unsigned programs, gin_flags *out,
                           spt_err *err)
{
    gin_flags made = {0};
    struct parser p = {.out = &made, .programs = programs};
    spt_status st = add(&made.search_paths, ".", 1, err);
    if (!st)
        st = collect(&p, argc, argv, err);
    if (!st)
        st = parse_all(&p, err);
    if (!st)
        drop_undefok(&p);
    clear(&p.args);
    clear(&p.undefok);
    if (st) {
        gin_flags_release(&made);
        return st;
    }
    *out = made;
    return SPT_OK;
}
