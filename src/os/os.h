/* Every system call of the library, behind one replaceable table.
 *
 * Functions return >= 0 (or a valid pointer) on success and a negative errno on failure, so that
 * no caller depends on the global errno. Tests install their own table (fault injection, simulated
 * power cuts, frozen clock) with os_set(); production code calls the os_*() wrappers only. */
#ifndef SPT_OS_OS_H
#define SPT_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum os_open_flags {
    OS_READ = 1,
    OS_WRITE = 2,
    OS_CREATE = 4,
    OS_EXCL = 8,
    OS_TRUNC = 16,
    OS_APPEND = 32,
    OS_DIR = 64,      /* open a directory, for os_fsync */
    OS_NO_WAIT = 128, /* a FIFO opens before it has a writer; os_wait_readable() waits for one */
    OS_OWN = 256      /* a file of a cache: a symbolic link is -ELOOP, and a FIFO does not wait */
};

struct os_stat {
    uint64_t size;
    uint64_t inode;
    uint64_t device;
    int64_t mtime_ns;
    bool is_dir;
    bool is_file;
};

/* Called once per entry except "." and ".."; a non-zero result stops the listing. */
typedef int (*os_list_fn)(void *ctx, const char *name);

struct os_ops {
    int (*open)(const char *path, int flags);
    int (*close)(int fd);
    int64_t (*read)(int fd, void *p, size_t n);
    int64_t (*write)(int fd, const void *p, size_t n);
    int64_t (*pread)(int fd, void *p, size_t n, uint64_t offset);
    int64_t (*pwrite)(int fd, const void *p, size_t n, uint64_t offset);
    int64_t (*seek)(int fd, uint64_t offset);
    int (*wait_readable)(int fd); /* until a read would not wait; -EINTR at any signal */
    int (*fsync)(int fd);
    int (*ftruncate)(int fd, uint64_t size);
    int (*stat)(const char *path, struct os_stat *out);
    int (*fstat)(int fd, struct os_stat *out);
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
    int (*mkdir)(const char *path);
    int (*rmdir)(const char *path);
    int (*list)(const char *path, os_list_fn fn, void *ctx);
    int (*symlink)(const char *target, const char *path);
    int (*readlink)(const char *path, char *out, size_t cap);
    /* Whole-file, read-only, private mapping of an open descriptor. NULL on failure, *e set. */
    void *(*map)(int fd, size_t size, int *e);
    int (*unmap)(void *p, size_t size);
    int (*drop)(void *p, size_t size); /* the pages are not needed any more */
    int (*huge)(void *p, size_t size); /* large pages would be welcome there */
    int (*lock)(int fd); /* exclusive, non-blocking, released by close or death: -EWOULDBLOCK */
    int64_t (*clock_ns)(void);     /* wall clock, ns since 1970 */
    int64_t (*monotonic_ns)(void); /* for durations */
    int (*sleep_ns)(int64_t ns);   /* may return early: -EINTR */
    int (*getpid)(void);
    int (*hostname)(char *out, size_t cap);
    int (*random)(void *p, size_t n);
    int (*isatty)(int fd);
    const char *(*getenv)(const char *name); /* NULL when unset */
    int (*cpu_count)(void); /* cores this process may run on */
    int (*thread_start)(uint64_t *handle, void *(*fn)(void *), void *arg);
    int (*thread_join)(uint64_t handle);
    int (*thread_pin)(int index); /* the calling thread to the index-th of those cores */
    /* Shared objects (plug-ins). NULL on failure; why: the system's words. */
    void *(*object_open)(const char *path, char *why, size_t cap);
    void *(*object_symbol)(void *object, const char *name);
    void (*object_close)(void *object);
};

/* The real system. Tests copy it and replace entries. */
extern const struct os_ops os_real;
/* Global, set before other threads start; NULL restores os_real. */
void os_set(const struct os_ops *ops);
const struct os_ops *os_get(void);

int os_open(const char *path, int flags);
int os_close(int fd);
int64_t os_read(int fd, void *p, size_t n);
int64_t os_write(int fd, const void *p, size_t n);
int64_t os_pread(int fd, void *p, size_t n, uint64_t offset);
int64_t os_pwrite(int fd, const void *p, size_t n, uint64_t offset);
int64_t os_seek(int fd, uint64_t offset);
int os_wait_readable(int fd);
int os_fsync(int fd);
int os_ftruncate(int fd, uint64_t size);
int os_stat(const char *path, struct os_stat *out);
int os_fstat(int fd, struct os_stat *out);
int os_rename(const char *from, const char *to);
int os_unlink(const char *path);
int os_mkdir(const char *path);
int os_rmdir(const char *path);
int os_list(const char *path, os_list_fn fn, void *ctx);
int os_symlink(const char *target, const char *path);
int os_readlink(const char *path, char *out, size_t cap);
void *os_map(int fd, size_t size, int *e);
int os_unmap(void *p, size_t size);
int os_drop(void *p, size_t size);
int os_huge(void *p, size_t size);
int os_lock(int fd);
int64_t os_clock_ns(void);
int64_t os_monotonic_ns(void);
int os_sleep_ns(int64_t ns);
int os_getpid(void);
int os_hostname(char *out, size_t cap);
int os_random(void *p, size_t n);
int os_isatty(int fd);
const char *os_getenv(const char *name);
int os_cpu_count(void);
int os_thread_start(uint64_t *handle, void *(*fn)(void *), void *arg);
int os_thread_join(uint64_t handle);
int os_thread_pin(int index);
void *os_object_open(const char *path, char *why, size_t cap);
void *os_object_symbol(void *object, const char *name);
void os_object_close(void *object);

/* Reads or writes exactly n bytes, repeating short transfers and EINTR. A read that meets the end
 * of the file returns the smaller count. */
int64_t os_read_full(int fd, void *p, size_t n);
int64_t os_pread_full(int fd, void *p, size_t n, uint64_t offset);
int os_write_full(int fd, const void *p, size_t n);
int os_pwrite_full(int fd, const void *p, size_t n, uint64_t offset);

#endif
