/* A directory that appears whole or not at all (reliability.md 2): files are written below a
 * temporary directory and synced one by one; savedir_publish syncs the directories, renames the
 * temporary to its final name and syncs the parent. No rename ever happens before everything
 * below is durable, and after any error publish refuses: a failed sync is final. */
#ifndef SPT_FS_SAVEDIR_H
#define SPT_FS_SAVEDIR_H

#include "fs/fs.h"

typedef struct savedir savedir;

/* Creates the directory `tmp` (which must not exist); its parent must exist. */
spt_status savedir_begin(const char *tmp, savedir **out, spt_err *err);
const char *savedir_path(const savedir *d);
/* Creates a directory directly below. */
spt_status savedir_mkdir(savedir *d, const char *name, spt_err *err);
/* Creates `name` (relative, may lie in a savedir_mkdir directory), writes and syncs it. */
spt_status savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err);
/* Makes it durable and visible as `final`, which must not exist. Frees d, whatever happens; on
 * failure the temporary is removed as far as possible. */
spt_status savedir_publish(savedir *d, const char *final, spt_err *err);
void savedir_abort(savedir *d); /* removes the temporary; accepts NULL */

#endif
