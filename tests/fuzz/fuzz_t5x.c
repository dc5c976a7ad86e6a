/* store/t5x_checkpoint: the msgpack file, without array directories. Accepted: every leaf that is not
 * in zarr can be read, has the size its shape says and is found by its name; written again and read
 * again, the checkpoint is the same. */
#include "fuzz/fuzz.h"

#include "store/t5x_checkpoint.h"
#include "support/memfs.h"

static void write_again(t5x_reader *r)
{
    const size_t n = t5x_count(r);
    struct t5x_item *items = calloc(n + 1, sizeof *items);
    struct t5x_value *values = calloc(n + 1, sizeof *values);
    size_t k = 0;
    bool f32 = true;
    for (size_t i = 0; i < n; i++) {
        const struct t5x_leaf *l = t5x_leaf_at(r, i);
        const bool target = !strncmp(l->name, "target/", 7);
        if (l->in_zarr || (!target && strncmp(l->name, "state/param_states/", 19)))
            continue;
        if (l->kind == T5X_TENSOR)
            FUZZ_CHECK(t5x_read(r, l, &values[k], NULL) == SPT_OK);
        f32 &= !target || !dtype_is_float(l->dtype) || l->dtype == DT_F32;
        items[k] = (struct t5x_item){l->name, values[k].view, false};
        k++;
    }
    const struct t5x_save save = {.step = t5x_step(r) < 0 ? 7 : t5x_step(r),
                                  .items = items,
                                  .count = k,
                                  .target_dtype = DT_F32};
    memfs *m = memfs_new();
    memfs_use(m);
    const spt_status st = t5x_write("/m", &save, NULL, NULL);
    FUZZ_CHECK(st == SPT_OK || st == SPT_E_USAGE);
    t5x_reader *again = NULL;
    if (!st) {
        FUZZ_CHECK(t5x_open("/m", &again, NULL) == SPT_OK);
        FUZZ_CHECK(t5x_step(again) == save.step && t5x_count(again) == k + 1);
    }
    for (size_t i = 0; i < k && !st && f32; i++) {
        const struct t5x_leaf *l = t5x_find(again, items[i].name);
        struct t5x_value v = {0};
        size_t e, bytes;
        FUZZ_CHECK(l && (l->kind == T5X_NIL) == !items[i].view.data);
        if (l->kind == T5X_NIL)
            continue;
        FUZZ_CHECK(t5x_read(again, l, &v, NULL) == SPT_OK);
        FUZZ_CHECK(v.view.dtype == items[i].view.dtype);
        FUZZ_CHECK(shape_equal(&v.view.shape, &items[i].view.shape));
        FUZZ_CHECK(tensor_size(v.view.dtype, &v.view.shape, &e, &bytes, NULL) == SPT_OK);
        FUZZ_CHECK(!bytes || !memcmp(v.view.data, items[i].view.data, bytes));
        t5x_release(&v);
    }
    t5x_close(again);
    memfs_use(NULL);
    memfs_free(m);
    for (size_t i = 0; i < k; i++)
        t5x_release(&values[i]);
    free(values);
    free(items);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    t5x_reader *r = NULL;
    fuzz_begin();
    const spt_status st = t5x_open_mem(data, size, NULL, &r, NULL);
    FUZZ_CHECK(st == SPT_OK || st == SPT_E_FORMAT);
    for (size_t i = 0; !st && i < t5x_count(r); i++) {
        const struct t5x_leaf *l = t5x_leaf_at(r, i);
        struct t5x_value v;
        size_t n, bytes;
        FUZZ_CHECK(t5x_find(r, l->name) == l);
        FUZZ_CHECK(tensor_size(l->dtype, &l->shape, &n, &bytes, NULL) == SPT_OK);
        const spt_status got = t5x_read(r, l, &v, NULL);
        FUZZ_CHECK((got == SPT_OK) == (l->kind == T5X_TENSOR && !l->in_zarr));
        if (got)
            continue;
        FUZZ_CHECK(bytes <= size * 8 + 8 && v.view.data);
        volatile unsigned char sum = 0; /* touch every byte */
        for (size_t k = 0; k < bytes; k++)
            sum = (unsigned char)(sum + ((const unsigned char *)v.view.data)[k]);
        t5x_release(&v);
    }
    const size_t opened = fuzz_peak; /* the bound is on opening and reading */
    if (!st)
        write_again(r);
    t5x_close(r);
    fuzz_peak = opened;
    fuzz_end(size, 0);
    return 0;
}
