/* Why everything is checked here: libsentencepiece trusts a model file. Trie and string offsets of
 * the charsmap are used as they stand (CVE-2026-1260 and its kin), results beyond a fixed number
 * overrun a stack array, a replacement string may expand text without limit, and a cyclic trie
 * makes each position cost the whole text. All of it is decided once, at open, in time linear in
 * the file, so that neither the library nor our own encoder meets a surprise later.
 *
 * What is refused although the library would load it: pieces of invalid UTF-8, keys, pieces and
 * replacements beyond the limits above, cycles in the trie, denormalisers, and white space as a
 * suffix. No T5 vocabulary has any of these. */
#include "vocab/spm_validate.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "codec/protobuf.h"
#include "text/utf8.h"
#include "vocab/vocab.h"

enum { UNIGRAM = 1 };

/* --- the message --------------------------------------------------------------------------- */

static spt_status damaged(const cursor *c, size_t base, const char *what, spt_err *err)
{
    const size_t at = base + cursor_offset(c);
    return err_at(err, SPT_E_FORMAT, at, "SentencePiece model: damaged %s at byte %zu", what, at);
}

static size_t offset_in(const struct spm_model *m, const unsigned char *p)
{
    return (size_t)(p - m->bytes);
}

static spt_status parse_piece(const struct spm_model *m, const pb_field *msg, uint32_t id,
                              struct spm_piece *out, spt_err *err)
{
    const size_t at = offset_in(m, msg->data);
    cursor c = pb_message(msg);
    pb_field f;
    struct spm_piece p = {.type = VOCAB_NORMAL};
    while (pb_next(&c, &f)) {
        if (f.number == 1 && f.wire == PB_BYTES) {
            if (f.size > SPM_MAX_PIECE)
                return err_at(err, SPT_E_FORMAT, at,
                              "SentencePiece model: piece %u has %zu bytes, the limit is %d (byte "
                              "%zu)",
                              id, f.size, SPM_MAX_PIECE, at);
            p.offset = f.size ? (uint32_t)offset_in(m, f.data) : 0;
            p.len = (uint32_t)f.size;
        } else if (f.number == 2 && f.wire == PB_FIXED32) {
            p.score = pb_float(&f);
        } else if (f.number == 3 && f.wire == PB_VARINT) {
            if (f.value < VOCAB_NORMAL || f.value > VOCAB_BYTE)
                return err_at(err, SPT_E_FORMAT, at,
                              "SentencePiece model: piece %u has the unknown type %llu (byte %zu)",
                              id, (unsigned long long)f.value, at);
            p.type = (uint32_t)f.value;
        }
    }
    if (!cursor_ok(&c))
        return damaged(&c, at, "piece", err);
    const char *text = (const char *)m->bytes + p.offset;
    if (!p.len || memchr(text, 0, p.len) || !utf8_valid(text, p.len))
        return err_at(err, SPT_E_FORMAT, at, "SentencePiece model: piece %u %s (byte %zu)", id,
                      p.len ? "is not valid text" : "is empty", at);
    if (!isfinite(p.score))
        return err_at(err, SPT_E_FORMAT, at,
                      "SentencePiece model: piece %u has a score that is not finite (byte %zu)", id,
                      at);
    *out = p;
    return SPT_OK;
}

static spt_status parse_trainer(struct spm_model *m, const pb_field *msg, spt_err *err)
{
    const size_t at = msg->size ? offset_in(m, msg->data) : 0;
    cursor c = pb_message(msg);
    pb_field f;
    while (pb_next(&c, &f)) {
        if (f.number == 44 && f.wire == PB_BYTES) {
            if (f.size > SPM_MAX_SURFACE || !utf8_valid(f.data, f.size) ||
                (f.size && memchr(f.data, 0, f.size)))
                return err_at(err, SPT_E_FORMAT, at,
                              "SentencePiece model: the surface of the unknown piece is not text of "
                              "at most %d bytes (byte %zu)",
                              SPM_MAX_SURFACE, at);
            if (f.size)
                memcpy(m->unk_surface, f.data, f.size);
            m->unk_surface[f.size] = 0;
            continue;
        }
        if (f.wire != PB_VARINT)
            continue;
        if (f.number == 3 && f.value != UNIGRAM) {
            static const char *const name[] = {"0", "unigram", "BPE", "word", "char"};
            return err_at(err, SPT_E_FORMAT, at,
                          "SentencePiece model: a %s model; T5 needs a unigram model",
                          f.value < 5 ? name[f.value] : "nameless");
        }
        if (f.number == 24 && f.value)
            return err_at(err, SPT_E_FORMAT, at,
                          "SentencePiece model: white space as a suffix is not supported");
        if (f.number == 35)
            m->byte_fallback = f.value != 0;
        /* int32 fields: the low half counts, negative numbers come as ten bytes */
        if (f.number == 42)
            m->eos_id = (int32_t)(uint32_t)f.value;
        if (f.number == 43)
            m->pad_id = (int32_t)(uint32_t)f.value;
    }
    return cursor_ok(&c) ? SPT_OK : damaged(&c, at, "trainer spec", err);
}

static spt_status parse_normalizer(struct spm_model *m, const pb_field *msg, bool denormalizer,
                                   const unsigned char **charsmap, size_t *charsmap_size,
                                   spt_err *err)
{
    const size_t at = msg->size ? offset_in(m, msg->data) : 0;
    cursor c = pb_message(msg);
    pb_field f;
    while (pb_next(&c, &f)) {
        if (f.number == 2 && f.wire == PB_BYTES) {
            if (denormalizer && f.size)
                return err_at(err, SPT_E_FORMAT, at,
                              "SentencePiece model: a denormaliser is not supported");
            *charsmap = f.data;
            *charsmap_size = f.size;
        }
        if (f.wire != PB_VARINT || denormalizer)
            continue;
        if (f.number == 3)
            m->add_dummy_prefix = f.value != 0;
        if (f.number == 4)
            m->remove_extra_whitespaces = f.value != 0;
        if (f.number == 5)
            m->escape_whitespaces = f.value != 0;
    }
    return cursor_ok(&c) ? SPT_OK : damaged(&c, at, "normaliser spec", err);
}

static spt_status count_pieces(struct spm_model *m, spt_err *err)
{
    cursor c = cursor_make(m->bytes, m->size);
    pb_field f;
    size_t n = 0;
    while (pb_next(&c, &f))
        n += f.number == 1 && f.wire == PB_BYTES;
    if (!cursor_ok(&c))
        return damaged(&c, 0, "field", err);
    if (!n || n > SPM_MAX_PIECES)
        return err_set(err, SPT_E_FORMAT,
                       n ? "SentencePiece model: %zu pieces, the limit is %d"
                         : "not a SentencePiece model: %zu pieces (limit %d)",
                       n, SPM_MAX_PIECES);
    m->piece = mem_alloc(n, sizeof *m->piece);
    m->sorted = mem_alloc(n, sizeof *m->sorted);
    if (!m->piece || !m->sorted)
        return err_nomem(err, n * sizeof *m->piece);
    m->count = (uint32_t)n;
    return SPT_OK;
}

/* --- pieces as a set ----------------------------------------------------------------------- */

static int compare_pieces(const struct spm_model *m, uint32_t a, uint32_t b)
{
    const struct spm_piece *x = &m->piece[a], *y = &m->piece[b];
    const uint32_t n = x->len < y->len ? x->len : y->len;
    const int d = memcmp(m->bytes + x->offset, m->bytes + y->offset, n);
    return d ? d : (x->len > y->len) - (x->len < y->len);
}

/* Merge sort over the first eight bytes of each text, which decide nearly always: n log n on any
 * input, and the compared keys lie side by side (250,000 pieces: 80 ms for the whole parse
 * instead of 520 with ids sorted in place). */
struct sort_key {
    uint64_t head; /* big endian, filled up with zeros: no text holds a NUL */
    uint32_t id;
};

static uint64_t head_of(const struct spm_model *m, uint32_t id)
{
    const struct spm_piece *p = &m->piece[id];
    uint64_t head = 0;
    for (uint32_t i = 0; i < 8; i++)
        head = head << 8 | (i < p->len ? m->bytes[p->offset + i] : 0u);
    return head;
}

static bool comes_after(const struct spm_model *m, const struct sort_key *a,
                        const struct sort_key *b)
{
    return a->head != b->head ? a->head > b->head : compare_pieces(m, a->id, b->id) > 0;
}

static void merge(const struct spm_model *m, const struct sort_key *from, size_t a, size_t mid,
                  size_t end, struct sort_key *to)
{
    size_t b = mid;
    for (size_t k = a; k < end; k++) {
        const bool left = a < mid && (b >= end || !comes_after(m, &from[a], &from[b]));
        to[k] = left ? from[a++] : from[b++];
    }
}

static size_t at_most(size_t x, size_t n)
{
    return x < n ? x : n;
}

static spt_status sort_pieces(struct spm_model *m, spt_err *err)
{
    const size_t n = m->count;
    struct sort_key *keys = mem_alloc(2 * n, sizeof *keys);
    if (!keys)
        return err_nomem(err, 2 * n * sizeof *keys);
    struct sort_key *from = keys, *to = keys + n;
    for (uint32_t i = 0; i < n; i++)
        from[i] = (struct sort_key){head_of(m, i), i};
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t a = 0; a < n; a += 2 * run)
            merge(m, from, a, at_most(a + run, n), at_most(a + 2 * run, n), to);
        struct sort_key *t = from;
        from = to;
        to = t;
    }
    for (size_t i = 0; i < n; i++)
        m->sorted[i] = from[i].id;
    mem_free(keys);
    return SPT_OK;
}

static spt_status check_bytes(const struct spm_model *m, spt_err *err)
{
    bool seen[256] = {0};
    int n = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct spm_piece *p = &m->piece[i];
        if (p->type != VOCAB_BYTE)
            continue;
        const char *t = (const char *)m->bytes + p->offset;
        static const char hex[] = "0123456789ABCDEF";
        const char *hi = p->len == 6 ? memchr(hex, t[3], 16) : NULL;
        const char *lo = p->len == 6 ? memchr(hex, t[4], 16) : NULL;
        if (!hi || !lo || memcmp(t, "<0x", 3) != 0 || t[5] != '>' || !m->byte_fallback)
            return err_at(err, SPT_E_FORMAT, p->offset,
                          "SentencePiece model: piece %u %s (byte %u)", i,
                          m->byte_fallback ? "is no <0x00> .. <0xFF>"
                                           : "stands for a byte although byte fallback is off",
                          p->offset);
        n += !seen[(hi - hex) * 16 + (lo - hex)];
        seen[(hi - hex) * 16 + (lo - hex)] = true;
    }
    if (m->byte_fallback && n != 256)
        return err_set(err, SPT_E_FORMAT,
                       "SentencePiece model: byte fallback needs 256 byte pieces, %d are there", n);
    return SPT_OK;
}

static spt_status check_pieces(struct spm_model *m, spt_err *err)
{
    uint32_t unknown = 0, normal = 0;
    m->min_score = FLT_MAX;
    m->max_score = FLT_MIN;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct spm_piece *p = &m->piece[i];
        if (p->type == VOCAB_UNKNOWN && unknown++)
            return err_at(err, SPT_E_FORMAT, p->offset,
                          "SentencePiece model: pieces %u and %u are both the unknown piece",
                          m->unk_id, i);
        if (p->type == VOCAB_UNKNOWN)
            m->unk_id = i;
        if (p->type != VOCAB_NORMAL)
            continue;
        normal++;
        m->min_score = p->score < m->min_score ? p->score : m->min_score;
        m->max_score = p->score > m->max_score ? p->score : m->max_score;
    }
    if (!unknown || !normal)
        return err_set(err, SPT_E_FORMAT, "SentencePiece model: no %s piece among %u",
                       unknown ? "normal" : "unknown", m->count);
    TRY(sort_pieces(m, err));
    for (uint32_t i = 1; i < m->count; i++)
        if (!compare_pieces(m, m->sorted[i - 1], m->sorted[i]))
            return err_at(err, SPT_E_FORMAT, m->piece[m->sorted[i]].offset,
                          "SentencePiece model: pieces %u and %u have the same text",
                          m->sorted[i - 1], m->sorted[i]);
    return check_bytes(m, err);
}

/* --- the charsmap -------------------------------------------------------------------------- */

/* What lies below a unit that is used as a node. Darts-clone shares equal subtrees, so units are
 * reached on many paths: each is explored once, and its height carries over. */
struct trie_node {
    uint8_t state; /* 0 unknown, TRIE_OPEN on the current path, TRIE_DONE */
    uint8_t keys;  /* most keys on one path from here, this unit included */
    uint8_t height; /* most bytes on one path behind this unit */
};
enum { TRIE_OPEN = 1, TRIE_DONE = 2 };

struct trie_walk {
    size_t at;   /* the node; the root's is not used */
    size_t base; /* block of its children */
    int next;    /* label to try next */
    int keys, height; /* so far, of the children */
    bool leaf;
};

static spt_status bad_trie(const struct spm_model *m, size_t unit, const char *why, spt_err *err)
{
    const size_t at = offset_in(m, m->units) + 4 * unit;
    return err_at(err, SPT_E_FORMAT, at, "SentencePiece model: character map: unit %zu %s (byte %zu)",
                  unit, why, at);
}

static spt_status check_value(const struct spm_model *m, size_t unit, spt_err *err)
{
    const uint32_t value = spm_unit(m, unit) & 0x7fffffffu;
    if (value >= m->pool_size)
        return bad_trie(m, unit, "points outside the strings", err);
    const char *s = m->pool + value;
    const size_t left = m->pool_size - value;
    const size_t look = left < SPM_MAX_REPLACEMENT + 1 ? left : SPM_MAX_REPLACEMENT + 1;
    if (!memchr(s, 0, look))
        return bad_trie(m, unit, "has a replacement that is too long", err);
    if (((unsigned char)*s & 0xc0) == 0x80)
        return bad_trie(m, unit, "points into a character", err);
    return SPT_OK;
}

/* Opens the node at `at` as the next level of the path. */
static spt_status enter_node(const struct spm_model *m, struct trie_node *nodes, size_t at,
                             struct trie_walk *w, spt_err *err)
{
    const uint32_t u = spm_unit(m, at);
    const size_t base = at ^ spm_unit_offset(u);
    if ((base | 255) >= m->unit_count)
        return bad_trie(m, at, "points outside the array", err);
    *w = (struct trie_walk){.at = at, .base = base, .leaf = spm_unit_has_leaf(u)};
    nodes[at].state = TRIE_OPEN;
    return w->leaf ? check_value(m, base, err) : SPT_OK;
}

static void take_child(struct trie_walk *w, const struct trie_node *child)
{
    w->keys = child->keys > w->keys ? child->keys : w->keys;
    w->height = child->height + 1 > w->height ? child->height + 1 : w->height;
}

/* Depth-first over everything that a walk of any text can read, each unit once. */
static spt_status walk_trie(const struct spm_model *m, struct trie_node *nodes, spt_err *err)
{
    struct trie_walk stack[SPM_MAX_KEY + 1];
    int depth = 0;
    const size_t root = spm_unit_offset(spm_unit(m, 0));
    if ((root | 255) >= m->unit_count)
        return bad_trie(m, 0, "points outside the array", err);
    stack[0] = (struct trie_walk){.base = root};
    for (;;) {
        struct trie_walk *w = &stack[depth];
        if (w->height > SPM_MAX_KEY - 1 || w->keys > SPM_MAX_NESTED)
            return bad_trie(m, w->at, "belongs to a key that is too long or nested too deeply", err);
        if (w->next > 255) {
            if (depth-- == 0)
                return SPT_OK;
            struct trie_node *n = &nodes[w->at];
            *n = (struct trie_node){TRIE_DONE, (uint8_t)(w->keys + w->leaf), (uint8_t)w->height};
            take_child(&stack[depth], n);
            continue;
        }
        const uint32_t label = (uint32_t)w->next++;
        const size_t at = w->base ^ label;
        if (spm_unit_label(spm_unit(m, at)) != label)
            continue;
        if (nodes[at].state == TRIE_DONE) {
            take_child(w, &nodes[at]);
            continue;
        }
        if (nodes[at].state == TRIE_OPEN || depth == SPM_MAX_KEY)
            return bad_trie(m, at, depth == SPM_MAX_KEY ? "belongs to a key that is too long"
                                                        : "leads back to itself", err);
        TRY(enter_node(m, nodes, at, &stack[++depth], err));
    }
}

static spt_status check_charsmap(struct spm_model *m, const unsigned char *blob, size_t size,
                                 spt_err *err)
{
    if (!size)
        return SPT_OK;
    const size_t at = offset_in(m, blob);
    cursor c = cursor_make(blob, size);
    const size_t trie = cursor_u32le(&c);
    if (!cursor_ok(&c) || trie % 4 || trie < 1024 || trie >= cursor_left(&c))
        return err_at(err, SPT_E_FORMAT, at,
                      "SentencePiece model: character map of %zu bytes with a trie of %zu (byte %zu)",
                      size, trie, at);
    m->units = blob + 4;
    m->unit_count = trie / 4;
    m->pool = (const char *)blob + 4 + trie;
    m->pool_size = size - 4 - trie;
    if (m->pool[m->pool_size - 1] != 0 || !utf8_valid(m->pool, m->pool_size))
        return err_at(err, SPT_E_FORMAT, at,
                      "SentencePiece model: the strings of the character map are not valid text "
                      "(byte %zu)",
                      at + 4 + trie);
    struct trie_node *nodes = mem_zalloc(m->unit_count, sizeof *nodes);
    if (!nodes)
        return err_nomem(err, m->unit_count * sizeof *nodes);
    const spt_status st = walk_trie(m, nodes, err);
    mem_free(nodes);
    return st;
}

/* --- all of it ----------------------------------------------------------------------------- */

static spt_status parse(struct spm_model *m, spt_err *err)
{
    const unsigned char *charsmap = NULL, *none = NULL;
    size_t charsmap_size = 0, none_size = 0;
    TRY(count_pieces(m, err));
    cursor c = cursor_make(m->bytes, m->size);
    pb_field f;
    uint32_t id = 0;
    while (pb_next(&c, &f)) {
        if (f.wire != PB_BYTES)
            continue;
        if (f.number == 1) {
            TRY(parse_piece(m, &f, id, &m->piece[id], err));
            id++;
        } else if (f.number == 2) {
            TRY(parse_trainer(m, &f, err));
        } else if (f.number == 3) {
            TRY(parse_normalizer(m, &f, false, &charsmap, &charsmap_size, err));
        } else if (f.number == 5) {
            TRY(parse_normalizer(m, &f, true, &none, &none_size, err));
        }
    }
    TRY(check_pieces(m, err));
    return check_charsmap(m, charsmap, charsmap_size, err);
}

spt_status spm_model_parse(const void *bytes, size_t size, struct spm_model *out, spt_err *err)
{
    if (!size || size > SPM_MAX_FILE)
        return err_set(err, SPT_E_FORMAT, size ? "%zu bytes are too many for a SentencePiece model"
                                               : "an empty file is not a SentencePiece model (%zu)",
                       size);
    struct spm_model m = {
        .bytes = bytes,
        .size = size,
        .add_dummy_prefix = true,
        .remove_extra_whitespaces = true,
        .escape_whitespaces = true,
        .eos_id = 2, /* defaults of TrainerSpec */
        .pad_id = -1,
        .unk_surface = " \xe2\x81\x87 ",
    };
    const spt_status st = parse(&m, err);
    if (st)
        spm_model_release(&m);
    else
        *out = m;
    return st;
}

void spm_model_release(struct spm_model *m)
{
    mem_free(m->piece);
    mem_free(m->sorted);
    *m = (struct spm_model){0};
}

spt_status spm_model_for_library(const struct spm_model *m, int extra_ids, bool ascending, buf *out,
                                 spt_err *err)
{
    cursor c = cursor_make(m->bytes, m->size);
    pb_field f;
    while (pb_next(&c, &f))
        if (f.wire == PB_BYTES && f.number <= 3)
            pb_put_bytes(out, f.number, f.data, f.size);
    for (int i = 0; i < extra_ids; i++) {
        char piece[32], message[64];
        const int n = snprintf(piece, sizeof piece, "\xe2\x96\x81<extra_id_%d>",
                               ascending ? i : extra_ids - 1 - i);
        /* piece = 1, score = 2 (0.0), type = 3 (USER_DEFINED) */
        const int len = snprintf(message, sizeof message, "\x0a%c%s\x15", n, piece);
        memcpy(message + len, "\0\0\0\0\x18\x04", 6);
        pb_put_bytes(out, 1, message, (size_t)len + 6);
    }
    return buf_status(out, "SentencePiece model", err);
}
