/* Preloaded by test_cut.sh: a file of at least SPT_CUT_FROM bytes is cut to its first page right after
 * it was mapped, as if another program had done it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *(*real)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
    void *p = real(at, size, protection, flags, fd, offset);
    const char *from = getenv("SPT_CUT_FROM");
    struct stat st;
    char path[64];
    if (p == MAP_FAILED || !from || fd < 0 || protection != PROT_READ || fstat(fd, &st) ||
        !S_ISREG(st.st_mode) || st.st_size < strtol(from, NULL, 10))
        return p;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (truncate(path, 4096))
        perror("cutting");
    return p;
}

void *mmap64(void *, size_t, int, int, int, off_t) __attribute__((alias("mmap")));
