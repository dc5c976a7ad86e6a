/* A store seen through a list of names: tensors of another store under other names, and tensors that
 * no file holds. What is not in the list is not there. */
#ifndef SPT_STORE_STORE_ALIAS_H
#define SPT_STORE_STORE_ALIAS_H

#include "store/store.h"

struct store_alias {
    const char *name;
    bool made;    /* fill() makes the values, float32 of this shape */
    size_t index; /* else: which tensor of the other store */
    struct tensor_shape shape;
};
/* Values of the i-th alias of the list. Called whenever it is loaded: always the same. */
typedef spt_status (*store_fill_fn)(void *ctx, size_t i, float *out, spt_err *err);

/* Takes `inner` over, also on failure. The list is copied; fill and ctx must outlive the store. Its
 * identity is not that of the files: store_file_count is 0. */
spt_status store_alias_open(store *inner, const struct store_alias *list, size_t n,
                            store_fill_fn fill, void *ctx, store **out, spt_err *err);

#endif
