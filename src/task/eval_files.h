/* Lines of the reference's evaluation files (spec/data.md 5.3), as Python's json writes them. */
#ifndef SPT_TASK_EVAL_FILES_H
#define SPT_TASK_EVAL_FILES_H

#include "task/record.h"

/* A value of the metrics line. */
struct metric_entry {
    const char *key;
    const char *text; /* text metric; NULL: number */
    double number;
};
/* {"step": N, "accuracy": 75.0} and a line end. */
spt_status metrics_line(int64_t step, const struct metric_entry *entry, size_t n, buf *out,
                        spt_err *err);
/* "<task>-000007.jsonl"; a missing step is -1. */
spt_status inference_name(const char *task, int64_t step, buf *out, spt_err *err);
/* Arrays of more than 32 elements: "ndarray(shape=(40,), dtype=int32); summary: 3, 4, ... 42". */
enum { NDARRAY_SHOWN = 32 };
spt_status ndarray_summary(const int64_t *v, size_t n, buf *out, spt_err *err);
/* One line: input fields, target, decoded text and prediction (JSON values), in the order of the
 * reference. target and prediction are JSON already; output NULL for scores, which are given as
 * `score`. */
struct inference_line {
    const record *input;
    const char *target, *output, *prediction;
    size_t output_len;
    bool has_score;
    double score;
};
spt_status inference_line_write(const struct inference_line *l, buf *out, spt_err *err);

#endif
