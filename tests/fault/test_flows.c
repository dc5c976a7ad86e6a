/* Bars C1 and C2 over whole commands: every allocation and every system call of training, saving,
 * resuming, evaluating, answering, scoring and converting fails once, and from there on. Each time
 * the command returns a proper status, leaks nothing, leaves its inputs alone, and what it leaves
 * behind serves a second attempt that ends in the same bits.
 *
 * The standard suite fails one allocation of every second distinct stack of calls, and system calls
 * in three kinds; SPT_TEST_SLOW=1 all allocations, SPT_TEST_FULL=1 all kinds. */
#define _GNU_SOURCE
#include "support/flows.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"

/* --- training ------------------------------------------------------------------------------- */

static spt_status train_and_resume(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove(flow.run);
    flow_remove(flow.cache);
    const spt_status st = flow_train(flow.run, "1", err);
    return st ? st : flow_train(flow.run, "2", err);
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
    const spt_status st = flow_train(flow.run, "2", err);
    if (st)
        return st;
    static const char *const files[] = {"prompt-2.safetensors", "train.jsonl", "eval.jsonl",
                                        "best.json", "state-2/state.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        expect_same_file(test_path(flow.run, files[i]), test_path(flow.kept, files[i]));
    return SPT_OK;
}

/* --- the other commands ------------------------------------------------------------------------ */

FLOW(eval, "eval", "model", flow.model, "vocab", "bytes", "prompt", flow.kept, "data", flow.eval, "threads", "1",
     "json", "on", "output", flow.out)
FLOW(generate, "infer", "model", flow.model, "vocab", "bytes", "prompt", flow.kept, "data", flow.eval, "threads",
     "1", "generate", "on", "max-output", "4", "output", flow.out)
FLOW(infer, "infer", "model", flow.model, "vocab", "bytes", "prompt", flow.kept, "data", flow.eval, "threads",
     "2", "json", "on")
FLOW(score, "score", "model", flow.model, "vocab", "bytes", "prompt", flow.kept, "data", flow.eval, "threads",
     "1", "output", flow.out)
FLOW(check, "check", "model", flow.model, "vocab", "bytes", "train", flow.train, "eval", flow.eval, "length",
     "3", "threads", "1")
FLOW(init, "init", "model", flow.model, "vocab", "bytes", "length", "3", "init", "vocab", "seed", "1", "out",
     flow.npy)
FLOW(inspect, "inspect", "", flow.kept, "json", "on")
FLOW(convert, "convert", "", flow.kept, "", flow.npy, "quiet", "on")
FLOW(extract, "extract", "", flow.model, "", "shared.weight", "", flow.npy, "quiet", "on")
FLOW(find_module, "find-module", "", "prompt_tuning")
FLOW(tokenize, "tokenize", "model", flow.model, "vocab", "bytes", "", flow.eval)

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
    {"find-module", flow_find_module, flow_find_module},
};

enum { FLOWS = sizeof flows / sizeof *flows };

static void every_allocation(void **state)
{
    (void)state;
    flows_every_allocation(flows, FLOWS, getenv("SPT_TEST_SLOW") ? 0 : 2);
}

static void every_system_call(void **state)
{
    (void)state;
    flows_every_system_call(flows, FLOWS, 3);
}

static int setup(void **state)
{
    char here[4096];
    if (getcwd(here, sizeof here))
        setenv("SPT_DATA_DIR", here, 1); /* configs/ */
    return flow_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_system_call),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
