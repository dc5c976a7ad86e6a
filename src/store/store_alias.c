#include "store/store_alias.h"

#include <string.h>

#include "store/store_internal.h"

struct alias_store {
    store *inner;
    struct store_alias *list; /* names are not kept */
    store_fill_fn fill;
    void *ctx;
};

static spt_status load(void *impl, size_t index, struct store_data *out, spt_err *err)
{
    const struct alias_store *a = impl;
    const struct store_alias *l = &a->list[index];
    size_t n, bytes;
    if (!l->made) {
        struct store_data d = {0};
        TRY(store_load(a->inner, l->index, &d, err));
        out->view = d.view;
        out->owned = d.owned;
        return SPT_OK;
    }
    /* never: store_add has computed the same */
    TRY(tensor_size(DT_F32, &l->shape, &n, &bytes, err));
    float *f = mem_alloc_aligned(n, sizeof *f);
    if (!f)
        return err_nomem(err, bytes);
    const spt_status st = a->fill(a->ctx, index, f, err);
    if (st) {
        mem_free_aligned(f);
        return st;
    }
    out->view = (struct tensor_view){DT_F32, l->shape, f};
    out->owned = f;
    return SPT_OK;
}

static void release(void *impl, size_t index)
{
    const struct alias_store *a = impl;
    if (!a->list[index].made)
        store_drop(a->inner, a->list[index].index);
}

static void close_alias(void *impl)
{
    struct alias_store *a = impl;
    store_close(a->inner);
    mem_free(a->list);
    mem_free(a);
}

static spt_status expect(void *impl, const size_t *index, size_t n, spt_err *err)
{
    const struct alias_store *a = impl;
    size_t m = 0;
    size_t *inner = mem_alloc(n, sizeof *inner);
    if (!inner)
        return err_nomem(err, n * sizeof *inner);
    for (size_t i = 0; i < n; i++)
        if (!a->list[index[i]].made)
            inner[m++] = a->list[index[i]].index;
    const spt_status st = store_expect(a->inner, inner, m, err);
    mem_free(inner);
    return st;
}

static const struct store_format format = {"t5x", load, release, close_alias, expect};

static spt_status describe(struct alias_store *a, const struct store_alias *list, size_t n,
                           store *s, spt_err *err)
{
    a->list = mem_alloc(n + 1, sizeof *a->list);
    if (!a->list)
        return err_nomem(err, n * sizeof *a->list);
    if (n)
        memcpy(a->list, list, n * sizeof *list);
    TRY(store_reserve(s, n, err));
    for (size_t i = 0; i < n; i++) {
        const struct store_alias *l = &list[i];
        const struct store_info *info = l->made ? NULL : store_at(a->inner, l->index);
        a->list[i].name = NULL;
        TRY(store_add(s, l->name, strlen(l->name), info ? info->dtype : DT_F32,
                      info ? &info->shape : &l->shape, err));
    }
    store_set_step(s, store_step(a->inner));
    return SPT_OK;
}

spt_status store_alias_open(store *inner, const struct store_alias *list, size_t n,
                            store_fill_fn fill, void *ctx, store **out, spt_err *err)
{
    store *s = NULL;
    struct alias_store *a = mem_zalloc(1, sizeof *a);
    if (!a) {
        store_close(inner);
        return err_nomem(err, sizeof *a);
    }
    *a = (struct alias_store){.inner = inner, .fill = fill, .ctx = ctx};
    spt_status st = store_new(&format, store_path(inner), &s, err);
    if (!st)
        st = describe(a, list, n, s, err);
    if (!st)
        st = store_finish(s, a, err);
    if (st) {
        close_alias(a);
        store_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}
