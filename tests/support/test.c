#define _GNU_SOURCE
#include "support/test.h"

#include <errno.h>
#include <execinfo.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/os.h"

static char tmpdir[64];

/* SPT_TEST_CASE=NAME: of every test program that case alone; * and ? are wildcards. */
__attribute__((constructor)) static void choose_case(void)
{
    const char *name = getenv("SPT_TEST_CASE");
    if (name)
        cmocka_set_test_filter(name);
}

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
        const char *base = getenv("TMPDIR");
        snprintf(tmpdir, sizeof tmpdir, "%s/spt-test-XXXXXX",
                 base && strlen(base) < 40 ? base : "/tmp");
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

static _Atomic int64_t alloc_seen, sys_seen; /* worker threads call the system, too */
static int64_t alloc_fail_at, sys_fail_at;
static bool fail_persistently;
static int sys_errno_value;
static _Atomic size_t bytes_now, bytes_peak;
static _Atomic int64_t blocks_now;
static bool only_marked;
static _Thread_local bool marked;
static _Atomic int64_t fds_now;

extern const char __executable_start;
static void *hit_at[24]; /* the stack of the first call that was made to fail */
static int hit_frames;

static bool hit(int64_t seen, int64_t at)
{
    if (at > 0 && seen == at)
        hit_frames = backtrace(hit_at, sizeof hit_at / sizeof *hit_at);
    return at > 0 && (seen == at || (fail_persistently && seen > at));
}

/* SPT_TEST_GO_ON=1: say it and go on with the next fault, to see all that there is. */
#define FAULT_FAIL(...)                  \
    do {                                 \
        print_hit();                     \
        if (!getenv("SPT_TEST_GO_ON"))   \
            fail_msg(__VA_ARGS__);       \
        print_message("WRONG: " __VA_ARGS__); \
        print_message("\n");             \
        blocks_now = 0;                  \
        fds_now = 0;                     \
    } while (0)

/* For addr2line -e PROGRAM. */
static void print_hit(void)
{
    for (int i = 2; i < hit_frames; i++)
        print_message("%s%zx", i == 2 ? "failed at " : " ",
                      (size_t)((const char *)hit_at[i] - &__executable_start) - 1);
    print_message("\n");
}

/* --- which allocation sites were made to fail: return addresses, for tools/alloc-sites --- */

/* Sites differ in the first NEAR frames; the others lead to the callers of libraries that call back. */
enum { SITE_FRAMES = 7, NEAR = 3, SITE_SLOTS = 1 << 15 };
typedef void *site[SITE_FRAMES];
static site sites[SITE_SLOTS];
static bool sites_wanted;

/* SPT_TEST_SITES_ONLY=1: a program fails one allocation for every site with its nearest callers, and no
 * system call. They are found by their stacks: numbers vary where a network has a say. */
static bool sites_only(void)
{
    return getenv("SPT_TEST_SITES_ONLY") != NULL;
}

static bool same_site(void *const *a, void *const *b)
{
    return !memcmp(a, b, NEAR * sizeof *a);
}

/* The slot of this stack, free or not; NULL: no room. */
static void **site_slot(site *table, void *const *at)
{
    uintptr_t h = 0;
    for (int i = 0; i < NEAR; i++)
        h = (h ^ (uintptr_t)at[i]) * 0x9e3779b97f4a7c15u;
    for (size_t i = h >> 49; i < SITE_SLOTS; i++)
        if (!table[i][0] || same_site(table[i], at))
            return table[i];
    return NULL;
}

static void note_site(site *table, void *const *at)
{
    void **slot = site_slot(table, at);
    if (slot)
        memcpy(slot, at, sizeof(site));
}

static site *found;       /* sites of a run without a fault that have not failed yet; NULL: not wanted */
static void *const *next; /* the site to fail; NULL: by number */

static void find_site(void *const *at)
{
    void **slot = site_slot(sites, at);
    if (slot && !slot[0])
        note_site(found, at);
}

/* SPT_TEST_SITES names a directory: one line of addresses per site that was seen, program first. */
static void write_sites(void)
{
    char name[1024], program[512] = {0};
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        return;
    snprintf(name, sizeof name, "%s/%d", getenv("SPT_TEST_SITES"), (int)getpid());
    FILE *f = fopen(name, "w");
    if (!f)
        return;
    fprintf(f, "%s\n", program);
    for (size_t i = 0; i < SITE_SLOTS; i++) {
        for (int k = 0; k < SITE_FRAMES && sites[i][k]; k++)
            fprintf(f, "%s%zx", k ? " " : "",
                    (size_t)((const char *)sites[i][k] - &__executable_start));
        if (sites[i][0])
            fputc('\n', f);
    }
    fclose(f);
}

/* --- the first allocation of every distinct stack, for fault_every_alloc_stack --- */

enum { STACK_FRAMES = 16, STACK_SLOTS = 1 << 16 };
static uint64_t stack_hash[STACK_SLOTS];
static int64_t *stack_first; /* numbers of allocations, NULL: not wanted */
static int64_t stacks;

static void note_stack(void *const *at, int n, int64_t number)
{
    uint64_t h = 1;
    for (int i = 0; i < n; i++)
        h = (h ^ (uintptr_t)at[i]) * 0x9e3779b97f4a7c15u, h ^= h >> 29;
    for (size_t i = h % STACK_SLOTS;; i = (i + 1) % STACK_SLOTS) {
        if (stack_hash[i] == h)
            return;
        if (!stack_hash[i]) {
            stack_hash[i] = h;
            stack_first[stacks++] = number;
            return;
        }
    }
}

void fault_only_marked(bool yes)
{
    only_marked = yes;
}

void fault_mark_thread(bool yes)
{
    marked = yes;
}

/* Whether this call of the allocator fails. */
__attribute__((noinline)) static bool alloc_fails(void)
{
    if (only_marked && !marked)
        return false;
    void *at[STACK_FRAMES + 2] = {0}; /* the first frames are this function and its caller */
    const int64_t number = ++alloc_seen;
    if (stack_first)
        note_stack(at + 2, backtrace(at, STACK_FRAMES + 2) - 2, number);
    if (found || (next && !alloc_fail_at))
        backtrace(at, SITE_FRAMES + 2);
    if (found)
        find_site(at + 2);
    if (next && !alloc_fail_at && same_site(at + 2, next))
        alloc_fail_at = number;
    if (!hit(number, alloc_fail_at))
        return false;
    if (sites_wanted && backtrace(at, SITE_FRAMES + 2) > 2)
        note_site(sites, at + 2);
    return true;
}

static void *fault_realloc(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (alloc_fails())
        return NULL;
    struct block *old = p ? (struct block *)p - 1 : NULL;
    const size_t old_size = old ? old->size : 0;
    struct block *b = realloc(old, sizeof *b + size);
    if (!b)
        return NULL;
    b->size = size;
    blocks_now += old ? 0 : 1;
    bytes_now += size - old_size;
    const size_t now = bytes_now;
    if (now > bytes_peak)
        bytes_peak = now;
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

static const char *const os_names[] = {
#define OS_NAME(name) [FAULT_OS_##name] = #name,
    FAULT_OS_MAP(OS_NAME)
#undef OS_NAME
};
enum { OS_CALLS = sizeof os_names / sizeof *os_names };
static int64_t failed_calls[OS_CALLS];

static bool sys_hit(enum fault_os call)
{
    if (!hit(++sys_seen, sys_fail_at))
        return false;
    /* Being interrupted for ever is not something that systems do. */
    if (sys_errno_value == EINTR && (sys_seen - sys_fail_at) % 2)
        return false;
    /* Nor does one who waits for a lock wait for ever. */
    if (call == FAULT_OS_lock && sys_errno_value == EAGAIN && (sys_seen - sys_fail_at) % 2)
        return false;
    failed_calls[call]++;
    return true;
}

int64_t fault_failed(enum fault_os call)
{
    return failed_calls[call];
}

const char *fault_os_name(enum fault_os call)
{
    return os_names[call];
}

#define FAIL_OR(name, call) (sys_hit(FAULT_OS_##name) ? -sys_errno_value : (call))

/* Transfers may also be short, or meet the end of the file too early. */
#define TRANSFER(name, n, call, short_call)                                    \
    do {                                                                       \
        if (!sys_hit(FAULT_OS_##name))                                         \
            return call;                                                       \
        if (sys_errno_value == FAULT_SHORT)                                    \
            return (n) > 1 ? short_call : call;                                \
        return sys_errno_value == FAULT_EOF ? 0 : -sys_errno_value;            \
    } while (0)

static int f_open(const char *path, int flags)
{
    const int fd = FAIL_OR(open, os_real.open(path, flags));
    fds_now += fd >= 0;
    return fd;
}
static int f_close(int fd)
{
    /* A failing close has released the descriptor, as on Linux. */
    fds_now--;
    const int r = os_real.close(fd);
    return sys_hit(FAULT_OS_close) ? -sys_errno_value : r;
}
static int64_t f_read(int fd, void *p, size_t n)
{
    TRANSFER(read, n, os_real.read(fd, p, n), os_real.read(fd, p, 1));
}
static int64_t f_write(int fd, const void *p, size_t n)
{
    TRANSFER(write, n, os_real.write(fd, p, n), os_real.write(fd, p, 1));
}
static int64_t f_pread(int fd, void *p, size_t n, uint64_t o)
{
    TRANSFER(pread, n, os_real.pread(fd, p, n, o), os_real.pread(fd, p, 1, o));
}
static int64_t f_pwrite(int fd, const void *p, size_t n, uint64_t o)
{
    TRANSFER(pwrite, n, os_real.pwrite(fd, p, n, o), os_real.pwrite(fd, p, 1, o));
}
static int64_t f_seek(int fd, uint64_t o) { return FAIL_OR(seek, os_real.seek(fd, o)); }
/* Nothing here survives a power cut, and real disks take their time. */
static int f_fsync(int fd) { return FAIL_OR(fsync, fd < 0 ? -EBADF : 0); }
static int f_ftruncate(int fd, uint64_t n) { return FAIL_OR(ftruncate, os_real.ftruncate(fd, n)); }
static int f_stat(const char *p, struct os_stat *o) { return FAIL_OR(stat, os_real.stat(p, o)); }
static int f_fstat(int fd, struct os_stat *o) { return FAIL_OR(fstat, os_real.fstat(fd, o)); }
static int f_rename(const char *a, const char *b) { return FAIL_OR(rename, os_real.rename(a, b)); }
static int f_unlink(const char *p) { return FAIL_OR(unlink, os_real.unlink(p)); }
static int f_mkdir(const char *p) { return FAIL_OR(mkdir, os_real.mkdir(p)); }
static int f_rmdir(const char *p) { return FAIL_OR(rmdir, os_real.rmdir(p)); }
static int f_list(const char *p, os_list_fn fn, void *c)
{
    return FAIL_OR(list, os_real.list(p, fn, c));
}
static int f_symlink(const char *t, const char *p)
{
    return FAIL_OR(symlink, os_real.symlink(t, p));
}
static int f_readlink(const char *p, char *o, size_t n)
{
    return FAIL_OR(readlink, os_real.readlink(p, o, n));
}
static void *f_map(int fd, size_t size, int *e)
{
    if (sys_hit(FAULT_OS_map)) {
        *e = -sys_errno_value;
        return NULL;
    }
    return os_real.map(fd, size, e);
}
static int f_drop(void *p, size_t n) { return FAIL_OR(drop, os_real.drop(p, n)); }
static int f_huge(void *p, size_t n) { return FAIL_OR(huge, os_real.huge(p, n)); }
static int f_lock(int fd) { return FAIL_OR(lock, os_real.lock(fd)); }
static int f_hostname(char *o, size_t n) { return FAIL_OR(hostname, os_real.hostname(o, n)); }
static int f_random(void *p, size_t n) { return FAIL_OR(random, os_real.random(p, n)); }
static int f_thread_start(uint64_t *h, void *(*fn)(void *), void *arg)
{
    return FAIL_OR(thread_start, os_real.thread_start(h, fn, arg));
}

static struct os_ops fault_os;

void fault_install(void)
{
    fault_os = os_real;
#define OS_FAULT(name) fault_os.name = f_##name;
    FAULT_OS_MAP(OS_FAULT)
#undef OS_FAULT
    alloc_seen = sys_seen = 0;
    alloc_fail_at = sys_fail_at = 0;
    if (getenv("SPT_TEST_SITES") && !sites_wanted) {
        sites_wanted = true;
        atexit(write_sites);
    }
    bytes_now = bytes_peak = 0;
    blocks_now = 0;
    fds_now = 0;
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
        FAULT_FAIL("%s %lld failing: %lld blocks and %lld descriptors leaked", what, (long long)at,
                 (long long)blocks_now, (long long)fds_now);
}

static fault_case after_fault;

void fault_set_after(fault_case retry)
{
    after_fault = retry;
}

/* The object must be usable again once the fault has gone. */
static void retry(const char *what, int64_t at, void *ctx)
{
    spt_err err = {0};
    if (!after_fault)
        return;
    const int64_t alloc_at = alloc_fail_at, sys_at = sys_fail_at;
    void *const *const site_at = next;
    alloc_fail_at = sys_fail_at = 0;
    next = NULL;
    const spt_status st = after_fault(ctx, &err);
    if (st)
        FAULT_FAIL("%s %lld failed; trying again without a fault: %s (%s)", what, (long long)at,
                 spt_status_text(st), err.msg);
    check_clean(what, at);
    alloc_fail_at = alloc_at;
    sys_fail_at = sys_at;
    next = site_at;
}

/* NEAR frames of its own: what runs the case has no part in the sites. */
__attribute__((noinline)) static spt_status attempt(fault_case run, void *ctx, int depth, spt_err *err)
{
    const spt_status st = depth ? attempt(run, ctx, depth - 1, err) : run(ctx, err);
    __asm__ volatile("" ::: "memory"); /* no jump in place of the call */
    return st;
}

static void run_clean(fault_case run, void *ctx)
{
    spt_err err = {0};
    alloc_fail_at = sys_fail_at = 0;
    alloc_seen = sys_seen = 0;
    EXPECT_OK(attempt(run, ctx, NEAR, &err), &err);
    check_clean("without a fault,", 0);
}

static void fail_alloc(fault_case run, void *ctx, int64_t at, int64_t of)
{
    spt_err err = {0};
    alloc_seen = 0;
    alloc_fail_at = at;
    const spt_status st = attempt(run, ctx, NEAR, &err);
    at = alloc_fail_at; /* found by its site, perhaps */
    if (st != SPT_E_NOMEM && st != SPT_OK)
        FAULT_FAIL("allocation %lld of %lld failing: %s (%s), wanted out of memory", (long long)at,
                   (long long)of, spt_status_text(st), err.msg);
    check_clean("allocation", at);
    retry("allocation", at, ctx);
}

/* which: numbers of the allocations to fail; NULL: all of them. */
static void every_alloc(fault_case run, void *ctx, const int64_t *which, int64_t count)
{
    const int64_t n = alloc_seen;
    for (int pass = 0; pass < 2; pass++) {
        fail_persistently = pass == 1;
        for (int64_t i = 0; i < count; i++)
            fail_alloc(run, ctx, which ? which[i] : i + 1, n);
    }
    fail_persistently = false;
    run_clean(run, ctx);
    fault_remove();
}

/* Returns how many allocations the case has. */
static int64_t every_site(fault_case run, void *ctx)
{
    const fault_case again = after_fault;
    site *list = calloc(SITE_SLOTS, sizeof *list);
    EXPECT_TRUE(list != NULL);
    found = list;
    run_clean(run, ctx);
    found = NULL;
    const int64_t n = alloc_seen;
    for (int pass = 0; pass < 2; pass++) {
        fail_persistently = pass == 1;
        after_fault = pass == 1 ? NULL : again; /* tried already */
        for (size_t i = 0; i < SITE_SLOTS; i++)
            if (list[i][0]) {
                next = list[i];
                fail_alloc(run, ctx, 0, n);
                next = NULL;
            }
    }
    fail_persistently = false;
    after_fault = again;
    free(list);
    run_clean(run, ctx);
    fault_remove();
    return n;
}

int64_t fault_every_alloc(fault_case run, void *ctx)
{
    fault_install();
    run_clean(run, ctx);
    if (sites_only())
        return every_site(run, ctx);
    const int64_t n = alloc_seen;
    every_alloc(run, ctx, NULL, n);
    return n;
}

int64_t fault_every_alloc_stack(fault_case run, void *ctx, int64_t stride)
{
    if (getenv("SPT_TEST_FULL") || sites_only())
        return fault_every_alloc(run, ctx);
    fault_install();
    run_clean(run, ctx); /* what is made only once is there now */
    int64_t *first = calloc(STACK_SLOTS, sizeof *first);
    EXPECT_TRUE(first != NULL);
    memset(stack_hash, 0, sizeof stack_hash);
    stacks = 0;
    stack_first = first;
    run_clean(run, ctx);
    stack_first = NULL;
    if (getenv("SPT_TEST_SLOW"))
        stride = 1;
    for (int64_t i = stride / 2; i < stacks; i += stride)
        first[i / stride] = first[i];
    const int64_t n = (stacks + stride - 1 - stride / 2) / stride;
    every_alloc(run, ctx, first, n);
    free(first);
    return n;
}

int64_t fault_every_syscall(fault_case run, void *ctx, int errno_value)
{
    fault_install();
    run_clean(run, ctx);
    const int64_t n = sys_seen;
    sys_errno_value = errno_value;
    for (int pass = sites_only() ? 2 : 0; pass < 2; pass++) {
        fail_persistently = pass == 1;
        for (int64_t i = 1; i <= n; i++) {
            spt_err err = {0};
            sys_seen = 0;
            sys_fail_at = i;
            const spt_status st = run(ctx, &err);
            if (st != SPT_OK && st != SPT_E_IO && st != SPT_E_NOTFOUND && st != SPT_E_NOMEM &&
                st != SPT_E_FORMAT && st != SPT_E_DEVICE &&
                /* a lock that would block is another trainer */
                !(st == SPT_E_CONFIG && errno_value == EAGAIN))
                FAULT_FAIL("system call %lld of %lld failing: %s (%s)", (long long)i, (long long)n,
                         spt_status_text(st), err.msg);
            check_clean("system call", i);
            retry("system call", i, ctx);
        }
    }
    fail_persistently = false;
    run_clean(run, ctx);
    fault_remove();
    return n;
}
