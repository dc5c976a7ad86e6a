#include "support/golden_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/test.h"
#include "text/json.h"

/* --- golden.json --------------------------------------------------------------------------- */

/* Walks to `path`; the event of the value found, or kind JSON_END. */
static struct json_event find(json_reader *r, const char *path)
{
    spt_err err;
    struct json_event ev;
    if (json_next(r, &ev, &err))
        fail_msg("golden.json: %s", err.msg);
    while (*path) {
        const size_t len = strcspn(path, "/");
        char key[256];
        snprintf(key, sizeof key, "%.*s", (int)len, path);
        for (char *p = key; *p; p++)
            *p = *p == '\\' ? '/' : *p;
        bool more = true, found = false;
        struct json_event k;
        if (ev.kind == JSON_OBJECT) {
            while (!found && !json_next_key(r, &more, &k, &err) && more) {
                found = json_is(&k, key);
                if (found ? json_next(r, &ev, &err) : json_skip(r, &err))
                    fail_msg("golden.json: %s", err.msg);
            }
        } else if (ev.kind == JSON_ARRAY) {
            for (long i = strtol(key, NULL, 10); !json_next_item(r, &more, &k, &err) && more; i--) {
                ev = k;
                found = i == 0;
                if (found)
                    break;
                if ((k.kind == JSON_OBJECT || k.kind == JSON_ARRAY) && json_skip_rest(r, &k, &err))
                    fail_msg("golden.json: %s", err.msg);
            }
        }
        if (!found)
            return (struct json_event){.kind = JSON_END};
        path += len + (path[len] == '/');
    }
    return ev;
}

const char *golden_value(const char *folder, const char *file, const char *path)
{
    static char ring[16][256];
    static int next;
    size_t len;
    const char *text = golden_text(folder, file, &len);
    json_reader r;
    json_open(&r, text, len, JSON_PYTHON_NAN);
    const struct json_event ev = find(&r, path);
    char *out = NULL;
    if (ev.kind != JSON_END) {
        out = ring[next++ % 16];
        snprintf(out, sizeof ring[0], "%.*s", (int)ev.len, ev.text);
    }
    json_close(&r);
    return out;
}

const char *golden_key(const char *folder, const char *file, const char *path, int i)
{
    static char ring[16][256];
    static int next;
    size_t len;
    spt_err err;
    const char *text = golden_text(folder, file, &len);
    json_reader r;
    json_open(&r, text, len, JSON_PYTHON_NAN);
    char *out = NULL;
    bool more = true;
    struct json_event key;
    if (find(&r, path).kind == JSON_OBJECT)
        while (!json_next_key(&r, &more, &key, &err) && more) {
            if (i-- == 0) {
                out = ring[next++ % 16];
                snprintf(out, sizeof ring[0], "%.*s", (int)key.len, key.text);
                break;
            }
            if (json_skip(&r, &err))
                break;
        }
    json_close(&r);
    return out;
}

bool golden_has(const char *folder, const char *file, const char *path)
{
    return golden_value(folder, file, path) != NULL;
}

double golden_number(const char *folder, const char *file, const char *path)
{
    const char *text = golden_value(folder, file, path);
    if (!text)
        fail_msg("%s/%s: no %s", folder, file, path);
    if (!strcmp(text, "null"))
        return NAN;
    return strtod(text, NULL);
}

/* --- backends ------------------------------------------------------------------------------ */

void golden_every_isa(golden_run run, void *ctx)
{
    static const char *const all[] = {"ref", "ref64", "avx2", "avx512"};
    const char *only = getenv("SPT_TEST_ISA");
    int ran = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char text[64];
        snprintf(text, sizeof text, ",%s,", all[i]);
        char list[128];
        snprintf(list, sizeof list, ",%s,", only ? only : "");
        if (only && !strstr(list, text))
            continue;
        ops *o;
        spt_err err;
        const struct ops_config cfg = {.isa = all[i], .threads = 2};
        if (ops_open(&cfg, &o, &err))
            continue;
        run(o, all[i], ctx);
        ran++;
        ops_close(o);
    }
    EXPECT_TRUE(ran > 0);
}

/* --- models -------------------------------------------------------------------------------- */

static int64_t setting(const char *folder, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "settings/model/%s", name);
    return (int64_t)golden_number(folder, "golden.json", path);
}

struct t5_config golden_config(const char *folder)
{
    struct t5_config c = {.vocab = setting(folder, "vocab"),
                          .width = setting(folder, "emb"),
                          .heads = setting(folder, "heads"),
                          .head_dim = setting(folder, "head_dim"),
                          .ff = setting(folder, "mlp"),
                          .enc_layers = setting(folder, "enc"),
                          .dec_layers = setting(folder, "dec"),
                          .buckets = setting(folder, "num_buckets"),
                          .max_distance = setting(folder, "max_distance"),
                          .act = OPS_GELU_TANH,
                          .gated = true,
                          .norm_eps = 1e-6f,
                          .eos_id = 1};
    if (golden_has(folder, "golden.json", "settings/layer_norm_epsilon"))
        c.norm_eps = (float)golden_number(folder, "golden.json", "settings/layer_norm_epsilon");
    return c;
}

struct source {
    const char *folder, *file;
    bool hf;
};

/* T5X name -> Hugging Face name; *transposed for matrices. */
static void hf_name(const char *t5x, char *out, size_t cap, bool *transposed)
{
    static const char *const attention[][2] = {
        {"query/kernel", "q"}, {"key/kernel", "k"}, {"value/kernel", "v"}, {"out/kernel", "o"}};
    static const struct {
        const char *t5x, *hf;
        bool decoder, matrix;
    } rest[] = {
        {"pre_attention_layer_norm/scale", "0.layer_norm.weight", false, false},
        {"pre_self_attention_layer_norm/scale", "0.layer_norm.weight", true, false},
        {"pre_cross_attention_layer_norm/scale", "1.layer_norm.weight", true, false},
        {"mlp/wi/kernel", "DenseReluDense.wi.weight", false, true},
        {"mlp/wi_0/kernel", "DenseReluDense.wi_0.weight", false, true},
        {"mlp/wi_1/kernel", "DenseReluDense.wi_1.weight", false, true},
        {"mlp/wo/kernel", "DenseReluDense.wo.weight", false, true},
        {"pre_mlp_layer_norm/scale", "layer_norm.weight", false, false},
    };
    const bool decoder = !strncmp(t5x, "decoder", 7);
    const char *stack = decoder ? "decoder" : "encoder", *p = strstr(t5x, "/layers_");
    *transposed = true;
    if (!strcmp(t5x, "token_embedder/embedding")) {
        *transposed = false;
        snprintf(out, cap, "shared.weight");
    } else if (!strcmp(t5x, "decoder/logits_dense/kernel")) {
        snprintf(out, cap, "lm_head.weight");
    } else if (strstr(t5x, "relpos_bias")) {
        snprintf(out, cap, "%s.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                 stack);
    } else if (!p) {
        *transposed = false;
        snprintf(out, cap, "%s.final_layer_norm.weight", stack);
    } else {
        char *name;
        const long layer = strtol(p + 8, &name, 10);
        const char *slash = strchr(++name, '/');
        for (size_t i = 0; i < 4; i++)
            if (!strcmp(slash + 1, attention[i][0])) {
                const bool cross = !strncmp(name, "encoder_decoder", 15);
                snprintf(out, cap, "%s.block.%ld.layer.%d.%s.%s.weight", stack, layer, cross,
                         cross ? "EncDecAttention" : "SelfAttention", attention[i][1]);
                return;
            }
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++)
            if (!strcmp(name, rest[i].t5x)) {
                *transposed = rest[i].matrix;
                if (rest[i].hf[0] == '0' || rest[i].hf[0] == '1')
                    snprintf(out, cap, "%s.block.%ld.layer.%s", stack, layer, rest[i].hf);
                else
                    snprintf(out, cap, "%s.block.%ld.layer.%d.%s", stack, layer, decoder ? 2 : 1,
                             rest[i].hf);
                return;
            }
        fail_msg("no Hugging Face name for %s", t5x);
    }
}

static spt_status get_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    (void)err;
    const struct source *s = ctx;
    char hf[160];
    bool transposed = false;
    if (s->hf)
        hf_name(name, hf, sizeof hf, &transposed);
    const struct golden_array a = golden_tensor(s->folder, s->file, s->hf ? hf : name);
    struct tensor_shape shape = {.rank = a.rank};
    memcpy(shape.dim, a.dim, sizeof shape.dim);
    *out = (struct t5_param){.m = {.view = {DT_F32, shape, a.f32}, .transposed = transposed}};
    return SPT_OK;
}

static t5_model *open_model(ops *o, const struct t5_config *c, struct source *s, unsigned uses,
                            comm *ranks)
{
    spt_err err;
    t5_model *m = NULL;
    const struct t5_getter get = {.ctx = s, .config = c, .param = get_param};
    EXPECT_OK(t5_model_new_part_from(o, &get, uses, ranks, &m, &err), &err);
    return m;
}

t5_model *golden_model_t5x(ops *o, const struct t5_config *c, const char *folder, const char *file,
                           unsigned uses)
{
    struct source s = {folder, file, false};
    return open_model(o, c, &s, uses, NULL);
}

t5_model *golden_model_part(ops *o, const struct t5_config *c, const char *folder, const char *file,
                            unsigned uses, comm *ranks)
{
    struct source s = {folder, file, false};
    return open_model(o, c, &s, uses, ranks);
}

t5_model *golden_model_hf(ops *o, const char *dir, bool v1_0, unsigned uses)
{
    char folder[64];
    snprintf(folder, sizeof folder, "hf/%s", dir);
#define N(name) (int64_t) golden_number(folder, "config.json", name)
    const struct t5_config c = {
        .vocab = N("vocab_size"),
        .width = N("d_model"),
        .heads = N("num_heads"),
        .head_dim = N("d_kv"),
        .ff = N("d_ff"),
        .enc_layers = N("num_layers"),
        .dec_layers = N("num_decoder_layers"),
        .buckets = N("relative_attention_num_buckets"),
        .max_distance = N("relative_attention_max_distance"),
        .act = v1_0 ? OPS_RELU : OPS_GELU_TANH,
        .gated = !v1_0,
        .head_is_embedding = v1_0,
        .scale_logits = v1_0,
        .norm_eps = (float)golden_number(folder, "config.json", "layer_norm_epsilon"),
        .eos_id = 1};
#undef N
    struct source s = {folder, "model", true};
    return open_model(o, &c, &s, uses, NULL);
}

void golden_batch(struct test_batch *t, const char *folder, const char *prefix)
{
    char name[128];
    static const char *const parts[] = {"encoder_input_tokens", "decoder_input_tokens",
                                        "decoder_target_tokens", "decoder_loss_weights"};
    struct golden_array a[4];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s.npy", prefix, parts[i]);
        a[i] = golden_npy(folder, name);
        EXPECT_TRUE(a[i].i32 && a[i].rank == 2);
    }
    batch_pack(t, a[0].dim[0], a[0].dim[1], a[0].i32, a[1].dim[1], a[1].i32, a[2].i32, a[3].i32);
}

double golden_rel(const float *got, const float *want, size_t n)
{
    double scale = 0;
    for (size_t i = 0; i < n; i++)
        scale = fabs((double)want[i]) > scale ? fabs((double)want[i]) : scale;
    return golden_max_diff(got, want, n) / (scale > 0 ? scale : 1);
}
