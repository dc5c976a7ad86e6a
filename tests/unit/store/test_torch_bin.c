#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/torch_bin.h"
#include "support/torch_file.h"

/* --- what is read -------------------------------------------------------------------------- */

static void reads_views_and_strides(void **state)
{
    (void)state;
    static const struct {
        struct torch_desc d;
        float want[4];
        size_t n;
    } cases[] = {
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {2, 1}, false}, {1, -2, 3.5f, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {1, 2}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 1, 1, {2}, {2}, false}, {-2, 4}, 2},
        {{"torch\nFloatStorage", "0", 4, 3, 0, {0}, {0}, false}, {4}, 1},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {1, 4}, {77, 1}, false}, {1, -2, 3.5f, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 3, {2, 1, 2}, {1, 9, 2}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 3, {2, 2, 1}, {1, 2, 7}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 0, 4, {1, 2, 2, 1}, {1, 1, 2, 1}, false}, {1, 3.5f, -2, 4}, 4},
        {{"torch\nFloatStorage", "0", 4, 4, 2, {0, 5}, {5, 1}, false}, {0}, 0},
        {{"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {0, 0}, false}, {1, 1, 1, 1}, 4},
    };
    for (int style = 0; style < 2; style++) {
        for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
            buf p, z;
            buf_init(&p, 1 << 20);
            buf_init(&z, 1 << 20);
            torch_put_pickle(&p, &cases[k].d);
            torch_put_file(&z, &p, (enum torch_style)style);
            store *s = NULL;
            spt_err err = {0};
            float out[4] = {0};
            EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
            EXPECT_EQ_I64(store_count(s), 1);
            EXPECT_STR(store_at(s, 0)->name, "w");
            EXPECT_EQ_I64(store_at(s, 0)->elements, cases[k].n);
            EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
            assert_memory_equal(out, cases[k].want, cases[k].n * sizeof *out);
            store_close(s);
            buf_release(&p);
            buf_release(&z);
        }
    }
}

/* --- containers ----------------------------------------------------------------------------- */

static void check_zip(const struct torch_member *f, size_t n, const char *refused)
{
    buf z;
    buf_init(&z, 1 << 20);
    torch_put_zip(&z, f, n, TORCH_PLAIN);
    spt_err err = {0};
    const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
    if (st != SPT_E_FORMAT || !strstr(err.msg, refused))
        fail_msg("%s, \"%s\" does not contain \"%s\"", spt_status_text(st), err.msg, refused);
    buf_release(&z);
}

static void bad_containers(void **state)
{
    (void)state;
    const struct torch_member pkl = {"a/data.pkl", "}.", 2};
    const struct torch_member twice[] = {pkl, pkl};
    const struct torch_member two_prefixes[] = {pkl, {"b/data/0", torch_data4, 16}};
    const struct torch_member no_prefix[] = {{"data.pkl", "}.", 2}};
    const struct torch_member dotdot[] = {pkl, {"a/../b", "x", 1}};
    const struct torch_member npz[] = {{"prompt.npy", "x", 1}};
    const struct torch_member no_pickle[] = {{"a/data/0", torch_data4, 16}};
    const struct torch_member big_endian[] = {pkl, {"a/byteorder", "big", 3}};
    check_zip(NULL, 0, "without entries");
    check_zip(twice, 2, "two ZIP entries are named");
    check_zip(two_prefixes, 2, "outside");
    check_zip(no_prefix, 1, "outside");
    check_zip(dotdot, 2, "forbidden name");
    check_zip(npz, 1, "NumPy .npz");
    check_zip(no_pickle, 1, "without data.pkl");
    check_zip(big_endian, 2, "not little endian");
    char name[200], want[200]; /* of long names 80 bytes are shown */
    snprintf(name, sizeof name, "a/../%0100d", 0);
    snprintf(want, sizeof want, "ZIP entry 'a/../%075d' has a forbidden name", 0);
    const struct torch_member long_name[] = {pkl, {name, "x", 1}};
    check_zip(long_name, 2, want);
    snprintf(name, sizeof name, "a/../%075d", 0);
    check_zip(long_name, 2, want);
}

/* An entry whose header lies inside the data of another one. */
static void nested_entries(void **state)
{
    (void)state;
    for (size_t more = 0; more < 2; more++) {
        buf inner, z;
        buf_init(&inner, 100);
        buf_init(&z, 1 << 20);
        torch_put_le(&inner, 0x04034b50, 4);
        torch_put_le(&inner, 0, 2 + 2 + 2 + 4 + 4);
        torch_put_le(&inner, 16, 4);
        torch_put_le(&inner, 16, 4);
        torch_put_le(&inner, 3, 2);
        torch_put_le(&inner, 0, 2);
        buf_adds(&inner, "a/y");
        const size_t header = inner.len;
        torch_put_le(&inner, 0, more); /* the data of y begin in those of x, or just behind them */
        const struct torch_member f[] = {{"a/data.pkl", "}.", 2}, {"a/x", buf_str(&inner), inner.len}, {"a/y", torch_data4, 16}};
        torch_put_zip(&z, f, 3, TORCH_PLAIN);
        size_t x = 0, last = 0;
        for (size_t i = 0; i + 4 < z.len; i++) {
            if (!x && !memcmp(z.data + i, "a/xPK", 5))
                x = i + 3;
            if (!memcmp(z.data + i, "PK\1\2", 4))
                last = i;
        }
        EXPECT_TRUE(x && z.data[last + 42] && !z.data[last + 43] && header == 33);
        z.data[last + 42] = (char)x;
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
        if (more) {
            EXPECT_STATUS(st, SPT_E_FORMAT);
            EXPECT_MSG(&err, "ZIP entries 'a/x' and 'a/y' overlap");
        } else {
            EXPECT_OK(st, &err);
        }
        buf_release(&inner);
        buf_release(&z);
    }
}

/* One field of the directory or of a local header is replaced. */
static void changed_fields(void **state)
{
    (void)state;
    static const struct torch_desc d = TORCH_WHOLE;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    torch_put_pickle(&p, &d);
    torch_put_file(&z, &p, TORCH_AS_SAVED);
    size_t central = 0;
    for (size_t i = 0; i + 4 < z.len && !central; i++)
        central = memcmp(z.data + i, "PK\1\2", 4) ? 0 : i;
    const struct {
        size_t at, n;
        uint64_t value;
    } changes[] = {
        {central + 8, 2, 1},           /* encrypted */
        {central + 8, 2, 1 << 5},      /* a patch */
        {central + 8, 2, 1 << 6},      /* strongly encrypted */
        {central + 8, 2, 1 << 13},     /* headers masked */
        {central + 34, 2, 1},          /* on another disk */
        {central + 10, 2, 8},          /* deflated */
        {central + 20, 4, 1},          /* sizes differ */
        {central + 24, 4, 1},
        {central + 20, 4, UINT32_MAX}, /* ZIP64 without its field */
        {central + 24, 4, UINT32_MAX},
        {central + 28, 2, 0xffff},     /* name length */
        {central + 30, 2, 0xffff},     /* extra length */
        {central + 42, 4, 1},          /* local offset */
        {central + 42, 4, UINT32_MAX},
        {central + 20, 8, 0x7fffffff7fffffff}, /* beyond the file */
        {central + 20, 8, 0x0000100000001000},
        {0, 4, 0},                     /* local signature */
        {8, 2, 8},                     /* local method */
        {18, 4, 5},                    /* local size */
        {26, 2, 0},                    /* local name length */
        {28, 2, 0xffff},               /* local extra length */
        {30, 1, 'x'},                  /* local name */
        {z.len - 22 - 20 + 8, 8, 0},   /* ZIP64 record elsewhere */
        {z.len - 22 - 20 + 8, 8, UINT64_MAX},
        {z.len - 22 - 20 - 56 + 32, 8, UINT64_MAX}, /* count */
        {z.len - 22 - 20 - 56 + 32, 8, 1u << 31},
        {z.len - 22 - 20 - 56 + 40, 8, UINT64_MAX}, /* directory size */
        {z.len - 22 - 20 - 56 + 48, 8, UINT64_MAX}, /* directory offset */
        {z.len - 22 - 20 - 56 + 48, 8, INT64_MAX},
    };
    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        char *copy = malloc(z.len);
        memcpy(copy, z.data, z.len);
        for (size_t i = 0; i < changes[k].n; i++)
            copy[changes[k].at + i] = (char)(changes[k].value >> (8 * i));
        spt_err err = {0};
        const spt_status st = torch_open_exact(copy, z.len, &err);
        if (st != SPT_E_FORMAT || !strstr(err.msg, "ZIP"))
            fail_msg("change %zu: %s (%s)", k, spt_status_text(st), err.msg);
        free(copy);
    }
    buf_release(&p);
    buf_release(&z);
}

/* Sizes and offsets that stand in the ZIP64 extra field (files over 4 GB have them). */
static void zip64_fields(void **state)
{
    (void)state;
    static const struct torch_desc d = TORCH_WHOLE;
    buf p, z, y;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_init(&y, 1 << 20);
    torch_put_pickle(&p, &d);
    const struct torch_member f[] = {{"a/data.pkl", buf_str(&p), p.len}, {"a/data/0", torch_data4, 16}};
    torch_put_zip(&z, f, 2, TORCH_PLAIN);
    size_t last = 0, dir = 0;
    for (size_t i = 0; i + 4 < z.len; i++)
        if (!memcmp(z.data + i, "PK\1\2", 4)) {
            dir = dir ? dir : i;
            last = i;
        }
    for (size_t have = 0; have <= 24; have += 8) { /* with 24 bytes the field is complete */
        buf_clear(&y);
        buf_add(&y, z.data, last + 46 + 8);
        memset(y.data + last + 20, 0xff, 8);  /* sizes */
        memset(y.data + last + 42, 0xff, 4);  /* offset */
        y.data[last + 30] = (char)(4 + 3 + 4 + have);
        torch_put_le(&y, 0x4246, 2), torch_put_le(&y, 3, 2), buf_adds(&y, "abc"); /* another field in front */
        torch_put_le(&y, 1, 2), torch_put_le(&y, have, 2);
        if (have > 0)
            torch_put_le(&y, 16, 8);
        if (have > 8)
            torch_put_le(&y, 16, 8);
        if (have > 16)
            torch_put_le(&y, (unsigned char)z.data[last + 42] | (uint64_t)(unsigned char)z.data[last + 43] << 8,
               8);
        const size_t end = y.len;
        buf_add(&y, z.data + z.len - 22, 22);
        for (size_t i = 0; i < 4; i++)
            y.data[end + 12 + i] = (char)((end - dir) >> (8 * i));
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&y), y.len, &err);
        if ((st == SPT_OK) != (have == 24))
            fail_msg("%zu bytes: %s (%s)", have, spt_status_text(st), err.msg);
    }
    buf_release(&p);
    buf_release(&z);
    buf_release(&y);
}

static void truncated_and_changed(void **state)
{
    (void)state;
    static const struct torch_desc d = TORCH_WHOLE;
    for (int style = 0; style < 2; style++) {
        buf p, z;
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        torch_put_pickle(&p, &d);
        torch_put_file(&z, &p, (enum torch_style)style);
        for (size_t n = 0; n < z.len; n++) {
            spt_err err = {0};
            EXPECT_STATUS(torch_open_exact(buf_str(&z), n, &err), SPT_E_FORMAT);
        }
        for (size_t at = 0; at < z.len; at++) {
            const char old = z.data[at];
            for (int v = 0; v < 256; v += 5) {
                spt_err err = {0};
                z.data[at] = (char)(old ^ v);
                const spt_status st = torch_open_exact(buf_str(&z), z.len, &err);
                EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
            }
            z.data[at] = old;
        }
        buf_release(&p);
        buf_release(&z);
    }
}

/* --- legacy container ----------------------------------------------------------------------- */

/* What stands in front of the root: magic number, protocol, system. */
static void legacy_head(buf *b, bool little)
{
    buf_add(b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    buf_add(b, "\x80\x02M\xe9\x03.", 6);
    buf_adds(b, "\x80\x02}(");
    torch_put_str(b, "protocol_version");
    buf_adds(b, "M\xe9\x03");
    torch_put_str(b, "little_endian");
    buf_addc(b, little ? '\x88' : '\x89');
    torch_put_str(b, "type_sizes");
    buf_adds(b, "}(");
    torch_put_str(b, "int");
    buf_adds(b, "K\x04uu.");
}

static void legacy_of(buf *b, const struct torch_desc *d, bool little, const char *key, uint64_t count)
{
    legacy_head(b, little);
    torch_put_pickle(b, d);
    buf_adds(b, "\x80\x02]");
    torch_put_str(b, key);
    buf_adds(b, "a.");
    torch_put_le(b, count, 8);
    buf_add(b, torch_data4, 16);
}

/* torch.save(tensor) of an old torch; and a dict of which only one value is a tensor. */
static void legacy_roots(void **state)
{
    (void)state;
    static const struct torch_desc d = {"torch\nFloatStorage", "94028312", 4, 1, 1, {3}, {1}, true};
    for (int dict = 0; dict < 2; dict++) {
        buf b;
        buf_init(&b, 1 << 20);
        legacy_head(&b, true);
        buf_adds(&b, "\x80\x02");
        if (dict) {
            buf_adds(&b, "}(");
            torch_put_str(&b, "w");
        }
        torch_put_tensor(&b, &d);
        buf_adds(&b, dict ? "u." : ".");
        buf_adds(&b, "\x80\x02]");
        torch_put_str(&b, d.key);
        buf_adds(&b, "a.");
        torch_put_le(&b, 4, 8);
        buf_add(&b, torch_data4, 16);
        store *s = NULL;
        spt_err err = {0};
        float got[3];
        EXPECT_OK(torch_bin_open_mem(buf_str(&b), b.len, &s, &err), &err);
        EXPECT_EQ_I64(store_count(s), 1);
        EXPECT_OK(store_read_f32(s, 0, got, &err), &err);
        EXPECT_TRUE(!memcmp(got, torch_data4 + 1, sizeof got));
        store_close(s);
        buf_release(&b);
    }
}

static void storages_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *storage;
        enum dtype t;
    } of[] = {{"torch\nFloatStorage", DT_F32},    {"torch\nDoubleStorage", DT_F64}, {"torch\nHalfStorage", DT_F16},
              {"torch\nBFloat16Storage", DT_BF16}, {"torch\nLongStorage", DT_I64},   {"torch\nIntStorage", DT_I32},
              {"torch\nShortStorage", DT_I16},    {"torch\nCharStorage", DT_I8},    {"torch\nByteStorage", DT_U8},
              {"torch\nBoolStorage", DT_BOOL},    {"torch.storage\nUntypedStorage", DT_U8}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const int64_t n = 16 / (int64_t)dtype_size(of[i].t);
        const struct torch_desc d = {of[i].storage, "0", n, 0, 1, {n}, {1}, false};
        buf p, z;
        store *s = NULL;
        spt_err err = {0};
        buf_init(&p, 1 << 20);
        buf_init(&z, 1 << 20);
        torch_put_pickle(&p, &d);
        torch_put_file(&z, &p, TORCH_AS_SAVED);
        EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
        EXPECT_EQ_I64(store_at(s, 0)->dtype, of[i].t);
        EXPECT_EQ_I64(store_at(s, 0)->elements, n);
        store_close(s);
        buf_release(&p);
        buf_release(&z);
    }
}

static void long_names_are_cut_in_messages(void **state)
{
    (void)state;
    for (size_t n = 80; n <= 81; n++) {
        char name[100], want[200];
        buf p, z;
        buf_init(&p, 1000);
        buf_init(&z, 1 << 20);
        memset(name, 'n', n);
        name[n] = '\0';
        buf_adds(&p, "}");
        torch_put_str(&p, name);
        buf_adds(&p, "Ns.");
        torch_put_file(&z, &p, TORCH_PLAIN);
        spt_err err = {0};
        EXPECT_STATUS(torch_open_exact(buf_str(&z), z.len, &err), SPT_E_FORMAT);
        snprintf(want, sizeof want, "entry '%.80s' is None", name);
        EXPECT_MSG(&err, want);
        buf_release(&p);
        buf_release(&z);
    }
}

static void legacy_container(void **state)
{
    (void)state;
    static const struct torch_desc d = {"torch\nFloatStorage", "94028312", 4, 1, 1, {3}, {1}, true};
    buf b;
    buf_init(&b, 1 << 20);
    legacy_of(&b, &d, true, d.key, 4);
    store *s = NULL;
    spt_err err = {0};
    float out[3];
    EXPECT_OK(torch_bin_open_mem(buf_str(&b), b.len, &s, &err), &err);
    EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
    assert_memory_equal(out, torch_data4 + 1, sizeof out);
    store_close(s);
    for (size_t n = 0; n < b.len; n++)
        EXPECT_STATUS(torch_open_exact(buf_str(&b), n, &err), SPT_E_FORMAT);
    buf_addc(&b, 0);
    EXPECT_STATUS(torch_open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "behind the last storage");
    static const struct {
        bool little;
        const char *key;
        uint64_t count;
        const char *refused;
    } bad[] = {
        {false, "94028312", 4, "not little endian"},
        {true, "94028313", 4, "used by no tensor"},
        {true, "94028312", 3, "has 3 elements"},
        {true, "94028312", UINT64_MAX, "elements"},
        {true, "94028312", 0, "has 0 elements"},
    };
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        buf_clear(&b);
        legacy_of(&b, &d, bad[k].little, bad[k].key, bad[k].count);
        EXPECT_STATUS(torch_open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, bad[k].refused);
    }
    struct torch_desc longer = d;
    longer.numel = 5;
    buf_clear(&b);
    legacy_of(&b, &longer, true, d.key, 5);
    EXPECT_STATUS(torch_open_exact(buf_str(&b), b.len, &err), SPT_E_FORMAT);
    /* A storage without elements ends with its count, which may be cut short, too. */
    const struct torch_desc empty = {"torch\nFloatStorage", "94028312", 0, 0, 1, {0}, {1}, true};
    buf_clear(&b);
    legacy_of(&b, &empty, true, empty.key, 0);
    b.len -= 16;
    EXPECT_OK(torch_open_exact(buf_str(&b), b.len, &err), &err);
    for (size_t n = 0; n < b.len; n++)
        EXPECT_STATUS(torch_open_exact(buf_str(&b), n, &err), SPT_E_FORMAT);
    buf_release(&b);
}

static void legacy_two_storages(void **state)
{
    (void)state;
    struct torch_desc a = {"torch\nFloatStorage", "222", 4, 0, 1, {4}, {1}, true};
    struct torch_desc b = {"torch\nShortStorage", "1111", 8, 2, 1, {3}, {2}, true};
    static const int16_t shorts[8] = {0, 1, -2, 3, 4, 5, 6, 7};
    buf f;
    buf_init(&f, 1 << 20);
    for (int bad = 0; bad < 5; bad++) {
        buf_clear(&f);
        buf_add(&f, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
        buf_adds(&f, bad == 1 ? "M\xe8\x03." : "M\xe9\x03.");
        buf_adds(&f, bad == 2 ? "N." : "}.");
        buf_adds(&f, "}(");
        torch_put_str(&f, "x"), torch_put_tensor(&f, &a);
        torch_put_str(&f, "y"), torch_put_tensor(&f, &b);
        torch_put_str(&f, "z"), torch_put_tensor(&f, &a);
        buf_adds(&f, "u.](");
        torch_put_str(&f, "1111");
        if (bad == 3)
            buf_adds(&f, "N");
        torch_put_str(&f, bad == 4 ? "1111" : "222");
        buf_adds(&f, "e.");
        torch_put_le(&f, 8, 8), buf_add(&f, shorts, sizeof shorts);
        torch_put_le(&f, 4, 8), buf_add(&f, torch_data4, sizeof torch_data4);
        static const char *const parts[] = {"", "protocol number is not", "sys_info is not a dict",
                                            "key is not a string", "listed twice"};
        spt_err err = {0};
        const spt_status st = torch_open_exact(buf_str(&f), f.len, &err);
        if ((st == SPT_OK) != (bad == 0) || !strstr(err.msg, parts[bad]))
            fail_msg("%d: %s (%s)", bad, spt_status_text(st), err.msg);
        if (bad)
            continue;
        store *s = NULL;
        float out[4];
        EXPECT_OK(torch_bin_open_mem(buf_str(&f), f.len, &s, &err), &err);
        EXPECT_OK(store_read_f32(s, 1, out, &err), &err);
        EXPECT_TRUE(out[0] == -2 && out[1] == 4 && out[2] == 6);
        EXPECT_OK(store_read_f32(s, 2, out, &err), &err);
        assert_memory_equal(out, torch_data4, sizeof torch_data4);
        store_close(s);
    }
    buf_release(&f);
}

static void legacy_many_storages(void **state)
{
    (void)state;
    enum { N = 37 };
    buf f;
    char key[8];
    buf_init(&f, 1 << 20);
    buf_add(&f, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.M\xe9\x03.}.}(", 23);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof key, "%d", i * 7919 % 1000);
        const struct torch_desc d = {"torch\nByteStorage", key, 1, 0, 0, {0}, {0}, true};
        torch_put_str(&f, key);
        torch_put_tensor(&f, &d);
    }
    buf_adds(&f, "u.](");
    for (int i = N - 1; i >= 0; i--) {
        snprintf(key, sizeof key, "%d", i * 7919 % 1000);
        torch_put_str(&f, key);
    }
    buf_adds(&f, "e.");
    for (int i = N - 1; i >= 0; i--) {
        torch_put_le(&f, 1, 8);
        torch_put_le(&f, (uint64_t)i, 1);
    }
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(torch_bin_open_mem(buf_str(&f), f.len, &s, &err), &err);
    for (size_t i = 0; i < N; i++) {
        float v;
        EXPECT_OK(store_read_f32(s, i, &v, &err), &err);
        EXPECT_EQ_F64(v, (double)i);
    }
    store_close(s);
    buf_release(&f);
}

static void bare_tensor(void **state)
{
    (void)state;
    static const struct torch_desc d = TORCH_WHOLE;
    buf p, z;
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    buf_adds(&p, "\x80\x02");
    torch_put_tensor(&p, &d);
    buf_addc(&p, '.');
    torch_put_file(&z, &p, TORCH_AS_SAVED);
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(torch_bin_open_mem(buf_str(&z), z.len, &s, &err), &err);
    EXPECT_STR(store_at(s, 0)->name, "tensor");
    store_close(s);
    buf_release(&p);
    buf_release(&z);
}

/* --- files of the reference ------------------------------------------------------------------ */

static void equal_prompts(const char *golden, const char *a, const char *b)
{
    char pa[1024], pb[1024];
    store *x = NULL, *y = NULL;
    spt_err err = {0};
    snprintf(pa, sizeof pa, "%s/hf/peft_prompt/%s", golden, a);
    snprintf(pb, sizeof pb, "%s/hf/peft_prompt/%s", golden, b);
    EXPECT_OK(store_open(pa, NULL, &x, &err), &err);
    EXPECT_OK(store_open(pb, NULL, &y, &err), &err);
    EXPECT_STR(store_at(x, 0)->name, "prompt_embeddings");
    EXPECT_STR(store_at(y, 0)->name, "prompt_embeddings");
    struct store_data dx = {0}, dy = {0};
    EXPECT_OK(store_load(x, 0, &dx, &err), &err);
    EXPECT_OK(store_load(y, 0, &dy, &err), &err);
    EXPECT_TRUE(shape_equal(&dx.view.shape, &dy.view.shape));
    assert_memory_equal(dx.view.data, dy.view.data, store_at(x, 0)->bytes);
    store_release(x, &dx);
    store_release(y, &dy);
    store_close(x);
    store_close(y);
}

static void golden_containers_agree(void **state)
{
    (void)state;
    const char *golden = test_golden_dir();
    if (!golden)
        skip();
    equal_prompts(golden, "sub1/adapter_model.safetensors", "sub1_bin/adapter_model.bin");
    equal_prompts(golden, "sub1/adapter_model.safetensors", "sub1_legacy_bin/adapter_model.bin");
    equal_prompts(golden, "sub2/adapter_model.safetensors", "sub2_bin/adapter_model.bin");
}

/* --- faults ------------------------------------------------------------------------------- */

static spt_status read_case(void *ctx, spt_err *err)
{
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    float out[4];
    const spt_status st = store_read_f32(s, 0, out, err);
    store_close(s);
    return st;
}

static void faults(void **state)
{
    (void)state;
    static const struct torch_desc zip = {"torch\nFloatStorage", "0", 4, 0, 2, {2, 2}, {1, 2}, false};
    static const struct torch_desc old = {"torch\nFloatStorage", "7", 4, 0, 2, {2, 2}, {1, 2}, true};
    buf p, z;
    char path[1024];
    buf_init(&p, 1 << 20);
    buf_init(&z, 1 << 20);
    for (int legacy = 0; legacy < 2; legacy++) {
        buf_clear(&p);
        buf_clear(&z);
        torch_put_pickle(&p, &zip);
        if (legacy)
            legacy_of(&z, &old, true, old.key, 4);
        else
            torch_put_file(&z, &p, TORCH_AS_SAVED);
        snprintf(path, sizeof path, "%s/x.bin", test_tmpdir());
        test_write(path, buf_str(&z), z.len);
        EXPECT_TRUE(fault_every_alloc(read_case, path) > 5);
        EXPECT_TRUE(fault_every_syscall(read_case, path, EIO) > 3);
    }
    buf_release(&p);
    buf_release(&z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_views_and_strides),
        cmocka_unit_test(nested_entries),
        cmocka_unit_test(bad_containers),
        cmocka_unit_test(changed_fields),
        cmocka_unit_test(zip64_fields),
        cmocka_unit_test(truncated_and_changed),
        cmocka_unit_test(legacy_container),
        cmocka_unit_test(legacy_roots),
        cmocka_unit_test(storages_of_every_kind),
        cmocka_unit_test(long_names_are_cut_in_messages),
        cmocka_unit_test(legacy_two_storages),
        cmocka_unit_test(legacy_many_storages),
        cmocka_unit_test(bare_tensor),
        cmocka_unit_test(golden_containers_agree),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
