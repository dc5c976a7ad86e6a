/* Fetching published files into <data dir>/downloads, where they stay. A fetch that breaks off leaves
 * NAME.part and continues there; the name itself appears only when size and SHA-256 are right. */
#ifndef SPT_RUN_DATA_FETCH_H
#define SPT_RUN_DATA_FETCH_H

#include "run/commands.h"
#include "task/prepare.h"

struct data_fetch {
    const char *dir;              /* data_fetch_dir() */
    const struct run_output *out; /* for the progress line; NULL: plain lines only */
    bool quiet, no_verify, offline;
};

/* Appends where fetched files lie (in "downloads"): the data directory, or the cache of this machine
 * when that is in a bucket. */
spt_status data_fetch_dir(const char *data_dir, buf *out, spt_err *err);
/* SPT_OFFLINE or HF_HUB_OFFLINE says no network. */
bool data_offline(void);
/* SPT_DATA_NO_VERIFY says that files need not be the published ones (mirrors of one's own data). */
bool data_unverified(void);
/* Appends where the source lies: already downloaded, in the mirror SPT_DATA_MIRROR (a directory or an
 * address, laid out as prepare_mirror_path says), or fetched from it or from the publisher. ctx: a
 * struct data_fetch. */
spt_status data_fetch_source(void *ctx, const struct prepare_source *s, buf *path, spt_err *err);
/* The same for an address of the user's. sha256: NULL when not known. */
spt_status data_fetch_url(const struct data_fetch *f, const char *url, const char *sha256,
                          buf *path, spt_err *err);
bool data_is_url(const char *text); /* http:// or https:// */

#endif
