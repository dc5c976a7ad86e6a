/* The public face of run/: jobs by name, the tables of commands and options, the log. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "run/commands.h"
#include "run/reference/gin_job.h"
#include "run/ranks.h"

static const spt_command commands[] = {
    [COMMAND_INDEX_TRAIN] =
        {"train", "--model MODEL --train FILE [--eval FILE] --out RUN", "train a soft prompt",
         "Learns a prompt for a frozen T5 from a table of examples. The best prompt by the\n"
         "metric on --eval is named by RUN/best.json; a killed run continues with\n"
         "--resume to the same bits.\n\n"
         "  spt train --model google/t5-base-lm-adapt --train train.tsv --eval dev.tsv --out run"},
    [COMMAND_INDEX_SWEEP] =
        {"sweep", "--model MODEL --train FILE [--eval FILE] --out DIR --seeds N,N,..",
         "train many prompts at once over one model",
         "Every combination of --seeds, --lrs, --inits and --lengths (and every row of --runs) is a\n"
         "run of its own in OUT/NAME, with the bits that spt train gives it; all share passes\n"
         "through the frozen model, so that several cost less than one after the other. Takes\n"
         "the options of train for all runs. Prints a table, the best run first, and writes\n"
         "OUT/sweep.jsonl. A killed sweep continues with --resume to the same bits; a larger grid\n"
         "with --resume adds runs to an old one.\n\n"
         "  spt sweep --model google/t5-base-lm-adapt --train train.tsv --eval dev.tsv --out sweep \\\n"
         "      --seeds 1,2,3 --lrs 0.3,0.1"},
    [COMMAND_INDEX_EVAL] =
        {"eval", "--model MODEL --prompt FILE --data FILE", "evaluate a prompt on labelled examples",
         "Answers every example, by ranking the labels or by decoding, and prints the metrics\n"
         "and the confusion table. --ensemble takes several prompts over one base: majority\n"
         "vote, mean log-likelihood, agreement. With --predictions it scores an existing file\n"
         "without a model, by the targets in it or those of --data.\n\n"
         "  spt eval --model google/t5-base-lm-adapt --prompt run --data test.tsv --json\n"
         "  spt eval --model google/t5-base-lm-adapt --ensemble run1 run2 run3 --data test.tsv"},
    [COMMAND_INDEX_INFER] =
        {"infer", "--model MODEL --prompt FILE [--data FILE]", "answer lines of text",
         "Reads a file or standard input, one text a line (or a table with --data), and writes\n"
         "one answer a line; --json adds scores. --prompts answers with several prompts at\n"
         "once. --mode and --out write what the reference's inference program writes; a run\n"
         "that is interrupted continues when the same command is given again.\n\n"
         "  echo 'my parcel is late' | spt infer --model google/t5-base-lm-adapt --prompt run\n"
         "  spt infer --model google/t5-base-lm-adapt --prompt run --data test.tsv --mode predict --out DIR"},
    [COMMAND_INDEX_SCORE] =
        {"score", "--model MODEL [--prompt FILE] --data FILE", "log-likelihood of given targets",
         "One JSON line per example, in order: inputs, targets, score, tokens; --rank adds\n"
         "every label's score and probability, --summary gives the file's perplexity.\n\n"
         "  spt score --model google/t5-base-lm-adapt --prompt run --data pairs.tsv"},
    [COMMAND_INDEX_CHECK] =
        {"check", "--model MODEL [--prompt FILE] [--train FILE] [--eval FILE]",
         "everything that training would verify, without training",
         "Exit code 0: fine, or warnings; with --strict warnings are 1. Errors have the code\n"
         "that training would have had.\n\n"
         "  spt check --model google/t5-base-lm-adapt --train train.tsv --eval dev.tsv"},
    [COMMAND_INDEX_PLAN] =
        {"plan", "--model MODEL --train FILE [--eval FILE]",
         "memory and time of a training run, before a weight is read",
         "Prints the bytes of weights, activations and so on, their peak, and seconds per step on\n"
         "this machine; takes the options of train. With --memory it chooses rows in flight and\n"
         "--remat as train would, or says what would fit (exit code 6).\n\n"
         "  spt plan --model google/t5-base-lm-adapt --train train.tsv --eval dev.tsv --memory 2G"},
    [COMMAND_INDEX_INIT] =
        {"init", "--model MODEL --out FILE [--init KIND]", "write an untrained prompt",
         "  spt init --model google/t5-base-lm-adapt --init vocab --length 20 --seed 1 --out p.npy"},
    [COMMAND_INDEX_INSPECT] =
        {"inspect", "FILE ...", "names, shapes, types, norms and hashes of a file",
         "Prompt files, checkpoints, safetensors, npy, vocabularies; never needs a model.\n\n"
         "  spt inspect run"},
    [COMMAND_INDEX_CONVERT] =
        {"convert", "IN OUT", "prompt file to another kind",
         "The kind of OUT follows from its name: .npy, .safetensors, a directory ending in\n"
         "/ or .peft for a PEFT adapter, numpy_checkpoints/checkpoint_N for T5X.\n\n"
         "  spt convert run adapter.peft"},
    [COMMAND_INDEX_EXTRACT] =
        {"extract", "CHECKPOINT VARIABLE OUT.npy", "one variable of a checkpoint as .npy",
         "  spt extract checkpoint_1100000 token_embedder/embedding embedding.npy"},
    [COMMAND_INDEX_TOKENIZE] =
        {"tokenize", "--model MODEL [FILE]", "pieces and ids of lines, and back (--decode)",
         "  echo 'Hello world' | spt tokenize --model google/t5-base-lm-adapt"},
    [COMMAND_INDEX_NEIGHBORS] =
        {"neighbors", "PROMPT --model MODEL", "a prompt among the pieces of the vocabulary",
         "For each row the nearest pieces by cosine and distance, its norm, its nearest other row,\n"
         "and how far it has come from its start. --html writes a page with pictures.\n\n"
         "  spt neighbors run --model google/t5-base-lm-adapt --html neighbors.html"},
    [COMMAND_INDEX_REPORT] =
        {"report", "RUN [--out FILE]", "one HTML page about a run",
         "Curves, scores, confusion table, sample predictions, settings, neighbours, in one file\n"
         "(default RUN/report.html) without anything from elsewhere.\n\n"
         "  spt report run"},
    [COMMAND_INDEX_CACHE] =
        {"cache", "TASK ... --vocab FILE --out DIR", "the examples of tasks as ids, on disk",
         "Writes SeqIO-compatible offline caches, which training with USE_CACHED_TASKS = True and\n"
         "--seqio_additional_cache_dirs=DIR reads. The reference's flags say where data and tasks\n"
         "are. What an interrupted command left is made again.\n\n"
         "  spt cache glue_sst2_v200_examples --vocab spiece.model --out caches \\\n"
         "      --tfds_data_dir data"},
    [COMMAND_INDEX_TASKS] =
        {"tasks", "[NAME-PART] | show NAME --vocab FILE --tfds-data-dir DIR", "the reference's tasks and mixtures",
         "Lists names with their data set, splits and metrics; \"show\" prints examples of one task as\n"
         "text and ids.\n\n"
         "  spt tasks show taskless_glue_sst2_v200_examples --vocab spiece.model --tfds-data-dir tfds --n 3"},
    [COMMAND_INDEX_FIND_MODULE] =
        {"find-module", "MODULE", "directory to put into --gin_search_paths for a module",
         "  spt find-module prompt_tuning"},
    [COMMAND_INDEX_BENCH] =
        {"bench", "[--model MODEL | --size NAME]", "how fast this machine is, and spt on it",
         "The product peak and the memory bandwidth, then the median training step and forward pass\n"
         "of a batch of random ids: time by kind of operation, useful operations, share of the\n"
         "peak, memory. Figures of a machine that does something else mean little.\n\n"
         "  spt bench --size base --compute float32"},
    [COMMAND_INDEX_DEMO] =
        {"demo", "[--out RUN]", "a complete example: train, evaluate, answer",
         "Trains a prompt for the small T5 that comes with the program on 480 messages to an online\n"
         "shop, shows its accuracy before and after, and answers five new messages. Every command it\n"
         "runs is shown. It takes about a minute on two cores.\n\n"
         "  spt demo"},
    [COMMAND_INDEX_DATA] =
        {"data", "list | info NAME | prepare NAME ... [--from FILE] | convert IN OUT",
         "data sets by name, prepared as TFDS does; tables converted",
         "prepare writes NAME/VERSION/ below --out from the publisher's files: fetched (checksums\n"
         "verified, an interrupted fetch continues), or given with --from. NAME is a data set\n"
         "(glue/sst2, glue/sst2:1.0.0), a group (glue, super_glue, squad, mrqa), a task or a\n"
         "mixture. convert turns TSV, CSV, JSON Lines and predictions into one another, with\n"
         "--task through the formatting of a task.\n\n"
         "  spt data prepare glue/sst2 --out data\n"
         "  spt data prepare squad/v1.1 --from downloads --out data\n"
         "  spt data convert dev.tsv dev.jsonl --task glue_sst2_v200_examples"},
    [COMMAND_INDEX_MODELS] =
        {"models", "[list] | get NAME ...", "models of the Hugging Face hub on this machine",
         "Lists what lies in the hub's cache: name, revision, size, shape, and whether spt can use\n"
         "it. \"get\" fetches models or adapters, or a newer commit of them, and prints where they\n"
         "are.\n\n"
         "  spt models\n"
         "  spt models get google/t5-small-lm-adapt"},
};

unsigned spt_version_num(void)
{
    return SPT_VERSION_NUM;
}

const char *spt_version(void)
{
    return SPT_VERSION;
}

size_t spt_command_count(void)
{
    return COMMAND_COUNT;
}

const spt_command *spt_command_at(size_t i)
{
    return i < COMMAND_COUNT ? &commands[i] : NULL;
}

const spt_command *spt_command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i].name, name))
            return &commands[i];
    return NULL;
}

uint32_t command_bit(const char *name)
{
    const spt_command *c = spt_command_find(name);
    return c ? 1u << (c - commands) : 0;
}

const spt_option *spt_command_option(const char *command, size_t i)
{
    const uint32_t bit = command_bit(command);
    for (size_t k = 0; k < option_count; k++)
        if (option_table[k].commands & bit && i-- == 0)
            return &option_table[k].pub;
    return NULL;
}

static const char *command_name_at(void *ctx, size_t i)
{
    (void)ctx;
    return i < COMMAND_COUNT ? commands[i].name : NULL;
}

struct spt_job {
    struct settings settings;
    gin_flags flags; /* of a gin job */
    bool gin;
    comm *ranks; /* until the job is freed: the first rank's last word comes before that */
    bool silent; /* another process says how the job ended */
};

static volatile sig_atomic_t stop;
static volatile sig_atomic_t fetches_go_on;

void stop_lets_fetch(void)
{
    fetches_go_on = 1;
}

static bool fetch_stopped(void)
{
    return stop && !fetches_go_on;
}

spt_status spt_job_new(const char *command, spt_job **out, spt_err *err)
{
    const spt_command *c = spt_command_find(command);
    if (!c) {
        const char *near = nearest_word(command, command_name_at, NULL);
        return err_set(err, SPT_E_USAGE, "unknown command \"%s\"%s%s%s (see `spt help`)", command,
                       near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    spt_job *j = mem_zalloc(1, sizeof *j);
    if (!j)
        return err_nomem(err, sizeof *j);
    fs_set_stop(fetch_stopped);
    const spt_status st = settings_init(&j->settings, c->name, err);
    if (st) {
        mem_free(j);
        return st;
    }
    *out = j;
    return SPT_OK;
}

void spt_job_free(spt_job *j)
{
    if (!j)
        return;
    settings_release(&j->settings);
    gin_flags_release(&j->flags);
    comm_leave(j->ranks);
    mem_free(j);
}

spt_status spt_job_set(spt_job *j, const char *option, const char *value, spt_err *err)
{
    return settings_set(&j->settings, option, value, err);
}

spt_status spt_job_add(spt_job *j, const char *argument, spt_err *err)
{
    return settings_add_argument(&j->settings, argument, err);
}

static unsigned long warnings_before; /* the job now running */

spt_status strict_status(const struct settings *s, spt_err *err)
{
    const unsigned long n = log_warnings() - warnings_before;
    if (!s->strict || !n)
        return SPT_OK;
    return err_set(err, SPT_E_CHECK, "%lu warning%s (--strict)", n, n == 1 ? "" : "s");
}

/* Flags of the program that a command stands for; 0: none. */
static unsigned programs_of(const char *command)
{
    return !strcmp(command, "train")   ? GIN_PROGRAM_TRAIN | GIN_PROGRAM_MAIN
           : !strcmp(command, "eval")  ? GIN_PROGRAM_EVAL | GIN_PROGRAM_MAIN
           : !strcmp(command, "infer") ? GIN_PROGRAM_INFER | GIN_PROGRAM_MAIN
           : command_bit(command) & CMD_GIN ? GIN_PROGRAM_TRAIN | GIN_PROGRAM_MAIN
                                            : 0;
}

static bool wants_value(const struct settings *s, const char *name)
{
    for (size_t i = 0;; i++) {
        const spt_option *o = spt_command_option(s->command, i);
        if (!o || !strcmp(o->name, name))
            return o && o->metavar;
    }
}

const char *spt_command_flag(const char *command, size_t i)
{
    const unsigned programs = programs_of(command);
    for (size_t k = 0; gin_flag_name(k); k++)
        if (gin_flag_programs(k) & programs && i-- == 0)
            return gin_flag_name(k);
    return NULL;
}

int spt_flag_is_switch(const char *flag)
{
    for (size_t k = 0; gin_flag_name(k); k++)
        if (!strcmp(gin_flag_name(k), flag))
            return gin_flag_is_switch(k);
    return 0;
}

/* What is no flag of the reference: our own options, and arguments. */
static spt_status take_rest(spt_job *j, spt_err *err)
{
    const gin_strings *rest = &j->flags.rest;
    for (size_t i = 0; i < rest->count; i++) {
        const char *word = rest->item[i];
        char name[128];
        if (word[0] != '-' || !word[1]) {
            TRY(spt_job_add(j, word, err));
            continue;
        }
        while (*word == '-')
            word++;
        const size_t len = strcspn(word, "=");
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), word);
        const char *value = word[len] ? word + len + 1 : NULL;
        if (!value && wants_value(&j->settings, name) && i + 1 < rest->count)
            value = rest->item[++i];
        TRY(settings_set(&j->settings, name, value, err));
    }
    return SPT_OK;
}

spt_status spt_job_args(spt_job *j, int argc, char *const *argv, int *taken, spt_err *err)
{
    const unsigned programs = programs_of(j->settings.command);
    gin_flags f = {0};
    bool ours = false;
    *taken = 0;
    for (int i = 0; programs && !ours && i < argc && strcmp(argv[i], "--"); i++)
        ours = gin_is_flag(argv[i], programs);
    if (!ours)
        return SPT_OK;
    char **words = mem_alloc((size_t)argc + 1, sizeof *words); /* the parser skips the first */
    if (!words)
        return err_nomem(err, (size_t)argc * sizeof *words);
    words[0] = NULL;
    memcpy(words + 1, argv, (size_t)argc * sizeof *words);
    const spt_status st = gin_flags_parse(argc + 1, words, programs, &f, err);
    mem_free(words);
    TRY(st);
    gin_flags_release(&j->flags);
    j->flags = f;
    j->gin = true;
    *taken = 1;
    return take_rest(j, err);
}

void spt_job_stop(void)
{
    stop = 1;
}

const char *spt_mapped_file(const void *address)
{
    return fs_mapped_at(address);
}

bool stop_requested(void)
{
    return stop != 0;
}

static const char gone[] = "the reader of the output has gone"; /* is no failure */

spt_status output_write(struct run_output *o, const void *bytes, size_t n, spt_err *err)
{
    if (!o->closed && o->sink->take && o->sink->take(o->sink->ctx, bytes, n))
        o->closed = true;
    return o->closed ? err_set(err, SPT_E_INTERRUPTED, "%s", gone) : SPT_OK;
}

/* What another process met with. */
static bool reader_gone(const spt_err *err)
{
    return err && err->code == SPT_E_INTERRUPTED && strstr(err->msg, gone);
}

spt_status output_text(struct run_output *o, const buf *text, spt_err *err)
{
    TRY(buf_status(text, "output", err));
    return output_write(o, buf_str(text), text->len, err);
}

/* Commands that take arguments say themselves which are too many; these take none, or one. */
static spt_status check_arguments(const struct settings *s, spt_err *err)
{
    const uint32_t none = CMD_TRAIN | CMD_SWEEP | CMD_CHECK | CMD_INIT | CMD_DEMO,
                   one = CMD_TOKENIZE;
    const uint32_t bit = command_bit(s->command);
    const size_t most = bit & none ? 0 : bit & one ? 1 : MAX_ARGUMENTS;
    if (s->arguments <= most)
        return SPT_OK;
    return err_set(err, SPT_E_USAGE, "what is \"%s\" for? (see `spt help %s`)", s->argument[most],
                   s->command);
}

/* What several ranks cannot do together (yet) is refused, before any of them writes. */
static spt_status check_ranks(const struct settings *s, spt_err *err)
{
    const uint32_t together = CMD_TRAIN | CMD_EVAL | CMD_INFER | CMD_SCORE;
    const int n = comm_size(s->comm);
    if (n == 1)
        return SPT_OK;
    if (!(command_bit(s->command) & together))
        return err_set(err, SPT_E_USAGE, "spt %s runs as one process, not as %d ranks", s->command,
                       n);
    return SPT_OK;
}

/* What decides which exchanges follow: ranks that differ there would wait for each other for ever. */
static spt_status same_work(const spt_job *j, spt_err *err)
{
    const struct settings *s = &j->settings;
    buf text;
    buf_init(&text, 1000);
    buf_addf(&text, "spt %s%s\n--num-partitions %lld\n--dry-run %s\n", s->command,
             j->gin ? " with gin" : "", (long long)s->partitions,
             s->dry_run || (j->gin && j->flags.dry_run) ? "yes" : "no");
    const spt_status st =
        ranks_same_text(j->ranks, &text, buf_status(&text, "settings", err), err);
    buf_release(&text);
    return st;
}

static spt_status run_here(spt_job *j, struct run_output *out, spt_err *err)
{
    static const plain_fn run[COMMAND_COUNT] = {
#define COMMAND_FN(name, bit, fn) [COMMAND_INDEX_##bit] = fn,
        COMMAND_MAP(COMMAND_FN)
#undef COMMAND_FN
    };
    const spt_command *c = spt_command_find(j->settings.command);
    const uint32_t plugins = CMD_TRAIN | CMD_EVAL | CMD_INFER | CMD_INIT | CMD_CHECK | CMD_PLAN;
    const bool gin = j->gin || (settings_given(&j->settings, "plugin") &&
                                command_bit(c->name) & plugins);
    TRY(same_work(j, err));
    TRY(check_ranks(&j->settings, err));
    fetches_go_on = 0;
    TRY(fs_set_cache(j->settings.cache_dir, j->settings.cache_size, err));
    if (!gin)
        TRY(ranks_split(&j->settings, err));
    TRY(check_arguments(&j->settings, err));
    const plain_fn plain = run[c - commands];
    TRY(gin ? run_gin(&j->flags, &j->settings, plain, out, err) : plain(&j->settings, out, err));
    return strict_status(&j->settings, err);
}

spt_status spt_job_run(spt_job *j, const spt_sink *sink, spt_err *err)
{
    const spt_sink nowhere = {0};
    struct run_output out = {.sink = sink ? sink : &nowhere};
    comm_leave(j->ranks);
    j->ranks = NULL;
    j->silent = !comm_launched_first(); /* one line, not one from every process */
    TRY(comm_open(j->settings.comm_timeout, &j->ranks, err));
    j->silent = !comm_leads(j->ranks);
    if (j->silent) { /* the first rank speaks for all */
        out.sink = &nowhere;
        log_set_sink(NULL, NULL);
    }
    warnings_before = log_warnings();
    j->settings.comm = j->ranks;
    j->settings.sink = out.sink;
    const spt_status st = comm_close(j->ranks, run_here(j, &out, err), err);
    j->settings.comm = j->settings.part = j->settings.data_ranks = NULL;
    j->settings.sink = NULL;
    j->silent = !comm_speaks(j->ranks);
    return out.closed || (j->silent && reader_gone(err)) ? SPT_OK : st;
}

int spt_job_speaks(const spt_job *j)
{
    return j ? !j->silent : comm_launched_first();
}

static struct {
    void (*fn)(void *ctx, int level, const char *line);
    void *ctx;
} public_log;

static void forward_line(void *ctx, enum log_level level, const char *line)
{
    (void)ctx;
    public_log.fn(public_log.ctx, level == LOG_WARNING, line);
}

void spt_set_log(void (*sink)(void *ctx, int level, const char *line), void *ctx)
{
    public_log.fn = sink;
    public_log.ctx = ctx;
    log_set_sink(sink ? forward_line : NULL, NULL);
}
