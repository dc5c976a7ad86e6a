/* Reader of prepared data sets. Everything in dataset_info.json is untrusted: numbers of shards and
 * examples are limits to check, not sizes to allocate. */
#include "task/tfds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "codec/digest.h"
#include "fs/fs.h"
#include "store/tfrecord.h"
#include "task/tf_example.h"
#include "text/json.h"

enum {
    MAX_INFO = 64 << 20,
    MAX_SPLITS = 4096,
    MAX_SHARDS = 1 << 20,
    CYCLE = 16,
    BLOCK = 16,
    MAX_PATH = 4096,
    MAX_NAME = 256
};
#define UNKNOWN UINT64_MAX /* records of a shard without metadata */

struct split {
    char name[MAX_NAME];
    uint64_t *shard;
    size_t shards, cap;
    uint64_t examples;
};

struct tfds {
    char *dir, *dataset;
    struct split *split;
    size_t splits, cap;
};

/* --- finding the directory ---------------------------------------------------------------- */

static bool is_prepared(const char *dir)
{
    char path[MAX_PATH];
    const int n = snprintf(path, sizeof path, "%s/dataset_info.json", dir);
    return n > 0 && (size_t)n < sizeof path && fs_exists(path);
}

/* data_dir/dataset/<some configuration>/version */
static spt_status find_config(const char *base, const char *version, char *dir, size_t room,
                              spt_err *err)
{
    fs_names names = {0};
    *dir = 0;
    const spt_status st = fs_is_dir(base) ? fs_list(base, &names, err) : SPT_OK;
    for (size_t i = 0; !st && !*dir && i < names.count; i++) {
        char path[MAX_PATH];
        const int n = snprintf(path, sizeof path, "%s/%s/%s", base, names.name[i], version);
        if (n > 0 && (size_t)n < sizeof path && (size_t)n < room && is_prepared(path))
            memcpy(dir, path, (size_t)n + 1);
    }
    fs_names_free(&names);
    return st;
}

static spt_status find_dir(const char *data_dir, const char *name, char *dir, char *dataset,
                           spt_err *err)
{
    const char *colon = strrchr(name, ':'), *slash = strchr(name, '/');
    char base[MAX_PATH];
    if (!colon || colon == name || !colon[1])
        return err_set(err, SPT_E_CONFIG, "data set '%s' has no version (name:1.0.0)", name);
    const size_t first = slash && slash < colon ? (size_t)(slash - name) : (size_t)(colon - name);
    if (first >= MAX_NAME || strstr(name, "..") || strlen(data_dir) + strlen(name) + 8 >= MAX_PATH)
        return err_set(err, SPT_E_CONFIG, "data set name '%.100s' is not usable", name);
    memcpy(dataset, name, first);
    dataset[first] = 0;
    snprintf(base, sizeof base, "%s/%.*s", data_dir, (int)(colon - name), name);
    const int n = snprintf(dir, MAX_PATH, "%s/%s", base, colon + 1);
    if (n > 0 && n < MAX_PATH && is_prepared(dir))
        return SPT_OK;
    if (!slash || slash > colon) {
        TRY(find_config(base, colon + 1, dir, MAX_PATH, err));
        if (*dir)
            return SPT_OK;
    }
    return err_set(err, SPT_E_NOTFOUND,
                   "data set %s is not prepared: no %s/%s%s/dataset_info.json; give the folder "
                   "above with --tfds_data_dir",
                   name, base, !slash ? "[*/]" : "", colon + 1);
}

/* --- dataset_info.json -------------------------------------------------------------------- */

static struct split *add_split(tfds *d, spt_err *err)
{
    if (mem_grow(&d->split, &d->cap, d->splits + 1, sizeof *d->split, MAX_SPLITS, err))
        return NULL;
    d->split[d->splits] = (struct split){0};
    return &d->split[d->splits++];
}

/* int64 values are strings in this file. */
static spt_status read_count(json_reader *r, const struct json_event *ev, uint64_t *out,
                             spt_err *err)
{
    struct json_event number = *ev;
    if (ev->kind != JSON_STRING && ev->kind != JSON_NUMBER)
        return json_error(r, ev->offset, err, "%s, wanted a count", json_kind_name(ev->kind));
    number.kind = JSON_NUMBER;
    if (json_to_u64(&number, out, NULL))
        return json_error(r, ev->offset, err, "'%.*s' is no count", (int)ev->len, ev->text);
    return SPT_OK;
}

static spt_status read_lengths(json_reader *r, struct split *s, spt_err *err)
{
    TRY(json_enter_array(r, err));
    for (;;) {
        bool more;
        struct json_event ev;
        uint64_t n;
        TRY(json_next_item(r, &more, &ev, err));
        if (!more)
            return SPT_OK;
        TRY(read_count(r, &ev, &n, err));
        TRY(mem_grow(&s->shard, &s->cap, s->shards + 1, sizeof *s->shard, MAX_SHARDS, err));
        if (n > UINT64_MAX - s->examples)
            return json_error(r, ev.offset, err, "too many examples");
        s->shard[s->shards++] = n;
        s->examples += n;
    }
}

static spt_status read_split(json_reader *r, tfds *d, spt_err *err)
{
    struct split *s = add_split(d, err);
    bool more;
    struct json_event key;
    if (!s)
        return SPT_E_NOMEM;
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            break;
        if (json_is(&key, "name")) {
            buf name;
            buf_init(&name, MAX_NAME - 1);
            spt_status st = json_read_text(r, &name, err);
            if (!st)
                st = buf_status(&name, "split name", err);
            if (!st)
                memcpy(s->name, buf_str(&name), name.len + 1);
            buf_release(&name);
            TRY(st);
        } else if (json_is(&key, "shardLengths")) {
            TRY(read_lengths(r, s, err));
        } else {
            TRY(json_skip(r, err));
        }
    }
    if (!*s->name || strchr(s->name, '/'))
        return err_set(err, SPT_E_FORMAT, "a split without a usable name");
    return SPT_OK;
}

static spt_status read_splits(json_reader *r, tfds *d, spt_err *err)
{
    TRY(json_enter_array(r, err));
    for (;;) {
        bool more;
        struct json_event ev;
        TRY(json_next_item(r, &more, &ev, err));
        if (!more)
            return SPT_OK;
        if (ev.kind != JSON_OBJECT)
            return json_error(r, ev.offset, err, "%s, wanted a split", json_kind_name(ev.kind));
        TRY(read_split(r, d, err));
    }
}

static spt_status read_info(json_reader *r, tfds *d, spt_err *err)
{
    bool more;
    struct json_event key;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return json_finish(r, err);
        if (json_is(&key, "splits"))
            TRY(read_splits(r, d, err));
        else
            TRY(json_skip(r, err));
    }
}

spt_status tfds_open(const char *data_dir, const char *name, tfds **out, spt_err *err)
{
    char dir[MAX_PATH], dataset[MAX_NAME], path[MAX_PATH + 32];
    char *text = NULL;
    size_t size = 0;
    TRY(find_dir(data_dir, name, dir, dataset, err));
    tfds *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    d->dir = mem_strdup(dir);
    d->dataset = mem_strdup(dataset);
    spt_status st = d->dir && d->dataset ? SPT_OK : err_nomem(err, sizeof dir);
    snprintf(path, sizeof path, "%s/dataset_info.json", dir);
    if (!st)
        st = fs_read_all(path, MAX_INFO, &text, &size, err);
    if (!st) {
        json_reader r;
        json_open(&r, text, size, 0);
        st = read_info(&r, d, err);
        json_close(&r);
        if (st)
            err_wrap(err, st, "%s", path);
    }
    mem_free(text);
    if (st) {
        tfds_close(d);
        return st;
    }
    *out = d;
    return SPT_OK;
}

spt_status tfds_open_shards(const char *dir, const char *split, size_t shards, tfds **out,
                            spt_err *err)
{
    if (!shards || shards > MAX_SHARDS || strlen(split) >= MAX_NAME)
        return err_set(err, SPT_E_FORMAT, "%s: %zu shards of split '%.60s'", dir, shards, split);
    tfds *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    d->dir = mem_strdup(dir);
    d->dataset = mem_strdup("");
    struct split *s = add_split(d, err);
    spt_status st = d->dir && d->dataset && s ? SPT_OK : err_nomem(err, sizeof *d);
    if (!st)
        st = mem_grow(&s->shard, &s->cap, shards, sizeof *s->shard, MAX_SHARDS, err);
    if (st) {
        tfds_close(d);
        return st;
    }
    memcpy(s->name, split, strlen(split) + 1);
    s->shards = shards;
    for (size_t i = 0; i < shards; i++)
        s->shard[i] = UNKNOWN;
    *out = d;
    return SPT_OK;
}

void tfds_close(tfds *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->splits; i++)
        mem_free(d->split[i].shard);
    mem_free(d->split);
    mem_free(d->dir);
    mem_free(d->dataset);
    mem_free(d);
}

const char *tfds_dir(const tfds *d)
{
    return d->dir;
}

size_t tfds_splits(const tfds *d)
{
    return d->splits;
}

const char *tfds_split_name(const tfds *d, size_t i)
{
    return d->split[i].name;
}

/* --- slices ------------------------------------------------------------------------------- */

/* One side of the colon: a position, a negative one, or a percentage; `none` when empty. */
static spt_status read_side(const char *s, size_t len, uint64_t n, uint64_t none, uint64_t *out,
                            const char *spec, spt_err *err)
{
    char text[32];
    *out = none;
    if (!len)
        return SPT_OK;
    if (len >= sizeof text)
        return err_set(err, SPT_E_CONFIG, "%s is no slice", spec);
    memcpy(text, s, len);
    text[len] = 0;
    const bool percent = text[len - 1] == '%';
    if (percent)
        text[len - 1] = 0;
    char *end;
    const double v = strtod(text, &end);
    if (*end || !*text || (!percent && v != floor(v)))
        return err_set(err, SPT_E_CONFIG, "%s is no slice", spec);
    double at = percent ? rint(v / 100 * (double)n) : v;
    if (at < 0)
        at += (double)n;
    if (!(at >= 0 && at <= (double)n))
        return err_set(err, SPT_E_CONFIG, "%s lies outside the %llu examples", spec,
                       (unsigned long long)n);
    *out = (uint64_t)at;
    return SPT_OK;
}

spt_status tfds_slice(const char *spec, uint64_t n, uint64_t *from, uint64_t *to, spt_err *err)
{
    const char *open = strchr(spec, '[');
    *from = 0;
    *to = n;
    if (!open)
        return SPT_OK;
    const char *colon = strchr(open, ':'), *close = strchr(open, ']');
    if (!colon || !close || colon > close || close[1])
        return err_set(err, SPT_E_CONFIG, "%s is no slice (split[from:to])", spec);
    TRY(read_side(open + 1, (size_t)(colon - open - 1), n, 0, from, spec, err));
    TRY(read_side(colon + 1, (size_t)(close - colon - 1), n, n, to, spec, err));
    if (*from > *to)
        *from = *to;
    return SPT_OK;
}

static spt_status find_split(const tfds *d, const char *spec, const struct split **out,
                             spt_err *err)
{
    const size_t len = strcspn(spec, "[");
    for (size_t i = 0; i < d->splits; i++) {
        if (strlen(d->split[i].name) == len && memcmp(d->split[i].name, spec, len) == 0) {
            *out = &d->split[i];
            return SPT_OK;
        }
    }
    buf names;
    buf_init(&names, 4000);
    for (size_t i = 0; i < d->splits && i < 20; i++)
        buf_addf(&names, "%s%s", i ? ", " : "", d->split[i].name);
    err_set(err, SPT_E_CONFIG, "%s has no split '%.*s'; it has %s", d->dir, (int)len, spec,
            buf_str(&names));
    buf_release(&names);
    return SPT_E_CONFIG;
}

spt_status tfds_examples(const tfds *d, const char *spec, uint64_t *out, spt_err *err)
{
    const struct split *s;
    uint64_t from, to;
    TRY(find_split(d, spec, &s, err));
    TRY(tfds_slice(spec, s->examples, &from, &to, err));
    *out = to - from;
    return SPT_OK;
}

/* --- reading ------------------------------------------------------------------------------ */

struct part { /* what a slice takes of one shard */
    size_t shard;
    uint64_t skip, take;
};

struct open_shard {
    tfrecord_reader *reader;
    const struct part *part;
    uint64_t left;
};

struct tfds_reader {
    const tfds *d;
    const struct split *split;
    struct part *part;
    size_t parts, part_cap, next;
    struct open_shard slot[CYCLE];
    size_t slots, at, taken;
};

static spt_status add_parts(tfds_reader *r, uint64_t from, uint64_t to, spt_err *err)
{
    uint64_t start = 0;
    for (size_t i = 0; i < r->split->shards; i++) {
        if (r->split->shard[i] == UNKNOWN) {
            TRY(mem_grow(&r->part, &r->part_cap, r->parts + 1, sizeof *r->part, MAX_SHARDS, err));
            r->part[r->parts++] = (struct part){i, 0, UNKNOWN};
            continue;
        }
        const uint64_t end = start + r->split->shard[i];
        const uint64_t a = from > start ? from : start, b = to < end ? to : end;
        if (a < b) {
            TRY(mem_grow(&r->part, &r->part_cap, r->parts + 1, sizeof *r->part, MAX_SHARDS, err));
            r->part[r->parts++] = (struct part){i, a - start, b - a};
        }
        start = end;
    }
    return SPT_OK;
}

spt_status tfds_read(const tfds *d, const char *spec, tfds_reader **out, spt_err *err)
{
    const struct split *s;
    uint64_t from, to;
    TRY(find_split(d, spec, &s, err));
    TRY(tfds_slice(spec, s->examples, &from, &to, err));
    tfds_reader *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    r->d = d;
    r->split = s;
    const spt_status st = add_parts(r, from, to, err);
    if (st) {
        tfds_reader_close(r);
        return st;
    }
    r->slots = r->parts < CYCLE ? r->parts : CYCLE;
    *out = r;
    return SPT_OK;
}

static void shard_path(const tfds_reader *r, size_t shard, char *path, size_t room)
{
    snprintf(path, room, "%s/%s%s%s.tfrecord-%05zu-of-%05zu", r->d->dir, r->d->dataset,
             *r->d->dataset ? "-" : "", r->split->name, shard, r->split->shards);
}

static spt_status open_next(tfds_reader *r, struct open_shard *slot, spt_err *err)
{
    char path[MAX_PATH + 600];
    slot->part = &r->part[r->next++];
    slot->left = slot->part->take;
    shard_path(r, slot->part->shard, path, sizeof path);
    TRY(tfrecord_open(path, &slot->reader, err));
    return slot->part->skip ? tfrecord_skip(slot->reader, slot->part->skip, err) : SPT_OK;
}

static void close_slot(struct open_shard *slot)
{
    tfrecord_close(slot->reader);
    *slot = (struct open_shard){0};
}

/* *have false: the file has ended where its length is not known. */
static spt_status read_one(tfds_reader *r, struct open_shard *slot, record *out, bool *have,
                           spt_err *err)
{
    const void *data;
    size_t size;
    char path[MAX_PATH + 600];
    const uint64_t number = tfrecord_index(slot->reader);
    TRY(tfrecord_next(slot->reader, &data, &size, err));
    shard_path(r, slot->part->shard, path, sizeof path);
    *have = data != NULL;
    if (!data && slot->part->take == UNKNOWN) {
        slot->left = 0;
        return SPT_OK;
    }
    if (!data)
        return err_set(err, SPT_E_FORMAT, "%s ends after %llu of %llu records", path,
                       (unsigned long long)number,
                       (unsigned long long)r->split->shard[slot->part->shard]);
    const spt_status st = tf_example_read(data, size, out, err);
    slot->left -= slot->part->take != UNKNOWN;
    return st ? err_wrap(err, st, "%s: record %llu", path, (unsigned long long)number) : SPT_OK;
}

/* Deterministic interleave: BLOCK records of a slot, then the next; an ended slot opens the next
 * file at its next turn. */
spt_status tfds_next(tfds_reader *r, record *out, bool *more, spt_err *err)
{
    *more = false;
    for (size_t idle = 0; r->slots && idle < r->slots;) {
        struct open_shard *slot = &r->slot[r->at];
        if (!slot->reader && r->taken == 0 && r->next < r->parts)
            TRY(open_next(r, slot, err));
        if (slot->reader && slot->left && r->taken < BLOCK) {
            TRY(read_one(r, slot, out, more, err));
            r->taken++;
            if (*more)
                return SPT_OK;
        }
        idle = slot->reader ? 0 : idle + 1;
        if (slot->reader && !slot->left)
            close_slot(slot);
        r->at = (r->at + 1) % r->slots;
        r->taken = 0;
    }
    return SPT_OK;
}

void tfds_reader_close(tfds_reader *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < CYCLE; i++)
        if (r->slot[i].reader)
            close_slot(&r->slot[i]);
    mem_free(r->part);
    mem_free(r);
}

/* --- writing order ------------------------------------------------------------------------ */

struct hashed {
    uint8_t digest[MD5_SIZE];
    uint32_t which;
};

static int by_digest(const void *a, const void *b)
{
    const struct hashed *x = a, *y = b;
    const int d = memcmp(x->digest, y->digest, MD5_SIZE);
    return d ? d : (x->which > y->which) - (x->which < y->which);
}

spt_status tfds_write_order(const char *split, const char *const *key, size_t n, uint32_t *which,
                            spt_err *err)
{
    struct hashed *h = mem_alloc(n + 1, sizeof *h);
    if (!h)
        return err_nomem(err, n * sizeof *h);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        buf text;
        buf_init(&text, 1 << 20);
        buf_adds(&text, split);
        buf_adds(&text, key[i]);
        st = buf_status(&text, "key", err);
        md5_of(buf_str(&text), text.len, h[i].digest);
        h[i].which = (uint32_t)i;
        buf_release(&text);
    }
    if (n)
        qsort(h, n, sizeof *h, by_digest);
    for (size_t i = 0; i < n && !st; i++)
        which[i] = h[i].which;
    mem_free(h);
    return st;
}

uint64_t tfds_shard_count(uint64_t bytes, uint64_t records)
{
    const uint64_t total = bytes + 16 * records;
    const uint64_t most = total >> 26, least = total >> 30; /* 64 MB and 1 GB a shard */
    if (least <= 1024 && 1024 <= most && records >= 1024)
        return 1024;
    for (uint64_t n = 2048; least > 1024 && n <= records; n += 1024)
        if (n >= least)
            return n;
    for (uint64_t n = 512; n >= 2; n /= 2)
        if (n >= least && n <= most && n <= records)
            return n;
    return 1;
}
