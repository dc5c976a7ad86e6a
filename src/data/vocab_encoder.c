#include "data/encoder.h"

#include <string.h>

#include "base/mem.h"

spt_status id_list_add(struct id_list *l, const int32_t *ids, size_t n, spt_err *err)
{
    size_t need;
    if (!add_size(l->len, n, &need))
        return err_nomem(err, SIZE_MAX);
    TRY(mem_grow(&l->id, &l->cap, need, sizeof *l->id, SIZE_MAX / sizeof *l->id, err));
    if (n)
        memcpy(l->id + l->len, ids, n * sizeof *ids);
    l->len = need;
    return SPT_OK;
}

void id_list_release(struct id_list *l)
{
    mem_free(l->id);
    *l = (struct id_list){0};
}

spt_status encoder_check_ids(const struct data_encoder *e, const int32_t *ids, size_t n,
                             spt_err *err)
{
    for (size_t i = 0; i < n && e->rows > 0; i++)
        if (ids[i] < 0 || ids[i] >= e->rows)
            return err_set(err, SPT_E_FORMAT,
                           "the text has the id %d, but the model's embedding has %lld rows: take "
                           "the piece out of the text (spt tokenize shows it), or the vocabulary "
                           "is not the model's",
                           (int)ids[i], (long long)e->rows);
    return SPT_OK;
}

struct vocab_ctx {
    const vocab *v;
    struct vocab_ids ids;
};

static spt_status vocab_ctx_encode(void *ctx, const char *text, size_t len, struct id_list *out,
                                   spt_err *err)
{
    struct vocab_ctx *c = ctx;
    c->ids.count = 0;
    TRY(vocab_encode(c->v, text, len, &c->ids, err));
    return id_list_add(out, c->ids.id, c->ids.count, err);
}

static spt_status vocab_ctx_decode(void *ctx, const int32_t *ids, size_t n, buf *out, spt_err *err)
{
    const struct vocab_ctx *c = ctx;
    return vocab_decode(c->v, ids, n, out, err);
}

static spt_status vocab_ctx_unwritable(void *ctx, const char *text, size_t len, buf *out,
                                       spt_err *err)
{
    const struct vocab_ctx *c = ctx;
    struct vocab_writable w;
    return vocab_check_writable(c->v, text, len, &w, out, err);
}

spt_status data_encoder_of_vocab(const vocab *v, struct data_encoder *out, spt_err *err)
{
    struct vocab_ctx *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    c->v = v;
    const enum vocab_rule rule = vocab_rule(v);
    const bool bytes = rule == VOCAB_BYTES || rule == VOCAB_BYTES_HF;
    *out = (struct data_encoder){
        .encode = vocab_ctx_encode,
        .decode = vocab_ctx_decode,
        .unwritable = vocab_ctx_unwritable,
        .ctx = c,
        .eos_id = vocab_eos_id(v),
        .unk_id = bytes ? -1 : vocab_unk_id(v),
        .pad_id = vocab_pad_id(v),
        .no_second_eos = rule == VOCAB_HF_SLOW || rule == VOCAB_BYTES_HF,
    };
    return SPT_OK;
}

void data_encoder_release(struct data_encoder *e)
{
    struct vocab_ctx *c = e->ctx;
    if (c)
        vocab_ids_release(&c->ids);
    mem_free(c);
    *e = (struct data_encoder){0};
}
