/* The calls that programs make: queries, bindings from options, objects, what is missing, hints. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gin/gin.h"

static gin_registry *registry;

static int open_registry(void **state)
{
    spt_err err;
    return gin_registry_upstream(&registry, &err) != SPT_OK;
}

static int close_registry(void **state)
{
    gin_registry_free(registry);
    return 0;
}

static gin_config *new_config(void)
{
    gin_config *c;
    spt_err err;
    EXPECT_OK(gin_config_new(registry, &c, &err), &err);
    EXPECT_OK(gin_config_entry(c, "__main__.train", &err), &err);
    EXPECT_OK(gin_add_search_path(c, "configs", &err), &err);
    return c;
}

static void parse(gin_config *c, const char *text)
{
    spt_err err = {0};
    EXPECT_OK(gin_parse_string(c, text, strlen(text), &err), &err);
}

static void parse_file(gin_config *c, const char *name)
{
    spt_err err = {0};
    EXPECT_OK(gin_parse_file(c, name, &err), &err);
}

static void queries_see_stored_values(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    const gin_value *v;
    parse_file(c, "t5x/configs/runs/finetune.gin");
    EXPECT_OK(gin_query(c, "%BATCH_SIZE", &v, &err), &err);
    EXPECT_EQ_I64(v->u.i, 128);
    EXPECT_OK(gin_query(c, "train/utils.DatasetConfig.split", &v, &err), &err);
    EXPECT_STR(gin_as_str(v), "train");
    EXPECT_OK(gin_query(c, "train.model", &v, &err), &err);
    EXPECT_EQ_I64(v->kind, GIN_REF);
    EXPECT_STATUS(gin_query(c, "utils.DatasetConfig.split", &v, &err), SPT_E_CONFIG);
    EXPECT_STR(gin_last_error(c)->text,
               "Configurable 'utils.DatasetConfig' has no bound parameters.");
    EXPECT_STATUS(gin_query(c, "train.gc_period", &v, &err), SPT_E_CONFIG);
    EXPECT_STR(gin_last_error(c)->text,
               "Configurable 'train' has no value bound for parameter 'gc_period'.");
    EXPECT_TRUE(gin_has(c, "%MODEL_DIR") && !gin_has(c, "%NOTHING"));
    gin_config_free(c);
}

static void options_become_bindings(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    const gin_value *v;
    buf q;
    buf_init(&q, 1000);
    gin_quote(&q, "it's a\n\"dir\" \x01\xc3\xa9", 14);
    EXPECT_STR(buf_str(&q), "'it\\'s a\\n\"dir\" \\x01'");
    EXPECT_OK(gin_bind(c, "MODEL_DIR", buf_str(&q), &err), &err);
    EXPECT_OK(gin_query(c, "%MODEL_DIR", &v, &err), &err);
    EXPECT_STR(v->u.s, "it's a\n\"dir\" \x01");
    EXPECT_OK(gin_bind(c, "x/train.total_steps", "3", &err), &err);
    EXPECT_STATUS(gin_bind(c, "train.steps", "3", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "doesn't have a parameter named 'steps'");
    EXPECT_STATUS(gin_bind(c, "train.total_step", "3", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "did you mean 'total_steps'?");
    EXPECT_STATUS(gin_bind(c, "train.xxxtotal_steps", "3", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "did you mean 'total_steps'?");
    EXPECT_STATUS(gin_bind(c, "train.otal_stes", "3", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "did you mean 'total_steps'?");
    EXPECT_STATUS(gin_bind(c, "train.xxxxtotal_steps", "3", &err), SPT_E_CONFIG);
    EXPECT_TRUE(!strstr(err.msg, "did you mean")); /* four letters off are another word */
    buf_release(&q);
    gin_config_free(c);
}

/* Errors that come up while a statement is carried out, not read. */
static void errors_have_their_place(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    const char *path = test_path(test_tmpdir(), "late.gin");
    test_write(path, "MACRO = 1\nfrom __gin__ import bogus\n", 36);
    EXPECT_STATUS(gin_parse_file(c, path, &err), SPT_E_CONFIG);
    EXPECT_STR(gin_last_error(c)->kind, "SyntaxError");
    EXPECT_STR(gin_last_error(c)->file, path);
    EXPECT_EQ_I64(gin_last_error(c)->line, 2);
    gin_config_free(c);
}

static void objects_have_arguments_and_defaults(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    gin_value o, v;
    bool given;
    double f;
    int64_t i;
    bool b;
    parse(c, "from __gin__ import dynamic_registration\nfrom t5x import adafactor\nfrom t5x import "
             "trainer\nadafactor.Adafactor.decay_rate = 1\n"
             "adafactor.Adafactor.logical_factor_rules = @s/trainer.Trainer\n"
             "s/trainer.Trainer.num_microbatches = 4\n"
             "s/trainer.Trainer.learning_rate_fn = None\n");
    EXPECT_OK(gin_call(c, "adafactor.Adafactor", NULL, 0, &o, &err), &err);
    EXPECT_TRUE(gin_is(&o, "t5x.adafactor.Adafactor") && !gin_is(&o, "t5x.adafactor.HParamMap"));
    EXPECT_STR(gin_def_of(&o)->name, "Adafactor");
    EXPECT_TRUE(gin_get_given(c, &o, "decay_rate", &v, &given) && given);
    EXPECT_TRUE(gin_as_float(&v, &f) && f == 1.0);
    EXPECT_TRUE(gin_get_given(c, &o, "epsilon1", &v, &given) && !given);
    EXPECT_EQ_F64(v.u.f, 1e-30);
    EXPECT_TRUE(gin_get(c, &o, "factored", &v) && gin_as_bool(&v, &b) && b);
    EXPECT_TRUE(gin_get(c, &o, "min_dim_size_to_factor", &v) && gin_as_int(&v, &i) && i == 128);
    EXPECT_TRUE(gin_get(c, &o, "dtype_momentum", &v) && v.kind == GIN_OPAQUE);
    EXPECT_STR(v.u.s, "jnp.float32");
    EXPECT_TRUE(!gin_get(c, &o, "nothing", &v));
    /* A class that is called later, with arguments of the caller. */
    EXPECT_TRUE(gin_get(c, &o, "logical_factor_rules", &v) && v.kind == GIN_CALLABLE);
    EXPECT_STR(gin_scope_of(&v), "s");
    EXPECT_STATUS(gin_call_value(c, &v, "", NULL, 0, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "Trainer.__init__() missing 7 required positional arguments: 'model', "
                     "'train_state'");
    gin_arg args[] = {
        {"model", {.kind = GIN_NONE}},       {"train_state", {.kind = GIN_NONE}},
        {"partitioner", {.kind = GIN_NONE}}, {"eval_names", {.kind = GIN_NONE}},
        {"summary_dir", {.kind = GIN_NONE}}, {"train_state_axes", {.kind = GIN_NONE}},
        {"rng", {.kind = GIN_NONE}},         {"num_microbatches", {.kind = GIN_INT, .u.i = 2}}};
    gin_value trainer;
    EXPECT_OK(gin_call_value(c, &v, "", args, 8, &trainer, &err), &err);
    EXPECT_TRUE(gin_get(c, &trainer, "num_microbatches", &v) && v.u.i == 2); /* the caller wins */
    EXPECT_EQ_I64(gin_object_count(&trainer), 9);
    args[7].name = "wrong";
    EXPECT_TRUE(gin_get(c, &o, "logical_factor_rules", &v));
    EXPECT_STATUS(gin_call_value(c, &v, "", args, 8, &trainer, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "unexpected keyword argument 'wrong'");
    gin_config_free(c);
}

static void static_functions_require_bindings(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    gin_value v;
    EXPECT_STATUS(gin_call(c, "sum_fn", NULL, 0, &v, &err), SPT_E_CONFIG);
    EXPECT_STR(gin_last_error(c)->text,
               "Required bindings for `sum_fn` not provided in config: ['var1', 'var2']");
    parse(c, "A = @sum_fn()\nsum_fn.var1 = 1\nsum_fn.var2 = 2\n");
    EXPECT_OK(gin_call(c, "gin_utils.sum_fn", NULL, 0, &v, &err), &err);
    EXPECT_STATUS(gin_call(c, "nothing", NULL, 0, &v, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "Could not find nothing in the Gin registry.");
    gin_config_free(c);
}

/* --- what is missing ------------------------------------------------------------------------- */

static void everything_missing_is_named_at_once(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    buf all;
    buf_init(&all, 1 << 16);
    parse_file(c, "prompt_tuning/configs/prompts/from_class_labels.gin");
    parse_file(c, "prompt_tuning/configs/runs/prompt_finetune.gin");
    EXPECT_STATUS(gin_finalize(c, &err), SPT_E_CONFIG);
    static const char *const names[] = {"MODEL_DIR: required",
                                        "MIXTURE_OR_TASK_NAME: required",
                                        "TASK_FEATURE_LENGTHS: required",
                                        "TRAIN_STEPS: required",
                                        "INITIAL_CHECKPOINT_PATH: required",
                                        "CLASS_LABELS: required",
                                        "MODEL: used but never defined",
                                        "PROMPT_LENGTH: used but never defined",
                                        "VOCABULARY: used but never defined"};
    EXPECT_EQ_I64(gin_missing(c, &all), sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strstr(buf_str(&all), names[i]))
            fail_msg("%s is not in:\n%s", names[i], buf_str(&all));
    EXPECT_TRUE(strstr(buf_str(&all), "usually set on the command line: "
                                      "--gin.MODEL_DIR=\"'DIR'\"") != NULL);
    EXPECT_MSG(&err, "9 settings are missing: ");
    EXPECT_MSG(&err, "VOCABULARY");
    EXPECT_TRUE(strncmp(gin_last_error(c)->text,
                        "No bindings specified for 'PROMPT_LENGTH/gin.macro'", 50) == 0);
    buf_release(&all);
    gin_config_free(c);
}

/* --- hints and warnings -------------------------------------------------------------------------
 */

static char logged[1000];

static void keep_log(void *ctx, enum log_level level, const char *line)
{
    if (level == LOG_WARNING)
        snprintf(logged, sizeof logged, "%s", line);
}

static void expect_hint(const char *binding, const char *part)
{
    gin_config *c = new_config();
    spt_err err = {0};
    EXPECT_STATUS(gin_parse_bindings(c, &binding, 1, &err), SPT_E_CONFIG);
    const gin_error *e = gin_last_error(c);
    if (!e->hint || !strstr(e->hint, part))
        fail_msg("%s: the hint is %s", binding, e->hint ? e->hint : "(none)");
    EXPECT_MSG(&err, part);
    gin_config_free(c);
}

static void lost_quotes_are_explained(void **state)
{
    expect_hint("MODEL_DIR = /tmp/x",
                "the value arrived as /tmp/x; a string needs gin quotes inside "
                "shell quotes: --gin.MODEL_DIR=\"'/tmp/x'\"");
    expect_hint("MIXTURE_OR_TASK_NAME = my_task", "--gin.MIXTURE_OR_TASK_NAME=\"'my_task'\"");
    expect_hint("MODEL_DIR = ", "an empty string is written --gin.MODEL_DIR=\"''\"");
    expect_hint("import my.own.tasks", "plug-in");
}

static void a_cut_comment_is_told(void **state)
{
    gin_config *c = new_config();
    const gin_value *v;
    spt_err err = {0};
    log_set_sink(keep_log, NULL);
    logged[0] = 0;
    parse(c, "MODEL_DIR = '/runs/run #7'");
    EXPECT_STR(logged, "");
    EXPECT_OK(gin_query(c, "%MODEL_DIR", &v, &err), &err);
    EXPECT_STR(v->u.s, "/runs/run #7");
    parse(c, "TRAIN_STEPS = 8 # of 100");
    EXPECT_TRUE(strstr(logged, "# of 100") != NULL);
    logged[0] = 0;
    parse(c, "A = -%TRAIN_STEPS");
    EXPECT_TRUE(strstr(logged, "no effect") != NULL);
    log_set_sink(NULL, NULL);
    gin_config_free(c);
}

static void errors_print_with_their_line(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    buf out;
    buf_init(&out, 1 << 16);
    const char *two[] = {"A = 1", "B = [1, foo]"};
    EXPECT_STATUS(gin_parse_bindings(c, two, 2, &err), SPT_E_CONFIG);
    gin_error_print(c, &out);
    EXPECT_STR(buf_str(&out), "  bindings string, line 2\n    B = [1, foo]\n            ^\n"
                              "SyntaxError: malformed node or string on line 1: a bare word\n"
                              "    Failed to parse token 'foo'\n");
    EXPECT_MSG(&err, "gin bindings line 2: SyntaxError: malformed");
    buf_release(&out);
    gin_config_free(c);
}

static void unread(void *ctx, const gin_binding_info *b)
{
    if (!b->read && b->path)
        buf_addf(ctx, "%s%s%s.%s ", b->scope, *b->scope ? "/" : "", b->path, b->param);
}

/* A program can tell which bindings nothing looked at. */
static void bindings_know_whether_they_were_read(void **state)
{
    gin_config *c = new_config();
    spt_err err = {0};
    gin_value o, v;
    buf list;
    buf_init(&list, 1000);
    parse(c, "s/gin_utils.sum_fn.var1 = %A\ngin_utils.sum_fn.var2 = 2\nA = 1");
    EXPECT_OK(gin_call(c, "s/sum_fn", NULL, 0, &o, &err), &err);
    EXPECT_TRUE(gin_get(c, &o, "var1", &v) && v.u.i == 1);
    gin_each_binding(c, unread, &list);
    EXPECT_STR(buf_str(&list), "t5x.gin_utils.sum_fn.var2 ");
    buf_release(&list);
    gin_config_free(c);
}

static void markdown_of_a_text(void **state)
{
    static const char text[] = "import x\n\n# Macros:\n# ====\nA = 1\n\n# None.\n";
    buf out;
    buf_init(&out, 1000);
    gin_markdown(text, sizeof text - 1, &out);
    EXPECT_STR(buf_str(&out), "    import x\n    \n#### Macros:\n\n    A = 1\n    \n    # None.");
    buf_release(&out);
}

/* Every file of ours can be read, and every complete one finalises. */
static void every_definition_is_well_formed(void **state)
{
    EXPECT_TRUE(gin_registry_count(registry) > 100);
    for (size_t i = 3; i < gin_registry_count(registry); i++) {
        const gin_def *d = gin_registry_at(registry, i);
        EXPECT_TRUE(d->about && *d->about && strlen(d->about) < 120);
    }
    EXPECT_TRUE(gin_registry_macro(registry, "PROMPT_LENGTH") != NULL);
    EXPECT_TRUE(gin_registry_macro(registry, "NOTHING") == NULL);
}

/* 511 characters with the module. */
static void names_as_long_as_they_may_be(void **state)
{
    (void)state;
    static char name[512];
    const gin_def d = {"fx", name, GIN_FUNCTION, "a", true, NULL};
    for (size_t n = 508; n <= 509; n++) {
        gin_registry *r;
        spt_err err = {0};
        memset(name, 'n', n);
        EXPECT_OK(gin_registry_new(&r, &err), &err);
        EXPECT_STATUS(gin_registry_add(r, &d, 1, &err), n == 508 ? SPT_OK : SPT_E_CONFIG);
        if (n == 509)
            EXPECT_MSG(&err, "is too long");
        gin_registry_free(r);
    }
}

/* All others are there once a file imports them. */
static void few_names_need_no_import(void **state)
{
    (void)state;
    buf names;
    buf_init(&names, 4096);
    for (size_t i = 0; i < gin_registry_count(registry); i++) {
        const gin_def *d = gin_registry_at(registry, i);
        if (d->registered)
            buf_addf(&names, "%s.%s\n", d->module, d->name);
    }
    EXPECT_STR(buf_str(&names),
               "gin.config.macro\n"
               "gin.config.constant\n"
               "gin.config.singleton\n"
               "t5x.gin_utils.get_gin_config_str\n"
               "t5x.gin_utils.summarize_gin_config\n"
               "t5x.gin_utils.sum_fn\n"
               "t5x.gin_utils.bool_fn\n"
               "t5x.gin_utils.string_split_fn\n"
               "t5x.checkpoints.SaveBestCheckpointer\n"
               "t5x.checkpoints.OrbaxCheckpointManagerInterface\n"
               "t5x.checkpoints.CheckpointManagerConstructor\n"
               "t5x.checkpoints_utils.get_checkpoint_prefix\n");
    buf_release(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_names_need_no_import), cmocka_unit_test(names_as_long_as_they_may_be), cmocka_unit_test(queries_see_stored_values),
        cmocka_unit_test(options_become_bindings),
        cmocka_unit_test(errors_have_their_place),
        cmocka_unit_test(objects_have_arguments_and_defaults),
        cmocka_unit_test(static_functions_require_bindings),
        cmocka_unit_test(everything_missing_is_named_at_once),
        cmocka_unit_test(lost_quotes_are_explained),
        cmocka_unit_test(a_cut_comment_is_told),
        cmocka_unit_test(errors_print_with_their_line),
        cmocka_unit_test(bindings_know_whether_they_were_read),
        cmocka_unit_test(markdown_of_a_text),
        cmocka_unit_test(every_definition_is_well_formed),
    };
    return cmocka_run_group_tests(tests, open_registry, close_registry);
}
