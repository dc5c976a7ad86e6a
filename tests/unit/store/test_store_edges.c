/* The stores at their edges: archives by name and in pieces, adapters whose configuration is damaged in
 * every way, T5X checkpoints that cannot be written or change while they are read, and all of them in a
 * bucket, where files come over the network. */
#define _GNU_SOURCE
#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/msgpack.h"
#include "fs/fs.h"
#include "store/archive.h"
#include "store/peft.h"
#include "store/prompt_file.h"
#include "store/safetensors.h"
#include "store/spill.h"
#include "store/store_internal.h"
#include "store/t5x_internal.h"
#include "store/tfrecord.h"
#include "store/zarr.h"
#include "support/server.h"

/* --- archives -------------------------------------------------------------------------------------- */

static void make_archives(char *dir, size_t cap)
{
    char command[6000];
    snprintf(dir, cap, "%s", test_tmpdir());
    snprintf(command, sizeof command,
             "cd %s && python3 - <<'P'\n"
             "import gzip, zipfile\n"
             "z = zipfile.ZipFile('two.zip', 'w')\n"
             "for n in ('SST-2/train.tsv', 'SST-2/dev.tsv', 'QNLI/dev.tsv', '__MACOSX/SST-2/train.tsv',\n"
             "          'top.tsv', 'x.tsv', 'y.tsv', 'train.tsv.old'):\n"
             "    z.writestr(n, 'content of ' + n)\n"
             "z.close()\n"
             "zipfile.ZipFile('empty.zip', 'w').close()\n"
             "with zipfile.ZipFile('comment.zip', 'w') as z: z.comment = b'PK' * 400; z.writestr('a', 'b')\n"
             "for f, names in (('six', '0 1 2 3 4 5'.split()), ('long', ['0' * 60, '0' * 61, '0' * 24, 'b']),\n"
             "                 ('longer', ['0' * 60, '0' * 61, '0' * 26, 'b']), ('longest', ['0' * 60, '0' * 61, '0' * 25, 'b' * 70])):\n"
             "    with zipfile.ZipFile(f + '.zip', 'w') as z:\n"
             "        for n in names: z.writestr(n, '')\n"
             "import tarfile\n"
             "with tarfile.open('kinds.tar', 'w') as t:\n"
             "    for kind in b'01234567AS':\n"
             "        m = tarfile.TarInfo('of kind ' + chr(kind)); m.type = bytes([kind]); m.linkname = 'x'\n"
             "        t.addfile(m)\n"
             "def pax(name, headers, long=0, fmt=tarfile.PAX_FORMAT, change=()):\n"
             "    with tarfile.open(name, 'w', format=fmt) as t:\n"
             "        m = tarfile.TarInfo('n' * 60 + '/' + 'm' * 60 if long else 'n'); m.size = 3; m.pax_headers = headers\n"
             "        import io; t.addfile(m, io.BytesIO(b'abc'))\n"
             "    raw = open(name, 'rb').read()\n"
             "    for a, b in change: assert raw.count(a) == 1; raw = raw.replace(a, b)\n"
             "    open(name, 'wb').write(raw)\n"
             "pax('second.tar', {'comment': 'x', 'path': 'the/name'})\n"
             "pax('prefix.tar', {}, 1, tarfile.USTAR_FORMAT)\n"
             "for i, size in enumerate(('3', '1x', '/', ':', '0', '72057594037927936')):\n"
             "    pax('size%%d.tar' %% i, {'sizf': size}, change=[(b'sizf', b'size')])\n"
             "open('plain.txt', 'w').write('plain words')\n"
             "open('a.gz', 'wb').write(gzip.compress(b'zipped words'))\n"
             "open('zipped', 'wb').write(gzip.compress(b'zipped words'))\n"
             "open('.gz', 'wb').write(gzip.compress(b'zipped words'))\n"
             "P", dir);
    EXPECT_EQ_I64(system(command), 0);
}

static spt_status open_archive(void *ctx, spt_err *err)
{
    archive *a;
    archive_stream *s;
    char text[8];
    size_t got;
    TRY(archive_open(ctx, &a, err));
    spt_status st = archive_read(a, 0, &s, err);
    if (!st) {
        st = archive_stream_read(s, text, sizeof text, &got, err);
        archive_stream_close(s);
    }
    archive_close(a);
    return st;
}

static void members_are_found(void **state)
{
    (void)state;
    char dir[4096];
    archive *a;
    spt_err err = {0};
    size_t i = 99;
    make_archives(dir, sizeof dir);
    EXPECT_OK(archive_open(test_path(dir, "two.zip"), &a, &err), &err);
    EXPECT_OK(archive_find(a, "QNLI/dev.tsv", &i, &err), &err);
    EXPECT_STR(archive_name(a, i), "QNLI/dev.tsv");
    EXPECT_OK(archive_find(a, "train.tsv", &i, &err), &err); /* not the one below __MACOSX */
    EXPECT_STR(archive_name(a, i), "SST-2/train.tsv");
    EXPECT_OK(archive_find(a, "top.tsv", &i, &err), &err);
    EXPECT_STR(archive_name(a, i), "top.tsv");
    i = 99;
    EXPECT_STATUS(archive_find(a, "dev.tsv", &i, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "has 2 members that end in 'dev.tsv'");
    EXPECT_STATUS(archive_find(a, "rain.tsv", &i, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "has no member 'rain.tsv' (it has SST-2/train.tsv, SST-2/dev.tsv, QNLI/dev.tsv, "
                     "__MACOSX/SST-2/train.tsv, top.tsv, x.tsv, ...)");
    EXPECT_EQ_I64(i, 99);
    EXPECT_STR(archive_path(a), test_path(dir, "two.zip"));
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "empty.zip"), &a, &err), &err);
    EXPECT_EQ_I64(archive_kind(a), ARCHIVE_ZIP);
    EXPECT_STATUS(archive_find(a, "x", &i, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "(it has none)");
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "comment.zip"), &a, &err), &err);
    EXPECT_EQ_I64(archive_count(a), 1);
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "six.zip"), &a, &err), &err);
    EXPECT_STATUS(archive_find(a, "x", &i, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "(it has 0, 1, 2, 3, 4, 5)");
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "long.zip"), &a, &err), &err); /* 150 characters, then no more names */
    EXPECT_STATUS(archive_find(a, "x", &i, &err), SPT_E_NOTFOUND);
    char want[300];
    snprintf(want, sizeof want, "(it has %060d, %060d, %024d, b)", 0, 0, 0);
    EXPECT_MSG(&err, want);
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "longer.zip"), &a, &err), &err);
    EXPECT_STATUS(archive_find(a, "x", &i, &err), SPT_E_NOTFOUND);
    snprintf(want, sizeof want, "(it has %060d, %060d, %026d)", 0, 0, 0);
    EXPECT_MSG(&err, want);
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "longest.zip"), &a, &err), &err);
    EXPECT_STATUS(archive_find(a, "x", &i, &err), SPT_E_NOTFOUND);
    char b60[61] = "";
    memset(b60, 'b', 60);
    snprintf(want, sizeof want, "(it has %060d, %060d, %025d, %s)", 0, 0, 0, b60);
    EXPECT_MSG(&err, want);
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "second.tar"), &a, &err), &err);
    EXPECT_STR(archive_name(a, 0), "the/name");
    archive_close(a);
    EXPECT_OK(archive_open(test_path(dir, "prefix.tar"), &a, &err), &err);
    EXPECT_TRUE(strlen(archive_name(a, 0)) == 121 && archive_name(a, 0)[60] == '/');
    archive_close(a);
    for (int k = 0; k < 6; k++) {
        char file[20];
        snprintf(file, sizeof file, "size%d.tar", k);
        const spt_status st = archive_open(test_path(dir, file), &a, &err);
        EXPECT_STATUS(st, k == 0 ? SPT_OK : SPT_E_FORMAT);
        if (!st)
            archive_close(a);
        else if (k < 4)
            EXPECT_MSG(&err, "a damaged size in front of byte 1024");
    }
    EXPECT_OK(archive_open(test_path(dir, "kinds.tar"), &a, &err), &err); /* links, devices, directories are no files */
    EXPECT_EQ_I64(archive_count(a), 2);
    EXPECT_STR(archive_name(a, 0), "of kind 0");
    EXPECT_STR(archive_name(a, 1), "of kind 7");
    archive_close(a);
    archive_close(NULL);
    static const struct {
        const char *file, *member, *text;
        enum archive_kind kind;
    } single[] = {{"plain.txt", "plain.txt", "plain words", ARCHIVE_FILE},
                  {"a.gz", "a", "zipped words", ARCHIVE_GZIP},
                  {"zipped", "zipped", "zipped words", ARCHIVE_GZIP},
                  {".gz", ".gz", "zipped words", ARCHIVE_GZIP}};
    for (size_t k = 0; k < sizeof single / sizeof *single; k++) {
        archive_stream *s;
        char text[64];
        size_t got;
        EXPECT_OK(archive_open(test_path(dir, single[k].file), &a, &err), &err);
        EXPECT_EQ_I64(archive_kind(a), single[k].kind);
        EXPECT_EQ_I64(archive_count(a), 1);
        EXPECT_STR(archive_name(a, 0), single[k].member);
        EXPECT_OK(archive_find(a, single[k].member, &i, &err), &err);
        EXPECT_OK(archive_read(a, 0, &s, &err), &err);
        EXPECT_OK(archive_stream_read(s, text, 0, &got, &err), &err); /* nothing asked for: no end */
        EXPECT_EQ_I64(got, 0);
        size_t have = 0;
        do {
            EXPECT_OK(archive_stream_read(s, text + have, 5, &got, &err), &err);
            have += got;
        } while (got);
        text[have] = '\0';
        EXPECT_STR(text, single[k].text);
        EXPECT_OK(archive_stream_read(s, text, (size_t)1 << 40, &got, &err), &err); /* the end stays */
        EXPECT_EQ_I64(got, 0);
        archive_stream_close(s);
        archive_close(a);
        EXPECT_TRUE(fault_every_alloc(open_archive, (void *)(uintptr_t)test_path(dir, single[k].file)) > 3);
    }
    archive_stream_close(NULL);
}

/* A directory that claims 300 MB: refused before any of it is read. */
static void directories_beyond_the_limit(void **state)
{
    (void)state;
    enum { SIZE = 300 << 20 };
    unsigned char end[22] = {'P', 'K', 5, 6, 0, 0, 0, 0, 1, 0, 1, 0};
    char path[4096];
    archive *a = NULL;
    spt_err err = {0};
    snprintf(path, sizeof path, "%s/sparse.zip", test_tmpdir());
    for (int i = 0; i < 4; i++)
        end[12 + i] = (unsigned char)(SIZE >> 8 * i);
    test_write(path, "PK\3\4", 4);
    EXPECT_TRUE(!truncate(path, SIZE));
    FILE *f = fopen(path, "ab");
    EXPECT_TRUE(f && fwrite(end, 1, sizeof end, f) == sizeof end && !fclose(f));
    fault_install();
    EXPECT_STATUS(archive_open(path, &a, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "does not fit the file");
    EXPECT_TRUE(fault_peak_bytes() < 1 << 20);
    fault_remove();
}

/* --- adapters -------------------------------------------------------------------------------------- */

static const float rows[6] = {1, 2, 3, 4, 5, 6};

static void adapter(const char *dir, const char *config)
{
    spt_err err = {0};
    const struct store_tensor t = {"prompt_embeddings", {DT_F32, {2, {3, 2}}, rows}};
    test_write(test_path(dir, "adapter_config.json"), config, strlen(config));
    EXPECT_OK(safetensors_write(test_path(dir, "adapter_model.safetensors"), &t, 1, NULL, 0, &err), &err);
}

static void configurations_of_adapters(void **state)
{
    (void)state;
    char dir[4096], text[1000];
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    static const char whole[] =
        "{\"peft_type\": \"PROMPT_TUNING\", \"task_type\": \"SEQ_2_SEQ_LM\", \"base_model_name_or_path\": \"b\", "
        "\"num_virtual_tokens\": 3, \"token_dim\": 2, \"num_transformer_submodules\": 1, \"num_ranks\": 1, "
        "\"other\": [null]}";
    for (size_t n = 0; n + 1 < sizeof whole; n++) { /* cut at every length */
        spt_err err = {0};
        struct peft_prompt p = {0};
        memcpy(text, whole, sizeof whole);
        text[n] = '\0';
        adapter(dir, text);
        EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "adapter_config.json");
    }
    static const char *const value[] = {"tru", "{}", "[]", "true", "-1", "1.5", "2147483648", "\"x\"", "99999999999999999999"};
    static const struct {
        const char *key;
        unsigned fine; /* bits of `value` that are accepted */
        const char *part;
    } key[] = {{"peft_type", 0, ""}, {"task_type", 1u << 7, ""}, {"base_model_name_or_path", 1u << 7, ""},
               {"token_dim", 0, "token_dim is not a positive integer"},
               {"num_transformer_submodules", 0, "num_transformer_submodules is not a positive integer"},
               {"num_ranks", 0, "num_ranks is not a positive integer"},
               {"other", 0xfffffffe, ""}};
    for (size_t k = 0; k < sizeof key / sizeof *key; k++)
        for (size_t v = 0; v < sizeof value / sizeof *value; v++) {
            spt_err err = {0};
            struct peft_prompt p = {0};
            snprintf(text, sizeof text, "{%s\"num_virtual_tokens\": 3, \"%s\": %s}",
                     k ? "\"peft_type\": \"PROMPT_TUNING\", " : "", key[k].key, value[v]);
            adapter(dir, text);
            const spt_status st = peft_prompt_read(dir, NULL, &p, &err);
            const bool fine = key[k].fine >> v & 1;
            if (st != (fine ? SPT_OK : SPT_E_FORMAT) || (!fine && v && !strstr(err.msg, key[k].part)))
                fail_msg("%s: %s (%s)", text, spt_status_text(st), err.msg);
            peft_prompt_release(&p);
        }
    snprintf(text, sizeof text, "{\"peft_type\": \"%0300d\", \"num_virtual_tokens\": 3}", 0);
    adapter(dir, text);
    spt_err err = {0};
    struct peft_prompt p = {0};
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "peft_type is not a string of at most");
}

struct tasks {
    char dir[4096];
    int64_t c[3], r[3];
    int64_t task;
};

static spt_status read_tasks(void *ctx, spt_err *err)
{
    const struct tasks *t = ctx;
    struct peft_prompt p = {0};
    TRY(peft_prompt_read(t->dir, &(struct peft_opts){t->task}, &p, err));
    EXPECT_EQ_F64(p.rows[0], 1 * 2.0);
    EXPECT_EQ_F64(p.rows[5], 6 * 2.0);
    peft_prompt_release(&p);
    return SPT_OK;
}

static void shapes_of_tasks(void **state)
{
    (void)state;
    static float ones[64];
    for (size_t i = 0; i < 64; i++)
        ones[i] = 1;
    static const struct {
        int64_t c[3], r[3], task;
        spt_status want;
        const char *part;
    } of[] = {
        {{2, 3, 2}, {2, 2, 2}, 1, SPT_OK, ""},
        {{2, 2, 2}, {2, 2, 2}, 0, SPT_E_FORMAT, "do not fit each other"}, /* other rows */
        {{2, 3, 2}, {2, 2, 3}, 0, SPT_E_FORMAT, "do not fit each other"}, /* another width */
        {{2, 3, 2}, {1, 2, 2}, 0, SPT_E_FORMAT, "do not fit each other"}, /* another number of tasks */
        {{2, 3, 2}, {2, 1, 2}, 0, SPT_E_FORMAT, "do not fit each other"}, /* another rank */
        {{2, 3, 2}, {2, 2, 2}, 2, SPT_E_USAGE, "task 2 of 2 tasks"},
        {{2, 3, 2}, {2, 2, 2}, -1, SPT_E_USAGE, "task -1 of 2 tasks"},
        {{2, 3, 2}, {0, 0, 0}, 0, SPT_E_FORMAT, "no tensor 'prefix_task_rows'"},
        {{0, 0, 0}, {2, 2, 2}, 0, SPT_E_FORMAT, "no tensor 'prefix_task_cols'"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct tasks t = {.task = of[i].task};
        spt_err err = {0};
        size_t n = 1;
        struct store_tensor list[3] = {{"prompt_embeddings", {DT_F32, {2, {3, 2}}, rows}}};
        snprintf(t.dir, sizeof t.dir, "%s", test_tmpdir());
        adapter(t.dir, "{\"peft_type\": \"MULTITASK_PROMPT_TUNING\", \"task_type\": \"SEQ_2_SEQ_LM\", "
                       "\"num_virtual_tokens\": 3, \"num_transformer_submodules\": 1}");
        if (of[i].c[0])
            list[n++] = (struct store_tensor){"prefix_task_cols", {DT_F32, {3, {of[i].c[0], of[i].c[1], of[i].c[2]}}, ones}};
        if (of[i].r[0])
            list[n++] = (struct store_tensor){"prefix_task_rows", {DT_F32, {3, {of[i].r[0], of[i].r[1], of[i].r[2]}}, ones}};
        EXPECT_OK(safetensors_write(test_path(t.dir, "adapter_model.safetensors"), list, n, NULL, 0, &err), &err);
        EXPECT_STATUS(read_tasks(&t, &err), of[i].want);
        if (of[i].want)
            EXPECT_MSG(&err, of[i].part);
        else
            EXPECT_TRUE(fault_every_alloc(read_tasks, &t) > 5);
        EXPECT_TRUE(peft_probe(t.dir, NULL, 0, 0));
        EXPECT_TRUE(!peft_probe(t.dir, (const unsigned char *)"x", 1, 1));
    }
    EXPECT_TRUE(!peft_probe(test_tmpdir(), NULL, 0, 0));
}

static void odd_rows_and_sizes(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    struct peft_prompt p = {0};
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    adapter(dir, "{\"peft_type\": \"PROMPT_TUNING\", \"task_type\": \"SEQ_2_SEQ_LM\", \"num_virtual_tokens\": 2}");
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT); /* three rows for two tokens */
    EXPECT_MSG(&err, "3 rows, num_virtual_tokens is 2");
    const struct store_tensor none = {"prompt_embeddings", {DT_F32, {2, {3, 0}}, rows}};
    adapter(dir, "{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3}");
    EXPECT_OK(safetensors_write(test_path(dir, "adapter_model.safetensors"), &none, 1, NULL, 0, &err), &err);
    EXPECT_STATUS(peft_prompt_read(dir, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "are 0 wide");
    static const struct {
        int64_t P, E;
    } bad[] = {{0, 2}, {3, 0}, {-1, 2}, {INT64_MAX, 2}, {3, INT64_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT_STATUS(store_write_prompt_peft(dir, rows, bad[i].P, bad[i].E, &(struct peft_write_opts){.submodules = 2},
                                              &err), SPT_E_USAGE);
        EXPECT_MSG(&err, "a prompt of");
    }
}

/* --- safetensors -------------------------------------------------------------------------------------- */

static void writer_of_safetensors(void **state)
{
    (void)state;
    char path[4096];
    spt_err err = {0};
    snprintf(path, sizeof path, "%s/x.safetensors", test_tmpdir());
    static char long_name[70000];
    memset(long_name, 'n', sizeof long_name - 1);
    const struct store_tensor t = {"a", {DT_F32, {1, {2}}, rows}}, named = {long_name, {DT_F32, {1, {2}}, rows}},
                              large = {"a", {DT_F32, {2, {INT64_MAX, INT64_MAX}}, rows}};
    const struct store_meta bad_key = {"\xff", "v"}, odd_value = {"k", "\xc3"};
    EXPECT_STATUS(safetensors_write(path, &t, 1, &bad_key, 1, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "a metadata key");
    EXPECT_STATUS(safetensors_write(path, &t, 1, &odd_value, 1, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "a metadata value");
    EXPECT_TRUE(safetensors_write(path, &named, 1, NULL, 0, &err) != SPT_OK);
    EXPECT_MSG(&err, "name");
    EXPECT_TRUE(safetensors_write(path, &large, 1, NULL, 0, &err) != SPT_OK);
    EXPECT_TRUE(!fs_exists(path));
    const struct tensor_view vast = {DT_U8, {2, {(int64_t)1 << 47, 65535}}, rows};
    const struct store_tensor three[3] = {{"a", vast}, {"b", vast}, {"c", vast}};
    EXPECT_TRUE(safetensors_write(path, three, 3, NULL, 0, &err) != SPT_OK);
    EXPECT_MSG(&err, "too large together");
    EXPECT_TRUE(!safetensors_probe("x.safetensors", NULL, 0, 0));
    EXPECT_TRUE(safetensors_probe("x", (const unsigned char *)"\2\0\0\0\0\0\0\0{}", 10, 10));
    EXPECT_TRUE(safetensors_probe("x.safetensors", (const unsigned char *)"\2\0\0\0\0\0\0\0", 8, 8));
    EXPECT_TRUE(!safetensors_probe("x.bin", (const unsigned char *)"\2\0\0\0\0\0\0\0", 8, 8));
    EXPECT_TRUE(!safetensors_probe("x.safetensors", (const unsigned char *)"\2\0\0\0\0\0\0\1", 8, 8));
    EXPECT_TRUE(!safetensors_probe("x.safetensors", (const unsigned char *)"\2\0\0\0\0\0\1\0", 8, 8));
    EXPECT_TRUE(!safetensors_probe("x.safetensors", (const unsigned char *)"\2\0\0\0\0\1\0\0", 8, 8));
    EXPECT_TRUE(!safetensors_probe("x.safetensors", (const unsigned char *)"\2\0\0\0\1\0\0\0", 8, 8));
}

static void metadata_of_models(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    store *s = NULL;
    const struct store_tensor t = {"a", {DT_F32, {1, {2}}, rows}};
    const struct store_meta meta[] = {{"format", "pt"}, {"made", "by hand"}};
    snprintf(dir, sizeof dir, "%s/meta", test_tmpdir());
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    test_write(test_path(dir, "config.json"), "{}", 2);
    EXPECT_OK(safetensors_write(test_path(dir, "model.safetensors"), &t, 1, meta, 2, &err), &err);
    EXPECT_OK(store_open(dir, NULL, &s, &err), &err);
    EXPECT_EQ_I64(store_meta_count(s), 2);
    for (size_t i = 0; i < 2; i++) {
        EXPECT_STR(store_meta_at(s, i)->key, meta[i].key);
        EXPECT_STR(store_meta_at(s, i)->value, meta[i].value);
    }
    store_close(s);
}

static void weights_of_adapters(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    store *s = NULL;
    snprintf(dir, sizeof dir, "%s/weights", test_tmpdir());
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    EXPECT_STATUS(peft_store_open(dir, NULL, &s, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "a PEFT adapter without adapter_model.safetensors or adapter_model.bin");
    test_write(test_path(dir, "adapter_model.bin"), "not a pickle", 12);
    EXPECT_STATUS(peft_store_open(dir, NULL, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "weights/adapter_model.bin: ");
    test_write(test_path(dir, "adapter_model.safetensors"), "\xff\0\0\0\0\0\0\0{}", 10); /* the first that is there */
    EXPECT_STATUS(peft_store_open(dir, NULL, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "weights/adapter_model.safetensors: the header claims 255 bytes, the file has 2 (cut short)");
    test_write(test_path(dir, "adapter_model.safetensors"), "\3\0\0\0\0\0\0\0{}", 10);
    EXPECT_STATUS(peft_store_open(dir, NULL, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "the header claims 3 bytes, the file has 2 (cut short)");
}

static void long_names_of_tensors(void **state)
{
    (void)state;
    static char name[1026], path[4096];
    spt_err err = {0};
    store *s = NULL;
    memset(name, 'n', 1025);
    snprintf(path, sizeof path, "%s/long.safetensors", test_tmpdir());
    for (size_t n = 1025; n >= 1024; n--) {
        unsigned char file[1200] = {0};
        name[n] = '\0';
        const int len = snprintf((char *)file + 8, sizeof file - 8,
                                 "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", name);
        file[0] = (unsigned char)(len & 255);
        file[1] = (unsigned char)(len >> 8);
        test_write(path, file, 8 + (size_t)len + 4);
        EXPECT_STATUS(store_open(path, NULL, &s, &err), n == 1025 ? SPT_E_FORMAT : SPT_OK);
        if (n == 1025)
            EXPECT_MSG(&err, "1025");
    }
    EXPECT_STR(store_at(s, 0)->name, name);
    store_close(s);
}

static void non_finite_values(void **state)
{
    (void)state;
    static float f[3000];
    static double d[3000];
    static uint16_t h[3000];
    size_t at = 0;
    for (size_t where = 0; where < 3000; where += 999) {
        const int64_t n = 3000;
        const struct tensor_view vf = {DT_F32, {1, {n}}, f}, vd = {DT_F64, {1, {n}}, d}, vh = {DT_F16, {1, {n}}, h},
                                 vb = {DT_BF16, {1, {n}}, h}, vi = {DT_I16, {1, {n}}, h};
        f[where] = where % 2 ? NAN : -INFINITY;
        EXPECT_TRUE(view_find_nonfinite(&vf, &at) && at == where);
        f[where] = 0;
        d[where] = 3.5e38; /* too large for a float */
        EXPECT_TRUE(view_find_nonfinite(&vd, &at) && at == where);
        d[where] = 3.4e38;
        EXPECT_TRUE(!view_find_nonfinite(&vd, &at));
        d[where] = 0;
        h[where] = 0x7c00;
        EXPECT_TRUE(view_find_nonfinite(&vh, &at) && at == where);
        EXPECT_TRUE(!view_find_nonfinite(&vb, &at) && !view_find_nonfinite(&vi, &at));
        h[where] = 0xff80;
        EXPECT_TRUE(view_find_nonfinite(&vb, &at) && at == where);
        h[where] = 0;
        EXPECT_TRUE(!view_find_nonfinite(&vf, &at) && !view_find_nonfinite(&vd, &at) && !view_find_nonfinite(&vh, &at));
    }
    const struct tensor_view large = {DT_F32, {2, {INT64_MAX, INT64_MAX}}, f};
    EXPECT_TRUE(!view_find_nonfinite(&large, &at));
    char text[SHAPE_TEXT];
    const struct tensor_shape s = {3, {2, 0, 4}};
    EXPECT_STR(shape_index_text(&s, 5, text), "[1, 0, 1]");
}

/* --- shards of a model ---------------------------------------------------------------------------------- */

static void index_of(const char *dir, const char *text, spt_status want, const char *part)
{
    store *s = NULL;
    spt_err err = {0};
    test_write(test_path(dir, "model.safetensors.index.json"), text, strlen(text));
    const spt_status st = store_open(dir, NULL, &s, &err);
    if (st != want || !strstr(err.msg, part))
        fail_msg("%s: %s (%s), wanted \"%s\"", text, spt_status_text(st), err.msg, part);
    if (!st)
        store_close(s);
}

static void indices_of_shards(void **state)
{
    (void)state;
    char dir[3000], text[2000], path[5000];
    spt_err err = {0};
    const struct store_tensor t[] = {{"a", {DT_F32, {1, {4}}, rows}}, {"b", {DT_F32, {1, {2}}, rows}}};
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    test_write(test_path(dir, "config.json"), "{}", 2);
    EXPECT_OK(safetensors_write(test_path(dir, "s-1"), t, 1, NULL, 0, &err), &err);
    EXPECT_OK(safetensors_write(test_path(dir, "s-two"), t + 1, 1, NULL, 0, &err), &err);
    EXPECT_OK(safetensors_write(test_path(dir, ".x"), t, 1, NULL, 0, &err), &err);
    EXPECT_OK(safetensors_write(test_path(dir, "xy"), t, 1, NULL, 0, &err), &err);
    index_of(dir, "{\"metadata\": {\"total_size\": 24}, \"weight_map\": {\"a\": \"s-1\", \"b\": \"s-two\"}}", SPT_OK, "");
    index_of(dir, "{\"weight_map\": {\"a\": \".x\"}}", SPT_OK, "");
    index_of(dir, "{\"weight_map\": {\"a\": \"xy\"}}", SPT_OK, "");
    static const char *const bad[] = {"", ".", "..", "a/b", "/s-1", "a\\\\b", "s-1\\u0000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%s\"}}", bad[i]);
        index_of(dir, text, SPT_E_FORMAT, "not a plain file in this directory");
    }
    snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%0256d\"}}", 0);
    index_of(dir, text, SPT_E_FORMAT, "not a plain file in this directory");
    index_of(dir, "{\"weight_map\": {\"a\\u0000\": \"s-1\"}}", SPT_E_FORMAT, "is not in s-1");
    index_of(dir, "{\"weight_map\": {\"b\": \"s-1\"}}", SPT_E_FORMAT, "tensor 'b' is not in s-1");
    index_of(dir, "{\"weight_map\": {\"a\": tru}}", SPT_E_FORMAT, "line 1");
    index_of(dir, "{\"metadata\": tru}", SPT_E_FORMAT, "line 1");
    index_of(dir, "{}", SPT_E_FORMAT, "no weight_map");
    EXPECT_TRUE(!truncate(test_path(dir, "model.safetensors.index.json"), (64 << 20) + 1)); /* sparse */
    store *s;
    EXPECT_STATUS(store_open(dir, NULL, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "an index of 67108865 bytes, more than 67108864");
    EXPECT_TRUE(!truncate(test_path(dir, "model.safetensors.index.json"), 64 << 20));
    EXPECT_STATUS(store_open(dir, NULL, &s, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "line 1");
    bool there = true;
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    EXPECT_STATUS(store_exists_in(path, "x", &there, &err), SPT_E_IO);
    EXPECT_TRUE(there); /* nothing was said about it */
    EXPECT_TRUE(!peft_probe(path, NULL, 0, 0));
}

/* --- T5X ------------------------------------------------------------------------------------------------ */

static const float four[4] = {1, 2, 3, 4};
static const struct t5x_item items[] = {
    {"target/encoder/prompt/prompt/prompt", {DT_F32, {2, {2, 2}}, four}, true},
    {"target/encoder/norm/scale", {DT_F32, {1, {4}}, four}, false},
    {"target/counter", {DT_I32, {1, {4}}, four}, false},
    {"state/param_states/encoder/prompt/prompt/prompt/v", {DT_F32, {1, {4}}, four}, true},
};

static spt_status write_bf16(void *ctx, spt_err *err)
{
    TRY(fs_remove_tree(ctx, err));
    TRY(t5x_write(ctx, &(struct t5x_save){.step = 7, .items = items, .count = 4, .target_dtype = DT_BF16}, NULL, err));
    return t5x_write_numpy(ctx, &(struct t5x_save){.step = 7, .items = items, .count = 2, .target_dtype = DT_BF16}, err);
}

static int loads;
static enum { LOADS, FAILS, OTHER_DTYPE, OTHER_SHAPE } how;

static spt_status load_later(void *ctx, const struct t5x_item *it, struct tensor_view *out, spt_err *err)
{
    (void)ctx;
    if (how == FAILS)
        return err_set(err, SPT_E_IO, "the values are gone");
    loads++;
    *out = it->view;
    out->data = four;
    if (how == OTHER_DTYPE)
        out->dtype = DT_I32;
    if (how == OTHER_SHAPE)
        out->shape.dim[0]--;
    return SPT_OK;
}

static void unload(void *ctx, const struct t5x_item *it)
{
    (void)ctx, (void)it;
    loads--;
}

static spt_status write_later(void *ctx, spt_err *err)
{
    static const struct t5x_item later[] = {
        {"target/a", {DT_F32, {1, {4}}, NULL}, true},
        {"target/b", {DT_F32, {1, {4}}, NULL}, false},
        {"target/none", {DT_F32, {0}, NULL}, false},
    };
    const struct t5x_file file = {"note.txt", "text", 4};
    const struct t5x_more more = {.files = &file, .file_count = 1, .load = load_later, .unload = unload};
    TRY(fs_remove_tree(ctx, err));
    return t5x_write_more(ctx, &(struct t5x_save){.step = 8, .items = later, .count = 3, .target_dtype = DT_BF16}, &more, NULL, err);
}

static void expect_unwritable(const char *dir, const struct t5x_save *s, const char *part)
{
    spt_err err = {0};
    EXPECT_STATUS(t5x_write(dir, s, NULL, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, part);
    EXPECT_TRUE(!fs_exists(test_path(dir, "checkpoint_1")));
}

static void checkpoints_that_cannot_be_written(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    snprintf(dir, sizeof dir, "%s/run", test_tmpdir());
    static const struct t5x_item empty = {"target/a//b", {DT_F32, {1, {4}}, four}, false},
                                 last = {"target/a/", {DT_F32, {1, {4}}, four}, false},
                                 other = {"other/a", {DT_F32, {1, {4}}, four}, false},
                                 twice[2] = {{"target/a", {DT_F32, {1, {4}}, four}, false},
                                             {"target/a", {DT_F32, {1, {4}}, four}, false}},
                                 nil = {"target/a", {DT_F32, {1, {4}}, NULL}, false};
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = &empty, .count = 1, .target_dtype = DT_F32}, "is not a parameter name");
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = &last, .count = 1, .target_dtype = DT_F32}, "is not a parameter name");
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = &other, .count = 1, .target_dtype = DT_F32}, "is neither target/...");
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = twice, .count = 2, .target_dtype = DT_F32}, "is given twice");
    expect_unwritable(dir, &(struct t5x_save){.step = -1, .items = items, .count = 4, .target_dtype = DT_F32}, "step -1 does not fit");
    expect_unwritable(dir, &(struct t5x_save){.step = (int64_t)INT32_MAX + 1, .items = items, .count = 4, .target_dtype = DT_F32}, "does not fit");
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = items, .count = 4, .target_dtype = DT_F16}, "float32 or bfloat16");
    char deep[400] = "target";
    for (int i = 0; i < 30; i++)
        strcat(deep, "/a");
    const struct t5x_item nested = {deep, {DT_F32, {1, {4}}, four}, false};
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = &nested, .count = 1, .target_dtype = DT_F32}, "is not a parameter name");
    char states[500] = "state/param_states";
    strcat(states, deep + 6);
    const struct t5x_item nested_state = {states, {DT_F32, {1, {4}}, four}, false};
    expect_unwritable(dir, &(struct t5x_save){.step = 1, .items = &nested_state, .count = 1, .target_dtype = DT_F32}, "is not a parameter name");
    EXPECT_STATUS(t5x_write_numpy(dir, &(struct t5x_save){.step = 1, .items = &nil, .count = 1, .target_dtype = DT_F32}, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "has no values");
    /* values that come later: they fail, or are others than was said */
    how = LOADS;
    EXPECT_OK(write_later(dir, &err), &err);
    EXPECT_TRUE(fs_exists(test_path(dir, "checkpoint_8/note.txt")));
    EXPECT_TRUE(fault_every_alloc(write_later, dir) > 20);
    how = FAILS;
    EXPECT_STATUS(write_later(dir, &err), SPT_E_IO);
    EXPECT_MSG(&err, "the values are gone");
    for (how = OTHER_DTYPE; how <= OTHER_SHAPE; how++) {
        EXPECT_STATUS(write_later(dir, &err), SPT_E_INTERNAL);
        EXPECT_MSG(&err, "changed while it was saved");
    }
    EXPECT_EQ_I64(loads, 0); /* each was given back */
    EXPECT_TRUE(fault_every_alloc(write_bf16, dir) > 20);
    struct tensor_view large = {DT_F32, {2, {1 << 20, 1 << 12}}, four};
    buf b;
    buf_init(&b, 1 << 20);
    t5x_put_array(&b, &large); /* flax cuts these in pieces: we do not write them in the file */
    EXPECT_STATUS(b.st, SPT_E_FORMAT);
    buf_release(&b);
}

static void stale_names_are_kept_apart(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    char name[200] = "checkpoint_";
    memset(name + 11, '1', 100);
    strcpy(name + 111, ".tmp-5");
    EXPECT_OK(fs_make_dirs(test_path(dir, name), &err), &err);             /* no step */
    EXPECT_OK(fs_make_dirs(test_path(dir, "other.tmp-5"), &err), &err);    /* not ours */
    EXPECT_OK(fs_make_dirs(test_path(dir, "checkpoint_5.tmp-5"), &err), &err);
    EXPECT_OK(t5x_write(dir, &(struct t5x_save){.step = 1, .items = items, .count = 4, .target_dtype = DT_F32}, NULL, &err), &err);
    EXPECT_TRUE(fs_exists(test_path(dir, name)) && fs_exists(test_path(dir, "other.tmp-5")));
    EXPECT_TRUE(!fs_exists(test_path(dir, "checkpoint_5.tmp-5")));
}

static const unsigned char *whole_file(const char *path, size_t *n)
{
    char *p;
    spt_err err = {0};
    EXPECT_OK(fs_read_all(path, 1 << 20, &p, n, &err), &err);
    return (const unsigned char *)p;
}

static void arrays_that_change(void **state)
{
    (void)state;
    char dir[4000], step[4096], zarray[4200];
    spt_err err = {0};
    size_t n;
    t5x_reader *r;
    struct t5x_value v;
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    EXPECT_OK(t5x_write(dir, &(struct t5x_save){.step = 1, .items = items, .count = 4, .target_dtype = DT_F32}, NULL, &err), &err);
    snprintf(step, sizeof step, "%s/checkpoint_1", dir);
    snprintf(zarray, sizeof zarray, "%s/target.encoder.prompt.prompt.prompt/.zarray", step);
    const unsigned char *file = whole_file(test_path(step, "checkpoint"), &n);
    /* without a directory: what lies in arrays of its own is not here */
    EXPECT_OK(t5x_open_mem(file, n, NULL, &r, &err), &err);
    EXPECT_STR(t5x_directory(r), "");
    const struct t5x_leaf *l = t5x_find(r, "target/encoder/prompt/prompt/prompt");
    EXPECT_TRUE(l && l->in_zarr);
    EXPECT_OK(t5x_expect(r, &l, 1, &err), &err);
    EXPECT_STATUS(t5x_read(r, l, &v, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "lies in a directory of its own");
    t5x_close(r);
    t5x_close(NULL);
    static const char shape3[] = "{\"chunks\": [2, 2], \"compressor\": null, \"dtype\": \"<f4\", \"fill_value\": null, "
                                 "\"filters\": null, \"order\": \"C\", \"shape\": [2, 3], \"zarr_format\": 2}",
                      float64[] = "{\"chunks\": [2, 2], \"compressor\": null, \"dtype\": \"<f8\", \"fill_value\": null, "
                                  "\"filters\": null, \"order\": \"C\", \"shape\": [2, 2], \"zarr_format\": 2}";
    char with_slash[4100];
    snprintf(with_slash, sizeof with_slash, "%s/", step);
    for (int k = 0; k < 3; k++) {
        size_t size;
        const unsigned char *was = whole_file(zarray, &size);
        EXPECT_OK(t5x_open_mem(file, n, with_slash, &r, &err), &err);
        EXPECT_STR(t5x_directory(r), with_slash);
        l = t5x_find(r, "target/encoder/prompt/prompt/prompt");
        EXPECT_OK(t5x_read(r, l, &v, &err), &err);
        EXPECT_TRUE(!memcmp(v.view.data, four, sizeof four));
        t5x_release(&v);
        if (k == 2)
            EXPECT_TRUE(!unlink(zarray));
        else
            test_write(zarray, k ? float64 : shape3, strlen(k ? float64 : shape3));
        EXPECT_STATUS(t5x_read(r, l, &v, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, k == 2 ? "is missing" : "changed while it was read");
        t5x_close(r);
        if (k == 0) {
            EXPECT_STATUS(t5x_open_mem(file, n, step, &r, &err), SPT_E_FORMAT);
            EXPECT_MSG(&err, "[2, 2] in the checkpoint file, [2, 3] in its array");
        }
        test_write(zarray, was, size);
        mem_free((void *)(uintptr_t)was);
    }
    mem_free((void *)(uintptr_t)file);
    /* a spec that leaves the shape to the array, in a file of version 2: its uint16 are bfloat16 */
    static const char halves[] = "{\"chunks\": [2], \"compressor\": null, \"dtype\": \"<u2\", \"fill_value\": null, "
                                 "\"filters\": null, \"order\": \"C\", \"shape\": [2], \"zarr_format\": 2}";
    for (uint64_t version = 2; version <= 3; version++) {
        buf b;
        buf_init(&b, 4096);
        msgpack_put_map(&b, 2);
        msgpack_put_strz(&b, "version");
        msgpack_put_uint(&b, version);
        msgpack_put_strz(&b, "optimizer");
        msgpack_put_map(&b, 1);
        msgpack_put_strz(&b, "target");
        msgpack_put_map(&b, 1);
        msgpack_put_strz(&b, "w");
        msgpack_put_map(&b, 3);
        msgpack_put_strz(&b, "driver");
        msgpack_put_strz(&b, "zarr");
        msgpack_put_strz(&b, "kvstore");
        msgpack_put_map(&b, 1);
        msgpack_put_strz(&b, "path");
        msgpack_put_strz(&b, "w");
        msgpack_put_strz(&b, "metadata");
        msgpack_put_map(&b, 0);
        EXPECT_STATUS(t5x_open_mem(b.data, b.len, dir, &r, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "its array directory is missing");
        EXPECT_OK(fs_make_dirs(test_path(dir, "w"), &err), &err);
        test_write(test_path(dir, "w/.zarray"), halves, sizeof halves - 1);
        test_write(test_path(dir, "w/0"), "\x80\x3f\x00\x40", 4);
        EXPECT_OK(t5x_open_mem(b.data, b.len, dir, &r, &err), &err);
        l = t5x_find(r, "target/w");
        EXPECT_TRUE(l && l->shape.rank == 1 && l->shape.dim[0] == 2);
        EXPECT_EQ_I64(l->dtype, version == 2 ? DT_BF16 : DT_U16);
        EXPECT_OK(t5x_read(r, l, &v, &err), &err);
        float two[2];
        tensor_to_f32(&v.view, 0, 2, two);
        EXPECT_TRUE(two[0] == (version == 2 ? 1.f : 16256.f) && two[1] == (version == 2 ? 2.f : 16384.f));
        t5x_release(&v);
        t5x_close(r);
        EXPECT_OK(fs_remove_tree(test_path(dir, "w"), &err), &err);
        buf_release(&b);
    }
    /* a token that is no extension, and one of another kind */
    struct tensor_view view;
    EXPECT_STATUS(t5x_parse_array(&(msgpack_token){.type = MP_STR}, &view, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "is not an array");
    EXPECT_STATUS(t5x_parse_array(&(msgpack_token){.type = MP_EXT, .ext = 2}, &view, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "complex numbers are not supported");
}

static void directories_by_their_names(void **state)
{
    (void)state;
    char dir[3000], root[4000];
    spt_err err = {0};
    t5x_reader *r;
    int64_t step;
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    EXPECT_TRUE(getcwd(root, sizeof root) != NULL);
    EXPECT_OK(t5x_write(dir, &(struct t5x_save){.step = 3, .items = items, .count = 4, .target_dtype = DT_F32}, NULL, &err), &err);
    EXPECT_TRUE(!chdir(test_path(dir, "checkpoint_3")));
    const spt_status st = t5x_open("checkpoint", &r, &err); /* the file, here */
    EXPECT_TRUE(!chdir(root));
    EXPECT_OK(st, &err);
    t5x_close(r);
    EXPECT_TRUE(t5x_step_of("checkpoint_12", &step) && step == 12);
    EXPECT_TRUE(!t5x_step_of("checkpoint_", &step) && !t5x_step_of("checkpoint_1x", &step));
    EXPECT_TRUE(!t5x_step_of("checkpoint_1/", &step) && !t5x_step_of("checkpoint_:", &step));
    EXPECT_TRUE(!t5x_step_of("checkpoint_99999999999999999999", &step) && !t5x_step_of("point_1", &step));
    /* the newest one is no checkpoint of ours */
    EXPECT_OK(fs_make_dirs(test_path(dir, "checkpoint_9/state"), &err), &err);
    test_write(test_path(dir, "checkpoint_9/checkpoint"), "\x80", 1);
    EXPECT_STATUS(t5x_open(dir, &r, &err), SPT_E_FORMAT);
    EXPECT_OK(fs_remove_tree(test_path(dir, "checkpoint_9"), &err), &err);
    EXPECT_OK(fs_make_dirs(test_path(dir, "checkpoint_9"), &err), &err);
    EXPECT_STATUS(t5x_open(dir, &r, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "not a T5X checkpoint");
    static const struct {
        const char *bytes;
        size_t size;
        enum t5x_what what;
    } file[] = {{"\xde\0\0", 3, T5X_LEGACY}, {"\xdf\0\0\0\0", 5, T5X_LEGACY}, {"\x8f", 1, T5X_LEGACY},
                {"model_checkpoint_path: \"x\"", 26, T5X_TF}, {"model_checkpoint_paths ", 20, T5X_NOT},
                {"", 0, T5X_NOT}, {"\x93", 1, T5X_NOT}, {"\xdd", 1, T5X_NOT}};
    for (size_t i = 0; i < sizeof file / sizeof *file; i++) {
        test_write(test_path(dir, "checkpoint"), file[i].bytes, file[i].size);
        EXPECT_EQ_I64(t5x_detect(test_path(dir, "checkpoint")), file[i].what);
    }
}

/* --- sorting with failing disks ---------------------------------------------------------------------------- */

static int records; /* every one becomes a run; from 128 on runs are merged while more come */

static spt_status many_runs(void *ctx, spt_err *err)
{
    spill *s;
    const void *data = "";
    int64_t n = 0, last = -1;
    TRY(spill_new(ctx, "m", 24, &s, err));
    spt_status st = SPT_OK;
    for (int i = 0; i < records && !st; i++) {
        uint8_t key[SPILL_KEY] = {(uint8_t)(i * 37)};
        st = spill_add(s, key, "0123456789abcdef", 16, err);
    }
    if (!st)
        st = spill_sort(s, err);
    while (!st && data) {
        const uint8_t *key;
        size_t size;
        st = spill_next(s, &key, &data, &size, err);
        if (!st && data) {
            EXPECT_TRUE(size == 16 && !memcmp(data, "0123456789abcdef", 16) && key[0] >= last);
            last = key[0];
            n++;
        }
    }
    spill_close(s);
    if (!st)
        EXPECT_EQ_I64(n, records);
    return st;
}

static void runs_on_failing_disks(void **state)
{
    (void)state;
    char dir[4096];
    spt_err err = {0};
    spill *s;
    snprintf(dir, sizeof dir, "%s/spill", test_tmpdir());
    records = 300;
    EXPECT_OK(many_runs(dir, &err), &err);
    EXPECT_TRUE(fault_every_alloc_stack(many_runs, dir, 1) > 10);
    records = 6;
    EXPECT_TRUE(fault_every_syscall(many_runs, dir, EIO) > 20);
    EXPECT_TRUE(fault_every_syscall(many_runs, dir, FAULT_EOF) > 20);
    /* a run that becomes shorter behind our back, at every length */
    for (int cut = 0; cut < 30; cut++) {
        const void *data = "";
        const uint8_t *key;
        size_t size;
        char path[4200];
        EXPECT_OK(spill_new(dir, "cut", 24, &s, &err), &err);
        for (int i = 0; i < 3; i++) {
            uint8_t k[SPILL_KEY] = {(uint8_t)i};
            EXPECT_OK(spill_add(s, k, "0123456789abcdef", 16, &err), &err);
        }
        snprintf(path, sizeof path, "%s/cut.run-0", dir);
        EXPECT_TRUE(!truncate(path, cut));
        spt_status st = spill_sort(s, &err);
        while (!st && data)
            st = spill_next(s, &key, &data, &size, &err);
        EXPECT_STATUS(st, cut ? SPT_E_IO : SPT_OK);
        if (st)
            EXPECT_MSG(&err, "became shorter");
        spill_close(s);
    }
    EXPECT_OK(spill_new(dir, "large", 24, &s, &err), &err);
    uint8_t key[SPILL_KEY] = {0};
    EXPECT_STATUS(spill_add(s, key, "", SIZE_MAX / 2, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "a record of");
    spill_close(s);
    spill_close(NULL);
}

/* --- in a bucket ----------------------------------------------------------------------------------------------- */

#ifdef SPT_COVERAGE
enum { STRIDE = 1 };
#else
enum { STRIDE = 8 }; /* SPT_TEST_SLOW=1: all of them */
#endif

struct remote {
    const char *path;
    bool t5x;
};

static spt_status read_all_of(const struct remote *m, spt_err *err)
{
    store *s;
    size_t index[8], n = 0;
    TRY(fs_set_cache(test_tmpdir(), NULL, err));
    spt_status st = store_open(m->path, NULL, &s, err);
    if (st)
        return st;
    for (size_t i = 0; i < store_count(s) && n < 8; i++)
        index[n++] = i;
    st = store_expect(s, index, n, err);
    for (size_t i = 0; i < n && !st; i++) {
        struct store_data d = {0};
        st = store_load(s, i, &d, err);
        if (!st && store_at(s, i)->bytes == 16 && store_at(s, i)->dtype == DT_F32)
            EXPECT_TRUE(!memcmp(d.view.data, four, 16));
        store_release(s, &d);
    }
    store_close(s);
    return st;
}

static spt_status read_remote(void *ctx, spt_err *err)
{
    const spt_status st = read_all_of(ctx, err);
    fs_release();
    return st;
}

static void stores_in_a_bucket(void **state)
{
    (void)state;
    char dir[3000], bucket[3100], command[7000];
    spt_err err = {0};
    struct test_server server;
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    /* an array of several chunks, a few tensors of which only some are wanted, shards */
    static float large[1 << 16];
    const struct t5x_item more[] = {items[0], items[1], items[3], {"target/large", {DT_F32, {2, {256, 256}}, large}, true}};
    EXPECT_OK(t5x_write(dir, &(struct t5x_save){.step = 1, .items = more, .count = 4, .target_dtype = DT_F32}, NULL, &err), &err);
    EXPECT_OK(t5x_write(dir, &(struct t5x_save){.step = 2, .items = more, .count = 4, .target_dtype = DT_F32}, NULL, &err), &err);
    const struct store_tensor t[] = {{"a", {DT_F32, {1, {4}}, four}}, {"b", {DT_F32, {2, {256, 256}}, large}},
                                     {"c", {DT_F32, {1, {4}}, four}}};
    EXPECT_OK(safetensors_write(test_path(dir, "three.safetensors"), t, 3, NULL, 0, &err), &err);
    EXPECT_OK(fs_make_dirs(test_path(dir, "model"), &err), &err);
    EXPECT_OK(safetensors_write(test_path(dir, "model/s-1.safetensors"), t, 1, NULL, 0, &err), &err);
    EXPECT_OK(safetensors_write(test_path(dir, "model/s-2.safetensors"), t + 1, 2, NULL, 0, &err), &err);
    static const char index[] = "{\"weight_map\": {\"a\": \"s-1.safetensors\", \"b\": \"s-2.safetensors\", "
                                "\"c\": \"s-2.safetensors\"}}";
    test_write(test_path(dir, "model/model.safetensors.index.json"), index, sizeof index - 1);
    test_write(test_path(dir, "model/config.json"), "{}", 2);
    /* the array cut into chunks of 64 rows: what others write */
    snprintf(command, sizeof command,
             "cd %s && for s in 1 2; do cd checkpoint_$s/target.large && python3 - <<'P'\n"
             "import gzip, json\n"
             "d = json.load(open('.zarray'))\n"
             "d['chunks'] = [64, 256]\n"
             "json.dump(d, open('.zarray', 'w'))\n"
             "for i in range(4):\n"
             "    open(f'{i}.0', 'wb').write(gzip.compress(bytes(64 * 256 * 4)))\n"
             "P\n"
             "cd ../..; done; mkdir checkpoint_3; echo x >checkpoint_3/part", dir);
    EXPECT_EQ_I64(system(command), 0);
    snprintf(bucket, sizeof bucket, "data=%s", dir);
    test_server_start(&server, (const char *[]){"--bucket", bucket, NULL});
    setenv("STORAGE_EMULATOR_HOST", server.host, 1);
    setenv("SPT_HTTP_TIMEOUT", "300", 1);
    setenv("SPT_HTTP_RETRIES", "0", 1);
    static const struct remote of[] = {{"gs://data/checkpoint_1", true}, {"gs://data", true}, /* 3 is unfinished */
                                       {"gs://data/three.safetensors", false}, {"gs://data/model", false}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        EXPECT_OK(read_remote((void *)(uintptr_t)&of[i], &err), &err);
        EXPECT_TRUE(fault_every_alloc_stack(read_remote, (void *)(uintptr_t)&of[i], STRIDE) > 5);
    }
    int64_t step = 0;
    EXPECT_OK(t5x_latest("gs://data", &step, &err), &err);
    EXPECT_EQ_I64(step, 2);
    /* of three tensors the two small ones: the large one between them stays where it is */
    store *s;
    EXPECT_OK(fs_set_cache(test_tmpdir(), NULL, &err), &err);
    EXPECT_OK(store_open("gs://data/three.safetensors", NULL, &s, &err), &err);
    size_t a = 0, c = 0;
    EXPECT_TRUE(store_find(s, "a", &a) && store_find(s, "c", &c));
    EXPECT_OK(store_expect(s, (const size_t[]){a, c}, 2, &err), &err);
    EXPECT_OK(store_expect(s, NULL, 0, &err), &err);
    float got[4];
    EXPECT_OK(store_read_f32(s, c, got, &err), &err);
    EXPECT_TRUE(!memcmp(got, four, sizeof four));
    store_close(s);
    fs_release();
    test_server_stop(&server);
    unsetenv("STORAGE_EMULATOR_HOST");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_are_found),
        cmocka_unit_test(directories_beyond_the_limit),
        cmocka_unit_test(configurations_of_adapters),
        cmocka_unit_test(shapes_of_tasks),
        cmocka_unit_test(odd_rows_and_sizes),
        cmocka_unit_test(writer_of_safetensors),
        cmocka_unit_test(non_finite_values),
        cmocka_unit_test(long_names_of_tensors),
        cmocka_unit_test(weights_of_adapters),
        cmocka_unit_test(metadata_of_models),
        cmocka_unit_test(indices_of_shards),
        cmocka_unit_test(checkpoints_that_cannot_be_written),
        cmocka_unit_test(stale_names_are_kept_apart),
        cmocka_unit_test(arrays_that_change),
        cmocka_unit_test(directories_by_their_names),
        cmocka_unit_test(runs_on_failing_disks),
        cmocka_unit_test(stores_in_a_bucket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
