/* Files wherever they live: local paths, gs://bucket/object (read and written), https:// (read).
 * An unknown scheme is refused by name. Nothing above this layer calls os/ for files that users
 * name, and nothing there looks at a scheme.
 *
 * Each store is one table of functions (fs_internal.h). What is far away is read through a cache of
 * blocks (remote.h) and written by uploads whose last step makes them visible; buckets have no
 * directories: one exists there while objects lie below it, and after fs_make_dirs in the same
 * process.
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

/* Addresses are told in logs, in config.gin and in the prompts that a run writes, so one that holds a
 * password or a signature (https://user:pw@host/, ?X-Goog-Signature=) is refused before that:
 * SPT_E_USAGE, without the secret. SPT_OK for every other path. */
spt_status fs_check_address(const char *path, spt_err *err);

/* Asked a few times a second while content is fetched, and when a signal ends a wait for a pipe: true
 * ends it with SPT_E_INTERRUPTED. Writing, listing and removing are never ended. Global, set before
 * other threads start; NULL: never. */
void fs_set_stop(bool (*stop)(void));
bool fs_stopped(void);

/* --- reading --- */

/* Read-only view of a whole file. `bytes` is NULL for an empty file. Valid until fs_unmap. */
typedef struct fs_mapping {
    const unsigned char *bytes;
    size_t size;
    bool owned; /* a heap copy (SPT_NO_MMAP=1) */
    struct remote *remote; /* far away: the file of the cache that fills by need; else NULL */
} fs_mapping;
spt_status fs_map(const char *path, fs_mapping *out, spt_err *err);
void fs_unmap(fs_mapping *m); /* accepts an all-zero object */
/* The same, but what is far away is not fetched: before bytes are touched, fs_need must have been
 * told of them. Local files: no difference. */
spt_status fs_map_lazily(const char *path, fs_mapping *out, spt_err *err);
/* Fetches what is missing of a range. A file that was overwritten since it was mapped is SPT_E_IO. */
spt_status fs_need(const fs_mapping *m, size_t offset, size_t size, spt_err *err);
/* These files (absent ones included) will be read soon, whole: what is far away is fetched now, in
 * parallel. Local files: nothing happens. */
spt_status fs_expect(const char *const *path, size_t count, spt_err *err);
/* Is reading there so quick that expecting is not worth the trouble? */
bool fs_is_near(const char *path);
/* The same for what lies below a directory, without fetching: only what is there, and how large. */
spt_status fs_expect_below(const char *dir, spt_err *err);
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
/* Copies a name to the end of the list. */
spt_status fs_names_add(fs_names *n, const char *name, size_t len, spt_err *err);

/* Creates the directory and its missing parents; an existing one is fine. */
spt_status fs_make_dirs(const char *path, spt_err *err);
/* The same, and the entries of those that are created are durable. */
spt_status fs_make_dirs_durable(const char *path, spt_err *err);
/* Removes a file, or a directory with everything in it; absent is fine. */
spt_status fs_remove_tree(const char *path, spt_err *err);
spt_status fs_rename(const char *from, const char *to, spt_err *err);
/* Makes the entries of a directory durable. */
spt_status fs_sync_dir(const char *path, spt_err *err);

/* --- locks --- */

/* One writer per run directory. A local lock is dropped by the system when its process dies; one in a
 * bucket is an object with a lease that a thread renews, and a lease that ran out is taken over
 * (SPT_LEASE_SECONDS, 60). When somebody holds it the status is SPT_E_CONFIG and `holder` says who (the
 * first line of their `who`, "-": unknown); in all other cases it is "". */
typedef struct fs_lock fs_lock;
spt_status fs_lock_take(const char *path, const char *who, fs_lock **out, char *holder, size_t cap,
                        spt_err *err);
/* The same for a directory itself, without a file that says so: locally the directory is locked, in a
 * bucket the object ".lock" in it. */
spt_status fs_lock_dir(const char *dir, fs_lock **out, bool *busy, spt_err *err);
/* Is it still ours? A lease can be lost while a process sleeps or has no network. */
spt_status fs_lock_check(fs_lock *l, spt_err *err);
void fs_lock_release(fs_lock *l); /* accepts NULL */

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
/* The same for a local file of a cache: a link, or what is no file, is refused (SPT_E_IO). */
spt_status fs_log_open_own(const char *path, uint64_t keep, fs_log **out, spt_err *err);
spt_status fs_log_sync(fs_log *l, spt_err *err);
uint64_t fs_log_size(const fs_log *l);
void fs_log_close(fs_log *l);

/* --- what is far away --- */

/* Where copies are kept (NULL or "": SPT_CACHE_DIR, $XDG_CACHE_HOME/spt or ~/.cache/spt) and how many
 * bytes of them ("800M", "64G", "0": nothing stays; NULL or "": SPT_CACHE_SIZE or 64G). Before the
 * first use. */
spt_status fs_set_cache(const char *dir, const char *size, spt_err *err);
/* That directory (local, perhaps not made yet): for whatever else is kept between commands, and for
 * what has to lie on a disk on its way to another store. */
spt_status fs_cache_dir(buf *out, spt_err *err);
/* Frees what is kept between calls: connections, tokens. Nothing of fs/ may be open. */
void fs_release(void);

/* --- paths (text only) --- */

/* "/x" or "scheme://x". */
bool path_is_absolute(const char *path);
/* dir + "/" + name; an absolute name stands alone. */
spt_status path_join(buf *out, const char *dir, const char *name, spt_err *err);
const char *path_base(const char *path);      /* behind the last '/' */
bool path_has_suffix(const char *path, const char *suffix);

#endif
