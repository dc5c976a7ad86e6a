/* Shared by the files of ops/ref, each of which is compiled twice: with float and with double
 * elements. */
#ifndef SPT_OPS_REF_INTERNAL_H
#define SPT_OPS_REF_INTERNAL_H

#include "ops/ops.h"

#ifndef OPS_REF_DOUBLE
#define OPS_REF_DOUBLE 0 /* for tools that read this file alone */
#endif

#if OPS_REF_DOUBLE
typedef double real;
#define REF(name) ref_f64_##name
#else
typedef float real;
#define REF(name) ref_f32_##name
#endif

void REF(attention)(ops *o, const struct ops_attention *a, void *out);
void REF(attention_bwd)(ops *o, const struct ops_attention *a, const void *out, const void *dout,
                        void *dq, void *dk, void *dv);
void REF(attention_slots)(ops *o, const struct ops_slots *a, void *out);
void REF(loss)(ops *o, void *logits, const struct ops_loss_args *a);
void REF(loss_part)(ops *o, const void *logits, const struct ops_loss_args *a, int64_t first,
                    int64_t n, struct ops_loss_part *out);
void REF(loss_part_bwd)(ops *o, void *logits, const struct ops_loss_args *a, int64_t first,
                        int64_t n);

#endif
