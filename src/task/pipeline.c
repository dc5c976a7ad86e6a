/* The reference's input pipeline for one reader, without parallelism: parallelism changes nothing
 * there either, its maps keep their order. */
#include "task/pipeline.h"

#include <string.h>

#include "base/mem.h"
#include "task/noise.h"
#include "task/tf_order.h"

enum { MAX_IDS = 1 << 26, MAX_QUEUE = 1 << 20, CHUNK = 65536, TEXTS_JOINED = 128 };
#define NOISE_DENSITY 0.15
#define NOISE_SPAN 3.0

/* An example with its storage, reused. */
struct item {
    record fields;
    struct vocab_ids input, target;
};

struct member {
    const struct task *task;
    double rate;
    task_source *source;
    record raw;
    int64_t position; /* of the next raw example in its stream */
    uint64_t epochs;  /* finished */
    bool ended;
    /* Items live in slots; the queue and the shuffle buffer hold slot numbers. */
    struct item *slot;
    size_t slots, slot_cap;
    uint64_t *unused, *queue;
    size_t unused_count, unused_cap, queue_at, queue_len, queue_cap;
    tf_shuffle *shuffle;
    uint64_t held; /* slot handed out last, to be reused; UINT64_MAX: none */
    /* C4 objectives: ids of the texts gathered so far, and the noise of the next piece */
    philox random;
    struct vocab_ids gathered;
    size_t texts;
    bool *mask;
    size_t mask_cap;
};

struct pipeline {
    struct pipeline_options o;
    struct member *member;
    size_t members;
    double *weight;
    tf_choices choices;
};

/* --- items -------------------------------------------------------------------------------- */

static spt_status take_slot(struct member *m, uint64_t *out, spt_err *err)
{
    if (m->unused_count) {
        *out = m->unused[--m->unused_count];
        return SPT_OK;
    }
    TRY(mem_grow(&m->slot, &m->slot_cap, m->slots + 1, sizeof *m->slot, MAX_QUEUE, err));
    TRY(mem_grow(&m->unused, &m->unused_cap, m->slots + 1, sizeof *m->unused, MAX_QUEUE, err));
    m->slot[m->slots] = (struct item){0};
    *out = m->slots++;
    return SPT_OK;
}

static void return_slot(struct member *m, uint64_t which)
{
    m->unused[m->unused_count++] = which; /* take_slot has made room for every slot */
}

static spt_status encode(const pipeline *p, const struct field_text *text, int32_t sentinel,
                         int64_t limit, struct vocab_ids *out, spt_err *err)
{
    out->count = 0;
    TRY(vocab_encode(p->o.vocabulary, text->s, text->len, out, err));
    if (sentinel >= 0) {
        TRY(mem_grow(&out->id, &out->cap, out->count + 1, sizeof *out->id, MAX_IDS, err));
        memmove(out->id + 1, out->id, out->count * sizeof *out->id);
        out->id[0] = sentinel;
        out->count++;
    }
    if (limit > 0 && out->count > (size_t)limit - 1)
        out->count = (size_t)limit - 1;
    return vocab_append_eos(p->o.vocabulary, out, err);
}

static bool is_output(const char *name)
{
    return strcmp(name, "inputs") == 0 || strcmp(name, "targets") == 0;
}

/* Names of a source live in its record, so they are copied. */
static spt_status copy_named(record *to, const struct record_field *f, const char *name,
                             spt_err *err)
{
    char *kept = record_alloc(to, strlen(name) + 1);
    if (!kept)
        return err_nomem(err, strlen(name));
    memcpy(kept, name, strlen(name) + 1);
    return record_copy_field(to, kept, f, err);
}

/* The passed-through fields, and the texts under their _pretokenized names. */
static spt_status keep_fields(const record *from, record *to, spt_err *err)
{
    record_clear(to);
    for (size_t i = 0; i < from->fields; i++) {
        const struct record_field *f = &from->field[i];
        const char *name = !is_output(f->name)              ? f->name
                           : strcmp(f->name, "inputs") == 0 ? "inputs_pretokenized"
                                                            : "targets_pretokenized";
        TRY(copy_named(to, f, name, err));
    }
    return SPT_OK;
}

struct making {
    pipeline *p;
    struct member *m;
};

static spt_status enqueue(struct member *m, uint64_t which, spt_err *err)
{
    TRY(mem_grow(&m->queue, &m->queue_cap, m->queue_at + m->queue_len + 1, sizeof *m->queue,
                 MAX_QUEUE, err));
    m->queue[m->queue_at + m->queue_len++] = which;
    return SPT_OK;
}

/* --- C4 objectives ------------------------------------------------------------------------- */

static uint32_t next_random(void *ctx)
{
    return philox_next(ctx);
}

static spt_status finish_ids(const pipeline *p, struct vocab_ids *ids, int64_t limit, spt_err *err)
{
    if (limit > 0 && ids->count > (size_t)limit - 1)
        ids->count = (size_t)limit - 1;
    return vocab_append_eos(p->o.vocabulary, ids, err);
}

static spt_status make_room(struct vocab_ids *ids, size_t n, spt_err *err)
{
    ids->count = 0;
    return mem_grow(&ids->id, &ids->cap, n + 1, sizeof *ids->id, MAX_IDS, err);
}

static spt_status draw_mask(struct member *m, size_t n, spt_err *err)
{
    TRY(mem_grow(&m->mask, &m->mask_cap, n + 1, sizeof *m->mask, MAX_IDS, err));
    switch (m->task->noise) {
    case NOISE_TOKEN_DELETION:
        noise_iid(n, NOISE_DENSITY, next_random, &m->random, m->mask);
        return SPT_OK;
    case NOISE_TEXT_INFILLING:
    case NOISE_SPAN_CORRUPTION:
        return noise_random_spans(n, NOISE_DENSITY, NOISE_SPAN, next_random, &m->random, m->mask,
                                  err);
    default:
        break;
    }
    const size_t first = noise_prefix(n, next_random, &m->random);
    for (size_t i = 0; i < n; i++)
        m->mask[i] = i < first;
    return SPT_OK;
}

/* Inputs and targets of one piece of text. */
static spt_status apply_noise(pipeline *p, struct member *m, const int32_t *id, size_t n,
                              struct item *it, spt_err *err)
{
    const int32_t size = vocab_size(p->o.vocabulary);
    TRY(draw_mask(m, n, err));
    TRY(make_room(&it->input, n, err));
    TRY(make_room(&it->target, n, err));
    switch (m->task->noise) {
    case NOISE_TOKEN_DELETION:
        it->input.count = noise_keep(id, m->mask, n, false, it->input.id);
        break;
    case NOISE_TEXT_INFILLING:
    case NOISE_SPAN_CORRUPTION:
        it->input.count = noise_to_sentinels(id, m->mask, n, true, size, it->input.id);
        break;
    default:
        it->input.count = noise_keep(id, m->mask, n, true, it->input.id);
    }
    switch (m->task->noise) {
    case NOISE_TOKEN_DELETION:
    case NOISE_TEXT_INFILLING:
        memcpy(it->target.id, id, n * sizeof *id);
        it->target.count = n;
        break;
    case NOISE_SPAN_CORRUPTION:
        it->target.count = noise_to_sentinels(id, m->mask, n, false, size, it->target.id);
        break;
    case NOISE_RANDOM_LABEL: {
        const char *label = philox_next(&m->random) & 1 ? "positive" : "negative";
        TRY(vocab_encode(p->o.vocabulary, label, strlen(label), &it->target, err));
        break;
    }
    default:
        it->target.count = noise_keep(id, m->mask, n, false, it->target.id);
    }
    TRY(finish_ids(p, &it->input, p->o.max_input, err));
    return finish_ids(p, &it->target, p->o.max_target, err);
}

static spt_status make_pieces(pipeline *p, struct member *m, spt_err *err)
{
    int64_t piece = p->o.max_input - 1, targets;
    if (m->task->noise == NOISE_SPAN_CORRUPTION)
        noise_span_lengths(p->o.max_input, NOISE_DENSITY, NOISE_SPAN, &piece, &targets);
    for (size_t at = 0; at < m->gathered.count;) {
        const size_t left = m->gathered.count - at;
        const size_t n = left < (size_t)piece ? left : (size_t)piece;
        uint64_t which;
        TRY(take_slot(m, &which, err));
        record_clear(&m->slot[which].fields);
        spt_status st = apply_noise(p, m, m->gathered.id + at, n, &m->slot[which], err);
        if (!st)
            st = enqueue(m, which, err);
        if (st) {
            return_slot(m, which);
            return st;
        }
        at += n;
    }
    m->gathered.count = 0;
    m->texts = 0;
    return SPT_OK;
}

/* Long texts give one random chunk; span corruption joins TEXTS_JOINED of them first. */
static spt_status make_noise(pipeline *p, struct member *m, const record *r, spt_err *err)
{
    struct field_text text;
    const size_t before = m->gathered.count;
    TRY(record_text(r, "targets", &text, err));
    TRY(vocab_encode(p->o.vocabulary, text.s, text.len, &m->gathered, err));
    const size_t n = m->gathered.count - before;
    if (!n)
        return SPT_OK;
    if (n > CHUNK) {
        const size_t chunks = (n + CHUNK - 1) / CHUNK;
        const size_t at = (size_t)(philox_next(&m->random) % chunks) * CHUNK;
        const size_t len = n - at < CHUNK ? n - at : CHUNK;
        int32_t *from = m->gathered.id + before;
        memmove(from, from + at, len * sizeof *from);
        m->gathered.count = before + len;
    }
    if (m->task->noise == NOISE_SPAN_CORRUPTION && ++m->texts < TEXTS_JOINED)
        return SPT_OK;
    return make_pieces(p, m, err);
}

static spt_status cached_ids(const pipeline *p, const record *r, const char *name, int64_t limit,
                             struct vocab_ids *out, spt_err *err)
{
    const struct record_field *f = record_find(r, name);
    const bool ints = f && (f->kind == FIELD_INTS || f->kind == FIELD_INT);
    if (!f || (f->count && !ints))
        return err_set(err, SPT_E_FORMAT, "the cached example has no ids '%s'", name);
    TRY(make_room(out, f->count, err));
    for (size_t i = 0; i < f->count; i++) {
        if (f->u.ints[i] < 0 || f->u.ints[i] > INT32_MAX)
            return err_set(err, SPT_E_FORMAT, "the cached example has id %lld in '%s'",
                           (long long)f->u.ints[i], name);
        out->id[out->count++] = (int32_t)f->u.ints[i];
    }
    return finish_ids(p, out, limit, err);
}

/* What a cache holds already: everything but EOS and cutting. */
static spt_status make_cached(pipeline *p, struct member *m, const record *r, spt_err *err)
{
    uint64_t which;
    TRY(take_slot(m, &which, err));
    struct item *it = &m->slot[which];
    record_clear(&it->fields);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < r->fields && !st; i++)
        if (!is_output(r->field[i].name))
            st = copy_named(&it->fields, &r->field[i], r->field[i].name, err);
    if (!st)
        st = cached_ids(p, r, "inputs", p->o.max_input, &it->input, err);
    if (!st)
        st = cached_ids(p, r, "targets", p->o.max_target, &it->target, err);
    if (!st)
        st = enqueue(m, which, err);
    if (st)
        return_slot(m, which);
    return st;
}

static spt_status make_item(void *ctx, record *r, spt_err *err)
{
    const struct making *k = ctx;
    struct member *m = k->m;
    const struct pipeline_options *o = &k->p->o;
    uint64_t which;
    if (m->task->noise != NOISE_NONE)
        return make_noise(k->p, m, r, err);
    TRY(take_slot(m, &which, err));
    struct item *it = &m->slot[which];
    spt_status st = keep_fields(r, &it->fields, err);
    if (!st && m->task->rank != RANK_FEWSHOT) {
        struct field_text inputs, targets;
        const int32_t sentinel =
            m->task->sentinel >= 0 ? vocab_size(o->vocabulary) - 1 - m->task->sentinel : -1;
        st = record_text(r, "inputs", &inputs, err);
        if (!st)
            st = record_text(r, "targets", &targets, err);
        if (!st)
            st = encode(k->p, &inputs, sentinel, o->max_input, &it->input, err);
        if (!st)
            st = encode(k->p, &targets, -1, o->max_target, &it->target, err);
    }
    if (!st)
        st = enqueue(m, which, err);
    if (st)
        return_slot(m, which);
    return st;
}

/* Fills the queue with the examples of the next raw ones; sets `ended` behind the last epoch. */
static spt_status refill(pipeline *p, struct member *m, spt_err *err)
{
    struct making k = {p, m};
    m->queue_at = 0;
    while (!m->queue_len && !m->ended) {
        bool more;
        TRY(task_source_next(m->source, &m->raw, &more, err));
        if (more) {
            if (task_source_cached(m->source)) {
                m->position++;
                TRY(make_cached(p, m, &m->raw, err));
            } else {
                const spt_status st =
                    task_format(m->task, &m->raw, m->position++, make_item, &k, err);
                if (st)
                    return task_source_wrap(m->source, st, err);
            }
            continue;
        }
        m->epochs++;
        if (!m->position)
            return err_set(err, SPT_E_FORMAT, "task %s: the split %s has no examples",
                           m->task->name, p->o.split);
        if (m->gathered.count && p->o.epochs && m->epochs == p->o.epochs)
            TRY(make_pieces(p, m, err));
        if (p->o.epochs && m->epochs == p->o.epochs)
            m->ended = true;
        else
            TRY(task_source_rewind(m->source, err));
    }
    return SPT_OK;
}

static spt_status next_unshuffled(pipeline *p, struct member *m, uint64_t *which, bool *more,
                                  spt_err *err)
{
    if (!m->queue_len)
        TRY(refill(p, m, err));
    *more = m->queue_len > 0;
    if (*more) {
        *which = m->queue[m->queue_at++];
        m->queue_len--;
    }
    return SPT_OK;
}

static spt_status next_of(pipeline *p, struct member *m, uint64_t *which, bool *more, spt_err *err)
{
    if (m->held != UINT64_MAX) {
        return_slot(m, m->held);
        m->held = UINT64_MAX;
    }
    if (m->shuffle) {
        *more = true;
        while (*more && tf_shuffle_wants(m->shuffle)) {
            TRY(next_unshuffled(p, m, which, more, err));
            if (*more)
                tf_shuffle_push(m->shuffle, *which);
        }
        *more = tf_shuffle_pop(m->shuffle, which);
    } else {
        TRY(next_unshuffled(p, m, which, more, err));
    }
    if (*more)
        m->held = *which;
    return SPT_OK;
}

spt_status pipeline_next(pipeline *p, struct task_example *out, bool *more, spt_err *err)
{
    struct member *m = p->member;
    if (p->members > 1)
        m = &p->member[tf_choices_next(&p->choices, p->weight, p->members)];
    uint64_t which = 0;
    TRY(next_of(p, m, &which, more, err));
    if (!*more)
        return SPT_OK;
    const struct item *it = &m->slot[which];
    *out = (struct task_example){m->task,         it->input.id,     it->target.id,
                                 it->input.count, it->target.count, &it->fields};
    return SPT_OK;
}

spt_status pipeline_skip(pipeline *p, uint64_t examples, spt_err *err)
{
    struct task_example e;
    bool more = true;
    for (uint64_t i = 0; i < examples && more; i++)
        TRY(pipeline_next(p, &e, &more, err));
    if (!more)
        return err_set(err, SPT_E_FORMAT, "%s ends before example %llu", p->o.name,
                       (unsigned long long)examples);
    return SPT_OK;
}

/* --- opening ------------------------------------------------------------------------------ */

static void close_member(struct member *m)
{
    task_source_close(m->source);
    record_release(&m->raw);
    for (size_t i = 0; i < m->slots; i++) {
        record_release(&m->slot[i].fields);
        vocab_ids_release(&m->slot[i].input);
        vocab_ids_release(&m->slot[i].target);
    }
    mem_free(m->slot);
    vocab_ids_release(&m->gathered);
    mem_free(m->mask);
    mem_free(m->unused);
    mem_free(m->queue);
    tf_shuffle_free(m->shuffle);
}

void pipeline_close(pipeline *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->members; i++)
        close_member(&p->member[i]);
    mem_free(p->member);
    mem_free(p->weight);
    mem_free(p);
}

static spt_status open_member(pipeline *p, const struct task_rate *t, spt_err *err)
{
    struct member *m = &p->member[p->members];
    *m = (struct member){.task = t->task, .rate = t->rate, .held = UINT64_MAX};
    p->weight[p->members++] = t->rate;
    if (t->task->noise != NOISE_NONE && (p->o.max_input < 2 || p->o.max_target < 2))
        return err_set(err, SPT_E_USAGE, "task %s cuts its text to the feature lengths: give both",
                       t->task->name);
    philox_init(&m->random, (uint64_t)p->o.seed, 0x6e6f697365u);
    TRY(task_source_open(t->task, &p->o, &m->source, err));
    return p->o.shuffle ? tf_shuffle_new(SHUFFLE_BUFFER, p->o.seed, &m->shuffle, err) : SPT_OK;
}

static spt_status open_members(pipeline *p, const struct task_rate *t, size_t n, spt_err *err)
{
    spt_err first = {0};
    p->member = mem_zalloc(n, sizeof *p->member);
    p->weight = mem_zalloc(n, sizeof *p->weight);
    if (!p->member || !p->weight)
        return err_nomem(err, n * sizeof *p->member);
    for (size_t i = 0; i < n; i++) {
        spt_err e = {0};
        if (n > 1 && !(t[i].rate > 0))
            continue;
        const spt_status st = open_member(p, &t[i], &e);
        if (st == SPT_E_CONFIG && n > 1) { /* no such split: the others go on without it */
            close_member(&p->member[--p->members]);
            first = first.code ? first : e;
        } else if (st) {
            return err_set(err, st, "%s", e.msg);
        }
    }
    if (!p->members)
        return err_set(err, SPT_E_CONFIG, "no task of %s has a split '%s'%s%s", p->o.name,
                       p->o.split, first.code ? ": " : "", first.msg);
    tf_choices_init(&p->choices, p->o.seed);
    return SPT_OK;
}

spt_status pipeline_open(const task_registry *r, const struct pipeline_options *o, pipeline **out,
                         spt_err *err)
{
    struct task_rate *t;
    size_t n;
    if (o->shards && o->shard >= o->shards)
        return err_set(err, SPT_E_CONFIG, "shard %llu of %llu", (unsigned long long)o->shard,
                       (unsigned long long)o->shards);
    TRY(task_members(r, o->name, &t, &n, err));
    pipeline *p = mem_zalloc(1, sizeof *p);
    spt_status st = p ? SPT_OK : err_nomem(err, sizeof *p);
    if (!st) {
        p->o = *o;
        st = open_members(p, t, n, err);
    }
    mem_free(t);
    if (st) {
        pipeline_close(p);
        return st;
    }
    *out = p;
    return SPT_OK;
}
