/* The reference's command line (absl flags of t5x.train, eval, infer, main) as pure text. Unknown
 * flags are left to the caller, so that our own options and the upstream flags mix on one line. */
#ifndef SPT_GIN_FLAGS_H
#define SPT_GIN_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "gin/gin.h"

enum gin_program {
    GIN_PROGRAM_TRAIN = 1,
    GIN_PROGRAM_EVAL = 2,
    GIN_PROGRAM_INFER = 4,
    GIN_PROGRAM_MAIN = 8,
    GIN_PROGRAM_ALL = 15
};

typedef struct gin_strings {
    char **item;
    size_t count;
    size_t cap;
} gin_strings;

typedef struct gin_flags {
    gin_strings gin_file;     /* in order */
    gin_strings gin_bindings; /* --gin.N=V and --gin_bindings, order kept */
    gin_strings search_paths; /* default: one item, "." */
    char *tfds_data_dir;      /* NULL: not given */
    gin_strings cache_dirs;   /* --seqio_additional_cache_dirs */
    bool multiprocess_gpu;
    char *coordinator_address;
    bool has_process_count, has_process_index, has_shard_id, has_initialization_timeout;
    int64_t process_count, process_index, shard_id, initialization_timeout;
    char *run_mode; /* NULL: not given */
    bool dry_run;
    gin_strings rest; /* arguments that are none of these, in order (argv[0] left out) */
    bool any;         /* some gin flag was given */
} gin_flags;

/* "--gin.A=1" -> "--gin_bindings=A = 1"; other arguments unchanged. *out belongs to the caller
 * (mem_free). SPT_E_USAGE for --gin.A without '='. */
spt_status gin_flag_rewrite(const char *arg, char **out, spt_err *err);
/* True for a flag that only the reference's programs have (--gin.A=1, --gin_file=x, ...), with one
 * or two dashes. */
bool gin_is_flag(const char *arg, unsigned programs);
/* Name of the i-th flag, NULL behind the last: for suggestions. */
const char *gin_flag_name(size_t i);
/* Of the i-th flag: the programs (enum gin_program) that define it; whether it needs no value. */
unsigned gin_flag_programs(size_t i);
bool gin_flag_is_switch(size_t i);
/* Reads argv[1..argc-1]. `programs` is a set of enum gin_program: flags that the reference's
 * program does not define are left in `rest`. Honours --flagfile, --undefok and "--". */
spt_status gin_flags_parse(int argc, char *const *argv, unsigned programs, gin_flags *out,
                           spt_err *err);
/* Search paths (the program's default directories behind the user's), then the files in order, then
 * all bindings as one text. Does not finalise. */
spt_status gin_flags_apply(const gin_flags *f, gin_config *c, const char *const *defaults, size_t n,
                           spt_err *err);
void gin_flags_release(gin_flags *f); /* accepts an all-zero object */

#endif
