/* A directory that appears whole or not at all (reliability.md 2).
 *
 * On disk files are written below a temporary directory and synced one by one; savedir_publish syncs
 * the directories, renames the temporary to its final name and syncs the parent. No rename ever
 * happens before everything below is durable, and after any error publish refuses: a failed sync is
 * final.
 *
 * A bucket has no directories to rename. There the files are uploaded under their final names, except
 * the manifest, which publish uploads last: readers take a directory without its manifest for absent.
 * When something has the final name already, or no file is a manifest, the files wait under the
 * temporary name and publish copies them on the server, the manifest last. */
#ifndef SPT_FS_SAVEDIR_H
#define SPT_FS_SAVEDIR_H

#include "fs/fs.h"

typedef struct savedir savedir;

/* Creates the directory `tmp` (which must not exist); its parent must exist. `final`: its name in the
 * end; `manifest`: name of the file without which the directory counts as absent where directories
 * do not appear whole, or NULL when every file stands alone. */
spt_status savedir_begin(const char *tmp, const char *final, const char *manifest, savedir **out,
                         spt_err *err);
/* Where files that are written by other means than savedir_file have to go. */
const char *savedir_path(const savedir *d);
/* Creates a directory directly below. */
spt_status savedir_mkdir(savedir *d, const char *name, spt_err *err);
/* Creates `name` (relative, may lie in a savedir_mkdir directory), writes and syncs it. */
spt_status savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err);
/* Makes it durable and visible as `final`, which must not exist now. Frees d, whatever happens; on
 * failure the temporary is removed as far as possible. */
spt_status savedir_publish(savedir *d, spt_err *err);
void savedir_abort(savedir *d); /* removes what was written; accepts NULL */

/* Do directories below this path appear whole? Where not, readers skip those without manifest. */
bool savedir_is_whole(const char *path);
/* Removes directories "<dir>/<prefix>..." that a save of ours began and did not finish (they hold the
 * mark ".unfinished" and no manifest); nothing to do where directories appear whole. Only the one
 * writer of `dir` may do that. */
spt_status savedir_sweep(const char *dir, const char *prefix, const char *manifest, spt_err *err);

#endif
