/* Code of plug-ins behind plain options: --init, --metric, --preprocess and --postprocess take the name
 * of something that --plugin has loaded ("shout.ramp"). */
#ifndef SPT_RUN_PLAIN_CODE_H
#define SPT_RUN_PLAIN_CODE_H

#include "prompt/init.h"
#include "run/evaluate.h"

/* Whether an option's value names code of a plug-in: words with a dot between them. */
bool names_code(const char *value);

/* --init NAME: init does what the plug-in's initialiser does, with the parameters that gin binds
 * (--gin.shout.ramp.scale=0.5). init lives as long as the command. */
spt_status code_init(const struct settings *s, struct prompt_init *init, spt_err *err);

/* --metric and --postprocess name what is there; SPT_E_CONFIG otherwise. */
spt_status code_check(const struct settings *s, spt_err *err);
/* The scores of --metric NAME behind the figures (f->more); nothing when it names none. x must have
 * its texts. */
spt_status code_figures(const struct settings *s, const struct answers *a, const examples *x,
                        const struct task_text *t, struct figures *f, spt_err *err);

/* The examples that --preprocess NAME makes of the rows of a file, instead of the templates. */
spt_status code_examples(const struct settings *s, const struct task_text *t, const char *path,
                         enum dataset_role role, const char *name, examples **out, spt_err *err);

#endif
