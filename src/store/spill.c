/* External merge sort. Runs are written without syncs: they are worthless after a crash. A run is a
 * sequence of key (16), size (8, native order) and bytes. When there are FAN_IN runs they are
 * merged into one, so that reading back needs at most FAN_IN buffers. */
#include "store/spill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"

enum { FAN_IN = 128, READ_BUFFER = 1 << 15, WRITE_BUFFER = 1 << 18, HEAD = SPILL_KEY + 8 };
#define MAX_RECORD ((uint64_t)1 << 30)

struct item {
    uint8_t key[SPILL_KEY];
    size_t at, size; /* in bytes */
};

struct run {
    char *path;
    fs_file *file;
    uint64_t at;          /* of the next byte to read */
    unsigned char *block; /* READ_BUFFER */
    size_t block_at, block_n;
    uint8_t key[SPILL_KEY];
    buf record;
    bool ended;
};

struct spill {
    char *dir, *name;
    size_t budget;
    buf bytes;
    struct item *item;
    size_t items, item_cap, next;
    struct run run[FAN_IN];
    size_t runs;
    uint64_t count, total, files;
    bool sorted;
    size_t heap[FAN_IN]; /* runs by their current record, smallest first */
    size_t heap_n;
    bool taken; /* the first of the heap was handed out */
};

spt_status spill_new(const char *dir, const char *name, size_t budget, spill **out, spt_err *err)
{
    spill *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->dir = mem_strdup(dir);
    s->name = mem_strdup(name);
    s->budget = budget;
    buf_init(&s->bytes, SIZE_MAX / 4);
    if (!s->dir || !s->name) {
        spill_close(s);
        return err_nomem(err, strlen(dir));
    }
    *out = s;
    return SPT_OK;
}

static void run_release(struct run *r, bool remove)
{
    fs_close(r->file);
    if (r->path && remove)
        fs_remove_tree(r->path, NULL);
    mem_free(r->path);
    mem_free(r->block);
    buf_release(&r->record);
    *r = (struct run){0};
}

void spill_close(spill *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->runs; i++)
        run_release(&s->run[i], true);
    buf_release(&s->bytes);
    mem_free(s->item);
    mem_free(s->dir);
    mem_free(s->name);
    mem_free(s);
}

uint64_t spill_count(const spill *s)
{
    return s->count;
}

uint64_t spill_bytes(const spill *s)
{
    return s->total;
}

/* --- writing runs ----------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    const int d = memcmp(x->key, y->key, SPILL_KEY);
    return d ? d : (x->at > y->at) - (x->at < y->at);
}

struct run_writer {
    fs_log *log;
    buf out;
};

static spt_status writer_open(struct run_writer *w, const char *path, spt_err *err)
{
    buf_init(&w->out, SIZE_MAX / 4);
    return fs_log_open(path, 0, &w->log, err);
}

static spt_status writer_flush(struct run_writer *w, spt_err *err)
{
    TRY(buf_status(&w->out, "run", err));
    TRY(fs_log_append(w->log, buf_str(&w->out), w->out.len, err));
    buf_clear(&w->out);
    return SPT_OK;
}

static spt_status writer_add(struct run_writer *w, const uint8_t *key, const void *data,
                             size_t size, spt_err *err)
{
    const uint64_t n = size;
    buf_add(&w->out, key, SPILL_KEY);
    buf_add(&w->out, &n, sizeof n);
    buf_add(&w->out, data, size);
    return w->out.len >= WRITE_BUFFER ? writer_flush(w, err) : buf_status(&w->out, "run", err);
}

static spt_status writer_close(struct run_writer *w, spt_status st, spt_err *err)
{
    if (!st)
        st = writer_flush(w, err);
    fs_log_close(w->log);
    buf_release(&w->out);
    return st;
}

static spt_status new_path(spill *s, char **out, spt_err *err)
{
    buf path;
    TRY(fs_make_dirs(s->dir, err));
    buf_init(&path, 65536);
    buf_addf(&path, "%s/%s.run-%llu", s->dir, s->name, (unsigned long long)s->files++);
    const spt_status st = buf_status(&path, "path", err);
    if (!st)
        *out = buf_detach(&path);
    buf_release(&path);
    return st;
}

static spt_status merge_runs(spill *s, spt_err *err);

/* What is in memory becomes a run. */
static spt_status write_run(spill *s, spt_err *err)
{
    struct run_writer w = {0};
    char *path = NULL;
    if (s->runs == FAN_IN)
        TRY(merge_runs(s, err));
    TRY(new_path(s, &path, err));
    s->run[s->runs++] = (struct run){.path = path};
    qsort(s->item, s->items, sizeof *s->item, by_key);
    spt_status st = writer_open(&w, path, err);
    for (size_t i = 0; !st && i < s->items; i++)
        st = writer_add(&w, s->item[i].key, buf_str(&s->bytes) + s->item[i].at, s->item[i].size,
                        err);
    st = writer_close(&w, st, err);
    s->items = 0;
    buf_clear(&s->bytes);
    return st;
}

spt_status spill_add(spill *s, const uint8_t key[SPILL_KEY], const void *bytes, size_t size,
                     spt_err *err)
{
    if (size > MAX_RECORD)
        return err_set(err, SPT_E_FORMAT, "a record of %zu bytes", size);
    if (s->items && s->bytes.len + s->items * sizeof *s->item + size > s->budget)
        TRY(write_run(s, err));
    TRY(mem_grow(&s->item, &s->item_cap, s->items + 1, sizeof *s->item, SIZE_MAX / 64, err));
    struct item *it = &s->item[s->items];
    memcpy(it->key, key, SPILL_KEY);
    it->at = s->bytes.len;
    it->size = size;
    buf_add(&s->bytes, bytes, size);
    TRY(buf_status(&s->bytes, "records", err));
    s->items++;
    s->count++;
    s->total += size;
    return SPT_OK;
}

/* --- reading runs ----------------------------------------------------------------------------- */

static spt_status run_bytes(struct run *r, void *p, size_t n, spt_err *err)
{
    unsigned char *to = p;
    while (n) {
        if (r->block_at == r->block_n) {
            const uint64_t left = fs_size(r->file) - r->at;
            r->block_n = left < READ_BUFFER ? (size_t)left : READ_BUFFER;
            r->block_at = 0;
            if (!r->block_n)
                return err_set(err, SPT_E_IO, "%s became shorter", r->path);
            TRY(fs_read_at(r->file, r->at, r->block, r->block_n, err));
            r->at += r->block_n;
        }
        const size_t have = r->block_n - r->block_at, k = have < n ? have : n;
        memcpy(to, r->block + r->block_at, k);
        r->block_at += k;
        to += k;
        n -= k;
    }
    return SPT_OK;
}

static spt_status run_next(struct run *r, spt_err *err)
{
    uint64_t size;
    if (r->block_at == r->block_n && r->at == fs_size(r->file)) {
        r->ended = true;
        return SPT_OK;
    }
    TRY(run_bytes(r, r->key, SPILL_KEY, err));
    TRY(run_bytes(r, &size, sizeof size, err));
    buf_clear(&r->record);
    while (size) { /* in pieces: the size comes from a file */
        char piece[4096];
        const size_t n = size < sizeof piece ? (size_t)size : sizeof piece;
        TRY(run_bytes(r, piece, n, err));
        buf_add(&r->record, piece, n);
        size -= n;
    }
    return buf_status(&r->record, "record", err);
}

static spt_status run_open(struct run *r, spt_err *err)
{
    r->block = mem_alloc(READ_BUFFER, 1);
    if (!r->block)
        return err_nomem(err, READ_BUFFER);
    buf_init(&r->record, (size_t)MAX_RECORD);
    TRY(fs_open(r->path, &r->file, err));
    return run_next(r, err);
}

static bool before(const spill *s, size_t a, size_t b)
{
    const int d = memcmp(s->run[a].key, s->run[b].key, SPILL_KEY);
    return d ? d < 0 : a < b; /* earlier runs hold what was added earlier */
}

static void sink_first(spill *s)
{
    for (size_t i = 0;;) {
        size_t least = i;
        for (size_t k = 2 * i + 1; k <= 2 * i + 2 && k < s->heap_n; k++)
            if (before(s, s->heap[k], s->heap[least]))
                least = k;
        if (least == i)
            return;
        const size_t t = s->heap[i];
        s->heap[i] = s->heap[least];
        s->heap[least] = t;
        i = least;
    }
}

static spt_status start_merge(spill *s, spt_err *err)
{
    s->heap_n = 0;
    s->taken = false;
    for (size_t i = 0; i < s->runs; i++) {
        TRY(run_open(&s->run[i], err));
        if (s->run[i].ended)
            continue;
        size_t at = s->heap_n++;
        s->heap[at] = i;
        while (at && before(s, s->heap[at], s->heap[(at - 1) / 2])) {
            const size_t up = (at - 1) / 2, t = s->heap[at];
            s->heap[at] = s->heap[up];
            s->heap[up] = t;
            at = up;
        }
    }
    return SPT_OK;
}

/* NULL at the end. */
static spt_status next_run(spill *s, struct run **out, spt_err *err)
{
    if (s->taken) {
        struct run *r = &s->run[s->heap[0]];
        TRY(run_next(r, err));
        if (r->ended)
            s->heap[0] = s->heap[--s->heap_n];
        sink_first(s);
    }
    s->taken = s->heap_n > 0;
    *out = s->heap_n ? &s->run[s->heap[0]] : NULL;
    return SPT_OK;
}

static spt_status merge_runs(spill *s, spt_err *err)
{
    struct run_writer w = {0};
    char *path = NULL;
    struct run *r;
    TRY(new_path(s, &path, err));
    spt_status st = start_merge(s, err);
    if (!st)
        st = writer_open(&w, path, err);
    while (!st && !(st = next_run(s, &r, err)) && r)
        st = writer_add(&w, r->key, buf_str(&r->record), r->record.len, err);
    st = writer_close(&w, st, err);
    for (size_t i = 0; i < s->runs; i++)
        run_release(&s->run[i], true);
    s->run[0] = (struct run){.path = path};
    s->runs = 1;
    return st;
}

/* --- handing out ------------------------------------------------------------------------------ */

spt_status spill_sort(spill *s, spt_err *err)
{
    s->sorted = true;
    s->next = 0;
    if (!s->runs) {
        if (s->items)
            qsort(s->item, s->items, sizeof *s->item, by_key);
        return SPT_OK;
    }
    if (s->items)
        TRY(write_run(s, err));
    buf_release(&s->bytes);
    mem_free(s->item);
    s->item = NULL;
    s->item_cap = 0;
    return start_merge(s, err);
}

spt_status spill_next(spill *s, const uint8_t **key, const void **data, size_t *size, spt_err *err)
{
    struct run *r;
    *data = NULL;
    *size = 0;
    /* never: a mistake of the caller */
    if (NEVER(!s->sorted))
        return err_set(err, SPT_E_USAGE, "records are not sorted yet");
    if (!s->runs) {
        if (s->next == s->items)
            return SPT_OK;
        const struct item *it = &s->item[s->next++];
        *key = it->key;
        *data = buf_str(&s->bytes) + it->at;
        *size = it->size;
        return SPT_OK;
    }
    TRY(next_run(s, &r, err));
    if (r) {
        *key = r->key;
        *data = buf_str(&r->record);
        *size = r->record.len;
    }
    return SPT_OK;
}
