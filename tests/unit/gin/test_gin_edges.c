/* gin where configurations are wrong, locked, incomplete, cyclic or large: each by the words of its
 * message; values of every kind as they compare and print. */
#define _GNU_SOURCE
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "gin/flags.h"
#include "gin/gin.h"
#include "gin/gin_internal.h"

#define LONG_NAME "a_parameter_with_a_name_of_more_than_sixty_three_characters_in_all_of_it"

#define NAME_61 "n_2345678901234567890123456789012345678901234567890123456789_"

static const gin_def defs[] = {
    {"fx", "n62", GIN_FUNCTION, NAME_61 "a=1", true, NULL},
    {"fx", "n63", GIN_FUNCTION, NAME_61 "aa=1", true, NULL},
    {"fx", "pair", GIN_FUNCTION, "left=None, right=None", true, NULL},
    {"fx", "kw", GIN_FUNCTION, "**kwargs", true, NULL},
    {"fx", "one", GIN_FUNCTION, "a", true, NULL},
    {"fx", "two", GIN_FUNCTION, "a, b", true, NULL},
    {"fx", "three", GIN_FUNCTION, "a, b, c, d=4", true, NULL},
    {"fx", "only", GIN_FUNCTION, "a=1, *, k, m=2", true, NULL},
    {"fx", "long", GIN_FUNCTION, LONG_NAME "=1", true, NULL},
    {"fx", "Box", GIN_CLASS, "item, label='[,' ", true, NULL},
    {"fx", "Box.open", GIN_METHOD, "key=0", true, NULL},
    {"fx.mod", "dyn", GIN_CLASS, "a=1, b=(1, 2), c=\"x,y\"", false, NULL},
    {"h", "q", GIN_FUNCTION, "a=0", true, NULL},
    {"g.h", "q", GIN_FUNCTION, "a=0", true, NULL},
    {"t.h", "q", GIN_FUNCTION, "a=0", true, NULL},
    {"fy.mod", "dyn", GIN_CLASS, "a=1", false, NULL},
    {"fz.mod", "dyn", GIN_CLASS, "a=1", false, NULL},
};

static gin_registry *registry;
static gin_config *c;
static spt_err err;

static int setup(void **state)
{
    (void)state;
    err = (spt_err){0};
    EXPECT_OK(gin_registry_new(&registry, &err), &err);
    EXPECT_OK(gin_registry_add(registry, defs, sizeof defs / sizeof *defs, &err), &err);
    EXPECT_OK(gin_config_new(registry, &c, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    gin_config_free(c);
    gin_registry_free(registry);
    c = NULL;
    return 0;
}

static void again(void)
{
    gin_config_free(c);
    EXPECT_OK(gin_config_new(registry, &c, &err), &err);
}

static spt_status parse(const char *text)
{
    return gin_parse_string(c, text, strlen(text), &err);
}

static void given(const char *text)
{
    again();
    EXPECT_OK(parse(text), &err);
}

static void expect_text(const char *part)
{
    if (!strstr(gin_last_error(c)->text, part))
        fail_msg("\"%s\" does not contain \"%s\"", gin_last_error(c)->text, part);
}

/* The text is given, then `name` is called. */
static void calls(const char *text, const char *name, spt_status want, const char *part)
{
    gin_value v;
    given(text);
    const spt_status st = gin_call(c, name, NULL, 0, &v, &err);
    if (st != want)
        fail_msg("%s: %s (%s)", text, spt_status_text(st), err.msg);
    if (want)
        expect_text(part);
}

/* --- locked, missing, unknown ------------------------------------------------------------------- */

static void locked(void **state)
{
    (void)state;
    given("pair.left = 1");
    EXPECT_OK(gin_finalize(c, &err), &err);
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    expect_text("Finalize called twice");
    EXPECT_STATUS(parse("pair.left = 2"), SPT_E_CONFIG);
    expect_text("Attempted to modify locked Gin config");
    EXPECT_STATUS(gin_bind(c, "pair.right", "2", &err), SPT_E_CONFIG);
    expect_text("Attempted to modify locked Gin config");
    const gin_value *v;
    EXPECT_OK(gin_query(c, "pair.left", &v, &err), &err); /* what was there is there */
    EXPECT_EQ_I64(v->u.i, 1);
}

static void parameters_that_are_not(void **state)
{
    (void)state;
    EXPECT_STATUS(parse("pair.lef = 1"), SPT_E_CONFIG);
    expect_text("Configurable 'pair' doesn't have a parameter named 'lef'");
    EXPECT_STR(gin_last_error(c)->hint, "did you mean 'left'?");
    EXPECT_STATUS(parse("pair." LONG_NAME " = 1"), SPT_E_CONFIG);
    EXPECT_TRUE(!gin_last_error(c)->hint);
    EXPECT_STATUS(parse("long.left = 1"), SPT_E_CONFIG); /* nothing near */
    EXPECT_TRUE(!gin_last_error(c)->hint);
    EXPECT_STATUS(parse("open.key = 1"), SPT_E_CONFIG);
    expect_text("Method 'open' referenced without class name 'Box'");
    EXPECT_OK(parse("Box.open.key = 1"), &err);
    buf b; /* a method's class is shown, even where the method alone would do */
    buf_init(&b, 4096);
    EXPECT_OK(gin_config_text(c, false, &b, &err), &err);
    EXPECT_TRUE(strstr(buf_str(&b), "\n# Parameters for Box.open:\n") || !strncmp(buf_str(&b), "# Parameters for Box.open:\n", 27));
    EXPECT_TRUE(strstr(buf_str(&b), "\nBox.open.key = 1\n") != NULL);
    buf_release(&b);
    EXPECT_STATUS(parse("n62." NAME_61 "b = 1"), SPT_E_CONFIG); /* as long as is compared, and longer */
    EXPECT_TRUE(gin_last_error(c)->hint != NULL);
    EXPECT_STATUS(parse("n63." NAME_61 "a = 1"), SPT_E_CONFIG);
    EXPECT_TRUE(!gin_last_error(c)->hint);
}

static void queries(void **state)
{
    (void)state;
    static const struct {
        const char *key, *part; /* NULL: found */
        int64_t value;
    } of[] = {
        {"%A", NULL, 1}, {"A", NULL, 1}, {"s/A", NULL, 2}, {"pair.left", NULL, 3}, {"s/pair.left", NULL, 4},
        {"fx.pair.left", NULL, 3}, {"s.t/A", NULL, 5},
        {"B", "has no bound parameters", 0}, {"%B", "has no bound parameters", 0},
        {"s/pair.right", "has no value bound for parameter 'right'", 0},
        {"kw.x", "has no bound parameters", 0}, {"nothing.x", "No configurable matching 'nothing'", 0},
        {"pair.nothing", "doesn't have a parameter named 'nothing'", 0},
    };
    given("A = 1\ns/A = 2\npair.left = 3\ns/pair.left = 4\n");
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const gin_value *v = NULL;
        if (!strcmp(of[i].key, "s.t/A")) /* a scope with a point: a macro all the same */
            continue;
        const spt_status st = gin_query(c, of[i].key, &v, &err);
        if (st != (of[i].part ? SPT_E_CONFIG : SPT_OK) || (!of[i].part && v->u.i != of[i].value))
            fail_msg("%s: %s (%s)", of[i].key, spt_status_text(st), err.msg);
        if (of[i].part)
            expect_text(of[i].part);
        EXPECT_EQ_I64(gin_has(c, of[i].key), !of[i].part);
    }
    EXPECT_TRUE(!gin_has(c, "s.t/A"));
    EXPECT_STATUS(gin_config_entry(c, "fx.none", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "no definition of fx.none");
    EXPECT_STATUS(gin_config_entry(c, "fx", &err), SPT_E_CONFIG);
    EXPECT_OK(gin_config_entry(c, "fx.mod.dyn", &err), &err);
    EXPECT_OK(gin_config_entry(c, "fx.mod.dyn", &err), &err);
    EXPECT_OK(parse("dyn.a = 1"), &err);
}

static void missing_settings(void **state)
{
    (void)state;
    buf b;
    buf_init(&b, 1 << 20);
    given("pair.left = %A\npair.right = [%A, {'x': (%s/B,)}]\ns/pair.left = %gin.REQUIRED\nM = %gin.REQUIRED\n"
          "kw.a = %gin.REQUIRED\n");
    EXPECT_EQ_I64(gin_missing(c, &b), 5);
    EXPECT_TRUE(strstr(buf_str(&b), "A: used but never defined\n") != NULL);
    EXPECT_TRUE(strstr(buf_str(&b), "s/B: used but never defined\n") != NULL);
    EXPECT_TRUE(strstr(buf_str(&b), "s/pair.left: required\n") != NULL);
    EXPECT_TRUE(strstr(buf_str(&b), "M: required\n") != NULL);
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "5 settings are missing: s/pair.left, M, kw.a, A, s/B");
    expect_text("No bindings specified for 'A/gin.macro'");
    given("s/pair.left = %gin.REQUIRED");
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "1 setting is missing: s/pair.left");
    expect_text("set to `%gin.REQUIRED` but not subsequently overridden");
    again(); /* more than are remembered one by one, with names of every length */
    buf text;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 300; i++)
        buf_addf(&text, "kw.a%d = %%N%d_%0*d\n", i, i, i % 90, 0);
    EXPECT_OK(gin_parse_string(c, buf_str(&text), text.len, &err), &err);
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "300 settings are missing: N0_0, N1_0");
    buf_clear(&text); /* names are told up to 300 characters */
    static const int length[] = {60, 58, 58, 58, 58, 58};
    char want[400] = "6 settings are missing: ";
    for (int i = 0; i < 6; i++) {
        char name[80];
        snprintf(name, sizeof name, "A%d%0*d", i, length[i] - 2, 0);
        buf_addf(&text, "kw.a%d = %%%s\n", i, name);
        if (i < 5)
            snprintf(want + strlen(want), sizeof want - strlen(want), "%s%s", i ? ", " : "", name);
    }
    again();
    EXPECT_OK(gin_parse_string(c, buf_str(&text), text.len, &err), &err);
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, want);
    EXPECT_TRUE(!strstr(err.msg, "A5"));
    /* from a file: where it is named */
    const char *path = test_path(test_tmpdir(), "x.gin");
    test_write(path, "pair.left = %F\n", 15);
    again();
    EXPECT_OK(gin_parse_file(c, path, &err), &err);
    buf_clear(&b);
    EXPECT_EQ_I64(gin_missing(c, &b), 1);
    EXPECT_TRUE(strstr(buf_str(&b), "x.gin:1\n") != NULL);
    /* a configuration that is too large to be shown */
    buf_clear(&text);
    for (int i = 0; i < 4100; i++)
        buf_addf(&text, "s%d/pair.left = 1\n", i);
    buf_adds(&text, "pair.left = %U\n");
    again();
    EXPECT_OK(gin_parse_string(c, buf_str(&text), text.len, &err), &err);
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    expect_text("(4101 sections)");
    buf_release(&text);
    buf_release(&b);
}

static void macros_and_references(void **state)
{
    (void)state;
    given("pair.left = @M/macro\nM = 1");
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    expect_text("must be evaluated (add '()')");
    gin_skip_unknown(c, NULL, 0);
    static const char *const names[] = {"nothing"};
    static const struct {
        const char *text, *part, *evaluated;
    } of[] = {
        {"pair.left = @nothing", "No configurable matching reference '@nothing'. In binding for 'pair.left'",
         "No configurable matching reference '@nothing'."},
        {"pair.left = [1, {'a': @nothing()}]", "No configurable matching reference '@nothing()'. In binding for 'pair.left'",
         "No configurable matching reference '@nothing()'."},
    };
    for (size_t i = 0; i < 2; i++)
        for (int all = 0; all < 2; all++) {
            gin_value v;
            again();
            gin_skip_unknown(c, all ? NULL : names, all ? 0 : 1);
            EXPECT_OK(parse(of[i].text), &err);
            EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
            expect_text(of[i].part);
            EXPECT_STATUS(gin_call(c, "pair", NULL, 0, &v, &err), SPT_E_CONFIG);
            expect_text(of[i].evaluated);
        }
    again();
    gin_skip_unknown(c, names, 1);
    EXPECT_STATUS(parse("other.x = 1"), SPT_E_CONFIG); /* not in the list */
    EXPECT_OK(parse("nothing.x = 1"), &err);
}

/* --- calls ---------------------------------------------------------------------------------------- */

static void arguments_that_nobody_gave(void **state)
{
    (void)state;
    calls("", "one", SPT_E_CONFIG, "one() missing 1 required positional argument: 'a'");
    calls("", "two", SPT_E_CONFIG, "two() missing 2 required positional arguments: 'a' and 'b'");
    calls("three.d = 1", "s/three", SPT_E_CONFIG, "three() missing 3 required positional arguments: 'a', 'b', and 'c'");
    expect_text("No values supplied by Gin or caller for arguments: ['a', 'b', 'c']");
    expect_text("Gin had values bound for: ['d']");
    expect_text("in scope 's'");
    calls("two.b = 1", "two", SPT_E_CONFIG, "missing 1 required positional argument: 'a'");
    calls("", "only", SPT_E_CONFIG, "only() missing 1 required keyword-only argument: 'k'");
    calls("", "Box", SPT_E_CONFIG, "Box.__init__() missing 1 required positional argument: 'item'");
    expect_text("In call to configurable 'Box' (<class 'fx.Box'>)");
    calls("", "Box.open", SPT_OK, NULL);
    calls("Box.item = 1", "Box", SPT_OK, NULL);
    calls("only.k = 1", "only", SPT_OK, NULL);
    gin_value v;
    const gin_value seven = {.kind = GIN_INT, .u.i = 7}, required = {.kind = GIN_REQUIRED};
    given("two.b = 2");
    const gin_arg unknown[] = {{"a", seven}, {"z", seven}};
    EXPECT_STATUS(gin_call(c, "two", unknown, 2, &v, &err), SPT_E_CONFIG);
    expect_text("two() got an unexpected keyword argument 'z'");
    const gin_arg z[] = {{"z", seven}, {"y", seven}};
    EXPECT_OK(gin_call(c, "kw", z, 2, &v, &err), &err);
    EXPECT_EQ_I64(gin_object_count(&v), 2);
    const gin_arg marked[] = {{"a", required}, {"b", seven}};
    EXPECT_STATUS(gin_call(c, "two", marked, 2, &v, &err), SPT_E_CONFIG);
    expect_text("Required bindings for `two` not provided in config: ['a']");
    const gin_arg both[] = {{"a", required}, {"b", required}};
    EXPECT_STATUS(gin_call(c, "three", both, 2, &v, &err), SPT_E_CONFIG);
    expect_text("not provided in config: ['a', 'b']");
    const gin_arg fine[] = {{"b", required}, {"a", seven}}; /* gin has b */
    EXPECT_OK(gin_call(c, "two", fine, 2, &v, &err), &err);
    gin_value got;
    bool was_given = false;
    EXPECT_TRUE(gin_get_given(c, &v, "b", &got, &was_given) && got.u.i == 2 && was_given);
    const gin_arg one_of_three[] = {{"c", seven}};
    EXPECT_STATUS(gin_call(c, "three", one_of_three, 1, &v, &err), SPT_E_CONFIG);
    expect_text("Caller supplied values for: ['c']");
    EXPECT_STATUS(gin_call(c, "nobody", NULL, 0, &v, &err), SPT_E_CONFIG);
    expect_text("Could not find nobody in the Gin registry");
    EXPECT_STATUS(gin_call_value(c, &seven, "", NULL, 0, &v, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "a int cannot be called");
}

static void as_many_arguments_as_there_may_be(void **state)
{
    (void)state;
    buf text;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < 4097; i++) {
        if (i == 4096)
            calls(buf_str(&text), "kw", SPT_OK, NULL);
        buf_addf(&text, "kw.a%d = %d\n", i, i);
    }
    calls(buf_str(&text), "kw", SPT_E_CONFIG, "has more than 4096 bound parameters");
    buf_release(&text);
}

static void singletons_and_constants(void **state)
{
    (void)state;
    gin_value v, a, b;
    calls("pair.left = @x/singleton()", "pair", SPT_E_CONFIG, "constructor");
    calls("pair.left = @x/singleton()\nx/singleton.constructor = 5", "pair", SPT_E_CONFIG,
          "The constructor for singleton 'x' is not callable");
    calls("pair.left = @x/singleton()\nx/singleton.constructor = @one", "pair", SPT_E_CONFIG,
          "one() missing 1 required positional argument");
    given("pair.left = @x/singleton()\npair.right = @x/singleton()\nx/singleton.constructor = @s/kw\ns/kw.a = 1");
    EXPECT_OK(gin_call(c, "pair", NULL, 0, &v, &err), &err);
    EXPECT_TRUE(gin_get(c, &v, "left", &a) && gin_get(c, &v, "right", &b));
    EXPECT_TRUE(a.u.object == b.u.object && gin_object_index(&a) == 1);
    EXPECT_STR(gin_scope_of(&a), "s");
    given("");
    EXPECT_OK(gin_add_constant(c, "there.X", "7", &err), &err);
    EXPECT_STATUS(gin_add_constant(c, "there.Y", "7 8", &err), SPT_E_CONFIG);
    EXPECT_STATUS(gin_add_constant(c, "there.Z", "[", &err), SPT_E_CONFIG);
    EXPECT_OK(gin_add_constant(c, "there.W", "7\n", &err), &err);
    EXPECT_OK(parse("pair.left = %there.X"), &err);
    EXPECT_OK(gin_call(c, "pair", NULL, 0, &v, &err), &err);
    EXPECT_TRUE(gin_get(c, &v, "left", &a) && a.u.i == 7);
    calls("pair.left = @x/macro()", "pair", SPT_E_CONFIG, "value");
}

static void cycles(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *part;
    } of[] = {
        {"A = %B\nB = %A\npair.left = %A", "pair", "%A in %B in %A"},
        {"pair.left = @pair()", "pair", "@fx.pair in @fx.pair"},
        {"s/pair.left = @s/pair()", "s/pair", "@s/fx.pair in @s/fx.pair"},
        {"pair.left = [1, {'k': (@pair(),)}]", "pair", "@fx.pair in @fx.pair"},
        {"pair.left = @s/kw()\ns/kw.a = @t/kw()\nt/kw.a = @s/kw()", "pair", "@s/fx.kw in @t/fx.kw in @s/fx.kw"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        calls(of[i].text, of[i].name, SPT_E_CONFIG, "cyclic definition");
        expect_text(of[i].part);
        EXPECT_STR(gin_last_error(c)->kind, "RecursionError");
    }
}

static void looking_at_values(void **state)
{
    (void)state;
    gin_value v, got;
    const gin_value five = {.kind = GIN_INT, .u.i = 5};
    bool was_given = true;
    given("M = 5\ns/Box.item = [@pair, @s/kw(), %M]\nkw.z = 1");
    EXPECT_OK(gin_call(c, "s/Box", NULL, 0, &v, &err), &err);
    EXPECT_TRUE(gin_is(&v, "fx.Box") && !gin_is(&v, "fx.pair") && !gin_is(&five, "fx.Box"));
    EXPECT_STR(gin_def_of(&v)->name, "Box");
    EXPECT_TRUE(!gin_def_of(&five) && gin_object_index(&five) == 0 && gin_object_count(&five) == 0);
    EXPECT_STR(gin_scope_of(&five), "");
    EXPECT_STR(gin_scope_of(&v), "s");
    EXPECT_TRUE(gin_get_given(c, &v, "label", &got, &was_given) && !was_given);
    EXPECT_STR(got.u.s, "[,");
    EXPECT_TRUE(!gin_get(c, &v, "nothing", &got) && !gin_get(c, &five, "label", &got));
    EXPECT_TRUE(!gin_object_arg(&v, 1, &got));
    EXPECT_TRUE(!strcmp(gin_object_arg(&v, 0, &got), "item") && got.kind == GIN_LIST && got.count == 3);
    const gin_value *callable = &got.u.items[0], *object = &got.u.items[1];
    EXPECT_STR(gin_def_of(callable)->name, "pair");
    EXPECT_STR(gin_scope_of(callable), "");
    EXPECT_EQ_I64(got.u.items[2].u.i, 5);
    buf b;
    buf_init(&b, 4096);
    gin_repr(&b, &got);
    EXPECT_STR(buf_str(&b), "[@fx.pair, fx.kw(z=1), 5]");
    buf_clear(&b);
    gin_repr(&b, object);
    EXPECT_STR(buf_str(&b), "fx.kw(z=1)");
    buf_release(&b);
    gin_value made;
    EXPECT_OK(gin_call_value(c, callable, "t", NULL, 0, &made, &err), &err);
    EXPECT_STR(gin_scope_of(&made), "t");
    const gin_value *stored;
    EXPECT_OK(gin_query(c, "s/Box.item", &stored, &err), &err);
    EXPECT_TRUE(!gin_def_of(&stored->u.items[2])); /* a macro has no definition of ours */
    EXPECT_STR(gin_def_of(&stored->u.items[0])->name, "pair");
    EXPECT_OK(gin_evaluate(c, stored, "", &made, &err), &err);
    EXPECT_EQ_I64(made.count, 3);
    EXPECT_STR(gin_kind_name(&(gin_value){.kind = 99}), "?");
}

static void evaluations_are_counted_one_by_one(void **state)
{
    (void)state;
    gin_value made;
    const gin_value *stored;
    given("pair.left = [@kw, @s/kw()]");
    EXPECT_OK(gin_query(c, "pair.left", &stored, &err), &err);
    size_t first[3] = {0};
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(gin_evaluate(c, stored, "", &made, &err), &err);
        first[0] = i ? first[0] : c->nodes;
        EXPECT_EQ_I64(c->nodes, first[0]);
        EXPECT_OK(gin_call_value(c, &made.u.items[0], "", NULL, 0, &made, &err), &err);
        first[1] = i ? first[1] : c->nodes;
        EXPECT_EQ_I64(c->nodes, first[1]);
        EXPECT_OK(gin_call(c, "pair", NULL, 0, &made, &err), &err);
        first[2] = i ? first[2] : c->nodes;
        EXPECT_EQ_I64(c->nodes, first[2]);
        EXPECT_OK(gin_call(c, "pair", NULL, 0, &made, &err), &err);
        EXPECT_EQ_I64(c->nodes, first[2]);
    }
}

static void text_is_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bad; /* 99: none */
    } of[] = {
        {"", 99}, {"\x7f", 99}, {"a\x80", 1}, {"\xc1\xbf", 0}, {"\xc2\x80", 99}, {"\xdf\xbf", 99}, {"ab\xc2", 2},
        {"\xc2\xc2\x80", 0}, {"\xe0\x9f\xbf", 0}, {"\xe0\xa0\x80", 99}, {"\xed\x9f\xbf", 99}, {"\xed\xa0\x80", 0},
        {"\xee\x80\x80", 99}, {"\xef\xbf\xbf", 99}, {"x\xef\xbf", 1}, {"\xef\xbf\x7f", 0}, {"\xf0\x8f\xbf\xbf", 0},
        {"\xf0\x90\x80\x80", 99}, {"\xf3\xbf\xbf\xbf", 99}, {"\xf4\x8f\xbf\xbf", 99}, {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0}, {"\xf0\x90\x80", 0}, {"\xf0\x90\x80\xc0", 0}, {"\xff", 0},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        size_t bad = 99;
        const bool valid = gin_utf8_valid(of[i].text, strlen(of[i].text), &bad);
        if (valid != (of[i].bad == 99) || (!valid && bad != of[i].bad))
            fail_msg("text %zu: %d, %zu", i, valid, bad);
    }
}

/* --- values ----------------------------------------------------------------------------------------- */

static gin_value literal(const char *text)
{
    gin_value v;
    const spt_status st = gin_parse_literal(c, text, &v);
    if (st)
        fail_msg("%s: %s", text, gin_last_error(c)->text);
    return v;
}

static void values_compare(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool equal;
        int order; /* of Python's sort; 2: none */
    } of[] = {
        {"1", "1.0", true, 0},        {"True", "1", true, 0},          {"1", "2", false, -1},
        {"2.5", "2", false, 1},       {"None", "None", true, 0},       {"3j", "3j", true, 2},
        {"3j", "4j", false, 2},       {"'a'", "'a'", true, 0},         {"'a'", "'b'", false, -1},
        {"'a'", "'ab'", false, -1},   {"''", "''", true, 0},           {"''", "'a'", false, -1},
        {"b'a'", "'a'", false, 2},    {"b'a'", "b'b'", false, -1},     {"'a'", "1", false, 2},
        {"[1]", "[1]", true, 2},      {"[1]", "[2]", false, 2},        {"[1]", "[1, 2]", false, 2},
        {"(1, 2)", "(1, 3)", false, -1}, {"(1,)", "(1, 2)", false, -1}, {"(1, 2)", "(1,)", false, 1},
        {"(1,)", "[1]", false, 2},    {"{1: 2}", "{1: 2}", true, 2},   {"{1: 2}", "{1: 3}", false, 2},
        {"{}", "{1: 3}", false, 2},   {"@pair", "@pair", true, 2},     {"@pair", "@pair()", false, 2},
        {"@pair", "@kw", false, 2},   {"@s/pair", "@pair", false, 2},  {"@unknown", "@unknown", true, 2},
        {"@unknown", "@other", false, 2}, {"%A", "%A", true, 2},       {"%A", "%B", false, 2},
        {"%gin.REQUIRED", "%gin.REQUIRED", true, 2},
    };
    gin_skip_unknown(c, NULL, 0);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const gin_value a = literal(of[i].a), b = literal(of[i].b);
        if (gin_equal(&a, &b) != of[i].equal || gin_equal(&b, &a) != of[i].equal)
            fail_msg("%s and %s: equal %d", of[i].a, of[i].b, gin_equal(&a, &b));
        if (of[i].equal && gin_value_hash(&a) != gin_value_hash(&b))
            fail_msg("%s and %s are equal and have two hashes", of[i].a, of[i].b);
        const int order = gin_compare(&a, &b);
        if (of[i].order != 2 && ((order > 0) - (order < 0)) != of[i].order)
            fail_msg("%s and %s: order %d", of[i].a, of[i].b, order);
    }
    const gin_value required = {.kind = GIN_REQUIRED}, none = {.kind = GIN_NONE};
    const gin_value opaque = {.kind = GIN_OPAQUE, .count = 3, .u.s = "f()"}, other = {.kind = GIN_OPAQUE, .count = 3, .u.s = "g()"};
    EXPECT_TRUE(gin_equal(&required, &required) && !gin_equal(&required, &none));
    EXPECT_TRUE(gin_equal(&opaque, &opaque) && !gin_equal(&opaque, &other));
    EXPECT_TRUE(gin_value_hash(&opaque) != gin_value_hash(&other));
    EXPECT_TRUE(!gin_representable(&opaque) && !gin_representable(&required) && gin_representable(&none));
    gin_value v, w;
    given("");
    EXPECT_OK(gin_call(c, "kw", NULL, 0, &v, &err), &err);
    EXPECT_OK(gin_call(c, "kw", NULL, 0, &w, &err), &err);
    EXPECT_TRUE(gin_equal(&v, &v) && !gin_equal(&v, &w) && !gin_representable(&v));
    const gin_value of_objects = {.kind = GIN_LIST, .count = 1, .u.items = &v};
    EXPECT_TRUE(!gin_representable(&of_objects));
    int64_t i64;
    double f64;
    bool yes;
    const gin_value t = {.kind = GIN_BOOL, .u.b = true}, half = {.kind = GIN_FLOAT, .u.f = 0.5};
    EXPECT_TRUE(!gin_as_int(&t, &i64) && !gin_as_int(&half, &i64) && !gin_as_float(&none, &f64) && !gin_as_bool(&half, &yes));
    EXPECT_TRUE(gin_as_float(&half, &f64) && f64 == 0.5 && gin_as_bool(&t, &yes) && yes && !gin_as_str(&t));
    const gin_value d = literal("{1: 2, 'abc': 3, 'ab': 4}");
    EXPECT_TRUE(gin_dict_get(&d, "ab")->u.i == 4 && !gin_dict_get(&d, "x") && !gin_dict_get(&t, "x"));
}

static void expect_repr(gin_value v, const char *want)
{
    buf b;
    buf_init(&b, 1 << 16);
    gin_repr(&b, &v);
    EXPECT_STR(buf_str(&b), want);
    buf_release(&b);
}

static void values_print(void **state)
{
    (void)state;
    expect_repr((gin_value){.kind = GIN_FLOAT, .u.f = NAN}, "nan");
    expect_repr((gin_value){.kind = GIN_FLOAT, .u.f = INFINITY}, "inf");
    expect_repr((gin_value){.kind = GIN_FLOAT, .u.f = -INFINITY}, "-inf");
    expect_repr((gin_value){.kind = GIN_FLOAT, .u.f = 0.1 + 0.2}, "0.30000000000000004");
    expect_repr((gin_value){.kind = GIN_FLOAT, .u.f = -1e-300}, "-1e-300");
    expect_repr((gin_value){.kind = GIN_IMAG, .u.f = 0.5}, "0.5j");
    expect_repr((gin_value){.kind = GIN_IMAG, .u.f = 1e16}, "1e+16j");
    expect_repr((gin_value){.kind = GIN_IMAG, .u.f = 3}, "3j");
    expect_repr((gin_value){.kind = GIN_REQUIRED}, "%gin.REQUIRED");
    expect_repr((gin_value){.kind = GIN_OPAQUE, .count = 3, .u.s = "f()"}, "f()");
    expect_repr((gin_value){.kind = 99}, "");
    const gin_value infinite = {.kind = GIN_FLOAT, .u.f = INFINITY}, imaginary = {.kind = GIN_IMAG, .u.f = -1},
                    huge = {.kind = GIN_IMAG, .u.f = INFINITY};
    EXPECT_TRUE(!gin_representable(&infinite) && !gin_representable(&imaginary) && !gin_representable(&huge));
    static const struct {
        const char *text, *want;
    } of[] = {
        {"'it''s'", "'its'"}, {"\"it's\"", "\"it's\""}, {"'\\'\"'", "'\\'\"'"}, {"'\\n\\r\\t\\\\'", "'\\n\\r\\t\\\\'"},
        {"'\\x00\\x7f'", "'\\x00\\x7f'"}, {"'\\x85\\xa0'", "'\\x85\\xa0'"}, {"'\\u2028\\u200b'", "'\\u2028\\u200b'"},
        {"'\\U000e0001'", "'\\U000e0001'"}, {"'\\U0001f642'", "'\xf0\x9f\x99\x82'"}, {"b'\\x80a\\n'", "b'\\x80a\\n'"},
        {"()", "()"}, {"(1,)", "(1,)"}, {"{'b': 1, 'a': [2]}", "{'b': 1, 'a': [2]}"}, {"@s/pair()", "@s/pair()"},
        {"%s/M", "%s/M"}, {"%gin.REQUIRED", "%gin.REQUIRED"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        expect_repr(literal(of[i].text), of[i].want);
}

/* What is printed parses to the same again, however it is broken into lines. */
static void configurations_print_and_parse(void **state)
{
    (void)state;
    static const char *const values[] = {
        "b''", "b'abc'", "b'abcd'", "b'abcde'", "''", "{}", "[]", "()", "{(1, 2): [], 'x': {}, 3: ()}",
        "[b'0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789']",
        "b'\\x00\\x01\\x02\\x03\\x04\\x05\\x06\\x07\\x08\\x09\\x0a\\x0b\\x0c\\x0d\\x0e\\x0f\\x10\\x11\\x12\\x13\\x14\\x15\\x16\\x17'",
        "'words and words and words and words and words and words and words and words and words and more'",
        ("'words\\x0bwords\\x0cwords\\x1cwords\\x1dwords\\x1ewords\\x85words\\u2028words\\u2029words\\r\\n"
         "words\\rwords\\nwords and words and words and words and words'"),
        "'tab\\x09tab\\x1ftab\\xa0tab\\u1680tab\\u2000tab\\u200atab\\u202ftab\\u205ftab\\u3000tab and a long text behind them all'",
        "'a_word_that_is_longer_than_any_line_may_be_and_that_has_no_space_where_it_could_be_broken_into_two_parts'",
        "{'key': 'words and words and words and words and words and words and words and words and words', 'k': 1}",
        "{'key one': {'inner key': ['item one', 'item two', 'item three', ('a', 'tuple', 'of', 'some', 'length')]}}",
        "('one element of a tuple that is so long that it does not fit on a line of seventy-six characters',)",
        "['one element of a list', b'some bytes that are long enough to be broken into several pieces, perhaps', 3.5]",
        "{b'bytes': {1: {2: {3: {4: 'deep and deeper and deeper still, until the line is too narrow for it'}}}}}",
        "[@pair, @s/pair(), %M, {'a': @kw}]", "(1.5, -2, True, None, 3j, 1e300)",
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        buf text, once, twice;
        buf_init(&text, 1 << 16);
        buf_init(&once, 1 << 16);
        buf_init(&twice, 1 << 16);
        buf_addf(&text, "M = 1\npair.left = %s\n", values[i]);
        given(buf_str(&text));
        const gin_value *v;
        EXPECT_OK(gin_query(c, "pair.left", &v, &err), &err);
        EXPECT_OK(gin_config_text(c, false, &once, &err), &err);
        gin_config *other;
        EXPECT_OK(gin_config_new(registry, &other, &err), &err);
        const spt_status st = gin_parse_string(other, buf_str(&once), once.len, &err);
        if (st)
            fail_msg("%s printed as\n%s: %s", values[i], buf_str(&once), err.msg);
        const gin_value *w;
        EXPECT_OK(gin_query(other, "pair.left", &w, &err), &err);
        EXPECT_OK(gin_config_text(other, false, &twice, &err), &err);
        EXPECT_STR(buf_str(&twice), buf_str(&once));
        if (!strchr(values[i], '{') && !strchr(values[i], '@') && !gin_equal(v, w)) /* dicts are sorted */
            fail_msg("%s printed as\n%s is another value", values[i], buf_str(&once));
        gin_config_free(other);
        buf_release(&text);
        buf_release(&once);
        buf_release(&twice);
    }
}

/* --- messages and files -------------------------------------------------------------------------------- */

static void expect_print(const char *text, const char *want)
{
    buf b;
    buf_init(&b, 1 << 16);
    again();
    gin_error_print(c, &b);
    EXPECT_STR(buf_str(&b), ""); /* nothing has happened yet */
    EXPECT_TRUE(parse(text) != SPT_OK);
    gin_error_print(c, &b);
    if (!strstr(buf_str(&b), want))
        fail_msg("%s:\n%s\ndoes not contain\n%s", text, buf_str(&b), want);
    buf_release(&b);
}

static void errors_print(void **state)
{
    (void)state;
    expect_print("A = 1 2\n", "  bindings string, line 1\n    A = 1 2\n");
    expect_print("A = (1,\n", "TokenError: ");
    expect_print("pair:\n  left = 1\n right = 2\n", "IndentationError: ");
    expect_print("pair.nothing = 1", "ValueError: ");
    expect_print("A = 'x", "line 1");
    expect_print("A = \xff", "UnicodeDecodeError: ");
    char dir[3000];
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    buf b;
    buf_init(&b, 1 << 16);
    again();
    test_write(test_path(dir, "bad.gin"), "A = 1\nB = 1 2\n", 14);
    EXPECT_STATUS(gin_parse_file(c, test_path(dir, "bad.gin"), &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "bad.gin:2: ");
    gin_error_print(c, &b);
    EXPECT_TRUE(strstr(buf_str(&b), "  File \"") && strstr(buf_str(&b), "bad.gin\", line 2\n    B = 1 2\n"));
    test_write(test_path(dir, "open.gin"), "A = 1\nB = (1,\n", 14);
    again();
    EXPECT_STATUS(gin_parse_file(c, test_path(dir, "open.gin"), &err), SPT_E_CONFIG);
    EXPECT_STR(gin_last_error(c)->kind, "TokenError");
    EXPECT_STR(gin_last_error(c)->file, test_path(dir, "open.gin"));
    test_write(test_path(dir, "hash.gin"), "A = 1\nB = {[1]: 2}\n", 20);
    again();
    EXPECT_STATUS(gin_parse_file(c, test_path(dir, "hash.gin"), &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "hash.gin:2: TypeError: unhashable type: 'list'");
    test_write(test_path(dir, "bytes.gin"), "A = \xff\n", 6);
    again();
    EXPECT_STATUS(gin_parse_file(c, test_path(dir, "bytes.gin"), &err), SPT_E_CONFIG);
    expect_text("bytes.gin");
    again(); /* on one line */
    EXPECT_STATUS(gin_parse_file(c, "none/a\nb\n\n  c.gin", &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "none/a; b c.gin. Searched");
    static const char *const escapes[][2] = {
        {"A = '\\x1'", "(unicode error) truncated \\xXX escape"}, {"A = b'\\x1'", "(value error) invalid \\x escape"},
        {"A = '\\u12'", "(unicode error) truncated \\uXXXX escape"},
        {"A = '\\U0001'", "(unicode error) truncated \\UXXXXXXXX escape"},
    };
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        again();
        EXPECT_STATUS(parse(escapes[i][0]), SPT_E_CONFIG);
        expect_text(escapes[i][1]);
    }
    /* a text that does not hold it */
    static const char *const texts[] = {"pair.left = 1\nA = {'k': 1}\n",
                                        "from __gin__ import dynamic_registration\nfrom fx import mod\n"};
    for (size_t i = 0; i < 2; i++) {
        given(texts[i]);
        buf small;
        buf_init(&small, 4096);
        EXPECT_OK(gin_config_text(c, false, &small, &err), &err);
        const size_t whole = small.len;
        buf_release(&small);
        for (size_t cap = 1; cap < whole; cap++) {
            buf_init(&small, cap);
            EXPECT_STATUS(gin_config_text(c, false, &small, &err), SPT_E_CONFIG);
            EXPECT_MSG(&err, "the configuration is too large to print");
            buf_release(&small);
        }
    }
    /* a message longer than any line of ours */
    again();
    buf_clear(&b);
    buf_adds(&b, "nothing");
    for (int i = 0; i < 300; i++)
        buf_adds(&b, ".long_name");
    buf_adds(&b, " = 1\n");
    EXPECT_STATUS(gin_parse_string(c, buf_str(&b), b.len, &err), SPT_E_CONFIG);
    EXPECT_TRUE(strlen(gin_last_error(c)->text) > 3000 && strlen(err.msg) < 1000);
    buf_release(&b);
}

static void files_by_prefix(void **state)
{
    (void)state;
    char dir[3000], with_slash[3100];
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    snprintf(with_slash, sizeof with_slash, "%s/", dir);
    EXPECT_OK(fs_make_dirs(test_path(dir, "a/x.gin"), &err), &err); /* a directory of this name is passed over */
    EXPECT_OK(fs_make_dirs(test_path(dir, "b"), &err), &err);
    test_write(test_path(dir, "b/x.gin"), "A = 'b'\n", 8);
    test_write(test_path(dir, "x.gin"), "A = 'top'\n", 10);
    test_write(test_path(dir, "main.gin"), "include 'x.gin'\n", 16);
    again();
    EXPECT_OK(gin_add_search_path(c, "", &err), &err);
    EXPECT_OK(gin_add_search_path(c, test_path(dir, "a"), &err), &err);
    EXPECT_OK(gin_add_search_path(c, test_path(dir, "b"), &err), &err);
    EXPECT_OK(gin_add_search_path(c, with_slash, &err), &err);
    const gin_value *v;
    EXPECT_OK(gin_parse_file(c, "x.gin", &err), &err);
    EXPECT_OK(gin_query(c, "A", &v, &err), &err);
    EXPECT_STR(v->u.s, "b");
    EXPECT_OK(gin_parse_file(c, "main.gin", &err), &err); /* found below the one with the slash */
    EXPECT_STATUS(gin_parse_file(c, "/x.gin", &err), SPT_E_NOTFOUND); /* absolute: no prefix */
    EXPECT_STATUS(gin_parse_file(c, "none.gin", &err), SPT_E_NOTFOUND);
    EXPECT_OK(gin_parse_file(c, test_path(dir, "x.gin"), &err), &err);
    EXPECT_OK(gin_query(c, "A", &v, &err), &err);
    EXPECT_STR(v->u.s, "top");
    EXPECT_TRUE(!truncate(test_path(dir, "x.gin"), (off_t)GIN_MAX_FILE + 1)); /* sparse */
    EXPECT_STATUS(gin_parse_file(c, test_path(dir, "x.gin"), &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "OSError");
}

/* By the components of names and scopes from the last to the first: the order of gin-config 0.5.0. */
static void order_of_sections(void **state)
{
    (void)state;
    static const char *const name[] = {"h.q", "a/h.q", "a/b/h.q", "g.h.q", "b/g.h.q", "gg/h.q", "t.h.q", "z/t.h.q", "z/h.q",
                                       "zz/h.q"};
    static const size_t given_as[] = {8, 1, 0, 2, 3, 4, 6, 7, 5, 9};
    buf b, want;
    buf_init(&b, 1 << 16);
    buf_init(&want, 1 << 16);
    for (size_t i = 0; i < 10; i++)
        buf_addf(&b, "%s.a = 1\n", name[given_as[i]]);
    given(buf_str(&b));
    buf_clear(&b);
    for (size_t i = 0; i < 10; i++)
        buf_addf(&want, "%s# Parameters for %s:\n# %.78s\n%s.a = 1\n", i ? "\n" : "", name[i],
                 "==============================================================================", name[i]);
    EXPECT_OK(gin_config_text(c, false, &b, &err), &err);
    EXPECT_STR(buf_str(&b), buf_str(&want));
    buf_release(&b);
    buf_release(&want);
}

static void prefixes_of_strings(void **state)
{
    (void)state;
    static const char *const good[] = {"rb", "br", "Rb", "bR", "BR", "u", "U", "r", "R", "b", "B", ""},
                            *const bad[] = {"ru", "ur", "bu", "ub", "rr", "bb", "fb", "bf", "f", "rf", "fr", "uu", "rbx", "x"};
    char text[40];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(text, sizeof text, "A = %s'x\\d'\n", good[i]);
        given(text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "A = %s'x\\d'\n", bad[i]);
        again();
        if (parse(text) != SPT_E_CONFIG)
            fail_msg("%s", text);
    }
}

/* What gin-config 0.5.0 says where a text ends in a string, and of words. */
static void strings_and_words_that_are_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text, *kind, *part;
    } of[] = {
        {"A = 'a\\", "SyntaxError", "Unable to parse value."}, {"A = 'ab\\c", "SyntaxError", "Unable to parse value."},
        {"A = 'a\\\nb\\c", "SyntaxError", "Unable to parse value."}, {"A = 'ab\\'", "SyntaxError", "Unable to parse value."},
        {"A = ['ab\\c", "SyntaxError", "Unable to parse value."}, {"A = '''ab\\c", "TokenError", "EOF in multi-line string"},
        {"A = 'ab\\c\n", "SyntaxError", "Unable to parse value."}, {"A = 'a\\\n", "TokenError", "EOF in multi-line string"},
        {"A = 'a\\\\\nb'\n", "SyntaxError", "Unable to parse value."},
        {"A = False_\n", "SyntaxError", "a bare word"}, {"A = None_", "SyntaxError", "a bare word"},
        {"A/ = 1", "SyntaxError", "Malformatted scope or selector."}, {"a. = 1", "SyntaxError", "Malformatted scope or selector."},
        {"a/b/ = 1", "SyntaxError", "Malformatted scope or selector."}, {"pair.left. = 1", "SyntaxError", "Malformatted"},
        {"s/pair.left = @a/", "SyntaxError", "Malformatted scope or selector."}, {"pair.left = %a/", "SyntaxError", "Malformatted"},
        {"pair.left = @pair.", "SyntaxError", "Malformatted"}, {"/A = 1", "SyntaxError", "Unexpected token."},
        {".A = 1", "SyntaxError", "Unexpected token."}, {"a//A = 1", "SyntaxError", "Couldn't parse statement"},
        {"A = and", "SyntaxError", "invalid syntax"}, {"A = class", "SyntaxError", "invalid syntax"},
        {"A = import", "SyntaxError", "invalid syntax"}, {"A = lambda", "SyntaxError", "invalid syntax"},
        {"A = yield_", "SyntaxError", "a bare word"}, {"A = while", "SyntaxError", "invalid syntax"},
        {"A = with", "SyntaxError", "invalid syntax"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        again();
        if (parse(of[i].text) != SPT_E_CONFIG || strcmp(gin_last_error(c)->kind, of[i].kind) ||
            !strstr(gin_last_error(c)->text, of[i].part))
            fail_msg("%s: %s: %s", of[i].text, gin_last_error(c)->kind, gin_last_error(c)->text);
    }
    static const char *const good[] = {"A = 'a\\\nb'\n", "A = 'x\\\ny' 'z'\n", "A = 'a\\bc'", "A = r'a\\\nb'\n"},
                            *const value[] = {"ab", "xyz", "a\bc", "a\\\nb"};
    for (size_t i = 0; i < 4; i++) {
        const gin_value *v;
        given(good[i]);
        EXPECT_OK(gin_query(c, "%A", &v, &err), &err);
        EXPECT_STR(gin_as_str(v), value[i]);
    }
}

static void imports_under_several_names(void **state)
{
    (void)state;
    static const char text[] = "from __gin__ import dynamic_registration\n"
                               "import fx.mod\nimport fx.mod as m\nfrom fx import mod\nfrom fx import mod as pair\n"
                               "m.dyn.a = 2\nfx.mod.dyn.b = 3\n";
    buf b;
    buf_init(&b, 1 << 16);
    given(text);
    EXPECT_OK(gin_config_text(c, false, &b, &err), &err);
    EXPECT_TRUE(strstr(buf_str(&b), "dynamic_registration") && strstr(buf_str(&b), "dyn.a = 2") &&
                strstr(buf_str(&b), "dyn.b = 3"));
    gin_config *other;
    EXPECT_OK(gin_config_new(registry, &other, &err), &err);
    EXPECT_OK(gin_parse_string(other, buf_str(&b), b.len, &err), &err); /* what is printed can be read */
    gin_config_free(other);
    /* Three modules of one name, from three texts: what gin-config 0.5.0 prints. */
    again();
    for (int i = 0; i < 3; i++) {
        char one[120];
        snprintf(one, sizeof one, "from __gin__ import dynamic_registration\nfrom f%c import mod\nmod.dyn.a = %d\n",
                 "xyz"[i], i + 1);
        EXPECT_OK(parse(one), &err);
    }
    buf_clear(&b);
    EXPECT_OK(gin_config_text(c, false, &b, &err), &err);
#define PARAGRAPH(name, value)                                                                     \
    "\n# Parameters for " name ":\n# ====================================================="         \
    "=========================\n" name ".a = " value "\n"
    EXPECT_STR(buf_str(&b), "from __gin__ import dynamic_registration\nfrom fx import mod\n"
                            "from fy import mod as mod2\nfrom fz import mod as mod3\n"
                            PARAGRAPH("mod.dyn", "1") PARAGRAPH("mod2.dyn", "2") PARAGRAPH("mod3.dyn", "3"));
    static const char *const bad[] = {
        "from __gin__ import dynamic_registration\nimport fx.none\n",
        "from __gin__ import dynamic_registration\nfrom fx import mod\nmod.none.a = 1\n",
        "from __gin__ import dynamic_registration\nfrom fx import mod\nmod = 1\nmod.a = 1\n",
        "from __gin__ import dynamic_registration\npair.left = 1\n",
        "from __gin__ import dynamic_registration\nfrom fx import mod\npair.left = @mod()\n",
        "from __gin__ import dynamic_registration\nimport gin\ngin.none.a = 1\n",
        "from __gin__ import none\n",
        "import __gin__.dynamic_registration\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        again();
        const spt_status st = gin_parse_string(c, bad[i], strlen(bad[i]), &err);
        if (st != SPT_E_CONFIG)
            fail_msg("%s: %s", bad[i], spt_status_text(st));
    }
    buf_release(&b);
}

/* --- flags ------------------------------------------------------------------------------------------------- */

static void lists_in_flags(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        size_t count; /* 99: refused */
        const char *first;
    } of[] = {
        {"a,b", 2, "a"}, {"", 0, NULL}, {" a , b ", 2, "a"}, {"\"a,b\",c", 2, "a,b"}, {"\"a\"\"b\"", 1, "a\"b"},
        {"\"a", 99, NULL}, {"\"a\"b", 99, NULL}, {"\"a\",", 2, "a"}, {"\"", 99, NULL}, {"\"\"", 1, ""},
        {"\" \t a\"", 1, "a"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char arg[200];
        gin_flags f = {0};
        snprintf(arg, sizeof arg, "--gin_search_paths=%s", of[i].value);
        char program[] = "train", *argv[] = {program, arg, NULL};
        const spt_status st = gin_flags_parse(2, argv, ~0u, &f, &err);
        if (st != (of[i].count == 99 ? SPT_E_USAGE : SPT_OK))
            fail_msg("%s: %s", arg, spt_status_text(st));
        if (st)
            EXPECT_MSG(&err, "unbalanced quotes");
        else
            EXPECT_EQ_I64(f.search_paths.count, of[i].count);
        if (!st && of[i].count)
            EXPECT_STR(f.search_paths.item[0], of[i].first);
        gin_flags_release(&f);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(locked), CASE(parameters_that_are_not), CASE(queries), CASE(missing_settings),
        CASE(macros_and_references), CASE(arguments_that_nobody_gave), CASE(as_many_arguments_as_there_may_be),
        CASE(singletons_and_constants), CASE(cycles), CASE(looking_at_values), CASE(evaluations_are_counted_one_by_one), CASE(text_is_utf8), CASE(values_compare),
        CASE(values_print), CASE(configurations_print_and_parse), CASE(errors_print), CASE(files_by_prefix),
        CASE(imports_under_several_names), CASE(order_of_sections),
        cmocka_unit_test_setup_teardown(strings_and_words_that_are_wrong, setup, teardown), CASE(prefixes_of_strings), CASE(lists_in_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
