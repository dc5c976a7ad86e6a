/* Hashes of large models, remembered by the identity of their files (device, inode, size, mtime),
 * in the cache of what is far away (fs_cache_dir). Models below 64 MB, T5X directories
 * and stores without inodes are not remembered. Every failure here is harmless: the hash is then
 * computed again. */
#ifndef SPT_MODEL_HASH_CACHE_H
#define SPT_MODEL_HASH_CACHE_H

#include "store/store.h"

/* hex becomes "" when nothing is known. */
void hash_cache_get(const store *s, char hex[33]);
void hash_cache_put(const store *s, const char hex[33]);

#endif
