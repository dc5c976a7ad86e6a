/* Bars C1 and C2 over whole commands: every allocation and every system call of training, saving,
 * resuming, evaluating, answering, scoring and converting fails once, and from there on. Each time
 * the command returns a proper status, leaks nothing, leaves its inputs alone, and what it leaves
 * behind serves a second attempt that ends in the same bits.
 *
 * SPT_TEST_FULL=1 runs every kind of failing system call; without it three kinds. */
#define _GNU_SOURCE
#include "support/test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <spt/spt.h>

#include "fs/fs.h"
#include "support/tiny_t5.h"

static char model[256], train_file[256], eval_file[256], run_dir[256], cache[256], kept[256];
static char out_file[256], npy_file[256];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int swallow(void *ctx, const void *bytes, size_t n)
{
    (void)ctx, (void)bytes, (void)n;
    return 0;
}

/* command, then option, value, ... (value NULL: a switch; option "": an argument), NULL. */
static spt_status command(spt_err *err, const char *const *word)
{
    spt_job *job;
    const spt_sink sink = {.write = swallow};
    spt_status st = spt_job_new(word[0], &job, err);
    if (st)
        return st;
    for (size_t i = 1; !st && word[i]; i += 2)
        st = word[i][0] ? spt_job_set(job, word[i], !strcmp(word[i + 1], "on") ? NULL : word[i + 1],
                                      err)
                        : spt_job_add(job, word[i + 1], err);
    if (!st)
        st = spt_job_run(job, &sink, err);
    spt_job_free(job);
    return st;
}

#define COMMAND(err, ...) command(err, (const char *const[]){__VA_ARGS__, NULL})

static spt_status train(const char *out, const char *steps, spt_err *err)
{
    return COMMAND(err, "train", "model", model, "vocab", "bytes", "train", train_file, "eval",
                   eval_file, "out", out, "length", "3", "batch", "2", "steps", steps, "save-every",
                   "1", "eval-every", "1", "keep", "2", "seed", "5", "threads", "1", "dropout", "0.1",
                   "resume", "on", "quiet", "on");
}

static int setup(void **state)
{
    (void)state;
    const char *dir = test_tmpdir();
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    c.vocab = 384;
    c.width = 4, c.heads = 1, c.ff = 8, c.enc_layers = 1, c.dec_layers = 1;
    tiny_t5_make(&m, &c, 3);
    snprintf(model, sizeof model, "%s/model", dir);
    snprintf(train_file, sizeof train_file, "%s/train.tsv", dir);
    snprintf(eval_file, sizeof eval_file, "%s/eval.tsv", dir);
    snprintf(run_dir, sizeof run_dir, "%s/run", dir);
    snprintf(kept, sizeof kept, "%s/kept", dir);
    snprintf(cache, sizeof cache, "%s/cache", dir);
    snprintf(out_file, sizeof out_file, "%s/out", dir);
    snprintf(npy_file, sizeof npy_file, "%s/out.npy", dir);
    spt_err err = {0};
    EXPECT_OK(fs_make_dirs(model, &err), &err);
    tiny_t5_write(&m, model,
                  "{\"model_type\": \"t5\", \"vocab_size\": 384, \"d_model\": 4, \"d_kv\": 4, "
                  "\"d_ff\": 8, \"num_heads\": 1, \"num_layers\": 1, \"num_decoder_layers\": 1, "
                  "\"relative_attention_num_buckets\": 32, \"relative_attention_max_distance\": 128, "
                  "\"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
                  "\"layer_norm_epsilon\": 1e-6, \"is_encoder_decoder\": true}");
    tiny_t5_free(&m);
    static const char rows[] = "text\tlabel\nab c\tx\nd\ty\nef\tx\nggg\ty\n";
    test_write(train_file, rows, sizeof rows - 1);
    test_write(eval_file, rows, sizeof rows - 1);
    setenv("SPT_CACHE_DIR", cache, 1);
    EXPECT_OK(train(kept, "1", &err), &err);
    EXPECT_OK(train(kept, "2", &err), &err);
    return 0;
}

/* --- training ------------------------------------------------------------------------------- */

static spt_status train_and_resume(void *ctx, spt_err *err)
{
    (void)ctx;
    remove_tree(run_dir);
    remove_tree(cache);
    const spt_status st = train(run_dir, "1", err);
    return st ? st : train(run_dir, "2", err);
}

static char *content(const char *path, size_t *n)
{
    char *p;
    spt_err err = {0};
    EXPECT_OK(fs_read_all(path, 1 << 24, &p, n, &err), &err);
    return p;
}

static void expect_same_file(const char *a, const char *b)
{
    size_t n, m;
    char *p = content(a, &n), *q = content(b, &m);
    if (n != m || memcmp(p, q, n))
        fail_msg("%s and %s differ", a, b);
    mem_free(p);
    mem_free(q);
}

/* What a failed attempt left behind serves the next one, with the same numbers. */
static spt_status train_again(void *ctx, spt_err *err)
{
    (void)ctx;
    const spt_status st = train(run_dir, "2", err);
    if (st)
        return st;
    static const char *const files[] = {"prompt-2.safetensors", "train.jsonl", "eval.jsonl",
                                        "best.json", "state-2/state.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        expect_same_file(test_path(run_dir, files[i]), test_path(kept, files[i]));
    return SPT_OK;
}

/* --- the other commands ------------------------------------------------------------------------ */

struct flow {
    const char *name;
    spt_status (*run)(void *ctx, spt_err *err);
    spt_status (*again)(void *ctx, spt_err *err);
};

#define FLOW(name, ...)                               \
    static spt_status flow_##name(void *ctx, spt_err *err) \
    {                                                 \
        (void)ctx;                                    \
        remove_tree(out_file);                        \
        remove_tree(npy_file);                        \
        return COMMAND(err, __VA_ARGS__);             \
    }

FLOW(eval, "eval", "model", model, "vocab", "bytes", "prompt", kept, "data", eval_file, "threads", "1",
     "json", "on", "output", out_file)
FLOW(generate, "infer", "model", model, "vocab", "bytes", "prompt", kept, "data", eval_file, "threads",
     "1", "generate", "on", "max-output", "4", "output", out_file)
FLOW(infer, "infer", "model", model, "vocab", "bytes", "prompt", kept, "data", eval_file, "threads",
     "2", "json", "on")
FLOW(score, "score", "model", model, "vocab", "bytes", "prompt", kept, "data", eval_file, "threads",
     "1", "output", out_file)
FLOW(check, "check", "model", model, "vocab", "bytes", "train", train_file, "eval", eval_file, "length",
     "3", "threads", "1")
FLOW(init, "init", "model", model, "vocab", "bytes", "length", "3", "init", "vocab", "seed", "1", "out",
     npy_file)
FLOW(inspect, "inspect", "", kept, "json", "on")
FLOW(convert, "convert", "", kept, "", npy_file, "quiet", "on")
FLOW(extract, "extract", "", model, "", "shared.weight", "", npy_file, "quiet", "on")
FLOW(tokenize, "tokenize", "model", model, "vocab", "bytes", "", eval_file)

static const struct flow flows[] = {
    {"train, save, resume", train_and_resume, train_again},
    {"eval", flow_eval, flow_eval},
    {"infer", flow_infer, flow_infer},
    {"infer by decoding", flow_generate, flow_generate},
    {"score", flow_score, flow_score},
    {"check", flow_check, flow_check},
    {"init", flow_init, flow_init},
    {"convert", flow_convert, flow_convert},
    {"extract", flow_extract, flow_extract},
    {"inspect", flow_inspect, flow_inspect},
    {"tokenize", flow_tokenize, flow_tokenize},
};

static void every_allocation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++) {
        fault_set_after(flows[i].again);
        const int64_t n = fault_every_alloc(flows[i].run, NULL);
        print_message("%s: %lld allocations\n", flows[i].name, (long long)n);
    }
    fault_set_after(NULL);
}

static void every_system_call(void **state)
{
    (void)state;
    static const int kinds[] = {EIO,   FAULT_EOF, FAULT_SHORT, ENOSPC, EDQUOT,
                                EINTR, EAGAIN,    EMFILE,      ENOMEM, EACCES};
    const size_t count = getenv("SPT_TEST_FULL") ? sizeof kinds / sizeof *kinds : 3;
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++) {
        fault_set_after(flows[i].again);
        for (size_t k = 0; k < count; k++) {
            const int64_t n = fault_every_syscall(flows[i].run, NULL, kinds[k]);
            print_message("%s: %lld calls, %s\n", flows[i].name, (long long)n,
                          kinds[k] == FAULT_SHORT ? "short"
                          : kinds[k] == FAULT_EOF ? "end of file"
                                                  : strerror(kinds[k]));
        }
    }
    fault_set_after(NULL);
    for (int i = 0; i < FAULT_OS_COUNT; i++)
        print_message("%s: failed %lld times\n", fault_os_name(i), (long long)fault_failed(i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_system_call),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
