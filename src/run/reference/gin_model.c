/* The model of a gin configuration: prompt, network, loss, optimizer, vocabulary, decoding. */
#include <string.h>

#include "base/mem.h"
#include "run/extensions.h"
#include "run/reference/gin_read.h"

/* --- the prompt -------------------------------------------------------------------------------- */

static struct gin_array read_array(struct gs *g, const gin_value *o, const char *name)
{
    const gin_value v = gs_arg(g, o, name);
    struct gin_array a = {0};
    if (gs_is_object(&v, "prompt_tuning.prompts.np_load")) {
        a.npy = gs_needed_text(g, &v, "path");
    } else if (gs_is_object(&v, "prompt_tuning.prompts.t5x_load")) {
        a.checkpoint = gs_needed_text(g, &v, "checkpoint_path");
        a.variable = gs_needed_text(g, &v, "variable_path");
    } else {
        gs_complain(g, o, name, &v, "wanted @prompts.np_load() or @prompts.t5x_load()");
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
    (void)gs_arg(g, v, "vocab"); /* the model's own: there is one vocabulary in a run */
    gs_texts(g, v, list ? "texts" : "text", &t);
    mem_free(p->texts);
    p->texts = t.item;
    init->texts = t.item;
    init->text_count = t.count;
    const gin_value fallback = gs_made(g, v, "initializer");
    if (fallback.kind != GIN_NONE) {
        read_init(g, &fallback, p, &p->fallback, true);
        init->fallback = &p->fallback;
    }
}

static void read_init(struct gs *g, const gin_value *v, struct gin_prompt *p,
                      struct prompt_init *init, bool inner)
{
    bool code = false;
    prompt_init_defaults(init);
    if (!g->st)
        g->st = extensions_initializer(g->c, v, init, &code, g->err);
    if (code) {
        const gin_value table = gs_arg(g, v, "embeddings");
        if (table.kind == GIN_OBJECT || table.kind == GIN_CALLABLE)
            p->embeddings = read_array(g, v, "embeddings");
    } else if (gs_is_object(v, "flax.linen.initializers.uniform")) {
        init->kind = PROMPT_INIT_UNIFORM;
        init->scale = (float)gs_real(g, v, "scale", 1e-2);
    } else if (v->kind == GIN_OPAQUE && !strcmp(v->u.s, "nn.initializers.uniform()")) {
        init->kind = PROMPT_INIT_UNIFORM;
        init->scale = 1e-2f;
    } else if (gs_is_object(v, "prompt_tuning.prompts.from_sample_of_embeddings")) {
        init->kind = PROMPT_INIT_SAMPLED;
        p->embeddings = read_array(g, v, "embeddings");
        init->population = gs_integer(g, v, "population_size", 0);
    } else if (!inner && gs_is_object(v, "prompt_tuning.prompts.from_embedded_list")) {
        read_texts_init(g, v, p, init, true);
    } else if (!inner && gs_is_object(v, "prompt_tuning.prompts.from_embedded_string")) {
        read_texts_init(g, v, p, init, false);
    } else if (!inner && gs_is_object(v, "prompt_tuning.prompts.from_array")) {
        init->kind = PROMPT_INIT_FILE;
        p->array = read_array(g, v, "prompt");
        init->file = p->array.npy;
    } else {
        gs_refuse(g, v, "the prompt initialiser",
               "there are initializers.uniform, from_sample_of_embeddings, from_embedded_list, "
               "from_embedded_string and from_array");
    }
}

static void read_combine(struct gs *g, const gin_value *wrapper, struct gin_prompt *p)
{
    const gin_value v = gs_arg(g, wrapper, "combine");
    static const char *const caller[] = {"prompt", "x_embed", "x"};
    p->combine = T5_PREFIX;
    if (v.kind == GIN_NONE || v.kind == GIN_OPAQUE ||
        gin_is(&v, "prompt_tuning.train.prompts.prefix_prompt"))
        return;
    if (gin_is(&v, "prompt_tuning.train.prompts.prefix_prompt_after_bos")) {
        p->combine = T5_PREFIX_AFTER_BOS;
    } else if (gin_is(&v, "prompt_tuning.train.prompts.suffix_prompt")) {
        const gin_value o = gs_make(g, wrapper, "combine", caller, 3);
        gs_only_bool(g, &o, "decoder_only", false);
        p->combine = gs_boolean(g, &o, "before_eos", true) ? T5_SUFFIX : T5_SUFFIX_END;
    } else {
        gs_refuse(g, &v, "the combination", NULL);
    }
}

static void read_prompt(struct gs *g, const gin_value *encoder, struct gin_prompt *p)
{
    const gin_value wrapper = gs_made(g, encoder, "prompt_factory");
    if (g->st || wrapper.kind == GIN_NONE)
        return;
    if (!gs_is_object(&wrapper, "prompt_tuning.train.prompts.Prompt")) {
        gs_refuse(g, &wrapper, "the prompt module", NULL);
        return;
    }
    const gin_value prompt = gs_arg(g, &wrapper, "prompt");
    if (!g->st && !gs_is_object(&prompt, "prompt_tuning.prompts.Prompt")) {
        gs_refuse(g, &prompt, "the prompt", NULL);
        return;
    }
    p->P = gs_positive(g, &prompt, "length");
    (void)gs_dtype_text(g, &prompt, "dtype"); /* rows are kept in float32 and used in the model's type */
    const gin_value init = gs_arg(g, &prompt, "prompt_init");
    read_combine(g, &wrapper, p);
    if (!g->st)
        read_init(g, &init, p, &p->init, false);
}

/* --- the network ------------------------------------------------------------------------------- */

static void same(struct gs *g, const gin_value *o, const char *name, int64_t *have, int64_t got)
{
    if (*have && *have != got && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "%s.%s = %lld, elsewhere in the model it is %lld",
                        gs_name(o), name, (long long)got, (long long)*have);
    *have = got;
}

/* All dropout sites of the model have one rate here. */
static void same_rate(struct gs *g, const gin_value *o, const char *name, double *rate, double got)
{
    if (*rate >= 0 && *rate != got && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "%s.%s = %g, elsewhere in the model the dropout rate is %g: one rate for "
                        "all sites is supported",
                        gs_name(o), name, got, *rate);
    *rate = got;
}

static void read_dropout(struct gs *g, const gin_value *o, const char *factory, double *rate)
{
    const gin_value d = gs_made(g, o, factory);
    if (g->st || d.kind == GIN_NONE)
        return;
    same_rate(g, &d, "rate", rate, gs_real(g, &d, "rate", 0));
    const gin_value dims = gs_arg(g, &d, "broadcast_dims");
    int64_t dim = 0;
    if (*rate > 0 && !(dims.kind == GIN_TUPLE && dims.count == 1 &&
                       gin_as_int(&dims.u.items[0], &dim) && dim == -2))
        gs_complain(g, &d, "broadcast_dims", &dims, "only (-2,) is supported");
}

static void read_attention(struct gs *g, const gin_value *layer, const char *name,
                           struct gin_model *m, double *rate)
{
    const gin_value a = gs_arg(g, layer, name);
    if (g->st)
        return;
    if (!gs_is_object(&a, "flaxformer.components.attention.dense_attention."
                       "MultiHeadDotProductAttention")) {
        gs_refuse(g, &a, "the attention", NULL);
        return;
    }
    same(g, &a, "num_heads", &m->heads, gs_positive(g, &a, "num_heads"));
    same(g, &a, "head_dim", &m->head_dim, gs_positive(g, &a, "head_dim"));
    same_rate(g, &a, "dropout_rate", rate, gs_real(g, &a, "dropout_rate", 0));
    gs_only_bool(g, &a, "use_bias", false);
    gs_only_bool(g, &a, "broadcast_dropout", true);
    gs_only_bool(g, &a, "rescale_logits", false);
    gs_only_bool(g, &a, "use_extra_logit", false);
    gs_only_bool(g, &a, "float32_logits", false);
    gs_only_bool(g, &a, "use_rotary_embedding", false);
    gs_only_none(g, &a, "k_conv");
    gs_only_none(g, &a, "v_conv");
    gs_only_none(g, &a, "q_conv");
    gs_only_none(g, &a, "kernels_to_fuse");
    (void)gs_dtype_text(g, &a, "dtype");
}

static void read_mlp(struct gs *g, const gin_value *layer, struct gin_model *m, double *rate)
{
    const gin_value a = gs_arg(g, layer, "mlp");
    if (g->st)
        return;
    if (!gs_is_object(&a, "flaxformer.components.dense.MlpBlock")) {
        gs_refuse(g, &a, "the feed-forward block", NULL);
        return;
    }
    same(g, &a, "intermediate_dim", &m->ff, gs_positive(g, &a, "intermediate_dim"));
    same_rate(g, &a, "intermediate_dropout_rate", rate,
              gs_real(g, &a, "intermediate_dropout_rate", 0.1));
    if (gs_real(g, &a, "final_dropout_rate", 0) > 0 && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "MlpBlock.final_dropout_rate: only 0 is supported");
    gs_only_bool(g, &a, "use_bias", false);
    gs_only_bool(g, &a, "fuse_kernels", false);
    gs_only_none(g, &a, "intermediate_conv");
    const gin_value acts = gs_arg(g, &a, "activations");
    m->gated = (acts.kind == GIN_TUPLE || acts.kind == GIN_LIST) && acts.count == 2;
    (void)gs_dtype_text(g, &a, "dtype");
}

static void read_layer(struct gs *g, const gin_value *stack, bool decoder, struct gin_model *m,
                       double *rate)
{
    const gin_value layer = gs_made(g, stack, "layer_factory");
    if (g->st)
        return;
    if (!gs_is_object(&layer, decoder
                               ? "flaxformer.architectures.t5.t5_architecture.DecoderLayer"
                               : "flaxformer.architectures.t5.t5_architecture.EncoderLayer")) {
        gs_refuse(g, &layer, "the layer", "per-layer prompts and IA3 cannot be trained here");
        return;
    }
    read_attention(g, &layer, decoder ? "self_attention" : "attention", m, rate);
    if (decoder)
        read_attention(g, &layer, "encoder_decoder_attention", m, rate);
    read_mlp(g, &layer, m, rate);
    read_dropout(g, &layer, "dropout_factory", rate);
    gs_only_bool(g, &layer, "parallel", false);
    gs_only_none(g, &layer, "relative_position_bias_factory");
    (void)gs_made(g, &layer, "layer_norm_factory");
}

static void read_bias(struct gs *g, const gin_value *stack, struct gin_model *m)
{
    const gin_value b = gs_made(g, stack, "shared_relative_position_bias_factory");
    if (g->st)
        return;
    if (!gs_is_object(&b, "flaxformer.components.relative_position_biases.RelativePositionBiases")) {
        gs_refuse(g, &b, "the position bias", NULL);
        return;
    }
    same(g, &b, "num_heads", &m->heads, gs_positive(g, &b, "num_heads"));
    same(g, &b, "num_buckets", &m->buckets, gs_positive(g, &b, "num_buckets"));
    same(g, &b, "max_distance", &m->max_distance, gs_positive(g, &b, "max_distance"));
    (void)gs_dtype_text(g, &b, "dtype");
}

static void read_stack(struct gs *g, const gin_value *stack, bool decoder, struct gin_model *m,
                       double *rate)
{
    *(decoder ? &m->dec_layers : &m->enc_layers) = gs_positive(g, stack, "num_layers");
    gs_only_bool(g, stack, "scan_layers", false);
    gs_only_none(g, stack, "position_embedder_factory");
    (void)gs_dtype_text(g, stack, "dtype");
    read_layer(g, stack, decoder, m, rate);
    read_bias(g, stack, m);
    (void)gs_made(g, stack, "layer_norm_factory");
    if (decoder) {
        read_dropout(g, stack, "dropout_factory", rate);
        const gin_value head = gs_made(g, stack, "output_logits_factory");
        m->head_is_embedding = head.kind != GIN_OBJECT;
        if (head.kind == GIN_OBJECT) {
            gs_only_bool(g, &head, "use_bias", false);
            same(g, &head, "features", &m->vocab, gs_positive(g, &head, "features"));
            (void)gs_dtype_text(g, &head, "dtype");
        }
    } else {
        read_dropout(g, stack, "input_dropout_factory", rate);
        read_dropout(g, stack, "output_dropout_factory", rate);
        (void)gs_arg(g, stack, "add_fake_prompt_factory");
    }
}

static void read_network(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value net = gs_arg(g, model, "module");
    double rate = -1;
    const bool prompted = gs_is_object(&net, "prompt_tuning.train.layers.PromptEncoderDecoder");
    if (!g->st && !prompted &&
        !gs_is_object(&net, "flaxformer.architectures.t5.t5_architecture.EncoderDecoder")) {
        gs_refuse(g, &net, "the architecture", "encoder-decoders with or without a prompt are");
        return;
    }
    const char *dtype = gs_dtype_text(g, &net, "dtype");
    m->bfloat16 = dtype && !strcmp(dtype, "bfloat16");
    if (!g->st && dtype && !m->bfloat16 && strcmp(dtype, "float32"))
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "ACTIVATION_DTYPE '%s': 'float32' and 'bfloat16' are supported", dtype);
    gs_only_bool(g, &net, "scan_layers", false);
    const gin_value encoder = gs_made(g, &net, "encoder_factory");
    const gin_value decoder = gs_made(g, &net, "decoder_factory");
    const gin_value embed = gs_made(g, &net, "shared_token_embedder_factory");
    if (!g->st && !gs_is_object(&encoder, "prompt_tuning.train.layers.PromptEncoder") &&
        !gs_is_object(&encoder, "flaxformer.architectures.t5.t5_architecture.Encoder"))
        gs_refuse(g, &encoder, "the encoder", NULL);
    if (!g->st && !gs_is_object(&decoder, "flaxformer.architectures.t5.t5_architecture.Decoder"))
        gs_refuse(g, &decoder, "the decoder", NULL);
    if (prompted) {
        (void)gs_arg(g, &net, "encoder_mask_factory");
        (void)gs_arg(g, &net, "add_fake_prompt_factory");
    }
    if (!g->st && embed.kind != GIN_OBJECT)
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "the model has no shared_token_embedder_factory: encoder and decoder must "
                        "share their embedding");
    m->width = gs_positive(g, &embed, "features");
    same(g, &embed, "num_embeddings", &m->vocab, gs_positive(g, &embed, "num_embeddings"));
    (void)gs_arg(g, &embed, "one_hot");
    (void)gs_arg(g, &embed, "name");
    (void)gs_arg(g, &embed, "cast_input_dtype");
    (void)gs_dtype_text(g, &embed, "dtype");
    (void)gs_dtype_text(g, &embed, "attend_dtype");
    read_stack(g, &encoder, false, m, &rate);
    read_stack(g, &decoder, true, m, &rate);
    m->dropout = rate < 0 ? 0 : rate;
    if (!g->st && !(m->dropout < 1))
        g->st = err_set(g->err, SPT_E_CONFIG, "a dropout rate of %g", m->dropout);
    if (gs_is_object(&encoder, "prompt_tuning.train.layers.PromptEncoder"))
        read_prompt(g, &encoder, &m->prompt);
}

/* The masks of prompt_tuning take the prompt's length once more. */
static void check_mask_length(struct gs *g, const char *name, int64_t P)
{
    gin_value v;
    spt_err ignored = {0};
    if (g->st || gin_call(g->c, name, NULL, 0, &v, &ignored))
        return;
    const int64_t n = gs_integer(g, &v, "prompt_length", P);
    if (strstr(name, "add_fake"))
        gs_only_bool(g, &v, "multitask", false);
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
    const gin_value f = gs_arg(g, model, "loss_normalizing_factor");
    double number;
    o->z_loss = (float)gs_real(g, model, "z_loss", 0);
    o->label_smoothing = (float)gs_real(g, model, "label_smoothing", 0);
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
    gs_complain(g, model, "loss_normalizing_factor", &f,
             "wanted None, a positive number, NUM_REAL_TARGET_TOKENS, NUM_TOTAL_TARGET_TOKENS or "
             "AVERAGE_PER_SEQUENCE");
}

static void read_adafactor(struct gs *g, const gin_value *v, struct optim_config *cfg)
{
    struct adafactor_opts *o = &cfg->adafactor;
    *cfg = optim_config_default();
    cfg->kind = OPTIM_ADAFACTOR;
    (void)gs_arg(g, v, "learning_rate"); /* the trainer's schedule always wins */
    o->factored = gs_boolean(g, v, "factored", true);
    o->multiply_by_parameter_scale = gs_boolean(g, v, "multiply_by_parameter_scale", true);
    o->beta1 = gs_real(g, v, "beta1", -1);
    o->decay_rate = gs_real(g, v, "decay_rate", 0.8);
    o->step_offset = gs_integer(g, v, "step_offset", 0);
    o->clipping_threshold = gs_real(g, v, "clipping_threshold", 0);
    o->weight_decay_rate = gs_real(g, v, "weight_decay_rate", 0);
    o->weight_decay_rate_lr_exponent = gs_real(g, v, "weight_decay_rate_lr_exponent", 0);
    o->min_dim_size_to_factor = gs_integer(g, v, "min_dim_size_to_factor", 128);
    o->epsilon1 = gs_real(g, v, "epsilon1", 1e-30);
    o->epsilon2 = gs_real(g, v, "epsilon2", 1e-3);
    o->max_parameter_scale = gs_real(g, v, "max_parameter_scale", 0);
    o->skip_nan_updates = gs_boolean(g, v, "skip_nan_updates", false);
    const char *momentum = gs_dtype_text(g, v, "dtype_momentum");
    o->momentum_bfloat16 = momentum && !strcmp(momentum, "bfloat16");
    cfg->global_norm_clip = gs_real(g, v, "global_norm_clip_threshold", 0);
    gs_only_none(g, v, "factor_map");
    (void)gs_arg(g, v, "logical_factor_rules"); /* ignored by the reference for matrices, too */
}

static void read_adamw(struct gs *g, const gin_value *v, bool decays, struct gin_model *m)
{
    struct adamw_opts *o = &m->optim.adamw;
    m->optim = optim_config_default();
    m->optim.kind = OPTIM_ADAMW;
    o->b1 = gs_real(g, v, "b1", 0.9);
    o->b2 = gs_real(g, v, "b2", 0.999);
    o->eps = gs_real(g, v, "eps", 1e-8);
    o->eps_root = gs_real(g, v, "eps_root", 0);
    o->weight_decay = decays ? gs_real(g, v, "weight_decay", 1e-4) : 0;
    m->own_learning_rate = true;
    m->learning_rate = gs_real(g, v, "learning_rate", 0);
}

static void read_selected(struct gs *g, const gin_value *pair, struct gin_model *m)
{
    if (pair->kind != GIN_TUPLE || pair->count != 2 ||
        !gs_is_object(&pair->u.items[0], "flax.traverse_util.ModelParamTraversal")) {
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "MultiOptimizer.traversals_and_optimizers: wanted pairs of "
                        "@traverse_util.ModelParamTraversal() and an optimizer");
        return;
    }
    const gin_value filter = gs_arg(g, &pair->u.items[0], "filter_fn");
    if (!gs_is_object(&filter, "prompt_tuning.train.utils.match_any")) {
        gs_refuse(g, &filter, "the parameter filter", "wanted @prompt_utils.match_any()");
        return;
    }
    gs_texts(g, &filter, "regexes", &m->trained);
    const gin_value *o = &pair->u.items[1];
    if (gs_is_object(o, "t5x.adafactor.Adafactor"))
        read_adafactor(g, o, &m->optim);
    else if (gs_is_object(o, "t5x.optimizers.adamw") || gs_is_object(o, "t5x.optimizers.adam"))
        read_adamw(g, o, gs_is_object(o, "t5x.optimizers.adamw"), m);
    else
        gs_refuse(g, o, "the optimizer", "there are adafactor.Adafactor, optimizers.adamw and "
                                      "optimizers.adam");
}

static void read_optimizer(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value v = gs_arg(g, model, "optimizer_def");
    if (g->st || v.kind == GIN_NONE)
        return;
    if (!gs_is_object(&v, "t5x.optimizers.MultiOptimizer") &&
        !gs_is_object(&v, "prompt_tuning.train.utils.MultiOptimizer")) {
        gs_refuse(g, &v, "training all parameters with", "only prompts are trained here: wanted "
                                                      "@optim.MultiOptimizer()");
        return;
    }
    const gin_value list = gs_arg(g, &v, "traversals_and_optimizers");
    if (g->st)
        return;
    if ((list.kind != GIN_TUPLE && list.kind != GIN_LIST) || list.count != 1) {
        gs_complain(g, &v, "traversals_and_optimizers", &list, "one pair is supported");
        return;
    }
    m->trains = true;
    read_selected(g, &list.u.items[0], m);
}

/* --- vocabulary, decoding ---------------------------------------------------------------------- */

static void read_vocabulary(struct gs *g, const gin_value *model, struct gin_model *m)
{
    const gin_value v = gs_arg(g, model, "input_vocabulary");
    const gin_value out = gs_arg(g, model, "output_vocabulary");
    if (g->st)
        return;
    if (gs_is_object(&v, "seqio.ByteVocabulary")) {
        m->vocab_file = "bytes";
        m->extra_ids = gs_integer(g, &v, "extra_ids", 0);
    } else if (gs_is_object(&v, "seqio.SentencePieceVocabulary")) {
        m->vocab_file = gs_needed_text(g, &v, "sentencepiece_model_file");
        m->extra_ids = gs_integer(g, &v, "extra_ids", 0);
        m->extra_ids_ascending = !gs_boolean(g, &v, "reverse_extra_ids", true);
        gs_only_none(g, &v, "normalizer_spec_overrides");
    } else {
        gs_refuse(g, &v, "the vocabulary", "there are SentencePieceVocabulary and ByteVocabulary");
    }
    if (!g->st && gs_is_object(&out, "seqio.SentencePieceVocabulary") &&
        strcmp(gs_needed_text(g, &out, "sentencepiece_model_file"), m->vocab_file))
        g->st = err_set(g->err, SPT_E_CONFIG,
                        "input_vocabulary and output_vocabulary differ: one vocabulary is "
                        "supported");
}

static void read_decoding(struct gs *g, const gin_value *model, struct gin_model *m)
{
    static const char *const caller[] = {"inputs", "cache", "tokens_to_logits", "eos_id"};
    static const char *const batch[] = {"params", "batch"};
    gin_value fn = gs_arg(g, model, "decode_fn"), method = {.kind = GIN_NONE};
    gin_arg given[2] = {{batch[0], {.kind = GIN_NONE}}, {batch[1], {.kind = GIN_NONE}}};
    spt_err ignored = {0};
    int64_t decodes = 1;
    if (g->st)
        return;
    if (!gin_call(g->c, "t5x.models.EncoderDecoderModel.predict_batch_with_aux", given, 2, &method,
                  &ignored)) {
        decodes = gs_integer(g, &method, "num_decodes", 1);
        m->prompt_with_targets = gs_boolean(g, &method, "prompt_with_targets", false);
        gs_only_bool(g, &method, "return_all_decodes", false);
    }
    m->decode = decode_opts_default(DECODE_BEAM_T5X);
    if (fn.kind == GIN_CALLABLE)
        fn = gs_make(g, model, "decode_fn", caller, 4);
    if (g->st)
        return;
    if (gs_is_object(&fn, "t5x.decoding.temperature_sample")) {
        m->decode = decode_opts_default(DECODE_SAMPLE_T5X);
        m->decode.temperature = gs_real(g, &fn, "temperature", 1);
        m->decode.top_p = gs_real(g, &fn, "topp", 0);
        m->decode.top_k = gs_integer(g, &fn, "topk", 1);
        m->decode.max_decode_steps = gs_integer(g, &fn, "max_decode_steps", 0);
        m->decode.rescale_log_probs = gs_boolean(g, &fn, "rescale_log_probs", true);
    } else if (gs_is_object(&fn, "t5x.decoding.beam_search")) {
        m->decode.alpha = gs_real(g, &fn, "alpha", 0.6);
        const int64_t most = gs_integer(g, &fn, "max_decode_step", -1);
        m->decode.max_decode_steps = most > 0 ? most : 0;
    } else if (fn.kind != GIN_OPAQUE) {
        gs_refuse(g, &fn, "the decoding function", "there are beam_search and temperature_sample");
    }
    m->decode.want_scores = true;
    m->decode.n = decodes;
    m->decode.beams = m->decode.method == DECODE_BEAM_T5X ? decodes : 1;
    if (decodes < 1 && !g->st)
        g->st = err_set(g->err, SPT_E_CONFIG, "num_decodes = %lld", (long long)decodes);
}

void gs_read_model(struct gs *g, const gin_value *root, struct gin_model *m)
{
    const gin_value model = gs_arg(g, root, "model");
    if (g->st)
        return;
    if (!gs_is_object(&model, "t5x.models.EncoderDecoderModel")) {
        gs_refuse(g, &model, "the model", "t5x.models.EncoderDecoderModel is");
        return;
    }
    gs_only_none(g, &model, "feature_converter_cls");
    gs_only_none(g, &model, "default_decoder_params");
    read_network(g, &model, m);
    check_mask_length(g, "prompt_tuning.prompt_masks.add_fake_prompt", m->prompt.P);
    check_mask_length(g, "prompt_tuning.prompt_masks.create_prompt_encoder_mask", m->prompt.P);
    read_loss(g, &model, &m->loss);
    read_optimizer(g, &model, m);
    read_vocabulary(g, &model, m);
    read_decoding(g, &model, m);
}

void gs_model_release(struct gin_model *m)
{
    mem_free(m->trained.item);
    mem_free(m->prompt.texts);
    m->trained = (struct gin_texts){0};
    m->prompt.texts = NULL;
}
