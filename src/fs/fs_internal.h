/* Shared by the files of fs/: the table that each store fills. */
#ifndef SPT_FS_FS_INTERNAL_H
#define SPT_FS_FS_INTERNAL_H

#include "fs/fs.h"
#include "fs/savedir.h"

/* What reading needs: a descriptor and a size. For what is far away the descriptor is that of the
 * cache file, in which remote_need() makes ranges appear. */
struct fs_object {
    int fd;
    uint64_t size;
    bool is_file;
    struct remote *remote; /* owns fd; NULL: local */
};

/* Open handles start with their table. */
struct fs_writer {
    const struct fs_backend *be;
    char *path;
    bool failed;
};
struct fs_log {
    const struct fs_backend *be;
    char *path;
    uint64_t size;
};
struct fs_lock {
    const struct fs_backend *be;
    char *path;
};
struct savedir {
    const struct fs_backend *be;
    char *path;  /* where files go */
    char *final; /* the name in the end */
    bool failed;
};

/* One store. A NULL function: it cannot do that (https:// is read only). */
struct fs_backend {
    const char *scheme; /* "gs", "https"; NULL: local paths */
    spt_status (*stat)(const char *path, struct fs_info *out, spt_err *err);
    spt_status (*open_object)(const char *path, struct fs_object *out, spt_err *err);
    /* NULL: through open */
    spt_status (*read_all)(const char *path, size_t max, char **data, size_t *size, spt_err *err);
    spt_status (*expect)(const char *const *path, size_t count, spt_err *err); /* NULL: nothing */
    spt_status (*expect_below)(const char *dir, spt_err *err);

    spt_status (*list)(const char *dir, fs_names *out, spt_err *err); /* in any order */
    spt_status (*make_dirs)(const char *path, bool durable, spt_err *err);
    spt_status (*remove_tree)(const char *path, spt_err *err);
    spt_status (*move)(const char *from, const char *to, spt_err *err);
    spt_status (*sync_dir)(const char *path, spt_err *err);

    /* On failure of create, log_open, lock_take, savedir_begin nothing is left. The caller of write
     * and savedir_file notes failures (`failed`); commit, discard, close, publish free the handle. */
    spt_status (*create)(const char *path, fs_writer **out, spt_err *err);
    spt_status (*append)(fs_writer *w, const void *p, size_t n, spt_err *err);
    spt_status (*commit)(fs_writer *w, spt_err *err);
    void (*discard)(fs_writer *w);
    spt_status (*write_all)(const char *path, const void *p, size_t n, spt_err *err); /* or NULL */

    spt_status (*log_open)(const char *path, uint64_t keep, fs_log **out, spt_err *err);
    spt_status (*log_append)(fs_log *l, const void *p, size_t n, spt_err *err);
    spt_status (*log_sync)(fs_log *l, spt_err *err);
    void (*log_close)(fs_log *l);

    spt_status (*lock_take)(const char *path, const char *who, fs_lock **out, char *holder,
                            size_t cap, spt_err *err);
    spt_status (*lock_check)(fs_lock *l, spt_err *err);
    void (*lock_release)(fs_lock *l);

    spt_status (*savedir_begin)(const char *tmp, const char *final, const char *manifest,
                                savedir **out, spt_err *err);
    spt_status (*savedir_mkdir)(savedir *d, const char *name, spt_err *err);
    spt_status (*savedir_file)(savedir *d, const char *name, const void *p, size_t n, spt_err *err);
    spt_status (*savedir_publish)(savedir *d, spt_err *err);
    void (*savedir_abort)(savedir *d);
    spt_status (*savedir_sweep)(const char *dir, const char *prefix, const char *manifest,
                                spt_err *err); /* NULL: directories appear whole */
};

extern const struct fs_backend fs_local, fs_https, fs_gs;

/* The store of a path; SPT_E_USAGE names a scheme that we do not speak and those that we do. */
spt_status fs_backend_of(const char *path, const struct fs_backend **out, spt_err *err);
/* The whole of an open object on the heap, as fs_read_all. */
spt_status object_read_all(const struct fs_object *o, const char *path, size_t max, char **data,
                           spt_err *err);
/* Error for a failed call on a path: SPT_E_NOTFOUND for ENOENT, else SPT_E_IO. */
spt_status fs_error(spt_err *err, int r, const char *what, const char *path);

/* Local files (fs_read.c, fs_dir.c, fs_write.c, savedir_local.c). */
spt_status local_stat(const char *path, struct fs_info *out, spt_err *err);
spt_status local_open(const char *path, struct fs_object *out, spt_err *err);
spt_status local_list(const char *dir, fs_names *out, spt_err *err);
spt_status local_make_dirs(const char *path, bool durable, spt_err *err);
spt_status local_remove_tree(const char *path, spt_err *err);
spt_status local_rename(const char *from, const char *to, spt_err *err);
spt_status local_sync_dir(const char *path, spt_err *err);
spt_status local_create(const char *path, fs_writer **out, spt_err *err);
spt_status local_write(fs_writer *w, const void *p, size_t n, spt_err *err);
spt_status local_commit(fs_writer *w, spt_err *err);
void local_discard(fs_writer *w);
spt_status local_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err);
spt_status local_log_append(fs_log *l, const void *p, size_t n, spt_err *err);
spt_status local_log_sync(fs_log *l, spt_err *err);
void local_log_close(fs_log *l);
spt_status local_lock_take(const char *path, const char *who, fs_lock **out, char *holder,
                           size_t cap, spt_err *err);
spt_status local_lock_dir(const char *dir, fs_lock **out, bool *busy, spt_err *err);
void local_lock_release(fs_lock *l);
spt_status local_savedir_begin(const char *tmp, const char *final, const char *manifest,
                               savedir **out, spt_err *err);
spt_status local_savedir_mkdir(savedir *d, const char *name, spt_err *err);
spt_status local_savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err);
spt_status local_savedir_publish(savedir *d, spt_err *err);
void local_savedir_abort(savedir *d);

/* Remembers what fs_mapped_at answers; fs_map and fs_unmap only. */
void mapped_add(const void *start, size_t size, const char *path);
void mapped_remove(const void *start);

#endif
