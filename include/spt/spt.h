/* spt: soft prompt tuning for frozen T5, the installed interface.
 *
 * Load a prompt and answer one question:
 *
 *     #include <spt/spt.h>
 *     #include <stdio.h>
 *
 *     int main(void)
 *     {
 *         spt_err err;
 *         spt_session *s;
 *         char answer[256];
 *         if (spt_session_open("t5-base-lm", "run", NULL, &s, &err) ||
 *             spt_session_answer(s, "my parcel has not come", answer, sizeof answer, &err)) {
 *             fprintf(stderr, "%s\n", err.msg);
 *             return spt_status_exit_code(err.code);
 *         }
 *         puts(answer);
 *         spt_session_close(s);
 *         return 0;
 *     }
 *
 * Everything the program does is a job: a command name and options with the names and texts of
 * `spt help COMMAND`. A result spt_status of 0 (SPT_OK) is success; on failure err (which may be
 * NULL) says what, where and why, and out-parameters are untouched.
 *
 * Threads: spt_session and spt_job are confined to one thread at a time; spt_job_stop may be
 * called from a signal handler. spt_set_alloc and spt_set_log come before everything else. */
#ifndef SPT_SPT_H
#define SPT_SPT_H

#include <spt/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ABI version: the same major number means compatible (0xMMmmpp). */
#define SPT_VERSION_NUM 0x000100
SPT_API unsigned spt_version_num(void);
SPT_API const char *spt_version(void);

/* --- one prompt, one question --------------------------------------------------------------- */

typedef struct spt_session spt_session;

typedef struct spt_session_opts {
    size_t size; /* sizeof(spt_session_opts); fields behind it are taken as 0 */
    int threads; /* 0: all cores */
    const char *compute; /* NULL or "auto", "float32", "bfloat16" */
} spt_session_opts;
SPT_API void spt_session_opts_init(spt_session_opts *o);

/* model: a T5X checkpoint or Hugging Face directory. prompt: a prompt file of any kind or a run
 * directory; NULL: none. opts may be NULL. */
SPT_API spt_status spt_session_open(const char *model, const char *prompt,
                                    const spt_session_opts *opts, spt_session **out, spt_err *err);
/* Puts `text` into the prompt's input template and answers with one of its labels (ranked by
 * likelihood) or, for a prompt without labels, greedily decoded text. Writes a NUL-terminated
 * string of at most cap - 1 bytes; SPT_E_USAGE when it does not fit. */
SPT_API spt_status spt_session_answer(spt_session *s, const char *text, char *answer, size_t cap,
                                      spt_err *err);
SPT_API void spt_session_close(spt_session *s);

/* --- jobs ------------------------------------------------------------------------------------ */

typedef struct spt_job spt_job;

/* One row of a command's option table: what --help, the man page and completion print. */
typedef struct spt_option {
    const char *name;          /* without the dashes */
    const char *metavar;       /* "N", "FILE", ...; NULL for a switch (--x, mostly --no-x) */
    const char *default_value; /* as text; "" when there is none */
    const char *help;
} spt_option;

typedef struct spt_command {
    const char *name;
    const char *usage; /* arguments, e.g. "--model MODEL --train FILE --out RUN" */
    const char *summary;
    const char *details; /* a paragraph and an example */
} spt_command;

SPT_API size_t spt_command_count(void);
SPT_API const spt_command *spt_command_at(size_t i);
SPT_API const spt_command *spt_command_find(const char *name); /* NULL when there is none */
/* The i-th option of a command, NULL behind the last. */
SPT_API const spt_option *spt_command_option(const char *command, size_t i);
/* Whether an option that spt_command_option gave is a switch that --no-x takes back. */
SPT_API int spt_option_negates(const spt_option *option);

/* The i-th flag of the reference's program that a command understands ("gin_file"), without the
 * dashes; NULL behind the last. All take a value but those that spt_flag_is_switch names. */
SPT_API const char *spt_command_flag(const char *command, size_t i);
SPT_API int spt_flag_is_switch(const char *flag);

/* A concept, for `spt help TOPIC` and the manual. */
typedef struct spt_topic {
    const char *name;
    const char *summary;
    const char *text; /* paragraphs; lines that begin with two spaces are shown as they are */
} spt_topic;
SPT_API size_t spt_topic_count(void);
SPT_API const spt_topic *spt_topic_at(size_t i);
SPT_API const spt_topic *spt_topic_find(const char *name); /* NULL when there is none */

/* A JSON object about this build and this machine: version, compiler, instruction sets, compute
 * types, libraries with their versions. Writes a NUL-terminated string of at most cap - 1 bytes;
 * SPT_E_USAGE when it does not fit (4096 bytes do). */
SPT_API spt_status spt_build_info(char *out, size_t cap, spt_err *err);

/* Where answers go. Taking them: non-zero (a closed pipe) ends the job quietly. */
typedef struct spt_sink {
    int (*take)(void *ctx, const void *bytes, size_t n);
    /* The one changing line of progress, at most 5 times a second; NULL ends it. May be NULL. */
    void (*progress)(void *ctx, const char *line);
    void *ctx;
    int terminal; /* progress goes to a terminal */
} spt_sink;

/* SPT_E_USAGE for an unknown command (the nearest one is named). */
SPT_API spt_status spt_job_new(const char *command, spt_job **out, spt_err *err);
SPT_API void spt_job_free(spt_job *j);
/* value: NULL turns a switch on. The text is copied. Unknown names suggest the nearest. */
SPT_API spt_status spt_job_set(spt_job *j, const char *option, const char *value, spt_err *err);
/* Positional argument, e.g. the file of `spt inspect FILE`. */
SPT_API spt_status spt_job_add(spt_job *j, const char *argument, spt_err *err);
/* The words behind the command as they stand on the command line. When the reference's flags are
 * among them (--gin_file, --gin.NAME=VALUE, --gin_bindings, --tfds_data_dir, ...) the job takes all
 * of them and runs as the reference's program (*taken = 1); otherwise nothing happens. train, eval
 * and infer only. */
SPT_API spt_status spt_job_args(spt_job *j, int argc, char *const *argv, int *taken, spt_err *err);
/* Under mpirun several processes run one job: all return its status, and one of them tells. They
 * leave together in spt_job_free, so tell before that. */
SPT_API spt_status spt_job_run(spt_job *j, const spt_sink *sink, spt_err *err);
/* Whether this process is the one that tells how the job ended (always, when it is alone; j may be
 * NULL: before there is a job). */
SPT_API int spt_job_speaks(const spt_job *j);
/* Name of the file that the library has mapped at this address, or NULL. Model files are mapped, and one
 * that is cut short meanwhile raises SIGBUS: for a handler's message; async-signal-safe. */
SPT_API const char *spt_mapped_file(const void *address);
/* Asks the running job to save and return SPT_E_INTERRUPTED at the next step; async-signal-safe. */
SPT_API void spt_job_stop(void);

/* --- the story --------------------------------------------------------------------------------- */

/* level 0: information, 1: warning. Called with one line without a newline. NULL drops them. */
SPT_API void spt_set_log(void (*sink)(void *ctx, int level, const char *line), void *ctx);

#ifdef __cplusplus
}
#endif
#endif
