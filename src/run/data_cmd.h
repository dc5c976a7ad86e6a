/* Data sets by name, prepared by us (task/prepare.h). */
#ifndef SPT_RUN_DATA_CMD_H
#define SPT_RUN_DATA_CMD_H

#include "run/commands.h"
#include "task/task.h"

/* `spt data convert` */
spt_status run_data_convert(struct settings *s, struct run_output *out, spt_err *err);

/* Appends the directory of prepared data sets: `given` (NULL or "": none), TFDS_DATA_DIR, else
 * ~/tensorflow_datasets. SPT_E_USAGE when there is no home, either. */
spt_status data_dir_path(const char *given, buf *out, spt_err *err);

/* The data sets of a task's or mixture's members that have the split and are neither prepared nor
 * unpacked below `dir` are prepared there, if they are ones that we can prepare; others are left to
 * whoever opens them. With no network (data_offline) nothing is fetched. */
spt_status data_prepare_missing(const task_registry *r, const char *name, const char *split,
                                const char *dir, spt_err *err);
/* The same of one task, whatever the split. */
spt_status data_prepare_missing_of(const struct task *t, const char *dir, spt_err *err);

#endif
