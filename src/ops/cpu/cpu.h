/* The fast backend beyond the table of ops.h. docs/design/cpu.md tells how and how fast. */
#ifndef SPT_OPS_CPU_CPU_H
#define SPT_OPS_CPU_CPU_H

#include "ops/ops.h"

/* Bytes of scratch that a context of this backend holds beside weights and activations. */
size_t ops_cpu_scratch(const ops *o);
int ops_cpu_threads(const ops *o);

/* What this machine can do, measured for about `seconds` with all threads of the context: products
 * of a tile that lies in the cache, in float32 or (half) in bfloat16 operations per second, 0 when
 * there is nothing native to measure; and bytes per second read from memory. 0 also when memory
 * runs out. NULL or a context of another backend: 0. */
double ops_cpu_peak(ops *o, bool half, double seconds);
double ops_cpu_bandwidth(ops *o, double seconds);

#endif
