/* The weights of a Hugging Face directory as one store (spec/interop.md sections 2.1 and 2.8, field
 * case 09). Exactly one set is taken whole, in this order: model.safetensors,
 * model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json; the choice and
 * the ignored sets are reported with log_info. Nothing outside an index is read. */
#ifndef SPT_STORE_HF_DIR_H
#define SPT_STORE_HF_DIR_H

#include "store/store.h"

spt_status hf_dir_open(const char *dir, const struct store_opts *opts, store **out, spt_err *err);
/* Any of the four names above, or config.json, is there. */
bool hf_dir_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size);
/* The file (or index) that was taken, relative to the directory. */
const char *hf_dir_chosen(const store *s);

/* A Git LFS pointer file: text of a clone whose weights were not downloaded. */
bool lfs_pointer_probe(const unsigned char *bytes, size_t n);

#endif
