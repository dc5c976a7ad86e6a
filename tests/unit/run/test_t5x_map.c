/* RestoreCheckpointConfig.assignment_map: which name a leaf is restored from. */
#include "support/test.h"

#include <string.h>

#include "run/reference/t5x_map.h"

static const char *from[] = {"(.*)/prompt/prompt", "decoder/.*", "unused"};
static const char *to[] = {"\\1/prompt", NULL, "x"};

static spt_status find(struct t5x_map *m, const char *name, enum t5x_origin want, const char *text,
                       spt_err *err)
{
    enum t5x_origin o;
    buf other;
    buf_init(&other, 100);
    spt_status st = t5x_map_find(m, name, &o, &other, err);
    if (!st && (o != want || strcmp(buf_str(&other), text) != 0))
        st = err_set(err, SPT_E_USAGE, "%s became %d \"%s\"", name, o, buf_str(&other));
    buf_release(&other);
    return st;
}

static spt_status map(void *ctx, spt_err *err)
{
    const struct gin_restore r = {.has_map = true, .maps = 2, .from = from, .to = to};
    struct t5x_map m;
    (void)ctx;
    spt_status st = t5x_map_open(&m, &r, err);
    if (!st)
        st = find(&m, "encoder/prompt/prompt", ORIGIN_OTHER, "encoder/prompt", err);
    if (!st)
        st = find(&m, "decoder/x", ORIGIN_SKIP, "", err);
    if (!st)
        st = find(&m, "encoder/x", ORIGIN_SAME, "", err);
    if (!st)
        st = t5x_map_done(&m, err);
    t5x_map_close(&m);
    return st;
}

static void names(void **state)
{
    const struct gin_restore r = {.has_map = true, .maps = 3, .from = from, .to = to};
    struct t5x_map m;
    spt_err err = {0};
    EXPECT_OK(map(NULL, &err), &err);
    EXPECT_OK(t5x_map_open(&m, &r, &err), &err);
    EXPECT_STATUS(t5x_map_done(&m, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "matches no parameter");
    t5x_map_close(&m);
}

/* A name that could not be allocated is out of memory, not an empty name that no checkpoint has. */
static void every_allocation(void **state)
{
    EXPECT_TRUE(fault_every_alloc(map, NULL) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
