/* The fast backend: oneDNN products over prepared weights, own vector passes for the rest.
 * docs/design/cpu.md tells how and how fast. */
#ifndef SPT_OPS_CPU_CPU_H
#define SPT_OPS_CPU_CPU_H

#include "ops/ops.h"

/* isa NULL or "auto" takes the best this machine has; "avx2" and "avx512" ask for that one.
 * SPT_E_CONFIG when the machine (or the operating system) does not have it. threads 0: one per
 * core that this process may use. */
spt_status ops_cpu_open(const struct ops_config *cfg, ops **out, spt_err *err);

/* Bytes of scratch that the context holds beside weights and activations. */
size_t ops_cpu_scratch(const ops *o);

#endif
