/* A table of ops_profile lines, for `spt bench` and --profile. */
#ifndef SPT_RUN_PROFILE_TEXT_H
#define SPT_RUN_PROFILE_TEXT_H

#include "base/buf.h"
#include "ops/profile.h"
#include "text/json.h"

/* Time outside of operations. */
struct profile_part {
    const char *name;
    double seconds; /* of all steps together */
};

struct profile_run {
    const char *what;                    /* "training step" */
    const struct ops_profile_line *line; /* [OPS_PROFILE_KINDS], of all steps together */
    int64_t steps;
    double median;                   /* seconds of a step; 0: the mean */
    double total;                    /* seconds of all steps together */
    double peak;                     /* operations per second of this machine, 0: unknown */
    const struct profile_part *part; /* parts of `total` */
    size_t parts;
};

double profile_operations(const struct profile_run *r); /* useful ones of a step */
double profile_seconds(const struct profile_run *r);    /* of a step */
void profile_text(const struct profile_run *r, buf *out);
void profile_log(const buf *text);                      /* line by line */
void profile_json(const struct profile_run *r, json_writer *w); /* an object */

#endif
