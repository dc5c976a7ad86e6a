/* Bar G3: layouts of the installed structs on 64-bit systems. A change here is a new major version. */
#include "support/test.h"

#include <spt/spt.h>

static void layouts_are_pinned(void **state)
{
    (void)state;
    EXPECT_EQ_I64(sizeof(spt_err), 528);
    EXPECT_EQ_I64(offsetof(spt_err, msg), 16);
    EXPECT_EQ_I64(sizeof(spt_alloc), 24);
    EXPECT_EQ_I64(sizeof(spt_session_opts), 24);
    EXPECT_EQ_I64(sizeof(spt_option), 32);
    EXPECT_EQ_I64(sizeof(spt_command), 32);
    EXPECT_EQ_I64(sizeof(spt_sink), 32);
    EXPECT_EQ_I64(offsetof(spt_sink, terminal), 24);
    EXPECT_EQ_I64(SPT_E_INTERNAL, 11); /* statuses are only ever added behind the last */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(layouts_are_pinned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
