/* data/encoder over a real vocabulary: bytes (ByT5), whose ids can be written down. */
#include "support/test.h"

#include <string.h>

#include "data/examples.h"

static void bytes_become_ids(void **state)
{
    vocab *v = NULL;
    spt_err err;
    EXPECT_OK(vocab_open("bytes", NULL, &v, &err), &err);
    struct data_encoder enc;
    EXPECT_OK(data_encoder_of_vocab(v, &enc, &err), &err);
    const char *path = test_path(test_tmpdir(), "b.tsv");
    test_write(path, "a\xc3\xa9\tyes\n\tno\n", 12);
    const struct examples_options o = {.records.path = path, .find_labels = true, .max_input = 3};
    examples *e = NULL;
    EXPECT_OK(examples_load(&o, &enc, &e, &err), &err);
    struct example x = examples_at(e, 0);
    EXPECT_EQ_I64(x.input_len, 3); /* 100 198 | 172 cut, EOS stays */
    EXPECT_EQ_I64(x.input[0], 'a' + 3);
    EXPECT_EQ_I64(x.input[1], 0xc3 + 3);
    EXPECT_EQ_I64(x.input[2], 1);
    x = examples_at(e, 1); /* an empty text is just EOS */
    EXPECT_EQ_I64(x.input_len, 1);
    EXPECT_EQ_I64(x.input[0], 1);
    EXPECT_EQ_I64(x.target_len, 3);
    EXPECT_EQ_I64(examples_counts(e).unwritable_targets, 0);
    struct label_report r;
    EXPECT_OK(label_set_check(examples_labels(e), &enc, 0, &r, &err), &err);
    EXPECT_EQ_I64(r.count, 0);
    label_report_release(&r);
    examples_free(e);
    data_encoder_release(&enc);
    vocab_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes_become_ids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
