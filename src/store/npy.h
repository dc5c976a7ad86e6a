/* NumPy .npy arrays (spec/interop.md section 7; field case 08). */
#ifndef SPT_STORE_NPY_H
#define SPT_STORE_NPY_H

#include "base/buf.h"
#include "store/store.h"

/* A store with one tensor, named after the file without ".npy". Big-endian and Fortran-order data
 * is decoded into a row-major copy. The file must end where the data ends. */
spt_status npy_open(const char *path, const struct store_opts *opts, store **out, spt_err *err);
spt_status npy_open_mem(const void *bytes, size_t size, const struct store_opts *opts, store **out,
                        spt_err *err);

/* Version 1.0, little endian, C order, data at a multiple of 64. bfloat16 is refused (NumPy has no
 * name for it). Atomic. */
spt_status npy_write(const char *path, const struct tensor_view *v, spt_err *err);
/* The same bytes into memory (appended to `out`). */
spt_status npy_encode(const struct tensor_view *v, buf *out, spt_err *err);

bool npy_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);

#endif
