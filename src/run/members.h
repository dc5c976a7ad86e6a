/* One base and one or more prompts over it, opened together: the weights are read once. */
#ifndef SPT_RUN_MEMBERS_H
#define SPT_RUN_MEMBERS_H

#include "run/evaluate.h"

struct member {
    char *name;            /* as the user wrote it; "" for the bare model */
    struct prompt *prompt; /* NULL: the bare model */
    struct task_text task;
};

struct members {
    struct engine engine;
    struct member *m;
    size_t count, cap;
};

/* `list`: "a.npy,b.npy" (or one path, or NULL: the bare model); `more`: further paths. Vocabulary,
 * prompts and labels are checked; no weight is read. */
spt_status members_open(const struct settings *s, const char *list, char *const *more,
                        size_t more_count, struct members *out, spt_err *err);
/* Reads the weights, and compares every prompt with the base. o: what they will be used for. */
spt_status members_load(const struct settings *s, const struct evaluate_opts *o, struct members *u,
                        spt_err *err);
void members_close(struct members *u); /* accepts an all-zero object */

/* The member of this path, file name or stem; -1 when there is none or more than one. */
int64_t members_find(const struct members *u, const char *name, size_t len);

/* An evaluator for any of them, and their priors (--calibrate). */
spt_status members_evaluator(struct members *u, const struct settings *s,
                             const struct evaluate_opts *o, int64_t longest_input,
                             int64_t longest_target, struct evaluator *out, spt_err *err);
/* Answers: of[i] is the member that answers example i; NULL: the only one. */
spt_status members_answer(const struct members *u, struct evaluator *v, const examples *x,
                          const int32_t *of, struct answers *out, spt_err *err);

#endif
