/* The reference's evaluator: predictions and scores of every task of a split, their metrics, and the
 * files below <dir>/inference_eval (spec/t5x.md 9.2, data.md 5). */
#ifndef SPT_RUN_TASK_EVAL_H
#define SPT_RUN_TASK_EVAL_H

#include "report/events.h"
#include "run/reference/task_answers.h"

struct task_eval {
    const struct t5x_base *base;
    struct gin_evaluator opts;
    char *dir; /* <model or output dir>/inference_eval */
    struct task_sets sets;
    events_writer **events; /* [sets.count], opened when first written */
    struct answerer answerer;
    int64_t last_step; /* of the last evaluation, -1 */
    comm *ranks;       /* the first of which writes; set before task_eval_run */
    bool replaces; /* lines of this step or a later one are of a run that was cut short: they go */
};
/* Loads the examples. No task with metrics and the split: sets.count is 0 and nothing is done. */
spt_status task_eval_open(struct task_eval *v, const struct task_env *e,
                          const struct t5x_base *base, const struct gin_dataset *d,
                          const struct gin_evaluator *opts, const char *dir, spt_err *err);
/* Once the weights are there. */
spt_status task_eval_plan(struct task_eval *v, const struct gin_dataset *d, spt_err *err);
spt_status task_eval_run(struct task_eval *v, int64_t step, spt_err *err);
/* Whether the files of this step's evaluation are all there. */
spt_status task_eval_done(const struct task_eval *v, int64_t step, bool *done, spt_err *err);
void task_eval_close(struct task_eval *v); /* accepts an all-zero object */

#endif
