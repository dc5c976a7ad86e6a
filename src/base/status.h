/* Errors with context: what failed, where, and why, without allocating.
 *
 * Every fallible function returns spt_status and takes a trailing `spt_err *err` (may be NULL).
 * The callee fills err with err_set(); callers put their own context in front with err_wrap()
 * while unwinding. Out-parameters are untouched on failure. */
#ifndef SPT_BASE_STATUS_H
#define SPT_BASE_STATUS_H

#include <spt/types.h>

#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* Records an error and returns its code, so that `return err_set(...)` reads well. */
spt_status err_set(spt_err *err, spt_status code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same with a byte offset into the input. The message should name the offset, too. */
spt_status err_at(spt_err *err, spt_status code, uint64_t offset, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* The same after a failed system call: appends ": " and the text of `sys_errno`. */
spt_status err_sys(spt_err *err, spt_status code, int sys_errno, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
/* Puts "<context>: " in front of the message already in err; returns err->code (or st). */
spt_status err_wrap(spt_err *err, spt_status st, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Shorthand for an allocation that failed. */
spt_status err_nomem(spt_err *err, size_t size);

/* Names and texts come from files and servers: replaces what may move a terminal (control characters, C1
 * in UTF-8 too) and what is not UTF-8 by '?'; one line stays one. A character cut at the end is dropped. */
void text_tame(char *text);

/* The one control-flow macro: returns from the current function when a call fails. */
#define TRY(call)                          \
    do {                                   \
        const spt_status try_st_ = (call); \
        if (try_st_ != SPT_OK)             \
            return try_st_;                \
    } while (0)

/* A branch that our own invariants exclude: loud in debug builds, a plain test in release. */
#ifdef NDEBUG
#define NEVER(x) (x)
#else
#include <assert.h>
#define NEVER(x) ((x) ? (assert(0 && "NEVER"), 1) : 0)
#endif

#endif
