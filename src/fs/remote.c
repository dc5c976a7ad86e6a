#include "fs/remote.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "codec/crc.h"
#include "codec/hash.h"
#include "fs/fs_internal.h"

/* The trailer behind the content, at a multiple of TRAILER_ALIGN: MAGIC, size, block, length of the
 * key, time of last use, bytes present (little endian), the key; then the CRCs. */
enum {
    TRAILER_ALIGN = 4096,
    HEAD_SIZE = 4096,
    HEAD_FIXED = 40,
    USED_AT = 24,
    PRESENT_AT = 32,
    ENTRY = 8, /* CRC, then 1 */
    MAX_KEY = HEAD_SIZE - HEAD_FIXED,
    MAX_PATH = 65536,
    MAX_CLIENTS = 8,
    BATCH = 64, /* objects, and requests, in flight at a time */
    MIN_RUN = 2 << 20,
    LOCK_POLL_MS = 20,
    TELL_FROM = 64 << 20, /* smaller fetches are not worth a line */
};
static const char magic[8] = {'S', 'P', 'T', 'C', 'A', 'C', 'H', '1'};
#define DEFAULT_MAX ((uint64_t)64 << 30)
#define MS ((int64_t)1000000)

enum state { ABSENT, ON_DISK, CHECKED };

struct remote {
    struct remote_source *s;
    char *path; /* NULL: a file without a name */
    int fd;
    uint64_t inode, trailer;
    size_t blocks;
    uint32_t *crc;
    unsigned char *state;
    bool handed; /* some of it was used already */
    bool whole;  /* the CRC of the whole was held against the store's */
};

/* --- settings and clients of this process --------------------------------------------------- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *cache_dir;
static uint64_t cache_max = UINT64_MAX;
static uint64_t cache_grown = UINT64_MAX; /* bytes made since the last look at all files */
static http_client *client[MAX_CLIENTS];
static size_t clients;

bool remote_parse_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    uint64_t v = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (v > (UINT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(*p - '0');
    }
    const char *unit = *p ? strchr(units, *p) : NULL;
    if (p == text || (*p && (!unit || p[1])))
        return false;
    const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    if (v > UINT64_MAX >> shift)
        return false;
    *out = v << shift;
    return true;
}

spt_status remote_set_cache(const char *dir, uint64_t max_bytes, spt_err *err)
{
    char *copy = dir ? mem_strdup(dir) : NULL;
    if (dir && !copy)
        return err_nomem(err, strlen(dir));
    pthread_mutex_lock(&mutex);
    mem_free(cache_dir);
    cache_dir = copy;
    cache_max = max_bytes;
    cache_grown = UINT64_MAX;
    pthread_mutex_unlock(&mutex);
    return SPT_OK;
}

bool remote_goes_on(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx, (void)done, (void)total;
    return !fs_stopped();
}

spt_status remote_client_take(http_client **out, spt_err *err)
{
    http_client *c = NULL;
    pthread_mutex_lock(&mutex);
    if (clients)
        c = client[--clients];
    pthread_mutex_unlock(&mutex);
    if (!c)
        TRY(http_client_new(&c, err));
    *out = c;
    return SPT_OK;
}

void remote_client_give(http_client *c)
{
    pthread_mutex_lock(&mutex);
    if (clients < MAX_CLIENTS) {
        client[clients++] = c;
        c = NULL;
    }
    pthread_mutex_unlock(&mutex);
    http_client_free(c);
}

void remote_release(void)
{
    pthread_mutex_lock(&mutex);
    while (clients)
        http_client_free(client[--clients]);
    mem_free(cache_dir);
    cache_dir = NULL;
    cache_max = cache_grown = UINT64_MAX;
    pthread_mutex_unlock(&mutex);
}

static uint64_t max_bytes(void)
{
    uint64_t n;
    const char *text = os_getenv("SPT_CACHE_SIZE");
    if (cache_max != UINT64_MAX)
        return cache_max;
    return text && remote_parse_size(text, &n) ? n : DEFAULT_MAX;
}

spt_status remote_cache_dir(buf *out, spt_err *err)
{
    const char *own = os_getenv("SPT_CACHE_DIR"), *xdg = os_getenv("XDG_CACHE_HOME");
    const char *home = os_getenv("HOME");
    const struct fs_backend *be;
    buf_clear(out);
    if (cache_dir)
        buf_adds(out, cache_dir);
    else if (own && own[0])
        buf_adds(out, own);
    else if (xdg && xdg[0] == '/')
        buf_addf(out, "%s/spt", xdg);
    else if (home && home[0] == '/')
        buf_addf(out, "%s/.cache/spt", home);
    else
        return err_set(err, SPT_E_CONFIG,
                       "no place for copies of what is far away: HOME is not set; use --cache-dir");
    TRY(buf_status(out, "path of the cache", err));
    TRY(fs_backend_of(buf_str(out), &be, err));
    return be == &fs_local ? SPT_OK
                           : err_set(err, SPT_E_USAGE, "%s: the cache is a local directory",
                                     buf_str(out));
}

/* <cache>/objects */
static spt_status objects_dir(buf *out, spt_err *err)
{
    TRY(remote_cache_dir(out, err));
    buf_adds(out, "/objects");
    return buf_status(out, "path of the cache", err);
}

/* --- CRC of joined pieces ------------------------------------------------------------------- */

static uint32_t times(const uint32_t m[32], uint32_t v)
{
    uint32_t r = 0;
    for (int i = 0; v; v >>= 1, i++)
        r ^= v & 1 ? m[i] : 0;
    return r;
}

static void square(uint32_t out[32], const uint32_t m[32])
{
    for (int i = 0; i < 32; i++)
        out[i] = times(m, m[i]);
}

/* A byte of zeros behind a is a linear map of its CRC; n of them by repeated squaring. */
static void zeros_of(uint32_t out[32], uint64_t n)
{
    uint32_t m[32], t[32];
    m[0] = 0x82f63b78; /* one bit of zeros */
    for (int i = 1; i < 32; i++)
        m[i] = (uint32_t)1 << (i - 1);
    square(t, m); /* 2 */
    square(m, t); /* 4 */
    for (int i = 0; i < 32; i++)
        out[i] = (uint32_t)1 << i;
    for (; n; n >>= 1) {
        square(t, m); /* 8 bits times 2^k */
        for (int i = 0; n & 1 && i < 32; i++)
            out[i] = times(t, out[i]);
        memcpy(m, t, sizeof m);
    }
}

uint32_t remote_crc_join(uint32_t a, uint32_t b, uint64_t len_b)
{
    uint32_t m[32];
    zeros_of(m, len_b);
    return times(m, a) ^ b;
}

/* --- the trailer ---------------------------------------------------------------------------- */

static void put_le(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get_le(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t trailer_of(uint64_t size)
{
    return (size + TRAILER_ALIGN - 1) / TRAILER_ALIGN * TRAILER_ALIGN;
}

static size_t blocks_of(uint64_t size)
{
    return (size_t)((size + REMOTE_BLOCK - 1) / REMOTE_BLOCK);
}

static uint64_t block_size(const remote *r, size_t i)
{
    const uint64_t from = (uint64_t)i * REMOTE_BLOCK;
    return r->s->size - from < REMOTE_BLOCK ? r->s->size - from : REMOTE_BLOCK;
}

static spt_status cache_error(spt_err *err, int r, const char *what, const remote *x)
{
    return err_sys(err, r == -ENOMEM ? SPT_E_NOMEM : SPT_E_IO, -r,
                   "%s: cannot %s its copy in the cache%s%s (--cache-dir names another place)",
                   x->s->name, what, x->path ? " " : "", x->path ? x->path : "");
}

static void make_head(const remote *r, unsigned char head[HEAD_SIZE])
{
    const char *key = r->s->key ? r->s->key : "";
    memset(head, 0, HEAD_SIZE);
    memcpy(head, magic, sizeof magic);
    put_le(head + 8, r->s->size, 8);
    put_le(head + 16, REMOTE_BLOCK, 4);
    put_le(head + 20, strlen(key), 4);
    memcpy(head + HEAD_FIXED, key, strlen(key));
}

/* Is this file's trailer the one that we would write (but for the counters)? */
static bool head_fits(const remote *r, uint64_t file_size)
{
    unsigned char head[HEAD_SIZE], want[HEAD_SIZE];
    if (file_size != r->trailer + HEAD_SIZE + (uint64_t)r->blocks * ENTRY ||
        os_pread_full(r->fd, head, sizeof head, r->trailer) != HEAD_SIZE)
        return false;
    make_head(r, want);
    memset(head + USED_AT, 0, HEAD_FIXED - USED_AT);
    return !memcmp(head, want, HEAD_SIZE);
}

static int write_number(const remote *r, size_t at, uint64_t v)
{
    unsigned char b[8];
    put_le(b, v, 8);
    return os_pwrite_full(r->fd, b, sizeof b, r->trailer + at);
}

static spt_status read_entries(remote *r, spt_err *err)
{
    unsigned char e[512 * ENTRY];
    for (size_t at = 0; at < r->blocks; at += 512) {
        const size_t n = r->blocks - at < 512 ? r->blocks - at : 512;
        const int64_t got =
            os_pread_full(r->fd, e, n * ENTRY, r->trailer + HEAD_SIZE + (uint64_t)at * ENTRY);
        if (got != (int64_t)(n * ENTRY))
            return cache_error(err, got < 0 ? (int)got : -EIO, "read", r);
        for (size_t i = 0; i < n; i++) {
            if (r->state[at + i] != ABSENT)
                continue;
            r->crc[at + i] = (uint32_t)get_le(e + i * ENTRY, 4);
            r->state[at + i] = get_le(e + i * ENTRY + 4, 4) == 1 ? ON_DISK : ABSENT;
        }
    }
    return SPT_OK;
}

static spt_status write_entries(remote *r, size_t from, size_t to, spt_err *err)
{
    unsigned char e[512 * ENTRY];
    uint64_t present = 0;
    int bad = 0;
    for (size_t at = from; at < to && !bad; at += 512) {
        const size_t n = to - at < 512 ? to - at : 512;
        for (size_t i = 0; i < n; i++) {
            put_le(e + i * ENTRY, r->crc[at + i], 4);
            put_le(e + i * ENTRY + 4, r->state[at + i] != ABSENT, 4);
        }
        bad = os_pwrite_full(r->fd, e, n * ENTRY, r->trailer + HEAD_SIZE + (uint64_t)at * ENTRY);
    }
    for (size_t i = 0; i < r->blocks; i++)
        present += r->state[i] == ABSENT ? 0 : block_size(r, i);
    if (!bad)
        bad = write_number(r, PRESENT_AT, present);
    return bad ? cache_error(err, bad, "write", r) : SPT_OK;
}

/* Nobody's links are followed, and what is no file is not used. */
static spt_status open_own(const remote *r, int flags, int *out, struct os_stat *st, spt_err *err)
{
    const int fd = os_open(r->path, flags | OS_OWN);
    if (fd < 0 && fd != -ELOOP && fd != -ENXIO)
        return cache_error(err, fd, "open", r);
    const int e = fd < 0 ? 0 : os_fstat(fd, st);
    if (!e && fd >= 0 && st->is_file) {
        *out = fd;
        return SPT_OK;
    }
    if (fd >= 0)
        os_close(fd);
    if (e < 0)
        return cache_error(err, e, "open", r);
    return err_set(err, SPT_E_IO,
                   "%s: what lies in the cache in its place, %s, is a link or no file; it is neither "
                   "used nor overwritten (remove it)",
                   r->s->name, r->path);
}

/* --- locks ---------------------------------------------------------------------------------- */

/* A lock of its own on the file, -1 when none is needed: nobody else can find the file. */
static spt_status lock(const remote *r, int *out, spt_err *err)
{
    struct os_stat st;
    *out = -1;
    if (!r->path)
        return SPT_OK;
    const int fd = os_open(r->path, OS_READ | OS_OWN);
    if (fd == -ENOENT || fd == -ELOOP)
        return SPT_OK; /* removed from the cache meanwhile; ours lives on without a name */
    if (fd < 0)
        return cache_error(err, fd, "open", r);
    int e = os_fstat(fd, &st);
    if (e >= 0 && r->inode && st.inode != r->inode) {
        os_close(fd);
        return SPT_OK;
    }
    for (int64_t waited = 0; e >= 0 && (e = os_lock(fd)) == -EWOULDBLOCK; e = 0) {
        if (waited++ == 10000 / LOCK_POLL_MS)
            log_info("%s: waiting for another process that fetches it", r->s->name);
        if (!remote_goes_on(NULL, 0, 0)) {
            os_close(fd);
            return err_set(err, SPT_E_INTERRUPTED, "interrupted while waiting for %s", r->s->name);
        }
        os_sleep_ns(LOCK_POLL_MS * MS);
    }
    if (e < 0) {
        os_close(fd);
        return cache_error(err, e, "lock", r);
    }
    *out = fd;
    return SPT_OK;
}

static void unlock(int fd)
{
    if (fd >= 0)
        os_close(fd);
}

/* --- the size of all ------------------------------------------------------------------------ */

struct old {
    char *path;
    uint64_t used, bytes;
};

struct scan {
    buf dir, path;
    struct old *list;
    size_t count, cap;
    uint64_t total;
    spt_status st;
    spt_err *err;
};

/* Last use and bytes present of a cached file, from its trailer. */
static bool look_at(const char *path, struct old *out)
{
    struct os_stat st;
    unsigned char head[HEAD_FIXED];
    const int fd = os_open(path, OS_READ | OS_OWN);
    bool ok = fd >= 0 && os_fstat(fd, &st) >= 0 && st.is_file && st.size >= HEAD_SIZE;
    /* The place of the trailer follows from the size: content, trailer, 8 bytes a block. */
    for (uint64_t blocks = ok ? st.size / (REMOTE_BLOCK + ENTRY) : 0, k = 0; ok && k < 3; k++) {
        const uint64_t n = blocks + k, tail = HEAD_SIZE + n * ENTRY;
        const uint64_t at = st.size >= tail ? st.size - tail : 1;
        if (at % TRAILER_ALIGN || os_pread_full(fd, head, sizeof head, at) != HEAD_FIXED ||
            memcmp(head, magic, sizeof magic) || blocks_of(get_le(head + 8, 8)) != n)
            continue;
        *out = (struct old){NULL, get_le(head + USED_AT, 8), get_le(head + PRESENT_AT, 8) + tail};
        os_close(fd);
        return true;
    }
    if (fd >= 0)
        os_close(fd);
    *out = (struct old){NULL, 0, ok ? st.size : 0}; /* not ours, or half made: the first to go */
    return ok;
}

static int scan_file(void *ctx, const char *name)
{
    struct scan *s = ctx;
    struct old o;
    if (path_join(&s->path, buf_str(&s->dir), name, s->err) || !look_at(buf_str(&s->path), &o))
        return 0;
    s->st = mem_grow(&s->list, &s->cap, s->count + 1, sizeof *s->list, 1 << 24, s->err);
    if (s->st)
        return 1;
    o.path = mem_strdup(buf_str(&s->path));
    if (!o.path)
        return s->st = err_nomem(s->err, s->path.len), 1;
    s->list[s->count++] = o;
    s->total += o.bytes;
    return 0;
}

static int by_use(const void *a, const void *b)
{
    const struct old *x = a, *y = b;
    return x->used < y->used ? -1 : x->used > y->used;
}

/* Removes the least recently used files until all are within nine tenths of the limit. */
static spt_status trim(const char *objects, const char *keep, uint64_t limit, spt_err *err)
{
    struct scan s = {.err = err};
    fs_names dirs = {0};
    buf_init(&s.dir, MAX_PATH);
    buf_init(&s.path, MAX_PATH);
    s.st = local_list(objects, &dirs, err);
    for (size_t i = 0; i < dirs.count && !s.st; i++) {
        s.st = path_join(&s.dir, objects, dirs.name[i], err);
        if (!s.st)
            os_list(buf_str(&s.dir), scan_file, &s);
    }
    if (!s.st && s.count)
        qsort(s.list, s.count, sizeof *s.list, by_use);
    for (size_t i = 0; i < s.count && s.total > limit; i++) {
        if (!strcmp(s.list[i].path, keep))
            continue;
        os_unlink(s.list[i].path);
        s.total -= s.list[i].bytes;
        if (s.total <= limit)
            limit = limit / 10 * 9; /* a little room, so that the next one need not look again */
    }
    for (size_t i = 0; i < s.count; i++)
        mem_free(s.list[i].path);
    mem_free(s.list);
    fs_names_free(&dirs);
    buf_release(&s.dir);
    buf_release(&s.path);
    return s.st;
}

/* A file of this size was made: looks at all of them from time to time. */
static spt_status made(const remote *r, const char *objects, spt_err *err)
{
    const uint64_t limit = max_bytes();
    pthread_mutex_lock(&mutex);
    const bool look = cache_grown >= limit / 16 || r->s->size >= limit / 16;
    cache_grown = look ? 0 : cache_grown + r->s->size;
    pthread_mutex_unlock(&mutex);
    if (!look)
        return SPT_OK;
    /* What is about to be fetched must fit as well. */
    return trim(objects, r->path, limit > r->s->size ? limit - r->s->size : 0, err);
}

/* All there? Then the CRC of the whole must be the store's. */
static spt_status check_whole(remote *r, bool *bad, spt_err *err)
{
    uint32_t crc = 0, block[32];
    *bad = false;
    if (r->whole || !r->s->has_crc || memchr(r->state, ABSENT, r->blocks))
        return SPT_OK;
    zeros_of(block, REMOTE_BLOCK);
    for (size_t i = 0; i + 1 < r->blocks; i++)
        crc = times(block, crc) ^ r->crc[i];
    if (r->blocks)
        crc = remote_crc_join(crc, r->crc[r->blocks - 1], block_size(r, r->blocks - 1));
    r->whole = true;
    if (crc == r->s->crc)
        return SPT_OK;
    r->whole = false;
    memset(r->state, ABSENT, r->blocks);
    TRY(write_entries(r, 0, r->blocks, err));
    *bad = true;
    return err_set(err, SPT_E_IO, "%s: its content has the CRC-32C %08x, the store says %08x",
                   r->s->name, crc, r->s->crc);
}

/* --- opening -------------------------------------------------------------------------------- */

static spt_status initialise(remote *r, spt_err *err)
{
    unsigned char head[HEAD_SIZE];
    int e = os_ftruncate(r->fd, 0);
    if (e >= 0)
        e = os_ftruncate(r->fd, r->trailer + HEAD_SIZE + (uint64_t)r->blocks * ENTRY);
    make_head(r, head);
    if (e >= 0)
        e = os_pwrite_full(r->fd, head, sizeof head, r->trailer);
    return e < 0 ? cache_error(err, e, "write", r) : SPT_OK;
}

/* With a name when it may be kept: under the lock it is either ours or made anew. */
static spt_status open_named(remote *r, const char *objects, bool *is_new, spt_err *err)
{
    struct os_stat st;
    int held, e;
    TRY(open_own(r, OS_READ | OS_WRITE | OS_CREATE, &r->fd, &st, err));
    r->inode = st.inode;
    TRY(lock(r, &held, err));
    spt_status s = SPT_OK;
    if ((e = os_fstat(r->fd, &st)) < 0)
        s = cache_error(err, e, "open", r);
    *is_new = !s && !head_fits(r, st.size);
    if (*is_new)
        s = initialise(r, err);
    if (!s)
        write_number(r, USED_AT, (uint64_t)os_clock_ns());
    unlock(held);
    if (!s && *is_new)
        s = made(r, objects, err);
    return s;
}

/* What was found. When all of it is there the CRCs in the trailer make the store's, or they, and with them
 * the content that agrees with them, are somebody else's work. */
static spt_status check_copy(remote *r, spt_err *err)
{
    bool bad;
    spt_err why = {0};
    TRY(read_entries(r, err));
    const spt_status st = check_whole(r, &bad, &why);
    if (bad)
        log_info("%s: its copy in the cache is not what the store has; fetching it again",
                 r->s->name);
    else if (st && err)
        *err = why;
    return bad ? SPT_OK : st;
}

static spt_status open_nameless(remote *r, spt_err *err)
{
    r->fd = os_open(r->path, OS_READ | OS_WRITE | OS_CREATE | OS_EXCL);
    if (r->fd < 0)
        return cache_error(err, r->fd, "create", r);
    os_unlink(r->path);
    mem_free(r->path);
    r->path = NULL;
    return initialise(r, err);
}

static spt_status open_file(remote *r, spt_err *err)
{
    buf dir, path;
    char hex[HASH_TEXT];
    uint64_t salt = 0;
    bool is_new = true;
    const char *key = r->s->key;
    const bool keep = key && strlen(key) <= MAX_KEY && max_bytes() > 0;
    buf_init(&dir, MAX_PATH);
    buf_init(&path, MAX_PATH);
    spt_status st = objects_dir(&dir, err);
    if (keep)
        hash_text(hash_bytes(key, strlen(key)), hex);
    else if (os_random(&salt, sizeof salt) < 0)
        st = err_set(err, SPT_E_IO, "no random number");
    if (!st && keep)
        buf_addf(&path, "%s/%.2s/%s", buf_str(&dir), hex, hex);
    else if (!st)
        buf_addf(&path, "%s/tmp/%016llx", buf_str(&dir), (unsigned long long)salt);
    if (!st)
        st = buf_status(&path, "path of the cache", err);
    if (!st && !(r->path = mem_strdup(buf_str(&path))))
        st = err_nomem(err, path.len);
    if (!st) {
        *strrchr(path.data, '/') = '\0';
        st = local_make_dirs(buf_str(&path), false, err);
        if (st)
            err_wrap(err, st, "%s: no cache (--cache-dir names another place)", r->s->name);
    }
    if (!st)
        st = keep ? open_named(r, buf_str(&dir), &is_new, err) : open_nameless(r, err);
    if (!st && !is_new)
        st = check_copy(r, err);
    buf_release(&dir);
    buf_release(&path);
    return st;
}

spt_status remote_check_size(uint64_t size, spt_err *err)
{
    return size <= REMOTE_MAX_SIZE
               ? SPT_OK
               : err_set(err, SPT_E_IO, "the server states a size of %llu bytes, which nothing has",
                         (unsigned long long)size);
}

spt_status remote_open(struct remote_source *s, remote **out, spt_err *err)
{
    const spt_status fits = remote_check_size(s->size, err);
    remote *r = fits ? NULL : mem_zalloc(1, sizeof *r);
    if (!r) {
        s->release(s);
        return fits ? fits : err_nomem(err, sizeof *r);
    }
    r->s = s;
    r->fd = -1;
    r->trailer = trailer_of(s->size);
    r->blocks = blocks_of(s->size);
    r->crc = mem_zalloc(r->blocks, sizeof *r->crc);
    r->state = mem_zalloc(r->blocks, 1);
    const spt_status st = r->crc && r->state ? open_file(r, err) : err_nomem(err, r->blocks);
    if (st) {
        remote_close(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

int remote_fd(const remote *r)
{
    return r->fd;
}

void remote_close(remote *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        os_close(r->fd);
    r->s->release(r->s);
    mem_free(r->path);
    mem_free(r->crc);
    mem_free(r->state);
    mem_free(r);
}

/* --- fetching ------------------------------------------------------------------------------- */

/* Holds what is on disk against its CRCs. */
static spt_status check_blocks(remote *r, size_t from, size_t to, bool *all, spt_err *err)
{
    unsigned char *p = NULL;
    *all = true;
    for (size_t i = from; i < to; i++) {
        if (r->state[i] == ON_DISK) {
            const size_t n = (size_t)block_size(r, i);
            if (!p && !(p = mem_alloc(REMOTE_BLOCK, 1)))
                return err_nomem(err, REMOTE_BLOCK);
            const int64_t got = os_pread_full(r->fd, p, n, (uint64_t)i * REMOTE_BLOCK);
            if (got < 0) {
                mem_free(p);
                return cache_error(err, (int)got, "read", r);
            }
            const bool good = (size_t)got == n && crc32c(p, n) == r->crc[i];
            if (!good)
                log_info("%s: its copy in the cache is damaged at byte %llu; fetching it again",
                         r->s->name, (unsigned long long)i * REMOTE_BLOCK);
            r->state[i] = good ? CHECKED : ABSENT;
            r->whole &= good; /* what comes in its place is to be held against the store's CRC */
        }
        *all &= r->state[i] == CHECKED;
    }
    mem_free(p);
    return SPT_OK;
}

/* What is told while much is fetched. */
struct progress {
    const char *name;
    uint64_t done, total;
    int64_t told;
};

/* A stretch of missing blocks that one request fetches. */
struct run {
    remote *r;
    struct progress *progress;
    const struct http_response *answer;
    uint64_t first, end, at;
    uint32_t crc;
    bool all; /* everything comes, although a part was asked for */
};

static void tell(struct progress *p)
{
    const int64_t now = os_monotonic_ns();
    if (p->total < TELL_FROM || now - p->told < 10000 * MS)
        return;
    p->told = now;
    log_info("%s: %.1f of %.1f GB fetched", p->name, (double)p->done / 1e9, (double)p->total / 1e9);
}

static spt_status receive(void *ctx, uint64_t offset, const void *bytes, size_t n, spt_err *err)
{
    struct run *w = ctx;
    remote *r = w->r;
    const unsigned char *p = bytes;
    w->all = !w->answer->partial && !r->s->whole && w->end - w->first < r->s->size;
    if (w->all) /* see run_some */
        return err_set(err, SPT_E_IO, "the server sent everything instead of a part");
    if (offset != w->at) { /* it had to start over */
        if (offset != w->first)
            return err_set(err, SPT_E_IO, "the server sent another part than the one asked for");
        w->at = w->first;
        w->crc = 0;
    }
    if (n > w->end - w->at)
        return err_set(err, SPT_E_IO, "the server sent more than the %llu bytes that it announced",
                       (unsigned long long)(w->end - w->first));
    const int e = os_pwrite_full(r->fd, p, n, offset);
    if (e < 0)
        return cache_error(err, e, "write", r);
    w->progress->done += n;
    while (n) {
        const size_t block = (size_t)(w->at / REMOTE_BLOCK);
        const uint64_t left = (uint64_t)block * REMOTE_BLOCK + block_size(r, block) - w->at;
        const size_t m = n < left ? n : (size_t)left;
        w->crc = crc32c_extend(w->crc, p, m);
        w->at += m;
        p += m;
        n -= m;
        if (m == left) {
            r->crc[block] = w->crc;
            r->state[block] = CHECKED;
            w->crc = 0;
        }
    }
    tell(w->progress);
    return SPT_OK;
}

struct fetch {
    struct run *run;
    size_t count, cap;
    struct http_request *q;
    struct http_response *a;
    struct progress progress;
};

/* Adds the missing blocks of a range as runs of at most `longest` bytes; of what comes whole or not at
 * all, everything when a block is missing. */
static spt_status add_runs(struct fetch *f, remote *r, size_t from, size_t to, uint64_t longest,
                           spt_err *err)
{
    for (size_t i = from; i < to;) {
        if (r->state[i] != ABSENT) {
            i++;
            continue;
        }
        const uint64_t first = (uint64_t)i * REMOTE_BLOCK;
        uint64_t end = first;
        for (; i < to && r->state[i] == ABSENT && end - first < longest; i++)
            end += block_size(r, i);
        struct run w = {.r = r, .progress = &f->progress, .first = first, .end = end, .at = first};
        if (r->s->whole) {
            w.first = w.at = 0;
            w.end = r->s->size;
            i = to;
        }
        TRY(mem_grow(&f->run, &f->cap, f->count + 1, sizeof *f->run, 1 << 24, err));
        f->run[f->count++] = w;
    }
    return SPT_OK;
}

static spt_status judge_all(struct fetch *f, size_t n, bool *again, spt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct run *w = &f->run[i];
        bool once_more = false;
        TRY(w->r->s->judge(w->r->s, &f->q[i], &f->a[i], &once_more, err));
        *again |= once_more;
        if (!once_more && w->at != w->end)
            return err_set(err, SPT_E_IO, "%s: %llu bytes came where %llu were asked for",
                           w->r->s->name, (unsigned long long)(w->at - w->first),
                           (unsigned long long)(w->end - w->first));
    }
    return SPT_OK;
}

/* Runs f->run[from .. from + n). */
static spt_status run_some(struct fetch *f, size_t from, size_t n, http_client *c, bool *again,
                           spt_err *err)
{
    struct fetch part = *f;
    spt_status st = SPT_OK;
    part.run = f->run + from;
    for (size_t i = 0; i < n && !st; i++) {
        struct run *w = &part.run[i];
        w->progress = &f->progress;
        w->answer = &f->a[i];
        f->q[i] = (struct http_request){
            .what = w->r->s->name, .sink = receive, .sink_ctx = w, .ranged = !w->r->s->whole,
            .first = w->first, .last = w->end - 1, .progress = remote_goes_on};
        http_response_init(&f->a[i]);
        st = w->r->s->ask(w->r->s, &f->q[i], err);
    }
    if (!st)
        st = http_run_all(c, f->q, f->a, n, 0, err);
    if (!st)
        st = judge_all(&part, n, again, err);
    for (size_t i = 0; i < n; i++) {
        http_response_release(&f->a[i]);
        if (part.run[i].all) { /* then that is what we ask for from now on */
            log_info("%s: the server does not send parts; fetching all of it", part.run[i].r->s->name);
            part.run[i].r->s->whole = *again = true;
            st = SPT_OK;
        }
    }
    return st;
}

static spt_status run_all(struct fetch *f, bool *again, spt_err *err)
{
    http_client *c;
    TRY(remote_client_take(&c, err));
    f->q = mem_zalloc(BATCH, sizeof *f->q);
    f->a = mem_zalloc(BATCH, sizeof *f->a);
    spt_status st = f->q && f->a ? SPT_OK : err_nomem(err, BATCH * sizeof *f->a);
    for (size_t i = 0; i < f->count && !st; i += BATCH)
        st = run_some(f, i, f->count - i < BATCH ? f->count - i : BATCH, c, again, err);
    mem_free(f->q);
    mem_free(f->a);
    remote_client_give(c);
    return st;
}

/* Which part of which object. */
struct wish {
    remote *r;
    size_t from, to; /* blocks */
    int held;
};

static spt_status fetch_locked(struct wish *w, size_t n, bool *again, spt_err *err)
{
    struct fetch f = {0};
    spt_status st = SPT_OK;
    uint64_t total = 0;
    for (size_t i = 0; i < n && !st; i++) {
        bool all;
        st = read_entries(w[i].r, err); /* another process may have been faster */
        if (!st)
            st = check_blocks(w[i].r, w[i].from, w[i].to, &all, err);
        for (size_t k = w[i].from; k < w[i].to && !st; k++)
            total += w[i].r->state[k] == ABSENT ? block_size(w[i].r, k) : 0;
    }
    uint64_t longest = total / (2 * http_parallel()) / REMOTE_BLOCK * REMOTE_BLOCK;
    longest = longest < MIN_RUN ? MIN_RUN : longest > REMOTE_RUN ? REMOTE_RUN : longest;
    for (size_t i = 0; i < n && !st; i++)
        st = add_runs(&f, w[i].r, w[i].from, w[i].to, longest, err);
    f.progress = (struct progress){w[0].r->s->name, 0, total, os_monotonic_ns()};
    if (!st && f.count)
        st = run_all(&f, again, err);
    /* Blocks that came before a failure are kept. */
    for (size_t i = 0; i < n; i++) {
        const spt_status wrote = write_entries(w[i].r, w[i].from, w[i].to, st ? NULL : err);
        st = st ? st : wrote;
    }
    mem_free(f.run);
    return st;
}

static spt_status fetch(struct wish *w, size_t n, spt_err *err)
{
    spt_status st = SPT_OK;
    for (int round = 0;; round++) {
        bool again = false, bad = false;
        for (size_t i = 0; i < n; i++) {
            w[i].held = -1;
            if (w[i].r->s->whole)
                w[i].from = 0, w[i].to = w[i].r->blocks;
        }
        for (size_t i = 0; i < n && !st; i++)
            st = lock(w[i].r, &w[i].held, err);
        if (!st)
            st = fetch_locked(w, n, &again, err);
        for (size_t i = 0; i < n && !st; i++) {
            st = check_whole(w[i].r, &bad, err);
            /* Once more, unless something of it was believed already. */
            if (bad && !w[i].r->handed && !round) {
                log_info("%s; fetching it again", err ? err->msg : w[i].r->s->name);
                st = SPT_OK;
                again = true;
            }
        }
        for (size_t i = 0; i < n; i++)
            unlock(w[i].held);
        if (st || !again)
            return st;
        if (round == 2)
            return err_set(err, SPT_E_CONFIG, "%s: the server does not accept our credentials",
                           w[0].r->s->name);
    }
}

spt_status remote_need_ahead(remote *r, uint64_t offset, uint64_t n, uint64_t ahead, spt_err *err)
{
    bool all;
    if (!n || offset >= r->s->size)
        return SPT_OK;
    const uint64_t size = r->s->size;
    n = n < size - offset ? n : size - offset;
    const size_t from = (size_t)(offset / REMOTE_BLOCK);
    size_t to = blocks_of(offset + n);
    TRY(check_blocks(r, from, to, &all, err));
    if (!all) {
        const uint64_t more = ahead < size - offset - n ? ahead : size - offset - n;
        to = blocks_of(offset + n + more);
        struct wish w = {r, from, to, -1};
        TRY(fetch(&w, 1, err));
    }
    r->handed = true;
    return SPT_OK;
}

spt_status remote_need(remote *r, uint64_t offset, uint64_t n, spt_err *err)
{
    return remote_need_ahead(r, offset, n, 0, err);
}

/* In the order of their files, so that two processes that want the same never wait for each other. */
static int by_path(const void *a, const void *b)
{
    const struct wish *x = a, *y = b;
    const char *p = x->r->path ? x->r->path : "", *q = y->r->path ? y->r->path : "";
    return strcmp(p, q);
}

spt_status remote_need_all(remote *const *r, size_t count, spt_err *err)
{
    struct wish w[BATCH];
    for (size_t i = 0; i < count;) {
        size_t n = 0;
        for (; i < count && n < BATCH; i++) {
            bool all, twice = false;
            TRY(check_blocks(r[i], 0, r[i]->blocks, &all, err));
            for (size_t k = 0; k < n; k++)
                twice |= r[i]->inode && w[k].r->inode == r[i]->inode; /* would wait for itself */
            if (!all && !twice)
                w[n++] = (struct wish){r[i], 0, r[i]->blocks, -1};
        }
        if (n > 1)
            qsort(w, n, sizeof *w, by_path);
        if (n)
            TRY(fetch(w, n, err));
    }
    return SPT_OK;
}
