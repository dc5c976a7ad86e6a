#define _GNU_SOURCE
#include "support/test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/os.h"

static char tmpdir[64];

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void remove_tmpdir(void)
{
    nftw(tmpdir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_tmpdir(void)
{
    if (!tmpdir[0]) {
        snprintf(tmpdir, sizeof tmpdir, "/tmp/spt-test-XXXXXX");
        if (!mkdtemp(tmpdir))
            abort();
        atexit(remove_tmpdir);
    }
    static int n;
    static char sub[16][96];
    char *path = sub[n % 16];
    snprintf(path, sizeof sub[0], "%s/%d", tmpdir, n++);
    if (mkdir(path, 0777))
        abort();
    return path;
}

const char *test_path(const char *dir, const char *name)
{
    static int n;
    static char path[16][1024];
    char *p = path[n++ % 16];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    return p;
}

void test_write(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f))
        fail_msg("cannot write %s: %s", path, strerror(errno));
}

static const char *existing(const char *env, const char *fallback)
{
    const char *dir = getenv(env);
    if (!dir)
        dir = fallback;
    return access(dir, R_OK) ? NULL : dir;
}

const char *test_golden_dir(void)
{
    return existing("SPT_GOLDEN", "../shared/golden");
}

const char *test_shared_dir(void)
{
    return existing("SPT_SHARED", "../shared");
}

/* --- fault injection ---------------------------------------------------------------------- */

struct block {
    size_t size;
    size_t pad; /* keeps 16-byte alignment */
};

static int64_t alloc_seen, alloc_fail_at, sys_seen, sys_fail_at;
static bool fail_persistently;
static int sys_errno_value;
static size_t bytes_now, bytes_peak;
static int64_t blocks_now, fds_now;

static bool hit(int64_t seen, int64_t at)
{
    return at > 0 && (seen == at || (fail_persistently && seen > at));
}

static void *fault_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (hit(++alloc_seen, alloc_fail_at))
        return NULL;
    struct block *old = p ? (struct block *)p - 1 : NULL;
    const size_t old_size = old ? old->size : 0;
    struct block *b = realloc(old, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    blocks_now += old ? 0 : 1;
    bytes_now += size - old_size;
    if (bytes_now > bytes_peak)
        bytes_peak = bytes_now;
    return b + 1;
}

static void fault_free(void *ctx, void *p)
{
    (void)ctx;
    if (!p)
        return;
    struct block *b = (struct block *)p - 1;
    bytes_now -= b->size;
    blocks_now--;
    free(b);
}

static bool sys_hit(void)
{
    return hit(++sys_seen, sys_fail_at);
}

#define FAIL_OR(call) (sys_hit() ? -sys_errno_value : (call))

static int f_open(const char *path, int flags)
{
    const int fd = FAIL_OR(os_real.open(path, flags));
    fds_now += fd >= 0;
    return fd;
}
static int f_close(int fd)
{
    /* A failing close has released the descriptor, as on Linux. */
    fds_now--;
    const int r = os_real.close(fd);
    return sys_hit() ? -sys_errno_value : r;
}
static int64_t f_read(int fd, void *p, size_t n) { return FAIL_OR(os_real.read(fd, p, n)); }
static int64_t f_write(int fd, const void *p, size_t n) { return FAIL_OR(os_real.write(fd, p, n)); }
static int64_t f_pread(int fd, void *p, size_t n, uint64_t o)
{
    return FAIL_OR(os_real.pread(fd, p, n, o));
}
static int64_t f_seek(int fd, uint64_t o) { return FAIL_OR(os_real.seek(fd, o)); }
static int f_fsync(int fd) { return FAIL_OR(os_real.fsync(fd)); }
static int f_ftruncate(int fd, uint64_t n) { return FAIL_OR(os_real.ftruncate(fd, n)); }
static int f_stat(const char *p, struct os_stat *o) { return FAIL_OR(os_real.stat(p, o)); }
static int f_fstat(int fd, struct os_stat *o) { return FAIL_OR(os_real.fstat(fd, o)); }
static int f_rename(const char *a, const char *b) { return FAIL_OR(os_real.rename(a, b)); }
static int f_unlink(const char *p) { return FAIL_OR(os_real.unlink(p)); }
static int f_mkdir(const char *p) { return FAIL_OR(os_real.mkdir(p)); }
static int f_rmdir(const char *p) { return FAIL_OR(os_real.rmdir(p)); }
static int f_list(const char *p, os_list_fn fn, void *c) { return FAIL_OR(os_real.list(p, fn, c)); }
static int f_symlink(const char *t, const char *p) { return FAIL_OR(os_real.symlink(t, p)); }
static void *f_map(int fd, size_t size, int *e)
{
    if (sys_hit()) {
        *e = -sys_errno_value;
        return NULL;
    }
    return os_real.map(fd, size, e);
}
static int f_lock(int fd) { return FAIL_OR(os_real.lock(fd)); }
static int f_random(void *p, size_t n) { return FAIL_OR(os_real.random(p, n)); }

static struct os_ops fault_os;

void fault_install(void)
{
    fault_os = os_real;
    fault_os.open = f_open;
    fault_os.close = f_close;
    fault_os.read = f_read;
    fault_os.write = f_write;
    fault_os.pread = f_pread;
    fault_os.seek = f_seek;
    fault_os.fsync = f_fsync;
    fault_os.ftruncate = f_ftruncate;
    fault_os.stat = f_stat;
    fault_os.fstat = f_fstat;
    fault_os.rename = f_rename;
    fault_os.unlink = f_unlink;
    fault_os.mkdir = f_mkdir;
    fault_os.rmdir = f_rmdir;
    fault_os.list = f_list;
    fault_os.symlink = f_symlink;
    fault_os.map = f_map;
    fault_os.lock = f_lock;
    fault_os.random = f_random;
    alloc_seen = alloc_fail_at = sys_seen = sys_fail_at = 0;
    bytes_now = bytes_peak = 0;
    blocks_now = fds_now = 0;
    os_set(&fault_os);
    spt_set_alloc(&(spt_alloc){fault_realloc, fault_free, NULL});
}

void fault_remove(void)
{
    os_set(NULL);
    spt_set_alloc(NULL);
    EXPECT_EQ_I64(blocks_now, 0);
    EXPECT_EQ_I64(fds_now, 0);
}

size_t fault_peak_bytes(void)
{
    return bytes_peak;
}

void fault_reset_peak(void)
{
    bytes_peak = bytes_now;
}

static void check_clean(const char *what, int64_t at)
{
    if (blocks_now || fds_now)
        fail_msg("%s %lld failing: %lld blocks and %lld descriptors leaked", what, (long long)at,
                 (long long)blocks_now, (long long)fds_now);
}

static void run_clean(fault_case run, void *ctx)
{
    spt_err err = {0};
    alloc_fail_at = sys_fail_at = 0;
    alloc_seen = sys_seen = 0;
    EXPECT_OK(run(ctx, &err), &err);
    check_clean("without a fault,", 0);
}

int64_t fault_every_alloc(fault_case run, void *ctx)
{
    fault_install();
    run_clean(run, ctx);
    const int64_t n = alloc_seen;
    for (int pass = 0; pass < 2; pass++) {
        fail_persistently = pass == 1;
        for (int64_t i = 1; i <= n; i++) {
            spt_err err = {0};
            alloc_seen = 0;
            alloc_fail_at = i;
            const spt_status st = run(ctx, &err);
            if (st != SPT_E_NOMEM && st != SPT_OK)
                fail_msg("allocation %lld of %lld failing: %s (%s), wanted out of memory",
                         (long long)i, (long long)n, spt_status_text(st), err.msg);
            check_clean("allocation", i);
        }
    }
    fail_persistently = false;
    run_clean(run, ctx);
    fault_remove();
    return n;
}

int64_t fault_every_syscall(fault_case run, void *ctx, int errno_value)
{
    fault_install();
    run_clean(run, ctx);
    const int64_t n = sys_seen;
    sys_errno_value = errno_value;
    for (int pass = 0; pass < 2; pass++) {
        fail_persistently = pass == 1;
        for (int64_t i = 1; i <= n; i++) {
            spt_err err = {0};
            sys_seen = 0;
            sys_fail_at = i;
            const spt_status st = run(ctx, &err);
            if (st != SPT_OK && st != SPT_E_IO && st != SPT_E_NOTFOUND && st != SPT_E_NOMEM &&
                st != SPT_E_FORMAT)
                fail_msg("system call %lld of %lld failing: %s (%s)", (long long)i, (long long)n,
                         spt_status_text(st), err.msg);
            check_clean("system call", i);
        }
    }
    fail_persistently = false;
    run_clean(run, ctx);
    fault_remove();
    return n;
}
