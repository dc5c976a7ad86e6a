/* Data sets that we can prepare ourselves, from their publishers' files: GLUE, SuperGLUE, SQuAD, the
 * parts of MRQA, and the pronouns that go with SuperGLUE's WSC. What is written is what TFDS writes: names, fields, order of examples, shards.
 * Facts (addresses, checksums, layouts) are those of TFDS 4.9.
 *
 *   const struct prepare_set *s = prepare_find("glue/sst2", &version, err);
 *   prepare_run(s, &(struct prepare_options){.out = dir, .version = version, .from = "SST-2.zip"}, ...)
 */
#ifndef SPT_TASK_PREPARE_H
#define SPT_TASK_PREPARE_H

#include "task/tfds_write.h"

enum {
    PREPARE_MAX_SOURCES = 3,
    PREPARE_MAX_SPLITS = 5,
    PREPARE_MAX_VERSIONS = 3,
    PREPARE_MAX_FEATURES = 17
};

enum prepare_kind {
    PREPARE_GLUE,
    PREPARE_MRPC,
    PREPARE_SUPER_GLUE,
    PREPARE_SQUAD,
    PREPARE_MRQA,
    PREPARE_DPR
};

/* A file as it is published. */
struct prepare_source {
    const char *url;
    const char *file; /* its name on disk, with "train/" or "dev/" where that tells two apart */
    uint64_t size;    /* 0: not stated */
    const char *sha256;
};

struct prepare_split {
    const char *name;
    int source;
    const char *member; /* inside an archive; "A|B": any of these. NULL: the source itself */
    const char *raw;    /* the reader's name for it: train, dev, dev_matched, test, val, ... */
    uint64_t examples;  /* of the published files; 0: not known to us */
};

struct prepare_set {
    const char *name;                              /* "glue/sst2" */
    const char *version[PREPARE_MAX_VERSIONS + 1]; /* newest first */
    enum prepare_kind kind;
    const char *description;
    struct prepare_source source[PREPARE_MAX_SOURCES];
    struct prepare_split split[PREPARE_MAX_SPLITS];
    struct tfds_feature feature[PREPARE_MAX_FEATURES];
};
size_t prepare_sources(const struct prepare_set *s);
size_t prepare_splits(const struct prepare_set *s);
size_t prepare_features(const struct prepare_set *s);

size_t prepare_count(void);
const struct prepare_set *prepare_at(size_t i);
/* "glue/sst2" or "glue/sst2:1.0.0". *version: static. SPT_E_CONFIG for others. */
spt_status prepare_find(const char *name, const struct prepare_set **out, const char **version,
                        spt_err *err);

/* Where a mirror (or our folder of downloads) keeps a source: "dl.fbaipublicfiles.com/glue/data/
 * SST-2.zip": host and folders of the address, then the file's name. */
spt_status prepare_mirror_path(const struct prepare_source *s, buf *out, spt_err *err);

struct prepare_options {
    const char *out; /* the data directory: <out>/glue/sst2/2.0.0 is written */
    const char *version;
    /* The publisher's file, an archive with the same members, or a directory that holds the files or
     * what was in them. NULL: `fetch` says where each source lies. */
    const char *from;
    const char *sha256; /* what `from` must have; NULL: the publisher's, if it has his size */
    bool no_verify;
    spt_status (*fetch)(void *ctx, const struct prepare_source *s, buf *path, spt_err *err);
    void *ctx;
    bool (*stop)(void); /* polled; may be NULL */
};

struct prepare_result {
    bool existed;
    size_t splits;
    uint64_t examples[PREPARE_MAX_SPLITS];
};

/* A prepared directory is left alone (`existed`). On failure nothing of it is left. */
spt_status prepare_run(const struct prepare_set *s, const struct prepare_options *o,
                       struct prepare_result *out, spt_err *err);

/* Size and SHA-256 of a file against those given. sha256: 64 hex digits. */
spt_status prepare_verify(const char *path, const char *sha256, spt_err *err);

#endif
