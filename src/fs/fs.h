/* Files wherever they live. Today: local paths. Schemes (gs://, https://) belong behind these
 * same calls; an unknown scheme is refused by name. Nothing above this layer calls os/ for files
 * that users name.
 *
 * Reading: a whole mapping (fs_map), ranged reads (fs_file), a sequential stream (fs_stream).
 * Writing: whole files only, through a temporary that is synced and renamed (fs_writer): readers
 * see the old content or the new one, never a half. Logs that grow use fs_log. */
#ifndef SPT_FS_FS_H
#define SPT_FS_FS_H

#include "base/buf.h"
#include "base/status.h"
#include "os/os.h"

struct fs_info {
    uint64_t size;
    uint64_t inode, device; /* 0 where the store has none */
    int64_t mtime_ns;
    bool is_dir;
    bool is_file; /* can be read twice and at any place: no pipe, no device */
};

/* SPT_E_NOTFOUND when nothing has this name. */
spt_status fs_stat(const char *path, struct fs_info *out, spt_err *err);
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);

/* --- reading --- */

/* Read-only view of a whole file. `bytes` is NULL for an empty file. Valid until fs_unmap. */
typedef struct fs_mapping {
    const unsigned char *bytes;
    size_t size;
    bool owned; /* a heap copy (SPT_NO_MMAP=1, or a store without mapping) */
} fs_mapping;
spt_status fs_map(const char *path, fs_mapping *out, spt_err *err);
void fs_unmap(fs_mapping *m); /* accepts an all-zero object */
/* Name of the file that is mapped at this address, or NULL; for a handler of SIGBUS, which a file
 * that was cut short raises: async-signal-safe. Long names keep their end. */
const char *fs_mapped_at(const void *address);
/* The range is not needed for now: its pages leave the resident set and come back when touched. */
void fs_drop(const fs_mapping *m, size_t offset, size_t size);

/* The whole file on the heap with a NUL behind it; files over `max` bytes are SPT_E_FORMAT.
 * The caller frees *data with mem_free. */
spt_status fs_read_all(const char *path, size_t max, char **data, size_t *size, spt_err *err);

/* Ranged reads. A read beyond the end is SPT_E_FORMAT naming the offset. */
typedef struct fs_file fs_file;
spt_status fs_open(const char *path, fs_file **out, spt_err *err);
uint64_t fs_size(const fs_file *f);
spt_status fs_read_at(fs_file *f, uint64_t offset, void *p, size_t n, spt_err *err);
void fs_close(fs_file *f);

/* Sequential reading in pieces; "-" is standard input. *got == 0 means the end. */
typedef struct fs_stream fs_stream;
spt_status fs_stream_open(const char *path, fs_stream **out, spt_err *err);
spt_status fs_stream_read(fs_stream *s, void *p, size_t n, size_t *got, spt_err *err);
/* Whether fs_stream_rewind works: not for standard input, pipes and devices. */
bool fs_stream_can_rewind(const fs_stream *s);
/* Back to the start. */
spt_status fs_stream_rewind(fs_stream *s, spt_err *err);
void fs_stream_close(fs_stream *s);

/* --- directories --- */

/* Names in a directory, sorted bytewise. Release with fs_names_free. */
typedef struct fs_names {
    char **name;
    size_t count;
    size_t cap;
} fs_names;
spt_status fs_list(const char *dir, fs_names *out, spt_err *err);
void fs_names_free(fs_names *n);

/* Creates the directory and its missing parents; an existing one is fine. */
spt_status fs_make_dirs(const char *path, spt_err *err);
/* Removes a file, or a directory with everything in it; absent is fine. */
spt_status fs_remove_tree(const char *path, spt_err *err);
spt_status fs_rename(const char *from, const char *to, spt_err *err);
/* Makes the entries of a directory durable. */
spt_status fs_sync_dir(const char *path, spt_err *err);

/* --- writing --- */

/* Writes `path.tmp-<random>` and renames it over `path` in fs_commit (sync, rename, sync of the
 * directory). fs_abort or a failure removes the temporary. */
typedef struct fs_writer fs_writer;
spt_status fs_create(const char *path, fs_writer **out, spt_err *err);
spt_status fs_write(fs_writer *w, const void *p, size_t n, spt_err *err);
spt_status fs_commit(fs_writer *w, spt_err *err); /* frees w, whatever happens */
void fs_abort(fs_writer *w);                      /* accepts NULL */
/* Removes what writers that died left in a directory ("*.tmp-<16 hex digits>"). */
spt_status fs_remove_temporaries(const char *dir, spt_err *err);
/* fs_create + fs_write + fs_commit. */
spt_status fs_write_all(const char *path, const void *p, size_t n, spt_err *err);

/* Append-only log with a durable length: opening cuts it to `keep` bytes (UINT64_MAX: all). */
typedef struct fs_log fs_log;
spt_status fs_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err);
spt_status fs_log_append(fs_log *l, const void *p, size_t n, spt_err *err);
spt_status fs_log_sync(fs_log *l, spt_err *err);
uint64_t fs_log_size(const fs_log *l);
void fs_log_close(fs_log *l);

/* --- paths (text only) --- */

/* dir + "/" + name; an absolute name stands alone. */
spt_status path_join(buf *out, const char *dir, const char *name, spt_err *err);
const char *path_base(const char *path);      /* behind the last '/' */
bool path_has_suffix(const char *path, const char *suffix);

#endif
