/* One command at a time in a directory, without a file of its own in it: the directory is locked. The
 * kernel lets go when the process ends, however it ends. */
#ifndef SPT_RUN_DIR_LOCK_H
#define SPT_RUN_DIR_LOCK_H

#include "base/status.h"

/* SPT_E_CONFIG "DIR: <busy>" when another process holds it. Release with dir_unlock (-1: nothing). */
spt_status dir_lock(const char *dir, const char *busy, int *fd, spt_err *err);
void dir_unlock(int fd);

#endif
