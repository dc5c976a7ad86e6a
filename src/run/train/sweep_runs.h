/* The runs of `spt sweep` from its settings: every combination of --inits, --lengths, --lrs and
 * --seeds, for every row of --runs. */
#ifndef SPT_RUN_SWEEP_RUNS_H
#define SPT_RUN_SWEEP_RUNS_H

#include "run/settings.h"

enum { SWEEP_MOST_RUNS = 180 }; /* each holds five files open; 1,024 are usual */

struct sweep_run {
    char *name;               /* letters, digits and "._+-"; also its directory's */
    struct settings settings; /* as of `spt train` */
};

struct sweep_runs {
    struct sweep_run *run;
    size_t count;
};

/* Whether the settings ask for several runs at all. */
bool sweep_asked(const struct settings *s);
/* SPT_E_USAGE names what cannot be: an option given twice, two runs of one name, ... */
spt_status sweep_runs_make(const struct settings *s, struct sweep_runs *out, spt_err *err);
void sweep_runs_release(struct sweep_runs *r); /* accepts an all-zero object */

#endif
