/* The reference's input pipeline for one reader, without parallelism: parallelism changes nothing
 * there either, its maps keep their order. */
#include "task/pipeline.h"

#include <string.h>

#include "base/mem.h"
#include "task/tf_order.h"

enum { MAX_IDS = 1 << 26, MAX_QUEUE = 1 << 20 };

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
    int64_t position;      /* of the next raw example in its stream */
    uint64_t epochs;       /* finished */
    bool ended;
    /* Items live in slots; the queue and the shuffle buffer hold slot numbers. */
    struct item *slot;
    size_t slots, slot_cap;
    uint64_t *unused, *queue;
    size_t unused_count, unused_cap, queue_at, queue_len, queue_cap;
    tf_shuffle *shuffle;
    uint64_t held; /* slot handed out last, to be reused; UINT64_MAX: none */
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

/* The passed-through fields, and the texts under their _pretokenized names. */
static spt_status keep_fields(const record *from, record *to, spt_err *err)
{
    record_clear(to);
    for (size_t i = 0; i < from->fields; i++) {
        const struct record_field *f = &from->field[i];
        const char *name = !is_output(f->name)              ? f->name
                           : strcmp(f->name, "inputs") == 0 ? "inputs_pretokenized"
                                                            : "targets_pretokenized";
        if (name == f->name) { /* names of sources live in their record */
            char *kept = record_alloc(to, strlen(name) + 1);
            if (!kept)
                return err_nomem(err, strlen(name));
            memcpy(kept, name, strlen(name) + 1);
            name = kept;
        }
        TRY(record_copy_field(to, name, f, err));
    }
    return SPT_OK;
}

struct making {
    pipeline *p;
    struct member *m;
};

static spt_status make_item(void *ctx, record *r, spt_err *err)
{
    const struct making *k = ctx;
    struct member *m = k->m;
    const struct pipeline_options *o = &k->p->o;
    uint64_t which;
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
        st = mem_grow(&m->queue, &m->queue_cap, m->queue_at + m->queue_len + 1, sizeof *m->queue,
                      MAX_QUEUE, err);
    if (st) {
        return_slot(m, which);
        return st;
    }
    m->queue[m->queue_at + m->queue_len++] = which;
    return SPT_OK;
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
            TRY(task_format(m->task, &m->raw, m->position++, make_item, &k, err));
            continue;
        }
        m->epochs++;
        if (!m->position)
            return err_set(err, SPT_E_FORMAT, "task %s: the split %s has no examples",
                           m->task->name, p->o.split);
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
    *out = (struct task_example){m->task, it->input.id, it->target.id, it->input.count,
                                 it->target.count, &it->fields};
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
    if (t->task->noise != NOISE_NONE)
        return err_set(err, SPT_E_USAGE, "task %s is a pretraining objective, not supported here",
                       t->task->name);
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
