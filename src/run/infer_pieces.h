/* Outputs of `spt infer --out DIR`, as the reference's inference program lays them out
 * (spec/t5x.md 9.1): a final file per shard, made of chunks that are each durable, so that an
 * interrupted inference goes on behind the last whole chunk and ends with the same bytes. */
#ifndef SPT_RUN_INFER_PIECES_H
#define SPT_RUN_INFER_PIECES_H

#include "run/settings.h"

struct pieces {
    char *dir, *temporary, *final; /* DIR, DIR/tmp-..., DIR/<task>-<mode>.jsonl-IIIII-of-NNNNN */
    uint64_t shard, shards;
    uint64_t done; /* chunks that are there */
    bool complete; /* the final file is there: nothing to do */
};

/* I/N of --shard. */
spt_status pieces_shard(const struct settings *s, uint64_t *shard, uint64_t *shards, spt_err *err);
/* `identity`: what must be the same for an old run to be continued (settings, data, model);
 * another one found there is SPT_E_CONFIG. */
spt_status pieces_open(const struct settings *s, const char *data_path, const char *identity,
                       struct pieces *out, spt_err *err);
/* Makes chunk number `done` durable. */
spt_status pieces_add(struct pieces *p, const void *bytes, size_t n, spt_err *err);
/* Joins the chunks into the final file and removes them. */
spt_status pieces_finish(struct pieces *p, spt_err *err);
void pieces_close(struct pieces *p); /* accepts an all-zero object */

#endif
