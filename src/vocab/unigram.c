/* SentencePiece normalisation and unigram segmentation.
 *
 * Why not only the library: it makes two protobuf strings per piece (100,000 SST-2 sentences per
 * second here, this does several times that), allocates behind our back, and cannot be asked for
 * the Hugging Face variants. libsentencepiece stays the definition: tests and tools/crosscheck
 * compare both on millions of lines, and vocab_opts.use_library takes it instead.
 *
 * Exactness. The library sums float32 along the whole text, and sums decide ties such as "-" "--"
 * against "--" "-". Up to 0.2.0 (SeqIO's, and Debian's) an unrounded double candidate is compared
 * with the stored float; since 0.2.3 both are float. 0.5 % of lines of random Unicode differ between
 * the two, no line of SST-2; enum unigram_sums says which. It is also why there is no cache of
 * words: the running sum in front of a word may change the rounding behind it.
 * What *is* exact: when no piece holds U+2581 behind its first character, no piece crosses the front
 * of a word, every path passes there, and its best path is final. So a word's ids can be emitted
 * and only the running sum carried on; the table stays as small as the longest word.
 *
 * Cost. A text of n bytes takes at most n * (longest piece) steps, whatever it holds: a word of
 * 200,000 characters is no special case. Memory: normalised text (at most SPM_MAX_REPLACEMENT bytes
 * per byte, for hostile files; at most about 18 for real ones) and 12 bytes per byte of the longest
 * word. */
#include "vocab/unigram.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "text/regex.h"
#include "text/utf8.h"

static const char SPACE[] = "\xe2\x96\x81"; /* U+2581 */
enum { SPACE_LEN = 3 };
/* Ids and positions are int32 in SentencePiece; no text that large is a text. */
#define MAX_TEXT ((size_t)1 << 30)

/* --- the tree of pieces -------------------------------------------------------------------- */

static uint32_t home(const struct unigram *u, uint32_t edge)
{
    uint64_t h = (edge ^ u->seed) * UINT64_C(0x9e3779b97f4a7c15);
    h ^= h >> 32;
    return (uint32_t)(((h & 0xffffffffu) * u->slots) >> 32);
}

/* The slot of the edge, or UNIGRAM_EMPTY. */
static inline uint32_t child(const struct unigram *u, uint32_t parent, unsigned char byte)
{
    const uint32_t edge = parent << 8 | byte;
    for (uint32_t s = home(u, edge);;) {
        const uint32_t e = u->slot[s].edge;
        if (e == edge)
            return s;
        if (e == UNIGRAM_EMPTY)
            return UNIGRAM_EMPTY;
        if (++s == u->slots)
            s = 0;
    }
}

static uint32_t add_child(struct unigram *u, uint32_t parent, unsigned char byte)
{
    const uint32_t edge = parent << 8 | byte;
    uint32_t s = home(u, edge);
    while (u->slot[s].edge != UNIGRAM_EMPTY) {
        if (u->slot[s].edge == edge)
            return s;
        if (++s == u->slots)
            s = 0;
    }
    u->slot[s].edge = edge;
    return s;
}

/* CONTROL, UNKNOWN and BYTE pieces never match text, UNUSED ones are skipped. */
static bool in_text(const struct spm_piece *p)
{
    return p->type == VOCAB_NORMAL || p->type == VOCAB_USER_DEFINED;
}

/* Edges of the tree: each text adds what it does not share with its neighbour in sorted order. */
static size_t count_edges(const struct spm_model *m)
{
    size_t n = 0;
    const unsigned char *before = NULL;
    size_t before_len = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct spm_piece *p = &m->piece[m->sorted[i]];
        if (!in_text(p))
            continue;
        const unsigned char *t = m->bytes + p->offset;
        size_t same = 0;
        while (same < p->len && same < before_len && t[same] == before[same])
            same++;
        n += p->len - same;
        before = t;
        before_len = p->len;
    }
    return n;
}

static void add_piece(struct unigram *u, const char *text, size_t len, uint32_t piece)
{
    uint32_t at = u->root;
    for (size_t i = 0; i < len; i++)
        at = add_child(u, at, (unsigned char)text[i]);
    u->slot[at].piece = piece;
    if (piece & UNIGRAM_USER)
        u->user_first[(unsigned char)text[0]] = true;
    for (size_t i = SPACE_LEN; i + SPACE_LEN <= len; i++)
        if (!memcmp(text + i, SPACE, SPACE_LEN))
            u->word_bound = false;
}

static size_t extra_text(const struct unigram *u, int k, char text[32])
{
    return (size_t)snprintf(text, 32, "%s<extra_id_%d>", SPACE,
                            u->extra_ascending ? k : u->extra_ids - 1 - k);
}

static spt_status build_tree(struct unigram *u, spt_err *err)
{
    const struct spm_model *m = u->m;
    size_t edges = count_edges(m);
    for (int k = 0; k < u->extra_ids; k++) {
        char text[32];
        edges += extra_text(u, k, text);
    }
    /* Half empty for speed; fuller when the file is mostly long pieces, so that 16 bytes per byte
     * of the file are never exceeded. */
    size_t slots = 2 * edges;
    const size_t bound = m->size / 2 + 16384;
    if (slots > bound)
        slots = edges + edges / 8 > bound ? edges + edges / 8 : bound;
    if (slots >= (size_t)1 << 24)
        return err_set(err, SPT_E_FORMAT, "SentencePiece model: %zu different prefixes of pieces are "
                       "too many (limit %d)", edges, 1 << 24);
    u->slot = mem_alloc(slots, sizeof *u->slot);
    if (!u->slot)
        return err_nomem(err, slots * sizeof *u->slot);
    for (size_t i = 0; i < slots; i++)
        u->slot[i] = (struct unigram_slot){.edge = UNIGRAM_EMPTY};
    u->slots = (uint32_t)slots;
    u->root = (uint32_t)slots;
    u->word_bound = m->escape_whitespaces;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct spm_piece *p = &m->piece[i];
        if (in_text(p))
            add_piece(u, (const char *)m->bytes + p->offset, p->len,
                      (i + 1) | (p->type == VOCAB_USER_DEFINED ? UNIGRAM_USER : 0));
    }
    for (int k = 0; k < u->extra_ids; k++) {
        char text[32];
        const size_t n = extra_text(u, k, text);
        add_piece(u, text, n, (m->count + 1 + (uint32_t)k) | UNIGRAM_USER);
    }
    for (int b = 0; b < 256; b++)
        u->first[b] = child(u, u->root, (unsigned char)b);
    uint32_t at = u->root;
    for (int i = 0; i < SPACE_LEN && at != UNIGRAM_EMPTY; i++)
        at = child(u, at, (unsigned char)SPACE[i]);
    u->space = at;
    return SPT_OK;
}

/* --- the character map --------------------------------------------------------------------- */

/* Longest key at p (Darts-clone walk); its replacement, or NULL. */
static const char *map_longest(const struct spm_model *m, const char *p, const char *end,
                               size_t *key_len)
{
    const char *found = NULL;
    if (!m->units)
        return NULL;
    size_t at = spm_unit_offset(spm_unit(m, 0));
    for (const char *q = p; q < end;) {
        const unsigned char c = (unsigned char)*q++;
        at ^= c;
        const uint32_t unit = spm_unit(m, at);
        if (spm_unit_label(unit) != c)
            break;
        at ^= spm_unit_offset(unit);
        if (spm_unit_has_leaf(unit)) {
            found = m->pool + (spm_unit(m, at) & 0x7fffffffu);
            *key_len = (size_t)(q - p);
        }
    }
    return found;
}

/* Shortest key at p; its replacement, or NULL. */
static const char *map_shortest(const struct spm_model *m, const char *p, const char *end)
{
    if (!m->units)
        return NULL;
    size_t at = spm_unit_offset(spm_unit(m, 0));
    for (; p < end; p++) {
        const unsigned char c = (unsigned char)*p;
        const uint32_t unit = spm_unit(m, at ^ c);
        if (spm_unit_label(unit) != c)
            return NULL;
        at ^= c ^ spm_unit_offset(unit);
        if (spm_unit_has_leaf(unit))
            return m->pool + (spm_unit(m, at) & 0x7fffffffu);
    }
    return NULL;
}

/* What an ASCII character becomes when no longer key can start with it and the byte behind it. */
static void prepare_ascii(struct unigram *u)
{
    const struct spm_model *m = u->m;
    for (int c = 0; c < 128; c++) {
        char *self = &u->self[c];
        size_t key = 0;
        *self = (char)c;
        const char *to = map_longest(m, self, self + 1, &key);
        u->ascii[c].text = to ? to : self;
        u->ascii[c].len = to ? (uint32_t)strlen(to) : 1;
        if (!m->units)
            continue;
        size_t at = spm_unit_offset(spm_unit(m, 0)) ^ (size_t)c;
        if (spm_unit_label(spm_unit(m, at)) != (uint32_t)c)
            continue;
        at ^= spm_unit_offset(spm_unit(m, at));
        for (uint32_t d = 0; d < 256; d++)
            if (spm_unit_label(spm_unit(m, at ^ d)) == d)
                u->continues[c][d / 32] |= 1u << d % 32;
    }
}

/* Longest user-defined piece that stands here literally; 0: none. */
static size_t user_defined_at(const struct unigram *u, const char *p, const char *end)
{
    size_t found = 0;
    uint32_t at = u->first[(unsigned char)*p];
    for (const char *q = p + 1; at != UNIGRAM_EMPTY; q++) {
        if (u->slot[at].piece & UNIGRAM_USER)
            found = (size_t)(q - p);
        if (q == end)
            break;
        at = child(u, at, (unsigned char)*q);
    }
    return found;
}

/* Replacement of the prefix at p: text and length; returns how much of the input it takes. */
static size_t next_prefix(const struct unigram *u, const char *p, const char *end, const char **to,
                          size_t *to_len)
{
    const unsigned char c = (unsigned char)*p;
    if (u->user_first[c]) {
        const size_t n = user_defined_at(u, p, end);
        if (n) {
            *to = p;
            *to_len = n;
            return n;
        }
    }
    if (c < 128 && (p + 1 == end || !(u->continues[c][(unsigned char)p[1] / 32] >>
                                          ((unsigned char)p[1] % 32) & 1))) {
        *to = u->ascii[c].text;
        *to_len = u->ascii[c].len;
        return 1;
    }
    size_t n = 0;
    *to = map_longest(u->m, p, end, &n);
    if (*to) {
        *to_len = strlen(*to);
        return n;
    }
    uint32_t cp;
    n = utf8_decode(p, end, &cp);
    *to = n ? p : "\xef\xbf\xbd";
    *to_len = n ? n : 3;
    return n ? n : 1;
}

/* --- normalisation ------------------------------------------------------------------------- */

/* Working storage: one block that grows, normalised text first, then the table of a word. */
struct work {
    struct vocab_ids *ids;
    size_t len; /* of the normalised text */
    spt_err *err;
};

static char *work_text(const struct work *w)
{
    return w->ids->scratch;
}

static spt_status work_reserve(struct work *w, size_t need)
{
    struct vocab_ids *s = w->ids;
    if (need <= s->scratch_cap)
        return SPT_OK;
    const size_t cap = need + (need < 65536 ? need / 2 + 1024 : need / 8);
    void *p = mem_realloc(s->scratch, cap, 1);
    if (!p)
        return err_nomem(w->err, cap);
    s->scratch = p;
    s->scratch_cap = cap;
    return SPT_OK;
}

/* Appends with every space as U+2581 (or as it is); room for 3 * len was made. */
static size_t put_escaped(char *out, const char *s, size_t len, bool escape)
{
    char *o = out;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == ' ' && escape) {
            memcpy(o, SPACE, SPACE_LEN);
            o += SPACE_LEN;
        } else {
            *o++ = s[i];
        }
    }
    return (size_t)(o - out);
}

static bool is_mark(const char *s, size_t len)
{
    return len >= SPACE_LEN && !memcmp(s, SPACE, SPACE_LEN);
}

static bool ends_with_space(const char *text, size_t len)
{
    return len >= SPACE_LEN && !memcmp(text + len - SPACE_LEN, SPACE, SPACE_LEN);
}

static void cut_trailing_spaces(struct work *w, bool escape)
{
    const char *t = work_text(w);
    if (escape)
        while (ends_with_space(t, w->len))
            w->len -= SPACE_LEN;
    else
        while (w->len && t[w->len - 1] == ' ')
            w->len--;
}

static const char *skip_leading_spaces(const struct unigram *u, const char *p, const char *end)
{
    const char *to;
    size_t to_len;
    while (p < end) {
        const size_t n = next_prefix(u, p, end, &to, &to_len);
        if (to_len != 1 || *to != ' ')
            break;
        p += n;
    }
    return p;
}

/* spec/data.md section 3.2, "Assembly". */
static spt_status normalize(const struct unigram *u, const char *text, size_t len,
                            struct unigram_mode mode, struct work *w)
{
    const struct spm_model *m = u->m;
    const bool squeeze = m->remove_extra_whitespaces, escape = m->escape_whitespaces;
    const char *p = text, *end = text + len;
    w->len = 0;
    if (squeeze)
        p = skip_leading_spaces(u, p, end);
    if (p == end)
        return SPT_OK;
    TRY(work_reserve(w, 3 * (len + 1) + SPACE_LEN));
    if (m->add_dummy_prefix && !mode.no_dummy_prefix)
        w->len += put_escaped(work_text(w), " ", 1, escape);
    bool after_space = squeeze;
    while (p < end) {
        const char *to;
        size_t to_len;
        p += next_prefix(u, p, end, &to, &to_len);
        while (after_space && to_len && *to == ' ') {
            to++;
            to_len--;
        }
        if (to_len) {
            TRY(work_reserve(w, w->len + 3 * (to_len + (size_t)(end - p))));
            w->len += put_escaped(work_text(w) + w->len, to, to_len, escape);
            after_space = squeeze && to[to_len - 1] == ' ';
        }
        if (!squeeze)
            after_space = false;
    }
    if (squeeze)
        cut_trailing_spaces(w, escape);
    return SPT_OK;
}

/* The character map as the fast tokenizer applies it: a grapheme cluster of less than six bytes is
 * replaced whole by its shortest key, anything else character by character. */
struct clusters {
    regex *one;        /* \X, compiled when first needed */
    const char *until; /* end of the cluster that is taken character by character */
    spt_status st;     /* out of memory */
};

enum { CLUSTER_WINDOW = 64, CLUSTER_MAX = 5 };

static size_t cluster_len(struct clusters *c, const char *p, const char *end)
{
    struct regex_span span;
    bool matched;
    const size_t left = (size_t)(end - p);
    if (left < 2 || ((unsigned char)p[0] < 128 && (unsigned char)p[1] < 128))
        return 1;
    const size_t n = utf8_valid_prefix(p, left < CLUSTER_WINDOW ? left : CLUSTER_WINDOW);
    if (!n)
        return 1;
    if (!c->one)
        c->st = regex_compile("\\X", 2, 0, &c->one, NULL);
    if (!c->st)
        c->st = regex_match(c->one, p, n, &matched, &span, 1, NULL);
    return !c->st && matched && span.end ? span.end : 1;
}

static size_t next_cluster(const struct unigram *u, struct clusters *c, const char *p,
                           const char *end, const char **to, size_t *to_len)
{
    uint32_t cp;
    if (p >= c->until) {
        const size_t n = cluster_len(c, p, end);
        *to = n <= CLUSTER_MAX ? map_shortest(u->m, p, p + n) : NULL;
        *to_len = *to ? strlen(*to) : 0;
        if (*to)
            return n;
        c->until = p + n;
    }
    const size_t n = utf8_decode(p, end, &cp);
    *to = n ? map_shortest(u->m, p, p + n) : "\xef\xbf\xbd";
    *to_len = *to ? strlen(*to) : n;
    *to = *to ? *to : p;
    return n ? n : 1;
}

/* Appends the replaced text; spaces wait in *spaces until something follows. */
static void put_fast(struct work *w, const char *to, size_t to_len, struct unigram_mode mode,
                     size_t *spaces, bool *first)
{
    for (size_t i = 0; i < to_len; i++) {
        if (to[i] == ' ' && !mode.keep_spaces) {
            ++*spaces;
            continue;
        }
        char *o = work_text(w);
        const bool mark = to[i] == ' ' || is_mark(to + i, to_len - i);
        if (*spaces || (*first && !mode.no_dummy_prefix && !mark)) {
            memcpy(o + w->len, SPACE, SPACE_LEN);
            w->len += SPACE_LEN;
        }
        w->len += put_escaped(o + w->len, to + i, 1, true);
        *spaces = 0;
        *first = false;
    }
}

/* The fast tokenizer works on the replaced text: trailing white space goes, runs of two or more
 * spaces become one mark, a single space becomes one, and a mark is put in front unless one is
 * there. (spec/interop.md section 4.5: Precompiled, Strip, Replace, Metaspace.) */
static spt_status normalize_fast(const struct unigram *u, const char *text, size_t len,
                                 struct unigram_mode mode, struct work *w)
{
    const char *p = text, *end = text + len;
    struct clusters c = {0};
    size_t spaces = 0;
    bool first = true;
    w->len = 0;
    spt_status st = work_reserve(w, 3 * (len + 1) + SPACE_LEN);
    while (p < end && !st) {
        const char *to;
        size_t to_len;
        p += next_cluster(u, &c, p, end, &to, &to_len);
        st = work_reserve(w, w->len + 3 * (to_len + 2) + 3 * (size_t)(end - p));
        if (c.st)
            st = err_set(w->err, c.st, "cannot split a text into grapheme clusters");
        if (!st)
            put_fast(w, to, to_len, mode, &spaces, &first);
    }
    regex_free(c.one);
    return st;
}

/* --- segmentation -------------------------------------------------------------------------- */

struct node { /* best path that ends at a position */
    double score;  /* holds a float unless sums are double */
    int32_t start; /* -1: not reached yet */
    int32_t id;
};

spt_status vocab_ids_reserve(struct vocab_ids *out, size_t more, spt_err *err)
{
    if (more > MAX_TEXT || out->count > MAX_TEXT)
        return err_set(err, SPT_E_FORMAT, "a text of more than %zu ids", MAX_TEXT);
    return mem_grow(&out->id, &out->cap, out->count + more, sizeof *out->id, 2 * MAX_TEXT, err);
}

static size_t char_len(const char *p, const char *end)
{
    static const unsigned char by_high[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    const size_t n = by_high[(unsigned char)*p >> 4];
    return n < (size_t)(end - p) ? n : (size_t)(end - p);
}

/* Offers every piece that starts at `start` to the nodes behind it. */
static inline void offer_pieces(const struct unigram *u, const char *text, const char *end,
                                struct node *nodes, int32_t start, enum unigram_sums sums)
{
    const char *p = text + start;
    const double here = nodes[start].score;
    const size_t one = char_len(p, end);
    bool single = false;
    const char *q = p;
    uint32_t at;
    if (u->space != UNIGRAM_EMPTY && end - p >= SPACE_LEN && !memcmp(p, SPACE, SPACE_LEN)) {
        at = u->space; /* shorter prefixes of it are no characters and thus no pieces */
        q += SPACE_LEN;
    } else {
        at = u->first[(unsigned char)*q++];
    }
    while (at != UNIGRAM_EMPTY) {
        const uint32_t piece = u->slot[at].piece;
        if (piece) {
            const size_t n = (size_t)(q - p);
            const uint32_t id = (piece & ~UNIGRAM_USER) - 1;
            const double score = piece & UNIGRAM_USER
                                     ? (double)((float)n * u->m->max_score) - 0.1
                                     : (double)u->score[id];
            double candidate = score + here;
            if (sums == UNIGRAM_SINGLE)
                candidate = (double)(float)candidate;
            struct node *to = &nodes[start + (int32_t)n];
            if (to->start < 0 || candidate > to->score) {
                const double kept = sums == UNIGRAM_DOUBLE ? candidate : (double)(float)candidate;
                *to = (struct node){kept, start, (int32_t)id};
            }
            single |= n == one;
        }
        if (q == end)
            break;
        at = child(u, at, (unsigned char)*q++);
    }
    if (!single) {
        struct node *to = &nodes[start + (int32_t)one];
        const double sum = (double)u->unk_score + here;
        const double candidate = sums == UNIGRAM_DOUBLE ? sum : (double)(float)sum;
        if (to->start < 0 || candidate > to->score)
            *to = (struct node){candidate, start, (int32_t)u->m->unk_id};
    }
}

/* Appends the best path of the word, merging runs of the unknown id. */
static void take_path(const struct unigram *u, const struct node *nodes, int32_t len, bool merge,
                      struct vocab_ids *out)
{
    int32_t *ids = out->id + out->count;
    size_t n = 0;
    for (int32_t at = len; at > 0; at = nodes[at].start)
        ids[n++] = nodes[at].id;
    for (size_t i = 0; i < n / 2; i++) {
        const int32_t t = ids[i];
        ids[i] = ids[n - 1 - i];
        ids[n - 1 - i] = t;
    }
    const int32_t unk = (int32_t)u->m->unk_id;
    bool after_unk = merge && out->count && ids[-1] == unk;
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == unk && after_unk)
            continue;
        after_unk = ids[i] == unk;
        ids[kept++] = ids[i];
    }
    out->count += kept;
}

/* End of the word that starts at p: the next mark behind its own. */
static const char *word_end(const struct unigram *u, const char *p, const char *end)
{
    if (!u->word_bound)
        return end;
    for (p++; (p = memchr(p, SPACE[0], (size_t)(end - p))) != NULL; p++)
        if (end - p >= SPACE_LEN && !memcmp(p, SPACE, SPACE_LEN))
            return p;
    return end;
}

static spt_status segment(const struct unigram *u, struct unigram_mode mode, struct work *w)
{
    const size_t table = (w->len + 15) / 16 * 16; /* behind the text, aligned */
    size_t pos = 0, room = 0;
    double sum = 0;
    const enum unigram_sums sums = mode.fast ? UNIGRAM_DOUBLE : mode.sums;
    while (pos < w->len) {
        const char *text = work_text(w) + pos;
        const size_t n = (size_t)(word_end(u, text, work_text(w) + w->len) - text);
        if (n > room) {
            room = n + 64;
            TRY(work_reserve(w, table + (room + 1) * sizeof(struct node)));
            text = work_text(w) + pos;
        }
        TRY(vocab_ids_reserve(w->ids, n, w->err));
        struct node *nodes = (struct node *)(void *)(work_text(w) + table);
        nodes[0] = (struct node){.score = mode.fast ? 0 : sum};
        for (size_t i = 1; i <= n; i++)
            nodes[i].start = -1;
        for (size_t i = 0; i < n; i += char_len(text + i, text + n))
            offer_pieces(u, text, text + n, nodes, (int32_t)i, sums);
        sum = nodes[n].score;
        take_path(u, nodes, (int32_t)n, pos > 0 && !mode.fast, w->ids);
        pos += n;
    }
    return SPT_OK;
}

static spt_status run_normalize(const struct unigram *u, const char *text, size_t len,
                                struct unigram_mode mode, struct work *w)
{
    w->len = 0;
    if (len > MAX_TEXT)
        return err_set(w->err, SPT_E_FORMAT, "a text of %zu bytes is too long (limit %zu)", len,
                       MAX_TEXT);
    TRY(mode.fast ? normalize_fast(u, text, len, mode, w) : normalize(u, text, len, mode, w));
    return w->len > MAX_TEXT ? err_set(w->err, SPT_E_FORMAT, "a text of %zu bytes grows to %zu", len,
                                       w->len)
                             : SPT_OK;
}

spt_status unigram_encode(const struct unigram *u, const char *text, size_t len,
                          struct unigram_mode mode, struct vocab_ids *out, spt_err *err)
{
    const size_t before = out->count;
    struct work w = {.ids = out, .err = err};
    spt_status st = run_normalize(u, text, len, mode, &w);
    if (!st && w.len)
        st = segment(u, mode, &w);
    if (st)
        out->count = before;
    return st;
}

spt_status unigram_normalize(const struct unigram *u, const char *text, size_t len,
                             struct unigram_mode mode, buf *out, spt_err *err)
{
    struct vocab_ids ids = {0};
    struct work w = {.ids = &ids, .err = err};
    spt_status st = run_normalize(u, text, len, mode, &w);
    if (!st && w.len)
        buf_add(out, ids.scratch, w.len);
    if (!st)
        st = buf_status(out, "normalised text", err);
    vocab_ids_release(&ids);
    return st;
}

/* --- life ---------------------------------------------------------------------------------- */

spt_status unigram_init(struct unigram *u, const struct spm_model *m, int extra_ids,
                        bool extra_ascending, spt_err *err)
{
    *u = (struct unigram){
        .m = m,
        .extra_first = (int32_t)m->count,
        .extra_ids = extra_ids,
        .extra_ascending = extra_ascending,
        .unk_score = m->min_score - 10.0f,
        .seed = (uint32_t)m->size * 0x85ebca6bu,
    };
    for (size_t i = 0; i < m->size; i++) /* moves with the file: nobody can aim at our table */
        u->seed = (u->seed ^ m->bytes[i]) * 0x01000193u;
    u->score = mem_alloc(m->count, sizeof *u->score);
    spt_status st = u->score ? build_tree(u, err) : err_nomem(err, m->count * sizeof *u->score);
    if (st) {
        unigram_release(u);
        return st;
    }
    for (uint32_t i = 0; i < m->count; i++)
        u->score[i] = m->piece[i].score;
    prepare_ascii(u);
    return SPT_OK;
}

void unigram_release(struct unigram *u)
{
    mem_free(u->slot);
    mem_free(u->score);
    *u = (struct unigram){0};
}

size_t unigram_bytes(const struct unigram *u)
{
    return u->slots * sizeof *u->slot + (u->m ? u->m->count * sizeof *u->score : 0);
}

void vocab_ids_release(struct vocab_ids *ids)
{
    mem_free(ids->id);
    mem_free(ids->scratch);
    *ids = (struct vocab_ids){0};
}
