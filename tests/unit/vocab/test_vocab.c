/* vocab/: finding a vocabulary, rules, bytes, checks of labels, threads, faults. The model is the
 * recorded demo vocabulary where it is there, else a small composed one. */
#define _GNU_SOURCE /* rand_r */
#include "support/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec/protobuf.h"
#include "fs/fs.h"
#include "vocab/vocab.h"

/* --- a composed vocabulary ------------------------------------------------------------------ */

static void add_piece(buf *b, const char *text, float score, int type)
{
    buf p;
    buf_init(&p, 1000);
    pb_put_string(&p, 1, text);
    pb_put_float(&p, 2, score);
    pb_put_varint(&p, 3, (uint64_t)type);
    pb_put_bytes(b, 1, p.data, p.len);
    buf_release(&p);
}

static void small_model(buf *b, bool with_sentinels)
{
    static const char *const normal[] = {"\xe2\x96\x81", "a", "b", "c", "ab",
                                         ("\xe2\x96\x81" "ab"), "<",
                                         "/", "s", ">", "\xce\xbb"};
    buf_init(b, 1 << 20);
    add_piece(b, "<pad>", 0, VOCAB_CONTROL);
    add_piece(b, "</s>", 0, VOCAB_CONTROL);
    add_piece(b, "<unk>", 0, VOCAB_UNKNOWN);
    for (size_t i = 0; i < sizeof normal / sizeof *normal; i++)
        add_piece(b, normal[i], -2.0f - (float)i / 8, VOCAB_NORMAL);
    for (int i = 1; with_sentinels && i >= 0; i--) {
        char text[32];
        snprintf(text, sizeof text, "\xe2\x96\x81<extra_id_%d>", i);
        add_piece(b, text, 0, VOCAB_USER_DEFINED);
    }
}

static const char *model_dir(bool with_sentinels)
{
    buf b;
    const char *dir = test_tmpdir();
    small_model(&b, with_sentinels);
    test_write(test_path(dir, "spiece.model"), b.data, b.len);
    buf_release(&b);
    return dir;
}

static void write_text(const char *path, const char *text)
{
    test_write(path, text, strlen(text));
}

static vocab *open_ok(const char *path, const struct vocab_opts *o)
{
    vocab *v = NULL;
    spt_err err = {0};
    EXPECT_OK(vocab_open(path, o, &v, &err), &err);
    return v;
}

static void expect_ids(const vocab *v, const char *text, const int32_t *want, size_t n)
{
    struct vocab_ids ids = {0};
    spt_err err = {0};
    EXPECT_OK(vocab_encode(v, text, strlen(text), &ids, &err), &err);
    EXPECT_OK(vocab_append_eos(v, &ids, &err), &err);
    if (ids.count != n)
        fail_msg("\"%s\": %zu ids, wanted %zu", text, ids.count, n);
    for (size_t i = 0; i < n; i++)
        if (ids.id[i] != want[i])
            fail_msg("\"%s\": id %zu is %d, wanted %d", text, i, ids.id[i], want[i]);
    vocab_ids_release(&ids);
}
#define IDS(v, text, ...) \
    expect_ids(v, text, (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / 4)

static void expect_text(const vocab *v, const int32_t *ids, size_t n, const char *want)
{
    buf b;
    spt_err err = {0};
    buf_init(&b, 1 << 20);
    EXPECT_OK(vocab_decode(v, ids, n, &b, &err), &err);
    EXPECT_STR(buf_str(&b), want);
    buf_release(&b);
}
#define TEXT(v, want, ...) \
    expect_text(v, (const int32_t[]){__VA_ARGS__}, sizeof((int32_t[]){__VA_ARGS__}) / 4, want)

/* --- finding -------------------------------------------------------------------------------- */

static void the_absent_vocabulary_lists_the_places(void **state)
{
    const char *dir = test_tmpdir();
    vocab *v = NULL;
    spt_err err = {0};
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "spiece.model");
    EXPECT_MSG(&err, "tokenizer.json");
    EXPECT_MSG(&err, "--vocab");
    EXPECT_MSG(&err, dir);
    EXPECT_STATUS(vocab_open(test_path(dir, "no"), NULL, &v, &err), SPT_E_NOTFOUND);
    char deep[1024];
    snprintf(deep, sizeof deep, "%s/checkpoint_3/", dir);
    EXPECT_OK(fs_make_dirs(deep, &err), &err);
    EXPECT_STATUS(vocab_open(deep, NULL, &v, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there and in");
}

static void every_usual_name_is_found(void **state)
{
    static const char *const names[] = {"spiece.model", "sentencepiece.model", "tokenizer.model",
                                        "spm.model", "cc_all.32000.model"};
    buf b;
    small_model(&b, false);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *dir = test_tmpdir();
        spt_err err = {0};
        char deep[1024];
        test_write(test_path(dir, names[i]), b.data, b.len);
        vocab *v = open_ok(dir, NULL);
        EXPECT_STR(path_base(vocab_path(v)), names[i]);
        EXPECT_EQ_I64(vocab_rule(v), VOCAB_SEQIO);
        EXPECT_EQ_I64(strlen(vocab_hash(v)), 32);
        vocab_close(v);
        snprintf(deep, sizeof deep, "%s/checkpoint_3", dir); /* beside a T5X checkpoint */
        EXPECT_OK(fs_make_dirs(deep, &err), &err);
        v = open_ok(deep, NULL);
        vocab_close(v);
    }
    const char *two = test_tmpdir(); /* not a guess between two */
    vocab *v = NULL;
    spt_err err = {0};
    test_write(test_path(two, "x.model"), b.data, b.len);
    test_write(test_path(two, "y.model"), b.data, b.len);
    EXPECT_STATUS(vocab_open(two, NULL, &v, &err), SPT_E_NOTFOUND);
    buf_release(&b);
}

static void the_directory_decides_the_rule(void **state)
{
    const char *dir = model_dir(false);
    vocab *v = open_ok(dir, NULL);
    EXPECT_STR(vocab_rule_name(v), "seqio");
    vocab_close(v);
    static const struct { const char *config, *name; } c[] = {
        {"{}", "hf-slow-legacy"},
        {"{\"legacy\": false, \"tokenizer_class\": \"T5Tokenizer\"}", "hf-slow"},
        {"{\"legacy\": null}", "hf-slow-legacy"},
        {"{\"tokenizer_class\": \"T5TokenizerFast\"}", "hf-fast-legacy"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        write_text(test_path(dir, "tokenizer_config.json"), c[i].config);
        v = open_ok(dir, NULL);
        EXPECT_STR(vocab_rule_name(v), c[i].name);
        EXPECT_TRUE(strstr(vocab_rule_text(v), "Hugging Face"));
        vocab_close(v);
    }
    struct vocab_opts o;
    vocab_opts_init(&o);
    o.rule = VOCAB_PLAIN;
    v = open_ok(dir, &o);
    EXPECT_EQ_I64(vocab_size(v), 14);
    vocab_close(v);
    o.rule = VOCAB_BYTES;
    spt_err err = {0};
    EXPECT_STATUS(vocab_open(dir, &o, &v, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "bytes");
    write_text(test_path(dir, "tokenizer_config.json"), "{\"legacy\": 3}");
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "tokenizer_config.json");
}

/* --- rules ---------------------------------------------------------------------------------- */

static void sentinels_follow_the_rule(void **state)
{
    const char *dir = model_dir(false);
    vocab *v = open_ok(dir, NULL);
    EXPECT_EQ_I64(vocab_size(v), 114);
    EXPECT_EQ_I64(vocab_base_size(v), 14);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 0), 113);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 99), 14);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 100), -1);
    EXPECT_EQ_I64(vocab_sentinel_id(v, -1), -1);
    size_t n;
    EXPECT_TRUE(!strncmp(vocab_piece(v, 113, &n), "\xe2\x96\x81<extra_id_0>", 15) && n == 15);
    EXPECT_EQ_I64(vocab_piece_type(v, 113), VOCAB_USER_DEFINED);
    EXPECT_EQ_I64(vocab_piece_id(v, "ab", 2), 7);
    EXPECT_EQ_I64(vocab_piece_id(v, "zz", 2), -1);
    EXPECT_STR(vocab_piece(v, 114, &n), "");
    EXPECT_STR(vocab_piece(v, -1, &n), "");
    IDS(v, "ab <extra_id_0>", 8, 113, 1);
    IDS(v, "</s>", 3, 9, 10, 11, 12, 1); /* text, not an id */
    TEXT(v, "ab <extra_id_0>", 8, 113, 1, 8);
    TEXT(v, "ab \xe2\x81\x87 b", 8, 2, 5);
    TEXT(v, " \xe2\x81\x87 ", 999); /* beyond the size: unknown */
    vocab_close(v);
    struct vocab_opts o;
    vocab_opts_init(&o);
    o.extra_ids_ascending = true;
    o.extra_ids = 3;
    v = open_ok(dir, &o);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 0), 14);
    EXPECT_EQ_I64(vocab_size(v), 17);
    vocab_close(v);
    o.extra_ids = 1001;
    spt_err err = {0};
    EXPECT_STATUS(vocab_open(dir, &o, &v, &err), SPT_E_CONFIG);
}

static void sentinels_in_the_file_are_not_doubled(void **state)
{
    const char *dir = model_dir(true);
    vocab *v = open_ok(dir, NULL);
    EXPECT_EQ_I64(vocab_size(v), 16);
    EXPECT_EQ_I64(vocab_base_size(v), 14);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 0), 15);
    IDS(v, "ab <extra_id_1>", 8, 14, 1);
    vocab_close(v);
    struct vocab_opts o;
    vocab_opts_init(&o);
    o.extra_ids = 100;
    spt_err err = {0};
    EXPECT_STATUS(vocab_open(dir, &o, &v, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "<extra_id_0>");
}

static void hf_specials_are_ids(void **state)
{
    const char *dir = model_dir(false);
    write_text(test_path(dir, "tokenizer_config.json"),
               "{\"legacy\": false, \"extra_ids\": 2, \"added_tokens_decoder\": {\"20\": "
               "{\"content\": \"<mine>\", \"lstrip\": true, \"rstrip\": false, \"single_word\": false, "
               "\"normalized\": false, \"special\": false}}}");
    vocab *v = open_ok(dir, NULL);
    EXPECT_EQ_I64(vocab_size(v), 21);
    IDS(v, "ab</s>", 8, 1); /* slow: no second EOS */
    IDS(v, "ab  <mine>b", 8, 20, 5, 1);
    IDS(v, "<extra_id_0>", 15, 1);
    size_t n;
    EXPECT_STR(vocab_piece(v, 20, &n), "<mine>");
    EXPECT_STR(vocab_piece(v, 18, &n), ""); /* a hole */
    TEXT(v, "ab<mine>b", 8, 0, 20, 15, 5, 1);
    struct vocab_writable w;
    spt_err err = {0};
    EXPECT_OK(vocab_check_writable(v, "a</s>b", 6, &w, NULL, &err), &err);
    EXPECT_TRUE(w.has_special && !w.unknown && !w.round_trip);
    vocab_close(v);
    write_text(test_path(dir, "tokenizer_config.json"),
               "{\"added_tokens_decoder\": {\"20\": {\"content\": \"x\", \"single_word\": true}}}");
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "single_word");
    static const char *const bad[] = {
        "{\"added_tokens_decoder\": {\"x\": {}}}", "{\"added_tokens_decoder\": {\"-1\": {}}}",
        "{\"added_tokens_decoder\": {\"5\": {\"content\": \"\"}}}", "{\"added_tokens_decoder\": [1]}",
        "{\"extra_ids\": 1001}", "{\"extra_ids\": -1}", "[]", "", "{\"tokenizer_class\": 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(test_path(dir, "tokenizer_config.json"), bad[i]);
        EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    }
}

/* --- tokenizer.json ------------------------------------------------------------------------- */

#define JSON_VOCAB                                                                              \
    "\"model\": {\"type\": \"Unigram\", \"unk_id\": 2, \"vocab\": [[\"<pad>\", 0.0], "         \
    "[\"</s>\", 0.0], [\"<unk>\", 0.0], [\"\xe2\x96\x81\", -2.0], [\"ab\", -3.0], "            \
    "[\"\xe2\x96\x81" "ab\", -4.0], [\"<extra_id_0>\", 0.0]]}"
#define JSON_ADDED                                                                              \
    "\"added_tokens\": [{\"id\": 1, \"content\": \"</s>\", \"special\": true}, {\"id\": 6, "    \
    "\"content\": \"<extra_id_0>\", \"special\": true}]"
#define METASPACE(scheme) "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"" scheme "\"}"

static void tokenizer_json_shapes(void **state)
{
    static const struct { const char *json, *part; } bad[] = {
        {"{}", "Unigram"},
        {"{" JSON_VOCAB "}", "Metaspace"},
        {"{" JSON_VOCAB ", " METASPACE("never") "}", "Metaspace"},
        {"{\"model\": {\"type\": \"BPE\"}}", "BPE"},
        {"{\"model\": {\"type\": \"Unigram\", \"byte_fallback\": true}}", "byte fallback"},
        {"{\"model\": {\"vocab\": [[1, 2]]}}", "piece 0"},
        {"{\"model\": {\"vocab\": [[\"a\", 1, 2]]}}", "piece 0"},
        {"{\"normalizer\": {\"type\": \"NFKC\"}}", "NFKC"},
        {"{\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Lowercase\"}]}}",
         "Lowercase"},
        {"{\"normalizer\": 3}", "normalizer"},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"a b\"}, " JSON_VOCAB
         ", " METASPACE("always") "}", "base64"},
        {"{\"added_tokens\": [{\"content\": \"x\"}]}", "without id"},
        {"{\"added_tokens\": [3]}", "added token"},
    };
    const char *dir = test_tmpdir(), *path = test_path(dir, "tokenizer.json");
    vocab *v = NULL;
    spt_err err = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(path, bad[i].json);
        EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, bad[i].part);
        EXPECT_MSG(&err, "tokenizer.json");
    }
    write_text(path, "{" JSON_ADDED ", \"normalizer\": null, " JSON_VOCAB ", " METASPACE("first") "}");
    v = open_ok(dir, NULL);
    EXPECT_STR(vocab_rule_name(v), "hf-fast");
    EXPECT_EQ_I64(vocab_base_size(v), 6);
    IDS(v, "ab</s>ab", 5, 1, 4, 1);
    IDS(v, "ab  ab", 5, 3, 5, 1); /* nothing collapses spaces here */
    IDS(v, "<extra_id_0>", 6, 1);
    vocab_close(v);
    write_text(path, "{" JSON_ADDED ", " JSON_VOCAB ", \"pre_tokenizer\": {\"type\": \"Sequence\", "
                     "\"pretokenizers\": [{\"type\": \"WhitespaceSplit\"}, {\"type\": \"Metaspace\", "
                     "\"add_prefix_space\": true}]}}");
    v = open_ok(path, NULL); /* the file by its name */
    EXPECT_STR(vocab_rule_name(v), "hf-fast-legacy");
    IDS(v, "ab  ab", 5, 5, 1);
    vocab_close(v);
}

/* --- bytes ---------------------------------------------------------------------------------- */

static void bytes_need_no_file(void **state)
{
    vocab *v = open_ok("bytes", NULL);
    EXPECT_EQ_I64(vocab_size(v), 259);
    IDS(v, "\xc3\xa9", 198, 172, 1);
    TEXT(v, "h", 2, 0, 107, 300, 260, 1, 107);
    size_t n;
    EXPECT_STR(vocab_piece(v, 3 + 0xe2, &n), "<0xE2>");
    EXPECT_STR(vocab_piece(v, 258, &n), "<0xFF>");
    EXPECT_EQ_I64(vocab_piece_id(v, "<0x41>", 6), 68);
    EXPECT_EQ_I64(vocab_piece_type(v, 2), VOCAB_UNKNOWN);
    vocab_close(v);
    const char *dir = test_tmpdir();
    write_text(test_path(dir, "config.json"), "{\"tokenizer_class\": \"ByT5Tokenizer\"}");
    v = open_ok(dir, NULL);
    EXPECT_EQ_I64(vocab_rule(v), VOCAB_BYTES);
    IDS(v, "</s>", 63, 50, 118, 65, 1);
    vocab_close(v);
    write_text(test_path(dir, "tokenizer_config.json"), "{\"tokenizer_class\": \"ByT5Tokenizer\"}");
    v = open_ok(dir, NULL);
    EXPECT_EQ_I64(vocab_rule(v), VOCAB_BYTES_HF);
    EXPECT_EQ_I64(vocab_size(v), 384);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 0), 259);
    IDS(v, "a <extra_id_1>", 100, 35, 260, 1);
    IDS(v, "a </s>", 100, 1);
    vocab_close(v);
    struct vocab_opts o;
    spt_err err = {0};
    vocab_opts_init(&o);
    o.rule = VOCAB_SEQIO;
    EXPECT_STATUS(vocab_open("bytes", &o, &v, &err), SPT_E_CONFIG);
}

/* --- labels and targets ---------------------------------------------------------------------- */

static void unwritable_characters_are_listed(void **state)
{
    vocab *v = open_ok(model_dir(false), NULL);
    struct vocab_writable w;
    spt_err err = {0};
    buf list;
    buf_init(&list, 100);
    EXPECT_OK(vocab_check_writable(v, "ab", 2, &w, &list, &err), &err);
    EXPECT_TRUE(!w.unknown && w.round_trip && !w.has_special);
    EXPECT_OK(vocab_check_writable(v, "\xce\xbb", 2, &w, &list, &err), &err);
    EXPECT_TRUE(!w.unknown && w.round_trip);
    EXPECT_OK(vocab_check_writable(v, "a \xe7\x8c\xab{ x{", 9, &w, &list, &err), &err);
    EXPECT_EQ_I64(w.unknown, 4);
    EXPECT_TRUE(!w.round_trip);
    EXPECT_STR(buf_str(&list), "\xe7\x8c\xab { x");
    buf_clear(&list);
    EXPECT_OK(vocab_check_writable(v, "\xff", 1, &w, &list, &err), &err);
    EXPECT_EQ_I64(w.unknown, 1);
    EXPECT_STR(buf_str(&list), "\xef\xbf\xbd");
    EXPECT_OK(vocab_check_writable(v, "a  b", 4, &w, NULL, &err), &err);
    EXPECT_TRUE(!w.unknown && !w.round_trip); /* spaces collapse */
    EXPECT_OK(vocab_check_writable(v, "", 0, &w, NULL, &err), &err);
    EXPECT_TRUE(!w.unknown && w.round_trip);
    buf_release(&list);
    vocab_close(v);
}

static void decoding_refuses_negative_ids_and_full_buffers(void **state)
{
    vocab *v = open_ok(model_dir(false), NULL);
    spt_err err = {0};
    buf b;
    buf_init(&b, 3);
    EXPECT_STATUS(vocab_decode(v, (const int32_t[]){4, -1}, 2, &b, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "position 1");
    EXPECT_STATUS(vocab_decode(v, (const int32_t[]){7, 7, 7}, 3, &b, &err), SPT_E_FORMAT);
    buf_release(&b);
    vocab_close(v);
}

static void special_files_are_named(void **state)
{
    const char *dir = test_tmpdir(), *path = test_path(dir, "spiece.model");
    vocab *v = NULL;
    spt_err err = {0};
    write_text(path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 791656\n");
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "Git LFS pointer");
    EXPECT_MSG(&err, "spiece.model");
    write_text(path, "");
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    write_text(path, "{\"a\": 1}");
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    buf b;
    buf_init(&b, 1000);
    add_piece(&b, "<unk>", 0, VOCAB_UNKNOWN);
    add_piece(&b, "a", -1, VOCAB_NORMAL);
    test_write(path, b.data, b.len);
    EXPECT_STATUS(vocab_open(dir, NULL, &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "end-of-sequence");
    buf_release(&b);
}

/* --- the library, threads, long words -------------------------------------------------------- */

/* Random texts over an alphabet that meets every branch. */
static size_t random_text(unsigned *seed, char *text, size_t cap)
{
    static const char *const parts[] = {"a", "b", "c", "ab", " ", "  ", "\xe2\x96\x81", "\xce\xbb", "\xff",
                                        "\xe2\x96", "<extra_id_1>", " <extra_id_0>", "</s>", "\t",
                                        "\xe7\x8c\xab", "abab", "<", "s", "\xf0\x9f\x98\x80", "\xed\xa0\x80"};
    size_t n = 0;
    const int count = rand_r(seed) % 24;
    for (int i = 0; i < count; i++) {
        const char *p = parts[(size_t)rand_r(seed) % (sizeof parts / sizeof *parts)];
        if (n + strlen(p) >= cap)
            break;
        memcpy(text + n, p, strlen(p));
        n += strlen(p);
    }
    return n;
}

/* With a normalizer that adds a space in front or not, removes further ones or not. */
static void agree_with_library(bool dummy_prefix, bool remove_extra)
{
    const char *dir = test_tmpdir();
    struct vocab_opts o;
    buf model, norm;
    small_model(&model, false);
    buf_init(&norm, 100);
    pb_put_varint(&norm, 3, dummy_prefix);
    pb_put_varint(&norm, 4, remove_extra);
    pb_put_bytes(&model, 3, norm.data, norm.len);
    test_write(test_path(dir, "spiece.model"), model.data, model.len);
    buf_release(&norm);
    buf_release(&model);
    spt_err err = {0};
    vocab_opts_init(&o);
    vocab *own = open_ok(dir, &o);
    o.use_library = true;
    vocab *lib = open_ok(dir, &o);
    struct vocab_ids a = {0}, b = {0};
    buf ta, tb;
    buf_init(&ta, 1 << 20);
    buf_init(&tb, 1 << 20);
    unsigned seed = 1;
    for (int i = 0; i < 8000; i++) {
        char text[600];
        const size_t n = random_text(&seed, text, sizeof text);
        a.count = b.count = 0;
        EXPECT_OK(vocab_encode(own, text, n, &a, &err), &err);
        EXPECT_OK(vocab_encode(lib, text, n, &b, &err), &err);
        if (a.count != b.count || (a.count && memcmp(a.id, b.id, a.count * sizeof *a.id)))
            fail_msg("text %d: \"%.*s\"", i, (int)n, text);
        for (size_t k = 0; k < a.count && i % 2; k++)
            a.id[k] = (int32_t)((unsigned)rand_r(&seed) % 120); /* any ids decode alike */
        buf_clear(&ta);
        buf_clear(&tb);
        EXPECT_OK(vocab_decode(own, a.id, a.count, &ta, &err), &err);
        EXPECT_OK(vocab_decode(lib, a.id, a.count, &tb, &err), &err);
        EXPECT_STR(buf_str(&ta), buf_str(&tb));
    }
    vocab_ids_release(&a);
    vocab_ids_release(&b);
    buf_release(&ta);
    buf_release(&tb);
    vocab_close(own);
    vocab_close(lib);
}

static void the_library_agrees(void **state)
{
    for (int i = 0; i < 4; i++)
        agree_with_library(i & 1, i & 2);
}

struct thread { const vocab *v; uint64_t sum; };

static void *encode_much(void *ctx)
{
    struct thread *t = ctx;
    struct vocab_ids ids = {0};
    unsigned seed = 3;
    for (int i = 0; i < 5000; i++) {
        char text[600];
        const size_t n = random_text(&seed, text, sizeof text);
        ids.count = 0;
        if (vocab_encode(t->v, text, n, &ids, NULL))
            t->sum = 0;
        for (size_t k = 0; k < ids.count; k++)
            t->sum = t->sum * 31 + (uint64_t)ids.id[k];
    }
    vocab_ids_release(&ids);
    return NULL;
}

static void threads_share_a_vocabulary(void **state)
{
    vocab *v = open_ok(model_dir(false), NULL);
    pthread_t id[4];
    struct thread t[5];
    for (int i = 0; i < 5; i++)
        t[i] = (struct thread){v, 0};
    encode_much(&t[4]);
    for (int i = 0; i < 4; i++)
        pthread_create(&id[i], NULL, encode_much, &t[i]);
    for (int i = 0; i < 4; i++) {
        pthread_join(id[i], NULL);
        EXPECT_TRUE(t[i].sum == t[4].sum && t[i].sum);
    }
    vocab_close(v);
}

/* Field case 19: a word of 200,000 characters; time is linear and so is memory. */
static void a_long_word_is_no_special_case(void **state)
{
    static const char *const words[] = {"x", "ab", "\xe7\x8c\xab", "a", " ", "\xff", "<extra_id_0>"};
    vocab *v = open_ok(model_dir(false), NULL);
    spt_err err = {0};
    for (size_t w = 0; w < sizeof words / sizeof *words; w++) {
        const size_t n = 200000 * strlen(words[w]);
        char *text = malloc(n);
        struct vocab_ids ids = {0};
        for (size_t i = 0; i < n; i++)
            text[i] = words[w][i % strlen(words[w])];
        struct timespec a, b;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        fault_install();
        EXPECT_OK(vocab_encode(v, text, n, &ids, &err), &err);
        const size_t peak = fault_peak_bytes();
        vocab_ids_release(&ids);
        fault_remove();
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        const double t = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        EXPECT_TRUE(t < 2);
        /* an invalid byte becomes three: text, 16 bytes of table and 4 of id for each of them */
        if (peak > 80 * n + (1 << 20))
            fail_msg("a text of %zu bytes took %zu bytes", n, peak);
        free(text);
    }
    vocab_close(v);
}

static spt_status open_dir(void *ctx, spt_err *err)
{
    vocab *v = NULL;
    struct vocab_ids ids = {0};
    struct vocab_writable w;
    buf text;
    buf_init(&text, 1000);
    spt_status st = vocab_open(ctx, NULL, &v, err);
    if (!st)
        st = vocab_decode(v, (const int32_t[]){3, 4, 1}, 3, &text, err);
    buf_release(&text);
    if (!st)
        st = vocab_encode(v, "ab </s> \xe2\x96\x81x  <extra_id_0> b", 29, &ids, err);
    if (!st)
        st = vocab_check_writable(v, "a{b", 3, &w, NULL, err);
    vocab_ids_release(&ids);
    vocab_close(v);
    return st;
}

/* SentencePiece's library decides in the place of ours. */
static spt_status open_library_too(void *ctx, spt_err *err)
{
    struct vocab_opts o;
    vocab *v = NULL;
    buf text;
    vocab_opts_init(&o);
    o.use_library = true;
    buf_init(&text, 1000);
    spt_status st = vocab_open(ctx, &o, &v, err);
    if (!st)
        st = vocab_decode(v, (const int32_t[]){3, 4, 1}, 3, &text, err);
    buf_release(&text);
    vocab_close(v);
    return st;
}

static void faults_are_survived(void **state)
{
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", model_dir(false));
    EXPECT_TRUE(fault_every_alloc(open_dir, dir) > 20);
    EXPECT_TRUE(fault_every_alloc(open_library_too, dir) > 20);
    write_text(test_path(dir, "tokenizer_config.json"), "{\"legacy\": false, \"extra_ids\": 2}");
    EXPECT_TRUE(fault_every_alloc(open_dir, dir) > 20);
    EXPECT_TRUE(fault_every_syscall(open_dir, dir, EIO) > 4);
    EXPECT_TRUE(fault_every_syscall(open_dir, dir, EMFILE) > 4);
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    write_text(test_path(dir, "tokenizer.json"),
               "{" JSON_ADDED ", " JSON_VOCAB ", " METASPACE("first") "}");
    EXPECT_TRUE(fault_every_alloc(open_dir, dir) > 20);
    char at[1100];
    snprintf(at, sizeof at, "%s/tokenizer.json", dir); /* the file itself, and beside a checkpoint */
    EXPECT_TRUE(fault_every_alloc(open_dir, at) > 20);
    snprintf(at, sizeof at, "%s/checkpoint_1", dir);
    spt_err err = {0};
    EXPECT_OK(fs_make_dirs(at, &err), &err);
    EXPECT_TRUE(fault_every_alloc(open_dir, at) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_absent_vocabulary_lists_the_places),
        cmocka_unit_test(every_usual_name_is_found),
        cmocka_unit_test(the_directory_decides_the_rule),
        cmocka_unit_test(sentinels_follow_the_rule),
        cmocka_unit_test(sentinels_in_the_file_are_not_doubled),
        cmocka_unit_test(hf_specials_are_ids),
        cmocka_unit_test(tokenizer_json_shapes),
        cmocka_unit_test(bytes_need_no_file),
        cmocka_unit_test(unwritable_characters_are_listed),
        cmocka_unit_test(decoding_refuses_negative_ids_and_full_buffers),
        cmocka_unit_test(special_files_are_named),
        cmocka_unit_test(the_library_agrees),
        cmocka_unit_test(threads_share_a_vocabulary),
        cmocka_unit_test(a_long_word_is_no_special_case),
        cmocka_unit_test(faults_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
