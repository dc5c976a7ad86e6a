/* Whole commands as cases for fault injection: a tiny model, a table, a run, and commands of the public
 * interface whose answers go nowhere. */
#ifndef TESTS_SUPPORT_FLOWS_H
#define TESTS_SUPPORT_FLOWS_H

#include "support/test.h"

#include <spt/spt.h>

struct flow_files {
    char dir[256];
    char model[256];              /* a directory as Hugging Face writes it, byte vocabulary */
    char train[256], eval[256];   /* tables: text, label */
    char run[256], kept[256];     /* kept: a finished run of two steps */
    char out[256], npy[256];      /* free names */
    char cache[256];
};
extern struct flow_files flow;

/* cmocka's group setup. */
int flow_setup(void **state);
void flow_remove(const char *path); /* a file or a tree; absent is fine */

/* command, then option, value, ... (value "on": a switch; option "": an argument), NULL. */
spt_status flow_command(spt_err *err, const char *const *word);
/* The reference's program: command and its words as on the command line, NULL at the end. */
spt_status flow_words(const char *command, spt_err *err, const char *const *word);
#define COMMAND(err, ...) flow_command(err, (const char *const[]){__VA_ARGS__, NULL})
#define WORDS(command, err, ...) flow_words(command, err, (const char *const[]){__VA_ARGS__, NULL})

spt_status flow_train(const char *out, const char *steps, spt_err *err);

struct flow {
    const char *name;
    fault_case run, again; /* again: must succeed after a failed run; usually the same */
};

/* A case flow_NAME that removes flow.out and flow.npy and runs the command. */
#define FLOW(name, ...)                                    \
    static spt_status flow_##name(void *ctx, spt_err *err) \
    {                                                      \
        (void)ctx;                                         \
        flow_remove(flow.out);                             \
        flow_remove(flow.npy);                             \
        return COMMAND(err, __VA_ARGS__);                  \
    }

/* Bar C1 over the flows; stride > 0: by stacks of calls, as fault_every_alloc_stack. */
void flows_every_allocation(const struct flow *f, size_t n, int64_t stride);
/* Bar C2: ten kinds of failing calls with SPT_TEST_FULL=1, else the first `kinds`. */
void flows_every_system_call(const struct flow *f, size_t n, size_t kinds);

#endif
