/* A model on disk, seen as parameters under their T5X names, whatever the container: a T5X
 * checkpoint directory or a Hugging Face directory (safetensors or pytorch_model.bin, sharded or
 * not). Opening checks the accounting: every tensor of the files is a parameter, a known harmless
 * leftover, or an error with its name; every parameter the configuration calls for is there with
 * the right shape. */
#ifndef SPT_MODEL_SOURCE_H
#define SPT_MODEL_SOURCE_H

#include "model/config.h"
#include "store/hf_config.h"
#include "store/store.h"

typedef struct t5_source t5_source;

struct t5_source_opts {
    int64_t max_distance; /* 0: from the config, or 128 with 32 buckets (rulings 15) */
    /* Unless NULL: gives the tensors in another way, "target/..." as in a T5X checkpoint. Takes `in`
     * over, also on failure. */
    spt_status (*adapt)(void *ctx, store *in, store **out, spt_err *err);
    void *adapt_ctx;
};

/* One parameter: a view into the mapped file (or an owned decoded copy), valid until released. */
struct t5_param {
    struct ops_matrix m; /* transposed: the file holds [out, in] */
    void *owned;         /* heap copy to free, or NULL */
    size_t id;
};

spt_status t5_source_open(const char *dir, const struct t5_source_opts *opts, t5_source **out,
                          spt_err *err);
void t5_source_close(t5_source *s);
const struct t5_config *t5_source_config(const t5_source *s);
const char *t5_source_dir(const t5_source *s);
/* config.json as it stands (tokenizer_class, dropout_rate, ...); NULL for a T5X directory. */
const struct hf_config *t5_source_hf_config(const t5_source *s);
/* Optimiser step that a T5X checkpoint carries; 0 for others. */
int64_t t5_source_step(const t5_source *s);

/* By T5X name ("encoder/layers_0/attention/query/kernel"). SPT_E_NOTFOUND when the model has no
 * such parameter (e.g. decoder/logits_dense/kernel of a tied model). */
spt_status t5_source_param(t5_source *s, const char *name, struct t5_param *out, spt_err *err);
/* The same without data (NULL): shape, type and orientation as the file has them. Not released. */
spt_status t5_source_describe(const t5_source *s, const char *name, struct t5_param *out,
                              spt_err *err);
/* A rank that will take a part of the parameters: checks and hashes let pages go as they pass. */
void t5_source_sparing(t5_source *s);
bool t5_source_has(const t5_source *s, const char *name);
/* Forgets the copy, or lets the mapped pages go (rulings 9). */
void t5_source_release(t5_source *s, struct t5_param *p);
/* Names in T5X tree order (keys sorted at each level). */
/* All parameters will be loaded soon (store_expect). */
spt_status t5_source_expect(t5_source *s, spt_err *err);
size_t t5_source_count(const t5_source *s);
const char *t5_source_name(const t5_source *s, size_t i);

/* XXH3-128 over all parameters in T5X order and float32 values (rulings 12): the same for T5X and
 * Hugging Face copies of one model. 32 hex digits and a NUL. Parameters are hashed when they are
 * first loaded, so after t5_model_new this costs nothing. Large files: model/hash_cache.h. */
spt_status t5_source_hash(t5_source *s, char hex[33], spt_err *err);

#endif
