/* Provenance as metadata strings, shared by the reader and the writers of prompt files. */
#ifndef SPT_PROMPT_PROMPT_INTERNAL_H
#define SPT_PROMPT_PROMPT_INTERNAL_H

#include "prompt/prompt.h"
#include "store/store.h"

#define PROMPT_META_PREFIX "spt."
#define PROMPT_META_FORMAT "spt.format"
#define PROMPT_META_VERSION "1"

/* Keys and values of a prompt, with the storage that holds the composed ones. */
struct prompt_meta {
    struct store_meta *item;
    size_t count;
    char *storage; /* one block: composed values */
};
spt_status prompt_meta_build(const struct prompt *p, struct prompt_meta *out, spt_err *err);
void prompt_meta_release(struct prompt_meta *m); /* accepts all-zero */

/* Fills use from the metadata of an open store; keys that are not ours are ignored, a newer format
 * version is warned about. `name` is for messages. */
spt_status prompt_meta_read(const store *s, const char *name, struct prompt_use *use, spt_err *err);

#endif
