#include "run/share.h"

#include <string.h>

#include "os/os.h"

enum { EXE_MAX = 4096 };

/* The directory `up` levels above that of the running program, whose links are resolved, into
 * dir[EXE_MAX]. */
static bool program_dir(int up, char *dir)
{
    const int n = os_readlink("/proc/self/exe", dir, EXE_MAX - 1);
    if (n <= 0)
        return false;
    dir[n] = '\0';
    for (int i = 0; i <= up; i++) {
        char *slash = strrchr(dir, '/');
        if (!slash)
            return false;
        *slash = '\0';
    }
    return true;
}

bool share_candidate(size_t i, const char *name, buf *out)
{
    static const struct {
        int up;
        const char *below;
    } place[] = {{2, ""}, {1, "/share/spt"}}; /* build/release/spt; PREFIX/bin/spt */
    const char *given = os_getenv("SPT_DATA_DIR");
    char dir[EXE_MAX];
    buf_clear(out);
    if (given && *given && i-- == 0) {
        buf_addf(out, "%s/%s", given, name);
        return true;
    }
    if (i >= sizeof place / sizeof *place || !program_dir(place[i].up, dir))
        return false;
    buf_addf(out, "%s%s/%s", dir, place[i].below, name);
    return true;
}
