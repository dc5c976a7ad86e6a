/* Shared by the files of fs/. */
#ifndef SPT_FS_FS_INTERNAL_H
#define SPT_FS_FS_INTERNAL_H

#include "fs/fs.h"

/* Refuses schemes that we do not speak ("s3://...") by name; local paths pass. */
spt_status fs_check_scheme(const char *path, spt_err *err);
/* Error for a failed call on a path: SPT_E_NOTFOUND for ENOENT, else SPT_E_IO. */
spt_status fs_error(spt_err *err, int r, const char *what, const char *path);

/* Remembers what fs_mapped_at answers; fs_map and fs_unmap only. */
void mapped_add(const void *start, size_t size, const char *path);
void mapped_remove(const void *start);

#endif
