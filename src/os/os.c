#define _GNU_SOURCE
#include "os/os.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int result(int r)
{
    return r < 0 ? -errno : r;
}

static int real_open(const char *path, int flags)
{
    int f = O_CLOEXEC;
    f |= (flags & OS_READ) && (flags & OS_WRITE) ? O_RDWR : flags & OS_WRITE ? O_WRONLY : O_RDONLY;
    f |= flags & OS_CREATE ? O_CREAT : 0;
    f |= flags & OS_EXCL ? O_EXCL : 0;
    f |= flags & OS_TRUNC ? O_TRUNC : 0;
    f |= flags & OS_APPEND ? O_APPEND : 0;
    f |= flags & OS_DIR ? O_DIRECTORY : 0;
    f |= flags & OS_NO_WAIT ? O_NONBLOCK : 0;
    f |= flags & OS_OWN ? O_NOFOLLOW | O_NONBLOCK : 0;
    return result(open(path, f, 0666));
}

static int real_close(int fd)
{
    return result(close(fd));
}

static int64_t real_read(int fd, void *p, size_t n)
{
    const ssize_t r = read(fd, p, n);
    return r < 0 ? -errno : r;
}

static int64_t real_write(int fd, const void *p, size_t n)
{
    const ssize_t r = write(fd, p, n);
    return r < 0 ? -errno : r;
}

static int64_t real_pread(int fd, void *p, size_t n, uint64_t offset)
{
    const ssize_t r = pread(fd, p, n, (off_t)offset);
    return r < 0 ? -errno : r;
}

static int64_t real_pwrite(int fd, const void *p, size_t n, uint64_t offset)
{
    const ssize_t r = pwrite(fd, p, n, (off_t)offset);
    return r < 0 ? -errno : r;
}

static int64_t real_seek(int fd, uint64_t offset)
{
    const off_t r = lseek(fd, (off_t)offset, SEEK_SET);
    return r < 0 ? -errno : r;
}

static int real_wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return result(poll(&p, 1, -1));
}

static int real_fsync(int fd)
{
    return result(fsync(fd));
}

static int real_ftruncate(int fd, uint64_t size)
{
    return result(ftruncate(fd, (off_t)size));
}

static int stat_out(int r, const struct stat *st, struct os_stat *out)
{
    if (r < 0)
        return -errno;
    *out = (struct os_stat){
        .size = (uint64_t)st->st_size,
        .inode = (uint64_t)st->st_ino,
        .device = (uint64_t)st->st_dev,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .is_dir = S_ISDIR(st->st_mode),
        .is_file = S_ISREG(st->st_mode),
    };
    return 0;
}

static int real_stat(const char *path, struct os_stat *out)
{
    struct stat st;
    return stat_out(stat(path, &st), &st, out);
}

static int real_fstat(int fd, struct os_stat *out)
{
    struct stat st;
    return stat_out(fstat(fd, &st), &st, out);
}

static int real_rename(const char *from, const char *to)
{
    return result(rename(from, to));
}

static int real_unlink(const char *path)
{
    return result(unlink(path));
}

static int real_mkdir(const char *path)
{
    return result(mkdir(path, 0777));
}

static int real_rmdir(const char *path)
{
    return result(rmdir(path));
}

static int real_list(const char *path, os_list_fn fn, void *ctx)
{
    DIR *d = opendir(path);
    if (!d)
        return -errno;
    int r = 0;
    for (;;) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e) {
            r = -errno;
            break;
        }
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        r = fn(ctx, e->d_name);
        if (r)
            break;
    }
    closedir(d);
    return r;
}

static int real_symlink(const char *target, const char *path)
{
    return result(symlink(target, path));
}

static int real_readlink(const char *path, char *out, size_t cap)
{
    const ssize_t n = readlink(path, out, cap);
    if (n < 0)
        return -errno;
    if ((size_t)n >= cap)
        return -ENAMETOOLONG;
    out[n] = '\0';
    return (int)n;
}

static void *real_map(int fd, size_t size, int *e)
{
    void *p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        *e = -errno;
        return NULL;
    }
    return p;
}

static int real_unmap(void *p, size_t size)
{
    return result(munmap(p, size));
}

static int real_drop(void *p, size_t size)
{
    /* Whole pages only: neighbours on the edge pages may still be in use. */
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)p + page - 1) / page * page;
    const uintptr_t last = ((uintptr_t)p + size) / page * page;
    return last > first ? result(madvise((void *)first, last - first, MADV_DONTNEED)) : 0;
}

static int real_huge(void *p, size_t size)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const uintptr_t first = ((uintptr_t)p + page - 1) / page * page;
    const uintptr_t last = ((uintptr_t)p + size) / page * page;
#ifdef MADV_HUGEPAGE
    return last > first ? result(madvise((void *)first, last - first, MADV_HUGEPAGE)) : 0;
#else
    return 0;
#endif
}

static int real_lock(int fd)
{
    return result(flock(fd, LOCK_EX | LOCK_NB));
}

static int64_t clock_of(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t real_clock_ns(void)
{
    return clock_of(CLOCK_REALTIME);
}

static int64_t real_monotonic_ns(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static int real_sleep_ns(int64_t ns)
{
    const struct timespec t = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return result(nanosleep(&t, NULL));
}

static int real_getpid(void)
{
    return (int)getpid();
}

static int real_hostname(char *out, size_t cap)
{
    if (gethostname(out, cap) < 0)
        return -errno;
    out[cap - 1] = '\0';
    return 0;
}

static int real_random(void *p, size_t n)
{
    char *at = p;
    while (n) {
        const ssize_t r = getrandom(at, n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        at += r;
        n -= (size_t)r;
    }
    return 0;
}

static int real_isatty(int fd)
{
    return isatty(fd);
}

static const char *real_getenv(const char *name)
{
    return getenv(name);
}

static int real_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    return CPU_COUNT(&set);
}

static int real_thread_start(uint64_t *handle, void *(*fn)(void *), void *arg)
{
    pthread_t t;
    const int r = pthread_create(&t, NULL, fn, arg);
    if (r)
        return -r;
    *handle = (uint64_t)t;
    return 0;
}

static int real_thread_join(uint64_t handle)
{
    return -pthread_join((pthread_t)handle, NULL);
}

static int real_thread_pin(int index)
{
    cpu_set_t set, one;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return -errno;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set) || index-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        return -pthread_setaffinity_np(pthread_self(), sizeof one, &one);
    }
    return -EINVAL;
}

static void *real_object_open(const char *path, char *why, size_t cap)
{
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const char *text = object ? NULL : dlerror();
    if (!object)
        snprintf(why, cap, "%s", text ? text : "it cannot be loaded");
    return object;
}

static void *real_object_symbol(void *object, const char *name)
{
    return dlsym(object, name);
}

static void real_object_close(void *object)
{
    dlclose(object);
}

const struct os_ops os_real = {
    .object_open = real_object_open,
    .object_symbol = real_object_symbol,
    .object_close = real_object_close,
    .open = real_open,
    .close = real_close,
    .read = real_read,
    .write = real_write,
    .pread = real_pread,
    .pwrite = real_pwrite,
    .seek = real_seek,
    .wait_readable = real_wait_readable,
    .fsync = real_fsync,
    .ftruncate = real_ftruncate,
    .stat = real_stat,
    .fstat = real_fstat,
    .rename = real_rename,
    .unlink = real_unlink,
    .mkdir = real_mkdir,
    .rmdir = real_rmdir,
    .list = real_list,
    .symlink = real_symlink,
    .readlink = real_readlink,
    .map = real_map,
    .unmap = real_unmap,
    .drop = real_drop,
    .huge = real_huge,
    .lock = real_lock,
    .clock_ns = real_clock_ns,
    .monotonic_ns = real_monotonic_ns,
    .sleep_ns = real_sleep_ns,
    .getpid = real_getpid,
    .hostname = real_hostname,
    .random = real_random,
    .isatty = real_isatty,
    .getenv = real_getenv,
    .cpu_count = real_cpu_count,
    .thread_start = real_thread_start,
    .thread_join = real_thread_join,
    .thread_pin = real_thread_pin,
};

static const struct os_ops *ops = &os_real;

void os_set(const struct os_ops *o)
{
    ops = o ? o : &os_real;
}

const struct os_ops *os_get(void)
{
    return ops;
}

int os_open(const char *path, int flags) { return ops->open(path, flags); }
int os_close(int fd) { return ops->close(fd); }
int64_t os_read(int fd, void *p, size_t n) { return ops->read(fd, p, n); }
int64_t os_write(int fd, const void *p, size_t n) { return ops->write(fd, p, n); }
int64_t os_pread(int fd, void *p, size_t n, uint64_t o) { return ops->pread(fd, p, n, o); }
int64_t os_pwrite(int fd, const void *p, size_t n, uint64_t o)
{
    return ops->pwrite(fd, p, n, o);
}
int64_t os_seek(int fd, uint64_t offset) { return ops->seek(fd, offset); }
int os_wait_readable(int fd) { return ops->wait_readable(fd); }
int os_fsync(int fd) { return ops->fsync(fd); }
int os_ftruncate(int fd, uint64_t size) { return ops->ftruncate(fd, size); }
int os_stat(const char *path, struct os_stat *out) { return ops->stat(path, out); }
int os_fstat(int fd, struct os_stat *out) { return ops->fstat(fd, out); }
int os_rename(const char *from, const char *to) { return ops->rename(from, to); }
int os_unlink(const char *path) { return ops->unlink(path); }
int os_mkdir(const char *path) { return ops->mkdir(path); }
int os_rmdir(const char *path) { return ops->rmdir(path); }
int os_list(const char *path, os_list_fn fn, void *ctx) { return ops->list(path, fn, ctx); }
int os_symlink(const char *target, const char *path) { return ops->symlink(target, path); }
int os_readlink(const char *path, char *out, size_t cap) { return ops->readlink(path, out, cap); }
void *os_map(int fd, size_t size, int *e) { return ops->map(fd, size, e); }
int os_unmap(void *p, size_t size) { return ops->unmap(p, size); }
int os_drop(void *p, size_t size) { return ops->drop(p, size); }
int os_huge(void *p, size_t size) { return ops->huge(p, size); }
int os_lock(int fd) { return ops->lock(fd); }
int64_t os_clock_ns(void) { return ops->clock_ns(); }
int64_t os_monotonic_ns(void) { return ops->monotonic_ns(); }
int os_sleep_ns(int64_t ns) { return ops->sleep_ns(ns); }
int os_getpid(void) { return ops->getpid(); }
int os_hostname(char *out, size_t cap) { return ops->hostname(out, cap); }
int os_random(void *p, size_t n) { return ops->random(p, n); }
int os_isatty(int fd) { return ops->isatty(fd); }
const char *os_getenv(const char *name) { return ops->getenv(name); }
int os_cpu_count(void) { return ops->cpu_count(); }
int os_thread_start(uint64_t *h, void *(*fn)(void *), void *arg)
{
    return ops->thread_start(h, fn, arg);
}
int os_thread_join(uint64_t handle) { return ops->thread_join(handle); }
int os_thread_pin(int index) { return ops->thread_pin(index); }
void *os_object_open(const char *path, char *why, size_t cap)
{
    return ops->object_open(path, why, cap);
}
void *os_object_symbol(void *object, const char *name) { return ops->object_symbol(object, name); }
void os_object_close(void *object) { ops->object_close(object); }

int64_t os_read_full(int fd, void *p, size_t n)
{
    size_t got = 0;
    while (got < n) {
        const int64_t r = os_read(fd, (char *)p + got, n - got);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return r;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (int64_t)got;
}

int64_t os_pread_full(int fd, void *p, size_t n, uint64_t offset)
{
    size_t got = 0;
    while (got < n) {
        const int64_t r = os_pread(fd, (char *)p + got, n - got, offset + got);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return r;
        if (r == 0)
            break;
        got += (size_t)r;
    }
    return (int64_t)got;
}

int os_write_full(int fd, const void *p, size_t n)
{
    size_t done = 0;
    while (done < n) {
        const int64_t r = os_write(fd, (const char *)p + done, n - done);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return (int)r;
        if (r == 0)
            return -EIO;
        done += (size_t)r;
    }
    return 0;
}

int os_pwrite_full(int fd, const void *p, size_t n, uint64_t offset)
{
    size_t done = 0;
    while (done < n) {
        const int64_t r = os_pwrite(fd, (const char *)p + done, n - done, offset + done);
        if (r == -EINTR)
            continue;
        if (r < 0)
            return (int)r;
        if (r == 0)
            return -EIO;
        done += (size_t)r;
    }
    return 0;
}
