/* What the targets of tensor files share: an accepted store, written as safetensors and read back,
 * holds the same names, types, shapes, bytes and metadata. */
#ifndef TESTS_FUZZ_FUZZ_STORE_H
#define TESTS_FUZZ_FUZZ_STORE_H

#include <string.h>

#include "base/limits.h"
#include "fuzz/fuzz.h"
#include "store/safetensors.h"

static void fuzz_same_store(store *a, store *b)
{
    FUZZ_CHECK(store_count(a) == store_count(b));
    FUZZ_CHECK(store_meta_count(a) == store_meta_count(b));
    for (size_t i = 0; i < store_meta_count(a); i++) {
        FUZZ_CHECK(!strcmp(store_meta_at(a, i)->key, store_meta_at(b, i)->key));
        FUZZ_CHECK(!strcmp(store_meta_at(a, i)->value, store_meta_at(b, i)->value));
    }
    for (size_t i = 0; i < store_count(a); i++) {
        const struct store_info *x = store_at(a, i);
        struct store_data dx = {0}, dy = {0};
        size_t k = 0;
        FUZZ_CHECK(store_find(b, x->name, &k));
        const struct store_info *y = store_at(b, k);
        FUZZ_CHECK(x->dtype == y->dtype && shape_equal(&x->shape, &y->shape));
        FUZZ_CHECK(!store_load(a, i, &dx, NULL) && !store_load(b, k, &dy, NULL));
        FUZZ_CHECK(!x->bytes || !memcmp(dx.view.data, dy.view.data, x->bytes));
        store_release(a, &dx);
        store_release(b, &dy);
    }
}

static void fuzz_round_trip(store *s)
{
    const size_t n = store_count(s), meta = store_meta_count(s);
    struct store_tensor *t = calloc(n + 1, sizeof *t);
    struct store_data *d = calloc(n + 1, sizeof *d);
    bool refused = false; /* names and dimensions that a safetensors file cannot have */
    FUZZ_CHECK(t && d);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(!store_load(s, i, &d[i], NULL));
        t[i] = (struct store_tensor){store_at(s, i)->name, d[i].view};
        refused = refused || !strcmp(t[i].name, "__metadata__");
        for (int k = 0; k < d[i].view.shape.rank; k++)
            refused = refused || (uint64_t)d[i].view.shape.dim[k] >= ST_MAX_VALUE;
    }
    buf out;
    buf_init(&out, SIZE_MAX / 4);
    const spt_status st =
        safetensors_encode(t, n, meta ? store_meta_at(s, 0) : NULL, meta, &out, NULL);
    FUZZ_CHECK(refused ? st == SPT_E_USAGE : st == SPT_OK);
    for (size_t i = 0; i < n; i++)
        store_release(s, &d[i]);
    store *again = NULL;
    if (!refused) {
        FUZZ_CHECK(!safetensors_open_mem(buf_str(&out), out.len, &again, NULL));
        fuzz_same_store(s, again);
    }
    store_close(again);
    buf_release(&out);
    free(t);
    free(d);
}

#endif
