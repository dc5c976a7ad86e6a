/* The Hugging Face rules (spec/interop.md section 4.4): added tokens are cut out of the text first,
 * what lies between them is segmented piece by piece.
 *
 * Slow (T5Tokenizer): sentinels swallow white space beside them. legacy: each piece of text is
 * encoded as a text of its own, with a prefix. Otherwise the whole text gets one U+2581 in front,
 * and pieces are encoded without a prefix, behind a "<unk>" that protects leading spaces and is cut
 * off again: its tricks are reproduced, not idealised.
 * Fast (T5TokenizerFast): nothing is swallowed, words are segmented one by one; legacy puts the
 * prefix in front of every piece of text, otherwise only at the start. */
#include <string.h>

#include "base/mem.h"
#include "text/utf8.h"
#include "vocab/vocab_internal.h"

static const char SPACE[] = "\xe2\x96\x81";
enum { SPACE_LEN = 3 };

const struct hf_added *vocab_added_by_id(const vocab *v, int32_t id)
{
    for (size_t i = 0; i < v->hf.added_count; i++)
        if (v->hf.added[i].id == id)
            return &v->hf.added[i];
    return NULL;
}

static const struct hf_added *longest_at(const vocab *v, const char *p, const char *end)
{
    const struct hf_added *best = NULL;
    for (size_t i = 0; i < v->hf.added_count; i++) {
        const struct hf_added *a = &v->hf.added[i];
        if (a->len <= (size_t)(end - p) && (!best || a->len > best->len) &&
            !memcmp(p, a->text, a->len))
            best = a;
    }
    return best;
}

/* The next added token at or behind p; NULL: none. */
static const struct hf_added *next_added(const vocab *v, const char *p, const char *end,
                                         const char **at)
{
    for (; p < end; p++) {
        if (!v->added_first[(unsigned char)*p])
            continue;
        const struct hf_added *a = longest_at(v, p, end);
        if (a) {
            *at = p;
            return a;
        }
    }
    *at = end;
    return NULL;
}

/* What Python's str.strip() takes. */
static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static const char *skip_spaces(const char *p, const char *end)
{
    uint32_t cp;
    while (p < end) {
        const size_t n = utf8_decode(p, end, &cp);
        if (!n || !is_space(cp))
            break;
        p += n;
    }
    return p;
}

static const char *cut_spaces(const char *p, const char *end)
{
    uint32_t cp;
    while (p < end) {
        const char *q = end - 1;
        while (q > p && end - q < 4 && ((unsigned char)*q & 0xc0) == 0x80)
            q--;
        if (utf8_decode(q, end, &cp) != (size_t)(end - q) || !is_space(cp))
            break;
        end = q;
    }
    return end;
}

/* One piece of text between added tokens. */
typedef spt_status (*piece_fn)(const vocab *v, const char *text, size_t len, bool first,
                               struct vocab_ids *out, spt_err *err);

static spt_status encode_cut(const vocab *v, const char *text, size_t len, piece_fn piece,
                             struct vocab_ids *out, spt_err *err)
{
    const char *p = text, *end = text + len;
    while (p < end) {
        const char *at;
        const struct hf_added *a = next_added(v, p, end, &at);
        const char *piece_end = a && a->lstrip ? cut_spaces(p, at) : at;
        if (piece_end > p)
            TRY(piece(v, p, (size_t)(piece_end - p), p == text, out, err));
        if (!a)
            break;
        TRY(vocab_ids_reserve(out, 1, err));
        out->id[out->count++] = a->id;
        p = at + a->len;
        if (a->rstrip)
            p = skip_spaces(p, end);
    }
    return SPT_OK;
}

static spt_status piece_plain(const vocab *v, const char *text, size_t len, bool first,
                              struct vocab_ids *out, spt_err *err)
{
    (void)first;
    return unigram_encode(&v->uni, text, len, (struct unigram_mode){.sums = UNIGRAM_SINGLE}, out,
                          err);
}

static spt_status piece_fast(const vocab *v, const char *text, size_t len, bool first,
                             struct vocab_ids *out, spt_err *err)
{
    const struct unigram_mode mode = {
        .fast = true,
        .no_dummy_prefix = !v->legacy && !first,
        .keep_spaces = v->hf.keep_spaces,
    };
    return unigram_encode(&v->uni, text, len, mode, out, err);
}

static spt_status piece_bytes(const vocab *v, const char *text, size_t len, bool first,
                              struct vocab_ids *out, spt_err *err)
{
    (void)first;
    return vocab_bytes_encode(v, text, len, out, err);
}

static const struct unigram_mode no_prefix = {.no_dummy_prefix = true, .sums = UNIGRAM_SINGLE};

static spt_status piece_slow(const vocab *v, const char *text, size_t len, bool first,
                             struct vocab_ids *out, spt_err *err)
{
    (void)first;
    const bool protect = *text == ' ' || (len >= SPACE_LEN && !memcmp(text, SPACE, SPACE_LEN));
    if (!protect)
        return unigram_encode(&v->uni, text, len, no_prefix, out, err);
    static const char unk[] = "<unk>";
    const size_t n = sizeof unk - 1, before = out->count;
    char *joined = mem_alloc(len + n, 1);
    if (!joined)
        return err_nomem(err, len + n);
    memcpy(joined, unk, n);
    memcpy(joined + n, text, len);
    const spt_status st = unigram_encode(&v->uni, joined, len + n, no_prefix, out, err);
    mem_free(joined);
    TRY(st);
    if (out->count - before >= v->unk_skip) {
        memmove(out->id + before, out->id + before + v->unk_skip,
                (out->count - before - v->unk_skip) * sizeof *out->id);
        out->count -= v->unk_skip;
    }
    return SPT_OK;
}

/* The text starts with nothing but the mark in front of a special token: the mark goes. */
static bool mark_alone(const vocab *v, const char *marked, size_t n)
{
    const char *at;
    const struct hf_added *a = next_added(v, marked, marked + n, &at);
    if (!a || !a->special)
        return false;
    const char *end = a->lstrip ? cut_spaces(marked, at) : at;
    return end - marked == SPACE_LEN;
}

/* U+2581 in front, every other U+2581 becomes a space. */
static spt_status encode_slow_new(const vocab *v, const char *text, size_t len,
                                  struct vocab_ids *out, spt_err *err)
{
    const size_t before = out->count;
    char *marked = mem_alloc(len + SPACE_LEN, 1);
    if (!marked)
        return err_nomem(err, len + SPACE_LEN);
    memcpy(marked, SPACE, SPACE_LEN);
    size_t n = SPACE_LEN;
    for (size_t i = 0; i < len;) {
        if (len - i >= SPACE_LEN && !memcmp(text + i, SPACE, SPACE_LEN)) {
            marked[n++] = ' ';
            i += SPACE_LEN;
        } else {
            marked[n++] = text[i++];
        }
    }
    const spt_status st = encode_cut(v, marked, n, piece_slow, out, err);
    const bool drop = mark_alone(v, marked, n);
    mem_free(marked);
    TRY(st);
    int32_t *id = out->id + before;
    if (drop && out->count - before > 1 && id[0] == v->space_id) {
        memmove(id, id + 1, (out->count - before - 1) * sizeof *id);
        out->count--;
    }
    return SPT_OK;
}

spt_status vocab_hf_encode(const vocab *v, const char *text, size_t len, struct vocab_ids *out,
                           spt_err *err)
{
    if (!len)
        return SPT_OK;
    if (v->rule == VOCAB_BYTES_HF)
        return encode_cut(v, text, len, piece_bytes, out, err);
    if (v->rule == VOCAB_HF_FAST)
        return encode_cut(v, text, len, piece_fast, out, err);
    return v->legacy ? encode_cut(v, text, len, piece_plain, out, err)
                     : encode_slow_new(v, text, len, out, err);
}
