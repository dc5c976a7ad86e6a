/* Where `spt infer` and `spt score` take examples from: lines of plain text or rows of a table, one
 * at a time, for one prompt or several. Every prompt's own template makes its input. */
#ifndef SPT_RUN_FEED_H
#define SPT_RUN_FEED_H

#include "run/members.h"

struct feed;

/* --data (a table) or the argument or standard input (lines). */
spt_status feed_open(const struct settings *s, const struct members *u, enum dataset_role role,
                     struct feed **out, spt_err *err);
void feed_close(struct feed *f); /* accepts NULL */
/* What is read, for names of outputs: a path or "-". */
const char *feed_path(const struct settings *s);

/* Up to `want` records as examples with texts: one per record and prompt (or the one that the
 * record names). of: the prompt of each, NULL with one prompt. record: number of its record in the
 * input from 0. Count 0 at the end. --strict: a record that is too long is SPT_E_CHECK. */
struct feed_chunk {
    examples *x;
    int32_t *of;
    uint64_t *record;
    size_t cap;
    uint64_t first; /* number of the first example among all */
};
spt_status feed_read(struct feed *f, size_t want, struct feed_chunk *out, spt_err *err);
/* Passes over records. *more = false when there are fewer. */
spt_status feed_skip(struct feed *f, uint64_t records, bool *more, spt_err *err);
void feed_chunk_release(struct feed_chunk *c); /* accepts an all-zero object */
/* Only every n-th record, from number i on. */
void feed_shard(struct feed *f, uint64_t i, uint64_t n);
/* The targets of a file (score) that read as labels are checked as labels before any work, when no
 * label set is known; a file that can be read once only is not. */
spt_status feed_check_targets(const struct settings *s, const struct task_text *t, spt_err *err);
/* Warnings about what was cut or cannot be written. */
void feed_report(const struct feed *f);

#endif
