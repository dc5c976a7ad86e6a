/* The table of a sweep's runs, with failing memory. */
#include "support/test.h"

#include <string.h>

#include "run/train/sweep_runs.h"

static spt_status make(void *path, spt_err *err)
{
    struct settings s;
    struct sweep_runs r = {0};
    spt_status st = settings_init(&s, "sweep", err);
    if (st)
        return st;
    st = settings_set(&s, "runs", path, err);
    if (!st)
        st = settings_set(&s, "out", "nowhere", err);
    if (!st)
        st = settings_set(&s, "seeds", "1,2", err);
    if (!st)
        st = sweep_runs_make(&s, &r, err);
    if (!st && r.count != 4)
        st = err_set(err, SPT_E_USAGE, "%zu runs", r.count);
    sweep_runs_release(&r);
    settings_release(&s);
    return st;
}

/* Out of memory is told as such, never as a malformed table. */
static void every_allocation(void **state)
{
    static const char table[] = "name\toptimizer\tlr\nx\tadamw\t0.1\ny\tadafactor\t1e30\n";
    char path[400];
    strcpy(path, test_path(test_tmpdir(), "runs.tsv"));
    test_write(path, table, sizeof table - 1);
    EXPECT_TRUE(fault_every_alloc(make, path) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
