/* One command at a time writes into a directory; the lock goes with the process. */
#ifndef SPT_RUN_DIR_LOCK_H
#define SPT_RUN_DIR_LOCK_H

#include "fs/fs.h"

/* SPT_E_CONFIG with "<dir>: <busy>" while another process holds it. */
spt_status dir_lock(const char *dir, const char *busy, fs_lock **out, spt_err *err);

#endif
