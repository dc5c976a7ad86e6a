#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/torch_bin.h"
#include "support/torch_file.h"

/* --- pickles that are refused --------------------------------------------------------------- */

static const struct {
    struct torch_desc d;
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
        torch_put_pickle(&p, &tensors[k].d);
        torch_put_file(&z, &p, TORCH_AS_SAVED);
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
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
        torch_put_file(&z, &p, TORCH_PLAIN);
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
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
        torch_put_file(&z, &p, TORCH_PLAIN);
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
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
    static const struct torch_desc d = TORCH_WHOLE;
    for (int way = 0; way < 6; way++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        if (way == 0) { /* Python 2: OrderedDict([[key, value]]) */
            buf_adds(&p, "ccollections\nOrderedDict\n](](U\x01w");
            torch_put_tensor(&p, &d);
            buf_adds(&p, "ee\x85R.");
        } else if (way == 1) { /* the same with tuples */
            buf_adds(&p, "ccollections\nOrderedDict\n](");
            torch_put_str(&p, "w");
            torch_put_tensor(&p, &d);
            buf_adds(&p, "\x86" "e\x85R.");
        } else if (way == 2) { /* a parameter */
            buf_adds(&p, "}(");
            torch_put_str(&p, "w");
            buf_adds(&p, "ctorch._utils\n_rebuild_parameter\n(");
            torch_put_tensor(&p, &d);
            buf_adds(&p, "\x88)tRu.");
        } else { /* in several pieces; with metadata behind the tensor's hooks */
            buf_adds(&p, "}");
            for (int i = 3; i <= way; i++) {
                const char name[2] = {i == way ? 'w' : (char)('0' + i), 0};
                torch_put_str(&p, name);
                torch_put_tensor(&p, &d);
                buf_adds(&p, "s");
            }
            buf_adds(&p, "(u.");
        }
        torch_put_file(&z, &p, TORCH_AS_SAVED);
        store *s = NULL;
        spt_err err = {0};
        size_t i;
        float out[4];
        EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
        EXPECT_EQ_I64(store_count(s), way < 3 ? 1 : way - 2);
        EXPECT_TRUE(store_find(s, "w", &i));
        EXPECT_OK(store_read_f32(s, i, out, &err), &err);
        assert_memory_equal(out, torch_data4, sizeof out);
        store_close(s);
        buf_release(&p);
        buf_release(&z);
    }
}

/* _rebuild_tensor_v2 takes six or seven arguments. */
static void number_of_arguments(void **state)
{
    (void)state;
    static const struct torch_desc d = TORCH_WHOLE;
    for (int n = 4; n <= 9; n++) {
        buf p, z, t;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        buf_init(&t, 1 << 20);
        torch_put_tensor(&t, &d);
        /* what op_tensor wrote without its last two arguments and "tR" */
        static const char tail[] = "\x89" "ccollections\nOrderedDict\n)RtR";
        buf_adds(&p, "}");
        torch_put_str(&p, "w");
        buf_add(&p, t.data, t.len - (sizeof tail - 1));
        for (int i = 4; i < n; i++)
            buf_addc(&p, 'N');
        buf_adds(&p, "tRs.");
        torch_put_file(&z, &p, TORCH_AS_SAVED);
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
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
    static const struct torch_desc d = TORCH_WHOLE;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_adds(&p, "}(");
    for (int i = 0; i < 2; i++) {
        torch_put_str(&p, "w");
        torch_put_tensor(&p, &d);
    }
    buf_adds(&p, "u.");
    torch_put_file(&z, &p, TORCH_AS_SAVED);
    spt_err err = {0};
    EXPECT_STATUS(torch_open_exact(buf_str(&z), z.len, &err), SPT_E_FORMAT);
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
        torch_put_file(&z, &p, TORCH_PLAIN);
        spt_err err = {0};
        torch_open_exact(buf_str(&z), z.len, &err);
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
        torch_put_le(&p, 0, 1);
        buf_adds(&p, "q\x01]");
        for (int i = 0; i < 300000; i++) {
            buf_adds(&p, repeat[k]);
            if (repeat[k][strlen(repeat[k]) - 1] == 'q')
                torch_put_le(&p, 1, 1);
        }
        torch_put_file(&z, &p, TORCH_PLAIN);
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
    static const struct torch_desc d = TORCH_WHOLE;
    buf_init(&p, 8 << 20);
    buf_init(&z, 8 << 20);
    torch_put_tensor(&p, &d);
    buf_addc(&p, 'q');
    torch_put_le(&p, 0, 1);
    buf_adds(&p, "}(");
    for (int i = 0; i < 40000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%x", i);
        torch_put_str(&p, name);
        buf_addc(&p, 'h');
        torch_put_le(&p, 0, 1);
    }
    buf_adds(&p, "u.");
    torch_put_file(&z, &p, TORCH_PLAIN);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_tensors),
        cmocka_unit_test(bad_pickles),
        cmocka_unit_test(good_pickles),
        cmocka_unit_test(ways_to_write_a_dict),
        cmocka_unit_test(number_of_arguments),
        cmocka_unit_test(doubled_names),
        cmocka_unit_test(pickle_bombs),
        cmocka_unit_test(as_many_values_as_there_may_be),
        cmocka_unit_test(alias_bomb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
