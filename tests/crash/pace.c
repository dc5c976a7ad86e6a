/* Preloaded into the real program by kill_runs.py: every call that a save consists of takes
 * SPT_PACE_US microseconds longer, so that a kill at a random instant often lands inside a save. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int rename(const char *from, const char *to); /* <stdio.h> is not included */

static void pace(void)
{
    const char *us = getenv("SPT_PACE_US");
    if (us)
        usleep((useconds_t)strtoul(us, NULL, 10));
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    pace();
    return real(fd);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    pace();
    const int r = real(from, to);
    pace();
    return r;
}

int mkdir(const char *path, mode_t mode)
{
    int (*real)(const char *, mode_t) = (int (*)(const char *, mode_t))dlsym(RTLD_NEXT, "mkdir");
    const int r = real(path, mode);
    pace();
    return r;
}
