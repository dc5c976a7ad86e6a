/* Reading, checking, evaluating and printing the largest demo configuration (sst2-demo-xxl), the
 * time a run pays before it starts. Target: under 50 ms. */
#include <stdio.h>

#include "gin/gin.h"
#include "os/os.h"

static double now_ms(void)
{
    return (double)os_monotonic_ns() / 1e6;
}

static size_t objects(gin_config *c, const gin_value *v, int depth)
{
    size_t n = 0;
    gin_value inner;
    if (v->kind == GIN_CALLABLE && depth < 16 &&
        gin_call_value(c, v, "", NULL, 0, &inner, NULL) == SPT_OK)
        return objects(c, &inner, depth + 1);
    for (size_t i = 0; i < gin_object_count(v); i++) {
        gin_object_arg(v, i, &inner);
        n += objects(c, &inner, depth + 1);
    }
    if (v->kind == GIN_LIST || v->kind == GIN_TUPLE)
        for (size_t i = 0; i < v->count; i++)
            n += objects(c, &v->u.items[i], depth + 1);
    return n + (v->kind == GIN_OBJECT);
}

static spt_status once(double *parse, double *evaluate, double *print, size_t *made, spt_err *err)
{
    static const char *const files[] = {"prompt_tuning/configs/models/t5_1_1_xxl_prompt.gin",
                                        "prompt_tuning/configs/prompts/from_class_labels.gin",
                                        "prompt_tuning/configs/runs/prompt_finetune.gin"};
    static const char bindings[] =
        "CLASS_LABELS = ['positive', 'negative']\nMODEL_DIR = '/m'\nMIXTURE_OR_TASK_NAME = 't'\n"
        "TASK_FEATURE_LENGTHS = {'inputs': 512, 'targets': 8}\nINITIAL_CHECKPOINT_PATH = '/c'\n"
        "TRAIN_STEPS = 1_150_000\nUSE_CACHED_TASKS = False\nBATCH_SIZE = 32\n"
        "partitioning.PjitPartitioner.model_parallel_submesh = (4, 4, 1, 2)\n";
    gin_registry *r = NULL;
    gin_config *c = NULL;
    gin_value root;
    buf text;
    buf_init(&text, 1 << 20);
    const double start = now_ms();
    spt_status st = gin_registry_upstream(&r, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st)
        st = gin_config_entry(c, "__main__.train", err);
    if (!st)
        st = gin_add_search_path(c, "configs", err);
    for (size_t i = 0; i < 3 && !st; i++)
        st = gin_parse_file(c, files[i], err);
    if (!st)
        st = gin_parse_string(c, bindings, sizeof bindings - 1, err);
    if (!st)
        st = gin_finalize(c, err);
    const double parsed = now_ms();
    if (!st)
        st = gin_call(c, "train", NULL, 0, &root, err);
    *made = st ? 0 : objects(c, &root, 0);
    const double evaluated = now_ms();
    if (!st)
        st = gin_config_text(c, false, &text, err);
    *print = now_ms() - evaluated;
    *evaluate = evaluated - parsed;
    *parse = parsed - start;
    buf_release(&text);
    gin_config_free(c);
    gin_registry_free(r);
    return st;
}

int main(void)
{
    double best[3] = {1e9, 1e9, 1e9};
    size_t made = 0;
    for (int i = 0; i < 20; i++) {
        double t[3];
        spt_err err = {0};
        if (once(&t[0], &t[1], &t[2], &made, &err)) {
            fprintf(stderr, "bench_gin: %s\n", err.msg);
            return 1;
        }
        for (int k = 0; k < 3; k++)
            best[k] = t[k] < best[k] ? t[k] : best[k];
    }
    printf("gin sst2-demo-xxl: read %.2f ms, evaluate %.2f ms (%zu objects), print %.2f ms, sum "
           "%.2f ms (target 50)\n",
           best[0], best[1], made, best[2], best[0] + best[1] + best[2]);
    return best[0] + best[1] + best[2] < 50 ? 0 : 1;
}
