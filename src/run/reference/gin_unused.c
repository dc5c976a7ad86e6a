/* Bindings that were accepted and do nothing: one warning that counts them by reason and names those
 * that a user may have meant to act; the story lists them all. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/reference/gin_settings.h"

enum { LIST_BYTES = 1 << 20, MOST_SECTIONS = 1 << 22 };

enum reason { INITIAL, PLACEMENT, NOT_CALLED, OTHER, REASONS };

static const char *const reason_names[REASONS] = {
    "initial values of frozen weights", "placements on devices",
    "parameters of configurables that this run does not call", "others"};

struct unused {
    bool *called; /* [sections]: some parameter of it was read */
    size_t sections, cap, at;
    const char *name, *scope; /* of the last binding */
    buf list[REASONS];
    size_t count[REASONS];
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
    buf_addf(&u->list[why], "%s%s%s%s.%s", u->count[why] ? ", " : "", b->scope,
             *b->scope ? "/" : "", dot ? dot + 1 : b->path, b->param);
    u->count[why]++;
}

static void tell(const struct unused *u, size_t total)
{
    buf text;
    buf_init(&text, LIST_BYTES + 4096);
    for (int why = 0, n = 0; why < REASONS; why++)
        if (u->count[why])
            buf_addf(&text, "%s%zu %s", n++ ? ", " : "", u->count[why], reason_names[why]);
    if (u->count[OTHER])
        buf_addf(&text, " (%s)", buf_str(&u->list[OTHER]));
    log_warning("%zu bindings do not act here: %s", total, buf_str(&text));
    for (int why = 0; why < OTHER; why++)
        if (u->count[why])
            log_info("  %s: %s", reason_names[why], buf_str(&u->list[why]));
    buf_release(&text);
}

void gin_warn_unused(const gin_config *c)
{
    struct unused u = {0};
    size_t total = 0;
    for (int why = 0; why < REASONS; why++)
        buf_init(&u.list[why], LIST_BYTES);
    gin_each_binding(c, note_called, &u);
    u.name = NULL;
    if (!u.st)
        gin_each_binding(c, add_unused, &u);
    for (int why = 0; why < REASONS; why++)
        total += u.count[why];
    if (total)
        tell(&u, total);
    for (int why = 0; why < REASONS; why++)
        buf_release(&u.list[why]);
    mem_free(u.called);
}
