/* T5X checkpoints written by the reference, read tensor by tensor; and the same content written by
 * us: the msgpack file must equal the reference's byte for byte. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "store/store.h"
#include "store/t5x_checkpoint.h"
#include "store/zarr.h"

static const char *golden(const char *sub)
{
    const char *dir = test_golden_dir();
    if (!dir)
        skip();
    return test_path(dir, sub);
}

/* Values of a golden file (one tensor, or one of many). */
static float *floats(const char *path, const char *name, size_t *n)
{
    store *s = NULL;
    spt_err err;
    size_t i = 0;
    EXPECT_OK(store_open(path, NULL, &s, &err), &err);
    if (name && !store_find(s, name, &i))
        fail_msg("%s has no %s", path, name);
    *n = store_at(s, i)->elements;
    float *v = mem_alloc(*n, sizeof *v);
    EXPECT_OK(store_read_f32(s, i, v, &err), &err);
    store_close(s);
    return v;
}

static void expect_values(t5x_reader *r, const char *name, const float *want, size_t n, bool bf16)
{
    spt_err err;
    struct t5x_value v;
    size_t elements, bytes;
    const struct t5x_leaf *l = t5x_find(r, name);
    if (!l)
        fail_msg("%s is missing", name);
    EXPECT_OK(t5x_read(r, l, &v, &err), &err);
    EXPECT_OK(tensor_size(v.view.dtype, &v.view.shape, &elements, &bytes, &err), &err);
    EXPECT_EQ_I64(elements, n);
    EXPECT_EQ_I64(v.view.dtype, bf16 ? DT_BF16 : DT_F32);
    float *got = mem_alloc(n, sizeof *got);
    tensor_to_f32(&v.view, 0, n, got);
    for (size_t i = 0; i < n; i++) {
        const float w = bf16 ? bf16_to_f32(f32_to_bf16(want[i])) : want[i];
        if (memcmp(&got[i], &w, sizeof w))
            fail_msg("%s[%zu] is %.9g, wanted %.9g", name, i, (double)got[i], (double)w);
    }
    mem_free(got);
    t5x_release(&v);
}

static void expect_npy(t5x_reader *r, const char *name, const char *file, bool bf16)
{
    size_t n;
    float *want = floats(golden(file), NULL, &n);
    expect_values(r, name, want, n, bf16);
    mem_free(want);
}

#define SLOT "state/param_states/encoder/prompt/prompt/prompt/"

static void legacy_equals_its_sources(void **state)
{
    spt_err err;
    t5x_reader *r;
    store *params;
    EXPECT_OK(t5x_open(golden("t5x_checkpoint/legacy/checkpoint_100"), &r, &err), &err);
    EXPECT_EQ_I64(t5x_step(r), 100);
    EXPECT_OK(store_open(golden("tiny_forward/params.safetensors"), NULL, &params, &err), &err);
    size_t targets = 0, nils = 0;
    for (size_t i = 0; i < t5x_count(r); i++) {
        const struct t5x_leaf *l = t5x_leaf_at(r, i);
        targets += !strncmp(l->name, "target/", 7);
        nils += l->kind == T5X_NIL;
        if (i && strcmp(t5x_leaf_at(r, i - 1)->name, l->name) == 0)
            fail_msg("%s twice", l->name);
    }
    EXPECT_EQ_I64(targets, store_count(params));
    EXPECT_EQ_I64(nils, targets - 1);
    EXPECT_EQ_I64(t5x_count(r), targets + nils + 5);
    for (size_t i = 0; i < store_count(params); i++) {
        const struct store_info *info = store_at(params, i);
        char name[256];
        if (!strcmp(info->name, "encoder/prompt/prompt/prompt"))
            continue;
        snprintf(name, sizeof name, "target/%s", info->name);
        float *want = mem_alloc(info->elements, sizeof *want);
        EXPECT_OK(store_read_f32(params, i, want, &err), &err);
        expect_values(r, name, want, info->elements, false);
        EXPECT_TRUE(shape_equal(&t5x_find(r, name)->shape, &info->shape));
        mem_free(want);
    }
    expect_npy(r, "target/encoder/prompt/prompt/prompt", "adafactor_100/prompt.100.npy", false);
    static const char *const slots[] = {"m", "v", "v_row", "v_col"};
    for (int i = 0; i < 4; i++) {
        char name[128], file[128];
        snprintf(name, sizeof name, SLOT "%s", slots[i]);
        snprintf(file, sizeof file,
                 "adafactor_100/state.param_states.encoder.prompt.prompt.prompt.%s.npy", slots[i]);
        expect_npy(r, name, file, false);
    }
    store_close(params);
    t5x_close(r);
}

/* Only some of its array directories are kept: what is there must be readable. */
static void bfloat16_target_float32_slots(void **state)
{
    spt_err err;
    t5x_reader *r;
    struct t5x_value v;
    const char *dir = golden("t5x_checkpoint/legacy_bfloat16/checkpoint_100");
    EXPECT_OK(t5x_open(dir, &r, &err), &err);
    expect_npy(r, "target/encoder/prompt/prompt/prompt", "adafactor_100/prompt.100.npy", true);
    expect_npy(r, SLOT "v",
               "adafactor_100/state.param_states.encoder.prompt.prompt.prompt.v.npy", false);
    size_t n;
    float *norm = floats(golden("tiny_forward/params.safetensors"), "encoder/encoder_norm/scale",
                         &n);
    expect_values(r, "target/encoder/encoder_norm/scale", norm, n, true);
    mem_free(norm);
    const struct t5x_leaf *gone = t5x_find(r, "target/token_embedder/embedding");
    EXPECT_TRUE(gone && gone->shape.rank == 2);
    EXPECT_STATUS(t5x_read(r, gone, &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "target.token_embedder.embedding");
    t5x_close(r);
}

static void numpy_checkpoint_equals_the_array(void **state)
{
    size_t n, m;
    float *a = floats(golden("t5x_checkpoint/legacy/numpy_checkpoints/checkpoint_100/"
                             "encoder.prompt.prompt.prompt"),
                      NULL, &n);
    float *b = floats(golden("adafactor_100/prompt.100.npy"), NULL, &m);
    EXPECT_TRUE(n == m && !memcmp(a, b, n * sizeof *a));
    mem_free(a);
    mem_free(b);
}

static void orbax_is_refused_by_name(void **state)
{
    static const char *const dirs[] = {"t5x_checkpoint/orbax/checkpoint_100",
                                       "t5x_checkpoint/orbax/checkpoint_100/state",
                                       "run_of_reference/orbax_checkpoint_13",
                                       "t5x_checkpoint/orbax"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        spt_err err;
        t5x_reader *r = NULL;
        EXPECT_STATUS(t5x_open(golden(dirs[i]), &r, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "Orbax");
    }
}

static void checkpoint_of_a_whole_run(void **state)
{
    spt_err err;
    t5x_reader *r;
    size_t n;
    EXPECT_OK(t5x_open(golden("run_of_reference/train_run"), &r, &err), &err); /* latest step */
    EXPECT_EQ_I64(t5x_step(r), 13);
    float *prompt = floats(golden("run_of_reference/train_run/numpy_checkpoints/checkpoint_13/"
                                  "encoder.prompt.prompt.prompt"),
                           NULL, &n);
    expect_values(r, "target/encoder/prompt/prompt/prompt", prompt, n, false);
    mem_free(prompt);
    for (size_t i = 0; i < t5x_count(r); i++) {
        struct t5x_value v;
        if (t5x_leaf_at(r, i)->kind != T5X_TENSOR)
            continue;
        EXPECT_OK(t5x_read(r, t5x_leaf_at(r, i), &v, &err), &err);
        t5x_release(&v);
    }
    t5x_close(r);
}

/* The real upstream file of 2021: norms and slots in msgpack, kernels in zarr with old chunks. */
static void upstream_tiny(void **state)
{
    const char *shared = test_shared_dir();
    if (!shared)
        skip();
    spt_err err;
    t5x_reader *r;
    struct t5x_value v;
    float f[4];
    EXPECT_OK(t5x_open(test_path(shared, "data/upstream/test_t5_1_1_tiny/checkpoint_3"), &r, &err),
              &err);
    EXPECT_EQ_I64(t5x_step(r), 3);
    EXPECT_OK(t5x_read(r, t5x_find(r, "target/token_embedder/embedding"), &v, &err), &err);
    EXPECT_EQ_I64(v.view.shape.dim[0], 32128);
    tensor_to_f32(&v.view, 0, 4, f);
    EXPECT_EQ_F64(f[0], 0.07208829f);
    EXPECT_EQ_F64(f[3], 1.7147633f);
    size_t n;
    float *all = floats(test_path(shared, "data/upstream/tiny_embeddings_32128x4.npy"), NULL, &n);
    EXPECT_EQ_I64(n, 32128 * 4);
    mem_free(all);
    t5x_release(&v);
    EXPECT_OK(t5x_read(r, t5x_find(r, "target/encoder/layers_0/attention/key/kernel"), &v, &err),
              &err);
    tensor_to_f32(&v.view, 0, 1, f);
    EXPECT_EQ_F64(f[0], -0.39039272f);
    t5x_release(&v);
    const uint32_t norm[4] = {0x3f789d83, 0x3f8ddb2d, 0x3f70baad, 0x3f6acb8e};
    const struct t5x_leaf *l = t5x_find(r, "target/decoder/decoder_norm/scale");
    EXPECT_TRUE(l && !l->in_zarr);
    EXPECT_OK(t5x_read(r, l, &v, &err), &err);
    EXPECT_TRUE(!memcmp(v.view.data, norm, sizeof norm));
    t5x_release(&v);
    size_t slots = 0, targets = 0;
    for (size_t i = 0; i < t5x_count(r); i++) {
        const struct t5x_leaf *leaf = t5x_leaf_at(r, i);
        EXPECT_OK(t5x_read(r, leaf, &v, &err), &err);
        t5x_release(&v);
        slots += !strncmp(leaf->name, "state/param_states/", 19);
        targets += !strncmp(leaf->name, "target/", 7);
    }
    EXPECT_EQ_I64(slots, 4 * targets);
    t5x_close(r);
    store *s;
    EXPECT_OK(store_open(test_path(shared, "data/upstream/test_t5_1_1_tiny"), NULL, &s, &err), &err);
    EXPECT_STR(store_kind(s), "t5x");
    EXPECT_EQ_I64(store_step(s), 3);
    EXPECT_TRUE(store_find(s, "target/token_embedder/embedding", &n));
    store_close(s);
}

/* --- writing --- */

static void same_file(const char *a, const char *b)
{
    spt_err err;
    fs_mapping x, y;
    EXPECT_OK(fs_map(a, &x, &err), &err);
    EXPECT_OK(fs_map(b, &y, &err), &err);
    if (x.size != y.size || memcmp(x.bytes, y.bytes, x.size))
        fail_msg("%s and %s differ (%zu and %zu bytes)", a, b, x.size, y.size);
    fs_unmap(&x);
    fs_unmap(&y);
}

enum { MAX_ITEMS = 400 };

/* All leaves of an open checkpoint as items to save. */
static size_t items_of(t5x_reader *r, struct t5x_item *items, struct t5x_value *values)
{
    spt_err err;
    size_t n = 0;
    for (size_t i = 0; i < t5x_count(r); i++) {
        const struct t5x_leaf *l = t5x_leaf_at(r, i);
        if (!strcmp(l->name, "state/step"))
            continue;
        EXPECT_TRUE(n < MAX_ITEMS);
        values[n] = (struct t5x_value){0};
        if (l->kind == T5X_TENSOR)
            EXPECT_OK(t5x_read(r, l, &values[n], &err), &err);
        items[n] = (struct t5x_item){l->name, values[n].view, l->in_zarr};
        n++;
    }
    return n;
}

static void rewritten_equals_the_reference(void **state)
{
    static struct t5x_item items[MAX_ITEMS], shuffled[MAX_ITEMS];
    static struct t5x_value values[MAX_ITEMS];
    spt_err err;
    t5x_reader *r, *back;
    bool skipped = true;
    const char *out = test_path(test_tmpdir(), "model_dir");
    EXPECT_OK(t5x_open(golden("t5x_checkpoint/legacy/checkpoint_100"), &r, &err), &err);
    const size_t n = items_of(r, items, values);
    for (size_t i = 0; i < n; i++)
        shuffled[i] = items[(i * 37 + 11) % n]; /* n is no multiple of 37 */
    struct t5x_save save = {100, shuffled, n, DT_F32, false};
    EXPECT_OK(t5x_write(out, &save, &skipped, &err), &err);
    EXPECT_TRUE(!skipped);
    same_file(test_path(out, "checkpoint_100/checkpoint"),
              golden("t5x_checkpoint/legacy/checkpoint_100/checkpoint"));
    static const char *const same[] = {
        "target.encoder.prompt.prompt.prompt/.zarray", "target.token_embedder.embedding/.zarray",
        "target.decoder.decoder_norm.scale/.zarray",
        "state.param_states.encoder.prompt.prompt.prompt.v/.zarray"};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char mine[256], theirs[256];
        snprintf(mine, sizeof mine, "checkpoint_100/%s", same[i]);
        snprintf(theirs, sizeof theirs, "t5x_checkpoint/legacy/checkpoint_100/%s", same[i]);
        same_file(test_path(out, mine), golden(theirs));
    }
    EXPECT_OK(t5x_open(out, &back, &err), &err);
    EXPECT_EQ_I64(t5x_count(back), t5x_count(r));
    for (size_t i = 0; i < n; i++) {
        struct t5x_value v;
        size_t e, bytes;
        if (!items[i].view.data)
            continue;
        EXPECT_OK(t5x_read(back, t5x_find(back, items[i].name), &v, &err), &err);
        EXPECT_OK(tensor_size(v.view.dtype, &v.view.shape, &e, &bytes, &err), &err);
        EXPECT_TRUE(shape_equal(&v.view.shape, &items[i].view.shape) &&
                    !memcmp(v.view.data, items[i].view.data, bytes));
        t5x_release(&v);
    }
    t5x_close(back);
    /* bfloat16: the file of the reference again */
    save.target_dtype = DT_BF16;
    const char *half = test_path(test_tmpdir(), "model_dir_bf16");
    EXPECT_OK(t5x_write(half, &save, NULL, &err), &err);
    same_file(test_path(half, "checkpoint_100/checkpoint"),
              golden("t5x_checkpoint/legacy_bfloat16/checkpoint_100/checkpoint"));
    EXPECT_OK(t5x_open(half, &back, &err), &err);
    expect_npy(back, "target/encoder/prompt/prompt/prompt", "adafactor_100/prompt.100.npy", true);
    expect_npy(back, SLOT "v",
               "adafactor_100/state.param_states.encoder.prompt.prompt.prompt.v.npy", false);
    t5x_close(back);
    for (size_t i = 0; i < n; i++)
        t5x_release(&values[i]);
    t5x_close(r);
}

static void numpy_checkpoint_is_written_like_the_reference(void **state)
{
    spt_err err;
    size_t n;
    float *prompt = floats(golden("adafactor_100/prompt.100.npy"), NULL, &n);
    const struct t5x_item item = {"encoder/prompt/prompt/prompt",
                                  {DT_F32, shape_2d(10, 64), prompt}, false};
    const struct t5x_save save = {100, &item, 1, DT_F32, false};
    const char *out = test_path(test_tmpdir(), "numpy_dir");
    for (int i = 0; i < 2; i++) { /* the second time the first becomes a backup */
        EXPECT_OK(t5x_write_numpy(out, &save, &err), &err);
        same_file(test_path(out, "numpy_checkpoints/checkpoint_100/encoder.prompt.prompt.prompt"),
                  golden("t5x_checkpoint/legacy/numpy_checkpoints/checkpoint_100/"
                         "encoder.prompt.prompt.prompt"));
    }
    fs_names names;
    EXPECT_OK(fs_list(test_path(out, "numpy_checkpoints"), &names, &err), &err);
    EXPECT_EQ_I64(names.count, 2);
    EXPECT_TRUE(strstr(names.name[1], "checkpoint_100.backup-1") == names.name[1]);
    fs_names_free(&names);
    mem_free(prompt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(legacy_equals_its_sources),
        cmocka_unit_test(bfloat16_target_float32_slots),
        cmocka_unit_test(numpy_checkpoint_equals_the_array),
        cmocka_unit_test(orbax_is_refused_by_name),
        cmocka_unit_test(checkpoint_of_a_whole_run),
        cmocka_unit_test(upstream_tiny),
        cmocka_unit_test(rewritten_equals_the_reference),
        cmocka_unit_test(numpy_checkpoint_is_written_like_the_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
