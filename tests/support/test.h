/* What every test includes: cmocka plus checks that print both values, a temporary directory,
 * and fault injection. Test programs may include any header of src/. */
#ifndef TESTS_SUPPORT_TEST_H
#define TESTS_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"

#define EXPECT_TRUE(x)                                                   \
    do {                                                                 \
        if (!(x))                                                        \
            fail_msg("%s:%d: expected %s", __FILE__, __LINE__, #x);      \
    } while (0)

#define EXPECT_EQ_I64(got, want)                                                              \
    do {                                                                                      \
        const long long got_ = (long long)(got), want_ = (long long)(want);                   \
        if (got_ != want_)                                                                    \
            fail_msg("%s:%d: %s is %lld, wanted %lld", __FILE__, __LINE__, #got, got_, want_); \
    } while (0)

#define EXPECT_EQ_F64(got, want)                                                               \
    do {                                                                                       \
        const double got_ = (double)(got), want_ = (double)(want);                             \
        if (!(got_ == want_))                                                                  \
            fail_msg("%s:%d: %s is %.17g, wanted %.17g", __FILE__, __LINE__, #got, got_, want_); \
    } while (0)

/* |got - want| <= tol * max(1, |want|) */
#define EXPECT_NEAR(got, want, tol)                                                            \
    do {                                                                                       \
        const double got_ = (double)(got), want_ = (double)(want), tol_ = (double)(tol);       \
        const double mag_ = want_ < 0 ? -want_ : want_, d_ = got_ - want_;                     \
        if (!((d_ < 0 ? -d_ : d_) <= tol_ * (mag_ > 1 ? mag_ : 1)))                            \
            fail_msg("%s:%d: %s is %.9g, wanted %.9g within %g", __FILE__, __LINE__, #got, got_, \
                     want_, tol_);                                                             \
    } while (0)

#define EXPECT_STR(got, want)                                                                   \
    do {                                                                                        \
        const char *got_ = (got), *want_ = (want);                                              \
        if (!got_ || strcmp(got_, want_) != 0)                                                  \
            fail_msg("%s:%d: %s is \"%s\", wanted \"%s\"", __FILE__, __LINE__, #got,            \
                     got_ ? got_ : "(null)", want_);                                            \
    } while (0)

#define EXPECT_STATUS(call, want)                                                         \
    do {                                                                                  \
        const spt_status got_ = (call);                                                   \
        if (got_ != (want))                                                               \
            fail_msg("%s:%d: %s: %s, wanted %s", __FILE__, __LINE__, #call,               \
                     spt_status_text(got_), spt_status_text(want));                       \
    } while (0)

#define EXPECT_OK(call, errp)                                                                 \
    do {                                                                                      \
        const spt_status got_ = (call);                                                       \
        if (got_ != SPT_OK)                                                                   \
            fail_msg("%s:%d: %s: %s (%s)", __FILE__, __LINE__, #call, spt_status_text(got_),  \
                     (errp)->msg);                                                            \
    } while (0)

/* The message must contain `part`. */
#define EXPECT_MSG(errp, part)                                                             \
    do {                                                                                   \
        if (!strstr((errp)->msg, part))                                                    \
            fail_msg("%s:%d: \"%s\" does not contain \"%s\"", __FILE__, __LINE__, (errp)->msg, \
                     part);                                                                \
    } while (0)

/* A fresh temporary directory, removed at exit. Static storage per call site is not needed: the
 * string lives until the process ends. */
const char *test_tmpdir(void);
/* "<dir>/<name>" in one of 16 rotating static buffers. */
const char *test_path(const char *dir, const char *name);
/* Writes a file, failing the test when that does not work. */
void test_write(const char *path, const void *bytes, size_t n);

/* Directory of the golden data (SPT_GOLDEN, default ../shared/golden); NULL when absent. */
const char *test_golden_dir(void);
/* ../shared (SPT_SHARED); NULL when absent. */
const char *test_shared_dir(void);

/* --- fault injection ---------------------------------------------------------------------- */

/* Counts and fails allocations and system calls. fault_install() replaces both tables;
 * fault_remove() restores them and fails the test when memory or descriptors leaked. */
void fault_install(void);
void fault_remove(void);

typedef spt_status (*fault_case)(void *ctx, spt_err *err);
/* Runs the case without faults to count its allocations, then once for every allocation with that
 * one failing (and, in a second pass, every one from it on). Each run must return SPT_E_NOMEM or
 * SPT_OK (a harmless failure), leak nothing, and a final run must succeed. Returns the number of
 * allocations seen. */
int64_t fault_every_alloc(fault_case run, void *ctx);
/* The same where runs are long: of the allocations that come from one and the same stack of calls only the
 * first fails, and of those every stride-th. Returns how many failed. SPT_TEST_SLOW=1: stride 1;
 * SPT_TEST_FULL=1: every allocation. */
int64_t fault_every_alloc_stack(fault_case run, void *ctx, int64_t stride);
/* Of several threads only those fail, and are counted, that say so for themselves (true, then false). */
void fault_only_marked(bool yes);
void fault_mark_thread(bool yes);
/* The same for system calls with an errno value, e.g. EIO or ENOSPC. Statuses SPT_E_IO,
 * SPT_E_NOTFOUND, SPT_E_NOMEM, SPT_E_FORMAT and SPT_OK are accepted. */
int64_t fault_every_syscall(fault_case run, void *ctx, int errno_value);
/* What fault_every_syscall fails: the calls of the os table that can fail. */
#define FAULT_OS_MAP(X)                                                                        \
    X(open) X(close) X(read) X(write) X(pread) X(pwrite) X(seek) X(fsync) X(ftruncate) X(stat)     \
    X(fstat) X(rename) X(unlink) X(mkdir) X(rmdir) X(list) X(symlink) X(readlink) X(map) X(drop)        \
    X(huge) X(lock) X(hostname) X(random) X(thread_start)
enum fault_os {
#define FAULT_OS_ENUM(name) FAULT_OS_##name,
    FAULT_OS_MAP(FAULT_OS_ENUM)
#undef FAULT_OS_ENUM
    FAULT_OS_COUNT
};
/* In place of an errno value: reads and writes transfer one byte, or reads and writes return 0;
 * other calls then fail with that unknown number. */
enum { FAULT_SHORT = 1000, FAULT_EOF = 1001 };
/* How often a call was made to fail in this process, and its name. */
int64_t fault_failed(enum fault_os call);
const char *fault_os_name(enum fault_os call);
/* Called after every run with a fault, without one: it must succeed and leak nothing. NULL: none. */
void fault_set_after(fault_case retry);
/* Largest number of bytes the library held at one time since fault_install(). */
size_t fault_peak_bytes(void);
void fault_reset_peak(void);

#endif
