/* T5X checkpoints on disk: a directory checkpoint_<step> with one msgpack file `checkpoint` and one
 * zarr directory per large array (spec/t5x.md 7, interop.md 2.9). Reads every variant that T5X
 * restores (msgpack arrays, chunked arrays, three spellings of tensorstore specs); Orbax
 * directories are recognised and refused by name. Writes the legacy format, which every T5X of the
 * last years reads.
 *
 * Leaves are named by their path joined with '/': "target/encoder/prompt/prompt/prompt",
 * "state/param_states/encoder/prompt/prompt/prompt/v", "state/step". */
#ifndef SPT_STORE_T5X_CHECKPOINT_H
#define SPT_STORE_T5X_CHECKPOINT_H

#include "fs/fs.h"
#include "store/store.h"

typedef struct t5x_reader t5x_reader;

enum t5x_kind { T5X_TENSOR, T5X_NIL };

struct t5x_leaf {
    const char *name; /* owned by the reader */
    enum t5x_kind kind;
    enum dtype dtype;
    struct tensor_shape shape;
    bool in_zarr;
};

/* What a path is, without reading much. */
enum t5x_what { T5X_NOT, T5X_LEGACY, T5X_ORBAX, T5X_TF };
enum t5x_what t5x_detect(const char *path);

/* `path`: a checkpoint directory, its `checkpoint` file, or a MODEL_DIR (latest step). The msgpack
 * file stays mapped until t5x_close. Immutable afterwards: threads may read leaves together. */
spt_status t5x_open(const char *path, t5x_reader **out, spt_err *err);
void t5x_close(t5x_reader *r);
const char *t5x_directory(const t5x_reader *r);
int64_t t5x_step(const t5x_reader *r); /* of state/step; -1 when the file has none */

size_t t5x_count(const t5x_reader *r);
/* Leaves sorted by name, component by component (T5X tree order). */
const struct t5x_leaf *t5x_leaf_at(const t5x_reader *r, size_t i);
/* NULL when absent. */
const struct t5x_leaf *t5x_find(const t5x_reader *r, const char *name);

/* A leaf's values. dtype of numbers stored without a type: int64, float64 or bool; of strings: U8
 * with one dimension. uint16 arrays of version 2 files are bfloat16. `view.data` points into the mapped file, or into `owned` (free with t5x_release)
 * when the leaf was decoded. */
struct t5x_value {
    struct tensor_view view;
    void *owned;
};
spt_status t5x_read(t5x_reader *r, const struct t5x_leaf *leaf, struct t5x_value *out,
                    spt_err *err);
/* These leaves will be read soon: their arrays are fetched in parallel when they lie far away. */
spt_status t5x_expect(t5x_reader *t, const struct t5x_leaf *const *leaf, size_t n, spt_err *err);
void t5x_release(struct t5x_value *v);

/* As a store (store.h): names as above ("target/..."), nil leaves left out. */
bool t5x_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);
spt_status t5x_store_open(const char *path, const struct store_opts *opts, store **out,
                          spt_err *err);

/* The msgpack file alone, over bytes that outlive the reader; zarr arrays are looked for below
 * `dir`, or cannot be read when it is NULL. */
spt_status t5x_open_mem(const void *bytes, size_t size, const char *dir, t5x_reader **out,
                        spt_err *err);

/* --- MODEL_DIR --- */

/* Steps of the checkpoint_<step> directories, ascending. Free with mem_free. */
spt_status t5x_list(const char *model_dir, int64_t **steps, size_t *count, spt_err *err);
/* SPT_E_NOTFOUND when there is none. */
spt_status t5x_latest(const char *model_dir, int64_t *step, spt_err *err);

/* --- writing --- */

struct t5x_item {
    const char *name;        /* "target/..." or "state/param_states/..." */
    struct tensor_view view; /* data NULL: a nil leaf */
    bool zarr;               /* its own zarr directory, else in the msgpack file */
};
struct t5x_save {
    int64_t step;
    const struct t5x_item *items; /* any order; state/step is added */
    size_t count;
    enum dtype target_dtype;      /* DT_F32 or DT_BF16: `target` leaves are converted to it */
    bool spares_equal; /* t5x_write_numpy: what is there with the same bytes stays as it is */
};

/* What t5x_write_more adds. */
struct t5x_file {
    const char *name; /* in the checkpoint's directory */
    const void *bytes;
    size_t size;
};
struct t5x_more {
    const struct t5x_file *files; /* published with the checkpoint */
    size_t file_count;
    /* Unless NULL: items without data but with dimensions are no nil leaves; their values come from
     * here, one at a time, so that memory does not grow with their number. Shape and dtype must be
     * those of item->view. */
    spt_status (*load)(void *ctx, const struct t5x_item *item, struct tensor_view *out,
                       spt_err *err);
    void (*unload)(void *ctx, const struct t5x_item *item);
    void *ctx;
};
/* Writes model_dir/checkpoint_<step> through checkpoint_<step>.tmp-<unix seconds>. An existing one
 * is left alone (*skipped = true), as the reference does. */
spt_status t5x_write(const char *model_dir, const struct t5x_save *s, bool *skipped, spt_err *err);
/* more: may be NULL. */
spt_status t5x_write_more(const char *model_dir, const struct t5x_save *s,
                          const struct t5x_more *more, bool *skipped, spt_err *err);
/* Deletes the oldest until `keep` remain; directories with a file PINNED count but stay. Each is
 * first renamed to trash.checkpoint_<step>. */
spt_status t5x_prune(const char *model_dir, size_t keep, spt_err *err);
/* Removes what a t5x_prune that was killed left: trash.checkpoint_<step>. For the one writer of it. */
spt_status t5x_empty_trash(const char *model_dir, spt_err *err);

/* Writes model_dir/numpy_checkpoints/checkpoint_<step>/<dotted name> for each item in save dtype; an
 * existing directory becomes checkpoint_<step>.backup-<unix time> (spec/t5x.md 7.10), unless
 * `spares_equal` and it is the same. Names come without "target/". */
spt_status t5x_write_numpy(const char *model_dir, const struct t5x_save *s, spt_err *err);

#endif
