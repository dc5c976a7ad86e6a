/* Finding the vocabulary of a model: by name, in its directory, or one level up. */
#include <string.h>

#include "fs/fs.h"
#include "text/json.h"
#include "vocab/vocab_internal.h"

enum { MAX_CONFIG = 16 << 20 };

static const char *const file_names[] = {"spiece.model", "sentencepiece.model", "tokenizer.model",
                                         "spm.model"};
enum { FILE_NAMES = sizeof file_names / sizeof *file_names };

/* dir/name on the heap. */
static spt_status joined(const char *dir, const char *name, char **out, spt_err *err)
{
    buf b;
    buf_init(&b, 65536);
    spt_status st = path_join(&b, dir, name, err);
    if (!st)
        st = buf_status(&b, "path", err);
    if (!st)
        *out = buf_detach(&b);
    buf_release(&b);
    return st;
}

static spt_status joined_if_there(const char *dir, const char *name, char **out, spt_err *err)
{
    char *path = NULL;
    TRY(joined(dir, name, &path, err));
    if (fs_exists(path) && !fs_is_dir(path))
        *out = path;
    else
        mem_free(path);
    return SPT_OK;
}

/* *yes: the JSON file `name` of the directory has "tokenizer_class": "ByT5Tokenizer". */
static spt_status names_byt5(const char *dir, const char *name, bool *yes, spt_err *err)
{
    char *path = NULL, *text = NULL;
    size_t size;
    TRY(joined_if_there(dir, name, &path, err));
    *yes = false;
    if (!path)
        return SPT_OK;
    spt_status st = fs_read_all(path, MAX_CONFIG, &text, &size, err);
    if (!st) {
        json_reader r;
        bool more, found = false;
        struct json_event key, v;
        json_open(&r, text, size, JSON_PYTHON_NAN);
        st = json_enter_object(&r, err);
        while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
            if (!json_is(&key, "tokenizer_class")) {
                st = json_skip(&r, err);
                continue;
            }
            st = json_next(&r, &v, err);
            found = !st && v.kind == JSON_STRING && json_is(&v, "ByT5Tokenizer");
            if (!st && (v.kind == JSON_OBJECT || v.kind == JSON_ARRAY))
                st = json_skip_rest(&r, &v, err);
        }
        *yes = found;
        json_close(&r);
        st = err_wrap(err, st, "%s", path);
    }
    mem_free(text);
    mem_free(path);
    return st;
}

/* The one *.model file of a directory, when there is exactly one. */
static spt_status only_model(const char *dir, char **out, spt_err *err)
{
    fs_names names = {0};
    const char *found = NULL;
    size_t n = 0;
    TRY(fs_list(dir, &names, err));
    for (size_t i = 0; i < names.count; i++)
        if (path_has_suffix(names.name[i], ".model")) {
            found = names.name[i];
            n++;
        }
    const spt_status st = n == 1 ? joined_if_there(dir, found, out, err) : SPT_OK;
    fs_names_free(&names);
    return st;
}

static spt_status look_for_file(const char *dir, struct vocab_place *p, spt_err *err)
{
    for (int i = 0; i < FILE_NAMES && !p->path; i++)
        TRY(joined_if_there(dir, file_names[i], &p->path, err));
    if (!p->path)
        TRY(only_model(dir, &p->path, err));
    p->kind = PLACE_SPM;
    if (!p->path) {
        TRY(joined_if_there(dir, "tokenizer.json", &p->path, err));
        p->kind = PLACE_TOKENIZER_JSON;
    }
    return SPT_OK;
}

static spt_status look_beside(const char *dir, struct vocab_place *p, spt_err *err)
{
    char *json = NULL;
    mem_free(p->config);
    p->config = NULL;
    TRY(joined_if_there(dir, "tokenizer_config.json", &p->config, err));
    TRY(joined_if_there(dir, "tokenizer.json", &json, err));
    p->has_tokenizer_json = json != NULL;
    mem_free(json);
    return SPT_OK;
}

static spt_status find_in(const char *dir, struct vocab_place *p, bool *found, spt_err *err)
{
    bool in_config = false, in_tokenizer = false;
    TRY(names_byt5(dir, "tokenizer_config.json", &in_tokenizer, err));
    TRY(names_byt5(dir, "config.json", &in_config, err));
    *found = true;
    TRY(look_beside(dir, p, err));
    if (in_config || in_tokenizer) {
        p->kind = PLACE_BYTES;
        p->byt5_config = in_tokenizer;
        p->path = mem_strdup(dir);
        return p->path ? SPT_OK : err_nomem(err, strlen(dir) + 1);
    }
    TRY(look_for_file(dir, p, err));
    *found = p->path != NULL;
    return SPT_OK;
}

/* "dir" of "dir/name" or "dir/name/", "." or "/" where there is none. */
static spt_status parent_of(const char *path, char **out, spt_err *err)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n && path[n - 1] != '/')
        n--;
    while (n > 1 && path[n - 1] == '/')
        n--;
    *out = n ? mem_strndup(path, n) : mem_strdup(".");
    return *out ? SPT_OK : err_nomem(err, n);
}

static bool is_checkpoint_name(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    while (n && path[n - 1] != '/')
        n--;
    return !strncmp(path + n, "checkpoint", 10);
}

static spt_status not_found(const char *path, const char *parent, spt_err *err)
{
    buf names;
    buf_init(&names, 400);
    for (int i = 0; i < FILE_NAMES; i++)
        buf_addf(&names, "%s, ", file_names[i]);
    const spt_status st = err_set(
        err, SPT_E_NOTFOUND,
        "%s: no vocabulary: looked for %sone other *.model, tokenizer.json and a ByT5Tokenizer in "
        "config.json or tokenizer_config.json%s%s%s; name one with --vocab FILE (or --vocab bytes)",
        path, buf_str(&names), parent ? ", there and in " : "", parent ? parent : "",
        parent ? "" : "");
    buf_release(&names);
    return st;
}

static spt_status find_for_directory(const char *path, struct vocab_place *p, spt_err *err)
{
    bool found = false;
    TRY(find_in(path, p, &found, err));
    if (found)
        return SPT_OK;
    if (!is_checkpoint_name(path))
        return not_found(path, NULL, err);
    char *parent = NULL;
    TRY(parent_of(path, &parent, err));
    spt_status st = find_in(parent, p, &found, err);
    if (!st && !found)
        st = not_found(path, parent, err);
    mem_free(parent);
    return st;
}

static spt_status find_file(const char *path, struct vocab_place *p, spt_err *err)
{
    p->kind = path_has_suffix(path, ".json") ? PLACE_TOKENIZER_JSON : PLACE_SPM;
    p->path = mem_strdup(path);
    return p->path ? SPT_OK : err_nomem(err, strlen(path) + 1);
}

spt_status vocab_find(const char *path, struct vocab_place *out, spt_err *err)
{
    struct vocab_place p = {0};
    spt_status st;
    struct fs_info info;
    if (!strcmp(path, "bytes")) {
        p.kind = PLACE_BYTES;
        p.path = mem_strdup(path);
        st = p.path ? SPT_OK : err_nomem(err, 6);
    } else if ((st = fs_stat(path, &info, err)) != SPT_OK) {
        return st;
    } else {
        st = info.is_dir ? find_for_directory(path, &p, err) : find_file(path, &p, err);
    }
    if (st)
        vocab_place_release(&p);
    else
        *out = p;
    return st;
}

void vocab_place_release(struct vocab_place *p)
{
    mem_free(p->path);
    mem_free(p->config);
    *p = (struct vocab_place){0};
}
