/* From options to a search: which one, with what limits, stop texts and forced beginnings. Whatever
 * is impossible is refused before the weights are read. */
#ifndef SPT_RUN_GENERATE_H
#define SPT_RUN_GENERATE_H

#include "decode/decode.h"
#include "run/engine.h"

struct generation {
    struct decode_opts opts; /* key: of the seed; start and end ids of the model */
    const struct engine *engine;
    char **stop; /* texts that end an answer; each is cut off */
    size_t stops;
    int32_t *forced; /* [forced_len], as decode_batch wants it for one example; NULL: free */
    int64_t forced_len;
    uint32_t seed;
};

/* Options alone, before anything is opened: an option that the search does not know is SPT_E_USAGE,
 * an impossible value SPT_E_CONFIG. */
spt_status generation_check(const struct settings *s, spt_err *err);
/* The same and what depends on vocabulary and model (engine_open is enough). */
spt_status generation_open(const struct settings *s, const struct engine *e, struct generation *out,
                           spt_err *err);
void generation_close(struct generation *g); /* accepts an all-zero object */
/* True when an option of decoding was given: answers are decoded although there are labels. */
bool generation_asked(const struct settings *s);
/* "beam search, 4 beams" for messages. */
const char *generation_name(const struct generation *g);

/* The text up to the first stop text. */
size_t generation_cut(const struct generation *g, const char *text, size_t len);

#endif
