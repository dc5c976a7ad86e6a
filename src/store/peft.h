/* PEFT prompt tuning adapters (spec/interop.md section 6). */
#ifndef SPT_STORE_PEFT_H
#define SPT_STORE_PEFT_H

#include "store/store.h"

struct peft_prompt {
    int64_t P, E;
    float *rows;       /* [P, E], mem_free_aligned via peft_prompt_release */
    int64_t submodules; /* 1 or 2 in the file; rows P.. of the second are never used by PEFT */
    bool second_half_used; /* the unused rows are not all zero */
    char base_model[256];  /* base_model_name_or_path, "" when unknown */
    char peft_type[32];    /* "PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING" */
};

struct peft_opts {
    int64_t task; /* which task of a multitask adapter, from 0 */
};

/* Reads adapter_config.json and adapter_model.safetensors (preferred) or .bin from a directory.
 * PREFIX_TUNING, LoRA and others are refused by name. opts may be NULL. */
spt_status peft_prompt_read(const char *dir, const struct peft_opts *opts, struct peft_prompt *out,
                            spt_err *err);
void peft_prompt_release(struct peft_prompt *p); /* accepts an all-zero object */

/* The adapter's tensor file as a store. */
spt_status peft_store_open(const char *dir, const struct store_opts *opts, store **out,
                           spt_err *err);
/* The directory holds adapter_config.json. */
bool peft_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);

#endif
