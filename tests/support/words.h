/* An encoder for tests: every word (split at spaces) is one id, 10 + a hash; a word that begins
 * with '~' is unknown; text comes back with single spaces, ids as known from encoding. */
#ifndef TESTS_SUPPORT_WORDS_H
#define TESTS_SUPPORT_WORDS_H

#include <string.h>

#include "data/encoder.h"

static inline spt_status words_encode(void *ctx, const char *text, size_t len, struct id_list *out,
                                      spt_err *err)
{
    size_t i = 0;
    while (i < len) {
        while (i < len && text[i] == ' ')
            i++;
        if (i == len)
            break;
        const size_t from = i;
        uint32_t h = 2166136261u;
        for (; i < len && text[i] != ' '; i++)
            h = (h ^ (unsigned char)text[i]) * 16777619u;
        const int32_t id = text[from] == '~' ? 2 : 10 + (int32_t)(h % 1000000);
        const spt_status st = id_list_add(out, &id, 1, err);
        if (st)
            return st;
    }
    return SPT_OK;
}

static inline struct data_encoder words_encoder(void)
{
    return (struct data_encoder){.encode = words_encode, .eos_id = 1, .unk_id = 2};
}

static inline int32_t word_id(const char *word)
{
    struct id_list l = {0};
    words_encode(NULL, word, strlen(word), &l, NULL);
    const int32_t id = l.id[0];
    id_list_release(&l);
    return id;
}

#endif
