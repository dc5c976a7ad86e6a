/* Between source.c (files and parameters) and source_config.c (what the files say the model is). */
#ifndef SPT_MODEL_SOURCE_INTERNAL_H
#define SPT_MODEL_SOURCE_INTERNAL_H

#include "model/names.h"
#include "model/source.h"
#include "store/store.h"

struct source_files {
    store *s;
    bool hf;            /* names of Hugging Face, else of T5X */
    const char *prefix; /* "target/" of T5X checkpoints, or "" */
    bool has_config;
    struct hf_config config;
};

/* Looks a tensor up by its name without prefix. */
bool source_find(const struct source_files *f, const char *name, size_t *index);
/* Two tensors hold equal values (as float32). */
spt_status source_same_values(store *s, size_t a, size_t b, bool *same, spt_err *err);

/* Checkpoints of scan_layers, by name. */
spt_status source_refuse_scanned(const struct source_files *f, spt_err *err);

/* The tensors that serve as token embedding and as output head. */
struct source_roles {
    size_t embedding;
    size_t head; /* only when !config.head_is_embedding */
};
/* Configuration from tensors and config.json; contradictions are errors or warnings (field cases
 * 02, 04, 20). */
spt_status source_configure(const struct source_files *f, const struct t5_source_opts *opts,
                            struct t5_config *out, struct source_roles *roles, spt_err *err);

#endif
