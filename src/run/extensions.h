/* What a job knows beyond the upstream tree: tasks that gin files define (spt.Task, spt.Mixture)
 * and what plug-ins bring.
 *
 *   extensions_open(s->plugin, &x, err);           -- loads the plug-ins
 *   extensions_define(x, registry, err);           -- their configurables, and ours
 *   ... parse the gin files ...
 *   extensions_apply(x, config, err);              -- tasks of the gin files are registered
 *   extensions_tasks(x)                            -- upstream's and all others
 *
 * It must outlive the gin registry, the configuration and everything that uses a task. */
#ifndef SPT_RUN_EXTENSIONS_H
#define SPT_RUN_EXTENSIONS_H

#include "gin/gin.h"
#include "prompt/init.h"
#include "task/task.h"

typedef struct extensions extensions;

/* plugins: paths of shared objects, one a line; NULL or "": none. */
spt_status extensions_open(const char *plugins, extensions **out, spt_err *err);
void extensions_close(extensions *x); /* accepts NULL */

spt_status extensions_define(extensions *x, gin_registry *r, spt_err *err);
/* Attaches x to the configuration. */
spt_status extensions_apply(extensions *x, gin_config *c, spt_err *err);
task_registry *extensions_tasks(const extensions *x);

/* When v is a call of a plug-in's initialiser: *is, and init does what it asks for. The
 * configuration's extensions answer; without any it is none. */
spt_status extensions_initializer(gin_config *c, const gin_value *v, struct prompt_init *init,
                                  bool *is, spt_err *err);

/* Whether the configurable of this path ("shout.ramp") is a plug-in's. */
bool extensions_own(gin_config *c, const char *path);

/* Directory of a plug-in's files (where its shared object lies) by the plug-in's name; NULL. */
const char *extensions_module_dir(const extensions *x, const char *module);
/* Names of the plug-ins, comma separated. */
void extensions_modules(const extensions *x, buf *out);

#endif
