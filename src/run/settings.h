/* Settings of every command as plain data, and the one table that says which options exist.
 *
 * The table drives parsing, --help, the man pages, completion, docs/cli and the written
 * configuration; nothing else lists options. */
#ifndef SPT_RUN_SETTINGS_H
#define SPT_RUN_SETTINGS_H

#include <spt/spt.h>

#include "base/buf.h"
#include "base/status.h"
#include "comm/comm.h"

enum { MAX_ARGUMENTS = 1 << 20 };

struct settings {
    const char *command;
    const spt_sink *sink; /* for progress of fetching; may be NULL */
    comm *comm; /* the ranks that do the job together; NULL: one process */
    comm *part, *data_ranks; /* those that hold one model together, and those that share the data
                                (ranks.h); NULL: this one alone */
    char **argument; /* positional; settings_add_argument */
    size_t arguments, argument_cap;

    /* files */
    char *model, *vocab, *train, *eval, *out, *data, *prompt, *predictions, *output;
    char *tfds_dir, *split;
    int64_t show;
    /* tables and text */
    char *input, *target, *labels, *header, *format, *delimiter;
    int64_t max_input, max_target;
    /* prompt */
    int64_t length;
    char *init, *init_text, *init_file, *combine, *side;
    int64_t init_population;
    double init_scale;
    /* how long */
    int64_t steps, batch, micro_batch, eval_every, save_every, keep, patience;
    double epochs, minutes;
    /* optimiser and loss */
    char *optimizer, *schedule, *normalize;
    double lr, weight_decay, clip_norm, z_loss, label_smoothing, dropout;
    int64_t warmup, micro_rows;
    char *seed;
    /* evaluation, decoding */
    char *metric, *by;
    bool generate, length_normalize;
    int64_t max_output;
    char *search, *early_stopping, *stop, *force_prefix;
    int64_t beams, top_k, samples, n_best, no_repeat_ngram, min_output;
    double alpha, temperature, top_p, length_penalty, repetition_penalty;
    bool ids, summary, rank_labels;
    char *calibrate;
    /* many prompts, reference's outputs */
    char *prompts, *prompt_column, *ensemble, *mode, *task_name, *shard;
    int64_t chunk;
    /* neighbors, report */
    char *start, *html;
    int64_t neighbors;
    /* sweep: lists, and a table of settings */
    char *seeds, *lrs, *inits, *lengths, *runs;
    /* plug-ins: one path a line; cache */
    char *plugin, *preprocess, *postprocess, *splits;
    int64_t shards;
    /* data */
    char *from, *sha256, *data_task, *to;
    bool no_verify, offline;
    /* bench */
    char *size;
    int64_t tokens, targets;
    /* machine */
    char *compute, *isa, *cross_attention;
    int64_t threads, max_distance;
    /* ranks */
    int64_t partitions, ranks;
    double comm_timeout;
    char *bandwidth;
    /* what is far away */
    char *cache_dir, *cache_size;
    /* behaviour */
    bool remat, json, resume, dry_run, strict, save_full, decode, log_examples, quiet, npy_bf16;
    bool names, force;
    char *progress, *memory;
    bool profile;

    /* What gin files bind for plug-ins, as text: part of what reproduces the run. gin: where they are
     * bound and can be called, NULL without plug-ins; belongs to whoever runs the command. */
    char *bindings;
    struct gin_config *gin;

    uint8_t given[256]; /* [i]: option i of the table was set by the user */
};

enum { SWITCH_ONE_WAY = 1 }; /* --no-x is no option */
enum option_kind { OPTION_TEXT, OPTION_INT, OPTION_REAL, OPTION_SWITCH };

struct option_row {
    spt_option pub;
    enum option_kind kind;
    size_t offset; /* in struct settings */
    double min, max; /* of numbers, inclusive; min of a switch: SWITCH_ONE_WAY or 0 */
    const char *choices; /* "a|b|c" for texts with a fixed set, or NULL */
    uint32_t commands;   /* bit per command */
};

extern const struct option_row option_table[];
extern const size_t option_count;

/* All defaults of a command. Release with settings_release. */
spt_status settings_init(struct settings *s, const char *command, spt_err *err);
void settings_release(struct settings *s);
spt_status settings_set(struct settings *s, const char *option, const char *value, spt_err *err);
/* Copies the text. */
spt_status settings_add_argument(struct settings *s, const char *text, spt_err *err);
/* Whether the user set the option (by name). */
bool settings_given(const struct settings *s, const char *option);
/* Sets all that was given and that both commands have. */
spt_status settings_copy(struct settings *to, const struct settings *from, spt_err *err);
/* The settings that the user gave as gin bindings of our own names, "spt.lr = 0.3": what reproduces
 * the numbers of the run. Left out: where and how to report (out, resume, quiet, threads, ...). */
spt_status settings_text(const struct settings *s, buf *out, spt_err *err);
/* The same with the seed that is in force, given or drawn. */
spt_status settings_text_seeded(const struct settings *s, uint32_t seed, buf *out, spt_err *err);

/* The candidate nearest to `word` by edit distance, NULL when none is near. */
const char *nearest_word(const char *word, const char *(*candidate)(void *ctx, size_t i),
                         void *ctx);

#endif
