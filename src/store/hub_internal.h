/* Shared by hub.c (names, the cache), hub_fetch.c (the network) and hub_list.c. */
#ifndef SPT_STORE_HUB_INTERNAL_H
#define SPT_STORE_HUB_INTERNAL_H

#include "fs/fs.h"
#include "store/hub.h"

enum {
    HUB_PATH = 65536,
    HUB_COMMIT = 40,       /* hex digits of a commit */
    HUB_TEXT = 512,        /* names, revisions, file names */
    HUB_INDEX = 64 << 20,  /* bytes of a shard index at most */
};

struct hub_repo {
    char id[HUB_TEXT];       /* "org/name" */
    char revision[HUB_TEXT]; /* "main" */
    bool pinned;             /* the revision is a commit */
    char commit[HUB_COMMIT + 1]; /* that the revision means, "" while unknown */
    buf root;                /* the cache */
    buf dir;                 /* root/models--org--name */
};

bool hub_is_commit(const char *text);
/* A variable that is set and not empty, else NULL. */
const char *hub_env(const char *name);
bool hub_env_true(const char *name);
/* dir/snapshots/<commit>[/file] into out (emptied first). */
spt_status hub_snapshot(const struct hub_repo *r, const char *file, buf *out, spt_err *err);
/* What of `need` the snapshot lacks: names a file (static text), NULL when all is there. */
spt_status hub_missing(const struct hub_repo *r, unsigned need, const char **what, spt_err *err);
/* The distinct files of a shard index, which lies at `path`. */
spt_status hub_index_files(const char *path, fs_names *out, spt_err *err);

/* Fetches what is missing of the revision (or of r->commit, when that is known and not `refresh`),
 * and sets r->commit. */
spt_status hub_fetch(struct hub_repo *r, const struct hub_opts *o, spt_err *err);

#endif
