#include "run/settings.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "gin/flags.h"
#include "gin/gin.h"
#include "run/commands.h"

#define F(field) offsetof(struct settings, field)
#define TEXT(name, field, meta, dflt, commands, help) \
    {{name, meta, dflt, help}, OPTION_TEXT, F(field), 0, 0, NULL, commands}
#define CHOICE(name, field, choices, dflt, commands, help) \
    {{name, choices, dflt, help}, OPTION_TEXT, F(field), 0, 0, choices, commands}
#define INT(name, field, dflt, lo, hi, commands, help) \
    {{name, "N", dflt, help}, OPTION_INT, F(field), lo, hi, NULL, commands}
#define REAL(name, field, dflt, lo, hi, commands, help) \
    {{name, "X", dflt, help}, OPTION_REAL, F(field), lo, hi, NULL, commands}
#define SWITCH(name, field, commands, help) \
    {{name, NULL, "", help}, OPTION_SWITCH, F(field), 0, 0, NULL, commands}

/* A switch without --no-x: it asks for what is not done by default, and nothing else could set it. */
#define ONE_WAY(name, field, commands, help) \
    {{name, NULL, "", help}, OPTION_SWITCH, F(field), SWITCH_ONE_WAY, 0, NULL, commands}

#define T (CMD_TRAIN | CMD_SWEEP)
#define W (CMD_SWEEP | CMD_PLAN)
#define E CMD_EVAL
#define I CMD_INFER
#define S CMD_SCORE
#define N CMD_INIT
#define K CMD_TOKENIZE
#define C (CMD_CHECK | CMD_PLAN) /* reads what training would read */
#define X CMD_EXTRACT
#define V CMD_CONVERT
#define P CMD_INSPECT
#define G CMD_NEIGHBORS
#define R CMD_REPORT
#define L CMD_TASKS
#define H CMD_CACHE
#define B CMD_BENCH
#define D CMD_DEMO
#define Z CMD_DATA
#define M CMD_MODELS
#define USES (T | E | I | S | C)

enum { BIG = 1000000000 };

const struct option_row option_table[] = {
    /* files */
    TEXT("model", model, "MODEL", "", USES | N | K | V | G | R | L | H | B,
         "the frozen T5: a T5X checkpoint, a Hugging Face directory, or org/name[@revision] on its "
         "hub"),
    TEXT("vocab", vocab, "FILE", "", USES | N | K | G | L | H,
         "SentencePiece model, when it does not lie beside the model; \"bytes\" for ByT5"),
    TEXT("train", train, "FILE", "", T | C, "training examples: TSV, CSV or JSON Lines, or .gz"),
    TEXT("eval", eval, "FILE", "", T | C, "held-out examples to choose the best prompt by"),
    TEXT("out", out, "DIR", "", CMD_TRAIN, "run directory; made when absent"),
    TEXT("out", out, "DIR", "", CMD_SWEEP, "directory of the sweep: every run is DIR/NAME"),
    TEXT("out", out, "DIR", "", D, "run directory to keep (default: a temporary one)"),
    TEXT("out", out, "DIR", "", I,
         "directory for the reference's sharded outputs; an interrupted run continues there"),
    TEXT("out", output, "FILE", "", N | X | V, "file or directory to write"),
    TEXT("out", output, "DIR", "", H, "root of the caches: DIR/TASK/ is written"),
    TEXT("out", output, "FILE", "", R, "page to write (default: RUN/report.html)"),
    TEXT("data", data, "FILE", "", E | I | S, "examples; \"-\" is standard input"),
    TEXT("data", data, "FILE", "", R, "examples to answer (default: the run's --eval)"),
    TEXT("prompt", prompt, "FILE", "", E | I | S | CMD_CHECK,
         "prompt of any kind, or a run directory (its best prompt); none: the bare model"),
    TEXT("prompts", prompts, "A,B,..", "", I,
         "several prompts at once: every one for every input, or see --prompt-column"),
    TEXT("prompt-column", prompt_column, "NAME", "", I,
         "column that names each row's prompt of --prompts: its path, file name or stem"),
    TEXT("ensemble", ensemble, "A,B,..", "", E,
         "answer with several prompts (more may follow as arguments): majority vote, mean "
         "log-likelihood, agreement"),
    TEXT("predictions", predictions, "FILE", "", E,
         "score this predictions file instead of running a model (targets: --data, else its own)"),
    TEXT("output", output, "FILE", "", E,
         "also write every example's answer here, one JSON line each"),
    TEXT("output", output, "FILE", "", I | S, "where answers go (default: standard output)"),
    /* data sets */
    TEXT("from", from, "FILE|DIR|URL", "", Z,
         "prepare: the publisher's file, or a folder that holds it or what was in it (default: "
         "fetched)"),
    TEXT("out", output, "DIR", "", Z,
         "prepare, list, info: where prepared data sets lie (default: TFDS_DATA_DIR, else "
         "~/tensorflow_datasets)"),
    TEXT("sha256", sha256, "HEX", "", Z, "prepare: what the file given with --from must have"),
    ONE_WAY("no-verify", no_verify, Z,
            "prepare: files need not be the published ones (default: SPT_DATA_NO_VERIFY)"),
    ONE_WAY("offline", offline, Z, "prepare: fetch nothing (default: SPT_OFFLINE, HF_HUB_OFFLINE)"),
    TEXT("task", data_task, "NAME", "", Z,
         "convert: write the texts of this task instead of the columns"),
    CHOICE("to", to, "auto|tsv|csv|jsonl|predictions", "auto", Z,
           "convert: kind of the file written (auto: by its name)"),
    /* tasks */
    TEXT(
        "tfds-data-dir", tfds_dir, "DIR", "", L,
        "prepared TFDS data sets, or unpacked GLUE or SuperGLUE archives (default: TFDS_DATA_DIR)"),
    TEXT("split", split, "NAME", "", L, "split to show (default: train)"),
    INT("n", show, "3", 1, 1000000, L, "examples shown"),
    /* tables */
    TEXT("input", input, "TEMPLATE", "", USES,
         "input text, e.g. \"sst2 sentence: {sentence}\" (default: the text column)"),
    TEXT("target", target, "TEMPLATE", "", USES, "target text (default: the label column)"),
    TEXT("labels", labels, "[A,B,..]", "", USES | N,
         "label set, or @FILE with one a line (without a value and by default: the prompt's, else "
         "the data's)"),
    CHOICE("header", header, "auto|yes|no", "auto", USES | Z,
           "whether the first row names the columns"),
    CHOICE("format", format, "auto|tsv|csv|jsonl", "auto", USES | Z, "kind of the data files"),
    TEXT("delimiter", delimiter, "CHAR|tab", "", USES | Z,
         "what separates fields (default: tab in TSV, comma in CSV)"),
    INT("max-input", max_input, "512", 1, 1048576, USES | L,
        "input tokens kept, end mark included"),
    INT("max-target", max_target, "64", 1, 1048576, USES | L,
        "target tokens kept, end mark included"),
    /* prompt */
    INT("length", length, "", 1, 100000, T | N | C,
        "prompt length P in rows (default: 100; 20 or 8 for a model narrower than 512 or 128)"),
    INT("length", length, "100", 1, 100000, B, "prompt length P in rows"),
    CHOICE("init", init, "auto|labels|vocab|uniform|text|file|PLUGIN.NAME", "auto", T | N | C,
           "how the prompt starts (auto: labels when there are any, else vocab)"),
    TEXT("init-text", init_text, "TEXT", "", T | N | C, "text whose pieces start the prompt"),
    TEXT("init-file", init_file, "FILE", "", T | N | C, "prompt file to start from"),
    INT("init-population", init_population, "5000", 1, BIG, T | N | C,
        "vocab, labels: rows are drawn from the first N pieces"),
    REAL("init-scale", init_scale, "0.5", 0, 1e6, T | N | C, "uniform: upper end of [0, X)"),
    CHOICE("combine", combine, "prefix|after-bos|suffix", "prefix", USES | N,
           "where the rows stand in the encoder input"),
    CHOICE("side", side, "encoder|decoder", "encoder", T | N | C,
           "which stack the prompt is put in front of"),
    /* neighbors */
    INT("k", neighbors, "5", 1, 1000, G, "nearest pieces shown for each row"),
    TEXT("start", start, "FILE", "", G,
         "prompt that drift is measured from (default: the prompt's own start, made again)"),
    TEXT("html", html, "FILE", "", G, "write a page instead of text"),
    /* how long */
    INT("steps", steps, "0", 0, BIG, T | C,
        "training steps (0: from --epochs, else 24 epochs, but 300 .. 3000 steps)"),
    REAL("epochs", epochs, "0", 0, 1e6, T | C, "passes over the training data"),
    REAL("minutes", minutes, "0", 0, 1e6, T, "stop after this time (0: no limit)"),
    CHOICE("size", size, "tiny|small|base|large", "base", B,
           "shape of T5 1.1 with random weights, without --model"),
    INT("tokens", tokens, "30", 1, 1048576, B,
        "mean input length; lengths vary from half to one and a half of it"),
    INT("targets", targets, "3", 1, 1048576, B, "target length"),
    INT("steps", steps, "5", 1, 100000, B, "steps measured"),
    INT("steps", steps, "360", 1, 100000, D, "training steps"),
    INT("batch", batch, "32", 1, 65536, T | E | I | S | C | B, "examples per step"),
    INT("micro-batch", micro_batch, "0", 0, 65536, T | C,
        "examples in flight at once; same bits as one batch (0: by --micro-rows)"),
    INT("micro-rows", micro_rows, "1152", 1, BIG, USES | B, "encoder rows in flight at once"),
    INT("eval-every", eval_every, "0", 0, BIG, T | C, "steps between evaluations (0: 20 in a run)"),
    INT("save-every", save_every, "0", 0, BIG, T, "steps between checkpoints (0: as --eval-every)"),
    INT("keep", keep, "2", 1, 1000000, T, "checkpoints kept, the best one besides"),
    INT("patience", patience, "0", 0, BIG, T,
        "stop after N evaluations without improvement (0: never)"),
    /* optimiser and loss */
    CHOICE("optimizer", optimizer, "adafactor|adamw", "adafactor", T | C, "update rule"),
    REAL("lr", lr, "0.3", 0, 1e38, T | C, "learning rate"),
    TEXT("schedule", schedule, "FACTORS", "constant", T | C,
         "learning-rate factors, e.g. \"constant * linear_warmup * rsqrt_decay\""),
    INT("warmup", warmup, "1000", 0, BIG, T | C, "warm-up steps of the schedule"),
    REAL("weight-decay", weight_decay, "1e-5", 0, 1, T | C, "weight decay of the prompt"),
    REAL("clip-norm", clip_norm, "0", 0, 1e38, T | C, "clip the gradient's global norm (0: off)"),
    REAL("z-loss", z_loss, "1e-4", 0, 1e6, T | C, "coefficient of log(Z)^2"),
    REAL("label-smoothing", label_smoothing, "0", 0, 1, T | C, "mass spread over other tokens"),
    TEXT("normalize", normalize, "RULE", "none", T | C,
         "none, a number, real-tokens, all-tokens or per-sequence"),
    REAL("dropout", dropout, "0", 0, 0.999, T | C, "dropout rate in training"),
    TEXT("seed", seed, "N", "", T | N | C | E | I,
         "seed of initialisation, order, dropout and sampling (default: drawn)"),
    TEXT("seed", seed, "N", "1", D, "seed of the training"),
    /* many runs */
    TEXT("seeds", seeds, "N,N,..", "", W, "a run for each seed"),
    TEXT("lrs", lrs, "X,X,..", "", W, "a run for each learning rate"),
    TEXT("inits", inits, "KIND,..", "", W, "a run for each --init"),
    TEXT("lengths", lengths, "N,N,..", "", W, "a run for each prompt length"),
    TEXT(
        "runs", runs, "FILE", "", W,
        "a run for each row of a table or JSON Lines: columns are options, \"name\" names the run"),
    /* evaluation */
    CHOICE("metric", metric, "auto|accuracy|macro-f1|f1|exact-match|loss|PLUGIN.NAME", "auto",
           T | C, "score that chooses the best prompt (auto: accuracy)"),
    CHOICE("by", by, "auto|rank|generate", "auto", T | E | C,

           "answers by ranking the labels or by decoding (auto: rank when there are labels; train: "
           "generate without --labels takes targets as free text)"),
    SWITCH("generate", generate, I, "decode freely although the prompt has labels"),
    SWITCH("length-normalize", length_normalize, E | I | T | C | S,
           "rank by log-likelihood per token instead of its sum"),
    INT("max-output", max_output, "64", 1, 65536, T | E | I | C, "tokens decoded at most"),
    /* decoding */
    CHOICE(
        "decode", search, "auto|greedy|sample|sample-t5x|beam|beam-hf", "auto", E | I,
        "search: beam and sample-t5x as the reference (whose samples depend on the batch), beam-hf "
        "and sample as Hugging Face (auto: "
        "by the options below, else greedy); any of these options decodes freely"),
    INT("beams", beams, "4", 1, 1024, E | I, "beam, beam-hf: sequences kept"),
    REAL("alpha", alpha, "0.6", -1e3, 1e3, E | I,
         "beam: scores are divided by ((5 + length) / 6)^X"),
    REAL("length-penalty", length_penalty, "1", -1e3, 1e3, E | I,
         "beam-hf: scores are divided by length^X"),
    CHOICE("early-stopping", early_stopping, "no|yes|never", "no", E | I,
           "beam-hf: end once as many answers as beams are complete (no: and none can get better)"),
    INT("n-best", n_best, "1", 1, 1024, E | I, "beam, beam-hf: answers per input"),
    INT("samples", samples, "1", 1, 65536, E | I, "sample, sample-t5x: answers per input"),
    REAL("temperature", temperature, "1", 0, 1e6, E | I, "sample, sample-t5x: divides the logits"),
    INT("top-k", top_k, "0", 0, BIG, E | I, "sample, sample-t5x: only the N likeliest (0: all)"),
    REAL("top-p", top_p, "1", 0, 1, E | I,
         "sample, sample-t5x: only the likeliest that make up this mass (1: all)"),
    REAL("repetition-penalty", repetition_penalty, "1", 0, 1e6, E | I,
         "greedy, sample, beam-hf: weakens tokens that have appeared"),
    INT("no-repeat-ngram", no_repeat_ngram, "0", 0, 65536, E | I,
        "greedy, sample, beam-hf: no N tokens in a row twice (0: off)"),
    INT("min-length", min_output, "0", 0, 65536, E | I,
        "greedy, sample, beam-hf: no end before N tokens"),
    TEXT("stop", stop, "TEXT", "", E | I,
         "end an answer where it says this, or one of the lines of @FILE; that text is cut off"),
    TEXT("force-prefix", force_prefix, "TEXT", "", E | I, "what every answer starts with"),
    CHOICE("mode", mode, "answers|predict|predict_with_aux|score", "answers", I,
           "lines as the reference's inference program writes them; decodes by its beam search of "
           "one beam unless told otherwise"),
    TEXT("plugin", plugin, "FILE.so", "", CMD_TRAIN | E | I | N | C | H | L | CMD_FIND_MODULE,
         "load a plug-in (may be given several times; docs/reference/plugins.md)"),
    TEXT("preprocess", preprocess, "PLUGIN.NAME", "", CMD_TRAIN | E | C,
         "a plug-in's preprocessor makes inputs and targets of the rows, instead of templates"),
    TEXT("postprocess", postprocess, "PLUGIN.NAME", "", CMD_TRAIN | E | C,
         "a plug-in's postprocessor says what answers and targets mean to --metric PLUGIN.NAME"),
    CHOICE("metric", metric, "auto|PLUGIN.NAME", "auto", E,
           "a plug-in's metric, printed behind the others"),
    TEXT("splits", splits, "A,B,..", "", H, "splits to cache (default: all that the task has)"),
    INT("shards", shards, "64", 1, 65536, H, "files per split"),
    TEXT("task-name", task_name, "NAME", "", I,
         "--out: what the output files are called (default: the data file's name)"),
    TEXT("shard", shard, "I/N", "0/1", I, "--out: only every N-th example, from number I on"),
    INT("chunk", chunk, "100", 1, BIG, I, "--out: batches between durable pieces"),
    TEXT("calibrate", calibrate, "TEXT", "", E | I | S,
         "divide the labels' probabilities by those for an input without content, e.g. N/A"),
    SWITCH("rank", rank_labels, S, "also the log-likelihood and probability of every label"),
    SWITCH("summary", summary, S, "one line for the whole file: tokens, score, perplexity"),
    SWITCH("ids", ids, I, "with --json or --mode: also the ids of each answer"),
    /* machine */
    CHOICE("compute", compute, "auto|float32|bfloat16", "", USES | B,
           "arithmetic of the products; auto: bfloat16 where the processor has it natively "
           "(default: as the prompt was trained, else float32)"),
    CHOICE("isa", isa, "auto|ref|ref64|avx2|avx512", "auto", USES | B,
           "kernels (ref64: plain code in double precision, to compare with)"),
    INT("threads", threads, "0", 0, 1024, USES | R | B | D, "threads (0: all cores)"),
    INT("num-partitions", partitions, "1", 1, 65536, CMD_TRAIN | E | I | S | C,
        "under mpirun: processes that hold one model together, each a part of every layer"),
    REAL("comm-timeout", comm_timeout, "600", 0, 1e6, CMD_TRAIN | E | I | S,
         "under mpirun: seconds to wait for a process that does not answer (0: for ever)"),
    INT("ranks", ranks, "1", 1, 65536, CMD_PLAN, "processes that the run will have"),
    TEXT("bandwidth", bandwidth, "SIZE", "", CMD_PLAN,
         "bytes per second between two of them (1.25G for 10 Gbit/s): adds the exchanges' time"),
    CHOICE(
        "cross-attention", cross_attention, "plain|absorbed|auto", "auto", USES | B,
        "absorbed: no keys and values of the input, for short targets and few labels (auto: when "
        "it needs fewer operations)"),
    SWITCH("remat", remat, T | C | B,
           "keep the inputs of layers only, compute the rest again: less memory, same bits"),
    TEXT("memory", memory, "SIZE", "", T | C,
         "stay below this peak (800M, 1.5G) by fewer rows in flight and --remat; same bits"),
    INT("max-distance", max_distance, "0", 0, BIG, USES | N | G | B,
        "relative-position distance of a T5X model whose table is not 32 wide"),
    /* what is far away */
    TEXT("cache-dir", cache_dir, "DIR", "", USES | N | K | V | X | P | G | R | L | H | B | D | Z,
         "copies of what is read from gs:// and https://, hashes of models (default: "
         "SPT_CACHE_DIR, $XDG_CACHE_HOME/spt, ~/.cache/spt)"),
    TEXT("cache-size", cache_size, "SIZE", "", USES | N | K | V | X | P | G | R | L | H | B | D | Z,
         "most bytes of such copies, 0 for none after the command (default: SPT_CACHE_SIZE, 64G)"),
    /* behaviour */
    SWITCH("json", json, USES | N | K | P | G | B | M, "machine-readable output"),
    SWITCH("json", json, Z, "list, info: one JSON object for each data set"),
    SWITCH("names", names, M, "only the names of models that spt can use, one a line"),
    SWITCH("resume", resume, T, "continue the run in --out from its last checkpoint"),
    SWITCH("dry-run", dry_run, T, "say what would be done, and stop"),
    SWITCH("strict", strict, USES, "treat warnings as errors (exit code 1)"),
    SWITCH("save-full", save_full, T, "also write complete T5X checkpoints"),
    SWITCH("npy-bf16", npy_bf16, USES | V | P | X,
           "read .npy arrays of opaque 2-byte values (|V2) as bfloat16"),
    SWITCH("force", force, V, "write a PEFT adapter into a directory that has other files"),
    SWITCH("decode", decode, K, "ids to text instead of text to ids"),
    SWITCH("profile", profile, T | E, "at the end: time by kind of operation, share of the peak"),
    SWITCH("log-examples", log_examples, T,
           "write the numbers of each step's examples into train.jsonl"),
    CHOICE("progress", progress, "auto|always|never", "auto", T | E | I | S,
           "one changing line on a terminal, plain lines elsewhere"),
    SWITCH("quiet", quiet, USES | N | K | V | X | P | G | R | H | B | D | Z | M,
           "no story on stderr, only warnings"),
};
const size_t option_count = sizeof option_table / sizeof option_table[0];

_Static_assert(sizeof option_table / sizeof option_table[0] <= 256, "settings.given is too small");

/* Where and how to report: no part of what reproduces a run or names its numbers. */
static bool is_outward(const struct option_row *o)
{
    static const char *const names[] = {"out",      "json",  "resume",  "dry-run",
                                        "progress", "quiet", "threads", "keep",
                                        "remat",    "plugin", "memory",  "profile",
                                        "num-partitions", "comm-timeout",
                                        "cache-dir", "cache-size"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], o->pub.name))
            return true;
    return false;
}

static void *field(struct settings *s, const struct option_row *o)
{
    return (char *)s + o->offset;
}

static const void *const_field(const struct settings *s, const struct option_row *o)
{
    return (const char *)s + o->offset;
}

static const struct option_row *find(const char *command, const char *name)
{
    const uint32_t bit = command_bit(command);
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].commands & bit && !strcmp(option_table[i].pub.name, name))
            return &option_table[i];
    return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
    const size_t n = strlen(value);
    for (const char *p = choices; *p;) {
        const size_t len = strcspn(p, "|");
        static const char code[] = "PLUGIN.NAME"; /* stands for any such name */
        const char *dot = strchr(value, '.');
        const bool any = len == sizeof code - 1 && !memcmp(p, code, len);
        if ((len == n && !memcmp(p, value, n)) || (any && dot && dot > value && dot[1]))
            return true;
        p += len;
        p += *p == '|';
    }
    return false;
}

static spt_status parse_number(const struct option_row *o, const char *value, double *out,
                               spt_err *err)
{
    char *end;
    errno = 0;
    const double x = strtod(value, &end);
    if (end == value || *end || !isfinite(x) || (o->kind == OPTION_INT && x != floor(x)))
        return err_set(err, SPT_E_USAGE, "--%s: \"%s\" is not %s", o->pub.name, value,
                       o->kind == OPTION_INT ? "a whole number" : "a number");
    if (x < o->min || x > o->max)
        return err_set(err, SPT_E_USAGE, "--%s: %s is not in %.9g .. %.9g", o->pub.name, value, o->min,
                       o->max);
    *out = x;
    return SPT_OK;
}

/* The one option that collects its values: --plugin. */
static spt_status append_line(char **at, const char *value, spt_err *err)
{
    const size_t n = strlen(*at), more = strlen(value);
    char *all = mem_alloc(n + more + 2, 1);
    if (!all)
        return err_nomem(err, n + more);
    memcpy(all, *at, n);
    all[n] = '\n';
    memcpy(all + n + 1, value, more + 1);
    mem_free(*at);
    *at = all;
    return SPT_OK;
}

static spt_status assign(struct settings *s, const struct option_row *o, const char *value,
                         spt_err *err)
{
    double x = 0;
    switch (o->kind) {
    case OPTION_TEXT: {
        if (o->choices && !is_choice(o->choices, value))
            return err_set(err, SPT_E_USAGE, "--%s: \"%s\" is none of %s", o->pub.name, value,
                           o->choices);
        char **at = field(s, o);
        if (o->offset == F(plugin) && *at && **at)
            return append_line(at, value, err);
        char *copy = mem_strdup(value);
        if (!copy)
            return err_nomem(err, strlen(value));
        mem_free(*at);
        *at = copy;
        return SPT_OK;
    }
    case OPTION_INT:
        TRY(parse_number(o, value, &x, err));
        *(int64_t *)field(s, o) = (int64_t)x;
        return SPT_OK;
    case OPTION_REAL:
        TRY(parse_number(o, value, &x, err));
        *(double *)field(s, o) = x;
        return SPT_OK;
    case OPTION_SWITCH:
        *(bool *)field(s, o) = strcmp(value, "no") && strcmp(value, "false");
        return SPT_OK;
    }
    return SPT_OK;
}

spt_status settings_init(struct settings *s, const char *command, spt_err *err)
{
    *s = (struct settings){.command = command};
    const uint32_t bit = command_bit(command);
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *o = &option_table[i];
        if (!(o->commands & bit) || !o->pub.default_value[0] || o->kind == OPTION_SWITCH)
            continue;
        const spt_status st = assign(s, o, o->pub.default_value, err);
        if (st) {
            settings_release(s);
            return st;
        }
    }
    return SPT_OK;
}

void settings_release(struct settings *s)
{
    for (size_t i = 0; i < option_count; i++)
        if (option_table[i].kind == OPTION_TEXT) {
            char **at = field(s, &option_table[i]);
            mem_free(*at);
            *at = NULL;
        }
    for (size_t i = 0; i < s->arguments; i++)
        mem_free(s->argument[i]);
    mem_free(s->argument);
    s->argument = NULL;
    s->arguments = s->argument_cap = 0;
    mem_free(s->bindings);
    s->bindings = NULL;
}

spt_status settings_add_argument(struct settings *s, const char *text, spt_err *err)
{
    if (s->arguments == MAX_ARGUMENTS)
        return err_set(err, SPT_E_USAGE, "more than %d arguments", MAX_ARGUMENTS);
    TRY(mem_grow(&s->argument, &s->argument_cap, s->arguments + 1, sizeof *s->argument,
                 MAX_ARGUMENTS, err));
    char *copy = mem_strdup(text);
    if (!copy)
        return err_nomem(err, strlen(text));
    s->argument[s->arguments++] = copy;
    return SPT_OK;
}

static const char *option_name_at(void *ctx, size_t i)
{
    const uint32_t bit = command_bit(ctx);
    for (size_t k = 0; k < option_count; k++)
        if (option_table[k].commands & bit && i-- == 0)
            return option_table[k].pub.name;
    return bit & CMD_GIN ? gin_flag_name(i) : NULL;
}

int spt_option_negates(const spt_option *option)
{
    const struct option_row *o = (const struct option_row *)(const void *)option; /* pub is first */
    return o->kind == OPTION_SWITCH && o->min != SWITCH_ONE_WAY;
}

spt_status settings_set(struct settings *s, const char *option, const char *value, spt_err *err)
{
    const struct option_row *o = find(s->command, option);
    bool negated = false;
    if (!o && !strncmp(option, "no-", 3)) {
        o = find(s->command, option + 3);
        negated = o && spt_option_negates(&o->pub);
        o = negated ? o : NULL;
    }
    if (!o) {
        const char *near = nearest_word(option, option_name_at, (void *)(uintptr_t)s->command);
        return err_set(err, SPT_E_USAGE, "unknown option --%s%s%s%s (see `spt help %s`)", option,
                       near ? "; did you mean --" : "", near ? near : "", near ? "?" : "",
                       s->command);
    }
    if (!value && o->kind != OPTION_SWITCH && o->pub.metavar[0] == '[')
        value = "";
    if (!value && o->kind != OPTION_SWITCH)
        return err_set(err, SPT_E_USAGE, "--%s wants a value: --%s %s", option, option,
                       o->pub.metavar);
    if (negated && value)
        return err_set(err, SPT_E_USAGE, "--%s takes no value", option);
    if (o->kind == OPTION_SWITCH && value && !is_choice("yes|no|true|false", value))
        return err_set(err, SPT_E_USAGE, "--%s: \"%s\" is none of yes|no", option, value);
    const spt_status st = value ? fs_check_address(value, err) : SPT_OK;
    if (st)
        return err_wrap(err, st, "--%s", option);
    TRY(assign(s, o, negated ? "no" : value ? value : "yes", err));
    s->given[o - option_table] = 1;
    return SPT_OK;
}

/* The value of an option in the words that settings_set takes. */
static spt_status value_text(const struct settings *s, const struct option_row *o, buf *out,
                             spt_err *err)
{
    const void *at = const_field(s, o);
    buf_clear(out);
    if (o->kind == OPTION_TEXT)
        buf_adds(out, *(char *const *)at);
    else if (o->kind == OPTION_INT)
        buf_addf(out, "%lld", (long long)*(const int64_t *)at);
    else if (o->kind == OPTION_REAL)
        buf_addf(out, "%.17g", *(const double *)at);
    else
        buf_adds(out, *(const bool *)at ? "yes" : "no");
    return buf_status(out, "option", err);
}

spt_status settings_copy(struct settings *to, const struct settings *from, spt_err *err)
{
    const uint32_t bit = command_bit(from->command);
    buf value;
    buf_init(&value, 1 << 24);
    to->comm = from->comm;
    to->part = from->part;
    to->data_ranks = from->data_ranks;
    to->gin = from->gin;
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < option_count; i++) {
        const struct option_row *o = &option_table[i];
        const struct option_row *same = find(to->command, o->pub.name);
        if (!(o->commands & bit) || !from->given[i] || !same || same->offset != o->offset)
            continue;
        st = value_text(from, o, &value, err);
        if (!st)
            st = settings_set(to, o->pub.name, buf_str(&value), err);
    }
    buf_release(&value);
    if (!st && from->bindings && !(to->bindings = mem_strdup(from->bindings)))
        st = err_nomem(err, strlen(from->bindings));
    return st;
}

bool settings_given(const struct settings *s, const char *option)
{
    const struct option_row *o = find(s->command, option);
    return o && s->given[o - option_table];
}

static void add_setting(buf *out, const struct settings *s, const struct option_row *o)
{
    const void *at = (const char *)s + o->offset;
    buf_adds(out, "spt.");
    for (const char *p = o->pub.name; *p; p++)
        buf_addc(out, *p == '-' ? '_' : *p);
    buf_adds(out, " = ");
    if (o->offset == F(seed) && **(char *const *)at &&
        strspn(*(char *const *)at, "0123456789") == strlen(*(char *const *)at))
        buf_adds(out, *(char *const *)at); /* as a drawn one is written */
    else if (o->kind == OPTION_TEXT)
        gin_quote(out, *(char *const *)at, strlen(*(char *const *)at));
    else if (o->kind == OPTION_INT)
        buf_addf(out, "%lld", (long long)*(const int64_t *)at);
    else if (o->kind == OPTION_REAL)
        buf_addf(out, "%.17g", *(const double *)at);
    else
        buf_adds(out, *(const bool *)at ? "True" : "False");
    buf_addc(out, '\n');
}

static spt_status all_settings(const struct settings *s, const uint32_t *seed, buf *out,
                               spt_err *err)
{
    const uint32_t bit = command_bit(s->command);
    for (size_t i = 0; i < option_count; i++) {
        const struct option_row *o = &option_table[i];
        if (!(o->commands & bit) || is_outward(o))
            continue;
        if (seed && o->offset == F(seed))
            buf_addf(out, "spt.seed = %u\n", *seed);
        else if (s->given[i])
            add_setting(out, s, o);
    }
    if (s->bindings)
        buf_adds(out, s->bindings);
    return buf_status(out, "settings", err);
}

spt_status settings_text(const struct settings *s, buf *out, spt_err *err)
{
    return all_settings(s, NULL, out, err);
}

spt_status settings_text_seeded(const struct settings *s, uint32_t seed, buf *out, spt_err *err)
{
    return all_settings(s, &seed, out, err);
}

/* Levenshtein distance over words of up to 63 bytes; longer ones are nothing like an option. */
static size_t distance(const char *a, const char *b)
{
    const size_t n = strlen(a), m = strlen(b);
    if (n > 63 || m > 63)
        return SIZE_MAX;
    size_t row[64];
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            const size_t change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            size_t best = change < row[j] + 1 ? change : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[m];
}

const char *nearest_word(const char *word, const char *(*candidate)(void *ctx, size_t i), void *ctx)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 2 + 1; /* farther is no help */
    if (best_distance > 4)
        best_distance = 4;
    for (size_t i = 0;; i++) {
        const char *c = candidate(ctx, i);
        if (!c)
            return best;
        const size_t d = distance(word, c);
        if (d < best_distance) {
            best = c;
            best_distance = d;
        }
    }
}
