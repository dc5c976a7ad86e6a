/* The recorded behaviour of gin-config, case by case, from the *.test files beside this one.
 *
 * Format: a case starts with "case ID" and ends at the next one. Texts are the lines that follow
 * their keyword, each behind "| " (or "~ " with \r \f \t \\ escapes), joined with newlines.
 *
 *   mode V|P|E|C|CP|O|S   V: one value; P: statements without registry; E: files, then `in`,
 *                         finalise, call, print; C: configuration text; CP: with provenance; O:
 * call, then the operative configuration; S: `in` after the sst2-demo files in text to parse
 * (several: command-line bindings) file NAME             a file to create;  gin_file NAME  a file
 * to parse first;  path DIR dynamic               the fixture is only importable, not registered
 *   skip [NAME]           skip_unknown, all or by name;  open  do not finalise
 *   constant NAME VALUE   call [SCOPE/]NAME
 *   out                   what is printed
 *   error KIND            the error text;  line N, column N, source  its place (syntax errors)
 *
 * Where the recorded text holds Python internals (object addresses, class names of its syntax
 * tree), the files hold ours. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/fs.h"
#include "gin/gin.h"
#include "gin/gin_internal.h"

enum { MAX_TEXTS = 16 };

struct text {
    char name[64];
    buf b;
};

struct test_case {
    char id[16], mode[4], error[32];
    struct text in[MAX_TEXTS], file[MAX_TEXTS], constant[4], out, source;
    size_t ins, files, constants;
    char gin_file[MAX_TEXTS][64], path[4][64], skip[4][64], call[MAX_TEXTS][64];
    size_t gin_files, paths, skips, calls;
    bool dynamic, skip_all, open, has_out, has_source;
    long line, column;
};

/* --- the fixture -------------------------------------------------------------------------- */

#define FIXTURE(registered)                                                                        \
    {                                                                                              \
        {"fx.alpha", "make", GIN_FUNCTION, "size=1, tag='t'", registered, NULL},                   \
            {"fx.alpha", "pair", GIN_FUNCTION, "left=None, right=None", registered, NULL},         \
            {"fx.alpha", "need", GIN_FUNCTION, "a, b, c=3", registered, NULL},                     \
            {"fx.alpha", "kw", GIN_FUNCTION, "**kwargs", registered, NULL},                        \
            {"fx.alpha", "Box", GIN_CLASS, "item=None, label='box'", registered, NULL},            \
            {"fx.alpha", "Box.open", GIN_METHOD, "key=0", false, NULL},                            \
            {"fx.beta", "make", GIN_FUNCTION, "size=2, tag='b'", registered, NULL},                \
            {"fx.beta", "only", GIN_FUNCTION, "v=0", registered, NULL},                            \
    }
static const gin_def static_fixture[] = FIXTURE(true);
static const gin_def dynamic_fixture[] = FIXTURE(false);

/* --- printing what the fixture's functions return ----------------------------------------- */

static void show(gin_config *c, buf *out, const gin_value *v);

static void show_arg(gin_config *c, buf *out, const gin_value *o, const char *name)
{
    gin_value v;
    if (gin_get(c, o, name, &v))
        show(c, out, &v);
    else
        buf_adds(out, "?");
}

static void show_object(gin_config *c, buf *out, const gin_value *v)
{
    const char *name = gin_def_of(v)->name;
    if (gin_is(v, "fx.alpha.make"))
        buf_addf(out, "('make#%llu', ", (unsigned long long)gin_object_index(v));
    else if (gin_is(v, "fx.beta.make"))
        buf_adds(out, "('beta.make', ");
    if (strcmp(name, "make") == 0) {
        show_arg(c, out, v, "size");
        buf_adds(out, ", ");
        show_arg(c, out, v, "tag");
        buf_adds(out, ")");
    } else if (strcmp(name, "pair") == 0) {
        buf_adds(out, "('pair', ");
        show_arg(c, out, v, "left");
        buf_adds(out, ", ");
        show_arg(c, out, v, "right");
        buf_adds(out, ")");
    } else if (strcmp(name, "only") == 0) {
        buf_adds(out, "('only', ");
        show_arg(c, out, v, "v");
        buf_adds(out, ")");
    } else if (strcmp(name, "Box") == 0) {
        buf_adds(out, "Box(item=");
        show_arg(c, out, v, "item");
        buf_adds(out, ", label=");
        show_arg(c, out, v, "label");
        buf_adds(out, ")");
    } else if (strcmp(name, "kw") == 0) {
        buf_adds(out, "('kw', {");
        for (size_t i = 0; i < gin_object_count(v); i++) {
            gin_value arg;
            buf_addf(out, "%s'%s': ", i ? ", " : "", gin_object_arg(v, i, &arg));
            show(c, out, &arg);
        }
        buf_adds(out, "})");
    }
}

static void show(gin_config *c, buf *out, const gin_value *v)
{
    const size_t n = v->kind == GIN_DICT ? 2 * (size_t)v->count : v->count;
    switch (v->kind) {
    case GIN_OBJECT:
        show_object(c, out, v);
        return;
    case GIN_CALLABLE:
        buf_addf(out, "<callable %s>", gin_def_of(v)->name);
        return;
    case GIN_REQUIRED:
        buf_adds(out, "<REQUIRED sentinel>");
        return;
    case GIN_LIST:
    case GIN_TUPLE:
    case GIN_DICT:
        buf_addc(out, "[({"[v->kind - GIN_LIST]);
        for (size_t i = 0; i < n; i++) {
            buf_adds(out, !i ? "" : v->kind == GIN_DICT && i % 2 ? ": " : ", ");
            show(c, out, &v->u.items[i]);
        }
        buf_adds(out, v->kind == GIN_TUPLE && n == 1 ? ",)"
                      : v->kind == GIN_TUPLE         ? ")"
                      : v->kind == GIN_LIST          ? "]"
                                                     : "}");
        return;
    default:
        gin_repr(out, v);
    }
}

/* --- running ------------------------------------------------------------------------------ */

static void show_import(buf *out, const gin_statement *s)
{
    const struct gin_import i = {.module = s->selector, .alias = s->alias, .from = s->from};
    size_t len;
    const char *symbol = gin_import_symbol(&i, &len);
    buf_addf(out, "import %s is_from=%s alias=%s bound=%.*s partial=", s->selector,
             s->from ? "True" : "False", s->alias ? s->alias : "None", (int)len, symbol);
    gin_import_partial(out, &i);
}

static void show_binding(buf *out, const char *scope, const char *selector, const char *param,
                         const gin_value *v, uint32_t line)
{
    /* A macro's name is printed as scope and selector. */
    const char *slash = !*param ? strrchr(selector, '/') : NULL;
    if (slash)
        buf_addf(out, "bind scope='%.*s' sel='%s'", (int)(slash - selector), selector, slash + 1);
    else
        buf_addf(out, "bind scope='%s' sel='%s'", scope, selector);
    buf_addf(out, " arg='%s' value=", param);
    gin_repr(out, v);
    buf_addf(out, " line=%u", line);
}

static spt_status run_parser(gin_config *c, const struct test_case *t, buf *out)
{
    char *text = mem_strndup(buf_str(&t->in[0].b), t->in[0].b.len);
    gin_parser p;
    if (!text)
        return SPT_E_NOMEM;
    spt_status st = gin_parser_init(&p, c, NULL, NULL, text, gin_normalise(text, t->in[0].b.len),
                                    gin_reference_plain);
    if (*t->mode == 'V') {
        gin_value v;
        if (!st)
            st = gin_parse_value(&p, &v);
        if (!st) {
            buf_adds(out, "value ");
            gin_repr(out, &v);
            buf_addf(out, " (%s)", v.kind == GIN_REF ? "R" : gin_kind_name(&v));
        }
    }
    for (gin_statement s; *t->mode == 'P' && !st;) {
        st = gin_statement_next(&p, &s);
        if (st || s.type == ST_END)
            break;
        if (out->len)
            buf_adds(out, " ; ");
        if (s.type == ST_BINDING) {
            show_binding(out, s.scope, s.selector, s.param, &s.value, s.at.line);
        } else if (s.type == ST_IMPORT) {
            show_import(out, &s);
        } else if (s.type == ST_INCLUDE) {
            buf_addf(out, "include '%s'", s.value.u.s);
        } else {
            buf_addf(out, "block scope='%s' sel='%s' line=%u", s.scope, s.selector, s.at.line);
            for (size_t i = 0; i < p.items; i++) {
                buf_adds(out, " ; ");
                show_binding(out, s.scope, s.selector, p.item[i].param, &p.item[i].value,
                             p.item[i].line);
            }
        }
    }
    gin_parser_release(&p);
    mem_free(text);
    return st;
}

static spt_status parse_inputs(gin_config *c, const struct test_case *t, spt_err *err)
{
    for (size_t i = 0; i < t->gin_files; i++)
        TRY(gin_parse_file(c, t->gin_file[i], err));
    const char *bindings[MAX_TEXTS];
    for (size_t i = 0; i < t->ins; i++)
        bindings[i] = buf_str(&t->in[i].b);
    return gin_parse_bindings(c, bindings, t->ins, err);
}

static spt_status run_config(gin_config *c, const struct test_case *t, buf *out, spt_err *err)
{
    TRY(parse_inputs(c, t, err));
    if (*t->mode == 'C')
        return gin_config_text(c, t->mode[1] == 'P', out, err);
    if (*t->mode == 'S') {
        buf_adds(out, "OK");
        return SPT_OK;
    }
    if (!t->open)
        TRY(gin_finalize(c, err));
    for (size_t i = 0; i < t->calls; i++) {
        gin_value v;
        TRY(gin_call(c, t->call[i], NULL, 0, &v, err));
        if (*t->mode == 'E') {
            if (i)
                buf_adds(out, " ; ");
            show(c, out, &v);
        }
    }
    return *t->mode == 'O' ? gin_operative_text(c, out, err) : SPT_OK;
}

static char project[4096];

static void make_files(const struct test_case *t)
{
    for (size_t i = 0; i < t->files; i++) {
        char dir[64];
        snprintf(dir, sizeof dir, "%s", t->file[i].name);
        char *slash = strrchr(dir, '/');
        spt_err e;
        if (slash) {
            *slash = 0;
            EXPECT_OK(fs_make_dirs(dir, &e), &e);
        }
        test_write(t->file[i].name, buf_str(&t->file[i].b), t->file[i].b.len);
    }
}

static spt_status demo_files(gin_config *c, spt_err *err)
{
    static const char *const files[] = {"prompt_tuning/configs/models/t5_1_1_base_prompt.gin",
                                        "prompt_tuning/configs/prompts/from_class_labels.gin",
                                        "prompt_tuning/configs/runs/prompt_finetune.gin"};
    static const char *const bindings[] = {
        "CLASS_LABELS = ['positive', 'negative']",
        "MODEL_DIR = '/m'",
        "MIXTURE_OR_TASK_NAME = 'taskless_glue_sst2_v200_examples'",
        "MIXTURE_OR_TASK_MODULE = 'prompt_tuning.data.glue'",
        "TASK_FEATURE_LENGTHS = {'inputs': 512, 'targets': 8}",
        "INITIAL_CHECKPOINT_PATH = 'gs://x/checkpoint_1100000'",
        "TRAIN_STEPS = 1_150_000",
        "USE_CACHED_TASKS = False"};
    TRY(gin_config_entry(c, "__main__.train", err));
    for (size_t i = 0; i < 3; i++)
        TRY(gin_parse_file(c, files[i], err));
    return gin_parse_bindings(c, bindings, sizeof bindings / sizeof *bindings, err);
}

static spt_status run_case(gin_config *c, const struct test_case *t, buf *out, spt_err *err)
{
    const char *names[4];
    for (size_t i = 0; i < t->paths; i++)
        TRY(gin_add_search_path(c, t->path[i], err));
    for (size_t i = 0; i < t->constants; i++)
        TRY(gin_add_constant(c, t->constant[i].name, buf_str(&t->constant[i].b), err));
    for (size_t i = 0; i < t->skips; i++)
        names[i] = t->skip[i];
    if (t->skip_all || t->skips)
        gin_skip_unknown(c, t->skips ? names : NULL, t->skips);
    if (*t->mode == 'S') {
        TRY(gin_add_search_path(c, test_path(project, "configs"), err));
        TRY(demo_files(c, err));
    }
    if (*t->mode == 'V' || *t->mode == 'P')
        return run_parser(c, t, out);
    return run_config(c, t, out, err);
}

static bool same(const char *id, const char *what, const char *got, const char *want)
{
    if (strcmp(got, want) == 0)
        return true;
    print_message("%s: %s is\n---\n%s\n--- wanted\n%s\n---\n", id, what, got, want);
    return false;
}

static bool check_error(const struct test_case *t, const gin_error *e)
{
    bool ok = same(t->id, "kind", e->kind, t->error);
    ok &= same(t->id, "text", e->text, buf_str(&t->out.b));
    if (t->line && e->line != (uint32_t)t->line) {
        print_message("%s: line %u, wanted %ld\n", t->id, e->line, t->line);
        ok = false;
    }
    if (t->column >= 0 && e->column != t->column) {
        print_message("%s: column %d, wanted %ld\n", t->id, e->column, t->column);
        ok = false;
    }
    if (t->has_source) {
        char source[512];
        size_t n = strlen(e->source);
        while (n && strchr(" \t\n", e->source[n - 1]))
            n--;
        snprintf(source, sizeof source, "%.*s", (int)n, e->source);
        ok &= same(t->id, "source", source, buf_str(&t->source.b));
    }
    return ok;
}

/* --- the same with failing allocations ------------------------------------------------------ */

static bool with_faults; /* run_file: every allocation of every case fails, too */

struct fault_of_case {
    const struct test_case *t;
    spt_status clean; /* how it ends when nothing fails */
    bool learning;
    char *text; /* what it prints then */
};

static spt_status case_under_faults(void *ctx, spt_err *err)
{
    struct fault_of_case *f = ctx;
    const struct test_case *t = f->t;
    gin_registry *r = NULL;
    gin_config *c = NULL;
    buf out;
    buf_init(&out, 1 << 20);
    spt_status st = *t->mode == 'S' ? gin_registry_upstream(&r, err) : gin_registry_new(&r, err);
    if (!st && *t->mode != 'S')
        st = gin_registry_add(r, t->dynamic ? dynamic_fixture : static_fixture, 8, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st) {
        st = run_case(c, t, &out, err);
        if (f->learning) {
            f->clean = st;
            f->text = st ? NULL : mem_strdup(buf_str(&out));
        }
        if (!st && !f->clean && !buf_status(&out, "output", err) && strcmp(f->text, buf_str(&out)))
            fail_msg("%s: prints another text when an allocation fails: %s", t->id, buf_str(&out));
        if (st == f->clean)
            st = SPT_OK;
        else if (!st) /* a text that was cut off */
            st = buf_status(&out, "output", err);
    }
    gin_config_free(c);
    gin_registry_free(r);
    buf_release(&out);
    return st;
}

static void check_faults(const struct test_case *t)
{
    struct fault_of_case f = {.t = t, .learning = true};
    spt_err err = {0};
    EXPECT_OK(case_under_faults(&f, &err), &err);
    f.learning = false;
    fault_every_alloc(case_under_faults, &f);
    gin_pool_first = gin_pool_last = 1; /* every piece of a pool is an allocation */
    fault_every_alloc(case_under_faults, &f);
    gin_pool_first = 2048;
    gin_pool_last = 256 * 1024;
    mem_free(f.text);
}

/* Every case runs in its own empty directory, with its own registry. */
static bool check_case(const struct test_case *t)
{
    gin_registry *r = NULL;
    gin_config *c = NULL;
    spt_err err = {0};
    buf out;
    buf_init(&out, 1 << 20);
    if (*t->mode == 'S') {
        EXPECT_OK(gin_registry_upstream(&r, &err), &err);
    } else {
        EXPECT_OK(gin_registry_new(&r, &err), &err);
        EXPECT_OK(gin_registry_add(r, t->dynamic ? dynamic_fixture : static_fixture, 8, &err),
                  &err);
    }
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    const char *dir = test_path(test_tmpdir(), t->id);
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    EXPECT_EQ_I64(chdir(dir), 0);
    make_files(t);
    const spt_status st = run_case(c, t, &out, &err);
    if (with_faults)
        check_faults(t);
    EXPECT_EQ_I64(chdir(project), 0);
    bool ok;
    if (t->has_out && st) {
        print_message("%s: failed: %s: %s\n", t->id, gin_last_error(c)->kind,
                      gin_last_error(c)->text);
        ok = false;
    } else if (t->has_out) {
        ok = same(t->id, "output", buf_str(&out), buf_str(&t->out.b));
    } else if (!st) {
        print_message("%s: gave %s, wanted %s: %s\n", t->id, buf_str(&out), t->error,
                      buf_str(&t->out.b));
        ok = false;
    } else {
        ok = check_error(t, gin_last_error(c));
    }
    gin_config_free(c);
    gin_registry_free(r);
    buf_release(&out);
    return ok;
}

/* --- reading the files -------------------------------------------------------------------- */

static void release_case(struct test_case *t)
{
    for (size_t i = 0; i < MAX_TEXTS; i++) {
        buf_release(&t->in[i].b);
        buf_release(&t->file[i].b);
    }
    for (size_t i = 0; i < 4; i++)
        buf_release(&t->constant[i].b);
    buf_release(&t->out.b);
    buf_release(&t->source.b);
    *t = (struct test_case){.column = -1};
}

static struct text *start_text(struct text *t, const char *name)
{
    snprintf(t->name, sizeof t->name, "%s", name);
    buf_init(&t->b, 1 << 20);
    return t;
}

static void add_line(struct text *t, bool *first, const char *line)
{
    if (!*first)
        buf_addc(&t->b, '\n');
    *first = false;
    if (line[0] == '|') {
        buf_adds(&t->b, line[1] ? line + 2 : "");
        return;
    }
    for (const char *s = line + 2; *s; s++) {
        if (*s == '\\' && s[1])
            buf_addc(&t->b, *++s == 'r' ? '\r' : *s == 'f' ? '\f' : *s == 't' ? '\t' : *s);
        else
            buf_addc(&t->b, *s);
    }
}

static void set_name(char (*list)[64], size_t *n, const char *name)
{
    snprintf(list[(*n)++], 64, "%s", name);
}

/* One keyword line; returns the text that its lines belong to, if any. */
static struct text *read_key(struct test_case *t, const char *key, const char *arg)
{
    if (strcmp(key, "mode") == 0)
        snprintf(t->mode, sizeof t->mode, "%s", arg);
    else if (strcmp(key, "in") == 0)
        return start_text(&t->in[t->ins++], "");
    else if (strcmp(key, "file") == 0)
        return start_text(&t->file[t->files++], arg);
    else if (strcmp(key, "gin_file") == 0)
        set_name(t->gin_file, &t->gin_files, arg);
    else if (strcmp(key, "path") == 0)
        set_name(t->path, &t->paths, arg);
    else if (strcmp(key, "call") == 0)
        set_name(t->call, &t->calls, arg);
    else if (strcmp(key, "dynamic") == 0)
        t->dynamic = true;
    else if (strcmp(key, "open") == 0)
        t->open = true;
    else if (strcmp(key, "skip") == 0 && *arg)
        set_name(t->skip, &t->skips, arg);
    else if (strcmp(key, "skip") == 0)
        t->skip_all = true;
    else if (strcmp(key, "line") == 0)
        t->line = strtol(arg, NULL, 10);
    else if (strcmp(key, "column") == 0)
        t->column = strtol(arg, NULL, 10);
    else if (strcmp(key, "constant") == 0) {
        struct text *k = start_text(&t->constant[t->constants++], arg);
        *strchr(k->name, ' ') = 0;
        buf_adds(&k->b, strchr(arg, ' ') + 1);
    } else if (strcmp(key, "source") == 0) {
        t->has_source = true;
        return start_text(&t->source, "");
    } else if (strcmp(key, "out") == 0) {
        t->has_out = true;
        return start_text(&t->out, "");
    } else if (strcmp(key, "error") == 0) {
        snprintf(t->error, sizeof t->error, "%s", arg);
        return start_text(&t->out, "");
    } else {
        fail_msg("%s: unknown keyword %s", t->id, key);
    }
    return NULL;
}

static void run_file(const char *name, size_t want)
{
    static struct test_case t;
    char path[64];
    size_t ran = 0, failed = 0, size;
    char *text;
    spt_err err;
    EXPECT_TRUE(getcwd(project, sizeof project) != NULL);
    snprintf(path, sizeof path, "tests/unit/gin/%s.test", name);
    EXPECT_OK(fs_read_all(path, 1 << 20, &text, &size, &err), &err);
    struct text *current = NULL;
    bool first = true;
    release_case(&t);
    for (char *line = text, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        if (line[0] == '|' || line[0] == '~') {
            EXPECT_TRUE(current != NULL);
            add_line(current, &first, line);
            continue;
        }
        if (*line == '#' || !*line)
            continue;
        char *arg = strchr(line, ' ');
        if (arg)
            *arg++ = 0;
        if (strcmp(line, "case") == 0) {
            if (*t.id) {
                ran++;
                failed += !check_case(&t);
            }
            release_case(&t);
            snprintf(t.id, sizeof t.id, "%s", arg);
            continue;
        }
        current = read_key(&t, line, arg ? arg : "");
        first = true;
    }
    ran++;
    failed += !check_case(&t);
    release_case(&t);
    mem_free(text);
    print_message("golden: %s: %zu recorded cases, %zu differ\n", name, ran, failed);
    EXPECT_EQ_I64(ran, want);
    EXPECT_EQ_I64(failed, 0);
}

static void values(void **state)
{
    run_file("values", 75);
}
static void statements(void **state)
{
    run_file("statements", 73);
}
static void evaluation(void **state)
{
    run_file("evaluation", 33);
}
static void more(void **state)
{
    run_file("more", 35);
}
static void includes(void **state)
{
    run_file("includes", 11);
}
static void dynamic(void **state)
{
    run_file("dynamic", 33);
}
static void text(void **state)
{
    run_file("text", 7);
}
static void layout(void **state)
{
    run_file("layout", 98);
}
/* Every allocation of every recorded case fails, once and from there on. */
static void every_allocation(void **state)
{
    with_faults = true;
    values(state);
    statements(state);
    evaluation(state);
    more(state);
    includes(state);
    dynamic(state);
    text(state);
    layout(state);
    with_faults = false;
}
static void overrides(void **state)
{
    run_file("overrides", 46);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values), cmocka_unit_test(statements), cmocka_unit_test(evaluation),
        cmocka_unit_test(more),   cmocka_unit_test(includes),   cmocka_unit_test(dynamic),
        cmocka_unit_test(text),   cmocka_unit_test(overrides),  cmocka_unit_test(layout),
        cmocka_unit_test(every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
