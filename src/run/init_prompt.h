/* How a prompt starts: --init and its companions, for `spt train` and `spt init`. */
#ifndef SPT_RUN_INIT_PROMPT_H
#define SPT_RUN_INIT_PROMPT_H

#include "data/labels.h"
#include "run/engine.h"

/* --seed, or a drawn one (rulings 20). */
spt_status prompt_seed(const struct settings *s, uint32_t *seed, spt_err *err);
/* --init, with "auto" resolved. */
enum prompt_init_kind prompt_init_choice(const struct settings *s, bool has_labels);
/* The companions that the kind needs are there. */
spt_status prompt_init_check(const struct settings *s, enum prompt_init_kind kind, bool has_labels,
                             spt_err *err);
/* --length; else the rows of --init-file; else 100 as the paper, fewer where the model is tiny (its
 * prompt would outweigh the input). */
spt_status prompt_length(const struct settings *s, enum prompt_init_kind kind, int64_t width,
                         int64_t *P, spt_err *err);
/* --combine and --side. */
void prompt_place(const struct settings *s, struct prompt_use *u);
/* The starting rows [P, E], and how they were made as text. labels may be NULL. */
spt_status prompt_start(const struct settings *s, struct engine *e, const label_set *labels,
                        enum prompt_init_kind kind, int64_t P, uint32_t seed, float *rows,
                        char *text, size_t cap, spt_err *err);

#endif
