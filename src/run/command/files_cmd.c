/* Commands on files, without a model: inspect, convert, extract; and tokenize. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "data/records.h"
#include "run/engine.h"
#include "run/places.h"
#include "run/prompt_session.h"
#include "store/npy.h"
#include "store/store.h"
#include "text/json.h"
#include "text/number.h"

enum { TEXT_MAX = 1 << 30, MAX_LINE = 1 << 26 };

/* --- inspect ----------------------------------------------------------------------------------- */

struct tensor_facts {
    hash128 hash;
    double norm, min, max;
    bool is_float;
};

static spt_status look_at(store *s, size_t i, struct tensor_facts *out, spt_err *err)
{
    struct store_data d = {0};
    TRY(store_load(s, i, &d, err));
    const struct store_info *info = store_at(s, i);
    struct tensor_facts f = {.hash = hash_bytes(d.view.data, info->bytes), .min = INFINITY,
                             .max = -INFINITY, .is_float = dtype_is_float(info->dtype)};
    float block[1024];
    double squares = 0;
    for (size_t at = 0; f.is_float && at < info->elements; at += 1024) {
        const size_t n = info->elements - at < 1024 ? info->elements - at : 1024;
        tensor_to_f32(&d.view, at, n, block);
        for (size_t k = 0; k < n; k++) {
            squares += (double)block[k] * block[k];
            f.min = fmin(f.min, block[k]);
            f.max = fmax(f.max, block[k]);
        }
    }
    f.norm = sqrt(squares);
    store_release(s, &d);
    *out = f;
    return SPT_OK;
}

static void put_tensor_text(buf *out, const struct store_info *info, const struct tensor_facts *f)
{
    char shape[SHAPE_TEXT], hash[HASH_TEXT];
    buf_addf(out, "  %-56s %-9s %-18s", info->name, dtype_name(info->dtype),
             shape_text(&info->shape, shape));
    if (f->is_float && info->elements)
        buf_addf(out, " norm %-11.6g min %-11.4g max %-11.4g", f->norm, f->min, f->max);
    buf_addf(out, " %.16s\n", hash_text(f->hash, hash));
}

static void put_tensor_json(json_writer *w, const struct store_info *info,
                            const struct tensor_facts *f)
{
    char hash[HASH_TEXT];
    json_begin_object(w);
    json_key(w, "name");
    json_string(w, info->name);
    json_key(w, "dtype");
    json_string(w, dtype_name(info->dtype));
    json_key(w, "shape");
    json_begin_array(w);
    for (int k = 0; k < info->shape.rank; k++)
        json_i64(w, info->shape.dim[k]);
    json_end_array(w);
    json_key(w, "bytes");
    json_u64(w, info->bytes);
    json_key(w, "hash");
    json_string(w, hash_text(f->hash, hash));
    if (f->is_float && info->elements) {
        json_key(w, "norm");
        json_f64(w, f->norm);
        json_key(w, "min");
        json_f64(w, f->min);
        json_key(w, "max");
        json_f64(w, f->max);
    }
    json_end_object(w);
}

static void put_meta(buf *text, json_writer *w, store *s, bool json)
{
    const size_t n = store_meta_count(s);
    if (json) {
        json_key(w, "metadata");
        json_begin_object(w);
    }
    for (size_t i = 0; i < n; i++) {
        const struct store_meta *m = store_meta_at(s, i);
        if (json) {
            json_key(w, m->key);
            json_string(w, m->value);
        } else {
            buf_addf(text, "  %s: ", m->key);
            for (const char *p = m->value; *p; p++) {
                if (*p == '\n')
                    buf_adds(text, p[1] ? "; " : "");
                else
                    buf_addc(text, (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p);
            }
            buf_addc(text, '\n');
        }
    }
    if (json)
        json_end_object(w);
}

static spt_status inspect_store(const char *path, store *s, bool json, buf *text, spt_err *err)
{
    json_writer w;
    json_write_init(&w, text, JSON_SPACED);
    if (json) {
        json_begin_object(&w);
        json_key(&w, "file");
        json_string(&w, path);
        json_key(&w, "kind");
        json_string(&w, store_kind(s));
        if (store_step(s) >= 0) {
            json_key(&w, "step");
            json_i64(&w, store_step(s));
        }
    } else {
        buf_addf(text, "%s: %s, %zu tensor%s", path, store_kind(s), store_count(s),
                 store_count(s) == 1 ? "" : "s");
        if (store_step(s) >= 0)
            buf_addf(text, ", step %lld", (long long)store_step(s));
        buf_addc(text, '\n');
    }
    put_meta(text, &w, s, json);
    if (json) {
        json_key(&w, "tensors");
        json_begin_array(&w);
    }
    for (size_t i = 0; i < store_count(s); i++) {
        struct tensor_facts f;
        TRY(look_at(s, i, &f, err));
        if (json)
            put_tensor_json(&w, store_at(s, i), &f);
        else
            put_tensor_text(text, store_at(s, i), &f);
    }
    if (json) {
        json_end_array(&w);
        json_end_object(&w);
        buf_addc(text, '\n');
    }
    return SPT_OK;
}

static spt_status inspect_vocab(const char *path, const vocab *v, bool json, buf *text)
{
    if (!json) {
        buf_addf(text, "%s: vocabulary, %d ids (%d in the file), %s\n  pad %d, eos %d, unk %d, hash %s\n",
                 path, vocab_size(v), vocab_base_size(v), vocab_rule_text(v), vocab_pad_id(v),
                 vocab_eos_id(v), vocab_unk_id(v), vocab_hash(v));
        return SPT_OK;
    }
    json_writer w;
    json_write_init(&w, text, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "file");
    json_string(&w, path);
    json_key(&w, "kind");
    json_string(&w, "vocabulary");
    json_key(&w, "size");
    json_i64(&w, vocab_size(v));
    json_key(&w, "rule");
    json_string(&w, vocab_rule_text(v));
    json_key(&w, "hash");
    json_string(&w, vocab_hash(v));
    json_end_object(&w);
    buf_addc(text, '\n');
    return SPT_OK;
}

/* A directory that holds a prompt stands for it, a run directory for its best one. */
static spt_status inspect_one(const struct settings *s, const char *path, buf *text, spt_err *err)
{
    const bool json = s->json;
    const struct store_opts opts = {.npy_bf16 = s->npy_bf16};
    store *file = NULL;
    buf best;
    buf_init(&best, 65536);
    const char *at = path;
    spt_status st = SPT_OK;
    for (int side = 0; !st && side < 2 && at == path && fs_is_dir(path); side++) {
        buf_clear(&best);
        st = prompt_resolve(path, side ? PROMPT_DECODER : PROMPT_ENCODER, &best, err);
        if (!st && strcmp(buf_str(&best), path) != 0)
            at = buf_str(&best);
    }
    if (!st)
        st = store_open(at, &opts, &file, err);
    if (!st)
        st = inspect_store(at, file, json, text, err);
    store_close(file);
    if (st == SPT_E_FORMAT && !fs_is_dir(at)) {
        vocab *v;
        spt_err why;
        const spt_status found = vocab_open(at, NULL, &v, &why);
        if (!found) {
            buf_clear(text);
            st = inspect_vocab(at, v, json, text);
            vocab_close(v);
        } else if (found != SPT_E_FORMAT) { /* of a file of neither kind the first complaint counts */
            st = found;
            if (err)
                *err = why;
        }
    }
    buf_release(&best);
    return st;
}

spt_status run_inspect(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!s->arguments)
        return err_set(err, SPT_E_USAGE, "which file? spt inspect FILE");
    for (size_t i = 0; i < s->arguments; i++) {
        buf text;
        buf_init(&text, TEXT_MAX);
        char *path = NULL;
        spt_status st = place_find(s, s->argument[i], HUB_ANY, &path, err);
        if (!st)
            st = inspect_one(s, path, &text, err);
        mem_free(path);
        if (!st)
            st = output_text(out, &text, err);
        buf_release(&text);
        TRY(st);
    }
    return SPT_OK;
}

/* --- convert, extract ---------------------------------------------------------------------------- */

static spt_status shape_of_base(const struct settings *s, struct prompt_write_opts *o,
                                int64_t *width, spt_err *err)
{
    if (!s->model || !s->model[0])
        return SPT_OK;
    t5_source *source;
    char *path = NULL;
    TRY(place_find(s, s->model, HUB_MODEL, &path, err));
    const spt_status st = t5_source_open(path, NULL, &source, err);
    mem_free(path);
    TRY(st);
    o->num_heads = t5_source_config(source)->heads;
    o->num_layers = t5_source_config(source)->enc_layers;
    *width = t5_source_config(source)->width;
    t5_source_close(source);
    return SPT_OK;
}

spt_status run_convert(struct settings *s, struct run_output *out, spt_err *err)
{
    (void)out;
    const char *to = s->output && s->output[0] ? s->output
                     : s->arguments > 1        ? s->argument[1]
                                               : NULL;
    if (!s->arguments || !to || s->arguments > (to == s->output ? 1u : 2u))
        return err_set(err, SPT_E_USAGE, "spt convert IN OUT");
    struct prompt *p = NULL;
    enum prompt_format format;
    struct prompt_write_opts opts = {.force = s->force};
    struct prompt_dropped dropped = {0};
    TRY(prompt_format_of(to, &format, err));
    int64_t width = 0;
    TRY(shape_of_base(s, &opts, &width, err));
    TRY(prompt_open(s, s->argument[0], width, &p, err));
    spt_status st = prompt_write(p, to, format, &opts, &dropped, err);
    if (!st && dropped.count) {
        char text[400];
        prompt_dropped_text(&dropped, text, sizeof text);
        log_warning("%s cannot keep %s", prompt_format_name(format), text);
    }
    if (!st)
        log_info("%s: %lld x %lld, %s", to, (long long)p->P, (long long)p->E,
                 prompt_format_name(format));
    prompt_free(p);
    return st;
}

/* As the reference's extract_variable: a leading "target/" or "/" is optional. */
static bool find_variable(const store *s, const char *name, size_t *index)
{
    if (store_find(s, name, index))
        return true;
    while (*name == '/')
        name++;
    if (store_find(s, name, index) || (!strncmp(name, "target/", 7) && store_find(s, name + 7, index)))
        return true;
    char with[512];
    snprintf(with, sizeof with, "target/%s", name);
    return store_find(s, with, index);
}

struct wanted {
    const store *s;
    const char *name;
};

/* As the user writes names: "target/" is optional. */
static const char *store_name_at(void *ctx, size_t i)
{
    const struct wanted *w = ctx;
    const char *name = i < store_count(w->s) ? store_at(w->s, i)->name : NULL;
    const bool cut = name && !strncmp(name, "target/", 7) && strncmp(w->name, "target/", 7);
    return cut ? name + 7 : name;
}

spt_status run_extract(struct settings *s, struct run_output *out, spt_err *err)
{
    (void)out;
    const char *to = s->output && s->output[0] ? s->output
                     : s->arguments > 2        ? s->argument[2]
                                               : NULL;
    if (s->arguments < 2 || !to || s->arguments > (to == s->output ? 2u : 3u))
        return err_set(err, SPT_E_USAGE, "spt extract CHECKPOINT VARIABLE OUT.npy");
    store *st_in;
    const struct store_opts opts = {.npy_bf16 = s->npy_bf16};
    char *path = NULL;
    TRY(place_find(s, s->argument[0], HUB_ANY, &path, err));
    spt_status st = store_open(path, &opts, &st_in, err);
    mem_free(path);
    TRY(st);
    size_t i;
    if (!find_variable(st_in, s->argument[1], &i)) {
        struct wanted w = {st_in, s->argument[1] + strspn(s->argument[1], "/")};
        const char *near = nearest_word(w.name, store_name_at, &w);
        st = err_set(err, SPT_E_CONFIG, "%s has no variable \"%s\"%s%s (see `spt inspect %s`)",
                     s->argument[0], s->argument[1], near ? "; the nearest is " : "",
                     near ? near : "", s->argument[0]);
    }
    struct store_data d = {0};
    float *widened = NULL;
    if (!st)
        st = store_load(st_in, i, &d, err);
    if (!st && d.view.dtype == DT_BF16) { /* NumPy has no name for bfloat16 */
        const size_t n = store_at(st_in, i)->elements;
        widened = mem_alloc(n, sizeof *widened);
        if (!widened)
            st = err_nomem(err, n * sizeof *widened);
        else
            tensor_to_f32(&d.view, 0, n, widened);
    }
    if (!st) {
        struct tensor_view v = d.view;
        if (widened) {
            v.dtype = DT_F32;
            v.data = widened;
        }
        char shape[SHAPE_TEXT];
        st = npy_write(to, &v, err);
        if (!st)
            log_info("%s: %s %s", to, dtype_name(v.dtype), shape_text(&v.shape, shape));
    }
    mem_free(widened);
    store_release(st_in, &d);
    store_close(st_in);
    return st;
}

/* --- tokenize --------------------------------------------------------------------------------------- */

static void put_pieces(buf *out, const vocab *v, const struct vocab_ids *ids, bool json,
                       const char *text, size_t len)
{
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    if (json) {
        json_begin_object(&w);
        json_key(&w, "text");
        json_string_n(&w, text, len);
        json_key(&w, "pieces");
        json_begin_array(&w);
        for (size_t i = 0; i < ids->count; i++) {
            size_t n;
            const char *piece = vocab_piece(v, ids->id[i], &n);
            json_string_n(&w, piece, n);
        }
        json_end_array(&w);
        json_key(&w, "ids");
        json_begin_array(&w);
        for (size_t i = 0; i < ids->count; i++)
            json_i64(&w, ids->id[i]);
        json_end_array(&w);
        json_end_object(&w);
        buf_addc(out, '\n');
        return;
    }
    for (size_t i = 0; i < ids->count; i++) {
        size_t n;
        const char *piece = vocab_piece(v, ids->id[i], &n);
        buf_addf(out, "%s%d:%.*s", i ? " " : "", ids->id[i], (int)n, piece);
    }
    buf_addc(out, '\n');
}

struct id_line {
    int32_t *id;
    size_t count, cap;
};

static spt_status add_id(struct id_line *l, int64_t id, spt_err *err)
{
    if (id < 0 || id > INT32_MAX)
        return err_set(err, SPT_E_FORMAT, "%lld is no id", (long long)id);
    TRY(mem_grow(&l->id, &l->cap, l->count + 1, sizeof *l->id, 1 << 26, err));
    l->id[l->count++] = (int32_t)id;
    return SPT_OK;
}

/* Ids separated by spaces or commas, each optionally followed by ":piece". */
static spt_status parse_ids(const char *text, size_t len, struct id_line *out, spt_err *err)
{
    for (size_t i = 0; i < len;) {
        if (text[i] == ' ' || text[i] == ',' || text[i] == '\t') {
            i++;
            continue;
        }
        int64_t v = 0;
        size_t digits = 0;
        while (i < len && text[i] >= '0' && text[i] <= '9' && digits < 10) {
            v = v * 10 + (text[i++] - '0');
            digits++;
        }
        if (!digits)
            return err_set(err, SPT_E_FORMAT, "byte %zu: not an id", i + 1);
        while (i < len && text[i] != ' ' && text[i] != ',' && text[i] != '\t')
            i++;
        TRY(add_id(out, v, err));
    }
    return SPT_OK;
}

/* {"ids": [1, 2]} as tokenize --json writes it; other keys are passed over. */
static spt_status parse_object(const char *text, size_t len, struct id_line *out, spt_err *err)
{
    json_reader r;
    bool more, items, found = false;
    struct json_event key, item;
    json_open(&r, text, len, 0);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        if (!json_is(&key, "ids")) {
            st = json_skip(&r, err);
            continue;
        }
        found = true;
        st = json_enter_array(&r, err);
        while (!st && !(st = json_next_item(&r, &items, &item, err)) && items) {
            int64_t id;
            if (item.kind != JSON_NUMBER || !number_i64(item.text, item.len, &id))
                st = json_error(&r, item.offset, err, "an id must be a whole number");
            else
                st = add_id(out, id, err);
        }
    }
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    return st || found ? st : err_set(err, SPT_E_FORMAT, "no key \"ids\"");
}

static spt_status decode_line(const struct settings *s, const vocab *v, const char *text,
                              size_t len, struct id_line *l, buf *out, spt_err *err)
{
    l->count = 0;
    TRY(len && text[0] == '{' ? parse_object(text, len, l, err) : parse_ids(text, len, l, err));
    for (size_t i = 0; i < l->count; i++)
        if (l->id[i] >= vocab_size(v))
            return err_set(err, SPT_E_FORMAT, "id %d is not in 0 .. %d of this vocabulary",
                           (int)l->id[i], (int)vocab_size(v) - 1);
    if (!s->json) {
        TRY(vocab_decode(v, l->id, l->count, out, err));
        buf_addc(out, '\n');
        return SPT_OK;
    }
    buf back;
    buf_init(&back, MAX_LINE);
    spt_status st = vocab_decode(v, l->id, l->count, &back, err);
    st = st ? st : buf_status(&back, "text", err);
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "ids");
    json_begin_array(&w);
    for (size_t i = 0; i < l->count; i++)
        json_i64(&w, l->id[i]);
    json_end_array(&w);
    json_key(&w, "text");
    json_string_n(&w, buf_str(&back), back.len);
    json_end_object(&w);
    buf_addc(out, '\n');
    buf_release(&back);
    return st;
}

static spt_status tokenize_line(const struct settings *s, const vocab *v, const char *text,
                                size_t len, const records *r, struct vocab_ids *ids, buf *out,
                                spt_err *err)
{
    struct id_line l = {0};
    spt_status st;
    if (s->decode) {
        st = decode_line(s, v, text, len, &l, out, err);
    } else {
        ids->count = 0;
        st = vocab_encode(v, text, len, ids, err);
        if (!st)
            put_pieces(out, v, ids, s->json, text, len);
    }
    mem_free(l.id);
    return st ? err_wrap(err, st, "%s: line %llu", records_path(r),
                         (unsigned long long)records_line(r))
              : SPT_OK;
}

spt_status run_tokenize(struct settings *s, struct run_output *out, spt_err *err)
{
    char *from = NULL;
    TRY(place_vocab(s, &from, err));
    vocab *v = NULL;
    records *r = NULL;
    size_t slot;
    struct vocab_ids ids = {0};
    buf text;
    buf_init(&text, MAX_LINE);
    const struct records_options o = {
        .path = s->arguments ? s->argument[0] : "-", .lines = true, .header = HEADER_NO};
    spt_status st = vocab_open(from, NULL, &v, err);
    if (!st) {
        log_info("%s: %s", vocab_path(v), vocab_rule_text(v));
        st = records_open(&o, &r, err);
    }
    if (!st)
        st = records_column(r, "1", &slot, err);
    bool more = true;
    while (!st && more) {
        const char *line;
        size_t len;
        st = records_next(r, &more, err);
        if (!st && more)
            st = records_field(r, slot, &line, &len, err);
        buf_clear(&text);
        if (!st && more)
            st = tokenize_line(s, v, line, len, r, &ids, &text, err);
        if (!st && more)
            st = output_text(out, &text, err);
    }
    records_close(r);
    vocab_ids_release(&ids);
    vocab_close(v);
    mem_free(from);
    buf_release(&text);
    return st;
}
