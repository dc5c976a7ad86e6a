/* The ZIP container of torch.save: stored entries below one prefix, read through the central
 * directory (spec/interop.md section 3.1). Nothing is decompressed. */
#ifndef SPT_STORE_TORCH_ZIP_H
#define SPT_STORE_TORCH_ZIP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

/* A slice of the file. The name is that behind the common prefix ("data.pkl", "data/0"). */
struct zip_entry {
    const char *name; /* not NUL-terminated; points into the file */
    size_t name_len;
    size_t offset, size; /* of the data */
};

struct torch_zip {
    struct zip_entry *entry; /* sorted by name */
    size_t count;
};

/* Bytes must outlive the result. Refuses compressed, encrypted, overlapping or doubled entries,
 * names with "..", and entries outside the prefix. */
spt_status torch_zip_open(const void *bytes, size_t size, struct torch_zip *out, spt_err *err);
void torch_zip_release(struct torch_zip *z); /* accepts an all-zero object */
/* NULL when absent. `name` is looked up behind `dir` ("data/"; "" for none). */
const struct zip_entry *torch_zip_find(const struct torch_zip *z, const char *dir, const char *name,
                                       size_t name_len);

#endif
