/* TFRecord files: a sequence of
 *     u64 length | u32 masked CRC-32C of those 8 bytes | data | u32 masked CRC-32C of the data
 * (little endian), as TFDS data sets and TensorBoard event files are written. Both checksums are
 * verified; messages name the file, the record (counted from 0) and the byte offset. */
#ifndef SPT_STORE_TFRECORD_H
#define SPT_STORE_TFRECORD_H

#include "base/buf.h"
#include "fs/fs.h"

enum { TFRECORD_OVERHEAD = 16 };
/* Records above this are refused. */
#define TFRECORD_MAX ((size_t)1 << 30)

typedef struct tfrecord_reader tfrecord_reader;
/* Gzip'd files are recognised by content. Confined to one thread. */
spt_status tfrecord_open(const char *path, tfrecord_reader **out, spt_err *err);
/* *data is NULL at the end of the file; otherwise it is valid until the next call. A file that
 * ends inside a record is SPT_E_FORMAT. */
spt_status tfrecord_next(tfrecord_reader *r, const void **data, size_t *size, spt_err *err);
/* Skips records without looking at their data (the length checksum is still verified). Returns
 * SPT_E_NOTFOUND when the file ends before. */
spt_status tfrecord_skip(tfrecord_reader *r, uint64_t records, spt_err *err);
/* Back to the first record. */
spt_status tfrecord_rewind(tfrecord_reader *r, spt_err *err);
uint64_t tfrecord_index(const tfrecord_reader *r);  /* of the next record */
uint64_t tfrecord_offset(const tfrecord_reader *r); /* of the next record, in decoded bytes */
void tfrecord_close(tfrecord_reader *r);

/* In memory: the record that starts at bytes[*offset]; moves *offset behind it. *data is NULL at the
 * end. Messages name `what` and the offset. */
spt_status tfrecord_parse(const void *bytes, size_t size, size_t *offset, const void **data,
                          size_t *data_size, const char *what, spt_err *err);
/* Appends one framed record to a buffer. */
void tfrecord_frame(buf *out, const void *data, size_t size);

/* Whole new file, visible at tfrecord_commit only. */
typedef struct tfrecord_writer tfrecord_writer;
spt_status tfrecord_create(const char *path, tfrecord_writer **out, spt_err *err);
spt_status tfrecord_add(tfrecord_writer *w, const void *data, size_t size, spt_err *err);
spt_status tfrecord_commit(tfrecord_writer *w, spt_err *err); /* frees w, whatever happens */
void tfrecord_abort(tfrecord_writer *w);                      /* accepts NULL */

#endif
