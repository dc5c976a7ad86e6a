/* Metrics of steps as the reference adds them up between two summaries (spec/t5x.md 3.5). */
#ifndef SPT_RUN_T5X_METRICS_H
#define SPT_RUN_T5X_METRICS_H

#include "model/model.h"
#include "report/events.h"

struct t5x_metrics {
    double loss, z_loss, weight;
    int64_t correct, counted;
    int64_t steps, seqs, target_positions; /* B, B * Ld */
    int64_t input_positions, input_ids, target_ids, full_inputs, full_targets;
    double lr, last_lr;
};

/* One step (or micro-batch: step false). */
void t5x_metrics_add(struct t5x_metrics *m, const struct packed_batch *b, const struct t5_loss *l,
                     bool step);
void t5x_metrics_rate(struct t5x_metrics *m, float lr);
/* All tags at this step. uptime, learning rates: training only. */
spt_status t5x_metrics_write(const struct t5x_metrics *m, events_writer *w, int64_t step,
                             double seconds, bool train, double uptime, spt_err *err);

#endif
