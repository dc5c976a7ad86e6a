/* What the readers of the kinds of archives share. */
#ifndef SPT_STORE_ARCHIVE_INTERNAL_H
#define SPT_STORE_ARCHIVE_INTERNAL_H

#include "base/limits.h"
#include "codec/gzip.h"
#include "fs/fs.h"
#include "store/archive.h"

enum { ARCHIVE_MAX_NAME = 4096 };

struct member {
    char *name;
    uint64_t offset; /* ZIP: of the local header; TAR: of the data in the decoded stream */
    uint64_t packed, size;
    uint32_t crc;
    bool deflated;
};

struct archive {
    enum archive_kind kind;
    bool gzip; /* TAR: decoded first */
    char *path;
    fs_file *file;
    struct member *member;
    size_t count, cap;
};

/* A gzip'd or plain file from its start, with the limit on what comes out. */
struct decoded {
    fs_file *file;
    uint64_t at;
    gzip_reader *gzip; /* NULL: plain */
    uint64_t out;
};
spt_status decoded_open(struct decoded *d, fs_file *f, bool gzip, spt_err *err);
spt_status decoded_read(struct decoded *d, void *p, size_t n, size_t *got, spt_err *err);
void decoded_close(struct decoded *d);

/* Copies the name, refuses dangerous ones. */
spt_status archive_add(archive *a, const char *name, size_t len, struct member m, spt_err *err);

spt_status zip_list(archive *a, spt_err *err);
/* Where the data of a member starts; checks its local header. */
spt_status zip_data(const archive *a, const struct member *m, uint64_t *offset, spt_err *err);
/* first: the first block of the decoded file. */
bool tar_detect(const unsigned char *first, size_t n);
spt_status tar_list(archive *a, spt_err *err);

#endif
