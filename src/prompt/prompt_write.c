/* Writing a prompt, and saying what the format cannot keep. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fs/fs.h"
#include "prompt/prompt_internal.h"
#include "prompt/prompt_io.h"
#include "store/npy.h"
#include "store/prompt_file.h"
#include "store/t5x_checkpoint.h"
#include "text/json.h"
#include "text/number.h"

enum { MAX_PATH = 1 << 16 };
#define MAX_HEADER ((size_t)100 << 20)

static const char *const parameter_names[] = {
    [PROMPT_ENCODER] = PROMPT_T5X_ENCODER, [PROMPT_DECODER] = PROMPT_T5X_DECODER};

/* --- formats ------------------------------------------------------------------------------- */

const char *prompt_format_name(enum prompt_format f)
{
    static const char *const names[] = {
        [PROMPT_NPY] = "NumPy .npy", [PROMPT_SAFETENSORS] = "safetensors",
        [PROMPT_T5X_NUMPY] = "T5X numpy checkpoint", [PROMPT_PEFT] = "PEFT adapter"};
    return names[f];
}

/* Step of ".../checkpoint_<step>", or -1; *parent_len: bytes in front of it, without the slash. */
static int64_t checkpoint_step(const char *path, size_t *parent_len)
{
    static const char head[] = "checkpoint_";
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    size_t at = n;
    while (at && path[at - 1] != '/')
        at--;
    int64_t step;
    if (n - at < sizeof head || strncmp(path + at, head, sizeof head - 1) != 0 ||
        !number_i64(path + at + sizeof head - 1, n - at - (sizeof head - 1), &step) || step < 0)
        return -1;
    while (at > 1 && path[at - 1] == '/')
        at--;
    *parent_len = at;
    return step;
}

/* The last component is numpy_checkpoints. */
static bool ends_in_numpy(const char *path, size_t len, size_t *parent_len)
{
    static const char name[] = "numpy_checkpoints";
    const size_t n = sizeof name - 1;
    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len < n || memcmp(path + len - n, name, n) != 0 || (len > n && path[len - n - 1] != '/'))
        return false;
    len -= n;
    while (len > 1 && path[len - 1] == '/')
        len--;
    *parent_len = len;
    return true;
}

spt_status prompt_format_of(const char *path, enum prompt_format *out, spt_err *err)
{
    size_t n;
    if (path_has_suffix(path, ".npy"))
        *out = PROMPT_NPY;
    else if (path_has_suffix(path, ".safetensors"))
        *out = PROMPT_SAFETENSORS;
    else if (checkpoint_step(path, &n) >= 0 || ends_in_numpy(path, strlen(path), &n))
        *out = PROMPT_T5X_NUMPY;
    else if (fs_is_dir(path) || path_has_suffix(path, "/") || path_has_suffix(path, ".peft"))
        *out = PROMPT_PEFT;
    else
        return err_set(err, SPT_E_USAGE,
                       "%s: the name does not say which prompt format to write: FILE.npy, "
                       "FILE.safetensors, DIR/numpy_checkpoints/checkpoint_<step> (T5X) or DIR/ "
                       "(PEFT)",
                       path);
    return SPT_OK;
}

/* --- what is lost -------------------------------------------------------------------------- */

static void lose(struct prompt_dropped *d, const char *what)
{
    if (d->count < sizeof d->what / sizeof *d->what)
        d->what[d->count++] = what;
}

void prompt_dropped_for(const struct prompt *p, enum prompt_format format,
                        struct prompt_dropped *out)
{
    const struct prompt_use *u = &p->use;
    out->count = 0;
    if (format == PROMPT_SAFETENSORS || format == PROMPT_PEFT)
        return; /* both carry the metadata; PEFT ignores it */
#define LOSE(field, key, what) \
    if (u->field)              \
        lose(out, what);
    PROMPT_TEXT_MAP(LOSE)
#undef LOSE
    if (u->labels)
        lose(out, "label set");
#define LOSE(field, key, what)                                                                    \
    if (u->field >= 0 && !(format == PROMPT_T5X_NUMPY && !strcmp(key, "step")))                   \
        lose(out, what);
    PROMPT_NUMBER_MAP(LOSE)
#undef LOSE
    if (u->combine != T5_PREFIX)
        lose(out, "combination with the input");
    if (format == PROMPT_NPY && u->side == PROMPT_DECODER)
        lose(out, "that it is a decoder prompt");
}

void prompt_dropped_text(const struct prompt_dropped *d, char *text, size_t cap)
{
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < d->count && at < cap; i++) {
        const char *sep = !i ? "" : i + 1 == d->count ? " and " : ", ";
        const int n = snprintf(text + at, cap - at, "%s%s", sep, d->what[i]);
        at += n > 0 ? (size_t)n : 0;
    }
}

/* --- safetensors --------------------------------------------------------------------------- */

static void put_header(json_writer *w, const struct prompt *p, const struct prompt_meta *m,
                       size_t bytes)
{
    json_begin_object(w);
    json_key(w, "__metadata__");
    json_begin_object(w);
    json_key(w, "format");
    json_string(w, "pt");
    for (size_t i = 0; i < m->count; i++) {
        json_key(w, m->item[i].key);
        json_string(w, m->item[i].value);
    }
    json_end_object(w);
    json_key(w, parameter_names[p->use.side]);
    json_begin_object(w);
    json_key(w, "dtype");
    json_string(w, "F32");
    json_key(w, "shape");
    json_begin_array(w);
    json_i64(w, p->P);
    json_i64(w, p->E);
    json_end_array(w);
    json_key(w, "data_offsets");
    json_begin_array(w);
    json_u64(w, 0);
    json_u64(w, bytes);
    json_end_array(w);
    json_end_object(w);
    json_end_object(w);
}

/* Length (little endian), header padded to 8 bytes, data. */
static spt_status put_file(const struct prompt *p, const buf *header, size_t bytes, char **out,
                           size_t *size, spt_err *err)
{
    const size_t total = 8 + header->len + bytes;
    char *file = mem_alloc(total, 1);
    if (!file)
        return err_nomem(err, total);
    for (int i = 0; i < 8; i++)
        file[i] = (char)(header->len >> 8 * i & 255);
    memcpy(file + 8, header->data, header->len);
    memcpy(file + 8 + header->len, p->rows, bytes);
    *out = file;
    *size = total;
    return SPT_OK;
}

spt_status prompt_serialize(const struct prompt *p, char **bytes, size_t *size, spt_err *err)
{
    struct prompt_meta m = {0};
    buf header;
    json_writer w;
    size_t elements, data;
    const struct tensor_shape shape = shape_2d(p->P, p->E);
    TRY(tensor_size(DT_F32, &shape, &elements, &data, err));
    TRY(prompt_meta_build(p, &m, err));
    buf_init(&header, MAX_HEADER);
    json_write_init(&w, &header, 0);
    put_header(&w, p, &m, data);
    while (header.len % 8 && !header.st)
        buf_addc(&header, ' ');
    spt_status st = buf_status(&header, "safetensors header", err);
    if (!st)
        st = put_file(p, &header, data, bytes, size, err);
    buf_release(&header);
    prompt_meta_release(&m);
    return st;
}

static spt_status write_safetensors(const struct prompt *p, const char *path, spt_err *err)
{
    char *bytes = NULL;
    size_t size;
    TRY(prompt_serialize(p, &bytes, &size, err));
    const spt_status st = fs_write_all(path, bytes, size, err);
    mem_free(bytes);
    return st;
}

/* --- T5X and PEFT -------------------------------------------------------------------------- */

static spt_status write_t5x(const struct prompt *p, const char *path, spt_err *err)
{
    size_t len = strlen(path), parent;
    int64_t step = checkpoint_step(path, &parent);
    if (step >= 0)
        len = parent;
    else
        step = p->use.step >= 0 ? p->use.step : 0;
    if (ends_in_numpy(path, len, &parent))
        len = parent;
    char *dir = len ? mem_strndup(path, len) : mem_strdup(".");
    if (!dir)
        return err_nomem(err, len + 1);
    const struct t5x_item item = {
        .name = parameter_names[p->use.side],
        .view = {DT_F32, shape_2d(p->P, p->E), p->rows},
    };
    const struct t5x_save save = {
        .step = step, .items = &item, .count = 1, .target_dtype = DT_F32};
    spt_status st = fs_make_dirs(dir, err);
    if (!st)
        st = t5x_write_numpy(dir, &save, err);
    mem_free(dir);
    return st;
}

/* An adapter may take the place of an adapter, but goes into no other directory that has something
 * in it. */
static spt_status check_place(const char *path, bool force, spt_err *err)
{
    fs_names names = {0};
    bool adapter = false;
    if (force || !fs_is_dir(path))
        return SPT_OK;
    TRY(fs_list(path, &names, err));
    for (size_t i = 0; i < names.count; i++)
        adapter |= !strcmp(names.name[i], "adapter_config.json");
    const bool refuse = names.count && !adapter;
    fs_names_free(&names);
    return refuse ? err_set(err, SPT_E_USAGE,
                            "%s is a directory with other files in it and no PEFT adapter: name "
                            "another one, or say --force",
                            path)
                  : SPT_OK;
}

static spt_status write_peft(const struct prompt *p, const char *path,
                             const struct prompt_write_opts *o, spt_err *err)
{
    struct prompt_meta m = {0};
    if (p->use.side == PROMPT_DECODER || p->use.combine != T5_PREFIX)
        return err_set(err, SPT_E_CONFIG,
                       "%s: a PEFT adapter holds an encoder prompt in front of the input; this one %s",
                       path, p->use.side == PROMPT_DECODER ? "belongs to the decoder"
                                                           : "is combined in another way");
    TRY(check_place(path, o->force, err));
    TRY(prompt_meta_build(p, &m, err));
    const struct peft_write_opts po = {
        .num_heads = o->num_heads,
        .num_layers = o->num_layers,
        .base_model = p->use.base_name,
        .submodules = o->peft_submodules,
        .meta = m.item,
        .meta_count = m.count,
    };
    const spt_status st = store_write_prompt_peft(path, p->rows, p->P, p->E, &po, err);
    prompt_meta_release(&m);
    return st;
}

spt_status prompt_write(const struct prompt *p, const char *path, enum prompt_format format,
                        const struct prompt_write_opts *opts, struct prompt_dropped *dropped,
                        spt_err *err)
{
    static const struct prompt_write_opts none;
    const struct prompt_write_opts *o = opts ? opts : &none;
    TRY(prompt_check_values(p, err));
    if (dropped)
        prompt_dropped_for(p, format, dropped);
    switch (format) {
    case PROMPT_NPY:
        return store_write_prompt_npy(path, p->rows, p->P, p->E, err);
    case PROMPT_SAFETENSORS:
        return write_safetensors(p, path, err);
    case PROMPT_T5X_NUMPY:
        return write_t5x(p, path, err);
    case PROMPT_PEFT:
        return write_peft(p, path, o, err);
    }
    return err_set(err, SPT_E_INTERNAL, "prompt format %d", (int)format);
}
