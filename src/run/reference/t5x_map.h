/* RestoreCheckpointConfig.assignment_map (spec/t5x.md 7.8): which leaf of a checkpoint each leaf of the
 * model is restored from, and the frozen base seen through it. */
#ifndef SPT_RUN_T5X_MAP_H
#define SPT_RUN_T5X_MAP_H

#include "model/names.h"
#include "model/scratch.h"
#include "model/source.h"
#include "run/reference/gin_settings.h"
#include "text/regex.h"

enum t5x_origin {
    ORIGIN_SAME, /* no pattern matches: its own name */
    ORIGIN_SKIP, /* mapped to None: not restored */
    ORIGIN_OTHER /* another name, which must exist */
};

struct t5x_map {
    const struct gin_restore *r;
    regex **re;
    bool *used;
    size_t n;
};

/* r NULL: an empty map. Close also after a failure. */
spt_status t5x_map_open(struct t5x_map *m, const struct gin_restore *r, spt_err *err);
void t5x_map_close(struct t5x_map *m);
/* The first pattern that matches the whole name counts; other receives the name of ORIGIN_OTHER. */
spt_status t5x_map_find(struct t5x_map *m, const char *name, enum t5x_origin *out, buf *other,
                        spt_err *err);
/* SPT_E_CONFIG when a pattern has matched no leaf. */
spt_status t5x_map_done(const struct t5x_map *m, spt_err *err);

/* The base of a T5X checkpoint as the configured model sees it: leaves under their mapped names; with
 * `fallback`, what is left out or absent as the reference initialises it. Leaves that the model does
 * not have are ignored. Must outlive the source. */
struct t5x_view {
    struct t5x_map *map; /* while the source is opened */
    struct t5_config config; /* of the configured model */
    struct rng_key params;   /* flax's stream for what is made from scratch */
    bool fallback;
    const char *why_not; /* behind "and ": why nothing can be made from scratch */
    bool rounds;         /* RestoreCheckpointConfig.dtype: values are rounded to it */
    enum dtype dtype;
    struct t5_name *name;
    size_t count, made;
    store *in;     /* the checkpoint; belongs to the source */
    size_t *index; /* [count] in it, SIZE_MAX: made from scratch */
};
/* x in the precision of bfloat16 or float16 (other types: as it is). */
void t5x_round(float *x, size_t n, enum dtype t);
/* For t5_source_opts.adapt, with the view as its context. */
spt_status t5x_view_adapt(void *view, store *in, store **out, spt_err *err);
void t5x_view_release(struct t5x_view *v);

#endif
