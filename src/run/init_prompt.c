#include "run/init_prompt.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "os/os.h"
#include "prompt/prompt_io.h"
#include "run/commands.h"
#include "run/dataset.h"
#include "run/plain_code.h"
#include "run/prompt_session.h"
#include "text/json.h"

spt_status prompt_seed(const struct settings *s, uint32_t *seed, spt_err *err)
{
    if (s->seed && s->seed[0]) {
        char *end;
        const unsigned long long v = strtoull(s->seed, &end, 10);
        if (*end || v > UINT32_MAX || s->seed[0] == '-')
            return err_set(err, SPT_E_USAGE, "--seed: \"%s\" is not a number in 0 .. 4294967295",
                           s->seed);
        *seed = (uint32_t)v;
        return SPT_OK;
    }
    const int r = os_random(seed, sizeof *seed);
    return r < 0 ? err_sys(err, SPT_E_IO, -r, "cannot draw a seed") : SPT_OK;
}

static bool is_set(const char *text)
{
    return text && text[0];
}

enum prompt_init_kind prompt_init_choice(const struct settings *s, bool has_labels)
{
    static const struct {
        const char *name;
        enum prompt_init_kind kind;
    } kinds[] = {{"labels", PROMPT_INIT_LABELS},
                 {"vocab", PROMPT_INIT_SAMPLED},
                 {"uniform", PROMPT_INIT_UNIFORM},
                 {"text", PROMPT_INIT_STRING},
                 {"file", PROMPT_INIT_FILE}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, s->init))
            return kinds[i].kind;
    if (names_code(s->init))
        return PROMPT_INIT_CODE;
    return is_set(s->init_file)   ? PROMPT_INIT_FILE
           : is_set(s->init_text) ? PROMPT_INIT_STRING
           : has_labels           ? PROMPT_INIT_LABELS
                                  : PROMPT_INIT_SAMPLED;
}

spt_status prompt_init_check(const struct settings *s, enum prompt_init_kind kind, bool has_labels,
                             spt_err *err)
{
    if (kind == PROMPT_INIT_FILE && !is_set(s->init_file))
        return err_set(err, SPT_E_USAGE, "--init file needs --init-file FILE");
    if (kind == PROMPT_INIT_STRING && !is_set(s->init_text))
        return err_set(err, SPT_E_USAGE, "--init text needs --init-text TEXT");
    if (kind == PROMPT_INIT_LABELS && !has_labels)
        return err_set(err, SPT_E_CONFIG,
                       "--init labels needs a label set: give --labels or another --init");
    return SPT_OK;
}

spt_status prompt_length(const struct settings *s, enum prompt_init_kind kind, int64_t width,
                         int64_t *P, spt_err *err)
{
    if (settings_given(s, "length")) {
        *P = s->length;
        return SPT_OK;
    }
    if (kind != PROMPT_INIT_FILE) {
        *P = width >= 512 ? 100 : width >= 128 ? 20 : 8;
        return SPT_OK;
    }
    struct prompt *p;
    TRY(prompt_open(s, s->init_file, width, &p, err));
    *P = p->P;
    prompt_free(p);
    return SPT_OK;
}

void prompt_place(const struct settings *s, struct prompt_use *u)
{
    u->combine = !strcmp(s->combine, "after-bos") ? T5_PREFIX_AFTER_BOS
                 : !strcmp(s->combine, "suffix")  ? T5_SUFFIX
                                                  : T5_PREFIX;
    u->side = !strcmp(s->side, "decoder") ? PROMPT_DECODER : PROMPT_ENCODER;
}

spt_status prompt_start(const struct settings *s, struct engine *e, const label_set *labels,
                        enum prompt_init_kind kind, int64_t P, uint32_t seed, float *rows,
                        char *text, size_t cap, spt_err *err)
{
    const size_t K = labels ? label_set_count(labels) : 0;
    const char **texts = mem_alloc(K + 1, sizeof *texts);
    if (!texts)
        return err_nomem(err, (K + 1) * sizeof *texts);
    for (size_t i = 0; i < K; i++)
        texts[i] = label_set_text(labels, i);
    if (kind == PROMPT_INIT_STRING)
        texts[0] = s->init_text;
    struct prompt_init sampled, init;
    prompt_init_defaults(&sampled);
    sampled.kind = PROMPT_INIT_SAMPLED;
    sampled.population = s->init_population;
    prompt_init_defaults(&init);
    init.kind = kind;
    init.scale = (float)s->init_scale;
    init.population = s->init_population;
    init.texts = texts;
    init.text_count = kind == PROMPT_INIT_STRING ? 1 : K;
    init.file = s->init_file;
    init.npy_bf16 = s->npy_bf16;
    init.fallback = &sampled; /* rows that no text fills: vocabulary pieces, not noise */
    spt_status st = kind == PROMPT_INIT_CODE ? code_init(s, &init, err) : SPT_OK;
    if (!st)
        prompt_init_text(&init, P, text, cap);

    struct engine_embedding embedding = {0};
    if (!st)
        st = engine_embedding_open(e, &embedding, err);
    if (!st) {
        const struct prompt_init_env env = engine_init_env(&embedding);
        const struct prompt_key_opts key_opts = {
            .side = !strcmp(s->side, "decoder") ? PROMPT_DECODER : PROMPT_ENCODER};
        uint32_t key[2];
        prompt_init_key(seed, &key_opts, key);
        st = prompt_init_run(&init, &env, key, P, e->config.width, rows, err);
    }
    engine_embedding_close(&embedding);
    mem_free(texts);
    return st;
}

static spt_status put_start(const struct settings *s, const struct prompt *p,
                            struct run_output *out, spt_err *err)
{
    buf text;
    json_writer w;
    buf_init(&text, 1 << 20);
    json_write_init(&w, &text, JSON_SPACED);
    json_begin_object(&w);
    json_key(&w, "file");
    json_string(&w, s->output);
    json_key(&w, "rows");
    json_i64(&w, p->P);
    json_key(&w, "width");
    json_i64(&w, p->E);
    json_key(&w, "initialiser");
    json_string(&w, p->use.initialiser);
    json_key(&w, "seed");
    json_i64(&w, p->use.seed);
    json_end_object(&w);
    buf_addc(&text, '\n');
    const spt_status st = output_text(out, &text, err);
    buf_release(&text);
    return st;
}

static spt_status write_start(struct settings *s, struct engine *e, struct run_output *out,
                              spt_err *err)
{
    label_set *labels = NULL;
    uint32_t seed;
    TRY(prompt_seed(s, &seed, err));
    if (is_set(s->labels))
        TRY(label_set_parse(s->labels, &labels, err));
    const enum prompt_init_kind kind = prompt_init_choice(s, labels != NULL);
    const int64_t E = e->config.width;
    int64_t P = 0;
    char text[160];
    struct prompt *p = NULL;
    enum prompt_format format;
    float *rows = NULL;
    spt_status st = prompt_init_check(s, kind, labels != NULL, err);
    if (!st)
        st = prompt_length(s, kind, E, &P, err);
    if (!st && !(rows = mem_alloc_aligned((size_t)(P * E), sizeof *rows)))
        st = err_nomem(err, (size_t)(P * E) * sizeof *rows);
    if (!st)
        st = prompt_format_of(s->output, &format, err);
    if (!st)
        st = prompt_start(s, e, labels, kind, P, seed, rows, text, sizeof text, err);
    if (!st)
        st = prompt_new(P, E, rows, NULL, &p, err);
    if (!st) {
        prompt_place(s, &p->use);
        p->use.seed = seed;
        st = prompt_set_text(&p->use.initialiser, text, err);
    }
    if (!st)
        st = prompt_write(p, s->output, format, NULL, NULL, err);
    if (!st)
        log_info("%s: %lld x %lld, %s, seed %u", s->output, (long long)P, (long long)E, text, seed);
    if (!st && s->json)
        st = put_start(s, p, out, err);
    prompt_free(p);
    mem_free_aligned(rows);
    label_set_free(labels);
    return st;
}

spt_status run_init(struct settings *s, struct run_output *out, spt_err *err)
{
    if (!is_set(s->output))
        return err_set(err, SPT_E_USAGE, "--out FILE is missing");
    struct engine e = {0};
    TRY(engine_open(s, &e, err));
    const spt_status st = write_start(s, &e, out, err);
    engine_close(&e);
    return st;
}
