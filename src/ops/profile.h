/* A backend that watches another one: every call is passed on, timed, and its useful operations and
 * bytes are counted. Results are those of the inner backend, bit for bit.
 *
 * Useful operations: 2 K N per row of a product; attention 4 D per visible (query, key) pair and
 * head, 8 D for its backward, without what is computed twice to save memory. Bytes: each operand
 * and result once. */
#ifndef SPT_OPS_PROFILE_H
#define SPT_OPS_PROFILE_H

#include "ops/ops.h"

/* kind, name in reports */
#define OPS_PROFILE_MAP(X)                      \
    X(PRODUCT, "products")                      \
    X(PRODUCT_T, "products, backward")          \
    X(HEAD, "logits")                           \
    X(HEAD_T, "logits, backward")               \
    X(ATTENTION, "attention")                   \
    X(ATTENTION_BWD, "attention, backward")     \
    X(NORM, "norms")                            \
    X(NORM_BWD, "norms, backward")              \
    X(ACTIVATE, "feed-forward")                 \
    X(ACTIVATE_BWD, "feed-forward, backward")   \
    X(EMBED, "embedding")                       \
    X(MOVE, "copies, sums")                     \
    X(DROP, "dropout")                          \
    X(LOSS, "loss")                             \
    X(HOST, "to and from the host")             \
    X(PREPARE, "preparing weights")

enum ops_profile_kind {
#define OPS_PROFILE_ENUM(kind, name) OPS_P_##kind,
    OPS_PROFILE_MAP(OPS_PROFILE_ENUM)
#undef OPS_PROFILE_ENUM
    OPS_PROFILE_KINDS
};

struct ops_profile_line {
    const char *name;
    int64_t calls;
    double seconds, operations, bytes;
    double model; /* seconds by ops_profile_model */
};

/* Takes `inner` over: closing the result closes it, on failure it still belongs to the caller. */
spt_status ops_profile_open(ops *inner, ops **out, spt_err *err);
/* The counters since opening or the last reset, [OPS_PROFILE_KINDS]; NULL for another backend. */
const struct ops_profile_line *ops_profile_lines(const ops *o);
void ops_profile_reset(ops *o); /* other backends: nothing */
/* From now on every call is also booked with the longer of operations / rate[kind] and
 * bytes / bandwidth; a rate of 0 means that the bytes alone count. */
void ops_profile_model(ops *o, const double rate[OPS_PROFILE_KINDS], double bandwidth);
/* The watched backend, or o itself. */
ops *ops_profile_inner(ops *o);

#endif
