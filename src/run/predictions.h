/* Predictions as JSON Lines: {"input", "target", "prediction", "scores"}; the first line also holds
 * the label set ("label_set"), so that the same figures can be computed again without a model. */
#ifndef SPT_RUN_PREDICTIONS_H
#define SPT_RUN_PREDICTIONS_H

#include "run/evaluate.h"

/* Atomic. agreement: [n] of an ensemble, or NULL. */
spt_status predictions_write(const char *path, const struct answers *a, const examples *x,
                             const struct task_text *t, const float *agreement, spt_err *err);

struct predictions {
    struct task_text task;
    examples *examples; /* of --data: targets */
    struct answers answers;
};
/* --predictions (as written here, as `spt infer` prints or writes with --json, gzip'd or not)
 * against --data (else against the targets in it), row by row. With the scores of every label the
 * loss is computed, too. Labels: --labels, else the file's own, else those of the targets. */
spt_status predictions_read(const struct settings *s, struct predictions *out, spt_err *err);
void predictions_release(struct predictions *p);

/* The answer of row i as text ("" for one that is none of the labels and was not decoded). */
const char *answer_text(const struct answers *a, const struct task_text *t, size_t i);

#endif
