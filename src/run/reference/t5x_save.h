/* A T5X checkpoint of a frozen base and of what was trained. The base's parameters are read from its
 * files one by one while they are written: memory does not grow with the model.
 *
 *   t5x_saving_open(&w, source, 1, err);
 *   t5x_saving_add(&w, "target/", PROMPT_T5X_ENCODER, &rows, true, err);
 *   t5x_saving_write(&w, &(struct t5x_save){.step = 8}, NULL, 0, dir, &skipped, err);
 *   t5x_saving_close(&w);                                     -- also after a failure */
#ifndef SPT_RUN_T5X_SAVE_H
#define SPT_RUN_T5X_SAVE_H

#include "model/source.h"
#include "store/t5x_checkpoint.h"

struct t5x_saving {
    t5_source *source;
    struct t5x_item *items;
    char **names;
    size_t count, cap;
    struct t5_param held; /* the parameter being written */
    float *values;        /* its transpose, where the file holds it so */
};

/* Every parameter of the base as target/..., with room for `more` items. */
spt_status t5x_saving_open(struct t5x_saving *w, t5_source *source, size_t more, spt_err *err);
/* view->data NULL: a nil leaf. */
spt_status t5x_saving_add(struct t5x_saving *w, const char *prefix, const char *name,
                          const struct tensor_view *view, bool zarr, spt_err *err);
/* t5x_write with these items; `how` gives step and dtype. */
spt_status t5x_saving_write(struct t5x_saving *w, const struct t5x_save *how,
                            const struct t5x_file *files, size_t file_count, const char *dir,
                            bool *skipped, spt_err *err);
void t5x_saving_close(struct t5x_saving *w);

#endif
