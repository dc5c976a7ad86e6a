/* Dropout masks as the reference draws them (spec/t5x.md sections 1.11 and 11.7): one key per
 * module path, bits for the padded rectangle of the whole batch. Of a mask [B, H, 1, K] or
 * [B, 1, E] we compute the elements of our examples and of their real keys only; the counter-based
 * generator yields any element without the others. */
#include <stdio.h>

#include "model/model_internal.h"
#include "random/flax_path.h"
#include "random/threefry.h"

struct site {
    struct rng_key step;
    enum flax_rng mode;
    float keep; /* probability */
    t5_acts *a;
    int64_t B; /* of the whole batch */
    char path[96];
};

/* Multipliers of elements first..first+count of a mask of n. keep is drawn as uniform < keep. */
static void draw(const struct site *s, struct rng_key key, int64_t n, int64_t first, int64_t count,
                 float *out)
{
    enum { STEP = 256 };
    uint32_t bits[STEP];
    const float kept = 1 / s->keep;
    for (int64_t at = 0; at < count; at += STEP) {
        const int64_t part = count - at < STEP ? count - at : STEP;
        rng_bits_range(key, (size_t)n, (size_t)(first + at), (size_t)part, bits, RNG_CLASSIC);
        for (int64_t i = 0; i < part; i++)
            out[at + i] = (float)(bits[i] >> 9) * 0x1p-23f < s->keep ? kept : 0;
    }
}

static struct rng_key site_key(const struct site *s)
{
    return flax_path_key(s->step, s->path, 1, s->mode);
}

/* [B, 1, width]: the rows of our range. */
static void features(const struct site *s, int64_t width, float *out)
{
    draw(s, site_key(s), s->B * width, s->a->first * width, s->a->B * width, out);
}

static void name(struct site *s, const char *stack, int64_t layer, const char *module)
{
    if (layer < 0)
        snprintf(s->path, sizeof s->path, "%s/%s", stack, module);
    else
        snprintf(s->path, sizeof s->path, "%s/layers_%lld/%s", stack, (long long)layer, module);
}

/* The same of the feed-forward columns of this rank. */
static void ff_features(struct site *s, const char *stack, int64_t layer, float *out)
{
    const t5_model *m = s->a->m;
    name(s, stack, layer, "mlp/Dropout_0");
    for (int64_t b = 0; b < s->a->B; b++)
        draw(s, site_key(s), s->B * m->c.ff, (s->a->first + b) * m->c.ff + m->first_ff, m->own.ff,
             out + b * m->own.ff);
}

/* [B, heads, 1, K]: the keys of our examples and heads, packed. */
static void weights(const struct site *s, int64_t K, const int64_t *off, float *out)
{
    const struct rng_key key = site_key(s);
    const t5_model *m = s->a->m;
    const int64_t H = m->c.heads, first = m->first_head;
    for (int64_t b = 0; b < s->a->B; b++)
        for (int64_t h = first; h < first + m->own.heads; h++) {
            const int64_t keys = off[b + 1] - off[b];
            draw(s, key, s->B * H * K, ((s->a->first + b) * H + h) * K, keys, out);
            out += keys;
        }
}

static void stack_features(struct site *s, const char *stack, int64_t layer, const char *module,
                           int64_t width, float *out)
{
    name(s, stack, layer, module);
    features(s, width, out);
}

static void stack_weights(struct site *s, const char *stack, int64_t layer, const char *module,
                          int64_t K, const int64_t *off, float *out)
{
    name(s, stack, layer, module);
    weights(s, K, off, out);
}

void dropout_masks(t5_acts *a, const struct t5_dropout *d, const struct packed_batch *batch)
{
    const struct t5_config *c = &a->m->c;
    const int64_t E = c->width, Ke = a->P + batch->Le, Kd = a->P_dec + batch->Ld;
    a->has_drop = d && d->rate > 0;
    if (!a->has_drop)
        return;
    struct site s = {.step = {{d->key[0], d->key[1]}},
                     .mode = d->legacy_paths ? FLAX_LEGACY : FLAX_LAZY,
                     .keep = (float)(1 - (double)d->rate),
                     .a = a,
                     .B = batch->B};
    stack_features(&s, "encoder", -1, "input_dropout", E, a->drop_enc_in);
    stack_features(&s, "encoder", -1, "output_dropout", E, a->drop_enc_out);
    stack_features(&s, "decoder", -1, "input_dropout", E, a->drop_dec_in);
    stack_features(&s, "decoder", -1, "output_dropout", E, a->drop_dec_out);
    for (int64_t i = 0; i < c->enc_layers; i++) {
        struct enc_acts *l = &a->enc[i];
        stack_weights(&s, "encoder", i, "attention", Ke, a->enc_off, l->self.drop_att);
        stack_features(&s, "encoder", i, "post_attention_dropout", E, l->self.drop_out);
        ff_features(&s, "encoder", i, l->mlp.drop_in);
        stack_features(&s, "encoder", i, "post_mlp_dropout", E, l->mlp.drop_out);
    }
    for (int64_t i = 0; i < c->dec_layers; i++) {
        struct dec_acts *l = &a->dec[i];
        stack_weights(&s, "decoder", i, "self_attention", Kd, a->dec_off, l->self.drop_att);
        stack_features(&s, "decoder", i, "post_self_attention_dropout", E, l->self.drop_out);
        stack_weights(&s, "decoder", i, "encoder_decoder_attention", Ke, a->enc_off,
                      l->cross.drop_att);
        stack_features(&s, "decoder", i, "post_cross_attention_dropout", E, l->cross.drop_out);
        ff_features(&s, "decoder", i, l->mlp.drop_in);
        stack_features(&s, "decoder", i, "post_mlp_dropout", E, l->mlp.drop_out);
    }
}
