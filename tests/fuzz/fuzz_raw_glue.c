/* Raw archives: the first byte picks a configuration, the rest are lines. Records that come out can
 * be formatted without surprise. */
#include "fuzz/fuzz.h"

#include "task/raw_glue.h"

static const char *const sets[][3] = {
    {"glue", "cola", "glue_cola_v002"},
    {"glue", "qqp", "glue_qqp_v002"},
    {"glue", "stsb", "glue_stsb_v002"},
    {"glue", "mnli", "glue_mnli_v002"},
    {"super_glue", "boolq", "super_glue_boolq_v102"},
    {"super_glue", "multirc", "super_glue_multirc_v102"},
    {"super_glue", "record", "super_glue_record_v102"},
    {"super_glue", "wsc.fixed", "super_glue_wsc_v102_simple_eval"},
};

static spt_status drop(void *ctx, record *r, spt_err *err)
{
    struct field_text t;
    if (record_text(r, "inputs", &t, err))
        abort();
    return SPT_OK;
}

static spt_status format(void *ctx, record *r, spt_err *err)
{
    (void)task_format(ctx, r, 0, drop, NULL, NULL);
    return SPT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static task_registry *registry; /* does not change */
    if (!size)
        return 0;
    fuzz_begin();
    if (!registry) {
        FUZZ_CHECK(task_registry_new(&registry, NULL) == SPT_OK);
        fuzz_keep();
    }
    const char *const *set = sets[*data % (sizeof sets / sizeof *sets)];
    const struct task *t = task_find(registry, set[2]);
    glue_tsv *g = NULL;
    record r = {0};
    if (!t || (*set[0] == 'g' && glue_tsv_new(set[1], "train", &g, NULL)))
        abort();
    const char *line = (const char *)data + 1, *end = (const char *)data + size;
    while (line < end) {
        const char *nl = memchr(line, '\n', (size_t)(end - line));
        const size_t len = (size_t)((nl ? nl : end) - line);
        bool have = false;
        if (g && glue_tsv_line(g, line, len, &r, &have, NULL) == SPT_OK && have)
            format((void *)t, &r, NULL);
        if (!g)
            (void)super_glue_line(set[1], line, len, format, (void *)t, NULL);
        line += len + 1;
    }
    glue_tsv_free(g);
    record_release(&r);
    fuzz_end(size, 64 * size + (1 << 20)); /* trees of JSON nodes, in chunks; records; texts of features */
    return 0;
}
