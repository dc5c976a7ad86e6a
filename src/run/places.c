#include "run/places.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/commands.h"
#include "run/engine.h"

enum { PATH_BYTES = 65536 };

#define LINE_EVERY 0.2  /* seconds between changes of the line on a terminal */
#define STORY_EVERY 10. /* and between plain lines elsewhere */

struct watcher {
    const struct settings *s;
    double last; /* when something was shown; -1: never */
    bool line;
};

static void progress_text(const struct hub_progress *p, char *text, size_t cap)
{
    char done[32], total[32], speed[32], left[64] = "";
    const double rate = p->seconds > 0 ? (double)(p->done - p->before) / p->seconds : 0;
    const double seconds = rate > 0 ? (double)(p->total - p->done) / rate : 0;
    if (rate > 0 && p->seconds > 1)
        snprintf(left, sizeof left, ", %d:%02d left", (int)(seconds / 60) % 10000,
                 (int)seconds % 60);
    snprintf(text, cap, "%s: %s of %s (%d %%), %s/s%s: %s", p->name,
             bytes_text((double)p->done, done), bytes_text((double)p->total, total),
             p->total ? (int)(100 * (double)p->done / (double)p->total) : 0,
             bytes_text(rate, speed), left, p->file);
}

static bool watch(void *ctx, const struct hub_progress *p)
{
    struct watcher *w = ctx;
    const spt_sink *sink = w->s ? w->s->sink : NULL;
    const bool line = sink && sink->progress && sink->terminal && !w->s->quiet;
    char text[512];
    if (p->seconds - w->last >= (line ? LINE_EVERY : STORY_EVERY)) {
        progress_text(p, text, sizeof text);
        if (line)
            sink->progress(sink->ctx, text);
        else if (w->last >= 0)
            log_info("%s", text);
        w->last = p->seconds;
        w->line = line;
    }
    return !stop_requested();
}

static spt_status find(const struct settings *s, const char *text, unsigned need, bool refresh,
                       char **path, spt_err *err)
{
    buf found;
    struct watcher w = {.s = s, .last = -STORY_EVERY};
    const struct hub_opts o = {.need = need, .refresh = refresh, .progress = watch, .ctx = &w};
    buf_init(&found, PATH_BYTES);
    spt_status st = hub_find(text, &o, &found, err);
    if (w.line)
        s->sink->progress(s->sink->ctx, NULL);
    if (!st) {
        *path = mem_strdup(buf_str(&found));
        st = *path ? SPT_OK : err_nomem(err, found.len);
    }
    buf_release(&found);
    return st;
}

spt_status place_find(const struct settings *s, const char *text, unsigned need, char **path,
                      spt_err *err)
{
    return find(s, text, need, false, path, err);
}

spt_status place_refresh(const struct settings *s, const char *text, unsigned need, char **path,
                         spt_err *err)
{
    return find(s, text, need, true, path, err);
}

spt_status place_vocab(const struct settings *s, char **path, spt_err *err)
{
    const char *from = s->vocab && s->vocab[0] ? s->vocab : s->model;
    if (!from || !from[0])
        return err_set(err, SPT_E_USAGE, "--vocab FILE (or --model MODEL) is missing");
    if (strcmp(from, "bytes") != 0)
        return place_find(s, from, HUB_VOCAB, path, err);
    *path = mem_strdup(from);
    return *path ? SPT_OK : err_nomem(err, strlen(from));
}

char *place_name(const char *text)
{
    if (!hub_is_name(text) || fs_exists(text))
        return mem_strdup(path_base(text));
    return mem_strndup(text, strcspn(text, "@"));
}
