#include "run/dir_lock.h"

#include <errno.h>

#include "os/os.h"

spt_status dir_lock(const char *dir, const char *busy, int *fd, spt_err *err)
{
    const int opened = os_open(dir, OS_READ | OS_DIR);
    if (opened < 0)
        return err_sys(err, SPT_E_IO, -opened, "%s", dir);
    const int r = os_lock(opened);
    if (r < 0) {
        os_close(opened);
        return r == -EWOULDBLOCK ? err_set(err, SPT_E_CONFIG, "%s: %s", dir, busy)
                                 : err_sys(err, SPT_E_IO, -r, "cannot lock %s", dir);
    }
    *fd = opened;
    return SPT_OK;
}

void dir_unlock(int fd)
{
    if (fd >= 0)
        os_close(fd);
}
