/* The fast backend beyond the table of ops.h. docs/design/cpu.md tells how and how fast. */
#ifndef SPT_OPS_CPU_CPU_H
#define SPT_OPS_CPU_CPU_H

#include "ops/ops.h"

/* Bytes of scratch that a context of this backend holds beside weights and activations. */
size_t ops_cpu_scratch(const ops *o);
int ops_cpu_threads(const ops *o);

#endif
