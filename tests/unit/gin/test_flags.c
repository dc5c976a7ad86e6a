/* gin/flags: the reference's command line as text. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "gin/flags.h"

static void expect_rewrite(const char *arg, const char *want)
{
    char *got;
    spt_err err;
    EXPECT_OK(gin_flag_rewrite(arg, &got, &err), &err);
    EXPECT_STR(got, want);
    mem_free(got);
}

static void recorded_rewrites(void **state)
{
    spt_err err;
    char *got = NULL;
    expect_rewrite("--gin.A=1", "--gin_bindings=A = 1");
    expect_rewrite("--gin.s/f.p='x=y'", "--gin_bindings=s/f.p = 'x=y'");
    expect_rewrite("--gin.A=", "--gin_bindings=A = ");
    expect_rewrite("-gin.A=1", "-gin.A=1");
    expect_rewrite("gin.A=1", "gin.A=1");
    expect_rewrite("--gin_file=x", "--gin_file=x");
    EXPECT_STATUS(gin_flag_rewrite("--gin.A", &got, &err), SPT_E_USAGE);
    EXPECT_STR(err.msg, "Gin bindings must be of the form '--gin.<param>=<value>', got: --gin.A");
    EXPECT_TRUE(got == NULL);
}

static spt_status parse(unsigned programs, gin_flags *out, spt_err *err, int argc, ...)
{
    char *argv[32] = {"spt"};
    va_list args;
    va_start(args, argc);
    for (int i = 0; i < argc; i++)
        argv[i + 1] = va_arg(args, char *);
    va_end(args);
    return gin_flags_parse(argc + 1, argv, programs, out, err);
}

static void names_begin_with_a_dash(void **state)
{
    gin_flags f;
    spt_err err;
    EXPECT_OK(parse(GIN_PROGRAM_TRAIN, &f, &err, 2, "xflagfile=/none", "-"), &err);
    gin_flags_release(&f);
    EXPECT_OK(parse(GIN_PROGRAM_TRAIN, &f, &err, 3, "--nomultiprocess_gpu", "--nogin_file", "--nothing"), &err);
    EXPECT_EQ_I64(f.rest.count, 2);
    EXPECT_STR(f.rest.item[0], "--nogin_file");
    gin_flags_release(&f);
    EXPECT_STATUS(parse(GIN_PROGRAM_TRAIN, &f, &err, 1, "-flagfile=/none"), SPT_E_NOTFOUND);
    EXPECT_STATUS(parse(GIN_PROGRAM_TRAIN, &f, &err, 1, "--flagfile=/none"), SPT_E_NOTFOUND);
}

static void kinds_of_flags(void **state)
{
    gin_flags f;
    spt_err err;
    EXPECT_OK(parse(GIN_PROGRAM_TRAIN, &f, &err, 13, "--gin_file=a.gin", "--gin_file", "b.gin",
                    "--gin.X=1", "--gin_bindings=Y = 2", "--gin.Z=[1, 2]", "-tfds_data_dir", "/d",
                    "--seqio_additional_cache_dirs=/a, \"/b,c\"", "--process_count=4",
                    "--multiprocess_gpu", "--model", "M"),
              &err);
    EXPECT_EQ_I64(f.gin_file.count, 2);
    EXPECT_STR(f.gin_file.item[0], "a.gin");
    EXPECT_STR(f.gin_file.item[1], "b.gin");
    EXPECT_EQ_I64(f.gin_bindings.count, 3);
    EXPECT_STR(f.gin_bindings.item[0], "X = 1");
    EXPECT_STR(f.gin_bindings.item[1], "Y = 2");
    EXPECT_STR(f.gin_bindings.item[2], "Z = [1, 2]");
    EXPECT_STR(f.tfds_data_dir, "/d");
    EXPECT_EQ_I64(f.cache_dirs.count, 3); /* a quote counts only where an item starts */
    EXPECT_STR(f.cache_dirs.item[0], "/a");
    EXPECT_STR(f.cache_dirs.item[1], "\"/b");
    EXPECT_TRUE(f.has_process_count && f.process_count == 4 && !f.has_process_index);
    EXPECT_TRUE(f.multiprocess_gpu && f.any);
    EXPECT_EQ_I64(f.rest.count, 2);
    EXPECT_STR(f.rest.item[0], "--model");
    EXPECT_EQ_I64(f.search_paths.count, 1);
    EXPECT_STR(f.search_paths.item[0], ".");
    gin_flags_release(&f);
}

static void search_paths_are_csv(void **state)
{
    gin_flags f;
    spt_err err;
    EXPECT_OK(parse(GIN_PROGRAM_EVAL, &f, &err, 1, "--gin_search_paths=a,\"b,c\", d "), &err);
    EXPECT_EQ_I64(f.search_paths.count, 3);
    EXPECT_STR(f.search_paths.item[1], "b,c");
    EXPECT_STR(f.search_paths.item[2], "d");
    gin_flags_release(&f);
    EXPECT_OK(parse(GIN_PROGRAM_EVAL, &f, &err, 1, "--gin_search_paths="), &err);
    EXPECT_EQ_I64(f.search_paths.count, 0);
    gin_flags_release(&f);
    EXPECT_STATUS(parse(GIN_PROGRAM_EVAL, &f, &err, 1, "--gin_search_paths=\"a"), SPT_E_USAGE);
}

static void programs_have_their_own_flags(void **state)
{
    gin_flags f;
    spt_err err;
    EXPECT_OK(parse(GIN_PROGRAM_EVAL, &f, &err, 2, "--shard_id=3", "--dry_run"), &err);
    EXPECT_EQ_I64(f.rest.count, 2);
    gin_flags_release(&f);
    EXPECT_OK(parse(GIN_PROGRAM_INFER | GIN_PROGRAM_MAIN, &f, &err, 4, "--shard_id", "3",
                    "--nodry_run", "--run_mode=train"),
              &err);
    EXPECT_TRUE(f.has_shard_id && f.shard_id == 3 && !f.dry_run);
    EXPECT_STR(f.run_mode, "train");
    gin_flags_release(&f);
    EXPECT_OK(parse(GIN_PROGRAM_EVAL, &f, &err, 4, "--dry_run", "--nofoo", "--undefok=dry_run,foo",
                    "--bar"),
              &err);
    EXPECT_EQ_I64(f.rest.count, 1);
    EXPECT_STR(f.rest.item[0], "--bar");
    gin_flags_release(&f);
}

static void end_of_flags_and_wrong_values(void **state)
{
    gin_flags f;
    spt_err err;
    EXPECT_OK(parse(GIN_PROGRAM_ALL, &f, &err, 3, "--gin.A=1", "--", "--gin.B=2"), &err);
    EXPECT_EQ_I64(f.gin_bindings.count, 1);
    EXPECT_EQ_I64(f.rest.count, 2);
    EXPECT_STR(f.rest.item[1], "--gin.B=2");
    gin_flags_release(&f);
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--dry_run=maybe"), SPT_E_USAGE);
    EXPECT_MSG(&err, "dry_run=maybe");
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--shard_id=x"), SPT_E_USAGE);
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--gin_file"), SPT_E_USAGE);
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--gin.MODEL"), SPT_E_USAGE);
}

static void flag_files(void **state)
{
    gin_flags f;
    spt_err err;
    char arg[600], self[600];
    const char *dir = test_tmpdir();
    const char *a = test_path(dir, "a.flags"), *b = test_path(dir, "b.flags");
    snprintf(arg, sizeof arg, "--flagfile=%s", a);
    snprintf(self, sizeof self, "# comment\n--gin.A=1\n  // more\n--flagfile=%s\n", b);
    test_write(a, self, strlen(self));
    test_write(b, "--gin_file=x.gin\n--dry_run\n", 27);
    EXPECT_OK(parse(GIN_PROGRAM_ALL, &f, &err, 2, arg, "--gin.B=2"), &err);
    EXPECT_EQ_I64(f.gin_bindings.count, 2);
    EXPECT_STR(f.gin_bindings.item[0], "A = 1");
    EXPECT_STR(f.gin_file.item[0], "x.gin");
    EXPECT_TRUE(f.dry_run);
    gin_flags_release(&f);
    snprintf(self, sizeof self, "--flagfile=%s\n", a);
    test_write(a, self, strlen(self));
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, arg), SPT_E_USAGE);
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--flagfile=/nonexistent/x"), SPT_E_NOTFOUND);
}

/* Bindings beat files wherever they stand on the line; a relative name is searched. */
static void flags_apply_in_order(void **state)
{
    static const char *const defaults[] = {"configs"};
    gin_flags f;
    gin_registry *r;
    gin_config *c;
    spt_err err = {0};
    const gin_value *v;
    const char *dir = test_tmpdir();
    char paths[600];
    snprintf(paths, sizeof paths, "--gin_search_paths=%s", dir);
    static const char mine[] = "include 't5x/configs/runs/eval.gin'\nN = 1\nM = 1\n";
    test_write(test_path(dir, "mine.gin"), mine, sizeof mine - 1);
    EXPECT_OK(parse(GIN_PROGRAM_ALL, &f, &err, 3, "--gin.N=2", paths, "--gin_file=mine.gin"), &err);
    EXPECT_OK(gin_registry_upstream(&r, &err), &err);
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    EXPECT_OK(gin_config_entry(c, "__main__.evaluate", &err), &err);
    EXPECT_OK(gin_flags_apply(&f, c, defaults, 1, &err), &err);
    EXPECT_OK(gin_query(c, "%N", &v, &err), &err);
    EXPECT_EQ_I64(v->u.i, 2);
    EXPECT_TRUE(gin_has(c, "evaluate.model"));
    gin_config_free(c);
    gin_registry_free(r);
    gin_flags_release(&f);
}

static spt_status fault_run(void *ctx, spt_err *err)
{
    gin_flags f = {0};
    const spt_status st = parse(GIN_PROGRAM_ALL, &f, err, 5, "--gin.A=1", "--gin_file=x", "--rest",
                                "--gin_search_paths=a,b", "--tfds_data_dir=/d");
    gin_flags_release(&f);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(fault_run, NULL) > 8);
}

/* Flag files in both forms, with comments, blanks and line ends of every kind; what is wrong in them. */
static void flag_files_and_wrong_values(void **state)
{
    gin_flags f;
    spt_err err;
    char flagfile[300];
    const char *dir = test_tmpdir(), *file = test_path(dir, "flags");
    (void)state;
    static const char text[] = " # a comment\n// another\n\n\t--gin_file=a.gin \t\r\n--dry_run=1\n--process_count=0x10";
    test_write(file, text, sizeof text - 1);
    snprintf(flagfile, sizeof flagfile, "--flagfile=%s", file);
    for (int form = 0; form < 2; form++) {
        if (form)
            EXPECT_OK(parse(GIN_PROGRAM_ALL, &f, &err, 2, "-flagfile", file), &err);
        else
            EXPECT_OK(parse(GIN_PROGRAM_ALL, &f, &err, 1, flagfile), &err);
        EXPECT_TRUE(f.gin_file.count == 1 && f.dry_run && f.has_process_count && f.process_count == 16);
        EXPECT_STR(f.gin_file.item[0], "a.gin");
        gin_flags_release(&f);
    }
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--flagfile"), SPT_E_USAGE);
    EXPECT_MSG(&err, "--flagfile with no argument");
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, "--flagfile=/no/such/file"), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "--flagfile=/no/such/file");
    test_write(file, "--gin.A\n", 8);
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, flagfile), SPT_E_USAGE);
    test_write(file, flagfile, strlen(flagfile)); /* names itself */
    EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, flagfile), SPT_E_USAGE);
    EXPECT_MSG(&err, "do they name each other");
    static const struct {
        const char *arg;
        int yes; /* 1, 0, -1: refused */
    } bools[] = {{"--dry_run", 1}, {"--dry_run=true", 1}, {"--dry_run=True", 1}, {"--dry_run=TRUE", 1}, {"--dry_run=t", 1},
                 {"--nodry_run", 0}, {"--dry_run=false", 0}, {"--dry_run=False", 0}, {"--dry_run=FALSE", 0}, {"--dry_run=f", 0},
                 {"--dry_run=0", 0}, {"--dry_run=yes", -1}, {"--dry_run=", -1}};
    for (size_t i = 0; i < sizeof bools / sizeof *bools; i++) {
        EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, bools[i].arg), bools[i].yes < 0 ? SPT_E_USAGE : SPT_OK);
        if (bools[i].yes >= 0) {
            EXPECT_EQ_I64(f.dry_run, bools[i].yes);
            gin_flags_release(&f);
        }
    }
    static const char *const ints[] = {"--process_count=", "--process_count=1x", "--process_count=99999999999999999999",
                                       "--process_count=-99999999999999999999"};
    for (size_t i = 0; i < 4; i++) {
        EXPECT_STATUS(parse(GIN_PROGRAM_ALL, &f, &err, 1, ints[i]), SPT_E_USAGE);
        EXPECT_MSG(&err, "not an integer");
    }
}

/* The table as completion and suggestions see it. */
static void the_table_of_flags(void **state)
{
    size_t n = 0, switches = 0;
    (void)state;
    for (; gin_flag_name(n); n++) {
        char arg[100];
        snprintf(arg, sizeof arg, "--%s=1", gin_flag_name(n));
        EXPECT_TRUE(gin_flag_programs(n) != 0 && gin_is_flag(arg, gin_flag_programs(n)));
        switches += gin_flag_is_switch(n);
    }
    EXPECT_TRUE(n > 10 && switches >= 1 && switches < n);
    EXPECT_TRUE(gin_flag_programs(n) == 0 && !gin_flag_is_switch(n));
    EXPECT_TRUE(gin_is_flag("--gin.A=1", GIN_PROGRAM_EVAL) && gin_is_flag("-flagfile", GIN_PROGRAM_EVAL) &&
                gin_is_flag("--flagfile=x", GIN_PROGRAM_EVAL));
    EXPECT_TRUE(!gin_is_flag("gin.A=1", GIN_PROGRAM_ALL) && !gin_is_flag("-", GIN_PROGRAM_ALL) &&
                !gin_is_flag("", GIN_PROGRAM_ALL) && !gin_is_flag("--model", GIN_PROGRAM_ALL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flag_files_and_wrong_values),
        cmocka_unit_test(the_table_of_flags),
        cmocka_unit_test(recorded_rewrites),
        cmocka_unit_test(names_begin_with_a_dash), cmocka_unit_test(kinds_of_flags),
        cmocka_unit_test(search_paths_are_csv),
        cmocka_unit_test(programs_have_their_own_flags),
        cmocka_unit_test(end_of_flags_and_wrong_values),
        cmocka_unit_test(flag_files),
        cmocka_unit_test(flags_apply_in_order),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
