/* Replays the fuzz targets over their corpus, the recorded cases, our configs and random changes of
 * all of them (fixed seed), so that a plain `make test` covers them without libFuzzer. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "gin/gin.h"

int fuzz_parse(const uint8_t *data, size_t size);
int fuzz_eval(const uint8_t *data, size_t size);
#define LLVMFuzzerTestOneInput fuzz_lex
#include "fuzz/fuzz_gin_lex.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_parse
#define print fuzz_parse_print
#include "fuzz/fuzz_gin_parse.c"
#undef print
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_eval
#define check fuzz_eval_check
#define evaluate fuzz_eval_evaluate
#define call fuzz_eval_call
#include "fuzz/fuzz_gin_eval.c"

static const char *const folders[] = {
    "tests/fuzz/corpus/gin", "tests/unit/gin", "configs/prompt_tuning/configs/models",
    "configs/prompt_tuning/configs/prompts", "configs/t5x/configs/runs"};

static uint64_t seed = 88172645463325252u;

static size_t below(size_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return n ? (size_t)(seed % n) : 0;
}

static void one(const char *text, size_t size)
{
    /* An exact copy, so that a sanitizer sees the end. */
    uint8_t *exact = mem_alloc(size, 1);
    if (size)
        memcpy(exact, text, size);
    fuzz_lex(exact, size);
    fuzz_parse(exact, size);
    fuzz_eval(exact, size);
    mem_free(exact);
}

/* Bytes removed, replaced or repeated from elsewhere in the text. */
static void mutate(const char *text, size_t size)
{
    static const char *const words[] = {
        "@",  "%", "(",  ")",    "{",           "\n",      "  ",   "'",  "\"\"\"",
        "\\", "=", ":",  "/",    ".",           "import ", "@f()", "%A", "%gin.REQUIRED",
        "\t", "-", "1e", "\x80", "include 'x'", "#"};
    buf b;
    buf_init(&b, 1 << 20);
    const size_t at = below(size + 1), cut = below(8), from = below(size + 1);
    buf_add(&b, text, at);
    switch (below(3)) {
    case 0:
        buf_adds(&b, words[below(sizeof words / sizeof *words)]);
        break;
    case 1:
        buf_add(&b, text + from, below(size - from + 1));
        break;
    default:
        break;
    }
    buf_add(&b, text + (at + cut < size ? at + cut : size),
            size - (at + cut < size ? at + cut : size));
    one(buf_str(&b), b.len);
    buf_release(&b);
}

static void replay(void **state)
{
    size_t inputs = 0;
    fuzz_begin(); /* one allocator for the targets and for what is around them */
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        fs_names names = {0};
        spt_err err;
        EXPECT_OK(fs_list(folders[i], &names, &err), &err);
        for (size_t k = 0; k < names.count; k++) {
            char path[512], *text;
            size_t size;
            snprintf(path, sizeof path, "%s/%s", folders[i], names.name[k]);
            if (fs_is_dir(path) || path_has_suffix(path, ".c"))
                continue;
            EXPECT_OK(fs_read_all(path, 1 << 20, &text, &size, &err), &err);
            one(text, size);
            const size_t take = size < 2000 ? size : 2000;
            for (int n = 0; n < 60; n++) {
                const size_t start = below(size - take + 1);
                mutate(text + start, take);
            }
            inputs += 61;
            mem_free(text);
        }
        fs_names_free(&names);
    }
    print_message("%zu inputs\n", inputs);
    EXPECT_TRUE(inputs > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(replay)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
