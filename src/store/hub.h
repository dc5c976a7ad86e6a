/* Models by name: "org/name[@revision]" on the Hugging Face hub (spec/interop.md section 5).
 *
 *     struct hub_opts o = {.need = HUB_MODEL | HUB_VOCAB};
 *     TRY(hub_find("google/t5-small-lm-adapt", &o, &path, err));     path: .../snapshots/<commit>
 *
 * The cache is the one of huggingface_hub, by its layout and its variables: what that package and
 * transformers put there is used without a copy, and the other way round. What is missing is
 * fetched, unless HF_HUB_OFFLINE forbids it: only the files that are needed, checked against the
 * hub's checksums, each visible whole or not at all. An interrupted fetch continues where it was.
 *
 * Variables: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HOME (where the cache
 * is), HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE, HF_ENDPOINT, HF_TOKEN, HUGGING_FACE_HUB_TOKEN,
 * HF_TOKEN_PATH, HF_HUB_DISABLE_IMPLICIT_TOKEN, HF_HUB_DISABLE_SYMLINKS, HF_HUB_ETAG_TIMEOUT,
 * HF_HUB_DOWNLOAD_TIMEOUT. */
#ifndef SPT_STORE_HUB_H
#define SPT_STORE_HUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum hub_need {
    HUB_MODEL = 1,   /* config.json and one set of weights */
    HUB_VOCAB = 2,   /* what a tokenizer is read from */
    HUB_ADAPTER = 4, /* a PEFT adapter: adapter_config.json and its weights */
    HUB_ANY = 8,     /* an adapter if it is one, else a model and its vocabulary */
};

/* What is being fetched: bytes of all its files, those that were there before included. */
struct hub_progress {
    const char *name; /* "org/name" */
    const char *file;
    uint64_t done, total;
    uint64_t before; /* bytes of `done` that were here when the fetch began */
    double seconds;  /* since it began */
};

struct hub_opts {
    unsigned need;
    bool refresh; /* ask the hub which commit the revision is now, also when the cache knows one */
    /* Called now and then; false ends the fetch with SPT_E_INTERRUPTED. May be NULL. */
    bool (*progress)(void *ctx, const struct hub_progress *p);
    void *ctx;
};

/* Could this be a name on the hub: "org/name" or "org/name@revision"? Text only. */
bool hub_is_name(const char *text);
/* "org/name" of "org/name@revision" into out. */
void hub_add_repo(const char *text, buf *out);

/* The path (a buf with a maximum, emptied first) that `text` means: itself when something has this
 * path or when it is no name of the hub; else the snapshot that holds what is needed. A name without
 * "org/" is looked for in the cache only.
 * SPT_E_NOTFOUND: neither a path nor on the hub; SPT_E_CONFIG: a gated model, no access, offline;
 * SPT_E_FORMAT: not what it should be (checksum, size); SPT_E_IO: no network, no disk. */
spt_status hub_find(const char *text, const struct hub_opts *o, buf *path, spt_err *err);

/* The cache's directory. SPT_E_CONFIG when no variable says where it is. */
spt_status hub_cache_dir(buf *out, spt_err *err);
bool hub_offline(void);

/* What lies in the cache: one entry per snapshot, sorted by name, then commit. */
struct hub_entry {
    char *name;     /* "org/name" */
    char *commit;
    char *refs;     /* the revisions that point there, "main, v1.0", or "" */
    char *path;     /* of the snapshot */
    uint64_t bytes; /* of its files */
    size_t files;
};
struct hub_list {
    struct hub_entry *entry;
    size_t count, cap;
};
/* A cache that does not exist is empty. */
spt_status hub_list_cache(struct hub_list *out, spt_err *err);
void hub_list_release(struct hub_list *l); /* accepts an all-zero object */

#endif
