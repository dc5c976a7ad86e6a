/* SQuAD and MRQA as published: the first byte picks the format and the size of the pieces in which the
 * source delivers. The records do not depend on the pieces, and every one has the fields of its set. */
#include "fuzz/fuzz.h"

#include "codec/digest.h"
#include "task/raw_qa.h"
#include "task/tf_example.h"

struct source {
    const uint8_t *p;
    size_t left, piece;
};

static spt_status give(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = s->left < n ? s->left : n;
    if (*got > s->piece)
        *got = s->piece;
    memcpy(p, s->p, *got);
    s->p += *got;
    s->left -= *got;
    return SPT_OK;
}

struct sum {
    sha256_state sha;
    uint64_t records;
    int kind;
};

static spt_status take(void *ctx, const char *key, record *r, spt_err *err)
{
    static const char *const need[3][4] = {
        {"id", "title", "context", "answers/text"},
        {"id", "is_impossible", "plausible_answers/text", "answers/answer_start"},
        {"qid", "subset", "context_tokens/tokens", "detected_answers/char_spans/end/ragged_row_lengths_0"}};
    struct sum *s = ctx;
    buf text;
    buf_init(&text, 64 << 20);
    for (int i = 0; i < 4; i++)
        FUZZ_CHECK(record_find(r, need[s->kind][i]));
    if (tf_example_write(r, &text, NULL) == SPT_OK)
        sha256_more(&s->sha, buf_str(&text), text.len);
    sha256_more(&s->sha, key, strlen(key));
    buf_release(&text);
    s->records++;
    return SPT_OK;
}

static spt_status run(int kind, const uint8_t *p, size_t n, size_t piece, uint8_t *out, uint64_t *records)
{
    struct source source = {p, n, piece};
    struct sum s = {.kind = kind};
    sha256_start(&s.sha);
    const spt_status st = kind < 2 ? raw_squad_stream(kind == 1, "x", give, &source, take, &s, NULL)
                                   : raw_mrqa_stream("train", "x", give, &source, take, &s, NULL);
    sha256_finish(&s.sha, out);
    *records = s.records;
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t a[SHA256_SIZE], b[SHA256_SIZE];
    uint64_t x, y;
    if (!size)
        return 0;
    const int kind = data[0] % 3;
    uint8_t *exact = malloc(size);
    memcpy(exact, data + 1, size - 1);
    fuzz_begin();
    const spt_status st = run(kind, exact, size - 1, SIZE_MAX, a, &x);
    FUZZ_CHECK(st == SPT_OK || st == SPT_E_FORMAT);
    FUZZ_CHECK(run(kind, exact, size - 1, 1 + data[0] / 3u % 40u, b, &y) == st);
    FUZZ_CHECK(x == y && memcmp(a, b, sizeof a) == 0);
    fuzz_end(size, 40 * size + (1 << 20)); /* trees of JSON nodes, in chunks */
    free(exact);
    return 0;
}
