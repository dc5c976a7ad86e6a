#include "run/dir_lock.h"

spt_status dir_lock(const char *dir, const char *busy, fs_lock **out, spt_err *err)
{
    bool held;
    const spt_status st = fs_lock_dir(dir, out, &held, err);
    return held ? err_set(err, st, "%s: %s", dir, busy) : st;
}
