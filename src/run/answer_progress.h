/* The line of progress of `spt eval`, `infer` and `score`: how many examples were answered. */
#ifndef SPT_RUN_ANSWER_PROGRESS_H
#define SPT_RUN_ANSWER_PROGRESS_H

#include "run/commands.h"

/* --progress, --quiet and whether stderr is a terminal. */
bool progress_wanted(const struct settings *s, const spt_sink *sink);

struct answer_progress {
    const spt_sink *sink; /* NULL: nothing is told */
    uint64_t done, all;   /* all: 0 when nobody knows */
    int64_t started_ns, told_ns;
    bool shown;
};
void answer_progress_begin(struct answer_progress *p, const struct settings *s,
                           const spt_sink *sink, uint64_t all);
/* n more; at most five lines a second. */
void answer_progress_add(struct answer_progress *p, size_t n);
void answer_progress_end(struct answer_progress *p);

#endif
