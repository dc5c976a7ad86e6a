/* Hugging Face's logits processors (transformers 4.46), in its order: repetition penalty, n-grams,
 * bad words, minimum length, forced EOS. They see the start token as the first of the sequence. */
#include <math.h>

#include "decode/decode_internal.h"

bool processors_needed(const struct decode_opts *o)
{
    return o->repetition_penalty != 1 || o->no_repeat_ngram > 0 || o->min_len > 0 ||
           o->forced_eos || o->bad_words.n > 0;
}

/* Token i of the sequence with its start token. */
static int32_t at(const struct decode_opts *o, const int32_t *tokens, int64_t i)
{
    return i == 0 ? o->start_id : tokens[i - 1];
}

static void ban(float *x, int64_t V, int32_t id)
{
    if (id >= 0 && id < V)
        x[id] = -INFINITY;
}

/* Once per distinct token: an earlier occurrence has done it already. */
static void repetition(const struct decode_opts *o, const int32_t *tokens, int64_t len, float *x,
                       int64_t V)
{
    const float penalty = (float)o->repetition_penalty;
    for (int64_t i = 0; i < len; i++) {
        const int32_t id = at(o, tokens, i);
        bool seen = id < 0 || id >= V;
        for (int64_t j = 0; j < i && !seen; j++)
            seen = at(o, tokens, j) == id;
        if (!seen)
            x[id] = x[id] < 0 ? x[id] * penalty : x[id] / penalty;
    }
}

/* Bans what would complete an n-gram that is already there. */
static void ngrams(const struct decode_opts *o, const int32_t *tokens, int64_t len, float *x,
                   int64_t V)
{
    const int64_t n = o->no_repeat_ngram;
    for (int64_t i = 0; i + n <= len; i++) {
        bool same = true;
        for (int64_t j = 0; j < n - 1 && same; j++)
            same = at(o, tokens, i + j) == at(o, tokens, len - n + 1 + j);
        if (same)
            ban(x, V, at(o, tokens, i + n - 1));
    }
}

static void bad_words(const struct decode_opts *o, const int32_t *tokens, int64_t len, float *x,
                      int64_t V)
{
    for (int64_t w = 0; w < o->bad_words.n; w++) {
        const int32_t *ids = o->bad_words.ids + o->bad_words.off[w];
        const int64_t n = o->bad_words.off[w + 1] - o->bad_words.off[w];
        bool same = n >= 1 && n - 1 <= len;
        for (int64_t j = 0; j < n - 1 && same; j++)
            same = at(o, tokens, len - n + 1 + j) == ids[j];
        if (same)
            ban(x, V, ids[n - 1]);
    }
}

void processors_apply(const struct decode_opts *o, const int32_t *tokens, int64_t n, float *x,
                      int64_t V)
{
    const int64_t len = n + 1;
    if (o->repetition_penalty != 1)
        repetition(o, tokens, len, x, V);
    if (o->no_repeat_ngram > 0)
        ngrams(o, tokens, len, x, V);
    bad_words(o, tokens, len, x, V);
    if (n < o->min_len)
        ban(x, V, o->eos_id);
    if (o->forced_eos && n == o->max_len - 1)
        for (int64_t i = 0; i < V; i++)
            x[i] = i == o->eos_id ? 0 : -INFINITY;
}
