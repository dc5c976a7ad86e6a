#include "run/generate.h"

#include <string.h>

#include "base/log.h"
#include "data/encoder.h"
#include "fs/fs.h"
#include "run/init_prompt.h"

enum { STOP_BYTES = 1 << 20, ANSWER_BYTES = 1 << 26 };

#define M(method) (1u << DECODE_##method)

/* Which searches an option of the table means something to. */
static const struct {
    const char *option;
    unsigned methods;
} meaning[] = {
    {"beams", M(BEAM_T5X) | M(BEAM_HF)},
    {"alpha", M(BEAM_T5X)},
    {"n-best", M(BEAM_T5X) | M(BEAM_HF)},
    {"length-penalty", M(BEAM_HF)},
    {"early-stopping", M(BEAM_HF)},
    {"samples", M(SAMPLE) | M(SAMPLE_T5X)},
    {"temperature", M(SAMPLE) | M(SAMPLE_T5X)},
    {"top-k", M(SAMPLE) | M(SAMPLE_T5X)},
    {"top-p", M(SAMPLE) | M(SAMPLE_T5X)},
    {"repetition-penalty", M(GREEDY) | M(SAMPLE) | M(BEAM_HF)},
    {"no-repeat-ngram", M(GREEDY) | M(SAMPLE) | M(BEAM_HF)},
    {"min-length", M(GREEDY) | M(SAMPLE) | M(BEAM_HF)},
    {"stop", M(GREEDY) | M(SAMPLE) | M(SAMPLE_T5X) | M(BEAM_T5X) | M(BEAM_HF)},
    {"force-prefix", M(GREEDY) | M(SAMPLE) | M(SAMPLE_T5X) | M(BEAM_T5X)},
};
enum { MEANINGS = sizeof meaning / sizeof *meaning };

static const struct {
    const char *name, *text;
    enum decode_method method;
} searches[] = {
    {"greedy", "greedy decoding", DECODE_GREEDY},
    {"sample", "sampling", DECODE_SAMPLE},
    {"sample-t5x", "the reference's sampling", DECODE_SAMPLE_T5X},
    {"beam", "the reference's beam search", DECODE_BEAM_T5X},
    {"beam-hf", "beam search as in Hugging Face", DECODE_BEAM_HF},
};
enum { SEARCHES = sizeof searches / sizeof *searches };

static size_t search_at(enum decode_method m)
{
    size_t i = 0;
    while (searches[i].method != m)
        i++;
    return i;
}

const char *generation_name(const struct generation *g)
{
    return searches[search_at(g->opts.method)].text;
}

bool generation_asked(const struct settings *s)
{
    for (size_t i = 0; i < MEANINGS; i++)
        if (settings_given(s, meaning[i].option))
            return true;
    return s->search && strcmp(s->search, "auto") != 0;
}

static bool as_reference(const struct settings *s)
{
    return s->mode && strcmp(s->mode, "answers") != 0;
}

/* --decode, or the first search that knows an option that was given. */
static enum decode_method choose(const struct settings *s)
{
    for (size_t i = 0; s->search && i < SEARCHES; i++)
        if (!strcmp(s->search, searches[i].name))
            return searches[i].method;
    if (settings_given(s, "length-penalty") || settings_given(s, "early-stopping"))
        return DECODE_BEAM_HF;
    if (settings_given(s, "beams") || settings_given(s, "alpha") || settings_given(s, "n-best"))
        return DECODE_BEAM_T5X;
    if (settings_given(s, "samples") || settings_given(s, "temperature") ||
        settings_given(s, "top-k") || settings_given(s, "top-p"))
        return DECODE_SAMPLE;
    return as_reference(s) ? DECODE_BEAM_T5X : DECODE_GREEDY;
}

static struct decode_opts opts_of(const struct settings *s)
{
    const enum decode_method method = choose(s);
    struct decode_opts o = decode_opts_default(method);
    o.max_len = s->max_output;
    if (!s->search) /* a command without these options: greedy */
        return o;
    const bool beams = method == DECODE_BEAM_T5X || method == DECODE_BEAM_HF;
    const bool samples = method == DECODE_SAMPLE || method == DECODE_SAMPLE_T5X;
    o.beams = !beams ? 1 : as_reference(s) && !settings_given(s, "beams") ? s->n_best : s->beams;
    o.n = beams ? s->n_best : samples ? s->samples : 1;
    o.alpha = s->alpha;
    o.length_penalty = s->length_penalty;
    o.early_stopping = !strcmp(s->early_stopping, "yes")     ? DECODE_EARLY_TRUE
                       : !strcmp(s->early_stopping, "never") ? DECODE_EARLY_NEVER
                                                             : DECODE_EARLY_FALSE;
    o.temperature = s->temperature;
    o.top_k = s->top_k;
    o.top_p = s->top_p;
    if (method == DECODE_SAMPLE_T5X && !settings_given(s, "top-p"))
        o.top_p = 0; /* off, in the reference's spelling */
    o.repetition_penalty = s->repetition_penalty;
    o.no_repeat_ngram = s->no_repeat_ngram;
    o.min_len = s->min_output;
    return o;
}

static spt_status check(const struct settings *s, const struct decode_opts *o, int64_t V,
                        spt_err *err)
{
    for (size_t i = 0; i < MEANINGS; i++)
        if (settings_given(s, meaning[i].option) && !(meaning[i].methods & 1u << o->method))
            return err_set(err, SPT_E_USAGE, "--%s means nothing to --decode %s", meaning[i].option,
                           searches[search_at(o->method)].name);
    if (o->method == DECODE_SAMPLE_T5X && settings_given(s, "top-p") && o->top_p == 0)
        return err_set(err, SPT_E_CONFIG, "--top-p 0 would leave no token to choose");
    return decode_check(o, V, err);
}

spt_status generation_check(const struct settings *s, spt_err *err)
{
    const struct decode_opts o = opts_of(s);
    return check(s, &o, 0, err);
}

/* --- stop texts
 * ------------------------------------------------------------------------------------ */

static spt_status add_stop(struct generation *g, const char *text, size_t len, size_t *cap,
                           spt_err *err)
{
    if (!len)
        return SPT_OK;
    TRY(mem_grow(&g->stop, cap, g->stops + 1, sizeof *g->stop, 1024, err));
    if (!(g->stop[g->stops] = mem_strndup(text, len)))
        return err_nomem(err, len);
    g->stops++;
    return SPT_OK;
}

static spt_status read_stops(struct generation *g, const char *spec, spt_err *err)
{
    size_t cap = 0, size;
    char *text;
    if (spec[0] != '@')
        return add_stop(g, spec, strlen(spec), &cap, err);
    TRY(fs_read_all(spec + 1, STOP_BYTES, &text, &size, err));
    spt_status st = SPT_OK;
    for (const char *p = text; !st && *p;) {
        const size_t len = strcspn(p, "\r\n");
        st = add_stop(g, p, len, &cap, err);
        p += len;
        p += *p != '\0';
    }
    mem_free(text);
    if (!st && !g->stops)
        st = err_set(err, SPT_E_FORMAT, "%s: no stop text", spec + 1);
    return st;
}

size_t generation_cut(const struct generation *g, const char *text, size_t len)
{
    for (size_t i = 0; i < g->stops; i++) {
        const char *at = strstr(text, g->stop[i]);
        if (at && (size_t)(at - text) < len)
            len = (size_t)(at - text);
    }
    return len;
}

/* --- a forced beginning
 * ------------------------------------------------------------------------------ */

static spt_status force(struct generation *g, const char *text, spt_err *err)
{
    struct data_encoder enc;
    struct id_list ids = {0};
    TRY(data_encoder_of_vocab(g->engine->vocab, &enc, err));
    spt_status st = enc.encode(enc.ctx, text, strlen(text), &ids, err);
    g->forced_len = g->opts.max_len + 1;
    if (!st && (int64_t)ids.len >= g->opts.max_len)
        st = err_set(err, SPT_E_CONFIG,
                     "--force-prefix has %zu tokens: with --max-output %lld nothing is left to "
                     "decode",
                     ids.len, (long long)g->opts.max_len);
    if (!st && !(g->forced = mem_zalloc((size_t)g->forced_len, sizeof *g->forced)))
        st = err_nomem(err, (size_t)g->forced_len * sizeof *g->forced);
    for (size_t i = 0; !st && i < ids.len; i++)
        g->forced[i + 1] = ids.id[i];
    id_list_release(&ids);
    data_encoder_release(&enc);
    return st;
}

/* --- opening
 * ------------------------------------------------------------------------------------------- */

/* The reference samples with seed 0 unless told otherwise; ours is drawn and said (rulings 20). */
static spt_status seed(struct generation *g, const struct settings *s, spt_err *err)
{
    const bool given = s->seed && s->seed[0];
    if (g->opts.method == DECODE_SAMPLE && !given) {
        TRY(prompt_seed(s, &g->seed, err));
        log_info("sampling with --seed %u", g->seed);
    } else if (given) {
        TRY(prompt_seed(s, &g->seed, err));
    }
    g->opts.key = rng_key_of(g->seed);
    return SPT_OK;
}

static spt_status open_parts(const struct settings *s, struct generation *g, spt_err *err)
{
    g->opts = opts_of(s);
    g->opts.start_id = g->engine->config.start_id;
    g->opts.eos_id = g->engine->config.eos_id;
    TRY(check(s, &g->opts, g->engine->config.vocab, err));
    TRY(seed(g, s, err));
    if (s->stop && s->stop[0])
        TRY(read_stops(g, s->stop, err));
    if (s->force_prefix && s->force_prefix[0])
        TRY(force(g, s->force_prefix, err));
    return SPT_OK;
}

spt_status generation_open(const struct settings *s, const struct engine *e, struct generation *out,
                           spt_err *err)
{
    struct generation g = {.engine = e};
    const spt_status st = open_parts(s, &g, err);
    if (st) {
        generation_close(&g);
        return st;
    }
    *out = g;
    return SPT_OK;
}

void generation_close(struct generation *g)
{
    for (size_t i = 0; i < g->stops; i++)
        mem_free(g->stop[i]);
    mem_free(g->stop);
    mem_free(g->forced);
    *g = (struct generation){0};
}
