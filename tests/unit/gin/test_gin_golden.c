/* Complete configuration texts: our configs/ under the upstream names give, byte for byte, what gin
 * itself printed for the upstream files (golden/gin_config). Without the golden data the bytes are
 * compared by length and CRC-32C from golden.list. SPT_UPSTREAM_CONFIGS=DIR runs the same list over
 * a copy of the upstream tree instead. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/crc.h"
#include "fs/fs.h"
#include "gin/gin.h"
#include "os/os.h"

enum { MAX_LINES = 32 };

struct combination {
    char name[128], program[64];
    char *gin_file[8], *binding[MAX_LINES];
    size_t gin_files, bindings;
    long bytes;
    unsigned long crc;
};

static const char *configs_dir(void)
{
    const char *dir = os_getenv("SPT_UPSTREAM_CONFIGS");
    return dir ? dir : "configs";
}

static void configure(const gin_registry *r, const struct combination *k, gin_config **out)
{
    spt_err err = {0};
    gin_config *c;
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    EXPECT_OK(gin_config_entry(c, k->program, &err), &err);
    EXPECT_OK(gin_add_search_path(c, configs_dir(), &err), &err);
    for (size_t i = 0; i < k->gin_files; i++)
        if (gin_parse_file(c, k->gin_file[i], &err))
            fail_msg("%s: %s", k->name, gin_last_error(c)->text);
    EXPECT_OK(gin_parse_bindings(c, (const char *const *)k->binding, k->bindings, &err), &err);
    EXPECT_OK(gin_finalize(c, &err), &err);
    *out = c;
}

static void print_difference(const char *name, const char *got, const char *want)
{
    size_t line = 1;
    while (*got && *got == *want) {
        line += *got == '\n';
        got++;
        want++;
    }
    print_message("%s: line %zu: got %.*s, wanted %.*s\n", name, line, (int)strcspn(got, "\n"), got,
                  (int)strcspn(want, "\n"), want);
}

static bool same_text(const struct combination *k, const char *got, size_t size)
{
    const char *golden = test_golden_dir();
    char *want;
    size_t want_size;
    spt_err err = {0};
    if (!golden)
        return (long)size == k->bytes && crc32c(got, size) == k->crc;
    char file[160];
    snprintf(file, sizeof file, "gin_config/%s.gin", k->name);
    EXPECT_OK(fs_read_all(test_path(golden, file), 1 << 20, &want, &want_size, &err), &err);
    const bool same = want_size == size && memcmp(got, want, size) == 0;
    if (!same)
        print_difference(k->name, got, want);
    mem_free(want);
    return same;
}

/* The printed text is a configuration itself and prints as itself. */
static void expect_round_trip(const gin_registry *r, const struct combination *k, const char *text,
                              size_t size)
{
    gin_config *c;
    spt_err err = {0};
    buf again;
    buf_init(&again, 1 << 20);
    EXPECT_OK(gin_config_new(r, &c, &err), &err);
    EXPECT_OK(gin_config_entry(c, k->program, &err), &err);
    EXPECT_OK(gin_parse_string(c, text, size, &err), &err);
    EXPECT_OK(gin_finalize(c, &err), &err);
    EXPECT_OK(gin_config_text(c, false, &again, &err), &err);
    EXPECT_STR(buf_str(&again), text);
    buf_release(&again);
    gin_config_free(c);
}

static bool check(const gin_registry *r, const struct combination *k)
{
    gin_config *c;
    spt_err err = {0};
    gin_value root;
    buf text;
    buf_init(&text, 1 << 20);
    configure(r, k, &c);
    EXPECT_OK(gin_config_text(c, false, &text, &err), &err);
    const bool same = same_text(k, buf_str(&text), text.len);
    expect_round_trip(r, k, buf_str(&text), text.len);
    EXPECT_OK(gin_call(c, k->program, NULL, 0, &root, &err), &err);
    buf_release(&text);
    gin_config_free(c);
    return same;
}

static void release(struct combination *k)
{
    for (size_t i = 0; i < k->gin_files; i++)
        mem_free(k->gin_file[i]);
    for (size_t i = 0; i < k->bindings; i++)
        mem_free(k->binding[i]);
    *k = (struct combination){0};
}

static void texts_equal_gin(void **state)
{
    static struct combination k;
    gin_registry *r;
    spt_err err = {0};
    char *list;
    size_t size, ran = 0, failed = 0;
    EXPECT_OK(gin_registry_upstream(&r, &err), &err);
    EXPECT_OK(fs_read_all("tests/unit/gin/golden.list", 1 << 20, &list, &size, &err), &err);
    for (char *line = list, *next; line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        char *arg = strchr(line, ' ');
        if (*line == '#' || !arg)
            continue;
        *arg++ = 0;
        if (strcmp(line, "text") == 0)
            snprintf(k.name, sizeof k.name, "%s", arg);
        else if (strcmp(line, "program") == 0)
            snprintf(k.program, sizeof k.program, "%s", arg);
        else if (strcmp(line, "gin_file") == 0)
            k.gin_file[k.gin_files++] = mem_strdup(arg);
        else if (strcmp(line, "binding") == 0)
            k.binding[k.bindings++] = mem_strdup(arg);
        else if (strcmp(line, "bytes") == 0)
            k.bytes = strtol(arg, NULL, 10);
        else if (strcmp(line, "crc") == 0) {
            k.crc = strtoul(arg, NULL, 16);
            ran++;
            failed += !check(r, &k);
            release(&k);
        }
    }
    print_message("golden: gin_config: %zu texts, %zu differ\n", ran, failed);
    EXPECT_EQ_I64(ran, 20);
    EXPECT_EQ_I64(failed, 0);
    mem_free(list);
    gin_registry_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_equal_gin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
