/* gzip (RFC 1952) and zlib (RFC 1950) through zlib, with limits on what comes out. All memory of
 * zlib comes from base/mem. */
#ifndef SPT_CODEC_GZIP_H
#define SPT_CODEC_GZIP_H

#include "base/buf.h"
#include "base/limits.h"

/* Does it start like a gzip member? Needs two bytes. */
bool gzip_detect(const void *bytes, size_t size);

/* --- streaming: decoded bytes of a source that is read piece by piece --- */

/* Fills up to n bytes; *got == 0 means the end of the source. */
typedef spt_status (*gzip_source_fn)(void *ctx, void *p, size_t n, size_t *got, spt_err *err);

/* Concatenated members are decoded one after the other; zero bytes behind the last one are
 * padding; anything else behind a member, a wrong checksum and an early end are SPT_E_FORMAT with
 * the offset in the compressed bytes. Confined to one thread. */
typedef struct gzip_reader gzip_reader;
spt_status gzip_reader_open(gzip_source_fn source, void *ctx, gzip_reader **out, spt_err *err);
/* The same for one bare deflate stream (RFC 1951, the members of ZIP files): no header, no checksum,
 * and the source must end where the stream ends. */
spt_status gzip_reader_open_raw(gzip_source_fn source, void *ctx, gzip_reader **out, spt_err *err);
/* *got == 0 (with n > 0) means the end. */
spt_status gzip_reader_read(gzip_reader *g, void *p, size_t n, size_t *got, spt_err *err);
/* Compressed bytes used so far. */
uint64_t gzip_reader_taken(const gzip_reader *g);
void gzip_reader_close(gzip_reader *g); /* accepts NULL; the source is the caller's */

/* --- one shot --- */

/* Deflate cannot expand more than this: a declared size above ratio * compressed + 64 is a lie and
 * can be refused before anything is allocated. */
bool deflate_may_hold(size_t compressed, size_t decoded);

/* Decodes a whole gzip (members concatenated) or zlib stream (told apart by the first bytes) that
 * must yield exactly `size` bytes into `out`. */
spt_status gzip_decode_exact(const void *in, size_t in_size, void *out, size_t size, spt_err *err);
/* The same when the size is not known: at most `max` bytes are appended to `out`. */
spt_status gzip_decode(const void *in, size_t in_size, size_t max, buf *out, spt_err *err);

/* Appends one gzip member; level 0 (stored) to 9. The header is the one tensorstore writes: no
 * name, mtime 0, OS 3; so equal input gives equal bytes. */
spt_status gzip_encode(const void *in, size_t in_size, int level, buf *out, spt_err *err);

/* Version of zlib at run time. */
const char *gzip_library_version(void);

#endif
