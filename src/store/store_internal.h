/* Shared by the files of store/. */
#ifndef SPT_STORE_STORE_INTERNAL_H
#define SPT_STORE_STORE_INTERNAL_H

#include "fs/fs.h"
#include "store/store.h"

/* At most 1,024 bytes of UTF-8 without NUL. */
spt_status store_check_name(const char *name, size_t len, spt_err *err);
void *store_impl(const store *s);
/* Lets the mapped pages of tensor i go. */
void store_drop(store *s, size_t i);

/* Opens a file (not a directory) by content. */
spt_status store_open_file(const char *path, const struct store_opts *opts, store **out,
                           spt_err *err);

/* Whether dir/name is there; allocates nothing. */
spt_status store_exists_in(const char *dir, const char *name, bool *there, spt_err *err);

/* A file in memory, mapped or lent by the caller. */
struct store_bytes {
    fs_mapping map; /* all zero when lent */
    const unsigned char *p;
    size_t size;
};

static inline spt_status store_bytes_map(const char *path, bool lazily, struct store_bytes *out,
                                         spt_err *err)
{
    TRY((lazily ? fs_map_lazily : fs_map)(path, &out->map, err));
    out->p = out->map.bytes;
    out->size = out->map.size;
    return SPT_OK;
}

/* How a format of one file opens. Its private object starts with a struct store_bytes; parse()
 * describes the tensors with store_add(). */
struct store_file {
    const struct store_format *format; /* close() also serves an object that was half parsed */
    size_t object_size;
    spt_status (*parse)(void *object, store *s, const struct store_opts *opts, spt_err *err);
    bool lazily; /* the format calls store_bytes_need before it touches bytes */
};
/* Over a mapped file, or over bytes that outlive the store. */
spt_status store_file_open(const struct store_file *f, const char *path,
                           const struct store_opts *opts, store **out, spt_err *err);
spt_status store_file_open_mem(const struct store_file *f, const void *bytes, size_t size,
                               const struct store_opts *opts, store **out, spt_err *err);

/* Before a range of a file that was mapped lazily is touched. */
static inline spt_status store_bytes_need(const struct store_bytes *b, size_t offset, size_t size,
                                          spt_err *err)
{
    return fs_need(&b->map, offset, size, err);
}

static inline void store_bytes_release(struct store_bytes *b)
{
    fs_unmap(&b->map);
}

static inline void store_bytes_drop(const struct store_bytes *b, size_t offset, size_t size)
{
    if (b->map.bytes)
        fs_drop(&b->map, offset, size);
}

#endif
