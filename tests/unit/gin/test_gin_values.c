/* Values: equality, order, repr and layout as Python has them; accessors asked for what is not there. The
 * wanted texts are what Python 3.11 prints for the same literals. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "gin/gin.h"
#include "gin/gin_internal.h"

static gin_registry *registry;
static gin_config *config;

static const gin_def defs[] = {
    {"m.x", "f", GIN_FUNCTION, "a=1, b='t', *, c=2.5, d", true, NULL},
    {"m.x", "g", GIN_FUNCTION, "**kwargs", true, NULL},
    {"m.x", "Box", GIN_CLASS, "item=None", true, NULL},
    {"m.x", "Box.open", GIN_METHOD, "key=0", false, NULL},
};

static int open_config(void **state)
{
    spt_err err;
    (void)state;
    return gin_registry_new(&registry, &err) || gin_registry_add(registry, defs, 4, &err) ||
           gin_config_new(registry, &config, &err);
}

static int close_config(void **state)
{
    (void)state;
    gin_config_free(config);
    gin_registry_free(registry);
    return 0;
}

static spt_status parse(const char *text, gin_value *out)
{
    gin_parser p;
    char *copy = mem_strndup(text, strlen(text));
    EXPECT_TRUE(copy != NULL);
    spt_status st = gin_parser_init(&p, config, NULL, NULL, copy, gin_normalise(copy, strlen(text)),
                                    gin_reference_plain);
    if (!st)
        st = gin_parse_value(&p, out);
    gin_parser_release(&p);
    mem_free(copy);
    return st;
}

static gin_value value(const char *text)
{
    gin_value v;
    if (parse(text, &v))
        fail_msg("%s: %s", text, gin_last_error(config)->text);
    return v;
}

static void equality_and_order(void **state)
{
    (void)state;
    /* Groups of equal values, in ascending order where Python orders them. */
    static const char *const groups[][5] = {
        {"-2", "-2.0"}, {"0", "0.0", "-0.0", "False"}, {"1", "1.0", "True"}, {"1.5", "15e-1"}, {"9007199254740993"},
        {"''", "\"\""}, {"'a'", "\"a\"", "'''a'''", "r'a'"}, {"'ab'"}, {"'b'"}, {"b''"}, {"b'a'", "b'\\x61'"}, {"b'ab'"},
        {"()"}, {"(1,)", "(1.0,)"}, {"(1, 2)", "(True, 2)"}, {"(2,)"}, {"[]"}, {"[1]"}, {"[1, 2]"}, {"{}"},
        {"{'a': 1}", "{'a': True}"}, {"{'a': 2}"}, {"{'b': 1}"}, {"None"}, {"2j", "2.0j"}, {"3j"},
    };
    enum { N = sizeof groups / sizeof *groups };
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) {
            for (size_t k = 0; k < 5 && groups[i][k]; k++) {
                for (size_t l = 0; l < 5 && groups[j][l]; l++) {
                    const gin_value a = value(groups[i][k]), b = value(groups[j][l]);
                    if (gin_equal(&a, &b) != (i == j))
                        fail_msg("%s == %s is %d", groups[i][k], groups[j][l], gin_equal(&a, &b));
                    if (i == j && gin_value_hash(&a) != gin_value_hash(&b))
                        fail_msg("hashes of %s and %s differ", groups[i][k], groups[j][l]);
                }
            }
        }
    }
    static const size_t runs[][2] = {{0, 5}, {5, 9}, {9, 12}, {12, 16}}; /* numbers, texts, bytes, tuples */
    for (size_t r = 0; r < 4; r++) {
        for (size_t i = runs[r][0]; i < runs[r][1]; i++) {
            for (size_t j = runs[r][0]; j < runs[r][1]; j++) {
                const gin_value a = value(groups[i][0]), b = value(groups[j][0]);
                const int d = gin_compare(&a, &b), want = (i > j) - (i < j);
                if ((d > 0) - (d < 0) != want)
                    fail_msg("%s against %s: %d, wanted %d", groups[i][0], groups[j][0], d, want);
            }
        }
    }
    static const char *const refs[] = {"@f", "@f()", "@s/f", "@g", "%m", "%n"};
    for (size_t i = 0; i < 6; i++) {
        for (size_t j = 0; j < 6; j++) {
            const gin_value a = value(refs[i]), b = value(refs[j]);
            EXPECT_TRUE(gin_equal(&a, &b) == (i == j));
        }
    }
    const gin_value none = value("None"), list = value("[1]"), other = value("[2]"), text = value("'x'");
    EXPECT_TRUE(gin_compare(&none, &none) == 0 && gin_compare(&list, &other) == 0);
    EXPECT_TRUE(gin_compare(&none, &text) != 0); /* by the names of their kinds */
}

static void printed_as_python_prints(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want; /* NULL: refused */
    } cases[] = {
        {"1", "1"}, {"-9223372036854775808", "-9223372036854775808"}, {"0x_ff", "255"}, {"0b101", "5"}, {"0o17", "15"},
        {"0X1F", "31"}, {"0B11", "3"}, {"0O7", "7"}, {"1_000", "1000"}, {"1e400", "inf"}, {"-1e400", "-inf"}, {"1e16", "1e+16"},
        {"123456789012345680.0", "1.2345678901234568e+17"}, {"0.1", "0.1"}, {"1.0", "1.0"}, {"-0.0", "-0.0"}, {"1e-5", "1e-05"},
        {"1_0.5", "10.5"}, {"2j", "2j"}, {"2.5J", "2.5j"}, {"-2j", "(-0-2j)"}, {"1e400j", "infj"}, {"True", "True"}, {"None", "None"},
        {"'it\\'s'", "\"it's\""}, {"'\"'", "'\"'"}, {"'\\'\"'", "'\\'\"'"}, {"'\\n\\r\\t\\\\'", "'\\n\\r\\t\\\\'"},
        {"'\\x00\\x7f'", "'\\x00\\x7f'"}, {"'\\u00e9'", "'\xc3\xa9'"}, {"'\\u200b'", "'\\u200b'"}, {"'\\U0001f600'", "'\xf0\x9f\x98\x80'"},
        {"'\\U000e0001'", "'\\U000e0001'"}, {"'\\x85'", "'\\x85'"}, {"'\\101\\60'", "'A0'"}, {"'\\7'", "'\\x07'"}, {"'\\77\\177\\1777'", "'?\\x7f\\x7f7'"},
        {"'a' 'b'", "'ab'"}, {"b'\\xff\\n\\'\"a'", "b'\\xff\\n\\'\"a'"}, {"b'\\101'", "b'A'"}, {"br'\\n'", "b'\\\\n'"},
        {"Rb'\\d'", "b'\\\\d'"}, {"u'x'", "'x'"}, {"'''a\nb'''", "'a\\nb'"}, {"\"\"\"q\"\"\"", "'q'"}, {"'a\\\nb'", "'ab'"},
        {"()", "()"}, {"(1,)", "(1,)"}, {"(1, 2)", "(1, 2)"}, {"[1, 'a', [None]]", "[1, 'a', [None]]"}, {"{}", "{}"},
        {"{1: 2, 'a': (3,), None: {}}", "{1: 2, 'a': (3,), None: {}}"}, {"@f", "@f"}, {"@s/f()", "@s/f()"}, {"%m", "%m"},
        {"[@f, @f()]", "[@f, @f()]"}, {"'\\a\\b\\f\\v'", "'\\x07\\x08\\x0c\\x0b'"}, {"'\\N'", NULL}, {"'\\x4'", NULL},
        {"'\\u12'", NULL}, {"'\\U0011ffff'", NULL}, {"b'\\x4'", NULL}, {"b'\xc3\xa9'", NULL}, {"9223372036854775808", NULL},
        {"{[1]: 2}", NULL}, {"{{}: 2}", NULL}, {"{(1, [2]): 3}", NULL},
        {"[1", NULL}, {"(1 2)", NULL}, {"{1 2}", NULL}, {"{1: }", NULL}, {"@", NULL}, {"@f(", NULL}, {"%", NULL}, {"@1", NULL},
        {"- 'a'", NULL}, {"-None", NULL}, {"foo", NULL}, {"'a", NULL}, {"'''a", NULL}, {"'a' b'c'", NULL}, {"f'x'", NULL}, {"b'a' 'c'", NULL},
        {"@f.", NULL}, {"@/f", NULL}, {"", NULL}, {"#", NULL}, {"$", NULL},
        {"\\", NULL}, {"'\\8'", "'\\\\8'"}, {"'\\q'", "'\\\\q'"}, {"b'\\N'", "b'\\\\N'"}, {"b'\\u0041'", "b'\\\\u0041'"},
    };
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gin_value v;
        buf out;
        buf_init(&out, 1000);
        const spt_status st = parse(cases[i].text, &v);
        if (!st)
            gin_repr(&out, &v);
        if ((st == SPT_OK) != (cases[i].want != NULL) || (!st && strcmp(buf_str(&out), cases[i].want))) {
            print_message("%s: %s, wanted %s\n", cases[i].text, st ? gin_last_error(config)->text : buf_str(&out),
                          cases[i].want ? cases[i].want : "an error");
            wrong++;
        }
        EXPECT_TRUE(st == SPT_OK || st == SPT_E_CONFIG);
        buf_release(&out);
    }
    EXPECT_EQ_I64(wrong, 0);
}

static void accessors_of_other_kinds(void **state)
{
    (void)state;
    static const char *const texts[] = {"1", "1.5", "True", "'s'", "b'b'", "None", "[1]", "(1,)", "{'k': 1, 2: 3, 'kk': 4}",
                                        "@f", "@f()", "%m", "2j"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const gin_value v = value(texts[i]);
        int64_t n = -7;
        double d = -7;
        bool b = true;
        EXPECT_TRUE(gin_as_int(&v, &n) == (i == 0) && n == (i == 0 ? 1 : -7));
        EXPECT_TRUE(gin_as_float(&v, &d) == (i <= 1) && d == (i == 0 ? 1 : i == 1 ? 1.5 : -7));
        EXPECT_TRUE(gin_as_bool(&v, &b) == (i == 2));
        EXPECT_TRUE((gin_as_str(&v) != NULL) == (i == 3));
        EXPECT_TRUE((gin_dict_get(&v, "k") != NULL) == (i == 8) && !gin_dict_get(&v, "q"));
        EXPECT_TRUE(strlen(gin_kind_name(&v)) > 0);
        EXPECT_TRUE(!gin_is(&v, "m.x.g") && gin_object_count(&v) == 0);
        EXPECT_TRUE(gin_object_index(&v) == 0 && !gin_object_arg(&v, 0, NULL));
        EXPECT_TRUE(gin_scope_of(&v) != NULL);
        gin_value out;
        EXPECT_TRUE(!gin_get(config, &v, "a", &out));
        spt_err err = {0};
        if (i < 9)
            EXPECT_STATUS(gin_call_value(config, &v, NULL, NULL, 0, &out, &err), SPT_E_CONFIG);
    }
}

/* The layout of long values in config.gin: written and read again it says the same. */
static void long_values_are_laid_out(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "x.v = ['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', 'c']",
        "x.v = ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',)",
        "x.v = 'one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen'",
        "x.v = 'first line is here\\nsecond line is here, a good deal longer than the first\\n\\nlast line of all of them'",
        "x.v = b'0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789'",
        "x.v = [b'0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456', b'']",
        "x.v = {'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa': [1, 2, 3], 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb': {'c': 'dddddddddddddddddddd'}}",
        "x.v = {'k': ('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', ['bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb', (), [], {}]), 2: 3}",
        "x.v = [[[['aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']]]]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        gin_registry *r;
        gin_config *c, *d;
        spt_err err = {0};
        buf a, b;
        static const gin_def x = {"y", "x", GIN_FUNCTION, "v", true, NULL};
        EXPECT_OK(gin_registry_new(&r, &err), &err);
        EXPECT_OK(gin_registry_add(r, &x, 1, &err), &err);
        EXPECT_OK(gin_config_new(r, &c, &err), &err);
        EXPECT_OK(gin_config_new(r, &d, &err), &err);
        buf_init(&a, 10000);
        buf_init(&b, 10000);
        EXPECT_OK(gin_parse_string(c, texts[i], strlen(texts[i]), &err), &err);
        EXPECT_OK(gin_config_text(c, false, &a, &err), &err);
        EXPECT_OK(gin_parse_string(d, buf_str(&a), a.len, &err), &err);
        EXPECT_OK(gin_config_text(d, false, &b, &err), &err);
        EXPECT_STR(buf_str(&b), buf_str(&a));
        buf_release(&a);
        buf_release(&b);
        gin_config_free(c);
        gin_config_free(d);
        gin_registry_free(r);
    }
}

/* A configuration with many sections, bindings and references, from an empty registry to the texts, every
 * allocation failing; with pools of single pieces, too. */
static spt_status large_configuration(void *ctx, spt_err *err)
{
    const char *text = ctx;
    gin_registry *r = NULL;
    gin_config *c = NULL;
    gin_value v;
    const gin_value *q;
    buf out;
    buf_init(&out, 1 << 20);
    spt_status st = gin_registry_new(&r, err);
    if (!st)
        st = gin_registry_add(r, defs, 4, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st)
        st = gin_add_search_path(c, "/no/such/place/", err);
    if (!st)
        st = gin_add_constant(c, "k.ONE", "1", err);
    if (!st)
        st = gin_parse_string(c, text, strlen(text), err);
    if (!st)
        st = gin_bind(c, "s1/f.a", "12", err);
    if (!st)
        st = gin_query(c, "s2/f.a", &q, err);
    if (!st)
        st = gin_query(c, "%m3", &q, err);
    if (!st)
        st = gin_finalize(c, err);
    for (int i = 0; !st && i < 3; i++)
        st = gin_call(c, i == 0 ? "s1/f" : i == 1 ? "g" : "Box", NULL, 0, &v, err);
    if (!st && (!gin_is(&v, "m.x.Box") || gin_object_count(&v) != 1))
        st = SPT_E_INTERNAL;
    if (!st)
        gin_repr(&out, &v);
    if (!st)
        st = gin_config_text(c, false, &out, err);
    if (!st)
        st = gin_operative_text(c, &out, err);
    if (!st)
        st = buf_status(&out, "texts", err);
    gin_config_free(c);
    gin_registry_free(r);
    buf_release(&out);
    return st;
}

/* Every argument of a call is in the operative configuration, not only the first. */
static void operative_arguments(void **state)
{
    static const gin_def four[] = {{"m", "f", GIN_FUNCTION, "a=1, b=2, c=3, d=4", true, NULL}};
    static const char text[] = "f.b = 'two'\nf.c = 'three'\nf.d = 'four'\n";
    gin_registry *r;
    gin_config *c;
    gin_value v;
    spt_err err;
    buf out;
    (void)state;
    buf_init(&out, 1 << 16);
    EXPECT_OK(gin_registry_new(&r, &err), &err);
    EXPECT_OK(gin_registry_add(r, four, 1, &err), &err);
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    EXPECT_OK(gin_parse_string(c, text, strlen(text), &err), &err);
    EXPECT_OK(gin_finalize(c, &err), &err);
    EXPECT_OK(gin_call(c, "f", NULL, 0, &v, &err), &err);
    EXPECT_OK(gin_operative_text(c, &out, &err), &err);
    EXPECT_TRUE(strstr(buf_str(&out), "f.a = 1") && strstr(buf_str(&out), "f.b = 'two'") &&
                strstr(buf_str(&out), "f.c = 'three'") && strstr(buf_str(&out), "f.d = 'four'"));
    buf_release(&out);
    gin_config_free(c);
    gin_registry_free(r);
}

/* An import named wrongly in a very long line: the message does not fit the stack. */
static spt_status long_refusal(void *ctx, spt_err *err)
{
    gin_registry *r = NULL;
    gin_config *c = NULL;
    spt_err why = {0};
    spt_status st = gin_registry_new(&r, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st) {
        st = gin_parse_string(c, ctx, strlen(ctx), &why);
        if (st == SPT_E_NOMEM)
            *err = why;
        else
            EXPECT_TRUE(st != SPT_OK);
        st = st == SPT_E_NOMEM ? st : SPT_OK;
    }
    gin_config_free(c);
    gin_registry_free(r);
    return st;
}

static void every_allocation_of_a_refusal(void **state)
{
    static char text[8000];
    (void)state;
    size_t n = 0;
    text[n++] = 'f';
    while (n < 3000)
        text[n++] = 'x';
    strcpy(text + n, ".a = 1\n");
    EXPECT_TRUE(fault_every_alloc(long_refusal, text) > 5);
    n = 0;
    for (int i = 0; i < 20; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%*sx:\n", i, "");
    EXPECT_TRUE(fault_every_alloc(long_refusal, text) > 5);
}

static void every_allocation_of_a_large_configuration(void **state)
{
    static char text[20000];
    size_t n = 0;
    (void)state;
    for (int i = 0; i < 24; i++)
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "s%d/f.a = %d\ns%d/f.d = [%%m%d, {'k%d': @s%d/g}]\nm%d = (%d, 'text %d', %%k.ONE)\n", i, i, i,
                              i, i, i, i, i, i);
    n += (size_t)snprintf(text + n, sizeof text - n,
                          "Box.item = @b/g()\nb/g.x = %%m1\nb/g.y = @g\ng.z = %%k.ONE\nf.d = None\n");
    for (int i = 0; i < 24; i++) /* one section with many parameters */
        n += (size_t)snprintf(text + n, sizeof text - n, "c/g.p%d = %d\n", i, i);
    spt_err err = {0};
    EXPECT_OK(large_configuration(text, &err), &err);
    fault_every_alloc(large_configuration, text);
    gin_pool_first = gin_pool_last = 1;
    fault_every_alloc(large_configuration, text);
    gin_pool_first = 2048;
    gin_pool_last = 256 * 1024;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operative_arguments),
        cmocka_unit_test(equality_and_order),
        cmocka_unit_test(printed_as_python_prints),
        cmocka_unit_test(accessors_of_other_kinds),
        cmocka_unit_test(long_values_are_laid_out),
        cmocka_unit_test(every_allocation_of_a_large_configuration),
        cmocka_unit_test(every_allocation_of_a_refusal),
    };
    return cmocka_run_group_tests(tests, open_config, close_config);
}
