/* Reading a prompt from whatever holds one. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "fs/fs.h"
#include "prompt/prompt_internal.h"
#include "prompt/prompt_io.h"
#include "store/peft.h"
#include "store/safetensors.h"
#include "text/number.h"

enum { MAX_PATH = 1 << 16 };

/* Names under which a prompt is stored, by side; the first that a store holds is taken. */
static const char *const tensor_names[2][6] = {
    {"target/" PROMPT_T5X_ENCODER, PROMPT_T5X_ENCODER, "encoder.prompt.prompt.prompt",
     "prompt_embeddings", NULL},
    {"target/" PROMPT_T5X_DECODER, PROMPT_T5X_DECODER, "decoder.prompt.prompt.prompt", NULL},
};
static const char *const numpy_names[2] = {"encoder.prompt.prompt.prompt",
                                           "decoder.prompt.prompt.prompt"};
static const char *const torch_names[2] = {"encoder.pt", "decoder.pt"};

/* --- which file ---------------------------------------------------------------------------- */

static spt_status is_there(const char *dir, const char *name, bool *there, buf *path, spt_err *err)
{
    buf_clear(path);
    TRY(path_join(path, dir, name, err));
    TRY(buf_status(path, "path", err));
    *there = fs_exists(buf_str(path));
    return SPT_OK;
}

/* The checkpoint_<step> of the highest step below dir; "" when there is none. */
static spt_status latest_checkpoint(const char *dir, buf *path, spt_err *err)
{
    fs_names names = {0};
    static const char head[] = "checkpoint_";
    int64_t best = -1, step;
    const char *name = NULL;
    TRY(fs_list(dir, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        const char *n = names.name[i];
        if (!strncmp(n, head, sizeof head - 1) &&
            number_i64(n + sizeof head - 1, strlen(n) - (sizeof head - 1), &step) && step > best) {
            best = step;
            name = n;
        }
    }
    buf_clear(path);
    spt_status st = SPT_OK;
    if (name)
        st = path_join(path, dir, name, err);
    fs_names_free(&names);
    return st ? st : buf_status(path, "path", err);
}

/* The numpy file below a directory: its own, of its latest checkpoint, or of numpy_checkpoints. */
static spt_status find_numpy(const char *dir, enum prompt_side side, bool *found, buf *path,
                             spt_err *err)
{
    TRY(is_there(dir, numpy_names[side], found, path, err));
    if (*found)
        return SPT_OK;
    buf sub, latest;
    buf_init(&sub, MAX_PATH);
    buf_init(&latest, MAX_PATH);
    bool deeper = false;
    spt_status st = is_there(dir, "numpy_checkpoints", &deeper, &sub, err);
    const char *parent = deeper ? buf_str(&sub) : dir;
    const bool is_numpy_dir = deeper || !strcmp(path_base(dir), "numpy_checkpoints");
    if (!st && is_numpy_dir)
        st = latest_checkpoint(parent, &latest, err);
    if (!st && latest.len)
        st = is_there(buf_str(&latest), numpy_names[side], found, path, err);
    buf_release(&sub);
    buf_release(&latest);
    return st;
}

spt_status prompt_resolve(const char *path, enum prompt_side side, buf *out, spt_err *err)
{
    bool there;
    buf_adds(out, path);
    TRY(buf_status(out, "path", err));
    if (!fs_is_dir(path))
        return SPT_OK;
    TRY(is_there(path, "adapter_config.json", &there, out, err));
    if (!there) {
        buf_clear(out);
        const spt_status st = prompt_best_path(path, out, err);
        if (st != SPT_E_NOTFOUND)
            return st;
        TRY(is_there(path, torch_names[side], &there, out, err));
        if (there)
            return SPT_OK;
        TRY(find_numpy(path, side, &there, out, err));
        if (there)
            return SPT_OK;
    }
    buf_clear(out);
    buf_adds(out, path);
    return buf_status(out, "path", err);
}

/* --- shape and values ---------------------------------------------------------------------- */

static bool looks_transposed(int64_t P, int64_t E)
{
    return P > E && ((E % 4 && P % 4 == 0) || (E < 32 && P >= 128 && P % 64 == 0));
}

static spt_status check_shape(const struct store_info *t, const struct prompt_read_opts *o,
                              int64_t *P, int64_t *E, spt_err *err)
{
    char text[SHAPE_TEXT];
    const struct tensor_shape *s = &t->shape;
    if (s->rank < 1 || s->rank > 2)
        return err_set(err, SPT_E_FORMAT, "tensor '%s' has shape %s; a prompt is [rows, width]%s",
                       t->name, shape_text(s, text),
                       s->rank == 3 ? ": take one element of the first dimension" : "");
    *P = s->rank == 2 ? s->dim[0] : 1;
    *E = s->dim[s->rank - 1];
    if (*P < 1 || *E < 1)
        return err_set(err, SPT_E_FORMAT, "tensor '%s' has shape %s: no rows, no prompt", t->name,
                       shape_text(s, text));
    if (o->width && *E != o->width)
        return err_set(err, SPT_E_FORMAT,
                       "the prompt has shape %s, the model has width %lld%s", shape_text(s, text),
                       (long long)o->width,
                       *P == o->width ? "; it looks transposed: save the array's .T" : "");
    if (!o->width && !o->any_shape && looks_transposed(*P, *E))
        return err_set(err, SPT_E_FORMAT,
                       "the prompt has shape %s, which looks transposed ([rows, width] is wanted): "
                       "save the array's .T, or name the model so that its width decides",
                       shape_text(s, text));
    return SPT_OK;
}

static void warn_of_zero_rows(const char *name, const float *rows, int64_t P, int64_t E)
{
    int64_t zero = 0, first = -1;
    for (int64_t i = 0; i < P; i++) {
        bool any = false;
        for (int64_t j = 0; j < E && !any; j++)
            any = rows[i * E + j] != 0;
        if (!any && !zero++)
            first = i;
    }
    if (zero)
        log_warning("%s: %lld of %lld prompt rows are all zero (the first is row %lld)", name,
                    (long long)zero, (long long)P, (long long)first);
}

static spt_status read_values(store *s, size_t i, int64_t P, int64_t E, struct prompt **out,
                              spt_err *err)
{
    struct store_data d = {0};
    size_t at;
    TRY(store_load(s, i, &d, err));
    spt_status st = SPT_OK;
    if (view_find_nonfinite(&d.view, &at))
        st = err_set(err, SPT_E_FORMAT,
                     "row %zu, column %zu of the prompt (counted from 0) is NaN, infinite or beyond "
                     "float32",
                     at / (size_t)E, at % (size_t)E);
    const size_t n = store_at(s, i)->elements;
    float *rows = st ? NULL : mem_alloc_aligned(n, sizeof *rows);
    if (!st && !rows)
        st = err_nomem(err, n * sizeof *rows);
    if (!st) {
        tensor_to_f32(&d.view, 0, n, rows);
        st = prompt_new(P, E, rows, NULL, out, err);
    }
    mem_free_aligned(rows);
    store_release(s, &d);
    return st;
}

/* --- stores -------------------------------------------------------------------------------- */

static spt_status choose_tensor(const store *s, const struct prompt_read_opts *o, size_t *index,
                                spt_err *err)
{
    if (o->tensor)
        return store_find(s, o->tensor, index)
                   ? SPT_OK
                   : err_set(err, SPT_E_NOTFOUND, "no tensor '%s' among %zu", o->tensor,
                             store_count(s));
    for (const char *const *n = tensor_names[o->side]; *n; n++)
        if (store_find(s, *n, index))
            return SPT_OK;
    *index = 0;
    if (store_count(s) == 1)
        return SPT_OK;
    return err_set(err, SPT_E_FORMAT,
                   "no prompt among %zu tensors: looked for %s, %s (the first tensor is '%s')",
                   store_count(s), tensor_names[o->side][1], numpy_names[o->side],
                   store_count(s) ? store_at(s, 0)->name : "");
}

/* The step that stands in ".../checkpoint_<step>/<numpy name>", which the file itself lacks. */
static int64_t step_of_path(const char *path)
{
    static const char head[] = "checkpoint_";
    const char *end = path_base(path);
    int64_t step;
    if (strcmp(end, numpy_names[0]) != 0 && strcmp(end, numpy_names[1]) != 0)
        return -1;
    while (end > path && end[-1] == '/')
        end--;
    const char *name = end;
    while (name > path && name[-1] != '/')
        name--;
    const size_t n = (size_t)(end - name), h = sizeof head - 1;
    return n > h && !memcmp(name, head, h) && number_i64(name + h, n - h, &step) ? step : -1;
}

static spt_status read_store(store *s, const char *path, const struct prompt_read_opts *o,
                             struct prompt **out, spt_err *err)
{
    size_t i;
    int64_t P, E;
    struct prompt *p = NULL;
    TRY(choose_tensor(s, o, &i, err));
    TRY(check_shape(store_at(s, i), o, &P, &E, err));
    TRY(read_values(s, i, P, E, &p, err));
    p->use.side = o->side;
    p->use.step = store_step(s) >= 0 ? store_step(s) : step_of_path(path);
    spt_status st = prompt_meta_read(s, path, &p->use, err);
    if (!st)
        st = prompt_set_text(&p->kind, store_kind(s), err);
    if (st)
        prompt_free(p);
    else
        *out = p;
    return st;
}

/* Our provenance, when the adapter was written by us. */
static spt_status read_peft_meta(const char *dir, struct prompt_use *use, spt_err *err)
{
    buf path;
    bool there;
    store *s = NULL;
    buf_init(&path, MAX_PATH);
    spt_status st = is_there(dir, "adapter_model.safetensors", &there, &path, err);
    if (!st && there)
        st = safetensors_open(buf_str(&path), NULL, &s, err);
    if (!st && s)
        st = prompt_meta_read(s, dir, use, err);
    store_close(s);
    buf_release(&path);
    return st;
}

static spt_status fill_peft(const char *dir, const struct peft_prompt *a, struct prompt *p,
                            spt_err *err)
{
    if (a->second_half_used)
        log_warning("%s: the adapter holds %lld more rows that differ from zero; PEFT never uses "
                    "them on T5 and they are left out", dir, (long long)a->P);
    if (a->base_model[0])
        TRY(prompt_set_text(&p->use.base_name, a->base_model, err));
    TRY(read_peft_meta(dir, &p->use, err));
    return prompt_set_text(&p->kind, "peft", err);
}

static spt_status read_peft(const char *dir, const struct prompt_read_opts *o, struct prompt **out,
                            spt_err *err)
{
    struct peft_prompt a = {0};
    struct prompt *p = NULL;
    const struct peft_opts po = {.task = o->task};
    if (o->side == PROMPT_DECODER)
        return err_set(err, SPT_E_FORMAT, "a PEFT adapter holds no decoder prompt");
    TRY(peft_prompt_read(dir, &po, &a, err));
    struct store_info t = {.name = "prompt_embeddings", .shape = shape_2d(a.P, a.E)};
    int64_t P, E;
    spt_status st = check_shape(&t, o, &P, &E, err);
    if (!st)
        st = prompt_new(P, E, a.rows, NULL, &p, err);
    if (!st)
        st = prompt_check_values(p, err);
    if (!st)
        st = fill_peft(dir, &a, p, err);
    peft_prompt_release(&a);
    if (st)
        prompt_free(p);
    else
        *out = p;
    return st;
}

static spt_status read_resolved(const char *path, const struct prompt_read_opts *o,
                                struct prompt **out, spt_err *err)
{
    if (peft_probe(path, NULL, 0, 0) && fs_is_dir(path))
        return read_peft(path, o, out, err);
    store *s = NULL;
    const struct store_opts so = {.npy_bf16 = o->npy_bf16};
    TRY(store_open(path, &so, &s, err));
    const spt_status st = read_store(s, path, o, out, err);
    store_close(s);
    return st;
}

spt_status prompt_read(const char *path, const struct prompt_read_opts *opts, struct prompt **out,
                       spt_err *err)
{
    static const struct prompt_read_opts none;
    const struct prompt_read_opts *o = opts ? opts : &none;
    struct prompt *p = NULL;
    spt_err local = {0};
    buf real;
    buf_init(&real, MAX_PATH);
    spt_status st = prompt_resolve(path, o->side, &real, &local);
    if (!st)
        st = read_resolved(buf_str(&real), o, &p, &local);
    if (!st)
        st = prompt_set_text(&p->source, buf_str(&real), &local);
    if (!st)
        warn_of_zero_rows(buf_str(&real), p->rows, p->P, p->E);
    if (st) {
        const char *name = real.len ? buf_str(&real) : path;
        if (!strstr(local.msg, name))
            err_wrap(&local, st, "%s", name);
        if (err)
            *err = local;
        prompt_free(p);
    } else {
        *out = p;
    }
    buf_release(&real);
    return st;
}
