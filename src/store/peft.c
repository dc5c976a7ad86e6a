/* PEFT prompt tuning adapters (spec/interop.md section 6). For T5 only the first
 * num_virtual_tokens rows are ever used, by the encoder; num_transformer_submodules (null: 2 for
 * SEQ_2_SEQ_LM) says how many more are in the file. */
#include "store/peft.h"

#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "store/store_internal.h"
#include "text/json.h"

enum {TEXT = sizeof((struct peft_prompt){0}.base_model) };

struct adapter {
    char peft_type[TEXT], task_type[TEXT], base[TEXT];
    int64_t tokens, dim, submodules, ranks; /* -1: absent */
};

static const char *const files[] = {"adapter_model.safetensors", "adapter_model.bin"};

/* --- config ------------------------------------------------------------------------------- */

/* optional: a text that does not fit is as good as unknown. */
static spt_status get_text(json_reader *r, const struct json_event *key, bool optional, char *out,
                           spt_err *err)
{
    struct json_event ev;
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_NULL || (optional && ev.kind == JSON_STRING && ev.len >= TEXT))
        return SPT_OK;
    if (ev.kind == JSON_OBJECT || ev.kind == JSON_ARRAY)
        return json_error(r, ev.offset, err, "%.*s is %s, not a string", (int)key->len, key->text,
                          json_kind_name(ev.kind));
    if (ev.kind != JSON_STRING || ev.len >= TEXT)
        return json_error(r, ev.offset, err, "%.*s is not a string of at most %d bytes",
                          (int)key->len, key->text, TEXT - 1);
    out[json_unescape(&ev, out)] = '\0';
    return SPT_OK;
}

static spt_status get_count(json_reader *r, const struct json_event *key, int64_t *out,
                            spt_err *err)
{
    struct json_event ev;
    int64_t v;
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_NULL)
        return SPT_OK;
    if (ev.kind != JSON_NUMBER || json_to_i64(&ev, &v, NULL) || v < 1 || v > INT32_MAX)
        return json_error(r, ev.offset, err, "%.*s is not a positive integer", (int)key->len,
                          key->text);
    *out = v;
    return SPT_OK;
}

static spt_status read_members(json_reader *r, struct adapter *a, spt_err *err)
{
    struct json_event key;
    bool more;
    TRY(json_enter_object(r, err));
    for (;;) {
        TRY(json_next_key(r, &more, &key, err));
        if (!more)
            return json_finish(r, err);
        if (json_is(&key, "peft_type"))
            TRY(get_text(r, &key, false, a->peft_type, err));
        else if (json_is(&key, "task_type"))
            TRY(get_text(r, &key, false, a->task_type, err));
        else if (json_is(&key, "base_model_name_or_path"))
            TRY(get_text(r, &key, true, a->base, err));
        else if (json_is(&key, "num_virtual_tokens"))
            TRY(get_count(r, &key, &a->tokens, err));
        else if (json_is(&key, "token_dim"))
            TRY(get_count(r, &key, &a->dim, err));
        else if (json_is(&key, "num_transformer_submodules"))
            TRY(get_count(r, &key, &a->submodules, err));
        else if (json_is(&key, "num_ranks"))
            TRY(get_count(r, &key, &a->ranks, err));
        else
            TRY(json_skip(r, err));
    }
}

static spt_status check_config(struct adapter *a, spt_err *err)
{
    if (!a->peft_type[0])
        return err_set(err, SPT_E_FORMAT, "peft_type is missing");
    if (strcmp(a->peft_type, "PROMPT_TUNING") != 0 && strcmp(a->peft_type, "P_TUNING") != 0 &&
        strcmp(a->peft_type, "MULTITASK_PROMPT_TUNING") != 0)
        return err_set(err, SPT_E_FORMAT,
                       "peft_type %s is not a soft prompt (PROMPT_TUNING, P_TUNING or "
                       "MULTITASK_PROMPT_TUNING)",
                       a->peft_type);
    if (a->tokens < 0)
        return err_set(err, SPT_E_FORMAT, "num_virtual_tokens is missing");
    if (strcmp(a->task_type, "SEQ_2_SEQ_LM") != 0)
        log_warning("the adapter's task_type is '%s', not SEQ_2_SEQ_LM: PEFT would not use it for "
                    "a T5 as it stands",
                    a->task_type[0] ? a->task_type : "(absent)");
    if (a->submodules < 0)
        a->submodules = strcmp(a->task_type, "SEQ_2_SEQ_LM") ? 1 : 2;
    if (a->submodules > 2)
        return err_set(err, SPT_E_FORMAT, "num_transformer_submodules is %lld, not 1 or 2",
                       (long long)a->submodules);
    return SPT_OK;
}

static spt_status read_config(const char *path, struct adapter *a, spt_err *err)
{
    char *text = NULL;
    size_t len;
    json_reader r;
    *a = (struct adapter){.tokens = -1, .dim = -1, .submodules = -1, .ranks = -1};
    TRY(fs_read_all(path, PEFT_MAX_CONFIG, &text, &len, err));
    json_open(&r, text, len, JSON_PYTHON_NAN);
    spt_status st = read_members(&r, a, err);
    json_close(&r);
    mem_free(text);
    if (!st)
        st = check_config(a, err);
    return st ? err_wrap(err, st, "%s", path) : SPT_OK;
}

/* --- tensors ------------------------------------------------------------------------------ */

spt_status peft_store_open(const char *dir, const struct store_opts *opts, store **out,
                           spt_err *err)
{
    buf path;
    spt_status st = SPT_E_NOTFOUND;
    for (size_t i = 0; i < sizeof files / sizeof files[0] && st == SPT_E_NOTFOUND; i++) {
        buf_init(&path, 1 << 16);
        st = path_join(&path, dir, files[i], err);
        if (!st)
            st = store_open_file(buf_str(&path), opts, out, err);
        buf_release(&path);
    }
    if (st == SPT_E_NOTFOUND)
        return err_set(err, st,
                       "%s: a PEFT adapter without adapter_model.safetensors or adapter_model.bin",
                       dir);
    return st;
}

/* A tensor of the given rank as float32, or an error that names it. */
static spt_status read_f32(store *s, const char *name, int rank, struct tensor_shape *shape,
                           float **out, spt_err *err)
{
    size_t i;
    char t[SHAPE_TEXT];
    if (!store_find(s, name, &i))
        return err_set(err, SPT_E_FORMAT, "%s: no tensor '%s'", store_path(s), name);
    const struct store_info *info = store_at(s, i);
    if (!dtype_is_float(info->dtype) || info->shape.rank != rank)
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' is %s %s, not floats of rank %d",
                       store_path(s), name, dtype_name(info->dtype), shape_text(&info->shape, t),
                       rank);
    float *p = mem_alloc_aligned(info->elements, sizeof *p);
    if (!p)
        return err_nomem(err, info->elements * sizeof *p);
    const spt_status st = store_read_f32(s, i, p, err);
    if (st) {
        mem_free_aligned(p);
        return st;
    }
    *shape = info->shape;
    *out = p;
    return SPT_OK;
}

static spt_status check_rows(const store *s, const struct adapter *a,
                             const struct tensor_shape *shape, spt_err *err)
{
    const int64_t rows = shape->dim[0];
    if (shape->dim[1] < 1 || (a->dim >= 0 && a->dim != shape->dim[1]))
        return err_set(err, SPT_E_FORMAT, "%s: prompt_embeddings are %lld wide, token_dim is %lld",
                       store_path(s), (long long)shape->dim[1], (long long)a->dim);
    if (rows != a->tokens && (rows % 2 || rows / 2 != a->tokens))
        return err_set(err, SPT_E_FORMAT,
                       "%s: prompt_embeddings have %lld rows, num_virtual_tokens is %lld (rows "
                       "must be once or twice that)",
                       store_path(s), (long long)rows, (long long)a->tokens);
    if (rows != a->tokens * a->submodules)
        log_warning("%s: prompt_embeddings have %lld rows where the adapter's configuration calls "
                    "for %lld; the first %lld are used",
                    store_path(s), (long long)rows, (long long)(a->tokens * a->submodules),
                    (long long)a->tokens);
    return SPT_OK;
}

static bool all_zero(const float *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

/* shared * (cols[task] rows[task]) over all rows of the file, products in double. */
static void multiply_task(float *rows, const struct tensor_shape *shape, const float *cols,
                          const float *task_rows, size_t ranks)
{
    const size_t n = (size_t)shape->dim[0], width = (size_t)shape->dim[1];
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < width; j++) {
            double sum = 0;
            for (size_t k = 0; k < ranks; k++)
                sum += (double)cols[i * ranks + k] * task_rows[k * width + j];
            rows[i * width + j] = (float)(rows[i * width + j] * sum);
        }
    }
}

static spt_status apply_task(store *s, int64_t task, const struct tensor_shape *shape, float *rows,
                             spt_err *err)
{
    struct tensor_shape c = {0}, r = {0};
    float *cols = NULL, *task_rows = NULL;
    spt_status st = read_f32(s, "prefix_task_cols", 3, &c, &cols, err);
    if (!st)
        st = read_f32(s, "prefix_task_rows", 3, &r, &task_rows, err);
    if (!st && (c.dim[1] != shape->dim[0] || r.dim[2] != shape->dim[1] || c.dim[0] != r.dim[0] ||
                c.dim[2] != r.dim[1])) {
        char a[SHAPE_TEXT], b[SHAPE_TEXT];
        st = err_set(err, SPT_E_FORMAT,
                     "%s: prefix_task_cols %s and prefix_task_rows %s do not fit each other",
                     store_path(s), shape_text(&c, a), shape_text(&r, b));
    }
    if (!st && (task < 0 || task >= c.dim[0]))
        st = err_set(err, SPT_E_USAGE, "%s: task %lld of %lld tasks (counted from 0)",
                     store_path(s), (long long)task, (long long)c.dim[0]);
    if (!st) {
        const size_t t = (size_t)task, ranks = (size_t)c.dim[2];
        multiply_task(rows, shape, cols + t * (size_t)c.dim[1] * ranks,
                      task_rows + t * ranks * (size_t)r.dim[2], ranks);
    }
    mem_free_aligned(cols);
    mem_free_aligned(task_rows);
    return st;
}

static spt_status check_finite(const store *s, const float *rows, const struct tensor_shape *shape,
                               spt_err *err)
{
    const struct tensor_view v = {DT_F32, *shape, rows};
    size_t at;
    char t[SHAPE_TEXT];
    if (view_find_nonfinite(&v, &at))
        return err_set(err, SPT_E_FORMAT, "%s: prompt_embeddings %s is not finite", store_path(s),
                       shape_index_text(shape, at, t));
    return SPT_OK;
}

static spt_status read_prompt(store *s, const struct adapter *a, const struct peft_opts *opts,
                              struct peft_prompt *out, spt_err *err)
{
    struct tensor_shape shape = {0};
    struct peft_prompt p = {.P = a->tokens};
    TRY(read_f32(s, "prompt_embeddings", 2, &shape, &p.rows, err));
    spt_status st = check_rows(s, a, &shape, err);
    if (!st && !strcmp(a->peft_type, "MULTITASK_PROMPT_TUNING"))
        st = apply_task(s, opts ? opts->task : 0, &shape, p.rows, err);
    if (!st)
        st = check_finite(s, p.rows, &shape, err);
    if (st) {
        mem_free_aligned(p.rows);
        return st;
    }
    p.E = shape.dim[1];
    p.submodules = shape.dim[0] / a->tokens;
    const size_t used = (size_t)(p.P * p.E);
    p.second_half_used = p.submodules == 2 && !all_zero(p.rows + used, used);
    memcpy(p.base_model, a->base, sizeof p.base_model);
    memcpy(p.peft_type, a->peft_type, sizeof p.peft_type); /* one of three short names */
    p.peft_type[sizeof p.peft_type - 1] = '\0';
    *out = p;
    return SPT_OK;
}

spt_status peft_prompt_read(const char *dir, const struct peft_opts *opts, struct peft_prompt *out,
                            spt_err *err)
{
    static const struct store_opts none;
    struct adapter a;
    store *s = NULL;
    buf path;
    buf_init(&path, 1 << 16);
    spt_status st = path_join(&path, dir, "adapter_config.json", err);
    if (!st)
        st = read_config(buf_str(&path), &a, err);
    buf_release(&path);
    TRY(st);
    TRY(peft_store_open(dir, &none, &s, err));
    st = read_prompt(s, &a, opts, out, err);
    store_close(s);
    return st;
}

void peft_prompt_release(struct peft_prompt *p)
{
    mem_free_aligned(p->rows);
    memset(p, 0, sizeof *p);
}

bool peft_probe(const char *path, const unsigned char *bytes, size_t n, uint64_t size)
{
    (void)n;
    (void)size;
    bool there;
    return !bytes && !store_exists_in(path, "adapter_config.json", &there, NULL) && there;
}
