/* The reference's three demo scripts: every object of their configurations, with the class and all
 * values, defaults included (demo_objects.list). The configurations themselves are those of
 * golden.list. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "gin/gin.h"

/* The lines of a list file, keyword and argument. */
static bool next_line(char **at, char **key, char **arg)
{
    while (**at) {
        char *line = *at, *nl = strchr(line, '\n');
        *at = nl ? nl + 1 : line + strlen(line);
        if (nl)
            *nl = 0;
        char *space = strchr(line, ' ');
        if (*line == '#' || !space)
            continue;
        *space = 0;
        *key = line;
        *arg = space + 1;
        return true;
    }
    return false;
}

static char *read_list(const char *name)
{
    char *text, path[64];
    size_t size;
    spt_err err;
    snprintf(path, sizeof path, "tests/unit/gin/%s", name);
    EXPECT_OK(fs_read_all(path, 1 << 20, &text, &size, &err), &err);
    return text;
}

/* Configures a combination of golden.list and calls its entry function. */
static gin_config *configure(const gin_registry *r, const char *name, gin_value *root)
{
    char *text = read_list("golden.list"), *at = text, *key, *arg, program[64] = "";
    bool mine = false;
    gin_config *c;
    spt_err err = {0};
    buf bindings;
    buf_init(&bindings, 1 << 16);
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    EXPECT_OK(gin_add_search_path(c, "configs", &err), &err);
    while (next_line(&at, &key, &arg)) {
        if (strcmp(key, "text") == 0)
            mine = strcmp(arg, name) == 0;
        if (!mine)
            continue;
        if (strcmp(key, "program") == 0) {
            snprintf(program, sizeof program, "%s", arg);
            EXPECT_OK(gin_config_entry(c, arg, &err), &err);
        } else if (strcmp(key, "gin_file") == 0) {
            EXPECT_OK(gin_parse_file(c, arg, &err), &err);
        } else if (strcmp(key, "binding") == 0) {
            buf_addf(&bindings, "%s\n", arg);
        }
    }
    EXPECT_OK(gin_parse_string(c, buf_str(&bindings), bindings.len, &err), &err);
    EXPECT_OK(gin_finalize(c, &err), &err);
    EXPECT_OK(gin_call(c, program, NULL, 0, root, &err), &err);
    buf_release(&bindings);
    mem_free(text);
    return c;
}

/* "root.model.module.encoder_factory().layer_factory()", "x[0][1]" */
static bool walk(gin_config *c, const gin_value *root, const char *path, gin_value *out)
{
    spt_err err;
    *out = *root;
    for (const char *s = strchr(path, '.'); s && *s; s += strcspn(s, ".[")) {
        char name[128];
        if (*s == '[') {
            const unsigned long i = strtoul(s + 1, NULL, 10);
            if (i >= out->count || (out->kind != GIN_TUPLE && out->kind != GIN_LIST))
                return false;
            *out = out->u.items[i];
            s++;
            continue;
        }
        s++;
        const size_t len = strcspn(s, ".[(");
        snprintf(name, sizeof name, "%.*s", (int)len, s);
        if (!gin_get(c, out, name, out))
            return false;
        s += len;
        if (*s == '(') {
            EXPECT_OK(gin_call_value(c, out, "", NULL, 0, out, &err), &err);
            s += 2;
        }
    }
    return true;
}

static size_t check_value(gin_config *c, const gin_value *object, const char *where, char *text)
{
    char *value = strchr(text, ' ');
    *value++ = 0;
    char path[256];
    gin_value v;
    buf got;
    buf_init(&got, 1 << 16);
    snprintf(path, sizeof path, "x.%s", text);
    if (walk(c, object, path, &v))
        gin_repr(&got, &v);
    else
        buf_adds(&got, "(nothing)");
    const bool same = strcmp(buf_str(&got), value) == 0;
    if (!same)
        print_message("%s.%s is %s, wanted %s\n", where, text, buf_str(&got), value);
    buf_release(&got);
    return !same;
}

static void demos_evaluate_to_the_recorded_objects(void **state)
{
    gin_registry *r;
    gin_config *c = NULL;
    gin_value root, object = {0};
    spt_err err;
    char *text = read_list("demo_objects.list"), *at = text, *key, *arg, *where = NULL;
    size_t objects = 0, values = 0, wrong = 0;
    EXPECT_OK(gin_registry_upstream(&r, &err), &err);
    while (next_line(&at, &key, &arg)) {
        if (strcmp(key, "demo") == 0) {
            gin_config_free(c);
            c = configure(r, arg, &root);
        } else if (strcmp(key, "object") == 0) {
            where = arg;
            objects++;
            if (!walk(c, &root, where, &object) || object.kind != GIN_OBJECT) {
                print_message("%s: no such object\n", where);
                wrong++;
            }
        } else if (strcmp(key, "class") == 0) {
            const gin_def *d = gin_def_of(&object);
            const char *name = d ? strrchr(d->name, '.') ? strrchr(d->name, '.') + 1 : d->name : "";
            if (strcmp(name, arg) != 0) {
                print_message("%s is a %s, wanted %s\n", where, name, arg);
                wrong++;
            }
        } else {
            values++;
            wrong += check_value(c, &object, where, arg);
        }
    }
    print_message("golden: demos: %zu objects, %zu values, %zu differ\n", objects, values, wrong);
    EXPECT_TRUE(objects == 191 && values == 1324);
    EXPECT_EQ_I64(wrong, 0);
    gin_config_free(c);
    gin_registry_free(r);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demos_evaluate_to_the_recorded_objects),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
