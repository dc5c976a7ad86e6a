/* Records are sorted by the hash of their keys (store/spill), because the order of a data set is
 * known only at its end. Everything goes to <version>.tmp-<random>, which is renamed when it is
 * whole and synced. The writer holds a lock on that directory; what writers that died left behind
 * has no lock and is removed by the next one.
 *
 * In a bucket nothing can be renamed at once: there the directory appears with dataset_info.json
 * (fs/savedir.h), the object <version>.lock keeps two writers apart, and what has to be sorted lies
 * in <version>.tmp-<random> below the cache's directory "scratch". */
#include "task/tfds_write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "codec/digest.h"
#include "fs/fs.h"
#include "fs/savedir.h"
#include "store/spill.h"
#include "store/tfrecord.h"
#include "task/tf_example.h"
#include "task/tfds.h"
#include "task/tfds_features.h"
#include "text/json.h"

enum {
    MAX_SPLITS = 64,
    MAX_SHARDS = 1 << 20,
    MAX_PATH = 4096,
    MAX_NAME = 256,
    MAX_KEY = 1 << 16,
    BUDGET = 8 << 20
};
#define INFO "dataset_info.json"

struct split {
    char name[MAX_NAME];
    spill *records;
    size_t shards;
    bool keyed;
};

struct tfds_writer {
    char dir[MAX_PATH], tmp[MAX_PATH + 32], parent[MAX_PATH], data_dir[MAX_PATH];
    char dataset[MAX_NAME], config[MAX_NAME], version[64];
    struct split split[MAX_SPLITS];
    size_t splits, budget;
    const struct tfds_feature *feature;
    size_t features;
    const char *description;
    buf example;
    int lock;     /* of tmp; -1: none yet */
    bool far;     /* the data directory is in a bucket */
    fs_lock *own; /* far: of the version; NULL: not claimed yet */
    savedir *save; /* far: what is on its way there */
    char scratch[MAX_PATH]; /* where tmp lies */
};

static bool usable(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= 'A' && s[i] <= 'Z') &&
            !(s[i] >= '0' && s[i] <= '9') && !strchr("_-.", s[i]))
            return false;
    return len > 0 && len < MAX_NAME && s[0] != '.';
}

/* "name[/config]:version" */
static spt_status parse_name(tfds_writer *w, const char *name, spt_err *err)
{
    const char *colon = strchr(name, ':'), *slash = strchr(name, '/');
    const char *end = slash ? slash : colon;
    if (!colon || (slash && slash > colon) || !usable(name, (size_t)(end - name)) ||
        (slash && !usable(slash + 1, (size_t)(colon - slash - 1))) ||
        !usable(colon + 1, strlen(colon + 1)) || strlen(colon + 1) >= sizeof w->version)
        return err_set(err, SPT_E_CONFIG, "'%s' is no data set name (name[/config]:1.0.0)", name);
    memcpy(w->dataset, name, (size_t)(end - name));
    if (slash)
        memcpy(w->config, slash + 1, (size_t)(colon - slash - 1));
    memcpy(w->version, colon + 1, strlen(colon + 1));
    return SPT_OK;
}

/* Next to the result, if that is on a disk. */
static spt_status find_scratch(tfds_writer *w, spt_err *err)
{
    buf dir;
    if (!w->far) {
        memcpy(w->scratch, w->parent, sizeof w->scratch);
        return SPT_OK;
    }
    buf_init(&dir, sizeof w->scratch - 16);
    const spt_status st = fs_cache_dir(&dir, err);
    snprintf(w->scratch, sizeof w->scratch, "%.4000s/scratch", buf_str(&dir));
    buf_release(&dir);
    return st;
}

spt_status tfds_writer_new(const char *data_dir, const char *name, tfds_writer **out, spt_err *err)
{
    uint64_t salt = 0;
    tfds_writer *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    w->lock = -1;
    w->budget = BUDGET;
    buf_init(&w->example, SIZE_MAX / 4);
    spt_status st = parse_name(w, name, err);
    const int random = st ? 0 : os_random(&salt, sizeof salt);
    if (random < 0)
        st = err_sys(err, SPT_E_IO, -random, "no random number for %s", name);
    if (!st && strlen(data_dir) + strlen(name) + 64 >= MAX_PATH)
        st = err_set(err, SPT_E_CONFIG, "the path of data set %s is too long", name);
    if (st) {
        mem_free(w);
        return st;
    }
    snprintf(w->data_dir, sizeof w->data_dir, "%s", data_dir);
    snprintf(w->parent, sizeof w->parent, "%.3000s/%s%s%s", data_dir, w->dataset,
             *w->config ? "/" : "", w->config);
    snprintf(w->dir, sizeof w->dir, "%.3700s/%s", w->parent, w->version);
    w->far = !savedir_is_whole(data_dir);
    st = find_scratch(w, err);
    if (st) {
        mem_free(w);
        return st;
    }
    snprintf(w->tmp, sizeof w->tmp, "%.3900s/%s.tmp-%016llx", w->scratch, w->version,
             (unsigned long long)salt);
    *out = w;
    return SPT_OK;
}

/* What a writer that died left in a bucket goes; nothing to do on disk, where the temporary directory
 * is what is claimed. */
spt_status tfds_writer_claim(tfds_writer *w, spt_err *err)
{
    char path[MAX_PATH + 8], who[200], host[128] = "", holder[256] = "", prefix[80];
    if (!w->far || w->own)
        return SPT_OK;
    snprintf(path, sizeof path, "%s.lock", w->dir);
    snprintf(prefix, sizeof prefix, "%s", w->version);
    os_hostname(host, sizeof host);
    snprintf(who, sizeof who, "process %d on %s\n", os_getpid(), host);
    const spt_status st = fs_lock_take(path, who, &w->own, holder, sizeof holder, err);
    if (st && holder[0])
        return err_set(err, SPT_E_CONFIG, "%s is being written by another command (%s)", w->dir,
                       holder);
    TRY(st);
    return savedir_sweep(w->parent, prefix, INFO, err);
}

void tfds_writer_features(tfds_writer *w, const struct tfds_feature *f, size_t n,
                          const char *description)
{
    w->feature = f;
    w->features = n;
    w->description = description;
}

void tfds_writer_budget(tfds_writer *w, size_t bytes)
{
    w->budget = bytes;
}

const char *tfds_writer_dir(const tfds_writer *w)
{
    return w->dir;
}

/* Directories that were made for nothing go again; those with anything in them stay. */
static void remove_empty(const tfds_writer *w)
{
    char dir[MAX_PATH];
    os_rmdir(w->scratch);
    if (*w->config && !w->far) {
        snprintf(dir, sizeof dir, "%.3000s/%s", w->data_dir, w->dataset);
        os_rmdir(dir);
    }
}

void tfds_writer_abort(tfds_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->splits; i++)
        spill_close(w->split[i].records);
    savedir_abort(w->save);
    fs_lock_release(w->own);
    if (w->lock >= 0) {
        fs_remove_tree(w->tmp, NULL);
        os_close(w->lock);
        remove_empty(w);
    }
    buf_release(&w->example);
    mem_free(w);
}

/* --- the temporary directory --------------------------------------------------------------- */

static bool is_temporary(const tfds_writer *w, const char *name)
{
    const size_t n = strlen(w->version);
    return strncmp(name, w->version, n) == 0 && strncmp(name + n, ".tmp-", 5) == 0 &&
           strspn(name + n + 5, "0123456789abcdef") == 16 && !name[n + 21];
}

/* Of writers that died. A locked one is at work. */
static spt_status remove_abandoned(const tfds_writer *w, spt_err *err)
{
    fs_names names = {0};
    TRY(fs_list(w->scratch, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        char path[MAX_PATH + MAX_NAME];
        if (!is_temporary(w, names.name[i]))
            continue;
        snprintf(path, sizeof path, "%s/%.200s", w->scratch, names.name[i]);
        const int fd = os_open(path, OS_READ | OS_DIR);
        if (fd < 0)
            continue;
        if (os_lock(fd) >= 0) {
            log_info("%s: left by a command that was interrupted; removed", path);
            fs_remove_tree(path, NULL);
        }
        os_close(fd);
    }
    fs_names_free(&names);
    return SPT_OK;
}

static spt_status begin(tfds_writer *w, spt_err *err)
{
    if (w->lock >= 0)
        return SPT_OK;
    TRY(fs_make_dirs(w->scratch, err));
    spt_status st = remove_abandoned(w, err);
    const int made = st ? 0 : os_mkdir(w->tmp);
    if (made < 0)
        st = err_sys(err, SPT_E_IO, -made, "cannot create directory %s", w->tmp);
    if (!st) {
        const int fd = os_open(w->tmp, OS_READ | OS_DIR);
        if (fd < 0) {
            st = err_sys(err, SPT_E_IO, -fd, "cannot open %s", w->tmp);
            os_rmdir(w->tmp);
        } else {
            os_lock(fd); /* where there are no locks nobody removes it, either */
            w->lock = fd;
        }
    }
    if (st)
        remove_empty(w);
    return st;
}

/* --- adding -------------------------------------------------------------------------------- */

static struct split *existing(tfds_writer *w, const char *name)
{
    for (size_t i = 0; i < w->splits; i++)
        if (strcmp(w->split[i].name, name) == 0)
            return &w->split[i];
    return NULL;
}

static spt_status find_split(tfds_writer *w, const char *name, bool keyed, struct split **out,
                             spt_err *err)
{
    struct split *s = existing(w, name);
    if (s) {
        *out = s;
        return SPT_OK;
    }
    if (w->splits == MAX_SPLITS || !usable(name, strlen(name)))
        return err_set(err, SPT_E_CONFIG, "split '%s' cannot be written", name);
    s = &w->split[w->splits];
    *s = (struct split){.keyed = keyed};
    memcpy(s->name, name, strlen(name) + 1);
    TRY(spill_new(w->tmp, name, w->budget, &s->records, err));
    w->splits++;
    *out = s;
    return SPT_OK;
}

uint64_t tfds_writer_count(const tfds_writer *w, const char *split)
{
    const struct split *s = existing((tfds_writer *)w, split);
    return s ? spill_count(s->records) : 0;
}

static spt_status hash_of(const struct split *s, const char *key, uint8_t out[MD5_SIZE],
                          spt_err *err)
{
    buf text;
    if (!s->keyed) {
        const uint64_t n = spill_count(s->records);
        memset(out, 0, MD5_SIZE);
        for (int i = 0; i < 8; i++)
            out[MD5_SIZE - 1 - i] = (uint8_t)(n >> (8 * i));
        return SPT_OK;
    }
    buf_init(&text, MAX_KEY);
    buf_adds(&text, s->name);
    for (const char *p = key; *p;
         p++) /* TFDS takes keys for paths, in whose place they may stand */
        buf_addc(&text, *p == '\\' ? '/' : *p);
    const spt_status st = buf_status(&text, "key", err);
    md5_of(buf_str(&text), text.len, out);
    buf_release(&text);
    return st;
}

spt_status tfds_writer_add(tfds_writer *w, const char *split, const record *r, const char *key,
                           spt_err *err)
{
    struct split *s = NULL;
    uint8_t hash[MD5_SIZE];
    TRY(find_split(w, split, key != NULL, &s, err));
    TRY(hash_of(s, key ? key : "", hash, err));
    buf_clear(&w->example);
    TRY(tf_example_write(r, &w->example, err));
    TRY(buf_status(&w->example, "example", err));
    if (spill_bytes(s->records) + w->example.len > w->budget / 2) /* a run may be written */
        TRY(begin(w, err));
    return spill_add(s->records, hash, buf_str(&w->example), w->example.len, err);
}

/* --- writing ------------------------------------------------------------------------------ */

/* Where the files of the version are put until all are there. */
static const char *place_of(const tfds_writer *w)
{
    return w->save ? savedir_path(w->save) : w->tmp;
}

static uint64_t shard_end(uint64_t records, uint64_t k, uint64_t shards)
{
    return (uint64_t)rint((double)records * (double)k / (double)shards);
}

static uint64_t shard_length(const struct split *s, uint64_t k)
{
    const uint64_t n = spill_count(s->records);
    return shard_end(n, k + 1, s->shards) - shard_end(n, k, s->shards);
}

static spt_status write_shard(const tfds_writer *w, struct split *s, size_t k, uint8_t *last,
                              spt_err *err)
{
    char path[MAX_PATH + 700];
    tfrecord_writer *t;
    snprintf(path, sizeof path, "%s/%s-%s.tfrecord-%05zu-of-%05zu", place_of(w), w->dataset,
             s->name, k, s->shards);
    TRY(tfrecord_create(path, &t, err));
    spt_status st = SPT_OK;
    for (uint64_t i = 0, n = shard_length(s, k); i < n && !st; i++) {
        const uint8_t *key;
        const void *data;
        size_t size;
        st = spill_next(s->records, &key, &data, &size, err);
        if (st || NEVER(!data))
            break;
        if (s->keyed && (i || k) && memcmp(key, last, SPILL_KEY) == 0)
            st = err_set(err, SPT_E_FORMAT, "split %s has two examples with the same key", s->name);
        memcpy(last, key, SPILL_KEY);
        if (!st)
            st = tfrecord_add(t, data, size, err);
    }
    if (st) {
        tfrecord_abort(t);
        return st;
    }
    return tfrecord_commit(t, err);
}

static spt_status write_split(const tfds_writer *w, struct split *s, size_t shards, spt_err *err)
{
    uint8_t last[SPILL_KEY];
    s->shards = shards ? shards
                       : (size_t)tfds_shard_count(spill_bytes(s->records), spill_count(s->records));
    if (s->shards > MAX_SHARDS)
        return err_set(err, SPT_E_CONFIG, "%zu shards", s->shards);
    TRY(spill_sort(s->records, err));
    for (size_t k = 0; k < s->shards; k++)
        TRY(write_shard(w, s, k, last, err));
    return SPT_OK;
}

static void write_count(json_writer *j, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    json_string(j, text);
}

static void write_split_info(json_writer *j, const struct split *s)
{
    json_begin_object(j);
    json_key(j, "filepathTemplate");
    json_string(j, "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}");
    json_key(j, "name");
    json_string(j, s->name);
    json_key(j, "numBytes");
    write_count(j, spill_bytes(s->records));
    json_key(j, "shardLengths");
    json_begin_array(j);
    for (size_t k = 0; k < s->shards; k++)
        write_count(j, shard_length(s, k));
    json_end_array(j);
    json_end_object(j);
}

static void write_text(json_writer *j, const char *key, const char *value)
{
    json_key(j, key);
    json_string(j, value);
}

static spt_status place(const tfds_writer *w, const char *name, const buf *text, spt_err *err)
{
    char path[MAX_PATH + 600];
    snprintf(path, sizeof path, "%s/%.500s", w->tmp, name);
    TRY(buf_status(text, name, err));
    if (w->save)
        return savedir_file(w->save, name, buf_str(text), text->len, err);
    return fs_write_all(path, buf_str(text), text->len, err);
}

static spt_status write_info(const tfds_writer *w, spt_err *err)
{
    json_writer j;
    buf text;
    buf_init(&text, 1 << 26);
    json_write_init(&j, &text, JSON_PYTHON);
    j.indent = 2;
    json_begin_object(&j);
    if (*w->config)
        write_text(&j, "configName", w->config);
    if (w->description)
        write_text(&j, "description", w->description);
    write_text(&j, "fileFormat", "tfrecord");
    write_text(&j, "name", w->dataset);
    json_key(&j, "splits");
    json_begin_array(&j);
    for (size_t i = 0; i < w->splits; i++)
        write_split_info(&j, &w->split[i]);
    json_end_array(&j);
    write_text(&j, "version", w->version);
    json_end_object(&j);
    buf_addc(&text, '\n');
    const spt_status st = place(w, INFO, &text, err);
    buf_release(&text);
    return st;
}

static spt_status write_features(const tfds_writer *w, spt_err *err)
{
    buf text, name;
    if (!w->features)
        return SPT_OK;
    buf_init(&text, 1 << 20);
    buf_init(&name, 300);
    spt_status st = tfds_features_json(w->feature, w->features, &text, err);
    if (!st)
        st = place(w, "features.json", &text, err);
    for (size_t i = 0; i < w->features && !st; i++) {
        const struct tfds_feature *f = &w->feature[i];
        if (f->kind != FEATURE_CLASS || !*f->classes[0])
            continue;
        buf_clear(&text);
        buf_clear(&name);
        buf_addf(&name, "%s.labels.txt", f->path);
        for (size_t k = 0; f->classes[k]; k++)
            buf_addf(&text, "%s\n", f->classes[k]);
        st = buf_status(&name, "file name", err);
        if (!st)
            st = place(w, buf_str(&name), &text, err);
    }
    buf_release(&name);
    buf_release(&text);
    return st;
}

static spt_status begin_far(tfds_writer *w, spt_err *err)
{
    char staged[MAX_PATH + 32];
    struct fs_info info;
    if (!w->far)
        return SPT_OK;
    TRY(tfds_writer_claim(w, err));
    const spt_status found = fs_stat(w->dir, &info, err);
    if (found != SPT_E_NOTFOUND)
        return found ? found : err_set(err, SPT_E_IO, "%s exists already", w->dir);
    TRY(fs_make_dirs(w->parent, err));
    snprintf(staged, sizeof staged, "%s%s", w->dir, strrchr(w->tmp, '.'));
    return savedir_begin(staged, w->dir, INFO, &w->save, err);
}

static spt_status write_all(tfds_writer *w, size_t shards, spt_err *err)
{
    TRY(begin(w, err));
    TRY(begin_far(w, err));
    for (size_t i = 0; i < w->splits; i++)
        TRY(write_split(w, &w->split[i], shards, err));
    TRY(write_features(w, err));
    TRY(write_info(w, err));
    for (size_t i = 0; i < w->splits; i++) {
        spill_close(w->split[i].records);
        w->split[i].records = NULL;
    }
    if (w->save) {
        savedir *save = w->save;
        w->save = NULL;
        TRY(fs_lock_check(w->own, err));
        return savedir_publish(save, err);
    }
    TRY(fs_sync_dir(w->tmp, err));
    struct fs_info info;
    const spt_status found = fs_stat(w->dir, &info, err);
    if (found != SPT_E_NOTFOUND)
        return found ? found : err_set(err, SPT_E_IO, "%s exists already", w->dir);
    TRY(fs_rename(w->tmp, w->dir, err));
    return fs_sync_dir(w->parent, err);
}

spt_status tfds_writer_commit(tfds_writer *w, size_t shards, spt_err *err)
{
    const spt_status st = write_all(w, shards, err);
    tfds_writer_abort(w);
    return st;
}
