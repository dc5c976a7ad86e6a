/* spt models: what lies in the hub's cache, and fetching into it. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "model/source.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/engine.h"
#include "run/places.h"
#include "store/hf_config.h"
#include "text/json.h"
#include "vocab/vocab.h"

enum { TEXT_MAX = 1 << 26, PATH_BYTES = 65536 };

/* What a snapshot is to us. */
struct verdict {
    enum { MODEL, ADAPTER, OTHER } kind;
    bool usable, vocab;
    struct t5_config config;
    const char *family; /* of a usable model */
    char why[400];      /* not usable: one line */
};

static bool has(const char *dir, const char *name)
{
    buf path;
    buf_init(&path, PATH_BYTES);
    const bool yes = !path_join(&path, dir, name, NULL) && fs_exists(buf_str(&path));
    buf_release(&path);
    return yes;
}

/* The message without the path in front of it, which the line has already. */
static void set_why(struct verdict *v, const char *dir, const spt_err *why)
{
    const char *p = why->msg, *at;
    const size_t n = strlen(dir);
    while ((at = strstr(p, dir)))
        p = at + n;
    p += strspn(p, "/");
    if (!strncmp(p, ": ", 2))
        p += 2;
    snprintf(v->why, sizeof v->why, "%s", p);
}

/* As config.json calls it: ByT5 is "t5" with a tokenizer of its own. Flan-T5 and the LM-adapted
 * models are T5 1.1 in all that a file says. */
static const char *family_of(const t5_source *source)
{
    const struct t5_config *c = t5_source_config(source);
    const struct hf_config *h = t5_source_hf_config(source);
    if (h && !strncmp(h->tokenizer_class, "ByT5Tokenizer", 13))
        return "ByT5";
    if (h && !strcmp(h->model_type, "mt5"))
        return "mT5";
    if (c->per_layer_bias || (h && !strcmp(h->model_type, "umt5")))
        return "umT5";
    return c->gated ? "T5 1.1" : "T5 1.0";
}

static void judge_model(const char *dir, struct verdict *v)
{
    t5_source *source;
    vocab *words;
    spt_err why = {0};
    if (!has(dir, "config.json")) {
        snprintf(v->why, sizeof v->why, "no config.json (part of a model only)");
        return;
    }
    v->kind = MODEL;
    if (t5_source_open(dir, NULL, &source, &why)) {
        set_why(v, dir, &why);
        return;
    }
    v->config = *t5_source_config(source);
    v->family = family_of(source);
    v->usable = true;
    t5_source_close(source);
    if (!vocab_open(dir, NULL, &words, NULL)) {
        v->vocab = true;
        vocab_close(words);
    }
}

static void judge_adapter(const char *dir, struct verdict *v)
{
    struct prompt *p;
    spt_err why = {0};
    v->kind = ADAPTER;
    if (prompt_read(dir, NULL, &p, &why)) {
        set_why(v, dir, &why);
        return;
    }
    v->usable = true;
    v->config.width = p->E;
    v->config.vocab = p->P; /* rows */
    prompt_free(p);
}

static void judge(const char *dir, struct verdict *v)
{
    *v = (struct verdict){.kind = OTHER};
    log_hold(LOG_HOLD_ALL);
    if (has(dir, "adapter_config.json"))
        judge_adapter(dir, v);
    else
        judge_model(dir, v);
    log_hold(LOG_HOLD_NOTHING);
}

static const char *shape_of(const struct verdict *v, char *text, size_t cap)
{
    const struct t5_config *c = &v->config;
    char count[32];
    if (v->kind == ADAPTER)
        snprintf(text, cap, "prompt of %lld x %lld", (long long)c->vocab, (long long)c->width);
    else
        snprintf(text, cap, "%s, %lld + %lld layers of %lld, %s parameters%s", v->family,
                 (long long)c->enc_layers, (long long)c->dec_layers, (long long)c->width,
                 count_text(config_parameters(c), count),
                 v->vocab ? "" : ", no vocabulary (--vocab)");
    return text;
}

static void put_text(buf *out, const struct hub_entry *e, const struct verdict *v)
{
    char size[32], shape[160], revision[80];
    if (e->refs[0])
        snprintf(revision, sizeof revision, "%s", e->refs);
    else
        snprintf(revision, sizeof revision, "@%.11s", e->commit);
    buf_addf(out, "%-36s %-12s %9s  ", e->name, revision, bytes_text((double)e->bytes, size));
    if (v->usable)
        buf_addf(out, "%s\n", shape_of(v, shape, sizeof shape));
    else
        buf_addf(out, "not usable: %s\n", v->why);
}

static void put_json(buf *out, const struct hub_entry *e, const struct verdict *v)
{
    static const char *const kind[] = {[MODEL] = "model", [ADAPTER] = "adapter", [OTHER] = "other"};
    const struct t5_config *c = &v->config;
    json_writer w;
    json_write_init(&w, out, JSON_SPACED);
    json_begin_object(&w);
    const char *const text[][2] = {{"name", e->name},
                                   {"commit", e->commit},
                                   {"refs", e->refs},
                                   {"path", e->path},
                                   {"kind", kind[v->kind]}};
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        json_key(&w, text[i][0]);
        json_string(&w, text[i][1]);
    }
    json_key(&w, "bytes");
    json_u64(&w, e->bytes);
    json_key(&w, "files");
    json_u64(&w, e->files);
    json_key(&w, "usable");
    json_bool(&w, v->usable);
    if (!v->usable) {
        json_key(&w, "why");
        json_string(&w, v->why);
    } else if (v->kind == ADAPTER) {
        json_key(&w, "rows");
        json_i64(&w, c->vocab);
        json_key(&w, "width");
        json_i64(&w, c->width);
    } else {
        json_key(&w, "family");
        json_string(&w, v->family);
        const struct {
            const char *name;
            int64_t value;
        } number[] = {{"width", c->width},
                      {"encoder_layers", c->enc_layers},
                      {"decoder_layers", c->dec_layers},
                      {"heads", c->heads},
                      {"head_width", c->head_dim},
                      {"feed_forward", c->ff},
                      {"rows", c->vocab},
                      {"parameters", config_parameters(c)}};
        for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
            json_key(&w, number[i].name);
            json_i64(&w, number[i].value);
        }
        json_key(&w, "feed_forward_kind"); /* "gated" alone reads as access control */
        json_string(&w, c->gated ? "gated" : "plain");
        json_key(&w, "vocabulary");
        json_bool(&w, v->vocab);
    }
    json_end_object(&w);
    buf_addc(out, '\n');
}

static spt_status list(struct settings *s, struct run_output *out, spt_err *err)
{
    struct hub_list l = {0};
    buf text, dir;
    buf_init(&text, TEXT_MAX);
    buf_init(&dir, PATH_BYTES);
    spt_status st = hub_cache_dir(&dir, err);
    if (!st)
        st = hub_list_cache(&l, err);
    if (!st && !s->names)
        log_info("%s: %zu snapshot%s", buf_str(&dir), l.count, l.count == 1 ? "" : "s");
    for (size_t i = 0; !st && i < l.count; i++) {
        const struct hub_entry *e = &l.entry[i];
        struct verdict v;
        judge(e->path, &v);
        buf_clear(&text);
        if (s->names && v.usable)
            buf_addf(&text, "%s%s%s\n", e->name, e->refs[0] ? "" : "@",
                     e->refs[0] ? "" : e->commit);
        else if (!s->names)
            (s->json ? put_json : put_text)(&text, e, &v);
        st = output_text(out, &text, err);
    }
    hub_list_release(&l);
    buf_release(&text);
    buf_release(&dir);
    return st;
}

static spt_status get(struct settings *s, struct run_output *out, spt_err *err)
{
    if (s->arguments < 2)
        return err_set(err, SPT_E_USAGE, "which model? spt models get ORG/NAME[@REVISION]");
    for (size_t i = 1; i < s->arguments; i++) {
        char *path = NULL;
        buf text;
        if (!hub_is_name(s->argument[i]))
            return err_set(err, SPT_E_USAGE, "\"%s\" is no name on the hub: ORG/NAME[@REVISION]",
                           s->argument[i]);
        TRY(place_refresh(s, s->argument[i], HUB_ANY, &path, err));
        buf_init(&text, PATH_BYTES);
        buf_addf(&text, "%s\n", path);
        const spt_status st = output_text(out, &text, err);
        buf_release(&text);
        mem_free(path);
        TRY(st);
    }
    return SPT_OK;
}

spt_status run_models(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!s->arguments || (s->arguments == 1 && !strcmp(s->argument[0], "list")))
        return list(s, out, err);
    if (!strcmp(s->argument[0], "get"))
        return get(s, out, err);
    return err_set(err, SPT_E_USAGE, "what is \"%s\" for? spt models [list] | get NAME ...",
                   s->argument[!strcmp(s->argument[0], "list")]);
}
