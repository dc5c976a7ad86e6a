/* Ids and decoded texts against recorded ones: hf/tokenizer (78 strings, two vocabularies, six
 * rules), spec/data_vectors.jsonl, field case 18. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "text/json.h"
#include "vocab/spm_shim.h"
#include "vocab/vocab.h"

struct line { /* one recorded object: raw values by key */
    const char *key[32], *value[32];
    size_t key_len[32], len[32], n;
};

static void parse_line(const char *text, size_t size, struct line *l)
{
    json_reader r;
    spt_err err = {0};
    struct json_event key;
    bool more;
    l->n = 0;
    json_open(&r, text, size, 0);
    EXPECT_OK(json_enter_object(&r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(&r, &more, &key, &err), &err);
        if (!more)
            break;
        l->key[l->n] = key.text;
        l->key_len[l->n] = key.len;
        EXPECT_OK(json_raw(&r, &l->value[l->n], &l->len[l->n], &err), &err);
        l->n++;
    }
    json_close(&r);
}

static bool get(const struct line *l, const char *key, const char **value, size_t *len)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->key_len[i] == strlen(key) && !memcmp(l->key[i], key, l->key_len[i])) {
            *value = l->value[i];
            *len = l->len[i];
            return true;
        }
    return false;
}

static void get_text(const struct line *l, const char *key, buf *out)
{
    const char *v;
    size_t n;
    json_reader r;
    spt_err err = {0};
    buf_clear(out);
    EXPECT_TRUE(get(l, key, &v, &n));
    json_open(&r, v, n, 0);
    EXPECT_OK(json_read_text(&r, out, &err), &err);
    json_close(&r);
}

static void get_ids(const struct line *l, const char *key, struct vocab_ids *out)
{
    const char *v;
    size_t n;
    json_reader r;
    spt_err err = {0};
    struct json_event item;
    bool more;
    out->count = 0;
    EXPECT_TRUE(get(l, key, &v, &n));
    json_open(&r, v, n, 0);
    EXPECT_OK(json_enter_array(&r, &err), &err);
    for (;;) {
        int64_t id;
        EXPECT_OK(json_next_item(&r, &more, &item, &err), &err);
        if (!more)
            break;
        EXPECT_OK(json_to_i64(&item, &id, &err), &err);
        EXPECT_OK(mem_grow(&out->id, &out->cap, out->count + 1, sizeof *out->id, 100000, &err), &err);
        out->id[out->count++] = (int32_t)id;
    }
    json_close(&r);
}

static void show(const struct vocab_ids *ids, buf *out)
{
    for (size_t i = 0; i < ids->count; i++)
        buf_addf(out, "%d ", ids->id[i]);
}

static bool same_ids(const struct vocab_ids *a, const struct vocab_ids *b)
{
    return a->count == b->count && (!a->count || !memcmp(a->id, b->id, a->count * sizeof *a->id));
}

static void complain(const char *what, const char *text, const struct vocab_ids *got,
                     const struct vocab_ids *want)
{
    buf b;
    buf_init(&b, 100000);
    buf_addf(&b, "%s: \"%s\": got ", what, text);
    show(got, &b);
    buf_adds(&b, "wanted ");
    show(want, &b);
    fail_msg("%s", buf_str(&b));
}

static vocab *open_as(const char *path, enum vocab_rule rule, bool library)
{
    struct vocab_opts o;
    spt_err err = {0};
    vocab *v = NULL;
    vocab_opts_init(&o);
    o.rule = rule;
    o.use_library = library;
    EXPECT_OK(vocab_open(path, &o, &v, &err), &err);
    return v;
}

/* A directory with the vocabulary and a tokenizer_config.json. */
static vocab *open_hf(const char *vocabulary, bool fast, bool legacy)
{
    const char *dir = test_tmpdir();
    char *bytes;
    size_t size;
    spt_err err = {0};
    char config[200];
    vocab *v = NULL;
    EXPECT_OK(fs_read_all(vocabulary, 1 << 24, &bytes, &size, &err), &err);
    test_write(test_path(dir, "spiece.model"), bytes, size);
    mem_free(bytes);
    snprintf(config, sizeof config,
             "{\"tokenizer_class\": \"T5Tokenizer%s\", \"extra_ids\": 100, \"legacy\": %s}",
             fast ? "Fast" : "", legacy ? "true" : "false");
    test_write(test_path(dir, "tokenizer_config.json"), config, strlen(config));
    EXPECT_OK(vocab_open(dir, NULL, &v, &err), &err);
    EXPECT_EQ_I64(vocab_rule(v), fast ? VOCAB_HF_FAST : VOCAB_HF_SLOW);
    return v;
}

struct column {
    const char *name;
    vocab *v;
    bool eos;
    size_t checked;
};

static void check_line(const struct line *l, struct column *c, size_t columns)
{
    spt_err err = {0};
    struct vocab_ids got = {0}, want = {0};
    buf text, back;
    buf_init(&text, 1 << 20);
    buf_init(&back, 1 << 20);
    for (size_t i = 0; i < columns; i++) {
        get_text(l, "text", &text);
        got.count = 0;
        EXPECT_OK(vocab_encode(c[i].v, buf_str(&text), text.len, &got, &err), &err);
        if (c[i].eos)
            EXPECT_OK(vocab_append_eos(c[i].v, &got, &err), &err);
        get_ids(l, c[i].name, &want);
        c[i].checked++;
        if (!same_ids(&got, &want))
            complain(c[i].name, buf_str(&text), &got, &want);
    }
    get_ids(l, "sp", &want);
    get_text(l, "sp_decode", &text);
    EXPECT_OK(vocab_decode(c[0].v, want.id, want.count, &back, &err), &err);
    EXPECT_STR(buf_str(&back), buf_str(&text));
    get_ids(l, "hf_slow_legacy", &want);
    get_text(l, "hf_slow_decode_skip_special", &text);
    buf_clear(&back);
    EXPECT_OK(vocab_decode(c[4].v, want.id, want.count, &back, &err), &err);
    EXPECT_STR(buf_str(&back), buf_str(&text));
    vocab_ids_release(&got);
    vocab_ids_release(&want);
    buf_release(&text);
    buf_release(&back);
}

static void check_file(const char *file, const char *vocabulary)
{
    spt_err err = {0};
    struct column c[] = {
        {"sp", open_as(vocabulary, VOCAB_PLAIN, false), false, 0},
        {"sp", open_as(vocabulary, VOCAB_PLAIN, true), false, 0},
        {"seqio", open_as(vocabulary, VOCAB_SEQIO, false), false, 0},
        {"seqio", open_as(vocabulary, VOCAB_SEQIO, true), false, 0},
        {"hf_slow", open_hf(vocabulary, false, false), true, 0},
        {"hf_slow_legacy", open_hf(vocabulary, false, true), true, 0},
        {"hf_fast", open_hf(vocabulary, true, false), true, 0},
        {"hf_fast_legacy", open_hf(vocabulary, true, true), true, 0},
    };
    char *bytes;
    size_t size, lines = 0;
    EXPECT_OK(fs_read_all(file, 1 << 26, &bytes, &size, &err), &err);
    for (char *p = bytes; p < bytes + size; lines++) {
        struct line l;
        char *end = memchr(p, '\n', (size_t)(bytes + size - p));
        end = end ? end : bytes + size;
        parse_line(p, (size_t)(end - p), &l);
        check_line(&l, c, sizeof c / sizeof *c);
        p = end + 1;
    }
    EXPECT_TRUE(lines > 0);
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        print_message("%s %s: %zu texts agree\n", path_base(file), c[i].name, c[i].checked);
        vocab_close(c[i].v);
    }
    mem_free(bytes);
}

static void recorded_tokenizers_agree(void **state)
{
    const char *golden = test_golden_dir(), *shared = test_shared_dir();
    char file[1024], vocabulary[1024];
    if (!golden)
        skip();
    snprintf(file, sizeof file, "%s/hf/tokenizer/demo.jsonl", golden);
    snprintf(vocabulary, sizeof vocabulary, "%s/vocab/spm.model", golden);
    if (!fs_exists(file) || !fs_exists(vocabulary))
        skip();
    check_file(file, vocabulary);
    snprintf(file, sizeof file, "%s/hf/tokenizer/t5.jsonl", golden);
    if (!shared || !fs_exists(file))
        return;
    snprintf(vocabulary, sizeof vocabulary, "%s/data/upstream/t5_vocab", shared);
    check_file(file, vocabulary);
}

static void tokenizer_json_equals_the_fast_rule(void **state)
{
    const char *golden = test_golden_dir();
    spt_err err = {0};
    char path[1024];
    if (!golden)
        skip();
    snprintf(path, sizeof path, "%s/hf/tokenizer/demo_fast", golden);
    if (!fs_exists(path))
        skip();
    vocab *v = NULL;
    EXPECT_OK(vocab_open(path, NULL, &v, &err), &err);
    EXPECT_EQ_I64(vocab_rule(v), VOCAB_HF_FAST);
    EXPECT_EQ_I64(vocab_size(v), 8100);
    EXPECT_EQ_I64(vocab_base_size(v), 8000);
    EXPECT_EQ_I64(vocab_sentinel_id(v, 0), 8099);
    EXPECT_STR(vocab_rule_name(v), "hf-fast-legacy");
    snprintf(path, sizeof path, "%s/hf/tokenizer/demo.jsonl", golden);
    char *bytes;
    size_t size;
    struct vocab_ids got = {0}, want = {0};
    buf text;
    buf_init(&text, 1 << 20);
    EXPECT_OK(fs_read_all(path, 1 << 26, &bytes, &size, &err), &err);
    for (char *p = bytes; p < bytes + size;) {
        struct line l;
        char *end = memchr(p, '\n', (size_t)(bytes + size - p));
        parse_line(p, (size_t)(end - p), &l);
        get_text(&l, "text", &text);
        get_ids(&l, "hf_fast_legacy", &want);
        got.count = 0;
        EXPECT_OK(vocab_encode(v, buf_str(&text), text.len, &got, &err), &err);
        EXPECT_OK(vocab_append_eos(v, &got, &err), &err);
        if (!same_ids(&got, &want))
            complain("tokenizer.json", buf_str(&text), &got, &want);
        p = end + 1;
    }
    mem_free(bytes);
    buf_release(&text);
    vocab_ids_release(&got);
    vocab_ids_release(&want);
    vocab_close(v);
}

/* spec/data.md section 6: kinds t5_encode, t5_decode, byte_encode, byte_decode. */
static void data_vectors_agree(void **state)
{
    const char *shared = test_shared_dir();
    spt_err err = {0};
    char path[1024];
    if (!shared)
        skip();
    snprintf(path, sizeof path, "%s/data/upstream/t5_vocab", shared);
    if (!fs_exists(path))
        skip();
    vocab *t5 = open_as(path, VOCAB_AUTO, false), *bytes = NULL;
    EXPECT_EQ_I64(vocab_rule(t5), VOCAB_SEQIO);
    EXPECT_EQ_I64(vocab_size(t5), 32100);
    EXPECT_EQ_I64(vocab_sentinel_id(t5, 0), 32099);
    EXPECT_OK(vocab_open("bytes", NULL, &bytes, &err), &err);
    snprintf(path, sizeof path, "%s/spec/data_vectors.jsonl", shared);
    char *text;
    size_t size, n = 0;
    buf kind, s, back;
    buf_init(&kind, 64);
    buf_init(&s, 1 << 20);
    buf_init(&back, 1 << 20);
    struct vocab_ids got = {0}, want = {0};
    EXPECT_OK(fs_read_all(path, 1 << 26, &text, &size, &err), &err);
    for (char *p = text; p < text + size;) {
        struct line l;
        char *end = memchr(p, '\n', (size_t)(text + size - p));
        parse_line(p, (size_t)(end - p), &l);
        p = end + 1;
        get_text(&l, "kind", &kind);
        const vocab *v = !strncmp(buf_str(&kind), "t5_", 3) ? t5 : bytes;
        if (!strcmp(buf_str(&kind), "t5_encode") || !strcmp(buf_str(&kind), "byte_encode")) {
            get_text(&l, "input", &s);
            get_ids(&l, "expect", &want);
            got.count = 0;
            EXPECT_OK(vocab_encode(v, buf_str(&s), s.len, &got, &err), &err);
            if (!same_ids(&got, &want))
                complain("vector", buf_str(&s), &got, &want);
            n++;
        } else if (!strcmp(buf_str(&kind), "t5_decode") || !strcmp(buf_str(&kind), "byte_decode")) {
            get_ids(&l, "input", &want);
            get_text(&l, "expect", &s);
            buf_clear(&back);
            EXPECT_OK(vocab_decode(v, want.id, want.count, &back, &err), &err);
            EXPECT_STR(buf_str(&back), buf_str(&s));
            n++;
        }
    }
    EXPECT_EQ_I64(n, 51); /* T49-T92 and T93-T99 */
    mem_free(text);
    buf_release(&kind);
    buf_release(&s);
    buf_release(&back);
    vocab_ids_release(&got);
    vocab_ids_release(&want);
    vocab_close(t5);
    vocab_close(bytes);
}

/* Field case 18: a spiece.model alone means SeqIO's rule, whatever stands in the text. */
static void special_strings_are_text(void **state)
{
    const char *golden = test_golden_dir(), *shared = test_shared_dir();
    spt_err err = {0};
    char path[1024];
    if (!golden || !shared)
        skip();
    snprintf(path, sizeof path, "%s/field/18-special-strings-in-text/expected.json", shared);
    if (!fs_exists(path))
        skip();
    char *json;
    size_t size, n = 0;
    json_reader r;
    struct json_event item;
    bool more;
    struct vocab_ids got = {0}, want = {0};
    buf text;
    buf_init(&text, 1 << 16);
    EXPECT_OK(fs_read_all(path, 1 << 20, &json, &size, &err), &err);
    snprintf(path, sizeof path, "%s/vocab/spm.model", golden);
    vocab *v = open_as(path, VOCAB_AUTO, false);
    json_open(&r, json, size, 0);
    EXPECT_OK(json_enter_array(&r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_item(&r, &more, &item, &err), &err);
        if (!more)
            break;
        struct line l;
        EXPECT_OK(json_skip_rest(&r, &item, &err), &err);
        parse_line(json + item.offset, r.pos - item.offset, &l);
        get_text(&l, "text", &text);
        get_ids(&l, "ids", &want);
        got.count = 0;
        EXPECT_OK(vocab_encode(v, buf_str(&text), text.len, &got, &err), &err);
        EXPECT_OK(vocab_append_eos(v, &got, &err), &err);
        if (!same_ids(&got, &want))
            complain("field case 18", buf_str(&text), &got, &want);
        n++;
    }
    EXPECT_EQ_I64(n, 9);
    json_close(&r);
    mem_free(json);
    buf_release(&text);
    vocab_ids_release(&got);
    vocab_ids_release(&want);
    vocab_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_tokenizers_agree),
        cmocka_unit_test(tokenizer_json_equals_the_fast_rule),
        cmocka_unit_test(data_vectors_agree),
        cmocka_unit_test(special_strings_are_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
