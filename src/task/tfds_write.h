/* Writes a prepared TFDS directory from records, so that raw archives and users' own rows can be
 * read by the reference, too: shards in TFDS order, features.json, class names, dataset_info.json.
 * Memory does not grow with the data set. The directory appears whole or not at all. */
#ifndef SPT_TASK_TFDS_WRITE_H
#define SPT_TASK_TFDS_WRITE_H

#include "task/record.h"

enum tfds_feature_kind {
    FEATURE_TEXT,   /* features.Text */
    FEATURE_STRING, /* a string tensor */
    FEATURE_INT32,
    FEATURE_FLOAT32,
    FEATURE_BOOL,
    FEATURE_CLASS /* features.ClassLabel: index, -1 for none */
};

struct tfds_feature {
    /* "idx/query" lies in a dictionary, "entities[]" is a sequence ("candidates[2]" of that length),
     * "answers[]/text" a member of a sequence of dictionaries. Records name it without the brackets. */
    const char *path;
    enum tfds_feature_kind kind;
    const char *const *classes; /* FEATURE_CLASS: NULL behind the last; "" for those without name */
};

typedef struct tfds_writer tfds_writer;
/* name: "glue/sst2:2.0.0". Nothing but temporaries is written before tfds_writer_commit. */
spt_status tfds_writer_new(const char *data_dir, const char *name, tfds_writer **out, spt_err *err);
/* What features.json will say; without it there is none. `f` must outlive the writer. */
void tfds_writer_features(tfds_writer *w, const struct tfds_feature *f, size_t n,
                          const char *description);
/* Bytes kept in memory per split before they go to temporary files (default: 8 MB). */
void tfds_writer_budget(tfds_writer *w, size_t bytes);
/* key: what TFDS sorts by ("0", "1", ... for GLUE), once per split; NULL: records keep the order of
 * adding. Splits are written in the order of their first record. */
spt_status tfds_writer_add(tfds_writer *w, const char *split, const record *r, const char *key,
                           spt_err *err);
/* Records of a split so far. */
uint64_t tfds_writer_count(const tfds_writer *w, const char *split);
/* shards: per split; 0: as many as TFDS makes. An existing directory of this version is SPT_E_IO and
 * stays. Frees w, whatever happens. */
spt_status tfds_writer_commit(tfds_writer *w, size_t shards, spt_err *err);
void tfds_writer_abort(tfds_writer *w); /* accepts NULL */

/* Keeps other writers of this version off and removes what one that died left, where tfds_writer_commit
 * would be too late for that (in buckets; it does the same itself). */
spt_status tfds_writer_claim(tfds_writer *w, spt_err *err);

/* Where the version lies: "<data_dir>/glue/sst2/2.0.0". */
const char *tfds_writer_dir(const tfds_writer *w);

#endif
