/* Writes a Hugging Face directory of T5 1.1 shape with random weights, for benchmarks:
 *
 *     make-model --size tiny|small|base|large [--dtype float32|bfloat16] [--seed N]
 *                [--layers N] [--vocab FILE] DIR
 *
 * config.json and model.safetensors; --layers takes fewer layers than the size has; --vocab copies
 * FILE to DIR/spiece.model. The numbers follow T5's initialiser (so activations have the size they
 * have in the real model) and depend on shape and seed only. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct shape {
    const char *name;
    int width, heads, head_dim, ff, layers, vocab;
};

static const struct shape shapes[] = {
    {"tiny", 64, 4, 16, 128, 2, 32128},
    {"small", 512, 6, 64, 1024, 8, 32128},
    {"base", 768, 12, 64, 2048, 12, 32128},
    {"large", 1024, 16, 64, 2816, 24, 32128},
};

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "make-model: %s %s: %s\n", what, name, strerror(errno));
    exit(5);
}

/* --- the list of tensors -----------------------------------------------------------------------
 */

struct tensor {
    char name[96];
    int64_t rows, cols; /* rows 0: a vector of ones */
    double deviation;
};

enum { MAX_TENSORS = 2048 };
static struct tensor tensors[MAX_TENSORS];
static int ntensors;

static void add(const char *prefix, const char *name, int64_t rows, int64_t cols, double variance)
{
    struct tensor *t = &tensors[ntensors++];
    snprintf(t->name, sizeof t->name, "%s%s.weight", prefix, name);
    t->rows = rows;
    t->cols = cols;
    double d = variance > 1 ? variance : 1; /* square root by Newton: no libm needed */
    for (int i = 0; i < 60; i++)
        d = (d + variance / d) / 2;
    t->deviation = d;
}

static void attention(const struct shape *s, const char *prefix, const char *kind)
{
    char p[80];
    const int64_t J = (int64_t)s->heads * s->head_dim, E = s->width;
    snprintf(p, sizeof p, "%s%s.", prefix, kind);
    add(p, "q", J, E, 1.0 / ((double)E * s->head_dim));
    add(p, "k", J, E, 1.0 / (double)E);
    add(p, "v", J, E, 1.0 / (double)E);
    add(p, "o", E, J, 1.0 / (double)J);
}

static void stack(const struct shape *s, bool decoder)
{
    const int64_t E = s->width, F = s->ff;
    const char *side = decoder ? "decoder" : "encoder";
    for (int i = 0; i < s->layers; i++) {
        char p[64];
        int sub = 0;
        snprintf(p, sizeof p, "%s.block.%d.layer.%d.", side, i, sub++);
        attention(s, p, "SelfAttention");
        if (i == 0)
            add(p, "SelfAttention.relative_attention_bias", 32, s->heads, 1.0 / (double)E);
        add(p, "layer_norm", 0, E, 1);
        if (decoder) {
            snprintf(p, sizeof p, "%s.block.%d.layer.%d.", side, i, sub++);
            attention(s, p, "EncDecAttention");
            add(p, "layer_norm", 0, E, 1);
        }
        snprintf(p, sizeof p, "%s.block.%d.layer.%d.", side, i, sub);
        add(p, "DenseReluDense.wi_0", F, E, 1.0 / (double)E);
        add(p, "DenseReluDense.wi_1", F, E, 1.0 / (double)E);
        add(p, "DenseReluDense.wo", E, F, 1.0 / (double)F);
        add(p, "layer_norm", 0, E, 1);
    }
    char p[16];
    snprintf(p, sizeof p, "%s.", side);
    add(p, "final_layer_norm", 0, E, 1);
}

/* --- numbers -----------------------------------------------------------------------------------
 */

static uint64_t state;

static uint32_t draw(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 32);
}

/* Nearly normal: the sum of the four bytes of one draw, variance 1. */
static float normal(void)
{
    const uint32_t u = draw();
    const int sum = (int)(u & 255) + (int)(u >> 8 & 255) + (int)(u >> 16 & 255) + (int)(u >> 24);
    return (float)(sum - 510) * (1.0f / 147.8f);
}

static uint16_t to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void write_tensor(FILE *f, const struct tensor *t, bool half)
{
    enum { CHUNK = 65536 };
    static float line[CHUNK];
    static uint16_t narrow[CHUNK];
    int64_t left = (t->rows ? t->rows : 1) * t->cols;
    while (left > 0) {
        const size_t n = left < CHUNK ? (size_t)left : CHUNK;
        for (size_t i = 0; i < n; i++) {
            line[i] = t->rows ? (float)((double)normal() * t->deviation) : 1.0f;
            narrow[i] = to_bf16(line[i]);
        }
        if (fwrite(half ? (void *)narrow : (void *)line, half ? 2 : 4, n, f) != n)
            fail("writing", t->name);
        left -= (int64_t)n;
    }
}

/* --- files -------------------------------------------------------------------------------------
 */

static FILE *create(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        fail("creating", path);
    return f;
}

static void finish(FILE *f, const char *name)
{
    if (fclose(f))
        fail("writing", name);
}

static void write_config(const char *dir, const struct shape *s, bool half)
{
    FILE *f = create(dir, "config.json");
    fprintf(f,
            "{\n \"architectures\": [\"T5ForConditionalGeneration\"],\n \"model_type\": \"t5\",\n"
            " \"vocab_size\": %d,\n \"d_model\": %d,\n \"d_kv\": %d,\n \"d_ff\": %d,\n"
            " \"num_heads\": %d,\n \"num_layers\": %d,\n \"num_decoder_layers\": %d,\n"
            " \"relative_attention_num_buckets\": 32,\n \"relative_attention_max_distance\": 128,\n"
            " \"feed_forward_proj\": \"gated-gelu\",\n \"tie_word_embeddings\": false,\n"
            " \"layer_norm_epsilon\": 1e-06,\n \"dropout_rate\": 0.0,\n \"pad_token_id\": 0,\n"
            " \"eos_token_id\": 1,\n \"decoder_start_token_id\": 0,\n"
            " \"is_encoder_decoder\": true,\n \"torch_dtype\": \"%s\"\n}\n",
            s->vocab, s->width, s->head_dim, s->ff, s->heads, s->layers, s->layers,
            half ? "bfloat16" : "float32");
    finish(f, "config.json");
}

static void write_weights(const char *dir, bool half)
{
    FILE *f = create(dir, "model.safetensors");
    char *header = malloc(MAX_TENSORS * 256);
    if (!header)
        fail("allocating", "header");
    size_t n = 0;
    int64_t at = 0;
    n += (size_t)sprintf(header + n, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < ntensors; i++) {
        const struct tensor *t = &tensors[i];
        const int64_t bytes = (t->rows ? t->rows : 1) * t->cols * (half ? 2 : 4);
        n += (size_t)sprintf(header + n, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", t->name,
                             half ? "BF16" : "F32");
        if (t->rows)
            n += (size_t)sprintf(header + n, "%lld,", (long long)t->rows);
        n += (size_t)sprintf(header + n, "%lld],\"data_offsets\":[%lld,%lld]}", (long long)t->cols,
                             (long long)at, (long long)(at + bytes));
        at += bytes;
    }
    header[n++] = '}';
    while (n % 8)
        header[n++] = ' ';
    unsigned char len[8];
    for (int i = 0; i < 8; i++)
        len[i] = (unsigned char)((uint64_t)n >> (8 * i));
    if (fwrite(len, 1, 8, f) != 8 || fwrite(header, 1, n, f) != n)
        fail("writing", "model.safetensors");
    free(header);
    for (int i = 0; i < ntensors; i++)
        write_tensor(f, &tensors[i], half);
    finish(f, "model.safetensors");
    printf("%d tensors, %.1f MB\n", ntensors, (double)at * 1e-6);
}

static void copy_vocab(const char *dir, const char *from)
{
    static char block[1 << 16];
    FILE *in = fopen(from, "rb"), *out = create(dir, "spiece.model");
    size_t n;
    if (!in)
        fail("opening", from);
    while ((n = fread(block, 1, sizeof block, in)) > 0)
        if (fwrite(block, 1, n, out) != n)
            fail("writing", "spiece.model");
    if (ferror(in))
        fail("reading", from);
    fclose(in);
    finish(out, "spiece.model");
}

static int usage(void)
{
    fprintf(stderr, "usage: make-model --size tiny|small|base|large [--dtype float32|bfloat16] "
                    "[--seed N] [--layers N] [--vocab FILE] DIR\n");
    return 2;
}

int main(int argc, char **argv)
{
    const struct shape *s = NULL;
    const char *dir = NULL, *vocab = NULL;
    bool half = false;
    uint64_t seed = 1;
    int layers = 0;
    for (int i = 1; i < argc; i++) {
        const char *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--size")) {
            for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++)
                if (!strcmp(v, shapes[k].name))
                    s = &shapes[k];
            i++;
        } else if (!strcmp(argv[i], "--dtype")) {
            half = !strcmp(v, "bfloat16");
            if (!half && strcmp(v, "float32"))
                return usage();
            i++;
        } else if (!strcmp(argv[i], "--seed")) {
            seed = strtoull(v, NULL, 10);
            i++;
        } else if (!strcmp(argv[i], "--layers")) {
            layers = (int)strtol(v, NULL, 10);
            if (layers < 1)
                return usage();
            i++;
        } else if (!strcmp(argv[i], "--vocab")) {
            vocab = v;
            i++;
        } else if (argv[i][0] == '-' || dir) {
            return usage();
        } else {
            dir = argv[i];
        }
    }
    if (!s || !dir)
        return usage();
    struct shape fewer = *s;
    if (layers && layers < s->layers)
        fewer.layers = layers;
    s = &fewer;
    state = seed * 0x9e3779b97f4a7c15u + (uint64_t)s->width;
    if (mkdir(dir, 0777) && errno != EEXIST)
        fail("creating", dir);
    add("", "shared", s->vocab, s->width, 1);
    stack(s, false);
    stack(s, true);
    add("", "lm_head", s->vocab, s->width, 1.0 / s->width);
    write_config(dir, s, half);
    write_weights(dir, half);
    if (vocab)
        copy_vocab(dir, vocab);
    return 0;
}
