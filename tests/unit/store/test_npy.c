#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/npy.h"

struct file {
    unsigned char *p;
    size_t size;
};

/* Version `major`.0 with this header text and `data` bytes 0, 1, 2, ... */
static struct file make(int major, const char *header, size_t len, size_t data)
{
    const size_t prefix = major == 1 ? 10 : 12;
    struct file f = {malloc(prefix + len + data + 1), prefix + len + data};
    assert_non_null(f.p);
    memcpy(f.p, "\x93NUMPY", 6);
    f.p[6] = (unsigned char)major;
    f.p[7] = 0;
    for (size_t i = 8; i < prefix; i++)
        f.p[i] = (unsigned char)(len >> (8 * (i - 8)));
    memcpy(f.p + prefix, header, len);
    for (size_t i = 0; i < data; i++)
        f.p[prefix + len + i] = (unsigned char)i;
    return f;
}

#define H(descr, order, shape) \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }          \n"

static const struct {
    const char *header;
    size_t data;
    const char *refused; /* part of the message; NULL: accepted */
} cases[] = {
    {H("'<f4'", "False", "(2, 3)"), 24, NULL},
    {"{'fortran_order': False", 0, "',' or '}' expected"},
    {"{'fortran_order': Fals", 0, "neither True nor False"},
    {H("'U4'", "False", "(1,)"), 16, "descr 'U4' is strings, not numbers"},
    {H("'Uf4'", "False", "(1,)"), 16, "descr 'Uf4' is strings, not numbers"},
    {H("'<U4'", "False", "(1,)"), 16, "descr '<U4' is strings, not numbers"},
    {H("''", "False", "(1,)"), 16, "descr '' is not a supported kind of number"},
    {H("'<f4'", "True", "(2, 3)"), 24, NULL},
    {H("'>f4'", "False", "(2, 3)"), 24, NULL},
    {H("'=f4'", "False", "(2, 3)"), 24, NULL},
    {H("'<f8'", "False", "(3,)"), 24, NULL},
    {H("'>f8'", "True", "(3, 1)"), 24, NULL},
    {H("'<f2'", "False", "(3,)"), 6, NULL},
    {H("'>f2'", "False", "(3,)"), 6, NULL},
    {H("'|u1'", "False", "(3,)"), 3, NULL},
    {H("'|i1'", "False", "(3,)"), 3, NULL},
    {H("'<u1'", "False", "(3,)"), 3, NULL},
    {H("'|b1'", "False", "(3,)"), 3, NULL},
    {H("'<i2'", "False", "(3,)"), 6, NULL},
    {H("'<u2'", "False", "(3,)"), 6, NULL},
    {H("'<i4'", "False", "(3,)"), 12, NULL},
    {H("'>i4'", "False", "(3,)"), 12, NULL},
    {H("'<u4'", "False", "(3,)"), 12, NULL},
    {H("'<i8'", "False", "(3,)"), 24, NULL},
    {H("'<u8'", "False", "(3,)"), 24, NULL},
    {H("'<f4'", "False", "()"), 4, NULL},
    {H("'<f4'", "False", "(0,)"), 0, NULL},
    {H("'<f4'", "False", "(0, 9223372036854775807)"), 0, NULL},
    {H("'<f4'", "False", "(1,1,1,1,1,1,1,1)"), 4, NULL},
    {H("'<f4'", "False", "(2L, 3L)"), 24, NULL},
    {H("'<f4'", "False", "( 2 ,3 , )"), 24, NULL},
    {"{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}", 24, NULL},
    {"{'descr':'<f4','fortran_order':False,'shape':(1,)}\n", 4, NULL},
    {H("'|f4'", "False", "(1,)"), 4, "not a supported"},
    {H("'f4'", "False", "(1,)"), 4, "not a supported"},
    {H("''", "False", "(1,)"), 4, "not a supported"},
    {H("'<f16'", "False", "(1,)"), 16, "not a supported"},
    {H("'<f3'", "False", "(1,)"), 3, "not a supported"},
    {H("'<c8'", "False", "(1,)"), 8, "complex"},
    {H("'|O'", "False", "(1,)"), 8, "Python objects"},
    {H("'<U3'", "False", "(1,)"), 12, "strings"},
    {H("'|S3'", "False", "(1,)"), 3, "strings"},
    {H("'|V2'", "False", "(1,)"), 2, "--npy-bf16"},
    {H("'<V2'", "False", "(1,)"), 2, "--npy-bf16"},
    {H("'<M8[ns]'", "False", "(1,)"), 8, "dates"},
    {H("[('x', '<f4')]", "False", "(1,)"), 4, "structured"},
    {H("7", "False", "(1,)"), 4, "descr is not a string"},
    {H("'<f4'", "false", "(1,)"), 4, "neither True nor False"},
    {H("'<f4'", "0", "(1,)"), 4, "neither True nor False"},
    {H("'<f4'", "False", "(1)"), 4, "not a tuple"},
    {H("'<f4'", "False", "1"), 4, "not a tuple"},
    {H("'<f4'", "False", "[1]"), 4, "not a tuple"},
    {H("'<f4'", "False", "(,)"), 4, "tuple of integers"},
    {H("'<f4'", "False", "(1 1)"), 4, "not a tuple"},
    {H("'<f4'", "False", "(1,,1)"), 4, "tuple of integers"},
    {H("'<f4'", "False", "(01,)"), 4, "tuple of integers"}, /* no Python number */
    {H("'<f4'", "False", "(-1,)"), 4, "not negative"},
    {H("'<f4'", "False", "(1.0,)"), 4, "not a tuple"},
    {H("'<f4'", "False", "(1e3,)"), 4, "not a tuple"},
    {H("'<f4'", "False", "(0x4,)"), 4, "not a tuple"},
    {H("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), 4, "more than 8"},
    {H("'<f4'", "False", "(2147483648,)"), 4, "needs 8589934592 bytes"},
    {H("'<f4'", "False", "(4294967297,)"), 4, "needs 17179869188 bytes"},
    {H("'|u1'", "False", "(9223372036854775807,)"), 4, "needs 9223372036854775807 bytes"},
    {H("'<f4'", "False", "(9223372036854775807,)"), 4, "too large"},
    {H("'<f4'", "False", "(9223372036854775808,)"), 4, "dimension is too large"},
    {H("'<f4'", "False", "(18446744073709551616,)"), 4, "dimension is too large"},
    {H("'<f4'", "False", "(4294967296, 4294967296)"), 0, "too large"},
    {H("'<f4'", "False", "(2, 3)"), 23, "cut short"},
    {H("'<f4'", "False", "(2, 3)"), 0, "cut short"},
    {H("'<f4'", "False", "(2, 3)"), 25, "trailing bytes"},
    {H("'<f4'", "False", "(0,)"), 1, "trailing bytes"},
    {"{'descr': '<f4', 'fortran_order': False}\n", 4, "missing"},
    {"{'fortran_order': False, 'shape': (1,)}\n", 4, "missing"},
    {"{}\n", 4, "missing"},
    {"\n", 4, "not a dict"},
    {"", 4, "not a dict"},
    {"{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", 4, "twice"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}\n", 4, "key other than"},
    {"{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}\n", 4, "',' or '}'"},
    {"{'descr' '<f4', 'fortran_order': False, 'shape': (1,)}\n", 4, "':' expected"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + []\n", 4, "behind the dict"},
    {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)", 4, "expected"},
    {"{'descr': '<f4, 'fortran_order': False, 'shape': (1,)}\n", 4, "expected"},
    {"{'descr': '\\x3cf4', 'fortran_order': False, 'shape': (1,)}\n", 4, "escape"},
    {"{'descr': __import__('os').system('x'), 'fortran_order': False, 'shape': (1,)}\n", 4,
     "descr is not a string"},
    {"{u'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", 4, "key is not a string"},
};

static spt_status open_exact(const unsigned char *p, size_t n, spt_err *err)
{
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    store *s = NULL;
    const spt_status st = npy_open_mem(copy, n, NULL, &s, err);
    if (!st) {
        float *out = malloc(store_at(s, 0)->elements * sizeof *out + 1);
        EXPECT_OK(store_read_f32(s, 0, out, err), err);
        free(out);
        store_close(s);
    }
    free(copy);
    return st;
}

static void boundary_set(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int major = 1; major <= 3; major++) {
            struct file f = make(major, cases[i].header, strlen(cases[i].header), cases[i].data);
            spt_err err = {0};
            const spt_status st = open_exact(f.p, f.size, &err);
            if (!cases[i].refused && st)
                fail_msg("%s: refused: %s", cases[i].header, err.msg);
            if (cases[i].refused && (st != SPT_E_FORMAT || !strstr(err.msg, cases[i].refused)))
                fail_msg("%s: status %s, \"%s\" does not contain \"%s\"", cases[i].header,
                         spt_status_text(st), err.msg, cases[i].refused);
            free(f.p);
        }
    }
    EXPECT_TRUE(sizeof cases / sizeof cases[0] >= 40);
}

static void versions_and_header_length(void **state)
{
    (void)state;
    char header[10002];
    spt_err err = {0};
    const char *text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}";
    memset(header, ' ', sizeof header);
    memcpy(header, text, strlen(text));
    for (size_t n = 9999; n <= 10001; n++) {
        struct file f = make(1, header, n, 4);
        EXPECT_STATUS(open_exact(f.p, f.size, &err), n > 10000 ? SPT_E_FORMAT : SPT_OK);
        free(f.p);
    }
    EXPECT_MSG(&err, "more than 10000");
    struct file f = make(1, text, strlen(text), 4);
    for (int major = 0; major < 256; major++) {
        f.p[6] = (unsigned char)major;
        if (major != 1)
            EXPECT_STATUS(open_exact(f.p, f.size, &err), SPT_E_FORMAT);
    }
    f.p[6] = 1;
    f.p[7] = 1;
    EXPECT_STATUS(open_exact(f.p, f.size, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "version 1.1");
    free(f.p);
    f = make(2, text, strlen(text), 4);
    f.p[11] = 0xff; /* 4 GB of header */
    EXPECT_STATUS(open_exact(f.p, f.size, &err), SPT_E_FORMAT);
    free(f.p);
}

static void truncated_and_changed(void **state)
{
    (void)state;
    const char *text = H("'<f4'", "True", "(2, 3)");
    struct file f = make(1, text, strlen(text), 24);
    for (size_t n = 0; n < f.size; n++) {
        spt_err err = {0};
        EXPECT_STATUS(open_exact(f.p, n, &err), SPT_E_FORMAT);
    }
    for (size_t at = 0; at < 10 + strlen(text); at++) {
        const unsigned char old = f.p[at];
        for (int v = 0; v < 256; v++) {
            spt_err err = {0};
            f.p[at] = (unsigned char)v;
            const spt_status st = open_exact(f.p, f.size, &err);
            EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
        }
        f.p[at] = old;
    }
    free(f.p);
}

/* --- values: every order, byte order and type gives the same matrix ------------------------ */

static void put(unsigned char *p, double v, const char *descr)
{
    unsigned char b[8];
    size_t n = (size_t)(descr[2] - '0');
    if (descr[1] == 'f' && n == 8) {
        memcpy(b, &v, 8);
    } else if (descr[1] == 'f' && n == 4) {
        const float x = (float)v;
        memcpy(b, &x, 4);
    } else if (descr[1] == 'f') {
        const uint16_t x = f32_to_f16((float)v);
        memcpy(b, &x, 2);
    } else {
        const int64_t x = (int64_t)v;
        memcpy(b, &x, 8);
    }
    for (size_t i = 0; i < n; i++)
        p[i] = b[descr[0] == '>' ? n - 1 - i : i];
}

static void every_dress(void **state)
{
    (void)state;
    static const char *const descrs[] = {"<f4", ">f4", "<f8", ">f8", "<f2", ">f2",
                                         "<i2", ">i2", "<i4", ">i4", "<i8", ">i8"};
    enum { A = 3, B = 4, C = 5 };
    for (size_t k = 0; k < sizeof descrs / sizeof descrs[0]; k++) {
        for (int fortran = 0; fortran < 2; fortran++) {
            char text[200];
            const size_t size = (size_t)(descrs[k][2] - '0');
            snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': %s, 'shape': (3, 4, 5)}",
                     descrs[k], fortran ? "True" : "False");
            struct file f = make(1, text, strlen(text), A * B * C * size);
            unsigned char *data = f.p + 10 + strlen(text);
            for (size_t a = 0; a < A; a++)
                for (size_t b = 0; b < B; b++)
                    for (size_t c = 0; c < C; c++) {
                        const size_t at = fortran ? a + A * (b + B * c) : (a * B + b) * C + c;
                        put(data + at * size, (double)((a * B + b) * C + c) - 7, descrs[k]);
                    }
            store *s = NULL;
            spt_err err = {0};
            float out[A * B * C];
            EXPECT_OK(npy_open_mem(f.p, f.size, NULL, &s, &err), &err);
            EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
            for (size_t i = 0; i < A * B * C; i++)
                EXPECT_EQ_F64(out[i], (double)i - 7);
            store_close(s);
            free(f.p);
        }
    }
}

static void bfloat16_only_when_asked(void **state)
{
    (void)state;
    static const char *const texts[] = {H("'|V2'", "False", "(2,)"), H("'<V2'", "False", "(2,)")};
    for (size_t k = 0; k < 2; k++) {
        struct file f = make(1, texts[k], strlen(texts[k]), 4);
        memcpy(f.p + f.size - 4, "\x80\x3f\x00\xc0", 4); /* 1, -2 */
        store *s = NULL;
        spt_err err = {0};
        float out[2];
        EXPECT_STATUS(npy_open_mem(f.p, f.size, NULL, &s, &err), SPT_E_FORMAT);
        EXPECT_OK(npy_open_mem(f.p, f.size, &(struct store_opts){.npy_bf16 = true}, &s, &err), &err);
        EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
        EXPECT_EQ_F64(out[0], 1);
        EXPECT_EQ_F64(out[1], -2);
        store_close(s);
        free(f.p);
    }
}

/* --- writing ------------------------------------------------------------------------------ */

/* Headers as numpy 1.26 writes them. */
static void writes_as_numpy(void **state)
{
    (void)state;
    static const float zeros[100 * 768];
    static const struct {
        struct tensor_shape shape;
        const char *dict;
        size_t data_at;
    } shapes[] = {
        {{2, {100, 768}}, "{'descr': '<f4', 'fortran_order': False, 'shape': (100, 768), }", 128},
        {{1, {5}}, "{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }", 128},
        {{0, {0}}, "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 128},
        {{3, {1, 2, 3}}, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", 128},
    };
    const char *path = test_path(test_tmpdir(), "p.npy");
    for (size_t k = 0; k < 4; k++) {
        spt_err err = {0};
        fs_mapping m = {0};
        const struct tensor_view v = {DT_F32, shapes[k].shape, zeros};
        EXPECT_OK(npy_write(path, &v, &err), &err);
        EXPECT_OK(fs_map(path, &m, &err), &err);
        const size_t n = strlen(shapes[k].dict);
        assert_memory_equal(m.bytes, "\x93NUMPY\1\0", 8);
        EXPECT_EQ_I64(10 + (m.bytes[8] | m.bytes[9] << 8), shapes[k].data_at);
        assert_memory_equal(m.bytes + 10, shapes[k].dict, n);
        for (size_t i = 10 + n; i < shapes[k].data_at - 1; i++)
            EXPECT_EQ_I64(m.bytes[i], ' ');
        EXPECT_EQ_I64(m.bytes[shapes[k].data_at - 1], '\n');
        fs_unmap(&m);
    }
    spt_err err = {0};
    const struct tensor_view bf16 = {DT_BF16, {1, {2}}, zeros};
    EXPECT_STATUS(npy_write(path, &bf16, &err), SPT_E_USAGE);
    buf mem;
    buf_init(&mem, 1 << 20);
    const struct tensor_view v = {DT_F32, {2, {3, 2}}, zeros};
    fs_mapping m = {0};
    EXPECT_OK(npy_write(path, &v, &err), &err);
    EXPECT_OK(npy_encode(&v, &mem, &err), &err);
    EXPECT_OK(fs_map(path, &m, &err), &err);
    EXPECT_EQ_I64(m.size, mem.len);
    assert_memory_equal(m.bytes, mem.data, m.size);
    fs_unmap(&m);
    buf_clear(&mem);
    EXPECT_STATUS(npy_encode(&bf16, &mem, &err), SPT_E_USAGE);
    buf_release(&mem);
}

static const float values[6] = {1, -2, 3.5f, 0, 1e-30f, 6};

static void round_trip_and_name(void **state)
{
    (void)state;
    static const char *const names[] = {"p.npy", "encoder.prompt.prompt.prompt"};
    for (size_t k = 0; k < 2; k++) {
        const char *path = test_path(test_tmpdir(), names[k]);
        const struct tensor_view v = {DT_F32, {2, {3, 2}}, values};
        store *s = NULL;
        spt_err err = {0};
        struct store_data d = {0};
        EXPECT_OK(npy_write(path, &v, &err), &err);
        EXPECT_OK(store_open(path, NULL, &s, &err), &err);
        EXPECT_STR(store_kind(s), "npy");
        EXPECT_STR(store_at(s, 0)->name, k ? names[1] : "p");
        EXPECT_OK(store_load(s, 0, &d, &err), &err);
        EXPECT_TRUE(shape_equal(&d.view.shape, &v.shape) && d.view.dtype == DT_F32 && !d.owned);
        assert_memory_equal(d.view.data, values, sizeof values);
        store_release(s, &d);
        store_close(s);
    }
}

static void nonfinite_is_found(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float f[N];
    static double g[N];
    static uint16_t h[N];
    char text[SHAPE_TEXT];
    const struct tensor_shape shape = shape_2d(30, 100);
    const struct tensor_view vf = {DT_F32, shape, f}, vg = {DT_F64, shape, g},
                             vh = {DT_F16, shape, h}, vb = {DT_BF16, shape, h};
    size_t at = 0;
    EXPECT_TRUE(!view_find_nonfinite(&vf, &at) && !view_find_nonfinite(&vg, &at) &&
                !view_find_nonfinite(&vh, &at) && !view_find_nonfinite(&vb, &at));
    for (size_t i = 0; i < N; i += 37) {
        f[i] = i % 2 ? NAN : -INFINITY;
        EXPECT_TRUE(view_find_nonfinite(&vf, &at) && at == i);
        f[i] = -3.402823466e38f;
        EXPECT_TRUE(!view_find_nonfinite(&vf, &at));
        g[i] = i % 2 ? 3.4028235677973366e38 : NAN; /* the first double that rounds to infinity */
        EXPECT_TRUE(view_find_nonfinite(&vg, &at) && at == i);
        g[i] = -3.4028235677973362e38; /* the one before it */
        EXPECT_TRUE(isfinite((float)g[i]) && !view_find_nonfinite(&vg, &at));
        h[i] = 0xfc00;
        EXPECT_TRUE(view_find_nonfinite(&vh, &at) && at == i);
        EXPECT_TRUE(!view_find_nonfinite(&vb, &at));
        h[i] = 0xff80;
        EXPECT_TRUE(view_find_nonfinite(&vb, &at) && at == i);
        h[i] = 0x7bff;
        EXPECT_TRUE(!view_find_nonfinite(&vh, &at));
    }
    EXPECT_STR(shape_index_text(&shape, 205, text), "[2, 5]");
}

/* --- faults ------------------------------------------------------------------------------- */

static spt_status read_case(void *ctx, spt_err *err)
{
    store *s = NULL;
    float out[6];
    TRY(store_open(ctx, NULL, &s, err));
    const spt_status st = store_read_f32(s, 0, out, err);
    store_close(s);
    return st;
}

static spt_status write_case(void *ctx, spt_err *err)
{
    const struct tensor_view v = {DT_F32, {2, {3, 2}}, values};
    return npy_write(ctx, &v, err);
}

static void faults(void **state)
{
    (void)state;
    char path[1024];
    const char *text = "{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3)}";
    struct file f = make(1, text, strlen(text), 24);
    snprintf(path, sizeof path, "%s/x.npy", test_tmpdir());
    test_write(path, f.p, f.size);
    free(f.p);
    EXPECT_TRUE(fault_every_alloc(read_case, path) > 3);
    EXPECT_TRUE(fault_every_syscall(read_case, path, EIO) > 3);
    EXPECT_TRUE(fault_every_alloc(write_case, path) > 0);
    EXPECT_TRUE(fault_every_syscall(write_case, path, ENOSPC) > 3);
    spt_err err = {0};
    EXPECT_OK(read_case(path, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boundary_set),
        cmocka_unit_test(versions_and_header_length),
        cmocka_unit_test(truncated_and_changed),
        cmocka_unit_test(every_dress),
        cmocka_unit_test(bfloat16_only_when_asked),
        cmocka_unit_test(writes_as_numpy),
        cmocka_unit_test(round_trip_and_name),
        cmocka_unit_test(nonfinite_is_found),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
