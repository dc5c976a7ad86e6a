/* A prompt matrix into the formats that others read. Formats only: what a prompt means, and which
 * metadata it carries, is decided by src/prompt. All writers are atomic per file. */
#ifndef SPT_STORE_PROMPT_FILE_H
#define SPT_STORE_PROMPT_FILE_H

#include "store/store.h"

/* rows: [P, E] float32 */
spt_status store_write_prompt_npy(const char *path, const float *rows, int64_t P, int64_t E,
                                  spt_err *err);
/* One tensor `name` (e.g. "encoder/prompt/prompt/prompt") with metadata. */
spt_status store_write_prompt_safetensors(const char *path, const char *name, const float *rows,
                                          int64_t P, int64_t E, const struct store_meta *meta,
                                          size_t meta_count, spt_err *err);

struct peft_write_opts {
    int64_t num_heads, num_layers; /* of the base model */
    const char *base_model;        /* NULL: unknown (null in the config) */
    int submodules;                /* 1 (default when 0), or 2 with a zero second half */
    const struct store_meta *meta; /* provenance, into the safetensors metadata */
    size_t meta_count;
};
/* A PEFT adapter directory (created) that PEFT 0.13 and later load. */
spt_status store_write_prompt_peft(const char *dir, const float *rows, int64_t P, int64_t E,
                                   const struct peft_write_opts *opts, spt_err *err);

#endif
