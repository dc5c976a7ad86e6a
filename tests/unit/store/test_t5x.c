/* store/t5x_checkpoint: every leaf kind and spec variant in small files made here, refusals, lies
 * about sizes, MODEL_DIR rules, writing under faults and power cuts. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "codec/gzip.h"
#include "codec/msgpack.h"
#include "base/limits.h"
#include "store/t5x_checkpoint.h"
#include "store/t5x_internal.h"
#include "support/memfs.h"

/* --- building files --- */

static const float four[4] = {1, 2, 3, 4};
static const int32_t three = 3;

static void put_key(buf *b, const char *key)
{
    msgpack_put_strz(b, key);
}

static void put_array(buf *b, enum dtype t, struct tensor_shape shape, const void *data)
{
    const struct tensor_view v = {t, shape, data};
    t5x_put_array(b, &v);
}

/* The outer length tells the inner header's, where that grows by a byte, too. */
static void lengths_of_arrays(void **state)
{
    static const size_t size[] = {0, 1, 254, 255, 256, 65534, 65535, 65536};
    static unsigned char bytes[65536];
    (void)state;
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        buf b;
        msgpack_token t;
        buf_init(&b, 1 << 20);
        put_array(&b, DT_U8, shape_1d((int64_t)size[i]), bytes);
        msgpack_reader r = msgpack_read(buf_str(&b), b.len);
        EXPECT_TRUE(msgpack_next(&r, &t) && t.type == MP_EXT && !msgpack_next(&r, &t));
        r = msgpack_read(buf_str(&b), b.len);
        EXPECT_TRUE(msgpack_next(&r, &t));
        const unsigned char *end = t.data + t.size;
        EXPECT_TRUE(end == (const unsigned char *)buf_str(&b) + b.len);
        msgpack_reader in = msgpack_read(t.data, t.size);
        EXPECT_TRUE(msgpack_next(&in, &t) && t.type == MP_ARRAY && t.count == 3);
        EXPECT_TRUE(msgpack_next(&in, &t) && t.type == MP_ARRAY && t.count == 1);
        EXPECT_TRUE(msgpack_next(&in, &t) && msgpack_next(&in, &t) && t.type == MP_STR);
        EXPECT_TRUE(msgpack_next(&in, &t) && t.type == MP_BIN && t.size == size[i]);
        EXPECT_TRUE(t.data + t.size == end);
        buf_release(&b);
    }
}

/* Everything up to the value of optimizer/target. */
static void put_head(buf *b, uint64_t version)
{
    msgpack_put_map(b, 2);
    put_key(b, "version");
    msgpack_put_uint(b, version);
    put_key(b, "optimizer");
    msgpack_put_map(b, 2);
    put_key(b, "state");
    msgpack_put_map(b, 2);
    put_key(b, "param_states");
    msgpack_put_map(b, 0);
    put_key(b, "step");
    put_array(b, DT_I32, (struct tensor_shape){0}, &three);
    put_key(b, "target");
}

static spt_status open_buf(const buf *b, const char *dir, t5x_reader **r, spt_err *err)
{
    return t5x_open_mem(b->data, b->len, dir, r, err);
}

static void expect_floats(t5x_reader *r, const char *name, const float *want, size_t n)
{
    spt_err err;
    struct t5x_value v;
    float got[16];
    const struct t5x_leaf *l = t5x_find(r, name);
    if (!l)
        fail_msg("no %s", name);
    EXPECT_OK(t5x_read(r, l, &v, &err), &err);
    tensor_to_f32(&v.view, 0, n, got);
    EXPECT_TRUE(!memcmp(got, want, n * sizeof *got));
    t5x_release(&v);
}

/* --- specs --- */

static void put_dims(buf *b, const struct tensor_shape *s)
{
    msgpack_put_array(b, (uint32_t)s->rank);
    for (int i = 0; i < s->rank; i++)
        msgpack_put_uint(b, (uint64_t)s->dim[i]);
}

/* variant: 'a' oldest, 'b' later, 'c' written to GCS with the path beside kvstore */
static void put_spec(buf *b, char variant, const char *path, const struct tensor_shape *shape)
{
    msgpack_put_map(b, variant == 'a' ? 3 : variant == 'b' ? 4 : 5);
    put_key(b, "driver");
    put_key(b, "zarr");
    if (variant != 'a') {
        put_key(b, "dtype");
        put_key(b, "float32");
    }
    if (variant == 'c') {
        put_key(b, "path");
        put_key(b, path);
    }
    put_key(b, "kvstore");
    msgpack_put_map(b, 2);
    put_key(b, "driver");
    put_key(b, variant == 'a' ? "gfile" : variant == 'b' ? "file" : "gcs");
    if (variant == 'c') {
        put_key(b, "bucket");
        put_key(b, "t5x-dummy-bucket");
    } else {
        put_key(b, "path");
        put_key(b, path);
    }
    put_key(b, "metadata");
    msgpack_put_map(b, variant == 'a' ? 4 : 2);
    put_key(b, "chunks");
    put_dims(b, shape);
    put_key(b, "shape");
    put_dims(b, shape);
    if (variant == 'a') {
        put_key(b, "dtype");
        put_key(b, "<f4");
        put_key(b, "compressor");
        msgpack_put_nil(b);
    }
}

static void put_zarr(const char *dir, const char *name, const char *shape, const char *fill,
                     bool chunk)
{
    spt_err err;
    char path[600], meta[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    EXPECT_OK(fs_make_dirs(path, &err), &err);
    const int n = snprintf(meta, sizeof meta,
                           "{\"chunks\":%s,\"compressor\":null,\"dtype\":\"<f4\",\"fill_value\":%s,"
                           "\"filters\":null,\"order\":\"C\",\"shape\":%s,\"zarr_format\":2}",
                           shape, fill, shape);
    test_write(test_path(path, ".zarray"), meta, (size_t)n);
    if (chunk)
        test_write(test_path(path, strchr(shape, ',') ? "0.0" : "0"), four, sizeof four);
}

static void every_spec_variant(void **state)
{
    char dir[300];
    spt_err err;
    buf b;
    t5x_reader *r;
    const struct tensor_shape s22 = shape_2d(2, 2), s4 = shape_1d(4);
    snprintf(dir, sizeof dir, "%s/specs", test_tmpdir());
    put_zarr(dir, "target.a.kernel", "[2,2]", "null", true);
    put_zarr(dir, "target.b.kernel", "[4]", "null", true);
    put_zarr(dir, "target.c.kernel", "[2,2]", "null", true);
    buf_init(&b, 10000);
    put_head(&b, 3);
    msgpack_put_map(&b, 3);
    for (char v = 'a'; v <= 'c'; v++) {
        const char key[2] = {v, 0}, *path = v == 'a'   ? "target.a.kernel"
                                            : v == 'b' ? "target.b.kernel/"
                                                       : "target.c.kernel";
        put_key(&b, key);
        msgpack_put_map(&b, 1);
        put_key(&b, "kernel");
        put_spec(&b, v, path, v == 'b' ? &s4 : &s22);
    }
    EXPECT_OK(open_buf(&b, dir, &r, &err), &err);
    EXPECT_EQ_I64(t5x_count(r), 4);
    EXPECT_EQ_I64(t5x_step(r), 3);
    expect_floats(r, "target/a/kernel", four, 4);
    expect_floats(r, "target/b/kernel", four, 4);
    expect_floats(r, "target/c/kernel", four, 4);
    EXPECT_EQ_I64(t5x_find(r, "target/a/kernel")->shape.rank, 2);
    t5x_close(r);
    /* The spec and the array disagree. */
    put_zarr(dir, "target.b.kernel", "[5]", "null", true);
    EXPECT_STATUS(open_buf(&b, dir, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "[4]");
    EXPECT_MSG(&err, "[5]");
    /* An absent array is missed when it is read, by name. */
    EXPECT_OK(fs_remove_tree(test_path(dir, "target.b.kernel"), &err), &err);
    EXPECT_OK(open_buf(&b, dir, &r, &err), &err);
    struct t5x_value v;
    EXPECT_STATUS(t5x_read(r, t5x_find(r, "target/b/kernel"), &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "target.b.kernel");
    expect_floats(r, "target/c/kernel", four, 4);
    t5x_close(r);
    buf_release(&b);
}

static void absent_chunks_of_slots_and_weights(void **state)
{
    char dir[300];
    spt_err err;
    buf b;
    t5x_reader *r;
    struct t5x_value v;
    static const float zeros[16];
    const struct tensor_shape s4 = shape_1d(4), s16 = shape_1d(16), s1000 = shape_1d(1000);
    snprintf(dir, sizeof dir, "%s/absent", test_tmpdir());
    put_zarr(dir, "slot", "[16]", "null", false);
    put_zarr(dir, "weight", "[4]", "null", false);
    put_zarr(dir, "filled", "[1000]", "7.5", false);
    buf_init(&b, 10000);
    msgpack_put_map(&b, 2);
    put_key(&b, "optimizer");
    msgpack_put_map(&b, 2);
    put_key(&b, "target");
    msgpack_put_map(&b, 2);
    put_key(&b, "w");
    put_spec(&b, 'b', "weight/", &s4);
    put_key(&b, "filled");
    put_spec(&b, 'b', "filled/", &s1000);
    put_key(&b, "state");
    msgpack_put_map(&b, 1);
    put_key(&b, "param_states");
    msgpack_put_map(&b, 1);
    put_key(&b, "w");
    put_spec(&b, 'b', "slot/", &s16);
    put_key(&b, "version"); /* keys come in any order */
    msgpack_put_uint(&b, 3);
    EXPECT_OK(open_buf(&b, dir, &r, &err), &err);
    EXPECT_EQ_I64(t5x_step(r), -1);
    expect_floats(r, "state/param_states/w", zeros, 16);
    expect_floats(r, "target/filled", (const float[]){7.5f, 7.5f, 7.5f, 7.5f}, 4);
    EXPECT_STATUS(t5x_read(r, t5x_find(r, "target/w"), &v, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "chunk file 0");
    t5x_close(r);
    buf_release(&b);
}

static void paths_stay_inside(void **state)
{
    static const char *const bad[] = {"../x", "/etc", "a/../../x", "", "/", "a//b", ".", "a/./b"};
    const struct tensor_shape s4 = shape_1d(4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf b;
        t5x_reader *r;
        spt_err err;
        buf_init(&b, 1000);
        put_head(&b, 3);
        msgpack_put_map(&b, 1);
        put_key(&b, "w");
        put_spec(&b, 'b', bad[i], &s4);
        EXPECT_STATUS(open_buf(&b, test_tmpdir(), &r, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "leaves the checkpoint");
        buf_release(&b);
    }
}

/* --- arrays in the file --- */

static void put_ext_raw(buf *b, int8_t code, const void *p, size_t n)
{
    msgpack_put_ext(b, code, (uint32_t)n);
    buf_add(b, p, n);
}

static void put_pieces(buf *b, const char *d0, const char *d1, const char *c0, const char *c1)
{
    msgpack_put_map(b, 3);
    put_key(b, "__msgpack_chunked_array__");
    msgpack_put_bool(b, true);
    put_key(b, "shape");
    msgpack_put_map(b, 2);
    put_key(b, d0);
    msgpack_put_uint(b, 2);
    put_key(b, d1);
    msgpack_put_uint(b, 2);
    put_key(b, "chunks");
    msgpack_put_map(b, 2);
    put_key(b, c0);
    put_array(b, DT_F32, shape_1d(3), four);
    put_key(b, c1);
    put_array(b, DT_F32, shape_1d(1), four + 3);
}

static void arrays_in_the_file(void **state)
{
    static const uint16_t bf16[2] = {0x3f80, 0x4000};
    spt_err err;
    buf b;
    t5x_reader *r;
    struct t5x_value v;
    buf_init(&b, 10000);
    put_head(&b, 3);
    msgpack_put_map(&b, 7);
    put_key(&b, "f32");
    put_array(&b, DT_F32, shape_2d(2, 2), four);
    put_key(&b, "bf16");
    put_array(&b, DT_BF16, shape_1d(2), bf16);
    put_key(&b, "chunked");
    put_pieces(&b, "0", "1", "0", "1");
    put_key(&b, "scalar"); /* extension 3: NumPy scalar */
    put_ext_raw(&b, 3, "\x93\x90\xa5" "int32\xc4\x04\x09\0\0\0", 14);
    put_key(&b, "int");
    msgpack_put_int(&b, -5);
    put_key(&b, "text");
    put_key(&b, "hello");
    put_key(&b, "nothing");
    msgpack_put_nil(&b);
    EXPECT_OK(open_buf(&b, NULL, &r, &err), &err);
    expect_floats(r, "target/f32", four, 4);
    expect_floats(r, "target/bf16", four, 2);
    expect_floats(r, "target/chunked", four, 4);
    EXPECT_EQ_I64(t5x_find(r, "target/chunked")->shape.rank, 2);
    expect_floats(r, "target/scalar", (const float[]){9}, 1);
    expect_floats(r, "target/int", (const float[]){-5}, 1);
    EXPECT_OK(t5x_read(r, t5x_find(r, "target/text"), &v, &err), &err);
    EXPECT_TRUE(v.view.dtype == DT_U8 && v.view.shape.dim[0] == 5 &&
                !memcmp(v.view.data, "hello", 5));
    EXPECT_STATUS(t5x_read(r, t5x_find(r, "target/nothing"), &v, &err), SPT_E_NOTFOUND);
    EXPECT_TRUE(!t5x_find(r, "target") && !t5x_find(r, "target/f3") && !t5x_find(r, ""));
    t5x_close(r);
    for (size_t n = 0; n < b.len; n++) /* truncated at every length */
        EXPECT_STATUS(t5x_open_mem(b.data, n, NULL, &r, &err), SPT_E_FORMAT);
    buf_add(&b, "x", 1);
    EXPECT_STATUS(open_buf(&b, NULL, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "behind");
    buf_release(&b);
}

static void order_is_that_of_the_tree(void **state)
{
    static const char *const want[] = {"state/step", "target/a", "target/a0/x", "target/ab/c",
                                       "target/ab/d", "target/ab-c", "target/b"};
    spt_err err;
    buf b;
    t5x_reader *r;
    buf_init(&b, 1000);
    put_head(&b, 3);
    msgpack_put_map(&b, 5);
    put_key(&b, "b");
    msgpack_put_nil(&b);
    put_key(&b, "ab-c");
    msgpack_put_nil(&b);
    put_key(&b, "ab");
    msgpack_put_map(&b, 2);
    put_key(&b, "d");
    msgpack_put_nil(&b);
    put_key(&b, "c");
    msgpack_put_nil(&b);
    put_key(&b, "a0");
    msgpack_put_map(&b, 1);
    put_key(&b, "x");
    msgpack_put_nil(&b);
    put_key(&b, "a");
    msgpack_put_nil(&b);
    EXPECT_OK(open_buf(&b, NULL, &r, &err), &err);
    EXPECT_EQ_I64(t5x_count(r), 7);
    for (size_t i = 0; i < 7; i++)
        EXPECT_STR(t5x_leaf_at(r, i)->name, want[i]);
    t5x_close(r);
    buf_release(&b);
}

static void version_two_has_bfloat16_as_uint16(void **state)
{
    static const uint16_t bf16[2] = {0x3f80, 0x4000};
    for (uint64_t version = 1; version <= 4; version++) {
        spt_err err;
        buf b;
        t5x_reader *r;
        buf_init(&b, 1000);
        put_head(&b, version);
        msgpack_put_map(&b, 1);
        put_key(&b, "w");
        put_array(&b, DT_U16, shape_1d(2), bf16);
        const spt_status st = open_buf(&b, NULL, &r, &err);
        EXPECT_EQ_I64(st, version == 2 || version == 3 ? SPT_OK : SPT_E_FORMAT);
        if (!st) {
            EXPECT_EQ_I64(t5x_find(r, "target/w")->dtype, version == 2 ? DT_BF16 : DT_U16);
            if (version == 2)
                expect_floats(r, "target/w", four, 2);
            t5x_close(r);
        } else {
            EXPECT_MSG(&err, "version");
        }
        buf_release(&b);
    }
}

/* Each case: the bytes of one value below target/, and a word of the refusal. */
static void refused_values(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *why;
    } bad[] = {
        {"\x91\x01", 2, "list"},
        {"\xd8\x02\x92\xcb\0\0\0\0\0\0\0\0\xca\0\0\0\0", 18, "complex"},
        {"\xc7\x01\x05\xc0", 4, "extension 5"},
        {"\xc7\x0d\x01\x93\x91\x01\xa7" "float32\xc4\x00", 16, "needs 4 bytes"},
        {"\xc7\x16\x01\x93\x91\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\xa7" "float32\xc4\x01\0", 25, "w"},
        {"\xc7\x0e\x01\x93\x91\xff\xa7" "float32\xc4\x01\0", 17, "size"},
        {"\xc7\x0a\x01\x93\x90\xa4" "what\xc4\x01\0", 13, "dtype"},
        {"\xc7\x0b\x01\x93\x90\xa7" "float32\xc0", 14, "bytes"},
        {"\xc7\x10\x01\x93\x99\1\1\1\1\1\1\1\1\1\xa1" "f\xc4\0", 19, "shape"},
        {"\xd9\x0e" "PLACEHOLDER://", 16, "Orbax"},
        {"\x81\xc0\xc0", 3, "key"},
        {"\x81\xa0\xc0", 3, "key"},
        {"\x81\xa3" "a/b\xc0", 6, "key"},
        {"\x82\xa1" "a\xc0\xa1" "a\xc0", 7, "twice"},
        {"\x82\xa1" "a\xc0\xa1" "a\x81\xa1" "b\xc0", 10, "twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        spt_err err = {0};
        buf b;
        t5x_reader *r;
        buf_init(&b, 1000);
        put_head(&b, 3);
        msgpack_put_map(&b, 1);
        put_key(&b, "w");
        buf_add(&b, bad[i].bytes, bad[i].n);
        if (open_buf(&b, NULL, &r, &err) != SPT_E_FORMAT)
            fail_msg("case %zu accepted", i);
        EXPECT_MSG(&err, bad[i].why);
        buf_release(&b);
    }
}

static void refused_pieces(void **state)
{
    static const char *const bad[][4] = {{"0", "0", "0", "1"}, {"0", "1", "0", "0"},
                                         {"0", "2", "0", "1"}, {"0", "1", "1", "2"},
                                         {"0", "1", "x", "1"}, {"00", "1", "0", "1"},
                                         {"0", "1", "", "1"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        spt_err err;
        buf b;
        t5x_reader *r;
        buf_init(&b, 1000);
        put_head(&b, 3);
        msgpack_put_map(&b, 1);
        put_key(&b, "w");
        put_pieces(&b, bad[i][0], bad[i][1], bad[i][2], bad[i][3]);
        if (open_buf(&b, NULL, &r, &err) != SPT_E_FORMAT)
            fail_msg("case %zu accepted", i);
        EXPECT_MSG(&err, "chunked");
        buf_release(&b);
    }
}

/* [n] in n pieces of one element. */
static void as_many_pieces_as_there_may_be(void **state)
{
    for (int64_t n = T5X_MAX_PIECES; n <= T5X_MAX_PIECES + 1; n++) {
        spt_err err;
        buf b;
        t5x_reader *r = NULL;
        buf_init(&b, 1 << 20);
        put_head(&b, 3);
        msgpack_put_map(&b, 1);
        put_key(&b, "w");
        msgpack_put_map(&b, 3);
        put_key(&b, "__msgpack_chunked_array__");
        msgpack_put_bool(&b, true);
        put_key(&b, "shape");
        msgpack_put_map(&b, 1);
        put_key(&b, "0");
        msgpack_put_uint(&b, (uint64_t)n);
        put_key(&b, "chunks");
        msgpack_put_map(&b, (uint32_t)n);
        for (int64_t i = 0; i < n; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", (int)i);
            put_key(&b, key);
            put_array(&b, DT_F32, shape_1d(1), four);
        }
        EXPECT_STATUS(open_buf(&b, NULL, &r, &err), n > T5X_MAX_PIECES ? SPT_E_FORMAT : SPT_OK);
        if (n > T5X_MAX_PIECES)
            EXPECT_MSG(&err, "not a map of 1 to 4096 pieces");
        t5x_close(r);
        buf_release(&b);
    }
}

/* target/<prefix>/<6 digits>, each nil, and one name of x letters with a text of y bytes. */
static void long_tree(buf *b, size_t prefix, int leaves, size_t x, size_t y, size_t *names)
{
    static char letters[4000];
    memset(letters, 'p', sizeof letters);
    put_head(b, 3);
    msgpack_put_map(b, 2);
    msgpack_put_str(b, letters, prefix);
    msgpack_put_map(b, (uint32_t)leaves);
    for (int i = 0; i < leaves; i++) {
        char key[12];
        snprintf(key, sizeof key, "%06d", i);
        put_key(b, key);
        msgpack_put_nil(b);
    }
    msgpack_put_str(b, letters, x);
    msgpack_put_str(b, letters, y);
    *names = (size_t)leaves * (7 + prefix + 1 + 6 + 1) + 7 + x + 1 + strlen("state/step") + 1;
}

/* Names may take 2^18 bytes and four for every byte of the file. */
static void names_as_long_as_they_may_be(void **state)
{
    (void)state;
    bool just = false, over = false;
    for (size_t x = 300; x < 420 && !(just && over); x++)
        for (size_t y = 300; y < 340; y++) {
            buf b;
            size_t names;
            spt_err err;
            t5x_reader *r = NULL;
            buf_init(&b, 1 << 20);
            long_tree(&b, 912, 300, x, y, &names);
            const size_t most = ((size_t)1 << 18) + b.len / 4 * 16;
            if (names == most && !just) {
                just = true;
                EXPECT_OK(open_buf(&b, NULL, &r, &err), &err);
                t5x_close(r);
            } else if (names == most + 1 && !over) {
                over = true;
                EXPECT_STATUS(open_buf(&b, NULL, &r, &err), SPT_E_FORMAT);
                EXPECT_MSG(&err, "more parameter names than");
            }
            buf_release(&b);
        }
    EXPECT_TRUE(just && over);
    buf b; /* the larger the file the more */
    t5x_reader *r;
    spt_err err;
    static char name[301], text[300];
    memset(name, 'n', 300);
    buf_init(&b, 1 << 20);
    put_head(&b, 3);
    msgpack_put_map(&b, 100);
    for (int i = 0; i < 100; i++) {
        name[0] = (char)('0' + i / 10);
        name[1] = (char)('0' + i % 10);
        put_key(&b, name);
        msgpack_put_str(&b, text, sizeof text);
    }
    EXPECT_OK(open_buf(&b, NULL, &r, &err), &err);
    EXPECT_EQ_I64(t5x_count(r), 101);
    t5x_close(r);
    buf_release(&b);
}

static void steps_of_every_kind(void **state)
{
    (void)state;
    static const int64_t seven = 7, minus = -1;
    static const float f = 7;
    static const struct {
        enum dtype t;
        const void *value;
        const char *part; /* NULL: step 7 */
    } of[] = {{DT_I32, &seven, NULL}, {DT_U32, &seven, NULL}, {DT_I64, &seven, NULL}, {DT_F32, &f, "state/step has dtype"},
              {DT_I16, &seven, "state/step has dtype"}, {DT_I32, &minus, "state/step is negative"},
              {DT_I64, &minus, "state/step is negative"}, {DT_U64, &seven, "state/step has dtype"}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        spt_err err;
        buf b;
        t5x_reader *r;
        buf_init(&b, 1000);
        msgpack_put_map(&b, 2);
        put_key(&b, "version");
        msgpack_put_uint(&b, 3);
        put_key(&b, "optimizer");
        msgpack_put_map(&b, 2);
        put_key(&b, "state");
        msgpack_put_map(&b, 1);
        put_key(&b, "step");
        put_array(&b, of[i].t, (struct tensor_shape){0}, of[i].value);
        put_key(&b, "target");
        msgpack_put_map(&b, 0);
        EXPECT_STATUS(open_buf(&b, NULL, &r, &err), of[i].part ? SPT_E_FORMAT : SPT_OK);
        if (of[i].part) {
            EXPECT_MSG(&err, of[i].part);
        } else {
            EXPECT_EQ_I64(t5x_step(r), 7);
            t5x_close(r);
        }
        memfs *m = memfs_new(); /* the directory of a file at the top */
        memfs_use(m);
        buf dir;
        buf_init(&dir, 100);
        EXPECT_OK(fs_write_all("/checkpoint", buf_str(&b), b.len, &err), &err);
        EXPECT_OK(t5x_resolve("/checkpoint", &dir, &err), &err);
        EXPECT_STR(buf_str(&dir), "/");
        memfs_use(NULL);
        memfs_free(m);
        buf_release(&dir);
        buf_release(&b);
    }
}

static void bare_trees_are_explained(void **state)
{
    spt_err err;
    t5x_reader *r;
    EXPECT_STATUS(t5x_open_mem("\x81\xa6" "params\x80", 9, NULL, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "bare flax tree");
    EXPECT_STATUS(t5x_open_mem("\x81\xa7" "version\x03", 10, NULL, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "optimizer");
}

/* A long prefix over many tiny leaves must not multiply. */
static void names_do_not_multiply(void **state)
{
    static char prefix[1000];
    spt_err err;
    buf b;
    t5x_reader *r;
    memset(prefix, 'p', sizeof prefix);
    buf_init(&b, 1 << 21);
    put_head(&b, 3);
    msgpack_put_map(&b, 1);
    msgpack_put_str(&b, prefix, sizeof prefix);
    msgpack_put_map(&b, 100000);
    for (int i = 0; i < 100000; i++) {
        char key[12];
        snprintf(key, sizeof key, "%d", i);
        put_key(&b, key);
        msgpack_put_nil(&b);
    }
    fault_install();
    EXPECT_STATUS(open_buf(&b, NULL, &r, &err), SPT_E_FORMAT);
    EXPECT_TRUE(fault_peak_bytes() <= 16 * b.len + (1 << 20));
    fault_remove();
    buf_release(&b);
}

/* --- MODEL_DIR --- */

static void listing_and_pruning(void **state)
{
    char dir[300];
    static const char *const names[] = {"checkpoint_5",  "checkpoint_10",       "checkpoint_100",
                                        "checkpoint_7a", "checkpoint_",         "checkpoint_3.tmp-1",
                                        "xcheckpoint_9", "checkpoint_10.backup-1.5"};
    spt_err err;
    int64_t *steps, last;
    size_t n;
    snprintf(dir, sizeof dir, "%s/model", test_tmpdir());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_OK(fs_make_dirs(test_path(dir, names[i]), &err), &err);
    test_write(test_path(dir, "checkpoint_5/PINNED"), "1", 1);
    EXPECT_OK(t5x_list(dir, &steps, &n, &err), &err);
    EXPECT_TRUE(n == 3 && steps[0] == 5 && steps[1] == 10 && steps[2] == 100);
    mem_free(steps);
    EXPECT_OK(t5x_latest(dir, &last, &err), &err);
    EXPECT_EQ_I64(last, 100);
    EXPECT_OK(t5x_prune(dir, 2, &err), &err); /* 5 is pinned: counted, not deleted */
    EXPECT_OK(t5x_list(dir, &steps, &n, &err), &err);
    EXPECT_TRUE(n == 2 && steps[0] == 5 && steps[1] == 100);
    mem_free(steps);
    EXPECT_TRUE(!fs_exists(test_path(dir, "trash.checkpoint_10")));
    EXPECT_STATUS(t5x_latest(test_tmpdir(), &last, &err), SPT_E_NOTFOUND);
}

/* Whenever the power goes while an old checkpoint is removed, it is whole or not there. */
static void pruning_and_power_cuts(void **state)
{
    (void)state;
    spt_err err;
    int64_t *steps;
    size_t n, gone = 0;
    memfs *m = memfs_new();
    memfs_use(m);
    for (int i = 1; i <= 2; i++) {
        char dir[40];
        snprintf(dir, sizeof dir, "/m/checkpoint_%d", i);
        EXPECT_OK(fs_make_dirs(dir, &err), &err);
        for (const char *name = "abc"; *name; name++) {
            char path[60];
            snprintf(path, sizeof path, "%s/%c", dir, *name);
            EXPECT_OK(fs_write_all(path, "whole", 5, &err), &err);
        }
        EXPECT_OK(fs_sync_dir(dir, &err), &err);
    }
    EXPECT_OK(fs_sync_dir("/m", &err), &err);
    EXPECT_OK(fs_sync_dir("/", &err), &err);
    const size_t before = memfs_events(m);
    EXPECT_OK(t5x_prune("/m", 1, &err), &err);
    const size_t after = memfs_events(m);
    EXPECT_TRUE(after > before + 4);
    for (size_t k = before; k <= after; k++)
        for (uint64_t seed = 1; seed <= 20; seed++) {
            memfs *cut = memfs_cut(m, k, CUT_RANDOM, seed);
            memfs_use(cut);
            EXPECT_OK(t5x_list("/m", &steps, &n, &err), &err);
            EXPECT_TRUE(n >= 1 && steps[n - 1] == 2);
            gone += n == 1;
            if (n == 2)
                EXPECT_TRUE(fs_exists("/m/checkpoint_1/a") && fs_exists("/m/checkpoint_1/b") && fs_exists("/m/checkpoint_1/c"));
            mem_free(steps);
            memfs_use(NULL);
            memfs_free(cut);
        }
    EXPECT_TRUE(gone > 20);
    memfs_free(m);
}

/* Killed between renaming and removing: only whole names of ours go. */
static void trash_is_emptied(void **state)
{
    static const char *const names[] = {"trash.checkpoint_5/inner", "trash.checkpoint_10",
                                        "checkpoint_5", "trash.checkpoint_", "trash.checkpoint_5a",
                                        "trash.state-5", "trash."};
    char dir[300];
    spt_err err;
    snprintf(dir, sizeof dir, "%s/trash", test_tmpdir());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_OK(fs_make_dirs(test_path(dir, names[i]), &err), &err);
    EXPECT_OK(t5x_empty_trash(dir, &err), &err);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_EQ_I64(fs_exists(test_path(dir, names[i])), i >= 2);
    EXPECT_OK(t5x_empty_trash(dir, &err), &err);
    EXPECT_STATUS(t5x_empty_trash(test_path(dir, "nothing"), &err), SPT_E_NOTFOUND);
}

static spt_status prune_once(void *ctx, spt_err *err)
{
    char path[600];
    for (int i = 1; i <= 3; i++) {
        snprintf(path, sizeof path, "%s/checkpoint_%d/inner", (const char *)ctx, i);
        TRY(fs_make_dirs(path, err));
    }
    TRY(t5x_prune(ctx, 1, err));
    snprintf(path, sizeof path, "%s/trash.checkpoint_7/inner", (const char *)ctx);
    TRY(fs_make_dirs(path, err));
    return t5x_empty_trash(ctx, err);
}

static void pruning_under_faults(void **state)
{
    char *dir = mem_strdup(test_path(test_tmpdir(), "prune"));
    int64_t *steps;
    size_t n;
    spt_err err;
    EXPECT_TRUE(fault_every_alloc(prune_once, dir) > 10);
    EXPECT_TRUE(fault_every_syscall(prune_once, dir, 5) > 10);
    EXPECT_OK(t5x_list(dir, &steps, &n, &err), &err);
    EXPECT_TRUE(n == 1 && steps[0] == 3);
    mem_free(steps);
    mem_free(dir);
}

/* The shapes of msgpack arrays by size class: their headers differ. */
static void array_headers_of_every_size(void **state)
{
    static float big[20000];
    static const int64_t sizes[] = {63, 64, 100, 16383, 16384, 20000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct t5x_item item = {"target/w", {DT_F32, {1, {sizes[i]}}, big}, false};
        const struct t5x_save s = {0, &item, 1, DT_F32, false};
        spt_err err;
        t5x_reader *r;
        memfs *m = memfs_new();
        memfs_use(m);
        for (int64_t k = 0; k < sizes[i]; k++)
            big[k] = (float)(k + sizes[i]);
        EXPECT_OK(t5x_write("/m", &s, NULL, &err), &err);
        EXPECT_OK(t5x_open("/m/checkpoint_0/checkpoint", &r, &err), &err);
        struct t5x_value v;
        EXPECT_OK(t5x_read(r, t5x_find(r, "target/w"), &v, &err), &err);
        EXPECT_TRUE(v.view.shape.dim[0] == sizes[i] &&
                    !memcmp(v.view.data, big, (size_t)sizes[i] * 4));
        t5x_release(&v);
        t5x_close(r);
        memfs_use(NULL);
        memfs_free(m);
    }
}

static void detection(void **state)
{
    char dir[300];
    spt_err err;
    t5x_reader *r;
    snprintf(dir, sizeof dir, "%s/detect", test_tmpdir());
    EXPECT_EQ_I64(t5x_detect(dir), T5X_NOT);
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    EXPECT_EQ_I64(t5x_detect(dir), T5X_NOT);
    EXPECT_STATUS(t5x_open(dir, &r, &err), SPT_E_FORMAT);
    test_write(test_path(dir, "checkpoint"), "model_checkpoint_path: \"x\"", 26);
    EXPECT_EQ_I64(t5x_detect(dir), T5X_TF);
    EXPECT_STATUS(t5x_open(dir, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "TensorFlow");
    test_write(test_path(dir, "checkpoint"), "\x82", 1);
    EXPECT_EQ_I64(t5x_detect(dir), T5X_LEGACY);
    EXPECT_EQ_I64(t5x_detect(test_path(dir, "checkpoint")), T5X_LEGACY);
    EXPECT_OK(fs_make_dirs(test_path(dir, "state"), &err), &err);
    EXPECT_EQ_I64(t5x_detect(dir), T5X_ORBAX);
}

/* --- writing --- */

static const struct t5x_item items[] = {
    {"target/encoder/prompt/prompt/prompt", {DT_F32, {2, {2, 2}}, four}, true},
    {"target/encoder/norm/scale", {DT_F32, {1, {4}}, four}, false},
    {"state/param_states/encoder/prompt/prompt/prompt/v", {DT_F32, {1, {4}}, four}, true},
    {"state/param_states/encoder/norm/scale", {DT_F32, {0}, NULL}, false},
};

static spt_status write_and_open(void *ctx, spt_err *err)
{
    const struct t5x_save s = {12, items, 4, DT_F32, false};
    t5x_reader *r;
    bool skipped;
    TRY(fs_remove_tree(ctx, err));
    TRY(t5x_write(ctx, &s, &skipped, err));
    TRY(t5x_write_numpy(ctx, &(struct t5x_save){12, items, 2, DT_F32, true}, err));
    TRY(t5x_write_numpy(ctx, &(struct t5x_save){12, items, 2, DT_F32, true}, err));
    TRY(t5x_write_numpy(ctx, &(struct t5x_save){12, items, 2, DT_F32, false}, err));
    TRY(t5x_open(ctx, &r, err));
    for (size_t i = 0; i < t5x_count(r); i++) {
        struct t5x_value v;
        if (t5x_leaf_at(r, i)->kind == T5X_NIL)
            continue;
        const spt_status st = t5x_read(r, t5x_leaf_at(r, i), &v, err);
        if (st) {
            t5x_close(r);
            return st;
        }
        t5x_release(&v);
    }
    EXPECT_EQ_I64(t5x_step(r), 12);
    t5x_close(r);
    return SPT_OK;
}

static void writing_under_faults(void **state)
{
    char *dir = mem_strdup(test_path(test_tmpdir(), "faulty"));
    EXPECT_TRUE(fault_every_alloc(write_and_open, dir) > 50);
    EXPECT_TRUE(fault_every_syscall(write_and_open, dir, 28) > 50);
    mem_free(dir);
}

static spt_status open_store_and_read(void *ctx, spt_err *err)
{
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    spt_status st = SPT_OK;
    EXPECT_STR(store_kind(s), "t5x");
    EXPECT_EQ_I64(store_step(s), 3);
    EXPECT_EQ_I64(store_count(s), 5); /* without the nil leaf */
    for (size_t i = 0; i < store_count(s) && !st; i++) {
        struct store_data d = {0};
        st = store_load(s, i, &d, err);
        if (!st && !strncmp(store_at(s, i)->name, "target/", 7))
            EXPECT_TRUE(store_at(s, i)->elements == 4 && !memcmp(d.view.data, four, 16));
        store_release(s, &d);
    }
    store_close(s);
    return st;
}

/* All kinds of leaves, through store.h, by file, step directory and MODEL_DIR. */
static void as_a_store_under_faults(void **state)
{
    char dir[300], step[330];
    spt_err err;
    buf b;
    const struct tensor_shape s22 = shape_2d(2, 2);
    snprintf(dir, sizeof dir, "%s/as_store", test_tmpdir());
    snprintf(step, sizeof step, "%s/checkpoint_3", dir);
    put_zarr(step, "target.z", "[2,2]", "null", true);
    buf_init(&b, 10000);
    put_head(&b, 3);
    msgpack_put_map(&b, 5);
    put_key(&b, "z");
    put_spec(&b, 'b', "target.z/", &s22);
    put_key(&b, "n");
    msgpack_put_nil(&b);
    put_key(&b, "pieces");
    put_pieces(&b, "0", "1", "0", "1");
    put_key(&b, "a");
    put_array(&b, DT_F32, shape_1d(4), four);
    put_key(&b, "b");
    put_array(&b, DT_F32, shape_2d(4, 1), four);
    test_write(test_path(step, "checkpoint"), b.data, b.len);
    buf_release(&b);
    EXPECT_OK(open_store_and_read(dir, &err), &err);
    EXPECT_OK(open_store_and_read((void *)test_path(step, "checkpoint"), &err), &err);
    EXPECT_TRUE(fault_every_alloc(open_store_and_read, step) > 20);
    char *file = mem_strdup(test_path(step, "checkpoint"));
    EXPECT_TRUE(fault_every_alloc(open_store_and_read, file) > 20);
    mem_free(file);
    EXPECT_TRUE(fault_every_syscall(open_store_and_read, step, 5) > 10);
    EXPECT_TRUE(fault_every_syscall(open_store_and_read, dir, 24) > 10);
}

static void bfloat16_and_stale_temporaries(void **state)
{
    static const double wide[3] = {1, 2.5, -1e-3};
    const struct t5x_item both[] = {
        {"target/a", {DT_F64, {1, {3}}, wide}, true},
        {"target/b", {DT_F64, {1, {3}}, wide}, false},
        {"state/param_states/a", {DT_F64, {1, {3}}, wide}, false},
    };
    char dir[300];
    spt_err err;
    t5x_reader *r;
    struct t5x_value v;
    for (int half = 0; half < 2; half++) {
        snprintf(dir, sizeof dir, "%s/convert%d", test_tmpdir(), half);
        EXPECT_OK(fs_make_dirs(test_path(dir, "checkpoint_4.tmp-1600000000/x"), &err), &err);
        EXPECT_OK(fs_make_dirs(test_path(dir, "notes.tmp-1"), &err), &err);
        const struct t5x_save s = {5, both, 3, half ? DT_BF16 : DT_F32, false};
        EXPECT_OK(t5x_write(dir, &s, NULL, &err), &err);
        EXPECT_TRUE(!fs_exists(test_path(dir, "checkpoint_4.tmp-1600000000")));
        EXPECT_TRUE(fs_exists(test_path(dir, "notes.tmp-1")));
        EXPECT_OK(t5x_write_numpy(dir, &(struct t5x_save){5, both, 1, s.target_dtype, false}, &err), &err);
        EXPECT_OK(t5x_open(dir, &r, &err), &err);
        const char *const names[] = {"target/a", "target/b"};
        for (int i = 0; i < 2; i++) {
            float got[3];
            const struct t5x_leaf *l = t5x_find(r, names[i]);
            EXPECT_EQ_I64(l->dtype, half ? DT_BF16 : DT_F32);
            EXPECT_EQ_I64(l->in_zarr, i == 0);
            EXPECT_OK(t5x_read(r, l, &v, &err), &err);
            tensor_to_f32(&v.view, 0, 3, got);
            for (int k = 0; k < 3; k++)
                EXPECT_EQ_F64(got[k], half ? bf16_to_f32(f32_to_bf16((float)wide[k]))
                                           : (float)wide[k]);
            t5x_release(&v);
        }
        EXPECT_EQ_I64(t5x_find(r, "state/param_states/a")->dtype, DT_F64); /* slots keep theirs */
        EXPECT_TRUE(strstr(t5x_directory(r), "checkpoint_5"));
        t5x_close(r);
    }
}

static size_t numpy_dirs(const char *dir)
{
    spt_err err;
    fs_names names = {0};
    EXPECT_OK(fs_list(test_path(dir, "numpy_checkpoints"), &names, &err), &err);
    const size_t n = names.count;
    fs_names_free(&names);
    return n;
}

/* Only what differs in a byte, a file more or a file less is moved aside. */
static void equal_numpy_is_spared(void **state)
{
    static const float other[4] = {1, 2, 3, 5};
    struct t5x_item two[2] = {items[0], items[1]};
    struct t5x_save s = {.step = 7, .items = two, .count = 2, .spares_equal = true};
    char dir[300];
    spt_err err;
    snprintf(dir, sizeof dir, "%s/spared", test_tmpdir());
    for (int i = 0; i < 3; i++)
        EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 1);
    two[1].view.data = other;
    EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 2);
    s.count = 1;
    EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 3);
    s.count = 2;
    EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 4);
    EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 4);
    s.spares_equal = false; /* as the reference does */
    EXPECT_OK(t5x_write_numpy(dir, &s, &err), &err);
    EXPECT_EQ_I64(numpy_dirs(dir), 5);
}

static void existing_steps_are_skipped(void **state)
{
    const char *dir = test_path(test_tmpdir(), "skip");
    const struct t5x_save s = {7, items, 4, DT_F32, false};
    bool skipped = true;
    spt_err err;
    EXPECT_OK(t5x_write(dir, &s, &skipped, &err), &err);
    EXPECT_TRUE(!skipped);
    EXPECT_OK(t5x_write(dir, &s, &skipped, &err), &err);
    EXPECT_TRUE(skipped);
    static const struct t5x_item twice[] = {
        {"target/a", {DT_F32, {1, {4}}, four}, false},
        {"target/a", {DT_F32, {1, {4}}, four}, false},
    };
    static const struct t5x_item wrong[] = {{"params/a", {DT_F32, {1, {4}}, four}, false}};
    EXPECT_STATUS(t5x_write(dir, &(struct t5x_save){8, twice, 2, DT_F32, false}, NULL, &err), SPT_E_USAGE);
    EXPECT_STATUS(t5x_write(dir, &(struct t5x_save){8, wrong, 1, DT_F32, false}, NULL, &err), SPT_E_USAGE);
    EXPECT_STATUS(t5x_write_numpy(dir, &s, &err), SPT_E_USAGE); /* a leaf without values */
    EXPECT_STATUS(t5x_write(dir, &(struct t5x_save){-1, items, 4, DT_F32, false}, NULL, &err),
                  SPT_E_USAGE);
    EXPECT_STATUS(t5x_write(dir, &(struct t5x_save){.step = 8, .items = items, .count = 4, .target_dtype = DT_F16}, NULL, &err), SPT_E_USAGE);
}

/* The power goes after each operation of an export: whole under its final name, or not there. */
static void power_cuts(void **state)
{
    const struct t5x_save s = {12, items, 4, DT_F32, false};
    spt_err err;
    size_t whole = 0, absent = 0;
    memfs *m = memfs_new();
    memfs_use(m);
    EXPECT_OK(t5x_write("/m", &s, NULL, &err), &err);
    if (memfs_broken_rule(m))
        fail_msg("%s", memfs_broken_rule(m));
    EXPECT_EQ_I64(memfs_unsynced_renames(m), 0);
    for (size_t k = 0; k <= memfs_events(m); k++)
        for (int o = 0; o < CUT_OUTCOMES; o++) {
            t5x_reader *r;
            memfs *boot = memfs_cut(m, k, (enum memfs_outcome)o, k);
            memfs_use(boot);
            if (fs_exists("/m/checkpoint_12")) {
                EXPECT_OK(t5x_open("/m", &r, &err), &err);
                expect_floats(r, "target/encoder/prompt/prompt/prompt", four, 4);
                expect_floats(r, "target/encoder/norm/scale", four, 4);
                expect_floats(r, "state/param_states/encoder/prompt/prompt/prompt/v", four, 4);
                t5x_close(r);
                whole++;
            } else {
                absent++;
            }
            bool skipped;
            EXPECT_OK(t5x_write("/m", &s, &skipped, &err), &err);
            fs_names names;
            EXPECT_OK(fs_list("/m", &names, &err), &err);
            EXPECT_TRUE(names.count == 1 || skipped); /* what the crash left is gone */
            fs_names_free(&names);
            memfs_use(NULL);
            memfs_free(boot);
        }
    EXPECT_TRUE(whole > 5 && absent > 50);
    memfs_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_of_arrays),
        cmocka_unit_test(every_spec_variant),
        cmocka_unit_test(absent_chunks_of_slots_and_weights),
        cmocka_unit_test(paths_stay_inside),
        cmocka_unit_test(arrays_in_the_file),
        cmocka_unit_test(order_is_that_of_the_tree),
        cmocka_unit_test(version_two_has_bfloat16_as_uint16),
        cmocka_unit_test(refused_values),
        cmocka_unit_test(refused_pieces),
        cmocka_unit_test(as_many_pieces_as_there_may_be),
        cmocka_unit_test(names_as_long_as_they_may_be),
        cmocka_unit_test(steps_of_every_kind),
        cmocka_unit_test(bare_trees_are_explained),
        cmocka_unit_test(names_do_not_multiply),
        cmocka_unit_test(listing_and_pruning),
        cmocka_unit_test(pruning_and_power_cuts), cmocka_unit_test(trash_is_emptied),
        cmocka_unit_test(pruning_under_faults),
        cmocka_unit_test(array_headers_of_every_size),
        cmocka_unit_test(detection),
        cmocka_unit_test(writing_under_faults),
        cmocka_unit_test(as_a_store_under_faults),
        cmocka_unit_test(bfloat16_and_stale_temporaries),
        cmocka_unit_test(equal_numpy_is_spared),
        cmocka_unit_test(existing_steps_are_skipped),
        cmocka_unit_test(power_cuts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
