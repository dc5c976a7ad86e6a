/* Data sets by name, prepared by us (task/prepare.h) where they are missing. */
#ifndef SPT_RUN_DATA_PREPARE_H
#define SPT_RUN_DATA_PREPARE_H

#include "run/data_fetch.h"
#include "task/task.h"

/* Appends the directory of prepared data sets: `given` (NULL or "": none), TFDS_DATA_DIR, else
 * ~/tensorflow_datasets. SPT_E_USAGE when there is no home, either. */
spt_status data_dir_path(const char *given, buf *out, spt_err *err);

/* What prepares a set: into `dir`, from the files of their publisher (fetched) or from `from`. */
struct data_prepare {
    const char *dir;
    const char *from;   /* a path, NULL: fetched */
    const char *sha256; /* of `from`; NULL when not known */
    bool no_verify;
    struct data_fetch fetch;
};
/* Prepares one version of a set and logs what was made, or that it is there. */
spt_status data_prepare_set(struct data_prepare *w, const struct prepare_set *set,
                            const char *version, spt_err *err);

/* The data sets of a task's or mixture's members that have the split and are neither prepared nor
 * unpacked below `dir` are prepared there, if they are ones that we can prepare; others are left to
 * whoever opens them. With no network (data_offline) nothing is fetched. */
spt_status data_prepare_missing(const task_registry *r, const char *name, const char *split,
                                const char *dir, spt_err *err);
/* The same of one task, whatever the split. */
spt_status data_prepare_missing_of(const struct task *t, const char *dir, spt_err *err);

#endif
