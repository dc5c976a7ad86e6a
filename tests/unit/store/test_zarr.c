/* store/zarr: metadata by verdict, chunks of every kind, absent ones, damage, faults. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/gzip.h"
#include "store/zarr.h"
#include "support/memfs.h"

#define META(chunks, comp, dtype, fill, more, shape)                                              \
    "{\"chunks\":" chunks ",\"compressor\":" comp ",\"dtype\":\"" dtype "\",\"fill_value\":" fill \
    ",\"filters\":null,\"order\":\"C\"" more ",\"shape\":" shape ",\"zarr_format\":2}"
#define GZ "{\"id\":\"gzip\",\"level\":1}"

static spt_status parse(const char *json, zarr_array *a, spt_err *err)
{
    return zarr_parse(json, strlen(json), ".zarray", a, err);
}

static void the_real_ones(void **state)
{
    zarr_array a;
    spt_err err;
    EXPECT_OK(parse("{\"chunks\":[4096,4],\"compressor\":{\"id\":\"gzip\",\"level\":1},\"dtype\":"
                    "\"<f4\",\"fill_value\":null,\"filters\":null,\"order\":\"C\",\"shape\":"
                    "[32128,4],\"zarr_format\":2}",
                    &a, &err),
              &err);
    EXPECT_TRUE(a.dtype == DT_F32 && a.codec == ZARR_GZIP && !a.slash && !a.fill_explicit);
    EXPECT_EQ_I64(a.bytes, 32128 * 16);
    EXPECT_EQ_I64(a.chunk_bytes, 65536);
    EXPECT_EQ_I64(a.chunk_count, 8);
    EXPECT_OK(parse(META("[]", "null", "<i4", "null", "", "[]"), &a, &err), &err);
    EXPECT_TRUE(a.shape.rank == 0 && a.bytes == 4 && a.chunk_count == 1);
    EXPECT_OK(parse(META("[10,64]", GZ, "bfloat16", "null", ",\"dimension_separator\":\"/\"",
                         "[10,64]"),
                    &a, &err),
              &err);
    EXPECT_TRUE(a.dtype == DT_BF16 && a.slash && a.bytes == 1280);
    EXPECT_OK(parse(META("[3]", GZ, "<f4", "null", ",\"unknown\":[1,{}]", "[0]"), &a, &err), &err);
    EXPECT_EQ_I64(a.chunk_count, 0);
}

static void fill_values(void **state)
{
    static const struct {
        const char *dtype, *fill;
        bool ok;
        unsigned char bytes[8];
    } cases[] = {
        {"<f4", "1.5", true, {0, 0, 0xc0, 0x3f}},
        {"<f4", "0", true, {0}},
        {"<f8", "-2", true, {0, 0, 0, 0, 0, 0, 0, 0xc0}},
        {"<f2", "1.0", true, {0, 0x3c}},
        {"bfloat16", "1.0", true, {0x80, 0x3f}},
        {"<f4", "\"NaN\"", true, {0, 0, 0xc0, 0x7f}},
        {"<f4", "\"Infinity\"", true, {0, 0, 0x80, 0x7f}},
        {"<f4", "\"-Infinity\"", true, {0, 0, 0x80, 0xff}},
        {"<f4", "\"nan\"", false, {0}},
        {"<f4", "[0]", false, {0}},
        {"<f4", "{}", false, {0}},
        {"<i4", "-7", true, {0xf9, 0xff, 0xff, 0xff}},
        {"<i4", "2147483648", false, {0}},
        {"<i4", "1.5", false, {0}},
        {"<i4", "\"NaN\"", false, {0}},
        {"|u1", "255", true, {255}},
        {"|u1", "256", false, {0}},
        {"|u1", "-1", false, {0}},
        {"|b1", "true", true, {1}},
        {"|b1", "2", false, {0}},
        {"<u8", "9223372036854775807", true, {255, 255, 255, 255, 255, 255, 255, 127}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[400];
        zarr_array a;
        spt_err err;
        snprintf(json, sizeof json, META("[2]", GZ, "%s", "%s", "", "[2]"), cases[i].dtype,
                 cases[i].fill);
        const spt_status st = parse(json, &a, &err);
        if ((st == SPT_OK) != cases[i].ok)
            fail_msg("%s %s: %s", cases[i].dtype, cases[i].fill, spt_status_text(st));
        if (!st) {
            unsigned char sign = a.dtype == DT_F32 && !strcmp(cases[i].fill, "\"NaN\"") ? 0x80 : 0;
            a.fill[3] &= (unsigned char)~sign; /* the sign of a NaN is nobody's business */
            EXPECT_TRUE(a.fill_explicit && !memcmp(a.fill, cases[i].bytes, dtype_size(a.dtype)));
        }
    }
}

static void refused(void **state)
{
    static const struct {
        const char *json, *why;
    } bad[] = {
        {"", "byte 0"},
        {"[]", "object"},
        {"{}", "missing"},
        {META("[2]", "{\"id\":\"zstd\",\"level\":3}", "<f4", "null", "", "[2]"), "zstd"},
        {META("[2]", "{\"id\":\"blosc\"}", "<f4", "null", "", "[2]"), "blosc"},
        {META("[2]", "{\"level\":3}", "<f4", "null", "", "[2]"), "no id"},
        {META("[2]", "3", "<f4", "null", "", "[2]"), "compressor"},
        {META("[2]", GZ, ">f4", "null", "", "[2]"), "big endian"},
        {META("[2]", GZ, "<c8", "null", "", "[2]"), "<c8"},
        {META("[2]", GZ, "|O", "null", "", "[2]"), "|O"},
        {META("[2,2]", GZ, "<f4", "null", "", "[2]"), "ranks"},
        {META("[0]", GZ, "<f4", "null", "", "[2]"), "zero"},
        {META("[2]", GZ, "<f4", "null", "", "[-1]"), "-1"},
        {META("[2]", GZ, "<f4", "null", "", "[1.5]"), "1.5"},
        {META("[2]", GZ, "<f4", "null", "", "[18446744073709551616]"), "not a size"},
        {META("[9223372036854775807]", GZ, "<f4", "null", "", "[1]"), "overflow"},
        {META("[2147483648]", GZ, "<f4", "null", "", "[1]"), "limit"},
        {META("[1]", GZ, "<f4", "null", "", "[1000000000]"), "files"},
        {META("[4294967296,4294967296]", GZ, "<f4", "null", "", "[1,1]"), "overflow"},
        {META("[1,1]", GZ, "<f4", "null", "", "[9223372036854775807,3]"), "overflow"},
        {META("[1,1,1,1,1,1,1,1,1]", GZ, "<f4", "null", "", "[1]"), "dimensions"},
        {META("[2]", GZ, "<f4", "null", ",\"dimension_separator\":\"-\"", "[2]"), "separator"},
        {META("[2]", GZ, "<f4", "null", ",\"shape\":[2]", "[2]"), "shape"},
    };
    spt_err err;
    zarr_array a;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err = (spt_err){0};
        if (parse(bad[i].json, &a, &err) != SPT_E_FORMAT)
            fail_msg("accepted: %s", bad[i].json);
        if (i != 15 && i != 18 && i != 19) /* words of tensor_size */
            EXPECT_MSG(&err, bad[i].why);
        EXPECT_MSG(&err, ".zarray");
    }
    static const char *const order = "{\"chunks\":[2],\"compressor\":null,\"dtype\":\"<f4\","
                                     "\"fill_value\":null,\"filters\":%s,\"order\":\"%s\","
                                     "\"shape\":[2],\"zarr_format\":%d}";
    char json[300];
    snprintf(json, sizeof json, order, "null", "F", 2);
    EXPECT_STATUS(parse(json, &a, &err), SPT_E_FORMAT);
    snprintf(json, sizeof json, order, "null", "C", 3);
    EXPECT_STATUS(parse(json, &a, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "format 3");
    snprintf(json, sizeof json, order, "[{\"id\":\"delta\"}]", "C", 2);
    EXPECT_STATUS(parse(json, &a, &err), SPT_E_FORMAT);
    snprintf(json, sizeof json, order, "[]", "C", 2);
    EXPECT_OK(parse(json, &a, &err), &err);
    const size_t n = strlen(json);
    for (size_t k = 0; k < n; k++) /* truncated at every length */
        EXPECT_STATUS(zarr_parse(json, k, "x", &a, &err), SPT_E_FORMAT);
}

/* --- chunks --- */

static const char *array_dir(const char *name, const char *json)
{
    spt_err err;
    static char dir[512]; /* test_path() reuses its buffers */
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), name));
    EXPECT_OK(fs_remove_tree(dir, &err), &err);
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    test_write(test_path(dir, ".zarray"), json, strlen(json));
    return dir;
}

static void put_chunk(const char *dir, const char *name, const void *p, size_t n, bool gzip)
{
    spt_err err;
    buf b;
    buf_init(&b, 1 << 20);
    if (gzip)
        EXPECT_OK(gzip_encode(p, n, 1, &b, &err), &err);
    else
        buf_add(&b, p, n);
    test_write(test_path(dir, name), buf_str(&b), b.len);
    buf_release(&b);
}

static spt_status read_padded(void *ctx, spt_err *err)
{
    zarr_array a;
    int16_t got[15] = {0};
    TRY(zarr_open(ctx, &a, err));
    TRY(zarr_read(ctx, &a, ZARR_MISSING_WEIGHTS, got, err));
    EXPECT_EQ_I64(got[14], 14);
    return SPT_OK;
}

/* [3, 5] of int16 in chunks of [2, 3]: padding in both directions. */
static void edges_and_separators(void **state)
{
    for (int slash = 0; slash < 2; slash++) {
        spt_err err;
        zarr_array a;
        int16_t got[15];
        const char *dir = array_dir("edges", META("[2,3]", GZ, "<i2", "null", "", "[3,5]"));
        if (slash)
            dir = array_dir("edges_slash", META("[2,3]", GZ, "<i2", "null",
                                                ",\"dimension_separator\":\"/\"", "[3,5]"));
        for (int g0 = 0; g0 < 2; g0++)
            for (int g1 = 0; g1 < 2; g1++) {
                int16_t chunk[6];
                char name[16];
                for (int i = 0; i < 6; i++) {
                    const int row = g0 * 2 + i / 3, col = g1 * 3 + i % 3;
                    chunk[i] = (int16_t)(row < 3 && col < 5 ? row * 5 + col : -99);
                }
                snprintf(name, sizeof name, "%d", g0);
                if (slash)
                    EXPECT_OK(fs_make_dirs(test_path(dir, name), &err), &err);
                snprintf(name, sizeof name, slash ? "%d/%d" : "%d.%d", g0, g1);
                put_chunk(dir, name, chunk, sizeof chunk, true);
            }
        EXPECT_OK(zarr_open(dir, &a, &err), &err);
        EXPECT_OK(zarr_check_size(dir, &a, ZARR_MISSING_WEIGHTS, &err), &err);
        EXPECT_OK(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), &err);
        for (int i = 0; i < 15; i++)
            EXPECT_EQ_I64(got[i], i);
        EXPECT_TRUE(fault_every_alloc(read_padded, (void *)dir) > 4);
    }
}

static char warned[600];

static void sink(void *ctx, enum log_level level, const char *line)
{
    snprintf(warned, sizeof warned, "%s", line);
}

/* rulings 18 */
static void absent_chunks(void **state)
{
    static const float one[2] = {1, 2};
    spt_err err;
    zarr_array a;
    float got[5];
    const char *dir = array_dir("absent", META("[2]", GZ, "<f4", "null", "", "[5]"));
    put_chunk(dir, "1", one, sizeof one, true);
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "chunk file 0");
    memset(got, 0xff, sizeof got);
    EXPECT_OK(zarr_read(dir, &a, ZARR_MISSING_FILL, got, &err), &err);
    EXPECT_TRUE(got[0] == 0 && got[1] == 0 && got[2] == 1 && got[3] == 2 && got[4] == 0);
    dir = array_dir("absent_fill", META("[2]", GZ, "<f4", "7.5", "", "[5]"));
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    log_set_sink(sink, NULL);
    EXPECT_OK(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), &err); /* all absent, explicit */
    log_set_sink(NULL, NULL);
    EXPECT_TRUE(strstr(warned, "absent_fill") && strstr(warned, "fill value"));
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_F64(got[i], 7.5);
    put_chunk(dir, "2", one, sizeof one, true); /* some absent: no */
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "chunk file 0");
    EXPECT_OK(zarr_read(dir, &a, ZARR_MISSING_FILL, got, &err), &err);
    EXPECT_TRUE(got[3] == 7.5f && got[4] == 1);
}

static void names_of_chunks(void **state)
{
    static const struct {
        const char *meta, *names;
    } of[] = {{META("[2,3]", GZ, "<i2", "null", "", "[3,5]"), "d/0.0 d/0.1 d/1.0 d/1.1 "},
              {META("[2,3]", GZ, "<i2", "null", ",\"dimension_separator\":\"/\"", "[4,3]"), "d/0/0 d/1/0 "},
              {META("[]", GZ, "<i2", "null", "", "[]"), "d/0 "},
              {META("[1,1,1,1,1,1,1,1]", GZ, "<i2", "null", "", "[1,1,1,1,1,1,1,2]"), "d/0.0.0.0.0.0.0.0 d/0.0.0.0.0.0.0.1 "},
              {META("[2]", GZ, "<i2", "null", "", "[0]"), ""}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        spt_err err;
        zarr_array a;
        fs_names names = {0};
        char all[200] = "";
        EXPECT_OK(parse(of[i].meta, &a, &err), &err);
        EXPECT_OK(zarr_chunk_paths("d", &a, &names, &err), &err);
        for (size_t k = 0; k < names.count; k++)
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s ", names.name[k]);
        EXPECT_STR(all, of[i].names);
        fs_names_free(&names);
    }
}

static void damaged_chunks(void **state)
{
    static const float v[4] = {1, 2, 3, 4};
    spt_err err;
    zarr_array a;
    float got[4];
    buf z;
    const char *dir = array_dir("damaged", META("[4]", GZ, "<f4", "null", "", "[4]"));
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    buf_init(&z, 1000);
    EXPECT_OK(gzip_encode(v, sizeof v, 1, &z, &err), &err);
    for (size_t n = 0; n < z.len; n++) {
        test_write(test_path(dir, "0"), z.data, n);
        EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "damaged/0");
    }
    z.data[z.len - 6] ^= 1; /* the checksum */
    test_write(test_path(dir, "0"), z.data, z.len);
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    buf_release(&z);
    put_chunk(dir, "0", v, 12, true); /* too short, and too long */
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    float five[5] = {0};
    put_chunk(dir, "0", five, 20, true);
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    dir = array_dir("raw", META("[4]", "null", "<f4", "null", "", "[4]"));
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    put_chunk(dir, "0", v, 16, false);
    EXPECT_OK(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), &err);
    EXPECT_TRUE(!memcmp(got, v, 16));
    put_chunk(dir, "0", five, 20, false);
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, got, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "20 bytes");
}

/* A few bytes that claim to be terabytes cost nothing. */
static void lies_cost_nothing(void **state)
{
    spt_err err;
    zarr_array a;
    const char *dir = array_dir("lie", META("[16384,16384]", GZ, "<f4", "null", "",
                                            "[16384000,16384]"));
    put_chunk(dir, "0.0", "x", 1, true);
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    EXPECT_STATUS(zarr_check_size(dir, &a, ZARR_MISSING_WEIGHTS, &err), SPT_E_FORMAT);
    EXPECT_STATUS(zarr_check_size(dir, &a, ZARR_MISSING_FILL, &err), SPT_E_FORMAT);
    dir = array_dir("lie2", META("[134217728]", GZ, "<f4", "null", "", "[134217728]"));
    put_chunk(dir, "0", "x", 1, true);
    EXPECT_OK(zarr_open(dir, &a, &err), &err);
    fault_install();
    EXPECT_STATUS(zarr_read(dir, &a, ZARR_MISSING_WEIGHTS, &a, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "cannot hold");
    EXPECT_TRUE(fault_peak_bytes() < 1 << 20);
    fault_remove();
}

/* spec/t5x.md 7.6 */
static void chunk_shapes_of_writers(void **state)
{
    static const int64_t cases[][4] = {{32128, 768, 16064, 768},    {32128, 1024, 16064, 1024},
                                       {32128, 2048, 8032, 2048},   {32128, 4096, 4016, 4096},
                                       {4096, 10240, 4096, 2560},   {250112, 768, 15632, 768},
                                       {768, 2048, 768, 2048},      {0, 5, 1, 1},
                                       {1000000007, 1, 1, 1},       {(int64_t)1 << 62, 0, 1, 1},
                                       {999966000289, 1, 999983, 1}}; /* 999983 squared */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tensor_shape s = shape_2d(cases[i][0], cases[i][1]);
        const struct tensor_shape c = zarr_choose_chunks(DT_F32, &s);
        EXPECT_EQ_I64(c.dim[0], cases[i][2]);
        EXPECT_EQ_I64(c.dim[1], cases[i][3]);
    }
    for (int64_t n = 1; n <= 400; n += 13) /* every step of the search against the plain one */
        for (int64_t wide = 1 << 16; wide <= 1 << 20; wide *= 4) {
            const struct tensor_shape s = shape_2d(n * 840, wide);
            const struct tensor_shape c = zarr_choose_chunks(DT_F32, &s);
            int64_t want[2] = {s.dim[0], s.dim[1]};
            while (want[0] * want[1] > 16 << 20) {
                const int k = want[1] > want[0];
                do
                    want[k]--;
                while (s.dim[k] % want[k]);
            }
            EXPECT_TRUE(c.dim[0] == want[0] && c.dim[1] == want[1]);
        }
}

static spt_status write_and_read(void *ctx, spt_err *err)
{
    char dir[300];
    const struct tensor_view *v = ctx;
    savedir *d = NULL;
    zarr_array a;
    char got[4000];
    snprintf(dir, sizeof dir, "%s/out", test_tmpdir());
    TRY(fs_remove_tree(dir, err));
    TRY(savedir_begin(test_path(test_tmpdir(), "out.tmp"), dir, NULL, &d, err));
    spt_status st = zarr_write(d, "x", v, err);
    if (st) {
        savedir_abort(d);
        fs_remove_tree(test_path(test_tmpdir(), "out.tmp"), NULL);
        return st;
    }
    st = savedir_publish(d, err);
    if (st) {
        fs_remove_tree(test_path(test_tmpdir(), "out.tmp"), NULL);
        return st;
    }
    TRY(zarr_open(test_path(dir, "x"), &a, err));
    TRY(zarr_read(test_path(dir, "x"), &a, ZARR_MISSING_WEIGHTS, got, err));
    EXPECT_TRUE(shape_equal(&a.shape, &v->shape) && !memcmp(got, v->data, a.bytes));
    return SPT_OK;
}

/* Chunks of 4 x 3 of an array of 10 x 7: each is put together, and taken apart. */
static spt_status in_pieces(void *ctx, spt_err *err)
{
    char dir[300], got[280];
    const struct tensor_view v = {DT_F32, {2, {10, 7}}, ctx};
    const struct tensor_shape chunk = {2, {4, 3}};
    savedir *d = NULL;
    zarr_array a;
    snprintf(dir, sizeof dir, "%s/out", test_tmpdir());
    TRY(savedir_begin(test_path(test_tmpdir(), "out.tmp"), dir, NULL, &d, err));
    spt_status st = zarr_write_chunked(d, "x", &v, &chunk, err);
    if (st) {
        savedir_abort(d);
        return st;
    }
    TRY(savedir_publish(d, err));
    TRY(zarr_open(test_path(dir, "x"), &a, err));
    TRY(zarr_read(test_path(dir, "x"), &a, ZARR_MISSING_WEIGHTS, got, err));
    EXPECT_TRUE(!memcmp(got, ctx, sizeof got));
    return SPT_OK;
}

static void writing(void **state)
{
    static unsigned char data[3000];
    static const struct tensor_view views[] = {
        {DT_F32, {2, {10, 7}}, data},   {DT_BF16, {3, {3, 1, 5}}, data}, {DT_I64, {0, {0}}, data},
        {DT_BOOL, {1, {1}}, data},      {DT_F32, {2, {0, 4}}, data},
    };
    spt_err err;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    for (size_t i = 0; i < sizeof views / sizeof *views; i++)
        EXPECT_OK(write_and_read((void *)&views[i], &err), &err);
    EXPECT_TRUE(fault_every_alloc(write_and_read, (void *)&views[0]) > 10);
    EXPECT_TRUE(fault_every_alloc(in_pieces, data) > 10);
    EXPECT_TRUE(fault_every_syscall(write_and_read, (void *)&views[0], 28) > 10);
}

/* Random shapes in random chunks, on a file system in memory: written and read is the same. */
static void random_chunks(void **state)
{
    static unsigned char data[8 * 4096], got[8 * 4096];
    uint32_t x = 12345;
    size_t cut_in_pieces = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 31 + i / 256);
    for (int round = 0; round < 500; round++) {
        struct tensor_view v = {(enum dtype)(round % DT_COUNT), {round % 5, {0}}, data};
        struct tensor_shape chunk = v.shape;
        zarr_array a;
        spt_err err;
        savedir *d;
        for (int i = 0; i < v.shape.rank; i++) {
            v.shape.dim[i] = 1 + (x = x * 1664525 + 1013904223) / 65536 % 8;
            chunk.dim[i] = 1 + (x = x * 1664525 + 1013904223) / 65536 % 9;
        }
        memfs *m = memfs_new();
        memfs_use(m);
        EXPECT_OK(savedir_begin("/tmp", "/out", NULL, &d, &err), &err);
        EXPECT_OK(zarr_write_chunked(d, "x", &v, &chunk, &err), &err);
        EXPECT_OK(savedir_publish(d, &err), &err);
        EXPECT_OK(zarr_open("/out/x", &a, &err), &err);
        EXPECT_TRUE(shape_equal(&a.chunk, &chunk) && shape_equal(&a.shape, &v.shape));
        memset(got, 0xee, sizeof got);
        EXPECT_OK(zarr_read("/out/x", &a, ZARR_MISSING_WEIGHTS, got, &err), &err);
        EXPECT_TRUE(!memcmp(got, data, a.bytes) && got[a.bytes] == 0xee);
        cut_in_pieces += a.chunk_count > 1;
        memfs_use(NULL);
        memfs_free(m);
    }
    EXPECT_TRUE(cut_in_pieces > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_real_ones),      cmocka_unit_test(fill_values),
        cmocka_unit_test(refused),            cmocka_unit_test(edges_and_separators),
        cmocka_unit_test(absent_chunks),      cmocka_unit_test(damaged_chunks),
        cmocka_unit_test(names_of_chunks),
        cmocka_unit_test(lies_cost_nothing),  cmocka_unit_test(chunk_shapes_of_writers),
        cmocka_unit_test(writing),            cmocka_unit_test(random_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
