/* Where a model, a vocabulary or a prompt is that the user named: a path, or a name on the Hugging
 * Face hub, which becomes a directory of its cache (store/hub.h). All commands ask here. */
#ifndef SPT_RUN_PLACES_H
#define SPT_RUN_PLACES_H

#include "run/settings.h"
#include "store/hub.h"

/* The path (on the heap, mem_free) that `text` means; need: enum hub_need. What the cache lacks is
 * fetched, with a line of progress. s may be NULL. */
spt_status place_find(const struct settings *s, const char *text, unsigned need, char **path,
                      spt_err *err);
/* The same, asking the hub for a newer commit. */
spt_status place_refresh(const struct settings *s, const char *text, unsigned need, char **path,
                         spt_err *err);
/* The same for the vocabulary: that of --vocab ("bytes" stays), else of --model; SPT_E_USAGE when
 * neither is given. */
spt_status place_vocab(const struct settings *s, char **path, spt_err *err);
/* What a prompt remembers as the name of its base, on the heap: "org/name", or the last part of a
 * path. NULL: out of memory. */
char *place_name(const char *text);

#endif
