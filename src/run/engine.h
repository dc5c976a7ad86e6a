/* The frozen base, ready for use: vocabulary, parameters, kernels, and its identity. Every command
 * that runs a model opens it here, so the checks of model against vocabulary are made once. */
#ifndef SPT_RUN_ENGINE_H
#define SPT_RUN_ENGINE_H

#include "model/model.h"
#include "prompt/init.h"
#include "run/settings.h"
#include "vocab/vocab.h"

struct engine {
    comm *part, *data; /* of the settings: who holds the model, who shares the data */
    vocab *vocab;
    t5_source *source;
    ops *ops;        /* NULL until engine_load_model */
    t5_model *model; /* NULL until engine_load_model */
    struct t5_config config;
    char base_hash[33];
    char *base_name; /* what prompts call it: "org/name", or the last part of its path */
    enum ops_compute compute;
    const char *prompt_compute; /* what --compute auto means: the prompt's, NULL: float32 */
};

/* Vocabulary and configuration, checked against each other; no weight is read yet.
 * SPT_E_USAGE without --model. */
spt_status engine_open(const struct settings *s, struct engine *out, spt_err *err);
/* Chooses the kernels (e->ops, e->compute); engine_load_model does it when it was not done. With
 * profile they are watched (ops/profile.h). */
spt_status engine_open_ops(struct engine *e, const struct settings *s, bool profile, spt_err *err);
/* A model of this base over `counting` (ops/count.h): nothing of a file is read. */
spt_status engine_count_model(const struct engine *e, ops *counting, unsigned uses, t5_model **out,
                              spt_err *err);
/* Hashes and prepares the weights. backward: for training. */
spt_status engine_load_model(struct engine *e, const struct settings *s, unsigned uses,
                             spt_err *err);
/* "float32", "bfloat16". */
const char *engine_compute_name(const struct engine *e);
void engine_close(struct engine *e); /* accepts an all-zero object */

/* Embedding rows straight from the file (no model needed), for initialisers and neighbours. */
struct engine_embedding {
    struct engine *engine;
    struct t5_param param;
};
spt_status engine_embedding_open(struct engine *e, struct engine_embedding *out, spt_err *err);
void engine_embedding_close(struct engine_embedding *m);
/* An environment for prompt_init_run; points at `m`. */
struct prompt_init_env engine_init_env(struct engine_embedding *m);

/* The values of a parameter as float32 [in, out] (T5X orientation); *shape becomes that shape. */
void source_param_f32(const struct t5_param *p, struct tensor_shape *shape, float *out);
/* Elements of all parameters of the base (spec/t5x.md section 2). */
int64_t config_parameters(const struct t5_config *c);

/* "1,234,567" into text of at least 32 bytes; returns text. */
char *count_text(int64_t n, char *text);
/* "1.2 GB" and so on, likewise. */
char *bytes_text(double bytes, char *text);

#endif
