/* Our own small checkpoints: everything a run needs to continue with the same bits, published
 * atomically (docs/design/checkpoints.md, reliability.md 2).
 *
 * In the run directory:
 *     state-<step>/MANIFEST          text: step, format version, score, lengths of all logs, names, sizes
 *                                    and checksums of the files; its last line is its own checksum
 *     state-<step>/state.safetensors the named tensors
 *     prompt-<step>.safetensors, ... exports that belong to the state (durable before it appears)
 *     .lock                          held while a trainer runs; the system drops it when it dies
 *
 * ckpt knows no optimiser and no model: callers name tensors (blobs are U8 tensors). One manifest
 * is the only commit point (rulings 22): a state whose manifest does not hold is not there. */
#ifndef SPT_CKPT_CKPT_H
#define SPT_CKPT_CKPT_H

#include "fs/fs.h"
#include "tensor/tensor.h"

typedef struct ckpt ckpt;

struct ckpt_opts {
    size_t keep;        /* newest states to keep; 0: all. At least one verified state always stays */
    bool keep_best;     /* also keep the state with the best score ... */
    bool lower_is_better; /* ... which is the smallest instead of the largest; ties: the earlier */
    /* With `keep`, exports older than the newest state whose own state is gone are removed (a crash
     * may have come between the two), except those that this asks to spare. NULL: none. */
    bool (*spare)(void *ctx, const char *name);
    void *ctx;
};

/* Creates the directory when needed and takes the lock: SPT_E_CONFIG when another trainer holds it.
 * Removes what a crash left (tmp.*, trash.*). Confined to one thread. */
spt_status ckpt_open(const char *run_dir, const struct ckpt_opts *opts, ckpt **out, spt_err *err);
void ckpt_close(ckpt *ck); /* accepts NULL; releases the lock */
const char *ckpt_dir(const ckpt *ck);

struct ckpt_item {
    const char *name;        /* unique; 1 to 255 bytes */
    struct tensor_view view; /* blobs: DT_U8, one dimension */
};
/* A file next to the states that belongs to one of them, e.g. prompt-120.safetensors. Its name must
 * contain the step, so that states never share one; it is deleted together with its state. */
struct ckpt_export {
    const char *name;  /* a plain file name */
    const void *bytes; /* written by ckpt_save; NULL: the caller has written it durably already */
    size_t size;
};
/* A growing file and the length that belongs to this state. The caller syncs it (fs_log_sync)
 * before ckpt_save. */
struct ckpt_log {
    const char *name; /* path below the run directory, no newline */
    uint64_t size;
};
struct ckpt_state {
    int64_t step;
    const struct ckpt_item *items;
    size_t item_count;
    const struct ckpt_export *exports;
    size_t export_count;
    const struct ckpt_log *logs;
    size_t log_count;
    bool has_score;
    double score; /* for keep_best */
};

/* Durable when it returns SPT_OK. On failure the earlier states are untouched and the run may go on:
 * nothing of this save is left, or it is removed by the next one. A state of the same step and the
 * same content is left as it is; one of other content is replaced. Deleting what `keep` does not
 * want comes last and cannot fail a save (a warning is logged). */
spt_status ckpt_save(ckpt *ck, const struct ckpt_state *s, spt_err *err);

/* Deletes what `keep` does not want, for a run that ends without another save (a crash may have come
 * between the last save and its deletions). The state of step `verified`, which was loaded, stays.
 * Failures are warnings. */
void ckpt_tidy(ckpt *ck, int64_t verified);

/* --- reading; needs no lock --- */

typedef struct ckpt_loaded ckpt_loaded;

/* The newest state that verifies; damaged ones are named in a warning and passed over.
 * SPT_E_NOTFOUND when there is no state at all, SPT_E_FORMAT when all are damaged. */
spt_status ckpt_load_latest(const char *run_dir, ckpt_loaded **out, spt_err *err);
/* One step exactly, verified. */
spt_status ckpt_load(const char *run_dir, int64_t step, ckpt_loaded **out, spt_err *err);
void ckpt_loaded_free(ckpt_loaded *l);

int64_t ckpt_loaded_step(const ckpt_loaded *l);
bool ckpt_loaded_score(const ckpt_loaded *l, double *score);
size_t ckpt_loaded_count(const ckpt_loaded *l);
const char *ckpt_loaded_name(const ckpt_loaded *l, size_t i);
/* NULL when absent. Points into l; contents were verified. */
const struct tensor_view *ckpt_loaded_tensor(const ckpt_loaded *l, const char *name);
/* The same, checked: dtype and shape must be these, else SPT_E_FORMAT naming both. */
spt_status ckpt_loaded_get(const ckpt_loaded *l, const char *name, enum dtype dtype,
                           const struct tensor_shape *shape, const void **data, spt_err *err);
/* Length of a log at the save; false when the state does not know it (then it did not exist: cut to
 * 0). */
bool ckpt_loaded_log(const ckpt_loaded *l, const char *name, uint64_t *size);
size_t ckpt_loaded_log_count(const ckpt_loaded *l);
const char *ckpt_loaded_log_name(const ckpt_loaded *l, size_t i);

/* Steps of all states in the directory (verified or not), ascending. Free with mem_free. */
spt_status ckpt_list(const char *run_dir, int64_t **steps, size_t *count, spt_err *err);

#endif
