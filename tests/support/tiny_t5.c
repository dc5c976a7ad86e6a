#include "support/tiny_t5.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/names.h"
#include "store/safetensors.h"
#include "support/test.h"

const struct t5_config tiny_t5_default = {
    .vocab = 96,
    .width = 8,
    .heads = 2,
    .head_dim = 4,
    .ff = 12,
    .enc_layers = 2,
    .dec_layers = 2,
    .buckets = 32,
    .max_distance = 128,
    .act = OPS_GELU_TANH,
    .gated = true,
    .norm_eps = 1e-6f,
    .eos_id = 1,
};

const char tiny_t5_config[] =
    "{\"model_type\": \"t5\", \"vocab_size\": 96, \"d_model\": 8, \"d_kv\": 4, \"d_ff\": 12, "
    "\"num_heads\": 2, \"num_layers\": 2, \"num_decoder_layers\": 2, "
    "\"relative_attention_num_buckets\": 32, \"relative_attention_max_distance\": 128, "
    "\"feed_forward_proj\": \"gated-gelu\", \"tie_word_embeddings\": false, "
    "\"layer_norm_epsilon\": 1e-6, \"is_encoder_decoder\": true}";

static size_t elements_of(const struct tensor_shape *s)
{
    size_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= (size_t)s->dim[i];
    return n;
}

static void fill_random(float *p, size_t n, const char *name, unsigned seed)
{
    uint64_t x = 88172645463325252u + seed;
    for (; *name; name++)
        x = x * 31 + (unsigned char)*name;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        p[i] = (float)((double)(x >> 40) / (1 << 24) - 0.5);
    }
}

float *tiny_t5_add(struct tiny_t5 *m, const char *name, struct tensor_shape shape, float fill)
{
    const size_t n = elements_of(&shape);
    float *p = malloc((n ? n : 1) * sizeof *p);
    char *copy = malloc(strlen(name) + 1);
    if (!p || !copy || m->count == TINY_MAX)
        fail_msg("tiny_t5: out of room");
    memcpy(copy, name, strlen(name) + 1);
    if (isnan(fill))
        fill_random(p, n, name, 0);
    for (size_t i = 0; i < n && !isnan(fill); i++)
        p[i] = fill;
    m->t[m->count++] = (struct store_tensor){copy, {DT_F32, shape, p}};
    return p;
}

void tiny_t5_make(struct tiny_t5 *m, const struct t5_config *c, unsigned seed)
{
    struct t5_name *names = NULL;
    size_t n;
    spt_err err = {0};
    memset(m, 0, sizeof *m);
    m->c = *c;
    EXPECT_OK(t5_names_list(c, &names, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        struct tensor_shape s = names[i].shape;
        if (names[i].transposed) {
            s.dim[0] = names[i].shape.dim[1];
            s.dim[1] = names[i].shape.dim[0];
        }
        fill_random(tiny_t5_add(m, names[i].hf, s, 0), elements_of(&s), names[i].hf, seed);
    }
    mem_free(names);
}

static size_t index_of(const struct tiny_t5 *m, const char *name)
{
    size_t i = 0;
    while (i < m->count && strcmp(m->t[i].name, name) != 0)
        i++;
    if (i == m->count)
        fail_msg("tiny_t5: no tensor %s", name);
    return i;
}

static void free_tensor(const struct store_tensor *t)
{
    free((void *)t->name);
    free((void *)t->view.data);
}

void tiny_t5_drop(struct tiny_t5 *m, const char *name)
{
    const size_t i = index_of(m, name);
    free_tensor(&m->t[i]);
    memmove(&m->t[i], &m->t[i + 1], (--m->count - i) * sizeof m->t[0]);
}

void tiny_t5_copy(struct tiny_t5 *m, const char *from, const char *to)
{
    const struct tensor_view v = m->t[index_of(m, from)].view;
    memcpy(tiny_t5_add(m, to, v.shape, 0), v.data, elements_of(&v.shape) * sizeof(float));
}

float *tiny_t5_values(struct tiny_t5 *m, const char *name)
{
    return (float *)m->t[index_of(m, name)].view.data;
}

void tiny_t5_free(struct tiny_t5 *m)
{
    for (size_t i = 0; i < m->count; i++)
        free_tensor(&m->t[i]);
    m->count = 0;
}

void tiny_t5_write_part(const struct tiny_t5 *m, const char *dir, const char *file, size_t first,
                        size_t n)
{
    const struct store_meta meta = {"format", "pt"};
    spt_err err = {0};
    EXPECT_OK(safetensors_write(test_path(dir, file), m->t + first, n, &meta, 1, &err), &err);
}

void tiny_t5_write(const struct tiny_t5 *m, const char *dir, const char *config)
{
    if (config)
        test_write(test_path(dir, "config.json"), config, strlen(config));
    tiny_t5_write_part(m, dir, "model.safetensors", 0, m->count);
}

void tiny_t5_write_sharded(const struct tiny_t5 *m, const char *dir, size_t first)
{
    buf index;
    buf_init(&index, 1 << 20);
    buf_adds(&index, "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {");
    for (size_t i = 0; i < m->count; i++)
        buf_addf(&index, "%s\"%s\": \"model-0000%d-of-00002.safetensors\"", i ? ", " : "",
                 m->t[i].name, i < first ? 1 : 2);
    buf_adds(&index, "}}");
    test_write(test_path(dir, "model.safetensors.index.json"), buf_str(&index), index.len);
    buf_release(&index);
    tiny_t5_write_part(m, dir, "model-00001-of-00002.safetensors", 0, first);
    tiny_t5_write_part(m, dir, "model-00002-of-00002.safetensors", first, m->count - first);
}
