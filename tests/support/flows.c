#define _GNU_SOURCE
#include "support/flows.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "support/tiny_t5.h"

struct flow_files flow;

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void flow_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int swallow(void *ctx, const void *bytes, size_t n)
{
    (void)ctx, (void)bytes, (void)n;
    return 0;
}

spt_status flow_command(spt_err *err, const char *const *word)
{
    spt_job *job;
    const spt_sink sink = {.take = swallow};
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

spt_status flow_words(const char *name, spt_err *err, const char *const *word)
{
    char *words[64];
    int n = 0, taken = 0;
    spt_job *job;
    const spt_sink sink = {.take = swallow};
    while (word[n] && n < 64) {
        words[n] = (char *)(uintptr_t)word[n];
        n++;
    }
    spt_status st = spt_job_new(name, &job, err);
    if (st)
        return st;
    st = spt_job_args(job, n, words, &taken, err);
    EXPECT_TRUE(st || taken);
    if (!st)
        st = spt_job_run(job, &sink, err);
    spt_job_free(job);
    return st;
}

spt_status flow_train(const char *out, const char *steps, spt_err *err)
{
    return COMMAND(err, "train", "model", flow.model, "vocab", "bytes", "train", flow.train, "eval",
                   flow.eval, "out", out, "length", "3", "batch", "2", "steps", steps, "save-every",
                   "1", "eval-every", "1", "keep", "2", "seed", "5", "threads", "1", "dropout", "0.1",
                   "resume", "on", "quiet", "on");
}

int flow_setup(void **state)
{
    (void)state;
    const char *dir = test_tmpdir();
    snprintf(flow.dir, sizeof flow.dir, "%s", dir);
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    c.vocab = 384;
    c.width = 4, c.heads = 1, c.ff = 8, c.enc_layers = 1, c.dec_layers = 1;
    tiny_t5_make(&m, &c, 3);
    snprintf(flow.model, sizeof flow.model, "%s/model", dir);
    snprintf(flow.train, sizeof flow.train, "%s/train.tsv", dir);
    snprintf(flow.eval, sizeof flow.eval, "%s/eval.tsv", dir);
    snprintf(flow.run, sizeof flow.run, "%s/run", dir);
    snprintf(flow.kept, sizeof flow.kept, "%s/kept", dir);
    snprintf(flow.cache, sizeof flow.cache, "%s/cache", dir);
    snprintf(flow.out, sizeof flow.out, "%s/out", dir);
    snprintf(flow.npy, sizeof flow.npy, "%s/out.npy", dir);
    spt_err err = {0};
    EXPECT_OK(fs_make_dirs(flow.model, &err), &err);
    tiny_t5_write(&m, flow.model,
                  "{\"model_type\": \"t5\", \"vocab_size\": 384, \"d_model\": 4, \"d_kv\": 4, "
                  "\"d_ff\": 8, \"num_heads\": 1, \"num_layers\": 1, \"num_decoder_layers\": 1, "
                  "\"relative_attention_num_buckets\": 32, \"relative_attention_max_distance\": 128, "
                  "\"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
                  "\"layer_norm_epsilon\": 1e-6, \"is_encoder_decoder\": true}");
    tiny_t5_free(&m);
    static const char rows[] = "text\tlabel\nab c\tx\nd\ty\nef\tx\nggg\ty\n";
    test_write(flow.train, rows, sizeof rows - 1);
    test_write(flow.eval, rows, sizeof rows - 1);
    setenv("SPT_CACHE_DIR", flow.cache, 1);
    EXPECT_OK(flow_train(flow.kept, "1", &err), &err);
    EXPECT_OK(flow_train(flow.kept, "2", &err), &err);
    return 0;
}

/* SPT_TEST_FLOW=NAME: that one alone. */
static bool is_wanted(const struct flow *f)
{
    const char *only = getenv("SPT_TEST_FLOW");
    return !only || !strcmp(only, f->name);
}

void flows_every_allocation(const struct flow *f, size_t n, int64_t stride)
{
    if (getenv("SPT_TEST_CALLS_ONLY"))
        return;
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(&f[i]))
            continue;
        fault_set_after(f[i].again);
        const int64_t k =
            stride ? fault_every_alloc_stack(f[i].run, NULL, stride) : fault_every_alloc(f[i].run, NULL);
        print_message("%s: %lld allocations\n", f[i].name, (long long)k);
    }
    fault_set_after(NULL);
}

void flows_every_system_call(const struct flow *f, size_t n, size_t few)
{
    static const int kinds[] = {EIO,   FAULT_EOF, FAULT_SHORT, ENOSPC, EDQUOT,
                                EINTR, EAGAIN,    EMFILE,      ENOMEM, EACCES};
    if (getenv("SPT_TEST_SITES_ONLY"))
        return;
    const size_t count = getenv("SPT_TEST_FULL") ? sizeof kinds / sizeof *kinds : few;
    for (size_t i = 0; i < n; i++) {
        if (!is_wanted(&f[i]))
            continue;
        fault_set_after(f[i].again);
        for (size_t k = 0; k < count; k++) {
            const int64_t calls = fault_every_syscall(f[i].run, NULL, kinds[k]);
            print_message("%s: %lld calls, %s\n", f[i].name, (long long)calls,
                          kinds[k] == FAULT_SHORT ? "short"
                          : kinds[k] == FAULT_EOF ? "end of file"
                                                  : strerror(kinds[k]));
        }
    }
    fault_set_after(NULL);
    for (int i = 0; i < FAULT_OS_COUNT; i++)
        print_message("%s: failed %lld times\n", fault_os_name((enum fault_os)i),
                      (long long)fault_failed((enum fault_os)i));
}
