/* The fast backend beyond the table of ops.h. docs/design/cpu.md tells how and how fast. */
#ifndef SPT_OPS_CPU_CPU_H
#define SPT_OPS_CPU_CPU_H

#include "ops/ops.h"

/* Bytes of scratch that a context of this backend holds beside weights and activations. */
size_t ops_cpu_scratch(const ops *o);
int ops_cpu_threads(const ops *o);

/* For plans made before anything is loaded (ops/count.h). Bytes that weight_new or table_new would
 * take for these parts, whose data is not read; makes room for the products as they would. Another
 * backend: 0. */
enum ops_weight_kind { OPS_WEIGHT, OPS_WEIGHT_HEAD, OPS_WEIGHT_TABLE };
spt_status ops_cpu_weight_room(ops *o, const struct ops_matrix *parts, int nparts, unsigned uses,
                               enum ops_weight_kind kind, size_t *bytes, spt_err *err);
/* Scratch of all threads that is in use once this attention (NULL: none) and products of so many
 * rows have run. Another backend: 0. */
size_t ops_cpu_scratch_for(const ops *o, const struct ops_attention *a, int64_t rows);

/* What this machine can do, measured for about `seconds` with all threads of the context: products
 * of a tile that lies in the cache, in float32 or (half) in bfloat16 operations per second, 0 when
 * there is nothing native to measure; and bytes per second read from memory. 0 also when memory
 * runs out. NULL or a context of another backend: 0. */
double ops_cpu_peak(ops *o, bool half, double seconds);
double ops_cpu_bandwidth(ops *o, double seconds);

#endif
