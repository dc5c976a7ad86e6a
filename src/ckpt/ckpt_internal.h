/* Shared by the files of ckpt/. */
#ifndef SPT_CKPT_CKPT_INTERNAL_H
#define SPT_CKPT_CKPT_INTERNAL_H

#include "base/limits.h"
#include "ckpt/ckpt.h"
#include "codec/hash.h"

enum { CKPT_FORMAT = 1, CKPT_BLOCK = 16384, CKPT_MAX_PATH = 65536 };
#define CKPT_STATE_FILE "state.safetensors"
#define CKPT_MANIFEST_FILE "MANIFEST"

/* One line of the manifest that names a file. `crc` (state file only) has one CRC-32C per CKPT_BLOCK
 * bytes, so that damage can be located. */
struct manifest_file {
    char *name;
    uint64_t size;
    hash128 hash;
};

struct manifest {
    int64_t step;
    bool has_score;
    double score;
    struct manifest_file state; /* name is CKPT_STATE_FILE */
    uint32_t *crc;
    size_t crc_count, crc_cap;
    struct manifest_file *exports;
    size_t export_count, export_cap;
    struct manifest_log {
        char *name;
        uint64_t size;
    } *logs;
    size_t log_count, log_cap;
};

void manifest_release(struct manifest *m);
/* Names are copied. */
spt_status manifest_add_export(struct manifest *m, const char *name, size_t len, uint64_t size,
                               hash128 hash, spt_err *err);
spt_status manifest_add_log(struct manifest *m, const char *name, size_t len, uint64_t size,
                            spt_err *err);
/* Fills state, crc from the bytes of the state file. */
spt_status manifest_describe_state(struct manifest *m, const void *bytes, size_t size,
                                   spt_err *err);
void manifest_write(const struct manifest *m, buf *out);
/* Accepts exactly what manifest_write makes. `what` names it in messages. */
spt_status manifest_parse(const char *text, size_t size, const char *what, struct manifest *out,
                          spt_err *err);
/* Do these bytes match? Otherwise names the damaged blocks. */
spt_status manifest_check_state(const struct manifest *m, const void *bytes, size_t size,
                                const char *what, spt_err *err);
/* A name that stays inside the run directory and on one line. */
bool manifest_name_ok(const char *name, size_t len, bool plain);

/* "<prefix><digits>": the step. */
bool ckpt_step_of(const char *name, const char *prefix, int64_t *step);
/* Steps of the entries with such names, ascending; mem_free. */
spt_status ckpt_list_prefix(const char *run_dir, const char *prefix, int64_t **steps,
                            size_t *count, spt_err *err);
/* As ckpt_load_latest; *from_trash: a state whose replacement was interrupted. */
spt_status ckpt_find_latest(const char *run_dir, ckpt_loaded **out, bool *from_trash,
                            spt_err *err);
/* Absent is an answer; anything else that goes wrong is an error and never "absent". */
spt_status ckpt_exists(const char *path, bool *yes, spt_err *err);
/* Reads <dir>/MANIFEST, and the state file when `bytes` is given (mem_free), and verifies. */
spt_status ckpt_read_dir(const char *dir, struct manifest *m, char **bytes, size_t *size,
                         spt_err *err);

#endif
