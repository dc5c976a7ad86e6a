/* `spt train|eval|infer` given the reference's flags: configuration, then one of the three programs. */
#ifndef SPT_RUN_GIN_JOB_H
#define SPT_RUN_GIN_JOB_H

#include "gin/flags.h"
#include "run/commands.h"
#include "run/extensions.h"
#include "run/reference/gin_settings.h"

struct gin_job {
    const gin_flags *flags;
    gin_registry *registry;
    gin_config *config;
    extensions *x; /* plug-ins, and the tasks of the gin files */
    struct settings *s; /* of the machine: threads, isa, quiet, ... */
    struct run_output *out;
};

/* A command given gin or plug-ins. Where options of ours are bound (gin_options.h), or --model is
 * given, they are settings of `plain`, the command itself; else the reference's program runs. With
 * --dry_run the configuration is printed instead. */
typedef spt_status (*plain_fn)(struct settings *s, struct run_output *out, spt_err *err);
spt_status run_gin(const gin_flags *f, struct settings *s, plain_fn plain, struct run_output *out,
                   spt_err *err);

/* Deals the processes out (ranks.h): `partitions` is the configuration's num_partitions. */
spt_status gin_job_ranks(struct gin_job *j, int64_t partitions, spt_err *err);
/* SPT_E_CONFIG when processes do not have the same program, base, checkpoint, prompt, configuration or
 * `more` (lines). After the base was loaded. */
struct t5x_base;
spt_status gin_job_same_work(struct gin_job *j, struct t5x_base *b, const char *more, spt_err *err);

spt_status run_t5x_train(struct gin_job *j, spt_err *err);
spt_status run_t5x_eval(struct gin_job *j, spt_err *err);
spt_status run_t5x_infer(struct gin_job *j, spt_err *err);
/* `spt cache`: the configuration need not be complete, only its tasks count. */
spt_status run_cache_job(struct gin_job *j, spt_err *err);
spt_status run_tasks_job(struct gin_job *j, spt_err *err);

/* dir/config.gin: what summarize_gin_config writes. text (NULL: not wanted) receives it. drawn: flags
 * that the run chose itself (NULL or "": none), a comment at the end of the file. */
spt_status gin_job_write_config(struct gin_job *j, const char *dir, const char *drawn, buf *text,
                                spt_err *err);

/* Directories that gin files are searched in behind the user's: SPT_CONFIGS, the source tree and the
 * installed place of the program, as far as they exist. Appends one path per line. */
void gin_config_dirs(buf *out);

#endif
