/* Words of texts as small integers, equal words equal integers, and counts of n-grams over them. */
#ifndef SPT_METRIC_WORDS_INTERNAL_H
#define SPT_METRIC_WORDS_INTERNAL_H

#include "base/buf.h"

#define GRAM_MAX 4

/* Words seen so far. Starts all-zero. */
struct word_table {
    buf pool;
    size_t *at; /* [count] start of each word in the pool */
    uint32_t *len;
    size_t count, at_cap, len_cap;
    uint32_t *bucket;
    size_t buckets;
};
void word_table_init(struct word_table *t);
void word_table_release(struct word_table *t);
void word_table_clear(struct word_table *t);
spt_status word_table_id(struct word_table *t, const char *s, size_t len, uint32_t *id,
                         spt_err *err);

/* A text as ids of its words. Starts all-zero. */
struct word_list {
    uint32_t *id;
    size_t len, cap;
};
void word_list_release(struct word_list *l);
spt_status word_list_add(struct word_list *l, uint32_t id, spt_err *err);
/* Appends the words of `s`, which are separated by Unicode white space. */
spt_status word_list_split(struct word_list *l, struct word_table *t, const char *s, size_t len,
                           spt_err *err);

/* n-grams of a text, sorted, each once with its count. Starts all-zero. */
struct gram {
    uint32_t id[GRAM_MAX]; /* unused places are 0 */
    uint32_t count;
};
struct gram_list {
    struct gram *g;
    size_t len, cap;
    size_t total; /* with repetitions */
};
void gram_list_release(struct gram_list *l);
spt_status gram_list_make(struct gram_list *l, const struct word_list *words, int n, spt_err *err);
/* Sum over the grams of a of min(count in a, count in b). */
size_t gram_overlap(const struct gram_list *a, const struct gram_list *b);
/* Order of grams by their words. */
int gram_compare(const struct gram *a, const struct gram *b);

#endif
