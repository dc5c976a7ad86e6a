#include "run/reference/t5x_save.h"

#include <stdio.h>
#include <string.h>

#include "run/engine.h"

static const char target[] = "target/";

void t5x_saving_close(struct t5x_saving *w)
{
    for (size_t i = 0; i < w->count; i++)
        mem_free(w->names[i]);
    mem_free(w->items);
    mem_free(w->names);
    mem_free_aligned(w->values);
    if (w->source)
        t5_source_release(w->source, &w->held);
    *w = (struct t5x_saving){0};
}

static spt_status add(struct t5x_saving *w, const char *prefix, const char *name,
                      const struct t5x_item *item, spt_err *err)
{
    const size_t n = strlen(prefix) + strlen(name) + 1;
    if (w->count == w->cap)
        return err_set(err, SPT_E_INTERNAL, "more items than there is room for");
    char *full = mem_alloc(n, 1);
    if (!full)
        return err_nomem(err, n);
    snprintf(full, n, "%s%s", prefix, name);
    w->names[w->count] = full;
    w->items[w->count] = *item;
    w->items[w->count].name = full;
    w->count++;
    return SPT_OK;
}

spt_status t5x_saving_add(struct t5x_saving *w, const char *prefix, const char *name,
                          const struct tensor_view *view, bool zarr, spt_err *err)
{
    const struct t5x_item item = {.view = *view, .zarr = zarr};
    return add(w, prefix, name, &item, err);
}

spt_status t5x_saving_open(struct t5x_saving *w, t5_source *source, size_t more, spt_err *err)
{
    const size_t n = t5_source_count(source);
    *w = (struct t5x_saving){.source = source, .cap = n + more};
    w->items = mem_zalloc(w->cap, sizeof *w->items);
    w->names = mem_zalloc(w->cap, sizeof *w->names);
    if (!w->items || !w->names)
        return err_nomem(err, w->cap * sizeof *w->items);
    for (size_t i = 0; i < n; i++) {
        const char *name = t5_source_name(source, i);
        struct t5_param p;
        TRY(t5_source_describe(source, name, &p, err));
        struct t5x_item item = {.view = p.m.view, .zarr = true};
        if (p.m.transposed) { /* it is written [in, out], in float32 */
            item.view.dtype = DT_F32;
            item.view.shape = shape_2d(p.m.view.shape.dim[1], p.m.view.shape.dim[0]);
        }
        TRY(add(w, target, name, &item, err));
    }
    return SPT_OK;
}

static spt_status load(void *ctx, const struct t5x_item *item, struct tensor_view *out,
                       spt_err *err)
{
    struct t5x_saving *w = ctx;
    size_t n, bytes;
    TRY(t5_source_param(w->source, item->name + sizeof target - 1, &w->held, err));
    *out = w->held.m.view;
    if (!w->held.m.transposed)
        return SPT_OK;
    TRY(tensor_size(DT_F32, &out->shape, &n, &bytes, err));
    w->values = mem_alloc_aligned(n, sizeof *w->values);
    if (!w->values)
        return err_nomem(err, bytes);
    source_param_f32(&w->held, &out->shape, w->values);
    out->dtype = DT_F32;
    out->data = w->values;
    t5_source_release(w->source, &w->held);
    return SPT_OK;
}

static void unload(void *ctx, const struct t5x_item *item)
{
    struct t5x_saving *w = ctx;
    (void)item;
    mem_free_aligned(w->values);
    w->values = NULL;
    t5_source_release(w->source, &w->held);
}

spt_status t5x_saving_write(struct t5x_saving *w, const struct t5x_save *how,
                            const struct t5x_file *files, size_t file_count, const char *dir,
                            bool *skipped, spt_err *err)
{
    struct t5x_save save = *how;
    const struct t5x_more more = {files, file_count, load, unload, w};
    save.items = w->items;
    save.count = w->count;
    return t5x_write_more(dir, &save, &more, skipped, err);
}
