/* Our own options as gin bindings, "spt.max_input = 512": what a run writes as config.gin, and what
 * --gin_file and --gin.spt.NAME=VALUE give back.
 *
 *   spt train --gin_file run/config.gin --out again        -- the same numbers
 *   spt eval  --gin_file run/config.gin --prompt run --data test.tsv
 *
 * Options of the command line win over bindings. Options of another command (lr, for eval) are
 * listed in a warning. Where and how to report (out, threads, ...) is not written, but is read. */
#ifndef SPT_RUN_GIN_OPTIONS_H
#define SPT_RUN_GIN_OPTIONS_H

#include "gin/gin.h"
#include "run/settings.h"

/* The configurable `spt`. */
extern const gin_def gin_option_defs[];
extern const size_t gin_option_def_count;

/* Whether some option is bound. */
bool gin_options_bound(const gin_config *c);
/* Every spt.NAME goes into s, unless the command line said otherwise. SPT_E_CONFIG, with file and
 * line, for names that no command has, for values that are none, and for bindings of the
 * reference's configurables, which mean nothing beside these. What plug-ins are bound to is kept as
 * text (s->bindings), so that it becomes part of the run's config.gin. */
spt_status gin_options_apply(gin_config *c, struct settings *s, spt_err *err);

/* The options that a file binds, as names ("max-input") and values as the command line gives them;
 * what else the file holds is skipped. */
typedef spt_status (*gin_option_fn)(void *ctx, const char *name, const char *value, spt_err *err);
spt_status gin_options_read(const char *path, gin_option_fn fn, void *ctx, spt_err *err);

#endif
