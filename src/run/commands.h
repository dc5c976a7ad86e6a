/* The commands of the program: one table, one function each. */
#ifndef SPT_RUN_COMMANDS_H
#define SPT_RUN_COMMANDS_H

#include "run/settings.h"

/* name, bit name, function: the order is the order of `spt help`. */
#define COMMAND_MAP(X)                  \
    X(train, TRAIN, run_train)          \
    X(sweep, SWEEP, run_sweep)          \
    X(eval, EVAL, run_eval)             \
    X(infer, INFER, run_infer)          \
    X(score, SCORE, run_score)          \
    X(check, CHECK, run_check)          \
    X(plan, PLAN, run_plan)             \
    X(init, INIT, run_init)             \
    X(inspect, INSPECT, run_inspect)    \
    X(convert, CONVERT, run_convert)    \
    X(extract, EXTRACT, run_extract)    \
    X(tokenize, TOKENIZE, run_tokenize)   \
    X(neighbors, NEIGHBORS, run_neighbors) \
    X(report, REPORT, run_report) \
    X(tasks, TASKS, run_tasks) \
    X(cache, CACHE, run_cache) \
    X(find_module, FIND_MODULE, run_find_module) \
    X(bench, BENCH, run_bench) \
    X(demo, DEMO, run_demo) \
    X(data, DATA, run_data) \
    X(models, MODELS, run_models)

enum command_index {
#define COMMAND_INDEX(name, bit, fn) COMMAND_INDEX_##bit,
    COMMAND_MAP(COMMAND_INDEX)
#undef COMMAND_INDEX
    COMMAND_COUNT
};

enum command_bits {
#define COMMAND_BIT(name, bit, fn) CMD_##bit = 1 << COMMAND_INDEX_##bit,
    COMMAND_MAP(COMMAND_BIT)
#undef COMMAND_BIT
};

/* Commands that take gin flags: their own options from gin, and some a program of the reference. */
#define CMD_GIN                                                                              \
    (CMD_TRAIN | CMD_EVAL | CMD_INFER | CMD_SCORE | CMD_CHECK | CMD_PLAN | CMD_INIT | CMD_CACHE | \
     CMD_TASKS)

/* Standard output of a job; writing to a closed pipe is remembered and ends the job quietly. */
struct run_output {
    const spt_sink *sink;
    bool closed;
};
/* SPT_E_INTERRUPTED when the reader has gone. */
spt_status output_write(struct run_output *o, const void *bytes, size_t n, spt_err *err);
spt_status output_text(struct run_output *o, const buf *text, spt_err *err);

/* The bit of a command, 0 when there is none of this name. */
uint32_t command_bit(const char *name);
/* With --strict: SPT_E_CHECK when there were warnings since the job began. */
spt_status strict_status(const struct settings *s, spt_err *err);
/* Set by spt_job_stop(). */
bool stop_requested(void);
/* What is fetched from far away ends when a stop is requested (fs_set_stop); from this call to the end
 * of the job it does not: a save that the stop asked for may need it. */
void stop_lets_fetch(void);

#define COMMAND_PROTOTYPE(name, bit, fn) \
    spt_status fn(struct settings *s, struct run_output *out, spt_err *err);
COMMAND_MAP(COMMAND_PROTOTYPE)
#undef COMMAND_PROTOTYPE

#endif
