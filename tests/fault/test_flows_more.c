/* Bar C1 over the commands that test_flows leaves out: several prompts at once, every search,
 * calibration, files of predictions, the reference's outputs, pages, plans, and other kinds of training.
 * Of the allocations that come from the same stack of calls the first one fails, of those every eighth
 * (SPT_TEST_SLOW=1: all of them). */
#define _GNU_SOURCE
#include "support/flows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/safetensors.h"

static char both[600], one[300], two[300], predictions[300], stops[300], runs[300], half[300], ids[300];

static int setup(void **state)
{
    spt_err err = {0};
    if (flow_setup(state))
        return -1;
    snprintf(one, sizeof one, "%s/prompt-1.safetensors", flow.kept);
    snprintf(two, sizeof two, "%s/prompt-2.safetensors", flow.kept);
    snprintf(both, sizeof both, "%s,%s", one, two);
    snprintf(predictions, sizeof predictions, "%s/predictions", flow.dir);
    snprintf(stops, sizeof stops, "%s/stops", flow.dir);
    static const char bytes[] = "{\"tokenizer_class\": \"ByT5Tokenizer\"}"; /* for the session */
    test_write(test_path(flow.model, "tokenizer_config.json"), bytes, sizeof bytes - 1);
    setenv("SPT_CONFIGS", "configs", 1); /* for find-module */
    test_write(stops, "zz\nqq\n", 6);
    static const char table[] = "name\toptimizer\tlr\nx\tadamw\t0.1\ny\tadafactor\t1e30\n";
    snprintf(runs, sizeof runs, "%s/runs.tsv", flow.dir);
    test_write(runs, table, sizeof table - 1);
    snprintf(half, sizeof half, "%s/half.safetensors", flow.dir);
    const struct store_tensor h = {"x", {DT_BF16, shape_1d(3), (const unsigned char[6]){0}}};
    EXPECT_OK(safetensors_write(half, &h, 1, NULL, 0, &err), &err);
    snprintf(ids, sizeof ids, "%s/ids", flow.dir);
    test_write(ids, "100 101 102\n", 12);
    EXPECT_OK(COMMAND(&err, "eval", "model", flow.model, "vocab", "bytes", "prompt", flow.kept, "data",
                      flow.eval, "threads", "1", "output", predictions, "quiet", "on"),
              &err);
    return 0;
}

#define USE "model", flow.model, "vocab", "bytes", "threads", "1"

FLOW(find_module, "find-module", "", "prompt_tuning.configs")
FLOW(ensemble, "eval", USE, "ensemble", both, "data", flow.eval, "json", "on", "output", flow.out)
FLOW(prompts, "infer", USE, "prompts", both, "data", flow.eval, "json", "on")
FLOW(calibrate, "eval", USE, "prompt", flow.kept, "data", flow.eval, "calibrate", "N/A", "json", "on")
FLOW(rank, "score", USE, "prompt", flow.kept, "data", flow.eval, "rank", "on", "calibrate", "N/A")
FLOW(summary, "score", USE, "prompt", flow.kept, "data", flow.eval, "summary", "on", "json", "on")
FLOW(predictions, "eval", "predictions", predictions, "data", flow.eval, "labels", "x,y", "json", "on")
/* A page without its prompt is no report: every page is as long as the first. */
static spt_status flow_report(void *ctx, spt_err *err)
{
    static uint64_t whole;
    struct fs_info info;
    (void)ctx;
    flow_remove(flow.out);
    TRY(COMMAND(err, "report", "", flow.kept, "model", flow.model, "threads", "1", "out", flow.out));
    if (fs_stat(flow.out, &info, err)) /* the failing call was this one */
        return SPT_OK;
    whole = whole ? whole : info.size;
    return info.size == whole ? SPT_OK : err_set(err, SPT_E_USAGE, "a report lacks a part");
}
FLOW(neighbors, "neighbors", "", flow.kept, "model", flow.model, "vocab", "bytes", "k", "2", "json", "on")
FLOW(neighbors_page, "neighbors", "", flow.kept, "model", flow.model, "vocab", "bytes", "start", one,
     "html", flow.out)
FLOW(plan, "plan", USE, "train", flow.train, "eval", flow.eval, "length", "3", "memory", "100M")
FLOW(plan_sweep, "plan", USE, "train", flow.train, "lengths", "2,3", "runs", runs, "steps", "2")
FLOW(plan_ranks, "plan", USE, "train", flow.train, "length", "3", "ranks", "2", "bandwidth", "1G", "steps", "2")
FLOW(bench, "bench", "model", flow.model, "threads", "1", "steps", "1", "batch", "2", "tokens", "3",
     "targets", "1", "length", "2")
FLOW(bench_random, "bench", "size", "tiny", "threads", "1", "steps", "1", "batch", "1", "tokens", "2",
     "targets", "1", "length", "2")
FLOW(beam, "infer", USE, "prompt", flow.kept, "data", flow.eval, "generate", "on", "max-output", "3",
     "decode", "beam", "beams", "3", "n-best", "2", "json", "on", "ids", "on", "stop", "e")
FLOW(beam_hf, "infer", USE, "prompt", flow.kept, "data", flow.eval, "generate", "on", "max-output", "3",
     "decode", "beam-hf", "beams", "3", "n-best", "2", "no-repeat-ngram", "2", "json", "on")
FLOW(sample_t5x, "infer", USE, "prompt", flow.kept, "data", flow.eval, "generate", "on", "max-output",
     "3", "decode", "sample-t5x", "samples", "2", "seed", "3", "force-prefix", "a")
FLOW(outputs, "infer", USE, "prompt", flow.kept, "data", flow.eval, "mode", "predict_with_aux",
     "max-output", "3", "beams", "2", "chunk", "1", "batch", "2", "out", flow.out)
FLOW(prompts_decoded, "infer", USE, "prompts", both, "data", flow.eval, "generate", "on", "max-output", "2",
     "json", "on")
FLOW(data_convert, "data", "", "convert", "", flow.train, "", flow.out, "to", "csv", "quiet", "on")
FLOW(extract_half, "extract", "", half, "", "x", "", flow.npy, "quiet", "on")
FLOW(ids_to_text, "tokenize", "model", flow.model, "vocab", "bytes", "decode", "on", "", ids)
FLOW(scores, "infer", USE, "prompt", flow.kept, "data", flow.eval, "mode", "score", "out", flow.out)
FLOW(prompt_of_uniform, "init", "model", flow.model, "vocab", "bytes", "length", "3", "init",
     "uniform", "seed", "1", "out", flow.npy)
FLOW(prompt_of_text, "init", "model", flow.model, "vocab", "bytes", "length", "3", "init", "text",
     "init-text", "abc", "seed", "1", "out", flow.npy)

#define TRAIN "train", USE, "train", flow.train, "eval", flow.eval, "out", flow.out, "length", "3", \
    "batch", "2", "steps", "1", "seed", "5", "quiet", "on"
FLOW(adamw, TRAIN, "optimizer", "adamw", "lr", "0.1", "clip-norm", "1", "profile", "on", "init", "uniform")
FLOW(save_full, TRAIN, "save-full", "on", "log-examples", "on", "init", "labels")
FLOW(bfloat16, TRAIN, "compute", "bfloat16", "remat", "on", "micro-batch", "1", "schedule",
     "constant * linear_warmup", "by", "generate", "max-output", "2")
FLOW(from_file, TRAIN, "init", "file", "init-file", one, "isa", "ref", "side", "decoder", "patience", "2")

FLOW(sweep, "sweep", USE, "train", flow.train, "eval", flow.eval, "out", flow.out, "batch", "2", "steps",
     "2", "seed", "5", "lengths", "2,3", "runs", runs, "json", "on", "quiet", "on")

static spt_status flow_sample_with_file(void *ctx, spt_err *err)
{
    char at[320];
    (void)ctx;
    snprintf(at, sizeof at, "@%s", stops);
    return COMMAND(err, "infer", USE, "prompt", flow.kept, "data", flow.eval, "generate", "on",
                   "max-output", "3", "samples", "2", "seed", "3", "top-k", "5", "top-p", "0.9", "stop",
                   at);
}

static spt_status flow_peft(void *ctx, spt_err *err)
{
    char dir[300];
    (void)ctx;
    snprintf(dir, sizeof dir, "%s.peft", flow.out);
    flow_remove(dir);
    return COMMAND(err, "convert", "", flow.kept, "", dir, "model", flow.model, "quiet", "on");
}

static spt_status flow_session(void *ctx, spt_err *err)
{
    spt_session *s;
    char answer[64];
    (void)ctx;
    spt_session_opts o;
    spt_session_opts_init(&o);
    o.threads = 1;
    spt_status st = spt_session_open(flow.model, flow.kept, &o, &s, err);
    if (st)
        return st;
    st = spt_session_answer(s, "ab", answer, sizeof answer, err);
    spt_session_close(s);
    return st;
}

#define CASE(title, name) {title, flow_##name, flow_##name}
/* They measure the machine in every run, so only `make check-oom` has the time. */
static const struct flow slow_flows[] = {
    CASE("plan", plan),
    CASE("plan of a sweep", plan_sweep),
    CASE("plan for ranks", plan_ranks),
    CASE("bench", bench),
    {"bench of random weights", flow_bench_random, flow_extract_half}, /* a bench leaves nothing */
};
static const struct flow flows[] = {
    CASE("find-module", find_module),
    CASE("eval of an ensemble", ensemble),
    CASE("sweep", sweep),
    CASE("infer with two prompts", prompts),
    CASE("infer with two prompts, decoded", prompts_decoded),
    CASE("data convert", data_convert),
    CASE("extract of bfloat16", extract_half),
    CASE("tokenize, ids to text", ids_to_text),
    CASE("eval, calibrated", calibrate),
    CASE("score, all labels", rank),
    CASE("score, summary", summary),
    CASE("eval of predictions", predictions),
    CASE("report", report),
    CASE("neighbors", neighbors),
    CASE("neighbors, page", neighbors_page),
    CASE("infer by beams", beam),
    CASE("infer by beams as Hugging Face", beam_hf),
    CASE("infer by samples", sample_with_file),
    CASE("infer by the reference's samples", sample_t5x),
    CASE("infer, the reference's predictions", outputs),
    CASE("infer, the reference's scores", scores),
    CASE("convert to PEFT", peft),
    CASE("init at random", prompt_of_uniform),
    CASE("init from a text", prompt_of_text),
    CASE("train with AdamW and a profile", adamw),
    CASE("train, whole checkpoints", save_full),
    CASE("train in bfloat16, recomputing", bfloat16),
    CASE("train a decoder prompt from a file", from_file),
    CASE("session", session),
};

/* First without faults, so that a wrong command line is told apart. */
static void they_run(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof flows / sizeof *flows; i++) {
        spt_err err = {0};
        const spt_status st = flows[i].run(NULL, &err);
        if (st)
            fail_msg("%s: %s (%s)", flows[i].name, spt_status_text(st), err.msg);
    }
}

static void every_allocation(void **state)
{
    (void)state;
    flows_every_allocation(flows, sizeof flows / sizeof *flows, 8);
    if (getenv("SPT_TEST_SLOW") || getenv("SPT_TEST_SITES_ONLY"))
        flows_every_allocation(slow_flows, sizeof slow_flows / sizeof *slow_flows, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_run),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
