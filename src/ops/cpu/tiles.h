/* bfloat16 products through oneDNN, for chips whose matrix unit (AMX) our own kernel does not
 * drive: row tiles of a few fixed sizes, one primitive per (tile, K), executed single-threaded by
 * the caller's threads with a scratchpad of ours (rulings 2).
 *
 * A size is kept only when it gives the same bits as the largest, measured on random numbers at
 * creation, because no document promises it: with AMX some K break it. So the bits of a row depend
 * neither on the number of rows nor on the tile it lands in. Sums are checked there, too.
 *
 * Leave to use AMX's registers is asked of the kernel (arch_prctl) by oneDNN itself; refused, the
 * library reports a chip without AMX, and none of this is used. */
#ifndef SPT_OPS_CPU_TILES_H
#define SPT_OPS_CPU_TILES_H

#include "tensor/tensor.h"

struct tiles;        /* all primitives of a context */
struct tile_product; /* those of one reduction length: x[rows, K] times a panel [K, 64] */

enum { TILE_MAX = 256 };

spt_status tiles_new(int threads, struct tiles **out, spt_err *err);
void tiles_free(struct tiles *t); /* accepts NULL */
size_t tiles_bytes(const struct tiles *t);
/* K is a multiple of 32. SPT_E_DEVICE when oneDNN has nothing but its reference for it. Belongs to
 * t. float32 (for measuring the peak) or bfloat16 in pairs of rows. */
spt_status tiles_find(struct tiles *t, int64_t K, bool bf16, const struct tile_product **out,
                      spt_err *err);
/* Rows that one call takes when so many are left: at most TILE_MAX; fewer than the tile are padded
 * in the thread's scratch. */
int64_t tiles_take(const struct tile_product *p, int64_t left);
/* y[rows, 64] = x[rows, K] panel, everything dense. rows <= tiles_take(). False: out of memory. */
bool tiles_run(struct tiles *t, const struct tile_product *p, int thread, const void *x,
               int64_t rows, const void *panel, float *y);

#endif
