/* The pickle inside a torch.save file, run by a fixed machine over inert values (spec/interop.md
 * section 3.2). Nothing is imported, called or executed: a GLOBAL is one of a dozen known names and
 * yields a tag; REDUCE knows what three of them mean.
 *
 * Values are 64-bit words (tag and payload). Tuples, lists, dicts, storages and tensors live in one
 * array of words, strings stay in the pickle. Memory: at most 12 bytes per pickle byte + 1 MB. */
#ifndef SPT_STORE_TORCH_PICKLE_H
#define SPT_STORE_TORCH_PICKLE_H

#include <stdbool.h>
#include <stddef.h>

#include "tensor/tensor.h"

typedef uint64_t pickle_value;

enum pickle_tag {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT, /* the value is not kept */
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_SET, /* always empty */
    PICKLE_GLOBAL,
    PICKLE_STORAGE,
    PICKLE_TENSOR,
    PICKLE_MARK
};

struct pickle {
    const unsigned char *bytes;
    size_t size;
    pickle_value *cell; /* containers */
    size_t cells, cell_cap;
    pickle_value *memo;
    size_t memos, memo_cap;
    pickle_value *stack;
    size_t depth, stack_cap;
    pickle_value root;
    size_t used; /* bytes up to and including STOP */
};

/* Runs the pickle at the start of `bytes`, which must outlive p. On success only root, used and
 * the containers remain; release with pickle_release() in any case. */
spt_status pickle_run(struct pickle *p, const void *bytes, size_t size, spt_err *err);
void pickle_release(struct pickle *p); /* accepts an all-zero object */

enum pickle_tag pickle_tag_of(pickle_value v);
const char *pickle_tag_name(enum pickle_tag t);
int64_t pickle_int(pickle_value v); /* INT, BOOL */
/* Not NUL-terminated. */
const char *pickle_string(const struct pickle *p, pickle_value v, size_t *len);
bool pickle_is(const struct pickle *p, pickle_value v, const char *text); /* STRING and equal */
size_t pickle_tuple(const struct pickle *p, pickle_value v, const pickle_value **items);

/* Walks a list (values) or a dict (keys and values in turn). Start with an all-zero iterator. */
struct pickle_iter {
    size_t chunk, at;
    bool started;
};
bool pickle_next(const struct pickle *p, pickle_value container, struct pickle_iter *it,
                 pickle_value *out);

struct pickle_storage {
    enum dtype dtype;
    const char *key;
    size_t key_len;
    uint64_t count; /* elements */
};
struct pickle_tensor {
    struct pickle_storage storage;
    uint64_t offset; /* first element in the storage */
    struct tensor_shape shape;
    int64_t stride[TENSOR_MAX_RANK];
};
/* Checked when it was built: ranks agree, nothing is negative, every element lies in the storage. */
void pickle_tensor_get(const struct pickle *p, pickle_value v, struct pickle_tensor *out);

#endif
