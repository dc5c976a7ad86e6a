/* A T5X checkpoint behind the interface of store.h. */
#include "store/t5x_internal.h"

struct t5x_store {
    t5x_reader *r;
    const struct t5x_leaf **leaf; /* by index of the store: without the nil leaves */
};

static spt_status load(void *impl, size_t index, struct store_data *out, spt_err *err)
{
    struct t5x_store *s = impl;
    struct t5x_value v;
    TRY(t5x_read(s->r, s->leaf[index], &v, err));
    out->view = v.view;
    out->owned = v.owned;
    return SPT_OK;
}

static spt_status expect(void *impl, const size_t *index, size_t n, spt_err *err)
{
    struct t5x_store *s = impl;
    const struct t5x_leaf **leaf = mem_alloc(n, sizeof *leaf);
    if (!leaf)
        return err_nomem(err, n * sizeof *leaf);
    for (size_t i = 0; i < n; i++)
        leaf[i] = s->leaf[index[i]];
    const spt_status st = t5x_expect(s->r, leaf, n, err);
    mem_free(leaf);
    return st;
}

static void close_impl(void *impl)
{
    struct t5x_store *s = impl;
    t5x_close(s->r);
    mem_free(s->leaf);
    mem_free(s);
}

static const struct store_format format = {
    .kind = "t5x", .load = load, .close = close_impl, .expect = expect};

static spt_status describe(struct t5x_store *s, store *out, spt_err *err)
{
    const size_t all = t5x_count(s->r);
    size_t n = 0;
    s->leaf = mem_alloc(all, sizeof *s->leaf);
    if (!s->leaf)
        return err_nomem(err, all * sizeof *s->leaf);
    for (size_t i = 0; i < all; i++)
        if (t5x_leaf_at(s->r, i)->kind != T5X_NIL)
            s->leaf[n++] = t5x_leaf_at(s->r, i);
    TRY(store_reserve(out, n, err));
    for (size_t i = 0; i < n; i++)
        TRY(store_add(out, s->leaf[i]->name, strlen(s->leaf[i]->name), s->leaf[i]->dtype,
                      &s->leaf[i]->shape, err));
    store_set_step(out, t5x_step(s->r));
    return store_finish(out, s, err);
}

spt_status t5x_store_open(const char *path, const struct store_opts *opts, store **out,
                          spt_err *err)
{
    (void)opts;
    store *made = NULL;
    struct t5x_store *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    spt_status st = t5x_open(path, &s->r, err);
    if (!st)
        st = store_new(&format, path, &made, err);
    if (!st)
        st = describe(s, made, err);
    if (st) {
        store_close(made);
        close_impl(s);
        return st;
    }
    *out = made;
    return SPT_OK;
}
