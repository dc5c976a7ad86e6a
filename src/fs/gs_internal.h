/* Google Cloud Storage: shared by gs.c (reading, names) and gs_write.c. */
#ifndef SPT_FS_GS_INTERNAL_H
#define SPT_FS_GS_INTERNAL_H

#include "fs/fs_internal.h"
#include "fs/gs_auth.h"
#include "fs/remote.h"
#include "text/json.h"

enum { GS_MAX_URL = 1 << 16, GS_MAX_HEADERS = 6 };
#define GS_ANY UINT64_MAX /* no precondition on the generation */

/* gs://bucket/object, taken apart; object is "" for the bucket itself, never ends in '/'. */
struct gs_name {
    char *bucket, *object;
};
spt_status gs_name_of(const char *path, struct gs_name *out, spt_err *err);
void gs_name_release(struct gs_name *n);

/* What a listing or an answer says of an object. */
struct gs_meta {
    uint64_t generation, size;
    uint32_t crc;
    bool has_crc;
    int64_t updated; /* seconds since 1970, by the server's clock */
};

/* One request: URL, headers and answer. */
struct gs_call {
    http_client *c;
    buf url, token, what;
    const char *header[GS_MAX_HEADERS];
    struct http_request q;
    struct http_response r;
};
/* Takes a client and puts "<endpoint><before>b/<bucket>/o[/<object>]" into url. */
spt_status gs_call_begin(struct gs_call *k, const char *before, const char *bucket,
                         const char *object, spt_err *err);
/* Sends it with a token; a token that ran out is renewed once. Any final status is SPT_OK. */
spt_status gs_call_run(struct gs_call *k, spt_err *err);
void gs_call_end(struct gs_call *k);

/* The error of an answer that is not 2xx: which bucket, who we are, which permission is missing. */
spt_status gs_refused(const struct http_request *q, const struct http_response *r,
                      const char *bucket, const char *object, const char *permission,
                      spt_err *err);

spt_status gs_get_meta(const struct gs_name *n, struct gs_meta *out, spt_err *err);
/* The service writes its 64-bit numbers as strings; emulators now and then as numbers. */
spt_status gs_read_number(json_reader *r, uint64_t *out, spt_err *err);
/* Reads an object resource. */
spt_status gs_parse_meta(const buf *body, struct gs_meta *out, spt_err *err);

/* Calls fn for every object, and, with a delimiter, every common prefix (meta NULL), of a listing, in
 * the order of names per kind, all pages. at_most 0: all. */
typedef spt_status (*gs_list_fn)(void *ctx, const char *name, const struct gs_meta *meta,
                                 spt_err *err);
spt_status gs_list_all(const char *bucket, const char *prefix, bool delimiter, size_t at_most,
                       gs_list_fn fn, void *ctx, spt_err *err);

/* What was remembered of listings is not true any more. */
void gs_memo_forget(void);
/* Directories made in this process: they exist without an object. */
spt_status gs_made_add(const char *path, spt_err *err);
void gs_release(void);

spt_status gs_make_dirs(const char *path, bool durable, spt_err *err);
spt_status gs_sync_dir(const char *path, spt_err *err);
spt_status gs_remove_tree(const char *path, spt_err *err);
spt_status gs_rename(const char *from, const char *to, spt_err *err);
spt_status gs_create(const char *path, fs_writer **out, spt_err *err);
spt_status gs_write(fs_writer *w, const void *p, size_t n, spt_err *err);
spt_status gs_commit(fs_writer *w, spt_err *err);
void gs_discard(fs_writer *w);
spt_status gs_write_all(const char *path, const void *p, size_t n, spt_err *err);
spt_status gs_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err);
spt_status gs_log_append(fs_log *l, const void *p, size_t n, spt_err *err);
spt_status gs_log_sync(fs_log *l, spt_err *err);
void gs_log_close(fs_log *l);
spt_status gs_lock_take(const char *path, const char *who, fs_lock **out, char *holder, size_t cap,
                        spt_err *err);
spt_status gs_lock_check(fs_lock *l, spt_err *err);
void gs_lock_release(fs_lock *l);
spt_status gs_savedir_begin(const char *tmp, const char *final, const char *manifest,
                            savedir **out, spt_err *err);
spt_status gs_savedir_mkdir(savedir *d, const char *name, spt_err *err);
spt_status gs_savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err);
spt_status gs_savedir_publish(savedir *d, spt_err *err);
void gs_savedir_abort(savedir *d);
spt_status gs_savedir_sweep(const char *dir, const char *prefix, const char *manifest,
                            spt_err *err);

/* The name of an object: not a bucket. */
spt_status gs_file_name(const char *path, struct gs_name *n, spt_err *err);
/* Absent is fine, and so is another generation than that (GS_ANY: whichever). */
spt_status gs_delete(const char *bucket, const char *object, uint64_t generation, spt_err *err);

/* gs_tree.c. */
#define GS_MARK ".unfinished"
enum { GS_AT_A_TIME = 4 };
/* fn(ctx, i) for all i below count, GS_AT_A_TIME at once; the first failure ends it. */
typedef spt_status (*gs_job_fn)(void *ctx, size_t i, spt_err *err);
spt_status gs_in_parallel(size_t count, gs_job_fn fn, void *ctx, spt_err *err);
spt_status gs_remove_below(const struct gs_name *n, spt_err *err);
/* Without our marks and without `skip`, which may be NULL. */
spt_status gs_copy_below(const struct gs_name *from, const struct gs_name *to, const char *skip,
                         size_t *copied, spt_err *err);

/* Puts an object (gs_upload.c). `generation`: what must be there now (0: nothing; GS_ANY: whatever).
 * An answer that was lost is told from another writer's object by its content. */
spt_status gs_put(const struct gs_name *n, const void *p, size_t size, uint64_t generation,
                  struct gs_meta *out, spt_err *err);
/* The same without gs_memo_forget: for objects that nobody lists. */
spt_status gs_put_quietly(const struct gs_name *n, const void *p, size_t size, uint64_t generation,
                          struct gs_meta *out, spt_err *err);

/* An upload in pieces, for content whose size is not known before. */
struct gs_upload {
    const struct gs_name *name;
    uint64_t generation; /* precondition */
    buf session;         /* path and query on the endpoint; empty before the first piece */
    uint64_t sent;
    uint32_t crc;        /* of what was sent */
};
enum { GS_PIECE = 8 << 20 }; /* a multiple of 256 KiB */
/* Sends a piece: of GS_PIECE bytes, or the last one, of any size. */
spt_status gs_upload_piece(struct gs_upload *u, const void *p, size_t n, bool last,
                           struct gs_meta *out, spt_err *err);
void gs_upload_cancel(struct gs_upload *u); /* and frees it */

#endif
