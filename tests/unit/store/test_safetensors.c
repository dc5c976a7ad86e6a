#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/safetensors.h"

/* --- boundary set ------------------------------------------------------------------------- */

#define T(dtype, shape, offsets) \
    "\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets
#define ONE(dtype, shape, offsets) "{\"a\":{" T(dtype, shape, offsets) "}}"

static const struct {
    const char *name, *header;
    size_t data;
    const char *refused; /* part of the message; NULL: accepted */
} cases[] = {
    {"empty object", "{}", 0, NULL},
    {"empty object with data", "{}", 1, "trailing"},
    {"reference example", "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}",
     16, NULL},
    {"scalar", ONE("F32", "[]", "[0,4]"), 4, NULL},
    {"scalar without data", ONE("F32", "[]", "[0,0]"), 0, "needs 4 bytes"},
    {"zero dimension", ONE("F32", "[0]", "[0,0]"), 0, NULL},
    {"zero dimension beside a huge one", ONE("F32", "[0,281474976710655]", "[0,0]"), 0, NULL},
    {"zero dimension with data", ONE("F32", "[0]", "[0,4]"), 4, "needs 0 bytes"},
    {"rank 8", ONE("U8", "[1,1,1,1,1,1,1,1]", "[0,1]"), 1, NULL},
    {"rank 9", ONE("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, "more than 8 dimensions"},
    {"bool", ONE("BOOL", "[3]", "[0,3]"), 3, NULL},
    {"u8", ONE("U8", "[3]", "[0,3]"), 3, NULL},
    {"i8", ONE("I8", "[3]", "[0,3]"), 3, NULL},
    {"i16", ONE("I16", "[3]", "[0,6]"), 6, NULL},
    {"u16", ONE("U16", "[3]", "[0,6]"), 6, NULL},
    {"f16", ONE("F16", "[3]", "[0,6]"), 6, NULL},
    {"bf16", ONE("BF16", "[3]", "[0,6]"), 6, NULL},
    {"u32", ONE("U32", "[3]", "[0,12]"), 12, NULL},
    {"f64", ONE("F64", "[3]", "[0,24]"), 24, NULL},
    {"i64", ONE("I64", "[3]", "[0,24]"), 24, NULL},
    {"u64", ONE("U64", "[3]", "[0,24]"), 24, NULL},
    {"f8", ONE("F8_E4M3", "[3]", "[0,3]"), 3, "F8_E4M3 is not supported"},
    {"f8, the other", ONE("F8_E5M2", "[3]", "[0,3]"), 3, "F8_E5M2 is not supported"},
    {"f4", ONE("F4", "[2]", "[0,1]"), 1, "F4 is not supported"},
    {"complex", ONE("C64", "[1]", "[0,8]"), 8, "C64 is not supported"},
    {"unknown dtype", ONE("F31", "[1]", "[0,4]"), 4, "unknown dtype 'F31'"},
    {"lower-case dtype", ONE("f32", "[1]", "[0,4]"), 4, "unknown dtype"},
    {"dtype is a number", "{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "not a string"},
    {"too little data", ONE("F32", "[2]", "[0,8]"), 7, "cut short"},
    {"too much data", ONE("F32", "[2]", "[0,8]"), 9, "trailing"},
    {"offsets too long for the shape", ONE("F32", "[2]", "[0,9]"), 9, "needs 8 bytes"},
    {"offsets too short for the shape", ONE("F32", "[2]", "[0,7]"), 7, "needs 8 bytes"},
    {"does not begin at 0", ONE("F32", "[1]", "[4,8]"), 8, "hole"},
    {"end before begin", ONE("F32", "[1]", "[4,0]"), 4, "end before they begin"},
    {"one offset", ONE("F32", "[1]", "[4]"), 4, "has 1 values"},
    {"three offsets", ONE("F32", "[1]", "[0,4,4]"), 4, "more than 2"},
    {"no offsets", ONE("F32", "[1]", "[]"), 4, "has 0 values"},
    {"negative offset", ONE("F32", "[1]", "[-4,0]"), 4, "not an integer"},
    {"fraction", ONE("F32", "[1.0]", "[0,4]"), 4, "not an integer"},
    {"exponent", ONE("F32", "[1e0]", "[0,4]"), 4, "not an integer"},
    {"negative dimension", ONE("F32", "[-1]", "[0,4]"), 4, "not an integer"},
    {"string dimension", ONE("F32", "[\"1\"]", "[0,4]"), 4, "not an integer"},
    {"null dimension", ONE("F32", "[null]", "[0,4]"), 4, "not an integer"},
    {"dimension 2^31", ONE("F32", "[2147483648]", "[0,4]"), 4, "needs 8589934592 bytes"},
    {"dimension 2^32", ONE("F32", "[4294967296]", "[0,4]"), 4, "needs 17179869184 bytes"},
    {"dimension 2^48-1", ONE("U8", "[281474976710655]", "[0,4]"), 4, "needs 281474976710655"},
    {"dimension 2^48", ONE("U8", "[281474976710656]", "[0,4]"), 4, "not an integer"},
    {"dimension 2^63-1", ONE("U8", "[9223372036854775807]", "[0,4]"), 4, "not an integer"},
    {"dimension 2^64-1", ONE("U8", "[18446744073709551615]", "[0,4]"), 4, "not an integer"},
    {"dimension 2^64", ONE("U8", "[18446744073709551616]", "[0,4]"), 4, "not an integer"},
    {"product wraps to the data", ONE("U8", "[4294967296,4294967297]", "[0,4]"), 4, "too large"},
    {"offset 2^48", ONE("U8", "[1]", "[0,281474976710656]"), 1, "not an integer"},
    {"offset 2^64-1", ONE("U8", "[1]", "[0,18446744073709551615]"), 1, "not an integer"},
    {"two tensors", "{\"a\":{" T("U8", "[2]", "[0,2]") "},\"b\":{" T("U8", "[1]", "[2,3]") "}}", 3,
     NULL},
    {"two tensors, file order", "{\"b\":{" T("U8", "[1]", "[2,3]") "},\"a\":{" T("U8", "[2]", "[0,2]") "}}",
     3, NULL},
    {"empty tensor between",
     "{\"a\":{" T("U8", "[2]", "[0,2]") "},\"z\":{" T("U8", "[0]", "[2,2]") "},\"b\":{" T("U8", "[1]", "[2,3]") "}}",
     3, NULL},
    {"overlap", "{\"a\":{" T("U8", "[2]", "[0,2]") "},\"b\":{" T("U8", "[2]", "[1,3]") "}}", 3,
     "overlap"},
    {"same bytes twice", "{\"a\":{" T("U8", "[2]", "[0,2]") "},\"b\":{" T("U8", "[2]", "[0,2]") "}}", 2,
     "overlap"},
    {"hole", "{\"a\":{" T("U8", "[1]", "[0,1]") "},\"b\":{" T("U8", "[1]", "[2,3]") "}}", 3, "hole"},
    {"doubled name", "{\"a\":{" T("U8", "[1]", "[0,1]") "},\"a\":{" T("U8", "[1]", "[1,2]") "}}", 2,
     "twice"},
    {"doubled name by escape",
     "{\"a\":{" T("U8", "[1]", "[0,1]") "},\"\\u0061\":{" T("U8", "[1]", "[1,2]") "}}", 2, "twice"},
    {"doubled dtype", "{\"a\":{\"dtype\":\"U8\"," T("U8", "[1]", "[0,1]") "}}", 1, "twice"},
    {"no dtype", "{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "dtype is missing"},
    {"no shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, "shape is missing"},
    {"no data_offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "data_offsets is missing"},
    {"unknown key", "{\"a\":{\"extra\":{\"x\":[1,2]}," T("U8", "[1]", "[0,1]") "}}", 1, NULL},
    {"metadata", "{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL},
    {"metadata number", "{\"__metadata__\":{\"format\":1}}", 0, "not a string"},
    {"metadata not an object", "{\"__metadata__\":[]}", 0, "object"},
    {"metadata null", "{\"__metadata__\":null}", 0, "object"},
    {"metadata doubled key", "{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}", 0, "twice"},
    {"entry not an object", "{\"a\":3}", 0, "object"},
    {"array", "[]", 0, "does not begin with '{'"},
    {"space in front", " {}", 0, "does not begin with '{'"},
    {"byte order mark", "\xef\xbb\xbf{}", 0, "does not begin with '{'"},
    {"spaces behind", "{}      ", 0, NULL},
    {"newline behind", "{}\n", 0, NULL},
    {"text behind", "{}x", 0, "safetensors header"},
    {"second object", "{}{}", 0, "safetensors header"},
    {"not closed", "{\"a\":{", 0, "safetensors header"},
    {"trailing comma", "{\"a\":{" T("U8", "[1]", "[0,1]") ",}}", 1, "safetensors header"},
    {"single quotes", "{'a':1}", 0, "safetensors header"},
    {"comment", "{/**/}", 0, "safetensors header"},
    {"invalid UTF-8", "{\"\xff\":{" T("U8", "[1]", "[0,1]") "}}", 1, "UTF-8"},
    {"lone surrogate", "{\"\\ud800\":{" T("U8", "[1]", "[0,1]") "}}", 1, "safetensors header"},
    {"zero byte in a name", "{\"a\\u0000b\":{" T("U8", "[1]", "[0,1]") "}}", 1, "zero byte"},
    {"zero byte in metadata", "{\"__metadata__\":{\"a\":\"x\\u0000\"}}", 0, "zero byte"},
    {"empty name", "{\"\":{" T("U8", "[1]", "[0,1]") "}}", 1, NULL},
    {"nested metadata", "{\"__metadata__\":{\"a\":{}}}", 0, "not a string"},
};

struct file {
    unsigned char *p;
    size_t size;
};

static struct file make(const char *header, size_t header_len, size_t data)
{
    struct file f = {malloc(8 + header_len + data + 1), 8 + header_len + data};
    assert_non_null(f.p);
    for (size_t i = 0; i < 8; i++)
        f.p[i] = (unsigned char)((uint64_t)header_len >> (8 * i));
    memcpy(f.p + 8, header, header_len);
    for (size_t i = 0; i < data; i++)
        f.p[8 + header_len + i] = (unsigned char)(i * 7 + 1);
    return f;
}

/* The bytes lie in a block of exactly their size, so that the sanitizer sees every step beyond. */
static spt_status open_exact(const unsigned char *p, size_t n, store **s, spt_err *err)
{
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    const spt_status st = safetensors_open_mem(copy, n, s, err);
    if (!st) { /* touch everything */
        unsigned sum = 0;
        for (size_t i = 0; i < store_count(*s); i++) {
            struct store_data d = {0};
            EXPECT_OK(store_load(*s, i, &d, err), err);
            for (size_t k = 0; k < store_at(*s, i)->bytes; k++)
                sum += ((const unsigned char *)d.view.data)[k];
            store_release(*s, &d);
        }
        EXPECT_TRUE(sum < UINT32_MAX);
        store_close(*s);
        *s = NULL;
    }
    free(copy);
    return st;
}

static void boundary_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file f = make(cases[i].header, strlen(cases[i].header), cases[i].data);
        store *s = NULL;
        spt_err err = {0};
        const spt_status st = open_exact(f.p, f.size, &s, &err);
        if (!cases[i].refused && st)
            fail_msg("%s: refused: %s", cases[i].name, err.msg);
        if (cases[i].refused && (st != SPT_E_FORMAT || !strstr(err.msg, cases[i].refused)))
            fail_msg("%s: status %s, \"%s\" does not contain \"%s\"", cases[i].name,
                     spt_status_text(st), err.msg, cases[i].refused);
        free(f.p);
    }
    EXPECT_TRUE(sizeof cases / sizeof cases[0] >= 60);
}

static void header_lengths(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0,         1,          3,          60,         62,
                                       100000000, 100000001,  1u << 31,   UINT32_MAX, 1ull << 32,
                                       INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    struct file f = make("{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 61,
                         16);
    for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
        store *s = NULL;
        spt_err err = {0};
        for (size_t i = 0; i < 8; i++)
            f.p[i] = (unsigned char)(lengths[k] >> (8 * i));
        EXPECT_STATUS(open_exact(f.p, f.size, &s, &err), SPT_E_FORMAT);
    }
    free(f.p);
}

static void truncated_at_every_length(void **state)
{
    (void)state;
    const char *h = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{" T("F32", "[2,1]", "[0,8]") "},"
                    "\"b\":{" T("U8", "[3]", "[8,11]") "}}  ";
    struct file f = make(h, strlen(h), 11);
    for (size_t n = 0; n < f.size; n++) {
        store *s = NULL;
        spt_err err = {0};
        EXPECT_STATUS(open_exact(f.p, n, &s, &err), SPT_E_FORMAT);
        EXPECT_TRUE(err.msg[0] && strstr(err.msg, "(memory)"));
    }
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(open_exact(f.p, f.size, &s, &err), &err);
    free(f.p);
}

static void every_byte_changed(void **state)
{
    (void)state;
    const char *h = "{\"__metadata__\":{\"format\":\"pt\"},\"a\":{" T("F32", "[2,1]", "[0,8]") "},"
                    "\"b\":{" T("U8", "[3]", "[8,11]") "}}  ";
    struct file f = make(h, strlen(h), 11);
    for (size_t at = 0; at < 8 + strlen(h); at++) {
        const unsigned char old = f.p[at];
        for (int v = 0; v < 256; v++) {
            store *s = NULL;
            spt_err err = {0};
            f.p[at] = (unsigned char)v;
            const spt_status st = open_exact(f.p, f.size, &s, &err);
            EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
        }
        f.p[at] = old;
    }
    free(f.p);
}

/* --- memory ------------------------------------------------------------------------------- */

static void header_bomb_stays_bounded(void **state)
{
    (void)state;
    buf h;
    buf_init(&h, 64 << 20);
    buf_addc(&h, '{');
    for (int i = 0; i < 60000; i++)
        buf_addf(&h, "%s\"%d\":{" T("U8", "[0]", "[0,0]") "}", i ? "," : "", i);
    buf_addc(&h, '}');
    struct file f = make(buf_str(&h), h.len, 0);
    buf_release(&h);
    fault_install();
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(safetensors_open_mem(f.p, f.size, &s, &err), &err);
    EXPECT_EQ_I64(store_count(s), 60000);
    size_t i;
    EXPECT_TRUE(store_find(s, "59999", &i) && i == 59999);
    EXPECT_TRUE(!store_find(s, "60000", &i));
    store_close(s);
    if (fault_peak_bytes() > 16 * f.size + (1 << 20))
        fail_msg("%zu bytes of heap for a file of %zu", fault_peak_bytes(), f.size);
    fault_remove();
    free(f.p);
}

static void too_many_tensors(void **state)
{
    (void)state;
    buf h;
    buf_init(&h, 64 << 20);
    buf_addc(&h, '{');
    for (int i = 0; i < 100001; i++)
        buf_addf(&h, "%s\"%d\":{" T("U8", "[0]", "[0,0]") "}", i ? "," : "", i);
    buf_addc(&h, '}');
    struct file f = make(buf_str(&h), h.len, 0);
    buf_release(&h);
    store *s = NULL;
    spt_err err = {0};
    EXPECT_STATUS(safetensors_open_mem(f.p, f.size, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "more than 100000 tensors");
    free(f.p);
}

static void long_names(void **state)
{
    (void)state;
    for (size_t n = 1023; n <= 1025; n++) {
        buf h;
        buf_init(&h, 1 << 20);
        buf_adds(&h, "{\"");
        for (size_t i = 0; i < n; i++)
            buf_addc(&h, 'x');
        buf_adds(&h, "\":{" T("U8", "[0]", "[0,0]") "}}");
        struct file f = make(buf_str(&h), h.len, 0);
        store *s = NULL;
        spt_err err = {0};
        EXPECT_STATUS(open_exact(f.p, f.size, &s, &err), n > 1024 ? SPT_E_FORMAT : SPT_OK);
        buf_release(&h);
        free(f.p);
    }
}

static void deep_nesting(void **state)
{
    (void)state;
    buf h;
    buf_init(&h, 1 << 20);
    buf_adds(&h, "{\"a\":{\"x\":");
    for (int i = 0; i < 100000; i++)
        buf_addc(&h, '[');
    struct file f = make(buf_str(&h), h.len, 0);
    store *s = NULL;
    spt_err err = {0};
    EXPECT_STATUS(open_exact(f.p, f.size, &s, &err), SPT_E_FORMAT);
    buf_release(&h);
    free(f.p);
}

/* --- writing ------------------------------------------------------------------------------ */

static const float floats[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
static const uint8_t bytes[3] = {1, 2, 255};
static const uint16_t halves[2] = {0x3c00, 0xc000};

static const struct store_tensor sample[] = {
    {"b/bytes", {DT_U8, {1, {3}}, bytes}},
    {"z", {DT_F32, {2, {2, 3}}, floats}},
    {"a", {DT_F32, {0}, floats}},
    {"half", {DT_F16, {1, {2}}, halves}},
    {"half2", {DT_BF16, {1, {2}}, halves}},
    {"none", {DT_F32, {2, {0, 5}}, floats}},
};
static const struct store_meta sample_meta[] = {{"format", "pt"}, {"note", "a \"b\"\n\xc3\xa9"}};

/* What the reference library (safetensors 0.8, Python) writes for these tensors. */
static const char expected_header[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"a \\\"b\\\"\\n\xc3\xa9\"},"
    "\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]},"
    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[4,4]},"
    "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
    "\"half2\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[28,32]},"
    "\"half\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[32,36]},"
    "\"b/bytes\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[36,39]}}";

static void writes_as_the_reference(void **state)
{
    (void)state;
    const char *path = test_path(test_tmpdir(), "x.safetensors");
    spt_err err = {0};
    EXPECT_OK(safetensors_write(path, sample, 6, sample_meta, 2, &err), &err);
    fs_mapping m = {0};
    EXPECT_OK(fs_map(path, &m, &err), &err);
    const size_t n = sizeof expected_header - 1, padded = (n + 7) / 8 * 8;
    EXPECT_EQ_I64(m.size, 8 + padded + 39);
    EXPECT_EQ_I64(m.bytes[0] | m.bytes[1] << 8, padded);
    assert_memory_equal(m.bytes + 8, expected_header, n);
    for (size_t i = n; i < padded; i++)
        EXPECT_EQ_I64(m.bytes[8 + i], ' ');
    fs_unmap(&m);
}

static void round_trip(void **state)
{
    (void)state;
    const char *path = test_path(test_tmpdir(), "x.safetensors");
    spt_err err = {0};
    store *s = NULL;
    EXPECT_OK(safetensors_write(path, sample, 6, sample_meta, 2, &err), &err);
    EXPECT_OK(safetensors_open(path, NULL, &s, &err), &err);
    EXPECT_EQ_I64(store_count(s), 6);
    EXPECT_STR(store_meta_get(s, "note"), sample_meta[1].value);
    EXPECT_TRUE(!store_meta_get(s, "absent"));
    for (size_t k = 0; k < 6; k++) {
        size_t i = 0;
        struct store_data d = {0};
        EXPECT_TRUE(store_find(s, sample[k].name, &i));
        EXPECT_OK(store_load(s, i, &d, &err), &err);
        EXPECT_EQ_I64(d.view.dtype, sample[k].view.dtype);
        EXPECT_TRUE(shape_equal(&d.view.shape, &sample[k].view.shape));
        if (store_at(s, i)->bytes)
            assert_memory_equal(d.view.data, sample[k].view.data, store_at(s, i)->bytes);
        store_release(s, &d);
        store_release(s, &d); /* a second time is harmless */
    }
    float z[6];
    size_t i = 0;
    EXPECT_TRUE(store_find(s, "z", &i));
    EXPECT_OK(store_read_f32(s, i, z, &err), &err);
    assert_memory_equal(z, floats, sizeof z);
    store_close(s);
}

static void writer_refuses(void **state)
{
    (void)state;
    const char *path = test_path(test_tmpdir(), "x.safetensors");
    const struct store_tensor twice[] = {sample[0], sample[0]};
    const struct store_tensor reserved = {"__metadata__", sample[0].view};
    const struct store_tensor invalid = {"\xff", sample[0].view};
    struct store_tensor vast = {"v", sample[0].view};
    vast.view.shape = shape_2d((int64_t)1 << 48, 0);
    const struct store_meta bad_meta = {"k", "\xff"};
    spt_err err = {0};
    EXPECT_STATUS(safetensors_write(path, twice, 2, NULL, 0, &err), SPT_E_USAGE);
    EXPECT_STATUS(safetensors_write(path, &reserved, 1, NULL, 0, &err), SPT_E_USAGE);
    EXPECT_STATUS(safetensors_write(path, &invalid, 1, NULL, 0, &err), SPT_E_USAGE);
    EXPECT_STATUS(safetensors_write(path, &vast, 1, NULL, 0, &err), SPT_E_USAGE);
    EXPECT_STATUS(safetensors_write(path, sample, 1, &bad_meta, 1, &err), SPT_E_USAGE);
    EXPECT_TRUE(!fs_exists(path));
    vast.view.shape.dim[0]--;
    EXPECT_STATUS(safetensors_write(path, &vast, 1, NULL, 0, &err), SPT_OK);
}

/* --- faults ------------------------------------------------------------------------------- */

static spt_status read_case(void *ctx, spt_err *err)
{
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    float z[6];
    size_t i;
    spt_status st = store_find(s, "z", &i) ? store_read_f32(s, i, z, err) : SPT_E_INTERNAL;
    store_close(s);
    return st;
}

static spt_status write_case(void *ctx, spt_err *err)
{
    return safetensors_write(ctx, sample, 6, sample_meta, 2, err);
}

static void faults(void **state)
{
    (void)state;
    char path[1024];
    spt_err err = {0};
    snprintf(path, sizeof path, "%s/x.safetensors", test_tmpdir());
    EXPECT_OK(safetensors_write(path, sample, 6, sample_meta, 2, &err), &err);
    EXPECT_TRUE(fault_every_alloc(read_case, path) > 5);
    EXPECT_TRUE(fault_every_syscall(read_case, path, EIO) > 3);
    EXPECT_TRUE(fault_every_syscall(read_case, path, EMFILE) > 3);
    EXPECT_TRUE(fault_every_alloc(write_case, path) > 3);
    EXPECT_TRUE(fault_every_syscall(write_case, path, ENOSPC) > 3);
    EXPECT_OK(read_case(path, &err), &err); /* failed writes left the old or the new file */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boundary_set),
        cmocka_unit_test(header_lengths),
        cmocka_unit_test(truncated_at_every_length),
        cmocka_unit_test(every_byte_changed),
        cmocka_unit_test(header_bomb_stays_bounded),
        cmocka_unit_test(too_many_tensors),
        cmocka_unit_test(long_names),
        cmocka_unit_test(deep_nesting),
        cmocka_unit_test(writes_as_the_reference),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
