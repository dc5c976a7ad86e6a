#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "store/npy.h"
#include "store/peft.h"
#include "store/prompt_file.h"
#include "store/safetensors.h"

enum { P = 3, E = 4 };
static const float rows[2 * P * E] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12, 0.5f};

static void write_adapter(const char *dir, const char *config, const struct store_tensor *t,
                          size_t n)
{
    spt_err err = {0};
    test_write(test_path(dir, "adapter_config.json"), config, strlen(config));
    EXPECT_OK(safetensors_write(test_path(dir, "adapter_model.safetensors"), t, n, NULL, 0, &err),
              &err);
}

#define CONFIG(more) "{\"peft_type\": \"PROMPT_TUNING\", \"task_type\": \"SEQ_2_SEQ_LM\"" more "}"

static void rows_of_the_adapter(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        int64_t rows;
        const char *refused; /* NULL: accepted */
    } cases[] = {
        {CONFIG(", \"num_virtual_tokens\": 3, \"num_transformer_submodules\": 1"), 3, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3, \"num_transformer_submodules\": 2"), 6, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3"), 6, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3"), 3, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3, \"num_transformer_submodules\": null"), 6, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3, \"token_dim\": 4"), 6, NULL},
        {CONFIG(", \"num_virtual_tokens\": 3, \"token_dim\": 5"), 6, "token_dim is 5"},
        {CONFIG(", \"num_virtual_tokens\": 4"), 6, "6 rows, num_virtual_tokens is 4"},
        {CONFIG(", \"num_virtual_tokens\": 2"), 6, "6 rows, num_virtual_tokens is 2"},
        {CONFIG(", \"num_virtual_tokens\": 0"), 6, "positive integer"},
        {CONFIG(", \"num_virtual_tokens\": 3.0"), 6, "positive integer"},
        {CONFIG(""), 6, "num_virtual_tokens is missing"},
        {CONFIG(", \"num_virtual_tokens\": 2, \"num_transformer_submodules\": 3"), 6, "not 1 or 2"},
        {"{\"num_virtual_tokens\": 3}", 6, "peft_type is missing"},
        {"{\"peft_type\": 5, \"num_virtual_tokens\": 3}", 6, "peft_type is not a string"},
        {"{\"peft_type\": [], \"num_virtual_tokens\": 3}", 6, "peft_type is an array"},
        {"{\"peft_type\": \"LORA\", \"num_virtual_tokens\": 3}", 6, "LORA"},
        {"{\"peft_type\": \"PREFIX_TUNING\", \"num_virtual_tokens\": 3}", 6, "PREFIX_TUNING"},
        {"{\"peft_type\": \"P_TUNING\", \"num_virtual_tokens\": 3}", 3, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *dir = test_tmpdir();
        const struct store_tensor t = {"prompt_embeddings",
                                       {DT_F32, {2, {cases[i].rows, E}}, rows}};
        struct peft_prompt p = {0};
        spt_err err = {0};
        write_adapter(dir, cases[i].config, &t, 1);
        const spt_status st = peft_prompt_read(dir, NULL, &p, &err);
        if (cases[i].refused) {
            if (st != SPT_E_FORMAT || !strstr(err.msg, cases[i].refused))
                fail_msg("%s: \"%s\" does not contain \"%s\"", cases[i].config, err.msg,
                         cases[i].refused);
            continue;
        }
        EXPECT_OK(st, &err);
        EXPECT_EQ_I64(p.P, P);
        EXPECT_EQ_I64(p.E, E);
        assert_memory_equal(p.rows, rows, P * E * sizeof *rows);
        EXPECT_EQ_I64(p.submodules, cases[i].rows / P);
        EXPECT_EQ_I64(p.second_half_used, cases[i].rows == 6);
        peft_prompt_release(&p);
        peft_prompt_release(&p);
    }
}

static void long_name_of_the_base(void **state)
{
    (void)state;
    const struct store_tensor t = {"prompt_embeddings", {DT_F32, {2, {P, E}}, rows}};
    for (int n = 254; n <= 257; n++) { /* peft_type, however, must be a real one */
        char type[400];
        struct peft_prompt none = {0};
        spt_err e = {0};
        const char *d = test_tmpdir();
        snprintf(type, sizeof type, "{\"peft_type\": \"%0*d\", \"num_virtual_tokens\": 3}", n, 0);
        write_adapter(d, type, &t, 1);
        EXPECT_STATUS(peft_prompt_read(d, NULL, &none, &e), SPT_E_FORMAT);
        EXPECT_MSG(&e, n > 255 ? "peft_type is not a string of at most" : "is not a soft prompt");
    }
    for (int n = 254; n <= 257; n++) {
        char config[1024], name[300];
        struct peft_prompt p = {0};
        spt_err err = {0};
        const char *dir = test_tmpdir();
        memset(name, 'x', sizeof name);
        name[n] = '\0';
        snprintf(config, sizeof config,
                 CONFIG(", \"num_virtual_tokens\": 3, \"base_model_name_or_path\": \"%s\""), name);
        write_adapter(dir, config, &t, 1);
        EXPECT_OK(peft_prompt_read(dir, NULL, &p, &err), &err);
        EXPECT_STR(p.base_model, n < 256 ? name : "");
        peft_prompt_release(&p);
    }
}

static void bad_tensors(void **state)
{
    (void)state;
    static const char config[] = CONFIG(", \"num_virtual_tokens\": 3");
    float bad[P * E];
    memcpy(bad, rows, sizeof bad);
    bad[2 * E + 1] = NAN;
    const struct {
        struct store_tensor t;
        const char *part;
    } cases[] = {
        {{"base_model.prompt_embeddings", {DT_F32, {2, {P, E}}, rows}}, "no tensor"},
        {{"prompt_embeddings", {DT_F32, {1, {P * E}}, rows}}, "rank 2"},
        {{"prompt_embeddings", {DT_I32, {2, {P, E}}, rows}}, "not floats"},
        {{"prompt_embeddings", {DT_F32, {2, {P, E}}, bad}}, "[2, 1] is not finite"},
    };
    for (size_t i = 0; i < 4; i++) {
        const char *dir = test_tmpdir();
        struct peft_prompt p = {0};
        spt_err err = {0};
        write_adapter(dir, config, &cases[i].t, 1);
        EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, cases[i].part);
    }
    spt_err err = {0};
    struct peft_prompt p = {0};
    const char *dir = test_tmpdir();
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_NOTFOUND);
    test_write(test_path(dir, "adapter_config.json"), config, strlen(config));
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "adapter_model.bin");
}

static void multitask(void **state)
{
    (void)state;
    static const float cols[2 * P * 1] = {1, 1, 1, 2, 3, 4}; /* [2 tasks, P, 1] */
    static const float task_rows[2 * 1 * E] = {1, 1, 1, 1, 1, 0.5f, -1, 2};
    const struct store_tensor t[] = {
        {"prompt_embeddings", {DT_F32, {2, {P, E}}, rows}},
        {"prefix_task_cols", {DT_F32, {3, {2, P, 1}}, cols}},
        {"prefix_task_rows", {DT_F32, {3, {2, 1, E}}, task_rows}},
    };
    const char *dir = test_tmpdir();
    struct peft_prompt p = {0};
    spt_err err = {0};
    write_adapter(dir,
                  "{\"peft_type\": \"MULTITASK_PROMPT_TUNING\", \"task_type\": \"SEQ_2_SEQ_LM\","
                  " \"num_virtual_tokens\": 3, \"num_ranks\": 1, \"num_tasks\": 2,"
                  " \"num_transformer_submodules\": 1}",
                  t, 3);
    EXPECT_OK(peft_prompt_read(dir, &(struct peft_opts){.task = 1}, &p, &err), &err);
    for (size_t i = 0; i < P; i++)
        for (size_t j = 0; j < E; j++)
            EXPECT_EQ_F64(p.rows[i * E + j], rows[i * E + j] * cols[P + i] * task_rows[E + j]);
    peft_prompt_release(&p);
    EXPECT_STATUS(peft_prompt_read(dir, &(struct peft_opts){.task = 2}, &p, &err), SPT_E_USAGE);
    EXPECT_STATUS(peft_prompt_read(dir, &(struct peft_opts){.task = -1}, &p, &err), SPT_E_USAGE);
    struct store_tensor odd[3] = {t[0], t[1], t[2]};
    odd[1].view.shape.dim[1] = 1;
    odd[1].view.shape.dim[2] = P;
    write_adapter(dir,
                  "{\"peft_type\": \"MULTITASK_PROMPT_TUNING\", \"num_virtual_tokens\": 3}", odd, 3);
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "do not fit each other");
}

/* The configuration is the one that PEFT 0.13.2 writes, byte for byte. */
static void writes_what_peft_loads(void **state)
{
    (void)state;
    static const char want[] = "{\n"
                               "  \"auto_mapping\": null,\n"
                               "  \"base_model_name_or_path\": \"google/x\",\n"
                               "  \"inference_mode\": true,\n"
                               "  \"num_attention_heads\": 2,\n"
                               "  \"num_layers\": 5,\n"
                               "  \"num_transformer_submodules\": 1,\n"
                               "  \"num_virtual_tokens\": 3,\n"
                               "  \"peft_type\": \"PROMPT_TUNING\",\n"
                               "  \"prompt_tuning_init\": \"RANDOM\",\n"
                               "  \"prompt_tuning_init_text\": null,\n"
                               "  \"revision\": null,\n"
                               "  \"task_type\": \"SEQ_2_SEQ_LM\",\n"
                               "  \"token_dim\": 4,\n"
                               "  \"tokenizer_kwargs\": null,\n"
                               "  \"tokenizer_name_or_path\": null\n"
                               "}";
    const struct store_meta meta = {"base_hash", "abc"};
    struct peft_write_opts opts = {.num_heads = 2, .num_layers = 5, .base_model = "google/x",
                                   .meta = &meta, .meta_count = 1};
    char dir[1024];
    char *text = NULL;
    size_t n;
    spt_err err = {0};
    struct peft_prompt p = {0};
    store *s = NULL;
    snprintf(dir, sizeof dir, "%s/new/adapter", test_tmpdir());
    EXPECT_OK(store_write_prompt_peft(dir, rows, P, E, &opts, &err), &err);
    EXPECT_OK(fs_read_all(test_path(dir, "adapter_config.json"), 4096, &text, &n, &err), &err);
    EXPECT_STR(text, want);
    mem_free(text);
    EXPECT_OK(peft_prompt_read(dir, NULL, &p, &err), &err);
    assert_memory_equal(p.rows, rows, P * E * sizeof *rows);
    EXPECT_STR(p.base_model, "google/x");
    EXPECT_EQ_I64(p.submodules, 1);
    peft_prompt_release(&p);
    EXPECT_OK(store_open(dir, NULL, &s, &err), &err);
    EXPECT_STR(store_meta_get(s, "format"), "pt");
    EXPECT_STR(store_meta_get(s, "base_hash"), "abc");
    store_close(s);

    opts.submodules = 2;
    opts.base_model = NULL;
    EXPECT_OK(store_write_prompt_peft(dir, rows, P, E, &opts, &err), &err);
    EXPECT_OK(peft_prompt_read(dir, NULL, &p, &err), &err);
    EXPECT_TRUE(p.submodules == 2 && !p.second_half_used && !p.base_model[0]);
    assert_memory_equal(p.rows, rows, P * E * sizeof *rows);
    peft_prompt_release(&p);
    EXPECT_STATUS(store_write_prompt_peft(dir, rows, 0, E, &opts, &err), SPT_E_USAGE);
}

static void prompt_files(void **state)
{
    (void)state;
    const char *dir = test_tmpdir();
    const struct store_meta meta = {"k", "v"};
    const char *paths[2] = {test_path(dir, "p.npy"), test_path(dir, "p.safetensors")};
    spt_err err = {0};
    EXPECT_OK(store_write_prompt_npy(paths[0], rows, P, E, &err), &err);
    EXPECT_OK(store_write_prompt_safetensors(paths[1], "encoder/prompt/prompt/prompt", rows, P, E,
                                             &meta, 1, &err),
              &err);
    for (size_t i = 0; i < 2; i++) {
        store *s = NULL;
        float out[P * E];
        EXPECT_OK(store_open(paths[i], NULL, &s, &err), &err);
        EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
        assert_memory_equal(out, rows, sizeof out);
        store_close(s);
    }
}

static void golden_adapters(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t submodules;
    } adapters[] = {{"sub1", 1},     {"sub1_bin", 1}, {"sub1_legacy_bin", 1},
                    {"sub2", 2},     {"sub2_bin", 2}, {"v1_0_sub1", 1}};
    const char *golden = test_golden_dir();
    char dir[1024];
    if (!golden)
        skip();
    for (size_t i = 0; i < sizeof adapters / sizeof adapters[0]; i++) {
        struct peft_prompt p = {0};
        spt_err err = {0};
        snprintf(dir, sizeof dir, "%s/hf/peft_prompt/%s", golden, adapters[i].name);
        EXPECT_OK(peft_prompt_read(dir, NULL, &p, &err), &err);
        EXPECT_EQ_I64(p.submodules, adapters[i].submodules);
        EXPECT_TRUE(p.P > 0 && p.E == 64);
        peft_prompt_release(&p);
    }
    struct peft_prompt p = {0};
    spt_err err = {0};
    snprintf(dir, sizeof dir, "%s/hf/lora/adapter", golden);
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "LORA");
}

static spt_status write_case(void *ctx, spt_err *err)
{
    const struct store_meta meta = {"k", "v"};
    const struct peft_write_opts opts = {.submodules = 2, .meta = &meta, .meta_count = 1};
    return store_write_prompt_peft(ctx, rows, P, E, &opts, err);
}

static spt_status read_case(void *ctx, spt_err *err)
{
    struct peft_prompt p = {0};
    TRY(peft_prompt_read(ctx, NULL, &p, err));
    peft_prompt_release(&p);
    return SPT_OK;
}

static void faults(void **state)
{
    (void)state;
    char dir[1024];
    spt_err err = {0};
    snprintf(dir, sizeof dir, "%s/adapter", test_tmpdir());
    EXPECT_OK(write_case(dir, &err), &err);
    EXPECT_TRUE(fault_every_alloc(read_case, dir) > 5);
    EXPECT_TRUE(fault_every_syscall(read_case, dir, EIO) > 5);
    EXPECT_TRUE(fault_every_alloc(write_case, dir) > 5);
    EXPECT_TRUE(fault_every_syscall(write_case, dir, ENOSPC) > 5);
    EXPECT_OK(read_case(dir, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_the_adapter),   cmocka_unit_test(bad_tensors),
        cmocka_unit_test(long_name_of_the_base),
        cmocka_unit_test(multitask),             cmocka_unit_test(writes_what_peft_loads),
        cmocka_unit_test(prompt_files),          cmocka_unit_test(golden_adapters),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
