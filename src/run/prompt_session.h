/* A base with (or without) a prompt, opened for use: eval, infer and score start here. */
#ifndef SPT_RUN_PROMPT_SESSION_H
#define SPT_RUN_PROMPT_SESSION_H

#include "run/dataset.h"

struct prompt_session {
    struct engine engine;
    struct prompt *prompt; /* NULL: the bare model */
    struct task_text task;
};

/* prompt_read as the settings say, whose errors name the file. width: of the model, 0: not known. */
spt_status prompt_open(const struct settings *s, const char *path, int64_t width,
                       struct prompt **out, spt_err *err);

/* One prompt of several over an open engine: reads it, checks its width, applies --combine, and
 * opens its texts. path NULL or "": the bare model (*prompt NULL). */
spt_status prompt_fit(const struct settings *s, const struct engine *e, const char *path,
                      struct prompt **prompt, struct task_text *task, spt_err *err);
/* The findings of prompt_check_use against the loaded base, as warnings or, with --strict, an
 * error. */
spt_status prompt_compare(const struct settings *s, const struct engine *e,
                          const struct prompt *prompt, spt_err *err);

/* Reads the prompt, the vocabulary and the model's shape, and checks them against each other;
 * everything that can be refused cheaply is refused here. */
spt_status prompt_session_open(const struct settings *s, struct prompt_session *out, spt_err *err);
/* Prepares the weights and compares the base with the one the prompt was trained on: a difference
 * is a warning, with --strict SPT_E_CHECK. */
spt_status prompt_session_load(const struct settings *s, unsigned uses, struct prompt_session *u,
                               spt_err *err);
void prompt_session_close(struct prompt_session *u); /* accepts an all-zero object */

#endif
