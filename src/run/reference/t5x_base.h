/* A base checkpoint with its prompt, opened and saved as the reference's programs do: the choice of
 * what is restored (spec/t5x.md 6.1, 7.7, 7.8), the full T5X checkpoint with the prompt's numpy copy
 * (7.1-7.10), and model-info.txt (6.5). */
#ifndef SPT_RUN_T5X_BASE_H
#define SPT_RUN_T5X_BASE_H

#include "run/engine.h"
#include "run/reference/t5x_map.h"
#include "store/t5x_checkpoint.h"

struct t5x_base {
    const struct gin_model *model;
    struct engine engine;
    struct t5x_view view; /* what the engine's source shows of the checkpoint */
    char *path;    /* the checkpoint that was restored, and where frozen weights are read from */
    bool resumed;  /* it is one of the run's own */
    int64_t step;  /* of the optimizer */
    struct prompt *prompt; /* NULL: the model has none */
    bool prompt_restored;  /* from the checkpoint; false: from its initialiser */
    optim *optim;          /* training only */
};

/* Which checkpoint: the newest of model_dir (NULL: none is looked for), else what `r` says (NULL:
 * nothing). *path belongs to the caller. SPT_E_CONFIG when there is none: base weights are never
 * made up here. */
spt_status t5x_choose(const char *model_dir, const struct gin_restore *r, char **path,
                      bool *resumed, spt_err *err);

/* Opens the checkpoint `path` (taken over), compares it with the configured model, restores the
 * prompt (and the optimizer's slots) or makes it from its initialiser. train: with an optimizer.
 * seed: of the run; for eval and infer fallback_init_rng. r may be NULL. */
spt_status t5x_base_open(struct t5x_base *b, const struct gin_model *m, const struct gin_restore *r,
                         char *path, bool resumed, bool train, uint64_t seed, spt_err *err);
/* Prepares the weights. */
spt_status t5x_base_load(struct t5x_base *b, const struct settings *s, const struct gin_restore *r,
                         spt_err *err);
void t5x_base_close(struct t5x_base *b); /* accepts an all-zero object */

/* numpy_checkpoints/ and checkpoint_<b->step> in dir, then the oldest ones beyond `keep` go. files:
 * more files of the checkpoint, published with it. */
spt_status t5x_base_save(struct t5x_base *b, const char *dir, const struct gin_save *s,
                         const struct t5x_file *files, size_t file_count, spt_err *err);
/* dir/model-info.txt */
spt_status t5x_base_info(const struct t5x_base *b, const char *dir, spt_err *err);

#endif
