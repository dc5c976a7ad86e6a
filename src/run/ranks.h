/* What ranks that work together must have in common. */
#ifndef SPT_RUN_RANKS_H
#define SPT_RUN_RANKS_H

#include "base/buf.h"
#include "comm/comm.h"
#include "run/settings.h"

/* Deals the processes of s->comm out to replicas of the model, of --num-partitions each: fills
 * s->part and s->data_ranks. SPT_E_CONFIG when that does not come out even. */
spt_status ranks_split(struct settings *s, spt_err *err);
/* SPT_E_CONFIG naming the first line in which a rank's text differs from that of rank 0; st: how
 * making the text went. Waits for all. */
spt_status ranks_same_text(comm *c, const buf *text, spt_status st, spt_err *err);
/* *value becomes that of rank 0. */
spt_status ranks_take_u32(comm *c, uint32_t *value, spt_status st, spt_err *err);

#endif
