/* Archives of data sets: ZIP (stored and deflated members, ZIP64), tar (plain or gzip'd), one
 * gzip'd file, or one plain file, told apart by content. Members are read as streams; nothing is
 * ever unpacked to disk, and memory does not grow with the archive (only with the number of its
 * members).
 *
 * Hostile archives: a name that is absolute or has ".." in it refuses the whole archive, as do
 * members that overlap, that are encrypted, whose headers contradict each other, or that would
 * expand more than ARCHIVE_MAX_RATIO fold. Sizes and CRC-32 are verified while a member is read.
 * Messages name the archive and the member. */
#ifndef SPT_STORE_ARCHIVE_H
#define SPT_STORE_ARCHIVE_H

#include "base/buf.h"
#include "base/limits.h"

/* Text compresses about 3 to 10 fold; what expands further than this (beyond its first MB) is no
 * data set. */

enum archive_kind { ARCHIVE_FILE, ARCHIVE_GZIP, ARCHIVE_ZIP, ARCHIVE_TAR };

typedef struct archive archive;
spt_status archive_open(const char *path, archive **out, spt_err *err);
void archive_close(archive *a); /* accepts NULL */
enum archive_kind archive_kind(const archive *a);
const char *archive_path(const archive *a);

/* Files among the members, in the archive's order. A plain or gzip'd file is one member with its
 * base name (without .gz). */
size_t archive_count(const archive *a);
const char *archive_name(const archive *a, size_t i);
/* The member called `name` ("SST-2/train.tsv"), else the only one whose name ends in "/" + name.
 * SPT_E_NOTFOUND when there is none or more than one. */
spt_status archive_find(const archive *a, const char *name, size_t *out, spt_err *err);

typedef struct archive_stream archive_stream;
/* Several streams of one archive may be open. Close them before the archive. */
spt_status archive_read(archive *a, size_t i, archive_stream **out, spt_err *err);
/* *got == 0 (with n > 0) means the end, which is reached only if sizes and checksums agree. The
 * first argument is an archive_stream *, so that this is a source for others' readers. */
spt_status archive_stream_read(void *stream, void *p, size_t n, size_t *got, spt_err *err);
void archive_stream_close(archive_stream *s); /* accepts NULL */

#endif
