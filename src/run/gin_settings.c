/* Every function here reads arguments of one configurable. Reading is sticky: after the first
 * complaint nothing more is read, and the caller looks once. Asking for an argument marks its
 * binding as acted on; what is only compared with the one value we have (use_bias = False) is
 * compared, so that it acts, too. */
#include "run/gin_settings.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "run/extensions.h"

struct gs {
    gin_config *c;
    spt_err *err;
    spt_status st;
};

/* --- single arguments ------------------------------------------------------------------------ */

static const char *name_of(const gin_value *o)
{
    const gin_def *d = gin_def_of(o);
    return d ? d->name : gin_kind_name(o);
}

static void complain(struct gs *g, const gin_value *o, const char *name, const gin_value *v,
                     const char *wanted)
{
    buf text;
    if (g->st)
        return;
    buf_init(&text, 4096);
    gin_repr(&text, v);
    const char *scope = gin_scope_of(o);
    g->st = err_set(g->err, SPT_E_CONFIG, "%s%s%s.%s = %.120s: %s", scope, *scope ? "/" : "",
                    name_of(o), name, buf_str(&text), wanted);
    buf_release(&text);
}

/* None when the object has no such argument. */
static gin_value arg(struct gs *g, const gin_value *o, const char *name)
{
    gin_value v = {.kind = GIN_NONE};
    if (!g->st && gin_get(g->c, o, name, &v) && v.kind == GIN_REQUIRED)
        complain(g, o, name, &v, "needs a value");
    return v;
}

static double real(struct gs *g, const gin_value *o, const char *name, double none)
{
    const gin_value v = arg(g, o, name);
    double x = none;
    if (v.kind != GIN_NONE && !gin_as_float(&v, &x))
        complain(g, o, name, &v, "wanted a number");
    return x;
}

static int64_t integer(struct gs *g, const gin_value *o, const char *name, int64_t none)
{
    const gin_value v = arg(g, o, name);
    int64_t x = none;
    double f;
    if (v.kind == GIN_NONE || gin_as_int(&v, &x))
        return x;
    if (gin_as_float(&v, &f) && f == floor(f) && fabs(f) < 9e15)
        return (int64_t)f;
    complain(g, o, name, &v, "wanted a whole number");
    return none;
}

static int64_t positive(struct gs *g, const gin_value *o, const char *name)
{
    const int64_t x = integer(g, o, name, 0);
    if (x < 1 && !g->st) {
        const gin_value v = arg(g, o, name);
        complain(g, o, name, &v, "wanted a number above 0");
    }
    return x;
}

static bool boolean(struct gs *g, const gin_value *o, const char *name, bool none)
{
    const gin_value v = arg(g, o, name);
    bool x = none;
    int64_t i;
    if (v.kind == GIN_NONE || gin_as_bool(&v, &x))
        return x;
    if (gin_as_int(&v, &i))
        return i != 0;
    complain(g, o, name, &v, "wanted True or False");
    return none;
}

static const char *text(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = arg(g, o, name);
    if (v.kind == GIN_NONE)
        return NULL;
    if (!gin_as_str(&v))
        complain(g, o, name, &v, "wanted a string");
    return gin_as_str(&v);
}

static const char *needed_text(struct gs *g, const gin_value *o, const char *name)
{
    const char *s = text(g, o, name);
    if (!s && !g->st) {
        const gin_value v = arg(g, o, name);
        complain(g, o, name, &v, "wanted a string");
    }
    return s ? s : "";
}

/* Only this value is served. */
static void only_bool(struct gs *g, const gin_value *o, const char *name, bool want)
{
    const gin_value v = arg(g, o, name);
    bool x = want;
    if (v.kind != GIN_NONE && (!gin_as_bool(&v, &x) || x != want))
        complain(g, o, name, &v, want ? "only True is supported" : "only False is supported");
}

static void only_none(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = arg(g, o, name);
    if (v.kind != GIN_NONE)
        complain(g, o, name, &v, "only None is supported");
}

static bool is_object(const gin_value *v, const char *path)
{
    return v->kind == GIN_OBJECT && gin_is(v, path);
}

/* "float32" of 'float32', jnp.float32; NULL for None. */
static const char *dtype_text(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = arg(g, o, name);
    if (v.kind == GIN_OPAQUE) {
        const char *dot = strrchr(v.u.s, '.');
        return dot ? dot + 1 : v.u.s;
    }
    if (v.kind != GIN_NONE && !gin_as_str(&v))
        complain(g, o, name, &v, "wanted a dtype such as 'float32'");
    return gin_as_str(&v);
}

/* What a factory makes. The reference's callers supply the parameters named in `given`. */
static gin_value make(struct gs *g, const gin_value *o, const char *name,
                      const char *const *given, size_t n)
{
    gin_value v = arg(g, o, name);
    gin_arg args[16];
    if (g->st || v.kind != GIN_CALLABLE)
        return v;
    for (size_t i = 0; i < n; i++)
        args[i] = (gin_arg){given[i], {.kind = GIN_NONE}};
    g->st = gin_call_value(g->c, &v, "", args, n, &v, g->err);
    return v;
}

static gin_value made(struct gs *g, const gin_value *o, const char *name)
{
    return make(g, o, name, NULL, 0);
}

static void refuse(struct gs *g, const gin_value *v, const char *what, const char *instead)
{
    if (!g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "%s %s is not supported%s%s", what, name_of(v),
                        instead ? ": " : "", instead ? instead : "");
}

/* A list or tuple of strings, or one string. */
static void texts(struct gs *g, const gin_value *o, const char *name, struct gin_texts *out)
{
    const gin_value v = arg(g, o, name);
    if (g->st || v.kind == GIN_NONE)
        return;
    const bool one = gin_as_str(&v) != NULL;
    if (!one && v.kind != GIN_LIST && v.kind != GIN_TUPLE) {
        complain(g, o, name, &v, "wanted a list of strings");
        return;
    }
    const size_t n = one ? 1 : v.count;
    const char **item = mem_zalloc(n + 1, sizeof *item);
    if (!item) {
        g->st = err_nomem(g->err, n * sizeof *item);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        item[i] = one ? gin_as_str(&v) : gin_as_str(&v.u.items[i]);
        if (!item[i])
            complain(g, o, name, &v, "wanted a list of strings");
    }
    mem_free(out->item);
    *out = (struct gin_texts){item, n};
}

/* --- the prompt -------------------------------------------------------------------------------- */

static struct gin_array read_array(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = arg(g, o, name);
    struct gin_array a = {0};
    if (is_object(&v, "prompt_tuning.prompts.np_load")) {
        a.npy = needed_text(g, &v, "path");
    } else if (is_object(&v, "prompt_tuning.prompts.t5x_load")) {
        a.checkpoint = needed_text(g, &v, "checkpoint_path");
        a.variable = needed_text(g, &v, "variable_path");
    } else {
        complain(g, o, name, &v, "wanted @prompts.np_load() or @prompts.t5x_load()");
    }
    return a;
}

static void read_init(struct gs *g, const gin_value *v, struct gin_prompt *p,
                      struct prompt_init *init, bool inner);

static void read_texts_init(struct gs *g, const gin_value *v, struct gin_prompt *p,
                            struct prompt_init *init, bool list)
{
    struct gin_texts t = {0};
    init->kind = list ? PROMPT_INIT_LABELS : PROMPT_INIT_STRING;
    p->embeddings = read_array(g, v, "embeddings");
    (void)arg(g, v, "vocab"); /* the model's own: there is one vocabulary in a run */
    texts(g, v, list ? "texts" : "text", &t);
    mem_free(p->texts);
    p->texts = t.item;
    init->texts = t.item;
    init->text_count = t.count;
    const gin_value fallback = made(g, v, "initializer");
    if (fallback.kind != GIN_NONE) {
        read_init(g, &fallback, p, &p->fallback, true);
        init->fallback = &p->fallback;
    }
}

static void read_init(struct gs *g, const gin_value *v, struct gin_prompt *p,
                      struct prompt_init *init, bool inner)
{
    prompt_init_defaults(init);
    if (extensions_initializer(g->c, v, init)) {
        const gin_value table = arg(g, v, "embeddings");
        if (table.kind == GIN_OBJECT || table.kind == GIN_CALLABLE)
            p->embeddings = read_array(g, v, "embeddings");
    } else if (is_object(v, "flax.linen.initializers.uniform")) {
        init->kind = PROMPT_INIT_UNIFORM;
        init->scale = (float)real(g, v, "scale", 1e-2);
    } else if (v->kind == GIN_OPAQUE && !strcmp(v->u.s, "nn.initializers.uniform()")) {
        init->kind = PROMPT_INIT_UNIFORM;
        init->scale = 1e-2f;
    } else if (is_object(v, "prompt_tuning.prompts.from_sample_of_embeddings")) {
        init->kind = PROMPT_INIT_SAMPLED;
        p->embeddings = read_array(g, v, "embeddings");
        init->population = integer(g, v, "population_size", 0);
    } else if (!inner && is_object(v, "prompt_tuning.prompts.from_embedded_list")) {
        read_texts_init(g, v, p, init, true);
    } else if (!inner && is_object(v, "prompt_tuning.prompts.from_embedded_string")) {
        read_texts_init(g, v, p, init, false);
    } else if (!inner && is_object(v, "prompt_tuning.prompts.from_array")) {
        init->kind = PROMPT_INIT_FILE;
        p->array = read_array(g, v, "prompt");
        init->file = p->array.npy;
    } else {
        refuse(g, v, "the prompt initialiser",
               "there are initializers.uniform, from_sample_of_embeddings, from_embedded_list, "
               "from_embedded_string and from_array");
    }
}

static void read_combine(struct gs *g, const gin_value *wrapper, struct gin_prompt *p)
{
    const gin_value v = arg(g, wrapper, "combine");
    static const char *const caller[] = {"prompt", "x_embed", "x"};
    p->combine = T5_PREFIX;
    if (v.kind == GIN_NONE || v.kind == GIN_OPAQUE ||
        gin_is(&v, "prompt_tuning.train.prompts.prefix_prompt"))
        return;
    if (gin_is(&v, "prompt_tuning.train.prompts.prefix_prompt_after_bos")) {
        p->combine = T5_PREFIX_AFTER_BOS;
    } else if (gin_is(&v, "prompt_tuning.train.prompts.suffix_prompt")) {
        const gin_value o = make(g, wrapper, "combine", caller, 3);
        only_bool(g, &o, "decoder_only", false);
        p->combine = boolean(g, &o, "before_eos", true) ? T5_SUFFIX : T5_SUFFIX_END;
    } else {
        refuse(g, &v, "the combination", NULL);
    }
}

static void read_prompt(struct gs *g, const gin_value *encoder, struct gin_prompt *p)
{
    const gin_value wrapper = made(g, encoder, "prompt_factory");
    if (g->st || wrapper.kind == GIN_NONE)
        return;
    if (!is_object(&wrapper, "prompt_tuning.train.prompts.Prompt")) {
        refuse(g, &wrapper, "the prompt module", NULL);
        return;
    }
    const gin_value prompt = arg(g, &wrapper, "prompt");
    if (!g->st && !is_object(&prompt, "prompt_tuning.prompts.Prompt")) {
        refuse(g, &prompt, "the prompt", NULL);
        return;
    }
    p->P = positive(g, &prompt, "length");
    (void)dtype_text(g, &prompt, "dtype"); /* rows are kept in float32 and used in the model's type */
    const gin_value init = arg(g, &prompt, "prompt_init");
    read_combine(g, &wrapper, p);
    if (!g->st)
        read_init(g, &init, p, &p->init, false);
}

/* --- the network ------------------------------------------------------------------------------- */

static void same(struct gs *g, const gin_value *o, const char *name, int64_t *have, int64_t got)
{
    if (*have && *have != got && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "%s.%s = %lld, elsewhere in the model it is %lld",
                        name_of(o), name, (long long)got, (long long)*have);
    *have = got;
}

/* All dropout sites of the model have one rate here. */
static void same_rate(struct gs *g, const gin_value *o, const char *name, double *rate, double got)
{
    if (*rate >= 0 && *rate != got && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "%s.%s = %g, elsewhere in the model the dropout rate is %g: one rate for "
                        "all sites is supported",
                        name_of(o), name, got, *rate);
    *rate = got;
}

static void read_dropout(struct gs *g, const gin_value *o, const char *factory, double *rate)
{
    const gin_value d = made(g, o, factory);
    if (g->st || d.kind == GIN_NONE)
        return;
    same_rate(g, &d, "rate", rate, real(g, &d, "rate", 0));
    const gin_value dims = arg(g, &d, "broadcast_dims");
    int64_t dim = 0;
    if (*rate > 0 && !(dims.kind == GIN_TUPLE && dims.count == 1 &&
                       gin_as_int(&dims.u.items[0], &dim) && dim == -2))
        complain(g, &d, "broadcast_dims", &dims, "only (-2,) is supported");
}

static void read_attention(struct gs *g, const gin_value *layer, const char *name,
                           struct gin_model *m, double *rate)
{
    const gin_value a = arg(g, layer, name);
    if (g->st)
        return;
    if (!is_object(&a, "flaxformer.components.attention.dense_attention."
                       "MultiHeadDotProductAttention")) {
        refuse(g, &a, "the attention", NULL);
        return;
    }
    same(g, &a, "num_heads", &m->heads, positive(g, &a, "num_heads"));
    same(g, &a, "head_dim", &m->head_dim, positive(g, &a, "head_dim"));
    same_rate(g, &a, "dropout_rate", rate, real(g, &a, "dropout_rate", 0));
    only_bool(g, &a, "use_bias", false);
    only_bool(g, &a, "broadcast_dropout", true);
    only_bool(g, &a, "rescale_logits", false);
    only_bool(g, &a, "use_extra_logit", false);
    only_bool(g, &a, "float32_logits", false);
    only_bool(g, &a, "use_rotary_embedding", false);
    only_none(g, &a, "k_conv");
    only_none(g, &a, "v_conv");
    only_none(g, &a, "q_conv");
    only_none(g, &a, "kernels_to_fuse");
    (void)dtype_text(g, &a, "dtype");
}

static void read_mlp(struct gs *g, const gin_value *layer, struct gin_model *m, double *rate)
{
    const gin_value a = arg(g, layer, "mlp");
    if (g->st)
        return;
    if (!is_object(&a, "flaxformer.components.dense.MlpBlock")) {
        refuse(g, &a, "the feed-forward block", NULL);
        return;
    }
    same(g, &a, "intermediate_dim", &m->ff, positive(g, &a, "intermediate_dim"));
    same_rate(g, &a, "intermediate_dropout_rate", rate,
              real(g, &a, "intermediate_dropout_rate", 0.1));
    if (real(g, &a, "final_dropout_rate", 0) > 0 && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "MlpBlock.final_dropout_rate: only 0 is supported");
    only_bool(g, &a, "use_bias", false);
    only_bool(g, &a, "fuse_kernels", false);
    only_none(g, &a, "intermediate_conv");
    const gin_value acts = arg(g, &a, "activations");
    m->gated = (acts.kind == GIN_TUPLE || acts.kind == GIN_LIST) && acts.count == 2;
    (void)dtype_text(g, &a, "dtype");
}

static void read_layer(struct gs *g, const gin_value *stack, bool decoder, struct gin_model *m,
                       double *rate)
{
    const gin_value layer = made(g, stack, "layer_factory");
    if (g->st)
        return;
    if (!is_object(&layer, decoder
                               ? "flaxformer.architectures.t5.t5_architecture.DecoderLayer"
                               : "flaxformer.architectures.t5.t5_architecture.EncoderLayer")) {
        refuse(g, &layer, "the layer", "per-layer prompts and IA3 cannot be trained here");
        return;
    }
    read_attention(g, &layer, decoder ? "self_attention" : "attention", m, rate);
    if (decoder)
        read_attention(g, &layer, "encoder_decoder_attention", m, rate);
    read_mlp(g, &layer, m, rate);
    read_dropout(g, &layer, "dropout_factory", rate);
    only_bool(g, &layer, "parallel", false);
    only_none(g, &layer, "relative_position_bias_factory");
    (void)made(g, &layer, "layer_norm_factory");
}

static void read_bias(struct gs *g, const gin_value *stack, struct gin_model *m)
{
    const gin_value b = made(g, stack, "shared_relative_position_bias_factory");
    if (g->st)
        return;
    if (!is_object(&b, "flaxformer.components.relative_position_biases.RelativePositionBiases")) {
        refuse(g, &b, "the position bias", NULL);
        return;
    }
    same(g, &b, "num_heads", &m->heads, positive(g, &b, "num_heads"));
    same(g, &b, "num_buckets", &m->buckets, positive(g, &b, "num_buckets"));
    same(g, &b, "max_distance", &m->max_distance, positive(g, &b, "max_distance"));
    (void)dtype_text(g, &b, "dtype");
}

static void read_stack(struct gs *g, const gin_value *stack, bool decoder, struct gin_model *m,
                       double *rate)
{
    *(decoder ? &m->dec_layers : &m->enc_layers) = positive(g, stack, "num_layers");
    only_bool(g, stack, "scan_layers", false);
    only_none(g, stack, "position_embedder_factory");
    (void)dtype_text(g, stack, "dtype");
    read_layer(g, stack, decoder, m, rate);
    read_bias(g, stack, m);
    (void)made(g, stack, "layer_norm_factory");
    if (decoder) {
        read_dropout(g, stack, "dropout_factory", rate);
        const gin_value head = made(g, stack, "output_logits_factory");
        m->head_is_embedding = head.kind != GIN_OBJECT;
        if (head.kind == GIN_OBJECT) {
            only_bool(g, &head, "use_bias", false);
            same(g, &head, "features", &m->vocab, positive(g, &head, "features"));
            (void)dtype_text(g, &head, "dtype");
        }
    } else {
        read_dropout(g, stack, "input_dropout_factory", rate);
        read_dropout(g, stack, "output_dropout_factory", rate);
        (void)arg(g, stack, "add_fake_prompt_factory");
    }
}

static void read_network(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value net = arg(g, model, "module");
    double rate = -1;
    const bool prompted = is_object(&net, "prompt_tuning.train.layers.PromptEncoderDecoder");
    if (!g->st && !prompted &&
        !is_object(&net, "flaxformer.architectures.t5.t5_architecture.EncoderDecoder")) {
        refuse(g, &net, "the architecture", "encoder-decoders with or without a prompt are");
        return;
    }
    const char *dtype = dtype_text(g, &net, "dtype");
    m->bfloat16 = dtype && !strcmp(dtype, "bfloat16");
    if (!g->st && dtype && !m->bfloat16 && strcmp(dtype, "float32"))
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "ACTIVATION_DTYPE '%s': 'float32' and 'bfloat16' are supported", dtype);
    only_bool(g, &net, "scan_layers", false);
    const gin_value encoder = made(g, &net, "encoder_factory");
    const gin_value decoder = made(g, &net, "decoder_factory");
    const gin_value embed = made(g, &net, "shared_token_embedder_factory");
    if (!g->st && !is_object(&encoder, "prompt_tuning.train.layers.PromptEncoder") &&
        !is_object(&encoder, "flaxformer.architectures.t5.t5_architecture.Encoder"))
        refuse(g, &encoder, "the encoder", NULL);
    if (!g->st && !is_object(&decoder, "flaxformer.architectures.t5.t5_architecture.Decoder"))
        refuse(g, &decoder, "the decoder", NULL);
    if (prompted) {
        (void)arg(g, &net, "encoder_mask_factory");
        (void)arg(g, &net, "add_fake_prompt_factory");
    }
    if (!g->st && embed.kind != GIN_OBJECT)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "the model has no shared_token_embedder_factory: encoder and decoder must "
                        "share their embedding");
    m->width = positive(g, &embed, "features");
    same(g, &embed, "num_embeddings", &m->vocab, positive(g, &embed, "num_embeddings"));
    (void)arg(g, &embed, "one_hot");
    (void)arg(g, &embed, "name");
    (void)arg(g, &embed, "cast_input_dtype");
    (void)dtype_text(g, &embed, "dtype");
    (void)dtype_text(g, &embed, "attend_dtype");
    read_stack(g, &encoder, false, m, &rate);
    read_stack(g, &decoder, true, m, &rate);
    m->dropout = rate < 0 ? 0 : rate;
    if (!g->st && !(m->dropout < 1))
        g->st = err_set(g->err, SPT_E_CONFIG, "a dropout rate of %g", m->dropout);
    if (is_object(&encoder, "prompt_tuning.train.layers.PromptEncoder"))
        read_prompt(g, &encoder, &m->prompt);
}

/* The masks of prompt_tuning take the prompt's length once more. */
static void check_mask_length(struct gs *g, const char *name, int64_t P)
{
    gin_value v;
    spt_err ignored = {0};
    if (g->st || gin_call(g->c, name, NULL, 0, &v, &ignored))
        return;
    const int64_t n = integer(g, &v, "prompt_length", P);
    if (strstr(name, "add_fake"))
        only_bool(g, &v, "multitask", false);
    if (n != P && P && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "%s.prompt_length = %lld but the prompt has %lld rows: bind PROMPT_LENGTH",
                        name, (long long)n, (long long)P);
}

/* --- loss, optimizer --------------------------------------------------------------------------- */

static bool same_word(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        const char x = *a >= 'a' && *a <= 'z' ? (char)(*a - 32) : *a;
        if (x != *b)
            return false;
    }
    return *a == *b;
}

static void read_loss(struct gs *g, const gin_value *model, struct t5_loss_opts *o)
{
    static const struct {
        const char *name;
        enum t5_normalize rule;
    } rules[] = {{"NUM_REAL_TARGET_TOKENS", T5_NORM_REAL_TOKENS},
                 {"NUM_TOTAL_TARGET_TOKENS", T5_NORM_ALL_TOKENS},
                 {"AVERAGE_PER_SEQUENCE", T5_NORM_PER_SEQUENCE}};
    const gin_value f = arg(g, model, "loss_normalizing_factor");
    double number;
    o->z_loss = (float)real(g, model, "z_loss", 0);
    o->label_smoothing = (float)real(g, model, "label_smoothing", 0);
    o->normalize = T5_NORM_NONE;
    if (f.kind == GIN_NONE)
        return;
    if (gin_as_float(&f, &number) && number > 0) {
        o->normalize = T5_NORM_NUMBER;
        o->factor = (float)number;
        return;
    }
    for (size_t i = 0; gin_as_str(&f) && i < sizeof rules / sizeof *rules; i++)
        if (same_word(gin_as_str(&f), rules[i].name)) {
            o->normalize = rules[i].rule;
            return;
        }
    complain(g, model, "loss_normalizing_factor", &f,
             "wanted None, a positive number, NUM_REAL_TARGET_TOKENS, NUM_TOTAL_TARGET_TOKENS or "
             "AVERAGE_PER_SEQUENCE");
}

static void read_adafactor(struct gs *g, const gin_value *v, struct optim_config *cfg)
{
    struct adafactor_opts *o = &cfg->adafactor;
    *cfg = optim_config_default();
    cfg->kind = OPTIM_ADAFACTOR;
    (void)arg(g, v, "learning_rate"); /* the trainer's schedule always wins */
    o->factored = boolean(g, v, "factored", true);
    o->multiply_by_parameter_scale = boolean(g, v, "multiply_by_parameter_scale", true);
    o->beta1 = real(g, v, "beta1", -1);
    o->decay_rate = real(g, v, "decay_rate", 0.8);
    o->step_offset = integer(g, v, "step_offset", 0);
    o->clipping_threshold = real(g, v, "clipping_threshold", 0);
    o->weight_decay_rate = real(g, v, "weight_decay_rate", 0);
    o->weight_decay_rate_lr_exponent = real(g, v, "weight_decay_rate_lr_exponent", 0);
    o->min_dim_size_to_factor = integer(g, v, "min_dim_size_to_factor", 128);
    o->epsilon1 = real(g, v, "epsilon1", 1e-30);
    o->epsilon2 = real(g, v, "epsilon2", 1e-3);
    o->max_parameter_scale = real(g, v, "max_parameter_scale", 0);
    o->skip_nan_updates = boolean(g, v, "skip_nan_updates", false);
    const char *momentum = dtype_text(g, v, "dtype_momentum");
    o->momentum_bfloat16 = momentum && !strcmp(momentum, "bfloat16");
    cfg->global_norm_clip = real(g, v, "global_norm_clip_threshold", 0);
    only_none(g, v, "factor_map");
    (void)arg(g, v, "logical_factor_rules"); /* ignored by the reference for matrices, too */
}

static void read_adamw(struct gs *g, const gin_value *v, bool decays, struct gin_model *m)
{
    struct adamw_opts *o = &m->optim.adamw;
    m->optim = optim_config_default();
    m->optim.kind = OPTIM_ADAMW;
    o->b1 = real(g, v, "b1", 0.9);
    o->b2 = real(g, v, "b2", 0.999);
    o->eps = real(g, v, "eps", 1e-8);
    o->eps_root = real(g, v, "eps_root", 0);
    o->weight_decay = decays ? real(g, v, "weight_decay", 1e-4) : 0;
    m->own_learning_rate = true;
    m->learning_rate = real(g, v, "learning_rate", 0);
}

static void read_selected(struct gs *g, const gin_value *pair, struct gin_model *m)
{
    if (pair->kind != GIN_TUPLE || pair->count != 2 ||
        !is_object(&pair->u.items[0], "flax.traverse_util.ModelParamTraversal")) {
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "MultiOptimizer.traversals_and_optimizers: wanted pairs of "
                        "@traverse_util.ModelParamTraversal() and an optimizer");
        return;
    }
    const gin_value filter = arg(g, &pair->u.items[0], "filter_fn");
    if (!is_object(&filter, "prompt_tuning.train.utils.match_any")) {
        refuse(g, &filter, "the parameter filter", "wanted @prompt_utils.match_any()");
        return;
    }
    texts(g, &filter, "regexes", &m->trained);
    const gin_value *o = &pair->u.items[1];
    if (is_object(o, "t5x.adafactor.Adafactor"))
        read_adafactor(g, o, &m->optim);
    else if (is_object(o, "t5x.optimizers.adamw") || is_object(o, "t5x.optimizers.adam"))
        read_adamw(g, o, is_object(o, "t5x.optimizers.adamw"), m);
    else
        refuse(g, o, "the optimizer", "there are adafactor.Adafactor, optimizers.adamw and "
                                      "optimizers.adam");
}

static void read_optimizer(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value v = arg(g, model, "optimizer_def");
    if (g->st || v.kind == GIN_NONE)
        return;
    if (!is_object(&v, "t5x.optimizers.MultiOptimizer") &&
        !is_object(&v, "prompt_tuning.train.utils.MultiOptimizer")) {
        refuse(g, &v, "training all parameters with", "only prompts are trained here: wanted "
                                                      "@optim.MultiOptimizer()");
        return;
    }
    const gin_value list = arg(g, &v, "traversals_and_optimizers");
    if (g->st)
        return;
    if ((list.kind != GIN_TUPLE && list.kind != GIN_LIST) || list.count != 1) {
        complain(g, &v, "traversals_and_optimizers", &list, "one pair is supported");
        return;
    }
    m->trains = true;
    read_selected(g, &list.u.items[0], m);
}

/* --- vocabulary, decoding ---------------------------------------------------------------------- */

static void read_vocabulary(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value v = arg(g, model, "input_vocabulary");
    const gin_value out = arg(g, model, "output_vocabulary");
    if (g->st)
        return;
    if (is_object(&v, "seqio.ByteVocabulary")) {
        m->vocab_file = "bytes";
        m->extra_ids = integer(g, &v, "extra_ids", 0);
    } else if (is_object(&v, "seqio.SentencePieceVocabulary")) {
        m->vocab_file = needed_text(g, &v, "sentencepiece_model_file");
        m->extra_ids = integer(g, &v, "extra_ids", 0);
        m->extra_ids_ascending = !boolean(g, &v, "reverse_extra_ids", true);
        only_none(g, &v, "normalizer_spec_overrides");
    } else {
        refuse(g, &v, "the vocabulary", "there are SentencePieceVocabulary and ByteVocabulary");
    }
    if (!g->st && is_object(&out, "seqio.SentencePieceVocabulary") &&
        strcmp(needed_text(g, &out, "sentencepiece_model_file"), m->vocab_file))
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "input_vocabulary and output_vocabulary differ: one vocabulary is "
                        "supported");
}

static void read_decoding(struct gs *g, const gin_value *model, struct gin_model *m)
{
    static const char *const caller[] = {"inputs", "cache", "tokens_to_logits", "eos_id"};
    static const char *const batch[] = {"params", "batch"};
    gin_value fn = arg(g, model, "decode_fn"), method = {.kind = GIN_NONE};
    gin_arg given[2] = {{batch[0], {.kind = GIN_NONE}}, {batch[1], {.kind = GIN_NONE}}};
    spt_err ignored = {0};
    int64_t decodes = 1;
    if (g->st)
        return;
    if (!gin_call(g->c, "t5x.models.EncoderDecoderModel.predict_batch_with_aux", given, 2, &method,
                  &ignored)) {
        decodes = integer(g, &method, "num_decodes", 1);
        m->prompt_with_targets = boolean(g, &method, "prompt_with_targets", false);
        only_bool(g, &method, "return_all_decodes", false);
    }
    m->decode = decode_opts_default(DECODE_BEAM_T5X);
    if (fn.kind == GIN_CALLABLE)
        fn = make(g, model, "decode_fn", caller, 4);
    if (g->st)
        return;
    if (is_object(&fn, "t5x.decoding.temperature_sample")) {
        m->decode = decode_opts_default(DECODE_SAMPLE_T5X);
        m->decode.temperature = real(g, &fn, "temperature", 1);
        m->decode.top_p = real(g, &fn, "topp", 0);
        m->decode.top_k = integer(g, &fn, "topk", 1);
        m->decode.max_decode_steps = integer(g, &fn, "max_decode_steps", 0);
        m->decode.rescale_log_probs = boolean(g, &fn, "rescale_log_probs", true);
    } else if (is_object(&fn, "t5x.decoding.beam_search")) {
        m->decode.alpha = real(g, &fn, "alpha", 0.6);
        const int64_t most = integer(g, &fn, "max_decode_step", -1);
        m->decode.max_decode_steps = most > 0 ? most : 0;
    } else if (fn.kind != GIN_OPAQUE) {
        refuse(g, &fn, "the decoding function", "there are beam_search and temperature_sample");
    }
    m->decode.want_scores = true;
    m->decode.n = decodes;
    m->decode.beams = m->decode.method == DECODE_BEAM_T5X ? decodes : 1;
    if (decodes < 1 && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "num_decodes = %lld", (long long)decodes);
}

static void read_model(struct gs *g, const gin_value *root, struct gin_model *m)
{
    const gin_value model = arg(g, root, "model");
    if (g->st)
        return;
    if (!is_object(&model, "t5x.models.EncoderDecoderModel")) {
        refuse(g, &model, "the model", "t5x.models.EncoderDecoderModel is");
        return;
    }
    only_none(g, &model, "feature_converter_cls");
    only_none(g, &model, "default_decoder_params");
    read_network(g, &model, m);
    check_mask_length(g, "prompt_tuning.prompt_masks.add_fake_prompt", m->prompt.P);
    check_mask_length(g, "prompt_tuning.prompt_masks.create_prompt_encoder_mask", m->prompt.P);
    read_loss(g, &model, &m->loss);
    read_optimizer(g, &model, m);
    read_vocabulary(g, &model, m);
    read_decoding(g, &model, m);
}

static void model_release(struct gin_model *m)
{
    mem_free(m->trained.item);
    mem_free(m->prompt.texts);
    m->trained = (struct gin_texts){0};
    m->prompt.texts = NULL;
}

/* --- data ---------------------------------------------------------------------------------------- */

static void read_lengths(struct gs *g, const gin_value *v, struct gin_dataset *d)
{
    const gin_value map = arg(g, v, "task_feature_lengths");
    if (g->st || map.kind == GIN_NONE)
        return;
    const gin_value *in = gin_dict_get(&map, "inputs"), *out = gin_dict_get(&map, "targets");
    if (map.kind != GIN_DICT || map.count != 2 || !in || !out || !gin_as_int(in, &d->inputs) ||
        !gin_as_int(out, &d->targets) || d->inputs < 1 || d->targets < 1) {
        complain(g, v, "task_feature_lengths", &map,
                 "wanted {'inputs': N, 'targets': M} or None");
        return;
    }
    d->has_lengths = true;
}

static void read_dataset(struct gs *g, const gin_value *v, struct gin_dataset *d)
{
    if (g->st)
        return;
    if (!is_object(v, "t5x.utils.DatasetConfig")) {
        g->st = err_set(g->err, SPT_E_CONFIG, "a data set is a %s, wanted @utils.DatasetConfig()",
                        name_of(v));
        return;
    }
    const gin_value name = arg(g, v, "mixture_or_task_name");
    d->task = needed_text(g, v, "mixture_or_task_name");
    (void)name;
    d->split = needed_text(g, v, "split");
    d->module = text(g, v, "module");
    d->batch = positive(g, v, "batch_size");
    d->shuffle = boolean(g, v, "shuffle", false);
    d->use_cached = boolean(g, v, "use_cached", false);
    d->trim = boolean(g, v, "trim_output_features", true);
    only_bool(g, v, "pack", false);
    (void)arg(g, v, "use_custom_packing_ops");
    (void)arg(g, v, "use_memory_cache");
    only_none(g, v, "runtime_preprocessors");
    const gin_value seed = arg(g, v, "seed");
    d->has_seed = seed.kind != GIN_NONE;
    d->seed = integer(g, v, "seed", 0);
    read_lengths(g, v, d);
}

static void read_loggers(struct gs *g, const gin_value *ev, struct gin_evaluator *e)
{
    static const char *const caller[] = {"output_dir"};
    const gin_value list = arg(g, ev, "logger_cls");
    gin_arg dir = {caller[0], {.kind = GIN_NONE}};
    for (uint32_t i = 0; !g->st && (list.kind == GIN_LIST || list.kind == GIN_TUPLE) &&
                         i < list.count; i++) {
        const gin_value *l = &list.u.items[i];
        gin_value made_one;
        e->console |= gin_is(l, "seqio.PyLoggingLogger");
        e->tensorboard |= gin_is(l, "seqio.TensorBoardLogger");
        if (!gin_is(l, "seqio.JSONLogger"))
            continue;
        e->json = true;
        g->st = gin_call_value(g->c, l, "", &dir, 1, &made_one, g->err);
        e->write_results = integer(g, &made_one, "write_n_results", -1);
    }
}

static void read_evaluator(struct gs *g, const gin_value *root, struct gin_evaluator *e)
{
    static const char *const caller[] = {"mixture_or_task_name", "feature_converter"};
    *e = (struct gin_evaluator){.num_examples = -1, .write_results = -1};
    const gin_value ev = make(g, root, "inference_evaluator_cls", caller, 2);
    if (g->st || ev.kind != GIN_OBJECT)
        return;
    e->num_examples = integer(g, &ev, "num_examples", -1);
    (void)arg(g, &ev, "use_memory_cache");
    read_loggers(g, &ev, e);
}

/* --- checkpoints --------------------------------------------------------------------------------- */

static void read_dtype(struct gs *g, const gin_value *v, bool *has, enum dtype *out)
{
    const char *name = dtype_text(g, v, "dtype");
    *has = name != NULL;
    *out = DT_F32;
    if (name && (!dtype_from_name(name, strlen(name), out) ||
                 (*out != DT_F32 && *out != DT_BF16 && *out != DT_F16)) && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "%s.dtype = '%s': wanted None, 'float32', 'float16' or 'bfloat16'",
                        name_of(v), name);
}

static void read_map(struct gs *g, const gin_value *v, struct gin_restore *r)
{
    const gin_value map = arg(g, v, "assignment_map");
    if (g->st || map.kind == GIN_NONE)
        return;
    r->has_map = true;
    r->from = mem_zalloc((size_t)map.count + 1, sizeof *r->from);
    r->to = mem_zalloc((size_t)map.count + 1, sizeof *r->to);
    if (!r->from || !r->to) {
        g->st = err_nomem(g->err, map.count * sizeof *r->from);
        return;
    }
    for (uint32_t i = 0; (map.kind == GIN_TUPLE || map.kind == GIN_LIST) && i < map.count; i++) {
        const gin_value *pair = &map.u.items[i];
        const bool ok = (pair->kind == GIN_TUPLE || pair->kind == GIN_LIST) && pair->count == 2 &&
                        gin_as_str(&pair->u.items[0]) &&
                        (pair->u.items[1].kind == GIN_NONE || gin_as_str(&pair->u.items[1]));
        if (!ok) {
            complain(g, v, "assignment_map", &map,
                     "wanted pairs of a regular expression and a name or None, such as "
                     "((r'^.*prompt.*$', None),)");
            return;
        }
        r->from[i] = gin_as_str(&pair->u.items[0]);
        r->to[i] = gin_as_str(&pair->u.items[1]);
        r->maps++;
    }
}

static void read_restore(struct gs *g, const gin_value *v, struct gin_restore *r)
{
    if (g->st)
        return;
    if (!is_object(v, "t5x.utils.RestoreCheckpointConfig")) {
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "what restores is a %s, wanted @utils.RestoreCheckpointConfig()",
                        name_of(v));
        return;
    }
    texts(g, v, "path", &r->path);
    const char *mode = needed_text(g, v, "mode");
    if (!strcmp(mode, "specific"))
        r->mode = RESTORE_SPECIFIC;
    else if (!strcmp(mode, "latest"))
        r->mode = RESTORE_LATEST;
    else if (!strcmp(mode, "all"))
        r->mode = RESTORE_ALL;
    else if (!g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.mode = '%s': wanted 'specific', 'latest' or 'all'",
                        mode);
    r->fallback = boolean(g, v, "fallback_to_scratch", false);
    r->strict = boolean(g, v, "strict", true);
    only_bool(g, v, "restore_dataset", false);
    read_dtype(g, v, &r->has_dtype, &r->dtype);
    read_map(g, v, r);
    const gin_value fns = arg(g, v, "state_transformation_fns");
    if ((fns.kind == GIN_LIST || fns.kind == GIN_TUPLE) && fns.count)
        complain(g, v, "state_transformation_fns", &fns, "none are supported");
    if (!g->st && r->fallback && !r->has_map)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.fallback_to_scratch = True needs an "
                        "assignment_map (() for none)");
}

static void restore_release(struct gin_restore *r)
{
    mem_free(r->path.item);
    mem_free(r->from);
    mem_free(r->to);
    *r = (struct gin_restore){0};
}

static void read_save(struct gs *g, const gin_value *v, struct gin_save *s)
{
    static const char *const caller[] = {"train_state", "partitioner", "checkpoints_dir"};
    if (g->st || v->kind == GIN_NONE)
        return;
    bool has;
    s->period = integer(g, v, "period", 0);
    s->keep = integer(g, v, "keep", -1);
    s->save_dataset = boolean(g, v, "save_dataset", false);
    read_dtype(g, v, &has, &s->dtype);
    only_none(g, v, "keep_dataset_checkpoints");
    const gin_value steps = arg(g, v, "checkpoint_steps");
    if (!g->st && (steps.kind == GIN_LIST || steps.kind == GIN_TUPLE)) {
        s->at = mem_zalloc((size_t)steps.count + 1, sizeof *s->at);
        if (!s->at)
            g->st = err_nomem(g->err, steps.count * sizeof *s->at);
        for (uint32_t i = 0; s->at && i < steps.count; i++)
            if (!gin_as_int(&steps.u.items[i], &s->at[s->at_count++]))
                complain(g, v, "checkpoint_steps", &steps, "wanted a list of steps");
    }
    const gin_value cls = arg(g, v, "checkpointer_cls");
    if (gin_is(&cls, "prompt_tuning.train.utils.Checkpointer")) {
        const gin_value c = make(g, v, "checkpointer_cls", NULL, 0);
        s->numpy = true;
        texts(g, &c, "save_paths", &s->save_paths);
    } else if (cls.kind == GIN_CALLABLE && !gin_is(&cls, "t5x.checkpoints.Checkpointer")) {
        refuse(g, &cls, "the checkpointer", NULL);
    }
    (void)caller;
    if (!g->st && s->keep == 0)
        g->st = err_set(g->err, SPT_E_CONFIG, "SaveCheckpointConfig.keep = 0: wanted None or more");
}

/* --- entry functions ------------------------------------------------------------------------------ */

/* What every entry function has; its devices are ours. */
static void read_common(struct gs *g, const gin_value *root)
{
    const gin_value p = arg(g, root, "partitioner");
    if (p.kind == GIN_OBJECT) {
        const int64_t n = integer(g, &p, "num_partitions", 1);
        if (n > 1)
            log_warning("PjitPartitioner.num_partitions = %lld: this process computes with one "
                        "part",
                        (long long)n);
        (void)arg(g, &p, "logical_axis_rules");
        (void)arg(g, &p, "model_parallel_submesh");
    }
    const gin_value summary = arg(g, root, "summarize_config_fn");
    (void)summary;
    bool given = false;
    gin_value orbax;
    if (!g->st && gin_get_given(g->c, root, "use_orbax", &orbax, &given) && given) {
        bool on = false;
        if (gin_as_bool(&orbax, &on) && on)
            log_warning("use_orbax = True: checkpoints are written in the legacy T5X format, which "
                        "every T5X reads");
    }
}

static void read_schedule(struct gs *g, const gin_value *trainer, struct lr_schedule *s)
{
    const gin_value v = arg(g, trainer, "learning_rate_fn");
    if (g->st)
        return;
    if (!is_object(&v, "t5x.utils.create_learning_rate_scheduler")) {
        refuse(g, &v, "the learning rate", "wanted @utils.create_learning_rate_scheduler()");
        return;
    }
    *s = lr_schedule_default();
    s->base_learning_rate = real(g, &v, "base_learning_rate", 0.5);
    s->warmup_steps = integer(g, &v, "warmup_steps", 1000);
    s->decay_factor = real(g, &v, "decay_factor", 0.5);
    s->steps_per_decay = integer(g, &v, "steps_per_decay", 20000);
    s->steps_per_cycle = integer(g, &v, "steps_per_cycle", 100000);
    s->step_offset = integer(g, &v, "step_offset", 0);
    s->min_learning_rate = real(g, &v, "min_learning_rate", 1e-8);
    const char *factors = needed_text(g, &v, "factors");
    if (!g->st)
        g->st = lr_schedule_parse(s, factors, g->err);
    if (!g->st)
        g->st = lr_schedule_check(s, g->err);
}

static void read_trainer(struct gs *g, const gin_value *root, struct gin_train *t)
{
    static const char *const caller[] = {"model", "train_state", "partitioner", "eval_names",
                                         "summary_dir", "train_state_axes", "rng"};
    const gin_value v = make(g, root, "trainer_cls", caller, 7);
    if (g->st)
        return;
    if (!is_object(&v, "t5x.trainer.Trainer")) {
        refuse(g, &v, "the trainer", "wanted @trainer.Trainer");
        return;
    }
    t->microbatches = integer(g, &v, "num_microbatches", 0);
    if (t->microbatches <= 1)
        t->microbatches = 0;
    only_none(g, &v, "weight_metrics_computer");
    read_schedule(g, &v, &t->lr);
}

static void read_checkpoint_cfg(struct gs *g, const gin_value *root, struct gin_train *t)
{
    const gin_value cfg = arg(g, root, "checkpoint_cfg");
    const gin_value restore = arg(g, &cfg, "restore"), save = arg(g, &cfg, "save");
    t->has_restore = restore.kind != GIN_NONE;
    t->has_save = save.kind != GIN_NONE;
    if (t->has_restore)
        read_restore(g, &restore, &t->restore);
    if (t->has_save)
        read_save(g, &save, &t->save);
    if (!g->st && t->has_restore && t->restore.mode == RESTORE_ALL)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "RestoreCheckpointConfig.mode = 'all' is for evaluation");
}

static spt_status call_entry(struct gs *g, const char *name, gin_value *root)
{
    g->st = gin_call(g->c, name, NULL, 0, root, g->err);
    return g->st;
}

spt_status gin_train_read(gin_config *c, struct gin_train *t, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *t = (struct gin_train){.evaluator = {.num_examples = -1, .write_results = -1}};
    TRY(call_entry(g, "__main__.train", &root));
    t->model_dir = needed_text(g, &root, "model_dir");
    read_model(g, &root, &t->model);
    const gin_value train = arg(g, &root, "train_dataset_cfg");
    const gin_value train_eval = arg(g, &root, "train_eval_dataset_cfg");
    const gin_value infer_eval = arg(g, &root, "infer_eval_dataset_cfg");
    read_dataset(g, &train, &t->train);
    t->has_train_eval = train_eval.kind != GIN_NONE;
    if (t->has_train_eval)
        read_dataset(g, &train_eval, &t->train_eval);
    t->has_infer_eval = infer_eval.kind != GIN_NONE;
    if (t->has_infer_eval)
        read_dataset(g, &infer_eval, &t->infer_eval);
    read_checkpoint_cfg(g, &root, t);
    read_common(g, &root);
    read_trainer(g, &root, t);
    read_evaluator(g, &root, &t->evaluator);
    t->total_steps = integer(g, &root, "total_steps", 0);
    const gin_value relative = arg(g, &root, "relative_steps");
    t->has_relative = relative.kind != GIN_NONE;
    t->relative_steps = integer(g, &root, "relative_steps", 0);
    t->eval_steps = integer(g, &root, "eval_steps", 0);
    t->eval_period = integer(g, &root, "eval_period", 0);
    t->stats_period = integer(g, &root, "stats_period", 0);
    const gin_value seed = arg(g, &root, "random_seed");
    t->has_seed = seed.kind != GIN_NONE;
    t->seed = integer(g, &root, "random_seed", 0);
    if (boolean(g, &root, "use_hardware_rng", false) && !g->st)
        log_warning("use_hardware_rng = True: threefry is used, so that runs repeat");
    t->eval_first = boolean(g, &root, "run_eval_before_training", false);
    (void)arg(g, &root, "concurrent_metrics");
    (void)arg(g, &root, "gc_period");
    only_none(g, &root, "actions");
    if (!g->st && !t->model.trains)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "EncoderDecoderModel.optimizer_def is None: nothing would be trained");
    if (!g->st && !t->model.prompt.P)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "the model has no prompt (PromptEncoder.prompt_factory): there is nothing "
                        "to train");
    return g->st;
}

void gin_train_release(struct gin_train *t)
{
    model_release(&t->model);
    restore_release(&t->restore);
    mem_free(t->save.save_paths.item);
    mem_free(t->save.at);
    *t = (struct gin_train){0};
}

static void read_use(struct gs *g, const gin_value *root, struct gin_use *u)
{
    const gin_value data = arg(g, root, "dataset_cfg");
    const gin_value restore = arg(g, root, "restore_checkpoint_cfg");
    const gin_value rng = arg(g, root, "fallback_init_rng");
    u->output_dir = needed_text(g, root, "output_dir");
    read_model(g, root, &u->model);
    read_dataset(g, &data, &u->data);
    read_restore(g, &restore, &u->restore);
    read_common(g, root);
    u->has_fallback_rng = rng.kind != GIN_NONE;
    u->fallback_rng = integer(g, root, "fallback_init_rng", 0);
}

spt_status gin_eval_read(gin_config *c, struct gin_use *u, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *u = (struct gin_use){0};
    TRY(call_entry(g, "__main__.evaluate", &root));
    read_use(g, &root, u);
    read_evaluator(g, &root, &u->evaluator);
    only_none(g, &root, "training_evaluator_cls");
    return g->st;
}

spt_status gin_infer_read(gin_config *c, struct gin_use *u, spt_err *err)
{
    struct gs gs = {c, err, SPT_OK}, *g = &gs;
    gin_value root;
    *u = (struct gin_use){0};
    TRY(call_entry(g, "__main__.infer", &root));
    read_use(g, &root, u);
    const char *mode = needed_text(g, &root, "mode");
    if (!strcmp(mode, "score"))
        u->mode = INFER_SCORE;
    else if (!strcmp(mode, "predict_with_aux"))
        u->mode = INFER_PREDICT_WITH_AUX;
    else if (strcmp(mode, "predict") && !g->st)
        g->st = err_set(err, SPT_E_CONFIG,
                        "infer.mode = '%s': wanted 'predict', 'score' or 'predict_with_aux'", mode);
    u->checkpoint_period = positive(g, &root, "checkpoint_period");
    u->shard_id = integer(g, &root, "shard_id", 0);
    u->num_shards = integer(g, &root, "num_shards", 1);
    u->merge = boolean(g, &root, "merge_chunked_results", true);
    u->extension = needed_text(g, &root, "file_extension");
    if (!g->st && (u->num_shards < 1 || u->shard_id < 0 || u->shard_id >= u->num_shards))
        g->st = err_set(err, SPT_E_CONFIG, "infer.shard_id = %lld of num_shards = %lld",
                        (long long)u->shard_id, (long long)u->num_shards);
    return g->st;
}

void gin_use_release(struct gin_use *u)
{
    model_release(&u->model);
    restore_release(&u->restore);
    *u = (struct gin_use){0};
}

/* --- bindings that do nothing --------------------------------------------------------------------- */

struct unused {
    buf text;
    const char *name, *scope; /* of the last one listed */
    size_t count;
};

static void add_unused(void *ctx, const gin_binding_info *b)
{
    struct unused *u = ctx;
    if (b->read || !b->param)
        return;
    const bool again = u->name && !strcmp(u->name, b->name) && !strcmp(u->scope, b->scope);
    if (again)
        buf_addf(&u->text, ", %s", b->param);
    else
        buf_addf(&u->text, "%s%s%s%s (%s", u->count ? "); " : "", b->scope, *b->scope ? "/" : "",
                 b->name, b->param);
    u->name = b->name;
    u->scope = b->scope;
    u->count++;
}

void gin_warn_unused(const gin_config *c)
{
    struct unused u = {0};
    buf_init(&u.text, 1 << 16);
    gin_each_binding(c, add_unused, &u);
    if (u.count)
        log_warning("%zu bindings were accepted but do not act here (initial values of frozen "
                    "weights, placement on devices): %s)",
                    u.count, buf_str(&u.text));
    buf_release(&u.text);
}
