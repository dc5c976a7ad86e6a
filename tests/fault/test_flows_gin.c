/* Bar C1 over the reference's programs: training with checkpoints and evaluation, continuing, evaluation
 * and inference given gin files, and the commands around tasks. Needs ../shared/data/upstream (a tiny
 * checkpoint); of the allocations that come from the same stack of calls the first
 * one fails, of those every 128th (SPT_TEST_SLOW=1: all of them). */
#define _GNU_SOURCE
#include "support/flows.h"
#include "support/tiny_t5.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/fs.h"
#include "task/tfds_write.h"

#define TINY "upstream/test_t5_1_1_tiny/checkpoint_3"
static bool ready, plugin;

/* A directory of Hugging Face in the shape of the tiny checkpoint. */
static void write_hf(const char *dir)
{
    struct t5_config c = tiny_t5_default;
    struct tiny_t5 m;
    spt_err err = {0};
    c.vocab = 32128;
    c.width = 4, c.heads = 2, c.head_dim = 2, c.ff = 8, c.enc_layers = 2, c.dec_layers = 2;
    c.buckets = 4, c.max_distance = 8;
    tiny_t5_make(&m, &c, 3);
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    tiny_t5_write(&m, dir,
                  "{\"model_type\": \"t5\", \"vocab_size\": 32128, \"d_model\": 4, \"d_kv\": 2, "
                  "\"d_ff\": 8, \"num_heads\": 2, \"num_layers\": 2, \"num_decoder_layers\": 2, "
                  "\"relative_attention_num_buckets\": 4, \"relative_attention_max_distance\": 8, "
                  "\"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
                  "\"layer_norm_epsilon\": 1e-6, \"is_encoder_decoder\": true}");
    tiny_t5_free(&m);
}

/* Everything happens in a temporary directory, so that names are short and relative. */
static int setup(void **state)
{
    const char *shared = test_shared_dir();
    char path[4200], root[4096];
    spt_err err = {0};
    if (!shared || !getcwd(root, sizeof root))
        return 0;
    char *data = realpath(shared, NULL);
    snprintf(path, sizeof path, "%s/data/upstream", data ? data : "");
    if (!data || !fs_is_dir(path))
        return 0;
    if (flow_setup(state))
        return -1;
    EXPECT_TRUE(!symlink(path, test_path(flow.dir, "upstream")));
    free(data);
    snprintf(path, sizeof path, "%s/configs", root);
    setenv("SPT_CONFIGS", path, 1);
    snprintf(path, sizeof path, "make -s -C examples/plugin OUT=%s/shout >/dev/null 2>&1 && cp -r "
             "examples/plugin/shout/configs examples/plugin/shout/data %s/shout", flow.dir, flow.dir);
    plugin = !system(path);
    static const char mixes[] =
        "#include <spt/plugin.h>\n"
        "static spt_status init(const spt_plugin_host *h, spt_plugin_self *s, spt_err *err)\n"
        "{\n"
        "    const char *const task[] = {\"glue_cola_v002\", \"glue_sst2_v002\"};\n"
        "    return h->add_mixture(s, \"mixed\", task, (void *)0, 2, err);\n"
        "}\n"
        "SPT_PLUGIN(\"mixes\", \"1\", init)\n";
    test_write(test_path(flow.dir, "mixes.c"), mixes, sizeof mixes - 1);
    snprintf(path, sizeof path, "${CC:-cc} -shared -fPIC -Iinclude -o %s/mixes.so %s/mixes.c", flow.dir,
             flow.dir);
    plugin = plugin && !system(path);
    write_hf(test_path(flow.dir, "hf"));
    tfds_writer *w;
    EXPECT_OK(tfds_writer_new(test_path(flow.dir, "tfds"), "glue/sst2:2.0.0", &w, &err), &err);
    for (int i = 0; i < 6; i++) {
        record r = {0};
        char text[32];
        snprintf(text, sizeof text, "row %d", i);
        EXPECT_OK(record_set_text(&r, "sentence", text, strlen(text), &err), &err);
        EXPECT_OK(record_set_int(&r, "label", i % 2, &err), &err);
        EXPECT_OK(record_set_int(&r, "idx", i, &err), &err);
        EXPECT_OK(tfds_writer_add(w, i < 4 ? "train" : "validation", &r, NULL, &err), &err);
        record_release(&r);
    }
    EXPECT_OK(tfds_writer_commit(w, 1, &err), &err);
    static const char rows[] = "text\tlabel\nab c\t0\nd\t1\nef\t0\nggg\t1\n";
    test_write(test_path(flow.dir, "own.tsv"), rows, sizeof rows - 1);
    static const char tasks[] =
        "spt.Task:\n  input = 'say: {text}'\n  target = '{label}'\n"
        "  words = {'0': 'no', '1': 'yes'}\n  labels = ['no', 'yes']\n"
        "own/spt.Task.train = 'own.tsv'\nown/spt.Task.validation = 'own.tsv'\n"
        "both/spt.Mixture.tasks = ['own', 'taskless_glue_sst2_v200_examples']\n";
    test_write(test_path(flow.dir, "tasks.gin"), tasks, sizeof tasks - 1);
    EXPECT_TRUE(!chdir(flow.dir));
    static const char npy[] = "\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, "
                              "'shape': (2, 4), }";
    char file[10 + 118 + 32];
    memset(file, ' ', sizeof file);
    memcpy(file, npy, sizeof npy - 1);
    file[127] = '\n';
    memset(file + 128, 0, 32);
    test_write("prompt.npy", file, sizeof file);
    ready = true;
    return 0;
}

static void need(void)
{
    if (!ready) {
        print_message("skipped: ../shared/data/upstream is not here\n");
        skip();
    }
}

#define MODEL                                                                              \
    "--gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin",                      \
    "--gin_file=prompt_tuning/configs/test/t5_1_1_tiny_prompt.gin", "--tfds_data_dir=tfds", \
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 4}", "--gin.PROMPT_LENGTH=2",     \
    "--gin.ACTIVATION_DTYPE='float32'",                                                     \
    "--gin.relative_position_biases.RelativePositionBiases.num_buckets=4",                  \
    "--gin.relative_position_biases.RelativePositionBiases.max_distance=8",                 \
    "--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file='upstream/t5_vocab'",     \
    "--gin.seqio.SentencePieceVocabulary.extra_ids=100", "--quiet"
#define TRAIN(steps)                                                                  \
    "--gin_file=tasks.gin", "--gin_file=prompt_tuning/configs/runs/prompt_finetune.gin", \
    "--gin.MODEL_DIR='model_dir'", "--gin.INITIAL_CHECKPOINT_PATH='" TINY "'",        \
    "--gin.BATCH_SIZE=2", "--gin.EVAL_PERIOD=1", "--gin.EVAL_STEPS=1",                \
    "--gin.RANDOM_SEED=4", "--gin.USE_CACHED_TASKS=False",                            \
    "--gin.train/utils.DatasetConfig.seed=7", "--gin.utils.SaveCheckpointConfig.period=1", \
    "--gin.train.use_orbax=False", "--gin.DROPOUT_RATE=0.1", "--gin.TRAIN_STEPS=" steps
#define TASK(name) "--gin.MIXTURE_OR_TASK_NAME='" name "'"

static spt_status train(const char *what, bool on, spt_err *err)
{
    (void)what;
    if (on)
        return WORDS("train", err, MODEL, TRAIN("5"), TASK("both"));
    flow_remove("model_dir");
    return WORDS("train", err, MODEL, TRAIN("4"), TASK("both"));
}

static spt_status train_first(void *ctx, spt_err *err)
{
    (void)ctx;
    return train("first", false, err);
}

static spt_status train_and_resume(void *ctx, spt_err *err)
{
    (void)ctx;
    TRY(train("first", false, err));
    return train("on", true, err);
}

/* Whatever a failed attempt left behind, the run can be continued. */
static spt_status train_on(void *ctx, spt_err *err)
{
    (void)ctx;
    return train("on", true, err);
}

static spt_status train_with_a_mixture_saved(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("model_dir");
    return WORDS("train", err, MODEL, TRAIN("4"), TASK("own"),
                 "--gin.utils.SaveCheckpointConfig.save_dataset=True",
                 "--gin.utils.SaveCheckpointConfig.keep=1",
                 "--gin.utils.SaveCheckpointConfig.checkpoint_steps=[2]",
                 "--gin.trainer.Trainer.num_microbatches=2");
}

#define EVAL(task, checkpoint, type)                                                                      \
    MODEL, TASK(task), "--gin_file=prompt_tuning/configs/runs/prompt_eval.gin",                           \
        "--gin.EVAL_OUTPUT_DIR='eval_dir'", "--gin.PROMPT_FILE='prompt.npy'",                             \
        "--gin.CHECKPOINT_PATH='" checkpoint "'", "--gin.utils.DatasetConfig.batch_size=2",               \
        "--gin.utils.DatasetConfig.split='validation'",                                                   \
        "--gin.utils.RestoreCheckpointConfig.dtype='" type "'", "--gin.evaluate.use_orbax=False"

/* Another checkpoint was evaluated before. */
static spt_status evaluate(void *ctx, spt_err *err)
{
    static const char done[] = "elsewhere/checkpoint_1\n";
    (void)ctx;
    flow_remove("eval_dir");
    EXPECT_TRUE(!mkdir("eval_dir", 0777));
    test_write("eval_dir/eval.taskless_glue_sst2_v200_examples.ckpt", done, sizeof done - 1);
    return WORDS("eval", err, EVAL("taskless_glue_sst2_v200_examples", TINY, "float32"));
}

/* Scores in the place of answers, over weights of Hugging Face that are rounded. */
static spt_status evaluate_candidates(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("eval_dir");
    return WORDS("eval", err,
                 EVAL("glue_sst2_v200_rank_classification_test", "hf", "bfloat16"));
}

static spt_status infer_on(const char *mode, spt_err *err)
{
    return WORDS("infer", err, MODEL, TASK("taskless_glue_sst2_v200_examples"),
                 "--gin_file=prompt_tuning/configs/models/decoding/beam_search.gin",
                 "--gin_file=prompt_tuning/configs/runs/prompt_infer.gin",
                 "--gin.INFER_OUTPUT_DIR='infer_dir'", "--gin.PROMPT_FILE='prompt.npy'",
                 "--gin.CHECKPOINT_PATH='" TINY "'", "--gin.utils.DatasetConfig.batch_size=2",
                 "--gin.utils.DatasetConfig.split='validation'",
                 "--gin.utils.RestoreCheckpointConfig.dtype='float32'",
                 "--gin.infer.checkpoint_period=1", "--gin.infer.use_orbax=False", mode);
}

static spt_status infer_in(const char *mode, spt_err *err)
{
    flow_remove("infer_dir");
    return infer_on(mode, err);
}

static spt_status infer_predict(void *ctx, spt_err *err)
{
    (void)ctx;
    return infer_in("--gin.infer.mode='predict_with_aux'", err);
}

#define PREDICT "--gin.models.EncoderDecoderModel.predict_batch_with_aux"
/* Targets are forced upon the decoder. */
static spt_status infer_with_targets(void *ctx, spt_err *err)
{
    (void)ctx;
    return infer_in(PREDICT ".prompt_with_targets=True", err);
}

static spt_status infer_score(void *ctx, spt_err *err)
{
    (void)ctx;
    return infer_in("--gin.infer.mode='score'", err);
}

/* What is complete stays as it is: a mark that cannot be looked for is an error, not a missing one. */
static spt_status infer_again(void *ctx, spt_err *err)
{
    static const char file[] =
        "infer_dir/taskless_glue_sst2_v200_examples-score.jsonl-00000-of-00001";
    struct stat before = {0}, after;
    (void)ctx;
    if (stat(file, &before)) /* the first time, without a fault */
        return infer_score(ctx, err);
    const spt_status st = infer_on("--gin.infer.mode='score'", err);
    EXPECT_TRUE(!stat(file, &after));
    EXPECT_EQ_I64(after.st_ino, before.st_ino);
    return st;
}

static spt_status cache_tasks(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("caches");
    return WORDS("cache", err, "own", "--vocab", "bytes", "--out", "caches", "--shards", "1",
                 "--gin_file=tasks.gin", "--quiet");
}

static spt_status list_tasks(void *ctx, spt_err *err)
{
    (void)ctx;
    return COMMAND(err, "tasks", "", "show", "", "byt5_taskless_glue_sst2_v200_examples", "vocab", "bytes",
                   "tfds-data-dir", "tfds", "n", "1");
}

static spt_status find_module(void *ctx, spt_err *err)
{
    (void)ctx;
    return COMMAND(err, "find-module", "", "prompt_tuning");
}

static spt_status dry_run(void *ctx, spt_err *err)
{
    (void)ctx;
    return WORDS("train", err, MODEL, TRAIN("4"), TASK("own"), "--dry_run");
}

static spt_status with_plugin(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("caches");
    return WORDS("cache", err, "shout_both", "shout_builtin", "--vocab", "bytes", "--out", "caches",
                 "--shards", "1", "--plugin", "shout/shout.so", "--gin_search_paths=.",
                 "--gin_file=shout/configs/corpus.gin", "--quiet");
}

static spt_status train_with_plugin(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("model_dir");
    return WORDS("train", err, MODEL, TRAIN("4"), TASK("shout_both"), "--plugin", "shout/shout.so",
                 "--gin_search_paths=.", "--gin_file=shout/configs/corpus.gin",
                 "--gin_file=shout/configs/ramp.gin");
}

/* A plug-in with nothing but a mixture. */
static spt_status with_mixture(void *ctx, spt_err *err)
{
    (void)ctx;
    return COMMAND(err, "tasks", "", "mixed", "plugin", "mixes.so");
}

/* Without gin files: the plug-in's code named by options, its arguments as bindings. */
static spt_status plain_with_plugin(void *ctx, spt_err *err)
{
    (void)ctx;
    flow_remove("coded");
    return WORDS("train", err, "--model", flow.model, "--vocab", "bytes", "--train", "shout/data/train.tsv",
                 "--eval", "shout/data/validation.tsv", "--plugin", "shout/shout.so", "--out", "coded",
                 "--length", "2", "--batch", "2", "--steps", "1", "--seed", "1", "--threads", "1",
                 "--init", "shout.ramp", "--gin.shout.ramp.scale=0.75", "--preprocess", "shout.pairs",
                 "--metric", "shout.agreement", "--postprocess", "shout.loudness", "--max-output", "2",
                 "--max-input", "6", "--max-target", "3", "--quiet");
}

/* It measures the machine in every run, so only the long forms have the time. */
static spt_status plan_with_plugin(void *ctx, spt_err *err)
{
    (void)ctx;
    return WORDS("plan", err, "--model", flow.model, "--vocab", "bytes", "--train", flow.train, "--plugin",
                 "shout/shout.so", "--lengths", "2,3", "--batch", "2", "--steps", "1", "--threads", "1",
                 "--init", "shout.ramp", "--gin.shout.ramp.scale=0.75", "--quiet");
}

static const struct flow flows[] = {
    {"gin: print the configuration", dry_run, dry_run},
    {"tasks", list_tasks, list_tasks},
    {"find-module", find_module, find_module},
    {"cache", cache_tasks, cache_tasks},
    {"gin: infer, scores", infer_score, infer_score},
    {"gin: infer, predictions", infer_predict, infer_predict},
    {"gin: infer, complete", infer_again, NULL},
    {"gin: infer, targets", infer_with_targets, infer_with_targets},
    {"gin: eval", evaluate, evaluate},
    {"gin: eval, candidates", evaluate_candidates, evaluate_candidates},
    {"gin: train", train_first, train_on},
    {"gin: train and continue", train_and_resume, train_on},
    {"gin: train, data position saved", train_with_a_mixture_saved, train_with_a_mixture_saved},
}, long_flows[] = {
    {"plan of several runs", plan_with_plugin, plan_with_plugin},
}, plugin_flows[] = {
    {"cache with a plug-in", with_plugin, with_plugin},
    {"mixture of a plug-in", with_mixture, with_mixture},
    {"train with a plug-in", plain_with_plugin, plain_with_plugin},
    {"gin: train with a plug-in", train_with_plugin, train_with_plugin},
};
enum {
    FLOWS = sizeof flows / sizeof *flows,
    PLUGIN_FLOWS = sizeof plugin_flows / sizeof *plugin_flows
};

static void runs(const struct flow *f)
{
    spt_err err = {0};
    const spt_status st = f->run(NULL, &err);
    if (st)
        fail_msg("%s: %s (%s)", f->name, spt_status_text(st), err.msg);
}

/* First without faults, so that a wrong command line is told apart. */
static void they_run(void **state)
{
    (void)state;
    need();
    for (size_t i = 0; i < FLOWS; i++)
        runs(&flows[i]);
    for (size_t i = 0; i < PLUGIN_FLOWS && plugin; i++)
        runs(&plugin_flows[i]);
}

static void every_allocation(void **state)
{
    (void)state;
    need();
    flows_every_allocation(flows, FLOWS, 128);
    if (plugin)
        flows_every_allocation(plugin_flows, PLUGIN_FLOWS, 128);
    if (plugin && (getenv("SPT_TEST_SLOW") || getenv("SPT_TEST_SITES_ONLY")))
        flows_every_allocation(long_flows, 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_run),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
