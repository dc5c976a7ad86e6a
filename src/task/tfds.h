/* Prepared TFDS directories: <data_dir>/<dataset>[/<config>]/<version>/ with dataset_info.json and
 * TFRecord shards (spec/data.md 4.6). Nothing is downloaded. */
#ifndef SPT_TASK_TFDS_H
#define SPT_TASK_TFDS_H

#include "task/record.h"

typedef struct tfds tfds;

/* name: "glue/sst2:2.0.0", "imdb_reviews:1.0.0". When the name has no configuration but the data
 * set has, the only one (or the one that sorts first) that holds the version is taken.
 * SPT_E_NOTFOUND lists where it looked. */
spt_status tfds_open(const char *data_dir, const char *name, tfds **out, spt_err *err);
/* Shards <dir>/<split>.tfrecord-00000-of-N without metadata (offline caches): one split, read
 * whole, to the end of each file. */
spt_status tfds_open_shards(const char *dir, const char *split, size_t shards, tfds **out,
                            spt_err *err);
void tfds_close(tfds *d); /* accepts NULL */
const char *tfds_dir(const tfds *d);
size_t tfds_splits(const tfds *d);
const char *tfds_split_name(const tfds *d, size_t i);

/* Examples first .. last of a split of n, [from, to). spec: "train", "train[:-1000]",
 * "test[10%:20%]"; `split` receives the name before the bracket. Out of range is SPT_E_CONFIG. */
spt_status tfds_slice(const char *spec, uint64_t n, uint64_t *from, uint64_t *to, spt_err *err);
/* Examples of a split or slice. SPT_E_CONFIG names the splits that exist. */
spt_status tfds_examples(const tfds *d, const char *spec, uint64_t *out, spt_err *err);

typedef struct tfds_reader tfds_reader;
/* In the reference's unshuffled order: shards interleaved, 16 files open, 16 records each. */
spt_status tfds_read(const tfds *d, const char *spec, tfds_reader **out, spt_err *err);
/* *more false at the end. A damaged record is SPT_E_FORMAT with file and number. */
spt_status tfds_next(tfds_reader *r, record *out, bool *more, spt_err *err);
void tfds_reader_close(tfds_reader *r); /* accepts NULL */

/* Order in which TFDS writes records: by the MD5 of split name and key. which: [n]. */
spt_status tfds_write_order(const char *split, const char *const *key, size_t n, uint32_t *which,
                            spt_err *err);
/* Number of shards TFDS makes of this many bytes and records. */
uint64_t tfds_shard_count(uint64_t bytes, uint64_t records);

#endif
