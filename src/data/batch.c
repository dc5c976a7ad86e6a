#include "data/batch.h"

#include <string.h>

#include "base/mem.h"
#include "data/shuffle.h"

struct batch_storage {
    int64_t *enc_off, *dec_off, *index;
    size_t enc_off_cap, dec_off_cap, index_cap;
    int32_t *enc_ids, *dec_in, *dec_target;
    size_t enc_cap, dec_in_cap, dec_target_cap;
    struct example *examples; /* batch_make gathers here */
    size_t example_cap;
};

#define MAX_TOKENS ((size_t)1 << 40)

static spt_status make_room(struct batch_storage *s, size_t n, size_t enc, size_t dec, spt_err *err)
{
    TRY(mem_grow(&s->enc_off, &s->enc_off_cap, n + 1, sizeof *s->enc_off, UINT32_MAX, err));
    TRY(mem_grow(&s->dec_off, &s->dec_off_cap, n + 1, sizeof *s->dec_off, UINT32_MAX, err));
    TRY(mem_grow(&s->index, &s->index_cap, n + 1, sizeof *s->index, UINT32_MAX, err));
    TRY(mem_grow(&s->enc_ids, &s->enc_cap, enc + 1, sizeof *s->enc_ids, MAX_TOKENS, err));
    TRY(mem_grow(&s->dec_in, &s->dec_in_cap, dec + 1, sizeof *s->dec_in, MAX_TOKENS, err));
    return mem_grow(&s->dec_target, &s->dec_target_cap, dec + 1, sizeof *s->dec_target, MAX_TOKENS,
                    err);
}

static spt_status get_storage(batch *b, spt_err *err)
{
    if (!b->storage)
        b->storage = mem_zalloc(1, sizeof *b->storage);
    return b->storage ? SPT_OK : err_nomem(err, sizeof *b->storage);
}

/* SeqIO's shift: the start id 0, then the targets without their last. */
static void shift_right(int32_t *in, const int32_t *target, size_t n)
{
    if (!n)
        return;
    in[0] = 0;
    memcpy(in + 1, target, (n - 1) * sizeof *in);
}

spt_status batch_from(batch *b, const struct example *x, size_t n, int64_t Le, int64_t Ld,
                      spt_err *err)
{
    size_t enc = 0, dec = 0, longest_enc = 0, longest_dec = 0;
    for (size_t i = 0; i < n; i++) {
        enc += x[i].input_len;
        dec += x[i].target_len;
        longest_enc = x[i].input_len > longest_enc ? x[i].input_len : longest_enc;
        longest_dec = x[i].target_len > longest_dec ? x[i].target_len : longest_dec;
    }
    TRY(get_storage(b, err));
    struct batch_storage *s = b->storage;
    TRY(make_room(s, n, enc, dec, err));
    int64_t at_enc = 0, at_dec = 0;
    for (size_t i = 0; i < n; i++) {
        s->enc_off[i] = at_enc;
        s->dec_off[i] = at_dec;
        s->index[i] = (int64_t)i;
        if (x[i].input_len)
            memcpy(s->enc_ids + at_enc, x[i].input, x[i].input_len * sizeof *s->enc_ids);
        if (x[i].target_len)
            memcpy(s->dec_target + at_dec, x[i].target, x[i].target_len * sizeof *s->dec_target);
        shift_right(s->dec_in + at_dec, x[i].target, x[i].target_len);
        at_enc += (int64_t)x[i].input_len;
        at_dec += (int64_t)x[i].target_len;
    }
    s->enc_off[n] = at_enc;
    s->dec_off[n] = at_dec;
    b->view = (struct packed_batch){
        .B = (int64_t)n,
        .enc_off = s->enc_off,
        .enc_ids = s->enc_ids,
        .dec_off = s->dec_off,
        .dec_in = s->dec_in,
        .dec_target = s->dec_target,
        .Le = Le ? Le : (int64_t)longest_enc,
        .Ld = Ld ? Ld : (int64_t)longest_dec,
        .index = s->index,
    };
    return SPT_OK;
}

spt_status batch_make(batch *b, const examples *e, const uint32_t *which, size_t n, int64_t Le,
                      int64_t Ld, spt_err *err)
{
    TRY(get_storage(b, err));
    struct batch_storage *s = b->storage;
    TRY(mem_grow(&s->examples, &s->example_cap, n + 1, sizeof *s->examples, UINT32_MAX, err));
    for (size_t i = 0; i < n; i++)
        s->examples[i] = examples_at(e, which[i]);
    TRY(batch_from(b, s->examples, n, Le, Ld, err));
    for (size_t i = 0; i < n; i++)
        s->index[i] = which[i];
    return SPT_OK;
}

void batch_release(batch *b)
{
    struct batch_storage *s = b->storage;
    if (s) {
        mem_free(s->enc_off);
        mem_free(s->dec_off);
        mem_free(s->index);
        mem_free(s->enc_ids);
        mem_free(s->dec_in);
        mem_free(s->dec_target);
        mem_free(s->examples);
        mem_free(s);
    }
    *b = (batch){0};
}

/* --- training order ----------------------------------------------------------------------- */

struct train_order {
    struct train_order_options o;
    size_t usable; /* examples of an epoch that are handed out */
    struct batch_position at;
    bool ordered; /* order[] is the one of epoch at.epoch */
    uint32_t *order;
};

spt_status train_order_new(const struct train_order_options *o, train_order **out, spt_err *err)
{
    if (!o->count)
        return err_set(err, SPT_E_CONFIG, "there are no examples to train on");
    if (!o->batch)
        return err_set(err, SPT_E_CONFIG, "the batch size is 0");
    if (o->count > UINT32_MAX)
        return err_set(err, SPT_E_CONFIG, "%zu examples; the limit is %u", o->count, UINT32_MAX);
    if (o->drop_last && o->count < o->batch)
        return err_set(err, SPT_E_CONFIG,
                       "%zu examples do not fill a batch of %zu and incomplete batches are "
                       "dropped: nothing would be trained on",
                       o->count, o->batch);
    train_order *t = mem_zalloc(1, sizeof *t);
    uint32_t *order = t ? mem_alloc(o->count, sizeof *order) : NULL;
    if (!order) {
        mem_free(t);
        return err_nomem(err, o->count * sizeof *order);
    }
    t->o = *o;
    t->order = order;
    t->usable = o->drop_last ? o->count - o->count % o->batch : o->count;
    *out = t;
    return SPT_OK;
}

void train_order_free(train_order *t)
{
    if (!t)
        return;
    mem_free(t->order);
    mem_free(t);
}

static void make_order(train_order *t)
{
    if (t->ordered)
        return;
    if (t->o.in_order)
        for (size_t i = 0; i < t->o.count; i++)
            t->order[i] = (uint32_t)i;
    else
        shuffle_epoch(t->o.seed, t->at.epoch, t->order, t->o.count);
    t->ordered = true;
}

/* The end of an epoch is the start of the next: one position, one spelling. */
static void wrap(train_order *t)
{
    if (t->at.offset < t->usable)
        return;
    t->at.epoch++;
    t->at.offset = 0;
    t->ordered = false;
}

spt_status train_order_next(train_order *t, const uint32_t **which, size_t *n, spt_err *err)
{
    if (t->at.epoch == UINT64_MAX)
        return err_set(err, SPT_E_INTERNAL, "no epochs are left");
    /* Only now: the order of the next epoch overwrites what was handed out last. */
    wrap(t);
    make_order(t);
    const size_t left = t->usable - (size_t)t->at.offset;
    *which = t->order + t->at.offset;
    *n = left < t->o.batch ? left : t->o.batch;
    t->at.offset += *n;
    return SPT_OK;
}

struct batch_position train_order_tell(const train_order *t)
{
    struct batch_position p = t->at;
    if (p.offset >= t->usable)
        p = (struct batch_position){p.epoch + 1, 0};
    return p;
}

spt_status train_order_seek(train_order *t, struct batch_position p, spt_err *err)
{
    if (p.offset > t->o.count)
        return err_set(err, SPT_E_FORMAT,
                       "the saved position is example %llu of an epoch, but there are %zu "
                       "examples: the training data changed",
                       (unsigned long long)p.offset, t->o.count);
    if (p.epoch != t->at.epoch)
        t->ordered = false;
    t->at = p;
    wrap(t);
    return SPT_OK;
}

uint64_t train_order_steps_per_epoch(const train_order *t)
{
    return (t->usable + t->o.batch - 1) / t->o.batch;
}

/* --- evaluation order --------------------------------------------------------------------- */

struct eval_order {
    uint32_t *order;
    size_t count, batch;
};

static void sift_key(uint64_t *k, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && k[child] < k[child + 1])
            child++;
        if (k[i] >= k[child])
            return;
        const uint64_t t = k[i];
        k[i] = k[child];
        k[child] = t;
    }
}

static void sort_keys(uint64_t *k, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_key(k, i, n);
    for (size_t end = n; end-- > 1;) {
        const uint64_t t = k[0];
        k[0] = k[end];
        k[end] = t;
        sift_key(k, 0, end);
    }
}

spt_status eval_order_new(const examples *e, size_t batch_size, eval_order **out, spt_err *err)
{
    const size_t n = examples_count(e);
    if (!batch_size)
        return err_set(err, SPT_E_CONFIG, "the batch size is 0");
    eval_order *t = mem_zalloc(1, sizeof *t);
    uint32_t *order = mem_alloc(n + 1, sizeof *order);
    uint64_t *key = mem_alloc(n + 1, sizeof *key);
    if (!t || !order || !key) {
        mem_free(t);
        mem_free(order);
        mem_free(key);
        return err_nomem(err, n * sizeof *key);
    }
    /* Longest first: the largest batch shows at once whether memory suffices. Equal lengths keep
     * the order of the file. */
    for (size_t i = 0; i < n; i++) {
        const struct example x = examples_at(e, i);
        const size_t work = x.input_len + x.target_len;
        const uint32_t w = work < UINT32_MAX ? (uint32_t)work : UINT32_MAX;
        key[i] = (uint64_t)(UINT32_MAX - w) << 32 | (uint32_t)i;
    }
    sort_keys(key, n);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)key[i];
    mem_free(key);
    *t = (eval_order){order, n, batch_size};
    *out = t;
    return SPT_OK;
}

void eval_order_free(eval_order *t)
{
    if (!t)
        return;
    mem_free(t->order);
    mem_free(t);
}

size_t eval_order_batches(const eval_order *t)
{
    return (t->count + t->batch - 1) / t->batch;
}

void eval_order_at(const eval_order *t, size_t i, const uint32_t **which, size_t *n)
{
    const size_t from = i * t->batch, left = t->count - from;
    *which = t->order + from;
    *n = left < t->batch ? left : t->batch;
}
