/* An open collection of named tensors, whatever the container: a safetensors file, a .npy array, a
 * torch .bin, a Hugging Face directory, a T5X checkpoint directory.
 *
 *     store *s = NULL;
 *     TRY(store_open(path, NULL, &s, err));
 *     for (size_t i = 0; i < store_count(s); i++)
 *         use(store_at(s, i)->name, &store_at(s, i)->shape);       (no data was touched so far)
 *     struct store_data d = {0};
 *     st = store_load(s, i, &d, err);              d.view is row-major, maybe unaligned
 *     store_release(s, &d);                        frees the copy or lets the mapped pages go
 *     store_close(s);
 *
 * A store is confined to one thread at a time. Infos, names and metadata belong to the store and
 * are valid until store_close(); a loaded tensor until store_release(). Names are NUL-terminated
 * and hold no NUL. Peak heap of opening n bytes: at most 16 n + 1 MB. */
#ifndef SPT_STORE_STORE_H
#define SPT_STORE_STORE_H

#include "tensor/tensor.h"

typedef struct store store;

/* What is known of a tensor before its data is touched. */
struct store_info {
    const char *name;
    enum dtype dtype;
    struct tensor_shape shape;
    size_t elements, bytes;
};

/* The values of one tensor. All-zero means nothing is held. */
struct store_data {
    struct tensor_view view;
    void *owned;  /* heap copy (mem_alloc_aligned), or NULL: the view points into a mapping */
    size_t index; /* which tensor of the store */
};

struct store_opts {
    bool npy_bf16; /* accept |V2 and <V2 arrays as bfloat16 */
};

/* Opens by content, never by extension. A file or directory of a kind that is known but not
 * supported is refused with its name (tar, npz, HDF5, GGUF, Git LFS pointer, Orbax...).
 * opts may be NULL. */
spt_status store_open(const char *path, const struct store_opts *opts, store **out, spt_err *err);
void store_close(store *s); /* accepts NULL */

const char *store_path(const store *s);
/* "safetensors", "npy", "torch_bin", "hf_dir", "t5x", "peft". */
const char *store_kind(const store *s);
/* In the order of the file; T5X in tree order (keys sorted at each level). */
size_t store_count(const store *s);
const struct store_info *store_at(const store *s, size_t i);
/* False when no tensor has this name. O(log n). */
bool store_find(const store *s, const char *name, size_t *index);
/* Optimiser step that a T5X checkpoint carries; -1 when the container has none. */
int64_t store_step(const store *s);

/* Metadata strings of the container (safetensors "__metadata__"), in the order of the file. */
struct store_meta {
    const char *key, *value;
};
size_t store_meta_count(const store *s);
const struct store_meta *store_meta_at(const store *s, size_t i);
const char *store_meta_get(const store *s, const char *key); /* NULL when absent */

/* The files that hold the tensors, for identity (size, mtime); 0 when the container does not say. */
size_t store_file_count(const store *s);
const char *store_file(const store *s, size_t i);

/* A view into the mapping where the file allows it, else a decoded copy. */
spt_status store_load(store *s, size_t i, struct store_data *out, spt_err *err);
/* These n tensors (indices) will be loaded soon: what lies far away is fetched now, in
 * parallel. Nothing happens for local files. */
spt_status store_expect(store *s, const size_t *index, size_t n, spt_err *err);
void store_release(store *s, struct store_data *d); /* accepts an all-zero object */
/* All elements as float32 into out[elements]. */
spt_status store_read_f32(store *s, size_t i, float *out, spt_err *err);

/* --- values --- */

/* First element that is infinite or NaN, or whose float64 value does not fit float32. */
bool view_find_nonfinite(const struct tensor_view *v, size_t *at);
/* "[3, 5]" of element `at` into text of at least SHAPE_TEXT bytes; returns text. */
char *shape_index_text(const struct tensor_shape *s, size_t at, char *text);

/* --- what writers take --- */

struct store_tensor {
    const char *name;
    struct tensor_view view;
};

/* --- for the formats of this folder --- */

/* A format describes its tensors with store_add() in the order that `index` counts, and hands over
 * its private object with store_finish(). load() fills out->view and, for a copy, out->owned (from
 * mem_alloc_aligned); dtype and shape of the view are those that store_add() was told. release()
 * (NULL: nothing to do) lets mapped pages go; owned copies are freed by the store. */
struct store_format {
    const char *kind;
    spt_status (*load)(void *impl, size_t index, struct store_data *out, spt_err *err);
    void (*release)(void *impl, size_t index);
    void (*close)(void *impl);
    spt_status (*expect)(void *impl, const size_t *index, size_t n, spt_err *err); /* or NULL */
};

spt_status store_new(const struct store_format *f, const char *path, store **out, spt_err *err);
/* Reserves room for exactly this many tensors (memory bound); optional. */
spt_status store_reserve(store *s, size_t count, spt_err *err);
/* Copies the name. Refuses a NUL inside, names over 1,024 bytes and impossible shapes. */
spt_status store_add(store *s, const char *name, size_t len, enum dtype dtype,
                     const struct tensor_shape *shape, spt_err *err);
spt_status store_add_meta(store *s, const char *key, size_t key_len, const char *value,
                          size_t value_len, spt_err *err);
spt_status store_add_file(store *s, const char *path, spt_err *err);
void store_set_step(store *s, int64_t step);
/* Sorts the names, refuses a duplicate by name, and takes impl over. On failure impl still belongs
 * to the caller; `s` in any case (store_close). */
spt_status store_finish(store *s, void *impl, spt_err *err);

/* One line of the table that store_open() walks: probe() looks at a directory, or at the first
 * `n` bytes of a file of `size` bytes (bytes is NULL for a directory). */
struct store_kind {
    bool (*probe)(const char *path, const unsigned char *bytes, size_t n, uint64_t size);
    spt_status (*open_store)(const char *path, const struct store_opts *opts, store **out,
                             spt_err *err);
};

#endif
