#include "store/prompt_file.h"

#include <string.h>

#include "fs/fs.h"
#include "store/npy.h"
#include "store/safetensors.h"
#include "text/json.h"

enum { MAX_TEXT = 1 << 20 };

static struct tensor_view view_of(const float *rows, int64_t P, int64_t E)
{
    return (struct tensor_view){DT_F32, shape_2d(P, E), rows};
}

spt_status store_write_prompt_npy(const char *path, const float *rows, int64_t P, int64_t E,
                                  spt_err *err)
{
    const struct tensor_view v = view_of(rows, P, E);
    return npy_write(path, &v, err);
}

spt_status store_write_prompt_safetensors(const char *path, const char *name, const float *rows,
                                          int64_t P, int64_t E, const struct store_meta *meta,
                                          size_t meta_count, spt_err *err)
{
    const struct store_tensor t = {name, view_of(rows, P, E)};
    return safetensors_write(path, &t, 1, meta, meta_count, err);
}

static void put_text(json_writer *w, const char *key, const char *value)
{
    json_key(w, key);
    if (value)
        json_string(w, value);
    else
        json_null(w);
}

static void put_null(json_writer *w, const char *key)
{
    put_text(w, key, NULL);
}

static void put_i64(json_writer *w, const char *key, int64_t value)
{
    json_key(w, key);
    json_i64(w, value);
}

/* The 15 keys that PEFT 0.13.2 writes and accepts, sorted, indented by 2; any other key makes it
 * raise TypeError, and without task_type it ignores the prompt without a word. */
static spt_status put_config(buf *out, int64_t P, int64_t E, const struct peft_write_opts *o,
                             spt_err *err)
{
    json_writer w;
    json_write_init(&w, out, JSON_PYTHON);
    w.indent = 2;
    json_begin_object(&w);
    put_null(&w, "auto_mapping");
    put_text(&w, "base_model_name_or_path", o->base_model);
    json_key(&w, "inference_mode");
    json_bool(&w, true);
    put_i64(&w, "num_attention_heads", o->num_heads);
    put_i64(&w, "num_layers", o->num_layers);
    put_i64(&w, "num_transformer_submodules", o->submodules == 2 ? 2 : 1);
    put_i64(&w, "num_virtual_tokens", P);
    put_text(&w, "peft_type", "PROMPT_TUNING");
    put_text(&w, "prompt_tuning_init", "RANDOM");
    put_null(&w, "prompt_tuning_init_text");
    put_null(&w, "revision");
    put_text(&w, "task_type", "SEQ_2_SEQ_LM");
    put_i64(&w, "token_dim", E);
    put_null(&w, "tokenizer_kwargs");
    put_null(&w, "tokenizer_name_or_path");
    json_end_object(&w);
    return buf_status(out, "adapter_config.json", err);
}

/* "format": "pt" stands first, as PEFT writes it; provenance follows. */
static spt_status put_tensors(const char *path, const float *rows, int64_t P, int64_t E,
                              const struct peft_write_opts *o, spt_err *err)
{
    size_t count, half;
    if (!mul_size((size_t)P, (size_t)E, &half) || !add_size(o->meta_count, 1, &count))
        return err_set(err, SPT_E_USAGE, "a prompt of %lld x %lld", (long long)P, (long long)E);
    struct store_meta *meta = mem_alloc(count, sizeof *meta);
    if (!meta)
        return err_nomem(err, count * sizeof *meta);
    meta[0] = (struct store_meta){"format", "pt"};
    if (o->meta_count)
        memcpy(meta + 1, o->meta, o->meta_count * sizeof *meta);
    spt_status st = SPT_OK;
    float *both = NULL;
    if (o->submodules == 2) {
        both = mem_zalloc(half, 2 * sizeof *both);
        if (both)
            memcpy(both, rows, half * sizeof *both);
        else
            st = err_nomem(err, half * 2 * sizeof *both);
    }
    if (!st)
        st = store_write_prompt_safetensors(path, "prompt_embeddings", both ? both : rows,
                                            both ? 2 * P : P, E, meta, count, err);
    mem_free(both);
    mem_free(meta);
    return st;
}

spt_status store_write_prompt_peft(const char *dir, const float *rows, int64_t P, int64_t E,
                                   const struct peft_write_opts *opts, spt_err *err)
{
    buf path, config;
    if (P < 1 || E < 1 || P > INT32_MAX)
        return err_set(err, SPT_E_USAGE, "a prompt of %lld x %lld", (long long)P, (long long)E);
    buf_init(&path, 1 << 16);
    buf_init(&config, MAX_TEXT);
    spt_status st = fs_make_dirs(dir, err);
    if (!st)
        st = path_join(&path, dir, "adapter_model.safetensors", err);
    if (!st)
        st = put_tensors(buf_str(&path), rows, P, E, opts, err);
    buf_clear(&path);
    if (!st)
        st = path_join(&path, dir, "adapter_config.json", err);
    if (!st)
        st = put_config(&config, P, E, opts, err);
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&config), config.len, err);
    buf_release(&path);
    buf_release(&config);
    return st;
}
