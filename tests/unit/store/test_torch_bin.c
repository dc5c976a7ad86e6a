#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/torch_bin.h"

/* --- a small writer of torch.save files ---------------------------------------------------- */

static void le(buf *b, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_addc(b, (char)(i < 8 ? v >> (8 * i) : 0));
}

static void op_str(buf *b, const char *s)
{
    buf_addc(b, 'X');
    le(b, strlen(s), 4);
    buf_adds(b, s);
}

static void op_int(buf *b, int64_t v)
{
    if (v >= 0 && v < 256) {
        buf_addc(b, 'K');
        le(b, (uint64_t)v, 1);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        buf_addc(b, 'J');
        le(b, (uint64_t)v, 4);
    } else {
        buf_adds(b, "\x8a\x08");
        le(b, (uint64_t)v, 8);
    }
}

/* (dims...) as TUPLEn or MARK ... TUPLE */
static void op_dims(buf *b, const int64_t *d, int n)
{
    buf_addc(b, '(');
    for (int i = 0; i < n; i++)
        op_int(b, d[i]);
    buf_addc(b, 't');
}

struct desc {
    const char *storage, *key;
    int64_t numel, offset;
    int rank;
    int64_t size[9], stride[9];
    bool sixth; /* legacy: view metadata None */
};

static void op_tensor(buf *b, const struct desc *d)
{
    buf_adds(b, "ctorch._utils\n_rebuild_tensor_v2\n((");
    op_str(b, "storage");
    buf_addf(b, "c%s\n", d->storage);
    op_str(b, d->key);
    op_str(b, "cpu");
    op_int(b, d->numel);
    buf_adds(b, d->sixth ? "NtQ" : "tQ");
    op_int(b, d->offset);
    op_dims(b, d->size, d->rank);
    op_dims(b, d->stride, d->rank);
    buf_adds(b, "\x89" "ccollections\nOrderedDict\n)RtR");
}

/* A dict with one tensor "w". */
static void pickle_of(buf *b, const struct desc *d)
{
    buf_adds(b, "\x80\x02}q");
    le(b, 0, 1);
    op_str(b, "w");
    op_tensor(b, d);
    buf_adds(b, "s.");
}

struct zip_file {
    const char *name;
    const void *data;
    size_t size;
};
enum zip_style { ZIP_PLAIN, ZIP_TORCH /* descriptors, ZIP64 end record, padding */ };

static void zip_of(buf *out, const struct zip_file *f, size_t n, enum zip_style style)
{
    uint64_t at[16];
    for (size_t i = 0; i < n; i++) {
        at[i] = out->len;
        const size_t pad = style == ZIP_TORCH ? 64 - (out->len + 34 + strlen(f[i].name)) % 64 : 0;
        le(out, 0x04034b50, 4);
        le(out, 0, 2);
        le(out, style == ZIP_TORCH ? 0x0808 : 0, 2);
        le(out, 0, 2 + 4 + 4);
        le(out, style == ZIP_TORCH ? 0 : f[i].size, 4);
        le(out, style == ZIP_TORCH ? 0 : f[i].size, 4);
        le(out, strlen(f[i].name), 2);
        le(out, style == ZIP_TORCH ? 4 + pad : 0, 2);
        buf_adds(out, f[i].name);
        if (style == ZIP_TORCH) {
            buf_adds(out, "FB");
            le(out, pad, 2);
            for (size_t k = 0; k < pad; k++)
                buf_addc(out, 'Z');
        }
        buf_add(out, f[i].data, f[i].size);
        if (style == ZIP_TORCH) {
            le(out, 0x08074b50, 4);
            le(out, 0, 4);
            le(out, f[i].size, 4);
            le(out, f[i].size, 4);
        }
    }
    const uint64_t dir = out->len;
    for (size_t i = 0; i < n; i++) {
        le(out, 0x02014b50, 4);
        le(out, 0, 2 + 2);
        le(out, style == ZIP_TORCH ? 0x0808 : 0, 2);
        le(out, 0, 2 + 4 + 4);
        le(out, f[i].size, 4);
        le(out, f[i].size, 4);
        le(out, strlen(f[i].name), 2);
        le(out, 0, 2 + 2 + 2 + 2 + 4);
        le(out, at[i], 4);
        buf_adds(out, f[i].name);
    }
    const uint64_t end = out->len;
    if (style == ZIP_TORCH) {
        le(out, 0x06064b50, 4);
        le(out, 44, 8);
        le(out, 0, 2 + 2 + 4 + 4);
        le(out, n, 8);
        le(out, n, 8);
        le(out, end - dir, 8);
        le(out, dir, 8);
        le(out, 0x07064b50, 4);
        le(out, 0, 4);
        le(out, end, 8);
        le(out, 1, 4);
    }
    le(out, 0x06054b50, 4);
    le(out, 0, 4);
    le(out, n, 2);
    le(out, n, 2);
    le(out, end - dir, 4);
    le(out, dir, 4);
    le(out, 0, 2);
}

static const float data4[4] = {1, -2, 3.5f, 4};

/* The pickle with one storage "0" of 16 bytes. */
static void bin_of(buf *out, const buf *pickle, enum zip_style style)
{
    const struct zip_file f[] = {
        {"archive/data.pkl", buf_str(pickle), pickle->len},
        {"archive/byteorder", "little", 6},
        {"archive/data/0", data4, 16},
        {"archive/version", "3\n", 2},
    };
    zip_of(out, f, 4, style);
}

static spt_status open_exact(const void *p, size_t n, spt_err *err)
{
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, p, n);
    store *s = NULL;
    const spt_status st = torch_bin_open_mem(copy, n, &s, err);
    for (size_t i = 0; !st && i < store_count(s); i++) {
        const size_t elements = store_at(s, i)->elements;
        float *out = malloc(elements * sizeof *out + 1);
        EXPECT_OK(store_read_f32(s, i, out, err), err);
        free(out);
    }
    store_close(s);
    free(copy);
    return st;
}

/* --- what is read -------------------------------------------------------------------------- */

static void reads_views_and_strides(void **state)
{
    (void)state;
    static const struct {
        struct desc d;
        float want[4];
        size_t n;
    } cases[] = {
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {2, 1}, false}, {1, -2, 3.5f, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {1, 2}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 1, 1, {2}, {2}, false}, {-2, 4}, 2},
        {{"torch\nFloatStorage", "0", 4, 3, 0, {0}, {0}, false}, {4}, 1},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {1, 4}, {77, 1}, false}, {1, -2, 3.5f, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 3, {2, 1, 2}, {1, 9, 2}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 3, {2, 2, 1}, {1, 2, 7}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 4, {1, 2, 2, 1}, {1, 1, 2, 1}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 4, 2, {0, 5}, {5, 1}, false}, {0}, 0},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {0, 0}, false}, {1, 1, 1, 1}, 4},
    };
    for (int style = 0; style < 2; style++) {
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            buf p, z;
            buf_init(&p, 1 << 20);
            buf_init(&z, 1 << 20);
            pickle_of(&p, &cases[k].d);
            bin_of(&z, &p, (enum zip_style)style);
            store *s = NULL;
            spt_err err = {0};
            float out[4] = {0};
            EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
            EXPECT_EQ_I64(store_count(s), 1);
            EXPECT_STR(store_at(s, 0)->name, "w");
            EXPECT_EQ_I64(store_at(s, 0)->elements, cases[k].n);
            EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
            assert_memory_equal(out, cases[k].want, cases[k].n * sizeof *out);
            store_close(s);
            buf_release(&p);
            buf_release(&z);
        }
    }
}

/* --- pickles that are refused --------------------------------------------------------------- */

#define OK_TENSOR {"torch\nFloatStorage", "0", 4, 0, 1, {4}, {1}, false}

static const struct {
    struct desc d;
    const char *refused;
} tensors[] = {
    {{"torch\nFloatStorage", "0", 4, 1, 1, {4}, {1}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 0, 1, {5}, {1}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 0, 1, {3}, {2}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 5, 1, {0}, {1}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 0, 1, {5}, {0}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 0, 2, {1 << 30, 1 << 30}, {0, 0}, false}, "beyond its storage"},
    {{"torch\nFloatStorage", "0", 4, 0, 2, {3, 3}, {INT32_MAX, INT32_MAX}, false}, "beyond"},
    {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {1LL << 53, 1LL << 53}, false}, "beyond"},
    {{"torch\nFloatStorage", "0", 4, 0, 3, {1LL << 53, 1LL << 53, 1LL << 53}, {0}, false},
     "too large"},
    {{"torch\nFloatStorage", "0", 4, -1, 1, {4}, {1}, false}, "not described"},
    {{"torch\nFloatStorage", "0", 4, 0, 1, {-4}, {1}, false}, "not described"},
    {{"torch\nFloatStorage", "0", 4, 0, 1, {4}, {-1}, false}, "not described"},
    {{"torch\nFloatStorage", "0", -4, 0, 1, {4}, {1}, false}, "not a storage"},
    {{"torch\nFloatStorage", "0", 5, 0, 1, {5}, {1}, false}, "need more"},
    {{"torch\nDoubleStorage", "0", 4, 0, 1, {4}, {1}, false}, "need more"},
    {{"torch\nFloatStorage", "0", 1LL << 53, 0, 1, {1}, {1}, false}, "need more"},
    {{"torch\nFloatStorage", "1", 4, 0, 1, {4}, {1}, false}, "storage '1' is not in the file"},
    {{"torch\nFloatStorage", "../x", 4, 0, 1, {4}, {1}, false}, "is not in the file"},
    {{"torch\nFloatStorage", "0", 4, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}, false},
     "not described"},
    {{"torch\nQInt8Storage", "0", 4, 0, 1, {4}, {1}, false}, "torch.QInt8Storage"},
    {{"os\nsystem", "0", 4, 0, 1, {4}, {1}, false}, "os.system"},
    {{"torch\nFloatStorage", "0", 1LL << 55, 0, 1, {1}, {1}, false}, "integer is too large"},
};

static void bad_tensors(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof tensors / sizeof tensors[0]; k++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        pickle_of(&p, &tensors[k].d);
        bin_of(&z, &p, ZIP_TORCH);
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&z), z.len, &err);
        if (st != SPT_E_FORMAT || !strstr(err.msg, tensors[k].refused))
            fail_msg("tensor %zu: %s, \"%s\" does not contain \"%s\"", k, spt_status_text(st),
                     err.msg, tensors[k].refused);
        buf_release(&p);
        buf_release(&z);
    }
}

#define P(s) s, sizeof(s) - 1
static const struct {
    const char *bytes;
    size_t size;
    const char *refused;
} pickles[] = {
    {P(""), "cut short"},
    {P("\x80"), "cut short"},
    {P("\x80\x05}."), "protocol above 4"},
    {P("."), "stack is empty"},
    {P("(."), "stack is empty"},
    {P("N."), "holds None"},
    {P("]."), "holds a list"},
    {P("K\x07."), "holds an integer"},
    {P("}"), "cut short"},
    {P("cposix\nsystem\n."), "posix.system"},
    {P("cbuiltins\neval\n."), "builtins.eval"},
    {P("c__builtin__\nexec\n."), "__builtin__.exec"},
    {P("ctorch\nload\n."), "torch.load"},
    {P("ccollections\nOrderedDictX\n."), "OrderedDictX"},
    {P("ccollections\nOrderedDict"), "cut short"},
    {P("ccollections"), "cut short"},
    {P("ctorch\nFloatStorage\n)R."), "a storage is called"},
    {P("NNR."), "not a known class"},
    {P("ccollections\nOrderedDict\nNR."), "not a known class"},
    {P("ccollections\nOrderedDict\nK\x01\x85R."), "with arguments"},
    {P("ccollections\nOrderedDict\n]N" "a\x85R."), "not pairs"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n)R."), "not described"},
    {P("ctorch._utils\n_rebuild_parameter\n)R."), "parameter is not described"},
    {P("ctorch._utils\n_rebuild_parameter\n(N\x89NtR."), "parameter is not described"},
    {P("ctorch._utils\n_rebuild_parameter\n(NNtR."), "parameter is not described"},
    {P("h\x00."), "does not exist"},
    {P("j\xff\xff\xff\xff."), "does not exist"},
    {P("Nq\x01."), "not in order"},
    {P("Nr\xff\xff\xff\x7f."), "not in order"},
    {P("q\x00."), "stack is empty"},
    {P("t."), "no mark"},
    {P("u."), "no mark"},
    {P("e."), "no mark"},
    {P("s."), "stack is empty"},
    {P("a."), "stack is empty"},
    {P("\x87."), "stack is empty"},
    {P("(\x85."), "stack is empty"},
    {P("}(Nu."), "not a dict"},
    {P("](NNu."), "not a dict"},
    {P("}(Ne."), "not a list"},
    {P("}NNs."), "not a name"},
    {P("}X\x01\x00\x00\x00" "aNs."), "entry 'a' is None"},
    {P("}X\x01\x00\x00\x00" "a}s."), "training checkpoint"},
    {P("}X\x01\x00\x00\x00\xffNs."), "not valid UTF-8"},
    {P("X\x00\x10\x00\x01" "abc."), "more than 4,096"},
    {P("X\xff\xff\xff\xff" "abc."), "more than 4,096"},
    {P("X\x04\x00\x00\x00" "abc"), "cut short"},
    {P("U\xff" "abc."), "cut short"},
    {P("\x8a\x09" "123456789."), "more than 8 bytes"},
    {P("\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), "too large"},
    {P("NQ."), "not a tuple"},
    {P(")Q."), "not a storage"},
    {P("NNb."), "not a dict"},
    {P("\x95\x00\x00\x00\x00\x00\x00\x00\x00."), "operation 0x95"},
    {P("\x8c\x01" "a."), "operation 0x8c"},
    {P("i" "os\nsystem\n."), "operation 0x69"},
    {P("o."), "operation 0x6f"},
    {P("I1\n."), "operation 0x49"},
    {P("S'x'\n."), "operation 0x53"},
    {P("\x82\x01."), "operation 0x82"},
    {P("0."), "operation 0x30"},
    {P("2."), "operation 0x32"},
    {P("}(Ns."), "a mark among items"},
    {P("}}Ns."), "a dict or a list as the key"},
    {P("}(]Nu."), "a dict or a list as the key"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpu\x8a\x01\x40" "tQK\x00K\x04\x85K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "need more"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpu\x8a\x01\x80" "tQK\x00K\x04\x85K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not a storage"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ccollections\nOrderedDict\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x04" "tQK\x00K\x04\x85K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not a storage"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "NX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x04" "tQK\x00K\x04\x85K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not a storage"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x04" "tQK\x00]K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not described"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x04" "tQK\x00N\x85K\x01\x85" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not described"},
    {P("ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0X\x03\x00\x00\x00" "cpuK\x04" "tQK\x00K\x04\x85K\x01K\x01\x86" "\x89" "ccollections\nOrderedDict\n)RtR."),
     "not described"},
    {P("((NX\x07\x00\x00\x00storagetQ."), "not a storage"},
    {P("(X\x07\x00\x00\x00storage" "ctorch\nFloatStorage\nX\x01\x00\x00\x00" "0NK\x04)tQ."),
     "view of another storage"},
    {P("ccollections\nOrderedDict\n]]Na" "a\x85R."), "not pairs"},
};

static void bad_pickles(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof pickles / sizeof pickles[0]; k++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        buf_add(&p, pickles[k].bytes, pickles[k].size);
        bin_of(&z, &p, ZIP_PLAIN);
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&z), z.len, &err);
        if (st != SPT_E_FORMAT || !strstr(err.msg, pickles[k].refused))
            fail_msg("pickle %zu: %s, \"%s\" does not contain \"%s\"", k, spt_status_text(st),
                     err.msg, pickles[k].refused);
        buf_release(&p);
        buf_release(&z);
    }
}

static void good_pickles(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } good[] = {
        {P("}.")},
        {P("\x80\x02}.")},
        {P("\x80\x04}.")},
        {P("ccollections\nOrderedDict\n)R.")},
        {P("ccollections\nOrderedDict\n)\x81.")},
        {P("ccollections\nOrderedDict\n]\x85R.")},
        {P("ccollections\nOrderedDict\n)Rq\x00}q\x01X\x09\x00\x00\x00_metadataq\x02h\x01sb.")},
        {P("}(u.")},
        {P("N(G12345678\x8fU\x01" "a\x8a\x00\x8a\x01\xfftq\x00h\x00}.")},
    };
    for (size_t k = 0; k < sizeof good / sizeof good[0]; k++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        buf_add(&p, good[k].bytes, good[k].size);
        bin_of(&z, &p, ZIP_PLAIN);
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&z), z.len, &err);
        if (st)
            fail_msg("pickle %zu: %s", k, err.msg);
        buf_release(&p);
        buf_release(&z);
    }
}

/* Every way in which a dict of one tensor "w" may be written. */
static void ways_to_write_a_dict(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    for (int way = 0; way < 6; way++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        if (way == 0) { /* Python 2: OrderedDict([[key, value]]) */
            buf_adds(&p, "ccollections\nOrderedDict\n](](U\x01w");
            op_tensor(&p, &d);
            buf_adds(&p, "ee\x85R.");
        } else if (way == 1) { /* the same with tuples */
            buf_adds(&p, "ccollections\nOrderedDict\n](");
            op_str(&p, "w");
            op_tensor(&p, &d);
            buf_adds(&p, "\x86" "e\x85R.");
        } else if (way == 2) { /* a parameter */
            buf_adds(&p, "}(");
            op_str(&p, "w");
            buf_adds(&p, "ctorch._utils\n_rebuild_parameter\n(");
            op_tensor(&p, &d);
            buf_adds(&p, "\x88)tRu.");
        } else { /* in several pieces; with metadata behind the tensor's hooks */
            buf_adds(&p, "}");
            for (int i = 3; i <= way; i++) {
                const char name[2] = {i == way ? 'w' : (char)('0' + i), 0};
                op_str(&p, name);
                op_tensor(&p, &d);
                buf_adds(&p, "s");
            }
            buf_adds(&p, "(u.");
        }
        bin_of(&z, &p, ZIP_TORCH);
        store *s = NULL;
        spt_err err = {0};
        size_t i;
        float out[4];
        EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
        EXPECT_EQ_I64(store_count(s), way < 3 ? 1 : way - 2);
        EXPECT_TRUE(store_find(s, "w", &i));
        EXPECT_OK(store_read_f32(s, i, out, &err), &err);
        assert_memory_equal(out, data4, sizeof out);
        store_close(s);
        buf_release(&p);
        buf_release(&z);
    }
}

/* _rebuild_tensor_v2 takes six or seven arguments. */
static void number_of_arguments(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    for (int n = 4; n <= 9; n++) {
        buf p, z, t;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        buf_init(&t, 1 << 20);
        op_tensor(&t, &d);
        /* what op_tensor wrote without its last two arguments and "tR" */
        static const char tail[] = "\x89" "ccollections\nOrderedDict\n)RtR";
        buf_adds(&p, "}");
        op_str(&p, "w");
        buf_add(&p, t.data, t.len - (sizeof tail - 1));
        for (int i = 4; i < n; i++)
            buf_addc(&p, 'N');
        buf_adds(&p, "tRs.");
        bin_of(&z, &p, ZIP_TORCH);
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&z), z.len, &err);
        if ((st == SPT_OK) != (n == 6 || n == 7))
            fail_msg("%d arguments: %s (%s)", n, spt_status_text(st), err.msg);
        buf_release(&p);
        buf_release(&z);
        buf_release(&t);
    }
}

static void doubled_names(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_adds(&p, "}(");
    for (int i = 0; i < 2; i++) {
        op_str(&p, "w");
        op_tensor(&p, &d);
    }
    buf_adds(&p, "u.");
    bin_of(&z, &p, ZIP_TORCH);
    spt_err err = {0};
    EXPECT_STATUS(open_exact(buf_str(&z), z.len, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "two tensors are named 'w'");
    buf_release(&p);
    buf_release(&z);
}

/* A pickle may have as many cells as it has bytes, and 4,096 more; every dict takes two. */
static void as_many_values_as_there_may_be(void **state)
{
    (void)state;
    for (int dicts = 4096; dicts <= 4097; dicts++) {
        buf p, z;
        buf_init(&p, 8 << 20);
        buf_init(&z, 8 << 20);
        buf_adds(&p, "NN\x86"); /* a pair: three; and there is one from the start */
        for (int i = 0; i < dicts; i++)
            buf_addc(&p, '}');
        buf_addc(&p, '.');
        bin_of(&z, &p, ZIP_PLAIN);
        spt_err err = {0};
        open_exact(buf_str(&z), z.len, &err);
        if ((strstr(err.msg, "more values than its size justifies") != NULL) != (dicts == 4097))
            fail_msg("%d dicts: %s", dicts, err.msg);
        buf_release(&p);
        buf_release(&z);
    }
}

/* Few bytes, many values: the machine must not build what the bytes do not justify. */
static void pickle_bombs(void **state)
{
    (void)state;
    static const char *const repeat[] = {"(", "N", ")", "}", "]", "]q", "N\x85", "Nq", "(t", "\x8f",
                                         "h\x01", "Na"};
    for (size_t k = 0; k < sizeof repeat / sizeof repeat[0]; k++) {
        buf p, z;
        buf_init(&p, 8 << 20);
        buf_init(&z, 8 << 20);
        buf_adds(&p, "}N\x85q");
        le(&p, 0, 1);
        buf_adds(&p, "q\x01]");
        for (int i = 0; i < 300000; i++) {
            buf_adds(&p, repeat[k]);
            if (repeat[k][strlen(repeat[k]) - 1] == 'q')
                le(&p, 1, 1);
        }
        bin_of(&z, &p, ZIP_PLAIN);
        fault_install();
        store *s = NULL;
        spt_err err = {0};
        EXPECT_STATUS(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), SPT_E_FORMAT);
        if (fault_peak_bytes() > 16 * z.len + (1 << 20))
            fail_msg("%zu: %zu bytes of heap for %zu", k, fault_peak_bytes(), z.len);
        fault_remove();
        buf_release(&p);
        buf_release(&z);
    }
}

/* One tensor under very many names: more infos than the file justifies. */
static void alias_bomb(void **state)
{
    (void)state;
    buf p, z;
    static const struct desc d = OK_TENSOR;
    buf_init(&p, 8 << 20);
    buf_init(&z, 8 << 20);
    op_tensor(&p, &d);
    buf_addc(&p, 'q');
    le(&p, 0, 1);
    buf_adds(&p, "}(");
    for (int i = 0; i < 40000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%x", i);
        op_str(&p, name);
        buf_addc(&p, 'h');
        le(&p, 0, 1);
    }
    buf_adds(&p, "u.");
    bin_of(&z, &p, ZIP_PLAIN);
    fault_install();
    store *s = NULL;
    spt_err err = {0};
    EXPECT_STATUS(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "40000 tensors in a file of");
    EXPECT_TRUE(fault_peak_bytes() <= 16 * z.len + (1 << 20));
    fault_remove();
    buf_release(&p);
    buf_release(&z);
}

/* --- containers ----------------------------------------------------------------------------- */

static void check_zip(const struct zip_file *f, size_t n, const char *refused)
{
    buf z;
    buf_init(&z, 1 << 20);
    zip_of(&z, f, n, ZIP_PLAIN);
    spt_err err = {0};
    const spt_status st = open_exact(buf_str(&z), z.len, &err);
    if (st != SPT_E_FORMAT || !strstr(err.msg, refused))
        fail_msg("%s, \"%s\" does not contain \"%s\"", spt_status_text(st), err.msg, refused);
    buf_release(&z);
}

static void bad_containers(void **state)
{
    (void)state;
    const struct zip_file pkl = {"a/data.pkl", "}.", 2};
    const struct zip_file twice[] = {pkl, pkl};
    const struct zip_file two_prefixes[] = {pkl, {"b/data/0", data4, 16}};
    const struct zip_file no_prefix[] = {{"data.pkl", "}.", 2}};
    const struct zip_file dotdot[] = {pkl, {"a/../b", "x", 1}};
    const struct zip_file npz[] = {{"prompt.npy", "x", 1}};
    const struct zip_file no_pickle[] = {{"a/data/0", data4, 16}};
    const struct zip_file big_endian[] = {pkl, {"a/byteorder", "big", 3}};
    check_zip(NULL, 0, "without entries");
    check_zip(twice, 2, "two ZIP entries are named");
    check_zip(two_prefixes, 2, "outside");
    check_zip(no_prefix, 1, "outside");
    check_zip(dotdot, 2, "forbidden name");
    check_zip(npz, 1, "NumPy .npz");
    check_zip(no_pickle, 1, "without data.pkl");
    check_zip(big_endian, 2, "not little endian");
    char name[200], want[200]; /* of long names 80 bytes are shown */
    snprintf(name, sizeof name, "a/../%0100d", 0);
    snprintf(want, sizeof want, "ZIP entry 'a/../%075d' has a forbidden name", 0);
    const struct zip_file long_name[] = {pkl, {name, "x", 1}};
    check_zip(long_name, 2, want);
    snprintf(name, sizeof name, "a/../%075d", 0);
    check_zip(long_name, 2, want);
}

/* An entry whose header lies inside the data of another one. */
static void nested_entries(void **state)
{
    (void)state;
    for (size_t more = 0; more < 2; more++) {
        buf inner, z;
        buf_init(&inner, 100);
        buf_init(&z, 1 << 20);
        le(&inner, 0x04034b50, 4);
        le(&inner, 0, 2 + 2 + 2 + 4 + 4);
        le(&inner, 16, 4);
        le(&inner, 16, 4);
        le(&inner, 3, 2);
        le(&inner, 0, 2);
        buf_adds(&inner, "a/y");
        const size_t header = inner.len;
        le(&inner, 0, more); /* the data of y begin in those of x, or just behind them */
        const struct zip_file f[] = {{"a/data.pkl", "}.", 2}, {"a/x", buf_str(&inner), inner.len}, {"a/y", data4, 16}};
        zip_of(&z, f, 3, ZIP_PLAIN);
        size_t x = 0, last = 0;
        for (size_t i = 0; i + 4 < z.len; i++) {
            if (!x && !memcmp(z.data + i, "a/xPK", 5))
                x = i + 3;
            if (!memcmp(z.data + i, "PK\1\2", 4))
                last = i;
        }
        EXPECT_TRUE(x && z.data[last + 42] && !z.data[last + 43] && header == 33);
        z.data[last + 42] = (char)x;
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&z), z.len, &err);
        if (more) {
            EXPECT_STATUS(st, SPT_E_FORMAT);
            EXPECT_MSG(&err, "ZIP entries 'a/x' and 'a/y' overlap");
        } else {
            EXPECT_OK(st, &err);
        }
        buf_release(&inner);
        buf_release(&z);
    }
}

/* One field of the directory or of a local header is replaced. */
static void changed_fields(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    pickle_of(&p, &d);
    bin_of(&z, &p, ZIP_TORCH);
    size_t central = 0;
    for (size_t i = 0; i + 4 < z.len && !central; i++)
        central = memcmp(z.data + i, "PK\1\2", 4) ? 0 : i;
    const struct {
        size_t at, n;
        uint64_t value;
    } changes[] = {
        {central + 8, 2, 1},           /* encrypted */
        {central + 8, 2, 1 << 5},      /* a patch */
        {central + 8, 2, 1 << 6},      /* strongly encrypted */
        {central + 8, 2, 1 << 13},     /* headers masked */
        {central + 34, 2, 1},          /* on another disk */
        {central + 10, 2, 8},          /* deflated */
        {central + 20, 4, 1},          /* sizes differ */
        {central + 24, 4, 1},
        {central + 20, 4, UINT32_MAX}, /* ZIP64 without its field */
        {central + 24, 4, UINT32_MAX},
        {central + 28, 2, 0xffff},     /* name length */
        {central + 30, 2, 0xffff},     /* extra length */
        {central + 42, 4, 1},          /* local offset */
        {central + 42, 4, UINT32_MAX},
        {central + 20, 8, 0x7fffffff7fffffff}, /* beyond the file */
        {central + 20, 8, 0x0000100000001000},
        {0, 4, 0},                     /* local signature */
        {8, 2, 8},                     /* local method */
        {18, 4, 5},                    /* local size */
        {26, 2, 0},                    /* local name length */
        {28, 2, 0xffff},               /* local extra length */
        {30, 1, 'x'},                  /* local name */
        {z.len - 22 - 20 + 8, 8, 0},   /* ZIP64 record elsewhere */
        {z.len - 22 - 20 + 8, 8, UINT64_MAX},
        {z.len - 22 - 20 - 56 + 32, 8, UINT64_MAX}, /* count */
        {z.len - 22 - 20 - 56 + 32, 8, 1u << 31},
        {z.len - 22 - 20 - 56 + 40, 8, UINT64_MAX}, /* directory size */
        {z.len - 22 - 20 - 56 + 48, 8, UINT64_MAX}, /* directory offset */
        {z.len - 22 - 20 - 56 + 48, 8, INT64_MAX},
    };
    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        char *copy = malloc(z.len);
        memcpy(copy, z.data, z.len);
        for (size_t i = 0; i < changes[k].n; i++)
            copy[changes[k].at + i] = (char)(changes[k].value >> (8 * i));
        spt_err err = {0};
        const spt_status st = open_exact(copy, z.len, &err);
        if (st != SPT_E_FORMAT || !strstr(err.msg, "ZIP"))
            fail_msg("change %zu: %s (%s)", k, spt_status_text(st), err.msg);
        free(copy);
    }
    buf_release(&p);
    buf_release(&z);
}

/* Sizes and offsets that stand in the ZIP64 extra field (files over 4 GB have them). */
static void zip64_fields(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    buf p, z, y;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_init(&y, 1 << 20);
    pickle_of(&p, &d);
    const struct zip_file f[] = {{"a/data.pkl", buf_str(&p), p.len}, {"a/data/0", data4, 16}};
    zip_of(&z, f, 2, ZIP_PLAIN);
    size_t last = 0, dir = 0;
    for (size_t i = 0; i + 4 < z.len; i++)
        if (!memcmp(z.data + i, "PK\1\2", 4)) {
            dir = dir ? dir : i;
            last = i;
        }
    for (size_t have = 0; have <= 24; have += 8) { /* with 24 bytes the field is complete */
        buf_clear(&y);
        buf_add(&y, z.data, last + 46 + 8);
        memset(y.data + last + 20, 0xff, 8);  /* sizes */
        memset(y.data + last + 42, 0xff, 4);  /* offset */
        y.data[last + 30] = (char)(4 + 3 + 4 + have);
        le(&y, 0x4246, 2), le(&y, 3, 2), buf_adds(&y, "abc"); /* another field in front */
        le(&y, 1, 2), le(&y, have, 2);
        if (have > 0)
            le(&y, 16, 8);
        if (have > 8)
            le(&y, 16, 8);
        if (have > 16)
            le(&y, (unsigned char)z.data[last + 42] | (uint64_t)(unsigned char)z.data[last + 43] << 8,
               8);
        const size_t end = y.len;
        buf_add(&y, z.data + z.len - 22, 22);
        for (size_t i = 0; i < 4; i++)
            y.data[end + 12 + i] = (char)((end - dir) >> (8 * i));
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&y), y.len, &err);
        if ((st == SPT_OK) != (have == 24))
            fail_msg("%zu bytes: %s (%s)", have, spt_status_text(st), err.msg);
    }
    buf_release(&p);
    buf_release(&z);
    buf_release(&y);
}

static void truncated_and_changed(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    for (int style = 0; style < 2; style++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        pickle_of(&p, &d);
        bin_of(&z, &p, (enum zip_style)style);
        for (size_t n = 0; n < z.len; n++) {
            spt_err err = {0};
            EXPECT_STATUS(open_exact(buf_str(&z), n, &err), SPT_E_FORMAT);
        }
        for (size_t at = 0; at < z.len; at++) {
            const char old = z.data[at];
            for (int v = 0; v < 256; v += 5) {
                spt_err err = {0};
                z.data[at] = (char)(old ^ v);
                const spt_status st = open_exact(buf_str(&z), z.len, &err);
                EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
            }
            z.data[at] = old;
        }
        buf_release(&p);
        buf_release(&z);
    }
}

/* --- legacy container ----------------------------------------------------------------------- */

static void legacy_of(buf *b, const struct desc *d, bool little, const char *key, uint64_t count)
{
    buf_add(b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    buf_add(b, "\x80\x02M\xe9\x03.", 6);
    buf_adds(b, "\x80\x02}(");
    op_str(b, "protocol_version");
    buf_adds(b, "M\xe9\x03");
    op_str(b, "little_endian");
    buf_addc(b, little ? '\x88' : '\x89');
    op_str(b, "type_sizes");
    buf_adds(b, "}(");
    op_str(b, "int");
    buf_adds(b, "K\x04uu.");
    pickle_of(b, d);
    buf_adds(b, "\x80\x02]");
    op_str(b, key);
    buf_adds(b, "a.");
    le(b, count, 8);
    buf_add(b, data4, 16);
}

/* torch.save(tensor) of an old torch; and a dict of which only one value is a tensor. */
static void legacy_roots(void **state)
{
    (void)state;
    static const struct desc d = {"torch\nFloatStorage", "94028312", 4, 1, 1, {3}, {1}, true};
    for (int dict = 0; dict < 2; dict++) {
        buf b;
        buf_init(&b, 1 << 20);
        buf_add(&b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
        buf_add(&b, "\x80\x02M\xe9\x03.", 6);
        buf_adds(&b, "\x80\x02}(");
        op_str(&b, "protocol_version");
        buf_adds(&b, "M\xe9\x03");
        op_str(&b, "little_endian");
        buf_adds(&b, "\x88");
        op_str(&b, "type_sizes");
        buf_adds(&b, "}(");
        op_str(&b, "int");
        buf_adds(&b, "K\x04uu.\x80\x02");
        if (dict) {
            buf_adds(&b, "}(");
            op_str(&b, "w");
        }
        op_tensor(&b, &d);
        buf_adds(&b, dict ? "u." : ".");
        buf_adds(&b, "\x80\x02]");
        op_str(&b, d.key);
        buf_adds(&b, "a.");
        le(&b, 4, 8);
        buf_add(&b, data4, 16);
        store *s = NULL;
        spt_err err = {0};
        float got[3];
        EXPECT_OK(torch_bin_open_mem(buf_str(&b), b.len, &s, &err), &err);
        EXPECT_EQ_I64(store_count(s), 1);
        EXPECT_OK(store_read_f32(s, 0, got, &err), &err);
        EXPECT_TRUE(!memcmp(got, data4 + 1, sizeof got));
        store_close(s);
        buf_release(&b);
    }
}

static void storages_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *storage;
        enum dtype t;
    } of[] = {{"torch\nFloatStorage", DT_F32},    {"torch\nDoubleStorage", DT_F64}, {"torch\nHalfStorage", DT_F16},
              {"torch\nBFloat16Storage", DT_BF16}, {"torch\nLongStorage", DT_I64},   {"torch\nIntStorage", DT_I32},
              {"torch\nShortStorage", DT_I16},    {"torch\nCharStorage", DT_I8},    {"torch\nByteStorage", DT_U8},
              {"torch\nBoolStorage", DT_BOOL},    {"torch.storage\nUntypedStorage", DT_U8}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const int64_t n = 16 / (int64_t)dtype_size(of[i].t);
        const struct desc d = {of[i].storage, "0", n, 0, 1, {n}, {1}, false};
        buf p, z;
        store *s = NULL;
        spt_err err = {0};
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        pickle_of(&p, &d);
        bin_of(&z, &p, ZIP_TORCH);
        EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
        EXPECT_EQ_I64(store_at(s, 0)->dtype, of[i].t);
        EXPECT_EQ_I64(store_at(s, 0)->elements, n);
        store_close(s);
        buf_release(&p);
        buf_release(&z);
    }
}

static void long_names_are_cut_in_messages(void **state)
{
    (void)state;
    for (size_t n = 80; n <= 81; n++) {
        char name[100], want[200];
        buf p, z;
        buf_init(&p, 1000);
        buf_init(&z, 1 << 20);
        memset(name, 'n', n);
        name[n] = '\0';
        buf_adds(&p, "}");
        op_str(&p, name);
        buf_adds(&p, "Ns.");
        bin_of(&z, &p, ZIP_PLAIN);
        spt_err err = {0};
        EXPECT_STATUS(open_exact(buf_str(&z), z.len, &err), SPT_E_FORMAT);
        snprintf(want, sizeof want, "entry '%.80s' is None", name);
        EXPECT_MSG(&err, want);
        buf_release(&p);
        buf_release(&z);
    }
}

static void legacy_container(void **state)
{
    (void)state;
    static const struct desc d = {"torch\nFloatStorage", "94028312", 4, 1, 1, {3}, {1}, true};
    buf b;
    buf_init(&b, 1 << 20);
    legacy_of(&b, &d, true, d.key, 4);
    store *s = NULL;
    spt_err err = {0};
    float out[3];
    EXPECT_OK(torch_bin_open_mem(buf_str(&b), b.len, &s, &err), &err);
    EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
    assert_memory_equal(out, data4 + 1, sizeof out);
    store_close(s);
    for (size_t n = 0; n < b.len; n++)
        EXPECT_STATUS(open_exact(buf_str(&b), n, &err), SPT_E_FORMAT);
    buf_addc(&b, 0);
    EXPECT_STATUS(open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "behind the last storage");
    static const struct {
        bool little;
        const char *key;
        uint64_t count;
        const char *refused;
    } bad[] = {
        {false, "94028312", 4, "not little endian"},
        {true, "94028313", 4, "used by no tensor"},
        {true, "94028312", 3, "has 3 elements"},
        {true, "94028312", UINT64_MAX, "elements"},
        {true, "94028312", 0, "has 0 elements"},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        buf_clear(&b);
        legacy_of(&b, &d, bad[k].little, bad[k].key, bad[k].count);
        EXPECT_STATUS(open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, bad[k].refused);
    }
    struct desc longer = d;
    longer.numel = 5;
    buf_clear(&b);
    legacy_of(&b, &longer, true, d.key, 5);
    EXPECT_STATUS(open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
    /* A storage without elements ends with its count, which may be cut short, too. */
    const struct desc empty = {"torch\nFloatStorage", "94028312", 0, 0, 1, {0}, {1}, true};
    buf_clear(&b);
    legacy_of(&b, &empty, true, empty.key, 0);
    b.len -= 16;
    EXPECT_OK(open_exact(buf_str(&b), b.len, &err), &err);
    for (size_t n = 0; n < b.len; n++)
        EXPECT_STATUS(open_exact(buf_str(&b), n, &err), SPT_E_FORMAT);
    buf_release(&b);
}

static void legacy_two_storages(void **state)
{
    (void)state;
    struct desc a = {"torch\nFloatStorage", "222", 4, 0, 1, {4}, {1}, true};
    struct desc b = {"torch\nShortStorage", "1111", 8, 2, 1, {3}, {2}, true};
    static const int16_t shorts[8] = {0, 1, -2, 3, 4, 5, 6, 7};
    buf f;
    buf_init(&f, 1 << 20);
    for (int bad = 0; bad < 5; bad++) {
        buf_clear(&f);
        buf_add(&f, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
        buf_adds(&f, bad == 1 ? "M\xe8\x03." : "M\xe9\x03.");
        buf_adds(&f, bad == 2 ? "N." : "}.");
        buf_adds(&f, "}(");
        op_str(&f, "x"), op_tensor(&f, &a);
        op_str(&f, "y"), op_tensor(&f, &b);
        op_str(&f, "z"), op_tensor(&f, &a);
        buf_adds(&f, "u.](");
        op_str(&f, "1111");
        if (bad == 3)
            buf_adds(&f, "N");
        op_str(&f, bad == 4 ? "1111" : "222");
        buf_adds(&f, "e.");
        le(&f, 8, 8), buf_add(&f, shorts, sizeof shorts);
        le(&f, 4, 8), buf_add(&f, data4, sizeof data4);
        static const char *const parts[] = {"", "protocol number is not", "sys_info is not a dict",
                                            "key is not a string", "listed twice"};
        spt_err err = {0};
        const spt_status st = open_exact(buf_str(&f), f.len, &err);
        if ((st == SPT_OK) != (bad == 0) || !strstr(err.msg, parts[bad]))
            fail_msg("%d: %s (%s)", bad, spt_status_text(st), err.msg);
        if (bad)
            continue;
        store *s = NULL;
        float out[4];
        EXPECT_OK(torch_bin_open_mem(buf_str(&f), f.len, &s, &err), &err);
        EXPECT_OK(store_read_f32(s, 1, out, &err), &err);
        EXPECT_TRUE(out[0] == -2 && out[1] == 4 && out[2] == 6);
        EXPECT_OK(store_read_f32(s, 2, out, &err), &err);
        assert_memory_equal(out, data4, sizeof data4);
        store_close(s);
    }
    buf_release(&f);
}

static void legacy_many_storages(void **state)
{
    (void)state;
    enum { N = 37 };
    buf f;
    char key[8];
    buf_init(&f, 1 << 20);
    buf_add(&f, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.M\xe9\x03.}.}(", 23);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "%d", i * 7919 % 1000);
        const struct desc d = {"torch\nByteStorage", key, 1, 0, 0, {0}, {0}, true};
        op_str(&f, key);
        op_tensor(&f, &d);
    }
    buf_adds(&f, "u.](");
    for (int i = N - 1; i >= 0; i--) {
        snprintf(key, sizeof key, "%d", i * 7919 % 1000);
        op_str(&f, key);
    }
    buf_adds(&f, "e.");
    for (int i = N - 1; i >= 0; i--) {
        le(&f, 1, 8);
        le(&f, (uint64_t)i, 1);
    }
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(torch_bin_open_mem(buf_str(&f), f.len, &s, &err), &err);
    for (size_t i = 0; i < N; i++) {
        float v;
        EXPECT_OK(store_read_f32(s, i, &v, &err), &err);
        EXPECT_EQ_F64(v, (double)i);
    }
    store_close(s);
    buf_release(&f);
}

static void bare_tensor(void **state)
{
    (void)state;
    static const struct desc d = OK_TENSOR;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_adds(&p, "\x80\x02");
    op_tensor(&p, &d);
    buf_addc(&p, '.');
    bin_of(&z, &p, ZIP_TORCH);
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
    EXPECT_STR(store_at(s, 0)->name, "tensor");
    store_close(s);
    buf_release(&p);
    buf_release(&z);
}

/* --- files of the reference ------------------------------------------------------------------ */

static void equal_prompts(const char *golden, const char *a, const char *b)
{
    char pa[1024], pb[1024];
    store *x = NULL, *y = NULL;
    spt_err err = {0};
    snprintf(pa, sizeof pa, "%s/hf/peft_prompt/%s", golden, a);
    snprintf(pb, sizeof pb, "%s/hf/peft_prompt/%s", golden, b);
    EXPECT_OK(store_open(pa, NULL, &x, &err), &err);
    EXPECT_OK(store_open(pb, NULL, &y, &err), &err);
    EXPECT_STR(store_at(x, 0)->name, "prompt_embeddings");
    EXPECT_STR(store_at(y, 0)->name, "prompt_embeddings");
    struct store_data dx = {0}, dy = {0};
    EXPECT_OK(store_load(x, 0, &dx, &err), &err);
    EXPECT_OK(store_load(y, 0, &dy, &err), &err);
    EXPECT_TRUE(shape_equal(&dx.view.shape, &dy.view.shape));
    assert_memory_equal(dx.view.data, dy.view.data, store_at(x, 0)->bytes);
    store_release(x, &dx);
    store_release(y, &dy);
    store_close(x);
    store_close(y);
}

static void golden_containers_agree(void **state)
{
    (void)state;
    const char *golden = test_golden_dir();
    if (!golden)
        skip();
    equal_prompts(golden, "sub1/adapter_model.safetensors", "sub1_bin/adapter_model.bin");
    equal_prompts(golden, "sub1/adapter_model.safetensors", "sub1_legacy_bin/adapter_model.bin");
    equal_prompts(golden, "sub2/adapter_model.safetensors", "sub2_bin/adapter_model.bin");
}

/* --- faults ------------------------------------------------------------------------------- */

static spt_status read_case(void *ctx, spt_err *err)
{
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    float out[4];
    const spt_status st = store_read_f32(s, 0, out, err);
    store_close(s);
    return st;
}

static void faults(void **state)
{
    (void)state;
    static const struct desc zip = {"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {1, 2}, false};
    static const struct desc old = {"torch\nFloatStorage", "7", 4, 0, 2, {2, 2}, {1, 2}, true};
    buf p, z;
    char path[1024];
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    for (int legacy = 0; legacy < 2; legacy++) {
        buf_clear(&p);
        buf_clear(&z);
        pickle_of(&p, &zip);
        if (legacy)
            legacy_of(&z, &old, true, old.key, 4);
        else
            bin_of(&z, &p, ZIP_TORCH);
        snprintf(path, sizeof path, "%s/x.bin", test_tmpdir());
        test_write(path, buf_str(&z), z.len);
        EXPECT_TRUE(fault_every_alloc(read_case, path) > 5);
        EXPECT_TRUE(fault_every_syscall(read_case, path, EIO) > 3);
    }
    buf_release(&p);
    buf_release(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_views_and_strides),
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(bad_pickles),
        cmocka_unit_test(good_pickles),
        cmocka_unit_test(ways_to_write_a_dict),
        cmocka_unit_test(number_of_arguments),
        cmocka_unit_test(doubled_names),
        cmocka_unit_test(pickle_bombs),
        cmocka_unit_test(as_many_values_as_there_may_be),
        cmocka_unit_test(nested_entries),
        cmocka_unit_test(alias_bomb),
        cmocka_unit_test(bad_containers),
        cmocka_unit_test(changed_fields),
        cmocka_unit_test(zip64_fields),
        cmocka_unit_test(truncated_and_changed),
        cmocka_unit_test(legacy_container),
        cmocka_unit_test(legacy_roots),
        cmocka_unit_test(storages_of_every_kind),
        cmocka_unit_test(long_names_are_cut_in_messages),
        cmocka_unit_test(legacy_two_storages),
        cmocka_unit_test(legacy_many_storages),
        cmocka_unit_test(bare_tensor),
        cmocka_unit_test(golden_containers_agree),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
