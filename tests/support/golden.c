#define _GNU_SOURCE
#include "support/golden.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/test.h"

/* What is handed out lives until the process ends, and is then freed for the leak checker. */
struct kept {
    struct kept *next;
    _Alignas(16) unsigned char bytes[];
};
static struct kept *all;

static void free_all(void)
{
    while (all) {
        struct kept *next = all->next;
        free(all);
        all = next;
    }
}

static void *keep(size_t n)
{
    struct kept *k = malloc(sizeof *k + n);
    if (!k)
        fail_msg("golden data: out of memory");
    if (!all)
        atexit(free_all);
    k->next = all;
    all = k;
    return k->bytes;
}

/* The case's folder: golden data first, then what the repository carries. */
static bool case_folder(const char *folder, char *path, size_t cap)
{
    const char *const roots[] = {test_golden_dir(), "tests/fixtures/golden"};
    for (size_t i = 0; i < 2; i++) {
        if (!roots[i])
            continue;
        snprintf(path, cap, "%s/%s", roots[i], folder);
        if (!access(path, R_OK))
            return true;
    }
    return false;
}

static FILE *open_golden(const char *folder, const char *name, size_t *size)
{
    char dir[768], path[1024];
    if (!case_folder(folder, dir, sizeof dir))
        skip();
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("golden data: cannot open %s", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    return f;
}

char *golden_text(const char *folder, const char *name, size_t *len)
{
    FILE *f = open_golden(folder, name, len);
    char *text = keep(*len + 1);
    if (fread(text, 1, *len, f) != *len)
        fail_msg("golden data: cannot read %s/%s", folder, name);
    fclose(f);
    text[*len] = 0;
    return text;
}

struct golden_array golden_npy(const char *folder, const char *name)
{
    size_t len;
    unsigned char *b = (unsigned char *)golden_text(folder, name, &len);
    struct golden_array a = {0};
    if (len < 12 || memcmp(b, "\x93NUMPY\x01", 7) != 0)
        fail_msg("golden data: %s/%s is not .npy 1.0", folder, name);
    const size_t header = 10 + (size_t)(b[8] | b[9] << 8);
    char text[1024] = {0};
    memcpy(text, b + 10, header - 10 < sizeof text - 1 ? header - 10 : sizeof text - 1);
    const char *shape = strstr(text, "'shape': (");
    if (!shape || strstr(text, "True"))
        fail_msg("golden data: header of %s/%s", folder, name);
    a.elements = 1;
    for (char *p = (char *)shape + 10; *p && *p != ')';) {
        char *end;
        const long long d = strtoll(p, &end, 10);
        if (end == p) {
            p++;
            continue;
        }
        a.dim[a.rank++] = d;
        a.elements *= (size_t)d;
        p = end;
    }
    const unsigned char *data = b + header;
    if (strstr(text, "<i4") || strstr(text, "<u4")) {
        a.i32 = keep(a.elements * 4);
        memcpy(a.i32, data, a.elements * 4);
    } else if (strstr(text, "<f4")) {
        a.f32 = keep(a.elements * 4);
        memcpy(a.f32, data, a.elements * 4);
    } else if (strstr(text, "<f8")) {
        a.f32 = keep(a.elements * 4);
        for (size_t i = 0; i < a.elements; i++) {
            double d;
            memcpy(&d, data + 8 * i, 8);
            a.f32[i] = (float)d;
        }
    } else {
        fail_msg("golden data: type of %s/%s", folder, name);
    }
    return a;
}

struct golden_array golden_tensor(const char *folder, const char *file, const char *name)
{
    char path[256], key[256];
    size_t size;
    uint64_t header;
    snprintf(path, sizeof path, "%s.safetensors", file);
    FILE *f = open_golden(folder, path, &size);
    if (fread(&header, 8, 1, f) != 1 || header > size)
        fail_msg("golden data: %s/%s", folder, path);
    char *text = malloc(header + 1);
    if (!text || fread(text, 1, header, f) != header)
        fail_msg("golden data: %s/%s", folder, path);
    text[header] = 0;
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    char *p = strstr(text, key);
    if (!p)
        fail_msg("golden data: no float32 tensor %s in %s/%s", name, folder, path);
    p += strlen(key);
    struct golden_array a = {.elements = 1};
    while (*p != ']') {
        a.dim[a.rank] = strtoll(p, &p, 10);
        a.elements *= (size_t)a.dim[a.rank++];
        p += *p == ',';
    }
    const char *offsets = "],\"data_offsets\":[";
    if (strncmp(p, offsets, strlen(offsets)) != 0)
        fail_msg("golden data: header of %s/%s", folder, path);
    fseek(f, (long)(8 + header) + strtol(p + strlen(offsets), NULL, 10), SEEK_SET);
    a.f32 = keep(a.elements * 4);
    if (fread(a.f32, 4, a.elements, f) != a.elements)
        fail_msg("golden data: %s in %s/%s", name, folder, path);
    free(text);
    fclose(f);
    return a;
}

struct golden_array golden_npy_shaped(const char *folder, const char *name, int rank, ...)
{
    const struct golden_array a = golden_npy(folder, name);
    va_list dims;
    EXPECT_EQ_I64(a.rank, rank);
    va_start(dims, rank);
    for (int i = 0; i < rank; i++)
        EXPECT_EQ_I64(a.dim[i], va_arg(dims, int));
    va_end(dims);
    return a;
}

double golden_max_diff(const float *a, const float *b, size_t n)
{
    double worst = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst))
            worst = d;
    }
    return worst;
}
