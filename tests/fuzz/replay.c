/* Runs a fuzz target over files and directories of files, without libFuzzer. Prints the number of
 * inputs; a finding aborts. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t inputs;

static void run_input(const uint8_t *data, size_t n, bool and_cut)
{
    uint8_t *exact = malloc(n ? n : 1); /* so that tools see a read beyond the end */
    if (!exact)
        abort();
    memcpy(exact, data, n);
    LLVMFuzzerTestOneInput(exact, n);
    for (size_t cut = and_cut ? n / 2 : 0; cut > 0; cut /= 2)
        LLVMFuzzerTestOneInput(exact + n - cut, cut), LLVMFuzzerTestOneInput(exact, cut);
    if (and_cut)
        LLVMFuzzerTestOneInput(exact, 0);
    free(exact);
    inputs++;
}

static void run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return;
    uint8_t *data = malloc(1 << 24);
    if (!data)
        abort();
    const size_t n = fread(data, 1, 1 << 24, f);
    fclose(f);
    if (strlen(path) > 5 && !strcmp(path + strlen(path) - 5, ".pack")) {
        for (size_t at = 0; n - at >= 4;) { /* tools/fuzz-pack */
            const size_t len = data[at] | (size_t)data[at + 1] << 8 | (size_t)data[at + 2] << 16 |
                               (size_t)data[at + 3] << 24;
            if (len > n - at - 4)
                abort();
            run_input(data + at + 4, len, false);
            at += 4 + len;
        }
    } else {
        run_input(data, n, true);
    }
    free(data);
}

static void run(const char *path)
{
    DIR *d = opendir(path);
    if (!d) {
        run_file(path);
        return;
    }
    for (const struct dirent *e; (e = readdir(d));) {
        char inner[4096];
        if (e->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, e->d_name);
        run(inner);
    }
    closedir(d);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    printf("%zu inputs\n", inputs);
    return inputs ? 0 : 1;
}
