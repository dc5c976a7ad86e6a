/* vocab/spm_validate.c: a ModelProto is accepted whole or refused with a byte offset. The files are
 * composed here field by field, so that each has exactly one fault. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/protobuf.h"
#include "fs/fs.h"
#include "vocab/spm_validate.h"
#include "vocab/unigram.h"
#include "vocab/vocab.h"

static void add_piece(buf *b, const char *text, size_t len, float score, int64_t type)
{
    buf p;
    buf_init(&p, 1 << 20);
    pb_put_bytes(&p, 1, text, len);
    pb_put_float(&p, 2, score);
    if (type)
        pb_put_varint(&p, 3, (uint64_t)type);
    pb_put_bytes(b, 1, buf_str(&p), p.len);
    buf_release(&p);
}

static void add_text(buf *b, const char *text, float score, int64_t type)
{
    add_piece(b, text, strlen(text), score, type);
}

static void add_number(buf *b, uint32_t message, uint32_t field, uint64_t value)
{
    buf p;
    buf_init(&p, 64);
    pb_put_varint(&p, field, value);
    pb_put_bytes(b, message, buf_str(&p), p.len);
    buf_release(&p);
}

/* <pad> </s> <unk> U+2581 a b ab and so on. */
static void start(buf *b)
{
    buf_init(b, 1 << 24);
    add_text(b, "<pad>", 0, VOCAB_CONTROL);
    add_text(b, "</s>", 0, VOCAB_CONTROL);
    add_text(b, "<unk>", 0, VOCAB_UNKNOWN);
    add_text(b, "\xe2\x96\x81", -2, 0);
    add_text(b, "a", -3, 0);
    add_text(b, "b", -3, 0);
    add_text(b, "ab", -4, 0);
    add_text(b, "\xe2\x96\x81" "ab", -5, 0);
}

/* A trie with the one key "x" -> "yy": root 0, unit 'x' ... composed by the rules of Darts-clone. */
static void put_unit(unsigned char *units, size_t i, uint32_t u)
{
    for (int k = 0; k < 4; k++)
        units[4 * i + (size_t)k] = (unsigned char)(u >> 8 * k);
}
enum { UNITS = 768, BASE1 = 256, BASE2 = 512 };
static uint32_t unit_of(uint32_t label, uint32_t offset, bool leaf)
{
    return offset << 10 | (leaf ? 256u : 0) | label;
}

struct charsmap {
    unsigned char units[4 * UNITS];
    char pool[64];
    size_t pool_size;
};

static void make_charsmap(struct charsmap *c)
{
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < UNITS; i++)
        put_unit(c->units, i, 0x80000000u); /* a value: never a child */
    put_unit(c->units, 0, unit_of(0, BASE1, false)); /* the root: children at 256 ^ c */
    const size_t at = BASE1 ^ 'x';
    put_unit(c->units, at, unit_of('x', (uint32_t)at ^ BASE2, true)); /* its children at 512 ^ c */
    put_unit(c->units, BASE2, 0x80000000u); /* value 0 */
    memcpy(c->pool, "yy", 3);
    c->pool_size = 3;
}

static void add_charsmap(buf *b, const struct charsmap *c, uint32_t trie_bytes)
{
    buf blob, spec;
    buf_init(&blob, 1 << 20);
    buf_init(&spec, 1 << 20);
    buf_add(&blob, &trie_bytes, 4);
    buf_add(&blob, c->units, sizeof c->units);
    buf_add(&blob, c->pool, c->pool_size);
    pb_put_bytes(&spec, 2, blob.data, blob.len);
    pb_put_bytes(b, 3, spec.data, spec.len);
    buf_release(&blob);
    buf_release(&spec);
}

static spt_status parse(const buf *b, spt_err *err)
{
    struct spm_model m = {0};
    const spt_status st = spm_model_parse(buf_str(b), b->len, &m, err);
    if (st)
        EXPECT_TRUE(m.piece == NULL);
    spm_model_release(&m);
    return st;
}

static void expect_ok(buf *b)
{
    spt_err err = {0};
    EXPECT_OK(parse(b, &err), &err);
    buf_release(b);
}

static void expect_bad(buf *b, const char *part)
{
    spt_err err = {0};
    EXPECT_STATUS(parse(b, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, part);
    buf_release(b);
}

static void pieces_are_checked(void **state)
{
    buf b;
    char long_text[600];
    memset(long_text, 'q', sizeof long_text);
    start(&b);
    expect_ok(&b);
    start(&b), add_piece(&b, "", 0, -1, 0), expect_bad(&b, "empty");
    start(&b), add_piece(&b, "a\0b", 3, -1, 0), expect_bad(&b, "not valid text");
    start(&b), add_text(&b, "\xff", -1, 0), expect_bad(&b, "not valid text");
    start(&b), add_text(&b, "\xed\xa0\x80", -1, 0), expect_bad(&b, "not valid text");
    start(&b), add_text(&b, "ab", -1, 0), expect_bad(&b, "same text");
    start(&b), add_text(&b, "c", NAN, 0), expect_bad(&b, "not finite");
    start(&b), add_text(&b, "c", INFINITY, 0), expect_bad(&b, "not finite");
    start(&b), add_text(&b, "c", -1, 7), expect_bad(&b, "unknown type 7");
    start(&b), add_text(&b, "c", -1, INT64_MAX), expect_bad(&b, "unknown type");
    start(&b), add_text(&b, "<u2>", -1, VOCAB_UNKNOWN), expect_bad(&b, "pieces 2 and 8");
    start(&b), add_text(&b, "<0x41>", -1, VOCAB_BYTE), expect_bad(&b, "byte fallback is off");
    start(&b), add_piece(&b, long_text, 512, -1, 0), expect_ok(&b);
    start(&b), add_piece(&b, long_text, 513, -1, 0), expect_bad(&b, "513 bytes");
    start(&b), add_text(&b, "unused", -1, VOCAB_UNUSED), expect_ok(&b);
    start(&b), add_text(&b, "user", -1, VOCAB_USER_DEFINED), expect_ok(&b);
    buf_init(&b, 1000), add_text(&b, "a", -1, 0), expect_bad(&b, "no unknown piece");
    buf_init(&b, 1000), add_text(&b, "<unk>", -1, VOCAB_UNKNOWN), expect_bad(&b, "no normal piece");
    buf_init(&b, 1000), add_number(&b, 2, 3, 1), expect_bad(&b, "not a SentencePiece model");
    buf_init(&b, 1000), expect_bad(&b, "empty file");
}

static void specs_are_checked(void **state)
{
    buf b;
    start(&b), add_number(&b, 2, 3, 1), expect_ok(&b);
    start(&b), add_number(&b, 2, 3, 2), expect_bad(&b, "a BPE model");
    start(&b), add_number(&b, 2, 3, 3), expect_bad(&b, "a word model");
    start(&b), add_number(&b, 2, 3, 0), expect_bad(&b, "a 0 model");
    start(&b), add_number(&b, 2, 3, UINT64_MAX), expect_bad(&b, "a nameless model");
    start(&b), add_number(&b, 2, 24, 1), expect_bad(&b, "suffix");
    start(&b), add_number(&b, 2, 35, 1), expect_bad(&b, "needs 256 byte pieces, 0");
    start(&b), add_number(&b, 2, 43, UINT64_MAX), expect_ok(&b); /* pad_id -1 */
    start(&b), add_number(&b, 2, 42, INT64_MAX), expect_ok(&b);
    start(&b), add_number(&b, 99, 1, 5), expect_ok(&b);          /* unknown fields are skipped */
    start(&b), pb_put_bytes(&b, 2, "\x08", 1), expect_bad(&b, "damaged trainer spec");
    start(&b), pb_put_bytes(&b, 3, "\x12\x05\x01", 3), expect_bad(&b, "damaged normaliser spec");
    start(&b), pb_put_bytes(&b, 1, "\x0a\x7f", 2), expect_bad(&b, "damaged piece");
    start(&b), pb_put_bytes(&b, 5, "\x12\x01z", 3), expect_bad(&b, "denormaliser");
    start(&b), buf_addc(&b, '\x0a'), expect_bad(&b, "damaged field");
}

static void byte_pieces_are_checked(void **state)
{
    buf b;
    for (int missing = -1; missing < 2; missing++) {
        start(&b);
        add_number(&b, 2, 35, 1);
        for (int i = 0; i < 256; i++) {
            char text[16];
            snprintf(text, sizeof text, i == 65 && missing == 1 ? "<0x4g>" : "<0x%02X>", i);
            if (i != 77 || missing)
                add_text(&b, text, 0, VOCAB_BYTE);
        }
        if (missing < 0)
            expect_ok(&b);
        else
            expect_bad(&b, missing ? "is no <0x00>" : "255 are there");
    }
}

static void with_charsmap(const struct charsmap *c, uint32_t trie_bytes, const char *part)
{
    buf b;
    start(&b);
    add_charsmap(&b, c, trie_bytes);
    if (part)
        expect_bad(&b, part);
    else
        expect_ok(&b);
}

static void the_character_map_is_walked(void **state)
{
    struct charsmap c;
    const size_t x = BASE1 ^ 'x';
    make_charsmap(&c);
    with_charsmap(&c, sizeof c.units, NULL);
    static const uint32_t sizes[] = {0, 1, 4, 1020, 1023, 3073, sizeof c.units + 3, 0x7fffffff,
                                     0x80000000, UINT32_MAX, UINT32_MAX - 3};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        with_charsmap(&c, sizes[i], "character map of");
    make_charsmap(&c), put_unit(c.units, 0, unit_of(0, 768, false));
    with_charsmap(&c, sizeof c.units, "unit 0 points outside the array");
    make_charsmap(&c), put_unit(c.units, 0, 0xfffffe00u);
    with_charsmap(&c, sizeof c.units, "points outside the array");
    make_charsmap(&c), put_unit(c.units, x, unit_of('x', (uint32_t)x ^ 768, false));
    with_charsmap(&c, sizeof c.units, "points outside the array");
    make_charsmap(&c), put_unit(c.units, BASE2, 0x80000003u);
    with_charsmap(&c, sizeof c.units, "points outside the strings");
    make_charsmap(&c), put_unit(c.units, BASE2, 0xffffffffu);
    with_charsmap(&c, sizeof c.units, "points outside the strings");
    make_charsmap(&c), put_unit(c.units, BASE2, 0x80000002u); /* the empty string */
    with_charsmap(&c, sizeof c.units, NULL);
    make_charsmap(&c), memcpy(c.pool, "\xc3\xa4", 3), put_unit(c.units, BASE2, 0x80000001u);
    with_charsmap(&c, sizeof c.units, "points into a character");
    make_charsmap(&c), c.pool[0] = '\xff';
    with_charsmap(&c, sizeof c.units, "not valid text");
    make_charsmap(&c), c.pool_size = 2;
    with_charsmap(&c, sizeof c.units, "not valid text"); /* no NUL at the end */
    make_charsmap(&c), put_unit(c.units, x, unit_of('x', (uint32_t)x ^ BASE1, true));
    put_unit(c.units, BASE1, 0x80000000u); /* its children are the root's: x x x ... */
    with_charsmap(&c, sizeof c.units, "leads back to itself");
}

static void long_replacements_are_refused(void **state)
{
    /* the pool of a hand-made blob, larger than struct charsmap has room for */
    for (int len = 256; len <= 257; len++) {
        struct charsmap c;
        buf b, blob, spec;
        const uint32_t trie = sizeof c.units;
        make_charsmap(&c);
        start(&b);
        buf_init(&blob, 1 << 20);
        buf_init(&spec, 1 << 20);
        buf_add(&blob, &trie, 4);
        buf_add(&blob, c.units, sizeof c.units);
        for (int i = 0; i < len; i++)
            buf_addc(&blob, 'y');
        buf_addc(&blob, 0);
        pb_put_bytes(&spec, 2, blob.data, blob.len);
        pb_put_bytes(&b, 3, spec.data, spec.len);
        buf_release(&blob);
        buf_release(&spec);
        if (len == 256)
            expect_ok(&b);
        else
            expect_bad(&b, "too long");
    }
}

static void every_cut_is_an_error_or_a_model(void **state)
{
    struct charsmap c;
    buf b;
    make_charsmap(&c);
    start(&b);
    add_charsmap(&b, &c, sizeof c.units);
    size_t refused = 0;
    for (size_t n = 0; n <= b.len; n++) {
        unsigned char *exact = malloc(n + 1); /* so that the sanitizer sees every overrun */
        memcpy(exact, b.data, n);
        struct spm_model m = {0};
        spt_err err = {0};
        const spt_status st = spm_model_parse(exact, n, &m, &err);
        EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
        EXPECT_TRUE(err.offset <= n);
        refused += st != SPT_OK;
        spm_model_release(&m);
        free(exact);
    }
    EXPECT_TRUE(refused > b.len * 9 / 10);
    buf_release(&b);
}

static spt_status open_and_use(void *ctx, spt_err *err)
{
    const buf *b = ctx;
    vocab *v = NULL;
    struct vocab_ids ids = {0};
    buf text;
    TRY(vocab_open_memory(b->data, b->len, "test.model", NULL, &v, err));
    buf_init(&text, 1000);
    spt_status st = vocab_encode(v, "abxab \xff", 7, &ids, err);
    if (!st)
        st = vocab_append_eos(v, &ids, err);
    if (!st)
        st = vocab_decode(v, ids.id, ids.count, &text, err);
    vocab_ids_release(&ids);
    buf_release(&text);
    vocab_close(v);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    struct charsmap c;
    buf b;
    make_charsmap(&c);
    start(&b);
    add_charsmap(&b, &c, sizeof c.units);
    EXPECT_TRUE(fault_every_alloc(open_and_use, &b) >= 9);
    buf_release(&b);
}

static void the_map_is_applied(void **state)
{
    struct charsmap c;
    struct spm_model m;
    struct unigram u;
    spt_err err = {0};
    buf b, out;
    make_charsmap(&c);
    start(&b);
    add_charsmap(&b, &c, sizeof c.units);
    EXPECT_OK(spm_model_parse(b.data, b.len, &m, &err), &err);
    EXPECT_OK(unigram_init(&u, &m, 0, false, &err), &err);
    buf_init(&out, 1000);
    EXPECT_OK(unigram_normalize(&u, "  xa  \xff x ", 10, (struct unigram_mode){0}, &out, &err), &err);
    EXPECT_STR(buf_str(&out), "\xe2\x96\x81yya\xe2\x96\x81\xef\xbf\xbd\xe2\x96\x81yy");
    unigram_release(&u);
    spm_model_release(&m);
    buf_release(&b);
    buf_release(&out);
}

/* reliability.md C6: at most 16 n + 1 MB, for shapes that cost most per byte. */
static void memory_is_bounded(void **state)
{
    for (int kind = 0; kind < 3; kind++) {
        buf b;
        spt_err err = {0};
        vocab *v = NULL;
        buf_init(&b, 1 << 26);
        add_text(&b, "<unk>", 0, VOCAB_UNKNOWN);
        add_text(&b, "</s>", 0, VOCAB_CONTROL);
        srand(7);
        for (int i = 0; i < (kind == 2 ? 4000 : 60000); i++) {
            char text[512];
            if (kind == 0) /* many short ones without scores */
                snprintf(text, sizeof text, "%x", i + 4096);
            else if (kind == 1)
                snprintf(text, sizeof text, "%x%x", rand(), i);
            else /* long ones that share nothing */
                for (int k = 0; k < 500; k++)
                    text[k] = (char)('a' + rand() % 26), text[k + 1] = 0;
            buf p;
            buf_init(&p, 1000);
            pb_put_string(&p, 1, text);
            pb_put_bytes(&b, 1, p.data, p.len);
            buf_release(&p);
        }
        fault_install();
        EXPECT_OK(vocab_open_memory(b.data, b.len, "big.model", NULL, &v, &err), &err);
        const size_t peak = fault_peak_bytes();
        print_message("model of %zu bytes: peak %zu (%.1f n)\n", b.len, peak,
                      (double)peak / (double)b.len);
        EXPECT_TRUE(peak <= 16 * b.len + (1 << 20));
        vocab_close(v);
        fault_remove();
        buf_release(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_checked),
        cmocka_unit_test(specs_are_checked),
        cmocka_unit_test(byte_pieces_are_checked),
        cmocka_unit_test(the_character_map_is_walked),
        cmocka_unit_test(long_replacements_are_refused),
        cmocka_unit_test(every_cut_is_an_error_or_a_model),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(the_map_is_applied),
        cmocka_unit_test(memory_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
