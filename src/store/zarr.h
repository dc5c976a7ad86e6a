/* zarr v2 arrays: one directory with `.zarray` (JSON) and one file per chunk, as T5X and
 * tensorstore write them (spec/t5x.md 7.4). Both separators, C order, gzip, zlib or no compressor,
 * little-endian numbers and "bfloat16". zstd and blosc are refused by name. */
#ifndef SPT_STORE_ZARR_H
#define SPT_STORE_ZARR_H

#include "base/limits.h"
#include "fs/fs.h"
#include "fs/savedir.h"
#include "tensor/tensor.h"

typedef struct zarr_array {
    enum dtype dtype;
    struct tensor_shape shape;
    struct tensor_shape chunk; /* same rank; every dimension >= 1 */
    enum zarr_codec { ZARR_RAW, ZARR_GZIP, ZARR_ZLIB } codec;
    bool slash;          /* chunk files are named 0/0, not 0.0 */
    bool fill_explicit;  /* fill_value was given and not null */
    unsigned char fill[8]; /* one element */
    size_t bytes;        /* of the whole array */
    size_t chunk_bytes;  /* of one decoded chunk */
    uint64_t chunk_count;
} zarr_array;

/* Largest decoded chunk that is read. */

/* Reads and checks <dir>/.zarray. Nothing is held afterwards. */
spt_status zarr_open(const char *dir, zarr_array *out, spt_err *err);
/* The same from memory; `what` names it in messages. */
spt_status zarr_parse(const char *json, size_t size, const char *what, zarr_array *out,
                      spt_err *err);

/* Adds the paths of all chunk files, there or not. */
spt_status zarr_chunk_paths(const char *dir, const zarr_array *a, fs_names *out, spt_err *err);

/* What to do when a chunk file is absent (rulings 18). */
enum zarr_missing {
    ZARR_MISSING_FILL,    /* optimiser slots: the fill value, zero for null */
    ZARR_MISSING_WEIGHTS  /* weights: only when the fill value is explicit and every chunk is
                             absent (one warning); otherwise an error that names the chunk */
};
/* Can the chunk files that are there hold this array? To be asked before room for a large array is
 * made; looks at sizes only. */
spt_status zarr_check_size(const char *dir, const zarr_array *a, enum zarr_missing missing,
                           spt_err *err);
/* Decodes the array into `out`, which must have a->bytes bytes, in C order. */
spt_status zarr_read(const char *dir, const zarr_array *a, enum zarr_missing missing, void *out,
                     spt_err *err);

/* Chunk shape that T5X writers choose (spec/t5x.md 7.6): at most 64 MiB per chunk. */
struct tensor_shape zarr_choose_chunks(enum dtype t, const struct tensor_shape *shape);
/* Writes an array below an open save directory: `name` is the directory's name in it. gzip level
 * 1, chunks by zarr_choose_chunks. */
spt_status zarr_write(savedir *d, const char *name, const struct tensor_view *v, spt_err *err);
/* The same with chunks of a given shape (every dimension >= 1). */
spt_status zarr_write_chunked(savedir *d, const char *name, const struct tensor_view *v,
                              const struct tensor_shape *chunk, spt_err *err);
/* The text of .zarray as zarr_write writes it. */
spt_status zarr_metadata(const struct tensor_view *v, const struct tensor_shape *chunk, buf *out,
                         spt_err *err);
/* "bfloat16", "<f4", "|b1", ... */
const char *zarr_dtype_text(enum dtype t);

#endif
