/* Bindings that were accepted and do nothing. Those of a user's files and command line may have been
 * meant to act: one warning counts and names them. The files that come with the program are written for
 * all programs and machines, so in each run some of them do nothing: they are counted in one line, and
 * named where the configuration is looked at (--dry_run). */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/reference/gin_job.h"

enum { LIST_BYTES = 1 << 20, MOST_SECTIONS = 1 << 22 };

enum reason { INITIAL, PLACEMENT, NOT_CALLED, OTHER, REASONS };

static const char *const reason_names[REASONS] = {
    "initial values of frozen weights", "placements on devices",
    "parameters of configurables that this run does not call", "others"};

struct unused {
    bool *called; /* [sections]: some parameter of it was read */
    size_t sections, cap, at;
    const char *name, *scope; /* of the last binding */
    char *dirs; /* of the installed files, one a line */
    struct unused_list {
        buf names[REASONS];
        size_t count[REASONS], total;
    } own, installed;
    spt_status st;
};

/* Bindings come section by section: one configurable in one scope. */
static bool next_section(struct unused *u, const gin_binding_info *b)
{
    const bool same = u->name && !strcmp(u->name, b->name) && !strcmp(u->scope, b->scope);
    u->name = b->name;
    u->scope = b->scope;
    return !same;
}

static void note_called(void *ctx, const gin_binding_info *b)
{
    struct unused *u = ctx;
    if (!b->param || u->st)
        return;
    if (next_section(u, b)) {
        u->st = mem_grow(&u->called, &u->cap, u->sections + 1, sizeof *u->called, MOST_SECTIONS,
                         NULL);
        if (u->st)
            return;
        u->called[u->sections++] = false;
    }
    u->called[u->sections - 1] |= b->read;
}

static bool ends_with(const char *s, const char *ending)
{
    const size_t n = strlen(s), m = strlen(ending);
    return n >= m && !strcmp(s + n - m, ending);
}

static enum reason reason_of(const gin_binding_info *b, bool called)
{
    if (ends_with(b->param, "_init") || ends_with(b->scope, "_init") ||
        strstr(b->path, ".initializers."))
        return INITIAL;
    if (strstr(b->param, "partitioning") || strstr(b->param, "axis_names") ||
        strstr(b->path, ".partitioning."))
        return PLACEMENT;
    return called ? OTHER : NOT_CALLED;
}

/* Below one of the directories of installed files. */
static bool is_installed(const struct unused *u, const char *file)
{
    for (const char *dir = u->dirs; file && dir && *dir;) {
        const size_t n = strcspn(dir, "\n");
        if (n && !strncmp(file, dir, n) && file[n] == '/')
            return true;
        dir += n + (dir[n] == '\n');
    }
    return false;
}

static void add_unused(void *ctx, const gin_binding_info *b)
{
    struct unused *u = ctx;
    if (!b->param)
        return;
    if (next_section(u, b))
        u->at++;
    if (b->read)
        return;
    const enum reason why = reason_of(b, u->called[u->at - 1]);
    const char *dot = strrchr(b->path, '.');
    struct unused_list *l = is_installed(u, b->file) ? &u->installed : &u->own;
    buf_addf(&l->names[why], "%s%s%s%s.%s", l->count[why] ? ", " : "", b->scope,
             *b->scope ? "/" : "", dot ? dot + 1 : b->path, b->param);
    l->count[why]++;
    l->total++;
}

static void count_by_reason(const struct unused_list *l, buf *text)
{
    for (int why = 0, n = 0; why < REASONS; why++)
        if (l->count[why])
            buf_addf(text, "%s%zu %s", n++ ? ", " : "", l->count[why], reason_names[why]);
}

static void name_by_reason(const struct unused_list *l)
{
    for (int why = 0; why < REASONS; why++)
        if (l->count[why])
            log_info("  %s: %s", reason_names[why], buf_str(&l->names[why]));
}

static void tell_own(const struct unused_list *l)
{
    buf text;
    buf_init(&text, REASONS * LIST_BYTES + 4096);
    for (int why = 0, n = 0; why < REASONS; why++)
        if (l->count[why])
            buf_addf(&text, "%s%zu %s (%s)", n++ ? ", " : "", l->count[why], reason_names[why],
                     buf_str(&l->names[why]));
    log_warning("%zu binding%s not act here: %s", l->total,
                l->total == 1 ? " does" : "s do", buf_str(&text));
    buf_release(&text);
}

static void tell_installed(const struct unused_list *l, bool named)
{
    buf text;
    buf_init(&text, 4096);
    count_by_reason(l, &text);
    log_info("%zu binding%s of the gin files that come with spt %s not act here%s%s", l->total,
             l->total == 1 ? "" : "s", l->total == 1 ? "does" : "do", named ? ": " : "",
             named ? buf_str(&text) : " (--dry_run names them)");
    buf_release(&text);
    if (named)
        name_by_reason(l);
}

static void collect(struct unused *u, const gin_config *c)
{
    buf dirs;
    buf_init(&dirs, 1 << 18);
    gin_config_dirs(&dirs);
    u->dirs = dirs.st ? NULL : buf_detach(&dirs);
    buf_release(&dirs);
    gin_each_binding(c, note_called, u);
    u->name = NULL;
    if (!u->st)
        gin_each_binding(c, add_unused, u);
}

static void list_init(struct unused_list *l)
{
    for (int why = 0; why < REASONS; why++)
        buf_init(&l->names[why], LIST_BYTES);
}

static void list_release(struct unused_list *l)
{
    for (int why = 0; why < REASONS; why++)
        buf_release(&l->names[why]);
}

static void tell(const gin_config *c, bool own, bool named)
{
    struct unused u = {0};
    list_init(&u.own);
    list_init(&u.installed);
    collect(&u, c);
    if (u.own.total && own)
        tell_own(&u.own);
    if (u.installed.total)
        tell_installed(&u.installed, named);
    list_release(&u.own);
    list_release(&u.installed);
    mem_free(u.dirs);
    mem_free(u.called);
}

void gin_warn_unused(const gin_config *c)
{
    tell(c, true, false);
}

void gin_name_unused(const gin_config *c)
{
    tell(c, false, true);
}
