/* From evaluated gin objects to plain structs: the ONE place that knows what a configurable of the
 * reference means here. docs/reference/gin.md lists which bindings act.
 *
 * All strings and values point into the gin configuration, which must outlive the structs. Errors
 * are SPT_E_CONFIG and name the binding. What the reference can build but we cannot (per-layer
 * prompts, IA3, ...) is refused by name; it is never replaced by something else. */
#ifndef SPT_RUN_GIN_SETTINGS_H
#define SPT_RUN_GIN_SETTINGS_H

#include "decode/decode.h"
#include "gin/gin.h"
#include "model/model.h"
#include "optim/optim.h"
#include "optim/schedule.h"
#include "prompt/init.h"

/* Where rows of the embedding table come from (initialisers). */
struct gin_array {
    const char *npy;                   /* np_load */
    const char *checkpoint, *variable; /* t5x_load */
};

struct gin_prompt {
    int64_t P;                   /* 0: no prompt */
    struct prompt_init init;     /* file, texts and fallback are filled */
    struct prompt_init fallback; /* of texts */
    struct gin_array embeddings; /* of SAMPLED, LABELS, STRING */
    struct gin_array array;      /* of FILE, when it is a variable of a checkpoint */
    const char **texts;          /* owned by the model */
    enum t5_combine combine;
};

/* A list of strings, owned by whoever holds it. */
struct gin_texts {
    const char **item;
    size_t count;
};

struct gin_model {
    /* The shape, to be compared with the checkpoint. */
    int64_t vocab, width, heads, head_dim, ff, enc_layers, dec_layers, buckets, max_distance;
    bool gated;             /* two activations: wi_0 and wi_1 */
    bool head_is_embedding; /* no output_logits_factory */
    struct gin_prompt prompt;
    double dropout;
    bool bfloat16; /* activations */
    struct t5_loss_opts loss;
    bool trains;               /* an optimizer was given */
    struct optim_config optim;
    struct gin_texts trained;  /* regexes of what the optimizer updates ("/encoder/...") */
    bool own_learning_rate;    /* optax: the optimizer's own rate counts, not the schedule */
    double learning_rate;
    struct decode_opts decode; /* start_id, eos_id and max_len are the caller's */
    bool prompt_with_targets;
    const char *vocab_file;    /* "bytes" for a byte vocabulary */
    int64_t extra_ids;
    bool extra_ids_ascending;
};

struct gin_dataset {
    const char *task, *split, *module;
    int64_t batch;
    bool has_lengths;
    int64_t inputs, targets; /* 0: unlimited */
    bool shuffle, use_cached, trim;
    bool has_seed;
    int64_t seed;
};

struct gin_restore {
    struct gin_texts path;
    enum { RESTORE_LATEST, RESTORE_SPECIFIC, RESTORE_ALL } mode;
    bool has_map;
    size_t maps;
    const char **from; /* patterns */
    const char **to;   /* NULL: do not load */
    bool fallback, strict;
    bool has_dtype;
    enum dtype dtype;
};

struct gin_save {
    int64_t period; /* 0: never */
    int64_t keep;   /* -1: all */
    int64_t *at;    /* checkpoint_steps */
    size_t at_count;
    enum dtype dtype;
    bool save_dataset;
    bool numpy; /* prompt_tuning's checkpointer */
    struct gin_texts save_paths;
};

struct gin_evaluator {
    int64_t num_examples;  /* -1: all */
    int64_t write_results; /* -1: all; of the JSON lines */
    bool json, tensorboard, console;
};

struct gin_train {
    const char *model_dir;
    int64_t partitions; /* PjitPartitioner.num_partitions */
    struct gin_model model;
    struct gin_dataset train, train_eval, infer_eval;
    bool has_train_eval, has_infer_eval;
    bool has_restore, has_save;
    struct gin_restore restore;
    struct gin_save save;
    int64_t total_steps, eval_steps, eval_period, stats_period; /* periods: 0: none */
    bool has_relative;
    int64_t relative_steps;
    bool has_seed;
    int64_t seed;
    bool eval_first; /* run_eval_before_training */
    int64_t microbatches; /* 0: off */
    struct lr_schedule lr;
    struct gin_evaluator evaluator;
};

/* eval and infer */
struct gin_use {
    const char *output_dir;
    int64_t partitions;
    struct gin_model model;
    struct gin_dataset data;
    struct gin_restore restore;
    bool has_fallback_rng;
    int64_t fallback_rng;
    struct gin_evaluator evaluator;
    /* infer */
    enum { INFER_PREDICT, INFER_SCORE, INFER_PREDICT_WITH_AUX } mode;
    int64_t checkpoint_period, shard_id, num_shards;
    bool merge;
    const char *extension;
};

/* Calls the entry function and reads everything it was given. Release even after a failure. */
spt_status gin_train_read(gin_config *c, struct gin_train *out, spt_err *err);
spt_status gin_eval_read(gin_config *c, struct gin_use *out, spt_err *err);
spt_status gin_infer_read(gin_config *c, struct gin_use *out, spt_err *err);
void gin_train_release(struct gin_train *t); /* accepts an all-zero object */
void gin_use_release(struct gin_use *u);

/* Bindings that nothing above has asked for: one warning that names those of the user, one line that
 * counts those of the files that come with the program. */
void gin_warn_unused(const gin_config *c);
/* The latter by name. */
void gin_name_unused(const gin_config *c);

#endif
