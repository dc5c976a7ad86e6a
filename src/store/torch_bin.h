/* torch.save files: ZIP and legacy containers (spec/interop.md section 3). The pickle inside is
 * run by a fixed machine that builds an inert value tree; nothing is ever called. */
#ifndef SPT_STORE_TORCH_BIN_H
#define SPT_STORE_TORCH_BIN_H

#include "store/store.h"

/* A dict (plain or ordered) of tensors, or one bare tensor (then named "tensor"). Entries of the
 * dict that are no tensors are refused by name. Contiguous tensors are views into the mapping. */
spt_status torch_bin_open(const char *path, const struct store_opts *opts, store **out,
                          spt_err *err);
spt_status torch_bin_open_mem(const void *bytes, size_t size, store **out, spt_err *err);

bool torch_bin_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);

#endif
