#include "model/hash_cache.h"

#include <stdio.h>
#include <string.h>

#include "codec/hash.h"
#include "fs/fs.h"

enum { MIN_BYTES = 64 << 20, MAX_PATH = 4096, MAX_TEXT = 64 };

static bool cache_dir(char *out)
{
    buf dir;
    buf_init(&dir, MAX_PATH - MAX_TEXT);
    const bool ok = !fs_cache_dir(&dir, NULL);
    if (ok)
        snprintf(out, MAX_PATH, "%s", buf_str(&dir));
    buf_release(&dir);
    return ok;
}

/* The identity of the store's files as 32 hex digits; false when it has none. */
static bool identity(const store *s, char key[HASH_TEXT])
{
    hash_state *h = NULL;
    uint64_t total = 0;
    bool ok = store_file_count(s) > 0 && !hash_new(&h, NULL);
    for (size_t i = 0; ok && i < store_file_count(s); i++) {
        struct fs_info info;
        ok = !fs_stat(store_file(s, i), &info, NULL) && info.inode;
        if (!ok)
            break;
        const uint64_t id[] = {info.device, info.inode, info.size, (uint64_t)info.mtime_ns};
        hash_add(h, id, sizeof id);
        total += info.size;
    }
    if (ok && total >= MIN_BYTES)
        hash_text(hash_value(h), key);
    hash_free(h);
    return ok && total >= MIN_BYTES;
}

static bool entry_path(const store *s, char *dir, char *path)
{
    char key[HASH_TEXT];
    if (!cache_dir(dir) || !identity(s, key))
        return false;
    const int n = snprintf(path, MAX_PATH, "%s/base-%s", dir, key);
    return n > 0 && n < MAX_PATH;
}

void hash_cache_get(const store *s, char hex[33])
{
    char dir[MAX_PATH], path[MAX_PATH];
    char *text = NULL;
    size_t n = 0;
    hash128 h;
    hex[0] = '\0';
    if (!entry_path(s, dir, path) || fs_read_all(path, MAX_TEXT, &text, &n, NULL))
        return;
    if (hash_from_text(text, n, &h))
        hash_text(h, hex);
    mem_free(text);
}

void hash_cache_put(const store *s, const char hex[33])
{
    char dir[MAX_PATH], path[MAX_PATH];
    if (entry_path(s, dir, path) && !fs_make_dirs(dir, NULL))
        (void)fs_write_all(path, hex, strlen(hex), NULL);
}
