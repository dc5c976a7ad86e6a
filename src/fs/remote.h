/* Files of a store far away, as files of a cache on this machine that fill block by block.
 *
 * A cached file is named by the hash of its key (store, name and generation), so a new generation is
 * a new file. It holds the content (sparse until fetched), then a trailer with the key and, per block
 * of 1 MiB, a CRC-32C; a block without one is absent. Blocks found on disk are checked against
 * their CRC before their first use in a process and fetched again when it differs; when all are there
 * the CRC of the whole, put together from theirs, must be the store's. Processes share the files: who
 * fetches holds a lock on the file, the others wait and then find the blocks. When the sum of all
 * files exceeds the limit the least recently opened go; whoever has one open keeps it.
 *
 * Descriptors and mappings of the file are used directly (fs_read.c), after remote_need(). */
#ifndef SPT_FS_REMOTE_H
#define SPT_FS_REMOTE_H

#include "fs/http.h"

enum { REMOTE_BLOCK = 1 << 20, REMOTE_RUN = 16 << 20 };

/* One object of one generation, as its store describes it. The store allocates a larger struct that
 * begins with this one; remote_open takes it over. */
struct remote_source {
    char *name;   /* for messages: the path as given */
    char *key;    /* what makes its content unique, or NULL: cannot be kept for another run */
    uint64_t size;
    bool has_crc;
    uint32_t crc; /* CRC-32C of the whole */
    bool whole;   /* the server has no ranges: all or nothing */
    /* Fills url, headers, bearer of a request for the content (the rest is set). What it points to
     * must live until the source is asked again or freed. */
    spt_status (*ask)(struct remote_source *s, struct http_request *q, spt_err *err);
    /* Judges an answer: SPT_OK for content of the right generation. *again: ask once more (a token
     * had expired). */
    spt_status (*judge)(struct remote_source *s, const struct http_request *q,
                        const struct http_response *r, bool *again, spt_err *err);
    void (*release)(struct remote_source *s);
};

/* A size that a server states: SPT_E_IO above REMOTE_MAX_SIZE, which no store has. Sources hold none. */
spt_status remote_check_size(uint64_t size, spt_err *err);

typedef struct remote remote;
/* Frees the source when it fails. */
spt_status remote_open(struct remote_source *s, remote **out, spt_err *err);
int remote_fd(const remote *r);
/* Makes bytes offset .. offset + n - 1 appear in the file. */
spt_status remote_need(remote *r, uint64_t offset, uint64_t n, spt_err *err);
/* The same, and when something of it is missing, up to `ahead` bytes more. */
spt_status remote_need_ahead(remote *r, uint64_t offset, uint64_t n, uint64_t ahead, spt_err *err);
/* Everything of several, in parallel. */
spt_status remote_need_all(remote *const *r, size_t count, spt_err *err);
void remote_close(remote *r); /* accepts NULL */

/* A client from the pool of this process (one thread at a time uses it), and back. */
spt_status remote_client_take(http_client **out, spt_err *err);
void remote_client_give(http_client *c);

/* Whether a request for content may go on, as fs_set_stop says (http_progress_fn). */
bool remote_goes_on(void *ctx, uint64_t done, uint64_t total);

/* See fs_cache_dir, fs_set_cache and fs_release. */
spt_status remote_cache_dir(buf *out, spt_err *err);
spt_status remote_set_cache(const char *dir, uint64_t max_bytes, spt_err *err);
void remote_release(void);

/* "1234", "10K", "5M", "64G", "1T" (powers of 1024); false when it is none. */
bool remote_parse_size(const char *text, uint64_t *out);
/* CRC of a b from those of a and b; len_b in bytes. */
uint32_t remote_crc_join(uint32_t a, uint32_t b, uint64_t len_b);

#endif
