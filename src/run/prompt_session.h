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

/* Reads the prompt, the vocabulary and the model's shape, and checks them against each other;
 * everything that can be refused cheaply is refused here. */
spt_status prompt_session_open(const struct settings *s, struct prompt_session *out, spt_err *err);
/* Prepares the weights and compares the base with the one the prompt was trained on: a difference
 * is a warning, with --strict SPT_E_CHECK. */
spt_status prompt_session_load(const struct settings *s, struct prompt_session *u, spt_err *err);
void prompt_session_close(struct prompt_session *u); /* accepts an all-zero object */

#endif
