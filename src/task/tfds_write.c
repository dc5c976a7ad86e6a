/* Records are kept encoded until the end, because their order is known only then. */
#include "task/tfds_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "store/tfrecord.h"
#include "task/tf_example.h"
#include "task/tfds.h"
#include "text/json.h"

enum { MAX_RECORDS = 1 << 28, MAX_SPLITS = 64, MAX_PATH = 4096, MAX_NAME = 256 };

struct split {
    char name[MAX_NAME];
    buf bytes;
    size_t *at; /* [records + 1] offsets into bytes */
    char **key; /* NULL entries: no sorting */
    size_t records, at_cap, key_cap;
    bool keyed;
};

struct tfds_writer {
    char dir[MAX_PATH], dataset[MAX_NAME], config[MAX_NAME], version[64];
    struct split split[MAX_SPLITS];
    size_t splits;
};

static bool usable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
            !(s[i] >= '0' && s[i] <= '9') && !strchr("_-.", s[i]))
            return false;
    return len > 0 && len < MAX_NAME && s[0] != '.';
}

spt_status tfds_writer_new(const char *data_dir, const char *name, tfds_writer **out, spt_err *err)
{
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
    if (!colon || (slash && slash > colon))
        return err_set(err, SPT_E_CONFIG, "'%s' is no data set name (name[/config]:1.0.0)", name);
    const char *end = slash ? slash : colon;
    const char *config = slash ? slash + 1 : "";
    const size_t config_len = slash ? (size_t)(colon - config) : 0;
    if (!usable(name, (size_t)(end - name)) || (slash && !usable(config, config_len)) ||
        !usable(colon + 1, strlen(colon + 1)) || strlen(colon + 1) >= 64)
        return err_set(err, SPT_E_CONFIG, "'%s' is no data set name (name[/config]:1.0.0)", name);
    tfds_writer *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    memcpy(w->dataset, name, (size_t)(end - name));
    memcpy(w->config, config, config_len);
    memcpy(w->version, colon + 1, strlen(colon + 1));
    const int n = snprintf(w->dir, sizeof w->dir, "%s/%s/%s%s%s", data_dir, w->dataset, w->config,
                           slash ? "/" : "", w->version);
    if (n < 0 || (size_t)n >= sizeof w->dir) {
        mem_free(w);
        return err_set(err, SPT_E_CONFIG, "the path of data set %s is too long", name);
    }
    *out = w;
    return SPT_OK;
}

void tfds_writer_abort(tfds_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->splits; i++) {
        struct split *s = &w->split[i];
        for (size_t k = 0; k < s->records && s->key; k++)
            mem_free(s->key[k]);
        mem_free(s->key);
        mem_free(s->at);
        buf_release(&s->bytes);
    }
    mem_free(w);
}

static spt_status find_split(tfds_writer *w, const char *name, struct split **out, spt_err *err)
{
    for (size_t i = 0; i < w->splits; i++) {
        *out = &w->split[i];
        if (strcmp(w->split[i].name, name) == 0)
            return SPT_OK;
    }
    if (w->splits == MAX_SPLITS || !usable(name, strlen(name)))
        return err_set(err, SPT_E_CONFIG, "split '%s' cannot be written", name);
    *out = &w->split[w->splits];
    memcpy((*out)->name, name, strlen(name) + 1);
    buf_init(&(*out)->bytes, SIZE_MAX / 4);
    TRY(mem_grow(&(*out)->at, &(*out)->at_cap, 1, sizeof *(*out)->at, MAX_RECORDS, err));
    (*out)->at[0] = 0;
    w->splits++;
    return SPT_OK;
}

spt_status tfds_writer_add(tfds_writer *w, const char *split, const record *r, const char *key,
                           spt_err *err)
{
    struct split *s = NULL;
    TRY(find_split(w, split, &s, err));
    TRY(mem_grow(&s->at, &s->at_cap, s->records + 2, sizeof *s->at, MAX_RECORDS, err));
    TRY(mem_grow(&s->key, &s->key_cap, s->records + 1, sizeof *s->key, MAX_RECORDS, err));
    char *kept = mem_strdup(key ? key : "");
    if (!kept)
        return err_nomem(err, 1);
    const spt_status st = tf_example_write(r, &s->bytes, err);
    if (st) {
        mem_free(kept);
        return st;
    }
    s->key[s->records] = kept;
    s->keyed |= key != NULL;
    s->at[++s->records] = s->bytes.len;
    return SPT_OK;
}

/* --- writing ------------------------------------------------------------------------------ */

static uint64_t shard_end(uint64_t records, uint64_t k, uint64_t shards)
{
    return (uint64_t)rint((double)records * (double)k / (double)shards);
}

static spt_status write_shard(const tfds_writer *w, const struct split *s, const uint32_t *order,
                              size_t k, size_t shards, spt_err *err)
{
    char path[MAX_PATH + 600];
    tfrecord_writer *t;
    snprintf(path, sizeof path, "%s/%s-%s.tfrecord-%05zu-of-%05zu", w->dir, w->dataset, s->name, k,
             shards);
    TRY(tfrecord_create(path, &t, err));
    for (uint64_t i = shard_end(s->records, k, shards); i < shard_end(s->records, k + 1, shards);
         i++) {
        const size_t r = order[i];
        const spt_status st =
            tfrecord_add(t, buf_str(&s->bytes) + s->at[r], s->at[r + 1] - s->at[r], err);
        if (st) {
            tfrecord_abort(t);
            return st;
        }
    }
    return tfrecord_commit(t, err);
}

static spt_status write_split(const tfds_writer *w, const struct split *s, size_t shards,
                              spt_err *err)
{
    uint32_t *order = mem_alloc(s->records + 1, sizeof *order);
    if (!order)
        return err_nomem(err, s->records);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < s->records; i++)
        order[i] = (uint32_t)i;
    if (s->keyed)
        st = tfds_write_order(s->name, (const char *const *)s->key, s->records, order, err);
    for (size_t k = 0; k < shards && !st; k++)
        st = write_shard(w, s, order, k, shards, err);
    mem_free(order);
    return st;
}

static void write_count(json_writer *j, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    json_string(j, text);
}

static spt_status write_info(const tfds_writer *w, size_t shards, spt_err *err)
{
    char path[MAX_PATH + 32];
    json_writer j;
    buf text;
    buf_init(&text, 1 << 24);
    json_write_init(&j, &text, JSON_PYTHON);
    j.indent = 2;
    json_begin_object(&j);
    if (*w->config) {
        json_key(&j, "configName");
        json_string(&j, w->config);
    }
    json_key(&j, "fileFormat");
    json_string(&j, "tfrecord");
    json_key(&j, "name");
    json_string(&j, w->dataset);
    json_key(&j, "splits");
    json_begin_array(&j);
    for (size_t i = 0; i < w->splits; i++) {
        const struct split *s = &w->split[i];
        json_begin_object(&j);
        json_key(&j, "filepathTemplate");
        json_string(&j, "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}");
        json_key(&j, "name");
        json_string(&j, s->name);
        json_key(&j, "numBytes");
        write_count(&j, s->bytes.len);
        json_key(&j, "shardLengths");
        json_begin_array(&j);
        for (size_t k = 0; k < shards; k++)
            write_count(&j,
                        shard_end(s->records, k + 1, shards) - shard_end(s->records, k, shards));
        json_end_array(&j);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_key(&j, "version");
    json_string(&j, w->version);
    json_end_object(&j);
    buf_addc(&text, '\n');
    snprintf(path, sizeof path, "%s/dataset_info.json", w->dir);
    spt_status st = buf_status(&text, "dataset_info.json", err);
    if (!st)
        st = fs_write_all(path, buf_str(&text), text.len, err);
    buf_release(&text);
    return st;
}

spt_status tfds_writer_commit(tfds_writer *w, size_t shards, spt_err *err)
{
    spt_status st = shards ? fs_make_dirs(w->dir, err)
                           : err_set(err, SPT_E_CONFIG, "a split needs at least one shard");
    for (size_t i = 0; i < w->splits && !st; i++)
        st = write_split(w, &w->split[i], shards, err);
    if (!st)
        st = write_info(w, shards, err);
    tfds_writer_abort(w);
    return st;
}
