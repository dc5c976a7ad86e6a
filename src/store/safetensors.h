/* safetensors files (spec/interop.md section 1). */
#ifndef SPT_STORE_SAFETENSORS_H
#define SPT_STORE_SAFETENSORS_H

#include "base/buf.h"
#include "store/store.h"

/* Validates the whole header; the data is mapped and touched by store_load() only. */
spt_status safetensors_open(const char *path, const struct store_opts *opts, store **out,
                            spt_err *err);
/* The same over bytes that outlive the store (tests, fuzzing). */
spt_status safetensors_open_mem(const void *bytes, size_t size, store **out, spt_err *err);

/* As the reference writer: wider dtypes first, then by name, header padded with spaces to 8 bytes.
 * Atomic (fs_writer). meta may be NULL. Names and metadata must be UTF-8. */
spt_status safetensors_write(const char *path, const struct store_tensor *tensors, size_t count,
                             const struct store_meta *meta, size_t meta_count, spt_err *err);

/* The same bytes into memory (appended to `out`). */
spt_status safetensors_encode(const struct store_tensor *tensors, size_t count,
                              const struct store_meta *meta, size_t meta_count, buf *out,
                              spt_err *err);

bool safetensors_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);

#endif
