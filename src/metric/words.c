#include <string.h>

#include "metric/words_internal.h"
#include "text/unicode.h"

#define POOL_MAX ((size_t)1 << 31)

void word_table_init(struct word_table *t)
{
    *t = (struct word_table){0};
    buf_init(&t->pool, POOL_MAX);
}

void word_table_release(struct word_table *t)
{
    buf_release(&t->pool);
    mem_free(t->at);
    mem_free(t->len);
    mem_free(t->bucket);
    *t = (struct word_table){0};
}

void word_table_clear(struct word_table *t)
{
    buf_clear(&t->pool);
    t->count = 0;
    if (t->bucket)
        memset(t->bucket, 0, t->buckets * sizeof *t->bucket);
}

static size_t hash_word(const char *s, size_t len)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

static size_t find_bucket(const struct word_table *t, const char *s, size_t len)
{
    size_t b = hash_word(s, len) & (t->buckets - 1);
    for (; t->bucket[b]; b = (b + 1) & (t->buckets - 1)) {
        const uint32_t id = t->bucket[b] - 1;
        if (t->len[id] == len && memcmp(t->pool.data + t->at[id], s, len) == 0)
            break;
    }
    return b;
}

static spt_status grow_buckets(struct word_table *t, spt_err *err)
{
    if (t->buckets && 2 * (t->count + 1) <= t->buckets)
        return SPT_OK;
    const size_t want = t->buckets ? 2 * t->buckets : 256;
    uint32_t *bucket = mem_realloc(t->bucket, want, sizeof *bucket);
    if (!bucket)
        return err_nomem(err, want * sizeof *bucket);
    t->bucket = bucket;
    t->buckets = want;
    memset(bucket, 0, want * sizeof *bucket);
    for (size_t i = 0; i < t->count; i++)
        bucket[find_bucket(t, t->pool.data + t->at[i], t->len[i])] = (uint32_t)i + 1;
    return SPT_OK;
}

spt_status word_table_id(struct word_table *t, const char *s, size_t len, uint32_t *id,
                         spt_err *err)
{
    TRY(grow_buckets(t, err));
    const size_t b = find_bucket(t, s, len);
    if (t->bucket[b]) {
        *id = t->bucket[b] - 1;
        return SPT_OK;
    }
    TRY(mem_grow(&t->at, &t->at_cap, t->count + 1, sizeof *t->at, UINT32_MAX, err));
    TRY(mem_grow(&t->len, &t->len_cap, t->count + 1, sizeof *t->len, UINT32_MAX, err));
    const size_t at = t->pool.len;
    buf_add(&t->pool, s, len);
    buf_addc(&t->pool, '\0');
    TRY(buf_status(&t->pool, "words", err));
    t->at[t->count] = at;
    t->len[t->count] = (uint32_t)len;
    t->bucket[b] = (uint32_t)++t->count;
    *id = (uint32_t)t->count - 1;
    return SPT_OK;
}

void word_list_release(struct word_list *l)
{
    mem_free(l->id);
    *l = (struct word_list){0};
}

spt_status word_list_add(struct word_list *l, uint32_t id, spt_err *err)
{
    TRY(mem_grow(&l->id, &l->cap, l->len + 1, sizeof *l->id, UINT32_MAX, err));
    l->id[l->len++] = id;
    return SPT_OK;
}

spt_status word_list_split(struct word_list *l, struct word_table *t, const char *s, size_t len,
                           spt_err *err)
{
    const char *end = s + len, *word = NULL;
    for (const char *p = s; p <= end;) {
        uint32_t cp = ' ';
        const size_t n = p < end ? unicode_next(p, end, &cp) : 1;
        if (unicode_is_space(cp)) {
            if (word) {
                uint32_t id;
                TRY(word_table_id(t, word, (size_t)(p - word), &id, err));
                TRY(word_list_add(l, id, err));
            }
            word = NULL;
        } else if (!word) {
            word = p;
        }
        if (p == end)
            break;
        p += n;
    }
    return SPT_OK;
}

void gram_list_release(struct gram_list *l)
{
    mem_free(l->g);
    *l = (struct gram_list){0};
}

int gram_compare(const struct gram *a, const struct gram *b)
{
    for (int i = 0; i < GRAM_MAX; i++)
        if (a->id[i] != b->id[i])
            return a->id[i] < b->id[i] ? -1 : 1;
    return 0;
}

static void sift_gram(struct gram *g, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && gram_compare(&g[child], &g[child + 1]) < 0)
            child++;
        if (gram_compare(&g[i], &g[child]) >= 0)
            return;
        const struct gram t = g[i];
        g[i] = g[child];
        g[child] = t;
    }
}

static void sort_grams(struct gram *g, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_gram(g, i, n);
    for (size_t end = n; end-- > 1;) {
        const struct gram t = g[0];
        g[0] = g[end];
        g[end] = t;
        sift_gram(g, 0, end);
    }
}

spt_status gram_list_make(struct gram_list *l, const struct word_list *words, int n, spt_err *err)
{
    l->len = 0;
    l->total = words->len >= (size_t)n ? words->len - (size_t)n + 1 : 0;
    TRY(mem_grow(&l->g, &l->cap, l->total + 1, sizeof *l->g, UINT32_MAX, err));
    for (size_t i = 0; i < l->total; i++) {
        struct gram g = {.count = 1};
        for (int k = 0; k < n; k++)
            g.id[k] = words->id[i + (size_t)k];
        l->g[i] = g;
    }
    sort_grams(l->g, l->total);
    for (size_t i = 0; i < l->total; i++) {
        if (l->len && gram_compare(&l->g[l->len - 1], &l->g[i]) == 0)
            l->g[l->len - 1].count++;
        else
            l->g[l->len++] = l->g[i];
    }
    return SPT_OK;
}

size_t gram_overlap(const struct gram_list *a, const struct gram_list *b)
{
    size_t common = 0;
    for (size_t i = 0, k = 0; i < a->len && k < b->len;) {
        const int c = gram_compare(&a->g[i], &b->g[k]);
        if (c == 0)
            common += a->g[i].count < b->g[k].count ? a->g[i].count : b->g[k].count;
        i += c <= 0;
        k += c >= 0;
    }
    return common;
}
