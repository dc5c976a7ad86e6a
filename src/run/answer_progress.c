#include "run/answer_progress.h"

#include <stdio.h>
#include <string.h>

#include "os/os.h"

enum { PAUSE_NS = 200000000 };

bool progress_wanted(const struct settings *s, const spt_sink *sink)
{
    return !s->quiet && sink->progress && strcmp(s->progress, "never") != 0 &&
           (sink->terminal || !strcmp(s->progress, "always"));
}

void answer_progress_begin(struct answer_progress *p, const struct settings *s,
                           const spt_sink *sink, uint64_t all)
{
    *p = (struct answer_progress){.sink = progress_wanted(s, sink) ? sink : NULL,
                                  .all = all,
                                  .started_ns = os_monotonic_ns()};
}

void answer_progress_add(struct answer_progress *p, size_t n)
{
    if (!p->sink)
        return;
    const int64_t now = os_monotonic_ns();
    p->done += n;
    if (p->shown && now - p->told_ns < PAUSE_NS)
        return;
    const double s = (double)(now - p->started_ns) / 1e9;
    char line[128], of[32] = "";
    if (p->all)
        snprintf(of, sizeof of, " of %llu", (unsigned long long)p->all);
    snprintf(line, sizeof line, "%llu%s examples  %.0f a second", (unsigned long long)p->done, of,
             s > 0 ? (double)p->done / s : 0);
    p->sink->progress(p->sink->ctx, line);
    p->told_ns = now;
    p->shown = true;
}

void answer_progress_end(struct answer_progress *p)
{
    if (p->sink && p->shown)
        p->sink->progress(p->sink->ctx, NULL);
    p->sink = NULL;
}
