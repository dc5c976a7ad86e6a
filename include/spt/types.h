/* Status codes, error context and allocator hooks shared by every public header. */
#ifndef SPT_TYPES_H
#define SPT_TYPES_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SPT_API __attribute__((visibility("default")))
#else
#define SPT_API
#endif

/* One line per status: name, process exit code (README, "Exit codes"), description. */
#define SPT_STATUS_MAP(X)                                                   \
    X(OK, 0, "success")                                                     \
    X(E_CHECK, 1, "the check said no")                                      \
    X(E_USAGE, 2, "wrong command line")                                     \
    X(E_CONFIG, 3, "wrong configuration")                                   \
    X(E_FORMAT, 4, "malformed or unsuitable input file")                    \
    X(E_IO, 5, "input/output error")                                        \
    X(E_NOTFOUND, 5, "no such file or object")                              \
    X(E_NOMEM, 6, "out of memory")                                          \
    X(E_DEVICE, 6, "device or library failure")                             \
    X(E_NONFINITE, 1, "non-finite value")                                   \
    X(E_INTERRUPTED, 75, "interrupted after saving; run again to continue") \
    X(E_INTERNAL, 70, "internal error (a bug in spt)")

typedef enum spt_status {
#define SPT_STATUS_ENUM(name, exit_code, text) SPT_##name,
    SPT_STATUS_MAP(SPT_STATUS_ENUM)
#undef SPT_STATUS_ENUM
} spt_status;

/* Where and why a call failed. Filled by the callee, never allocated; callers may pass NULL. */
typedef struct spt_err {
    spt_status code;
    int sys_errno;   /* errno of the failing system call, or 0 */
    uint64_t offset; /* byte offset in the input where known, else 0 */
    char msg[512];
} spt_err;

/* Description of a status, static storage. */
SPT_API const char *spt_status_text(spt_status st);
/* Process exit code documented for a status. */
SPT_API int spt_status_exit_code(spt_status st);

/* Allocator hooks; all memory of the library comes from here. Set once, before any other call.
 * realloc_fn(ctx, NULL, n) allocates; free_fn accepts NULL; alignment is that of malloc. */
typedef struct spt_alloc {
    void *(*realloc_fn)(void *ctx, void *p, size_t size);
    void (*free_fn)(void *ctx, void *p);
    void *ctx;
} spt_alloc;
/* NULL restores the C library's allocator. */
SPT_API void spt_set_alloc(const spt_alloc *hooks);

#ifdef __cplusplus
}
#endif
#endif
