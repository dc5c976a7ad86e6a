/* ckpt/ on a file system whose power can go: reliability.md K2, K3, K6, K7, K8, K11.
 *
 * A run is recorded once on memfs; then for every prefix of its file operations, for each of six
 * outcomes and for SPT_TEST_SEEDS seeds (default 1), the file system that the next boot finds is
 * built and a trainer recovers on it. Rules:
 *   - a state whose save had returned is there, or a later one; never one that was not begun;
 *   - what is loaded is exactly what was saved;
 *   - every log has at least its recorded length, and those bytes are right;
 *   - the trainer can go on: the next save succeeds, and no temporary is left behind.
 * SPT_TEST_COMPOUND=1 repeats recoveries with each system call failing once (K3). */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "support/memfs.h"

enum { STEPS = 6, BIG = 5000, LINE = 16 };

static const struct ckpt_opts opts = {.keep = 2, .keep_best = true};

struct content {
    float big[BIG]; /* more than one block of the manifest */
    int64_t step, variant;
    char name[32];
    struct ckpt_item items[2];
    struct ckpt_export export;
    struct ckpt_log logs[2];
    struct ckpt_state s;
};

/* `variant` tells two contents of one step apart. */
static const struct ckpt_state *content(struct content *c, int64_t step, int64_t variant)
{
    *c = (struct content){.step = step, .variant = variant};
    for (int i = 0; i < BIG; i++)
        c->big[i] = (float)(step * 1000 + variant * 100 + i % 97);
    snprintf(c->name, sizeof c->name, "prompt-%lld.txt", (long long)step);
    c->items[0] = (struct ckpt_item){"big", {DT_F32, shape_1d(BIG), c->big}};
    c->items[1] = (struct ckpt_item){"variant", {DT_I64, {0}, &c->variant}};
    c->export = (struct ckpt_export){c->name, c->big, 3000};
    c->logs[0] = (struct ckpt_log){"loss.jsonl", (uint64_t)step * LINE};
    c->logs[1] = (struct ckpt_log){"train/a/events", (uint64_t)step * LINE};
    c->s = (struct ckpt_state){.step = step, .items = c->items, .item_count = 2,
                               .exports = &c->export, .export_count = 1,
                               .logs = c->logs, .log_count = 2,
                               .has_score = true, .score = step == 2 ? 9 : (double)step / 10};
    return &c->s;
}

static void log_line(char line[LINE + 1], int64_t step)
{
    snprintf(line, LINE + 1, "step %10u\n", (unsigned)step);
}

/* --- the run that is interrupted --- */

static struct mark {
    size_t begun, durable; /* numbers of events */
    int64_t step, variant;
} marks[64];
static size_t mark_count;

static spt_status append(const char *path, int64_t from, int64_t to, spt_err *err)
{
    fs_log *l;
    TRY(fs_log_open(path, (uint64_t)(from - 1) * LINE, &l, err));
    spt_status st = SPT_OK;
    for (int64_t i = from; i <= to && !st; i++) {
        char line[LINE + 1];
        log_line(line, i);
        st = fs_log_append(l, line, LINE, err);
    }
    if (!st)
        st = fs_log_sync(l, err);
    fs_log_close(l);
    return st;
}

static spt_status train(memfs *m, spt_err *err)
{
    struct content *c = malloc(sizeof *c);
    ckpt *ck = NULL;
    mark_count = 0;
    spt_status st = ckpt_open("/runs/a", &opts, &ck, err);
    if (!st)
        st = fs_make_dirs("/runs/a/train/a", err);
    for (int64_t i = 1; i <= STEPS + 2 && !st; i++) {
        /* Steps 5 and 6 are saved a second time with other content. */
        const int64_t step = i <= STEPS ? i : i - 2, variant = i > STEPS;
        if (i <= STEPS) {
            st = append("/runs/a/loss.jsonl", step, step, err);
            if (!st)
                st = append("/runs/a/train/a/events", step, step, err);
        }
        marks[mark_count] = (struct mark){memfs_events(m), SIZE_MAX, step, variant};
        if (!st)
            st = ckpt_save(ck, content(c, step, variant), err);
        if (!st) {
            marks[mark_count++].durable = memfs_events(m);
            EXPECT_EQ_I64(memfs_unsynced_renames(m), 0);
        }
    }
    ckpt_close(ck);
    free(c);
    return st;
}

static memfs *recorded(void)
{
    spt_err err = {0};
    memfs *m = memfs_new();
    memfs_use(m);
    EXPECT_OK(train(m, &err), &err);
    if (memfs_broken_rule(m))
        fail_msg("%s", memfs_broken_rule(m));
    EXPECT_EQ_I64(memfs_open_count(m), 0);
    memfs_use(NULL);
    return m;
}

/* --- the next boot --- */

static void check_log(memfs *m, const ckpt_loaded *l, const char *name)
{
    char path[64], line[LINE + 1];
    uint64_t want;
    size_t size = 0;
    snprintf(path, sizeof path, "/runs/a/%s", name);
    EXPECT_TRUE(ckpt_loaded_log(l, name, &want));
    const unsigned char *p = memfs_bytes(m, path, &size);
    if (!p || size < want)
        fail_msg("%s has %zu bytes, the state of step %lld recorded %llu", name, size,
                 (long long)ckpt_loaded_step(l), (unsigned long long)want);
    for (uint64_t i = 0; i < want / LINE; i++) {
        log_line(line, (int64_t)i + 1);
        if (memcmp(p + i * LINE, line, LINE))
            fail_msg("%s: line %llu is damaged", name, (unsigned long long)i);
    }
}

/* Exactly what some save wrote; returns the index of its mark. */
static size_t check_content(const ckpt_loaded *l)
{
    struct content *c = malloc(sizeof *c);
    int64_t variant;
    const struct tensor_view *v = ckpt_loaded_tensor(l, "variant"),
                             *big = ckpt_loaded_tensor(l, "big");
    EXPECT_TRUE(v && big);
    memcpy(&variant, v->data, sizeof variant);
    content(c, ckpt_loaded_step(l), variant);
    EXPECT_TRUE(!memcmp(big->data, c->big, sizeof c->big));
    free(c);
    for (size_t i = 0; i < mark_count; i++)
        if (marks[i].step == ckpt_loaded_step(l) && marks[i].variant == variant)
            return i;
    fail_msg("step %lld was never saved", (long long)ckpt_loaded_step(l));
    return 0;
}

/* Of what was durable after k events, the newest step; and is this mark at least that? */
static void check_allowed(size_t mark, size_t k, const char *where)
{
    int64_t newest = 0;
    for (size_t i = 0; i < mark_count; i++)
        if (marks[i].durable <= k && marks[i].step > newest)
            newest = marks[i].step;
    if (marks[mark].begun > k)
        fail_msg("%s: found a state that was not begun", where);
    if (marks[mark].step < newest)
        fail_msg("%s: found step %lld, %lld was durable", where, (long long)marks[mark].step,
                 (long long)newest);
    for (size_t i = mark + 1; i < mark_count; i++) /* replaced durably by another content */
        if (marks[i].step == marks[mark].step && marks[i].durable <= k)
            fail_msg("%s: found the replaced content of step %lld", where,
                     (long long)marks[mark].step);
}

static void check_no_leftovers(void)
{
    fs_names names;
    spt_err err;
    EXPECT_OK(fs_list("/runs/a", &names, &err), &err);
    for (size_t i = 0; i < names.count; i++)
        if (strstr(names.name[i], "tmp") || strstr(names.name[i], "trash"))
            fail_msg("%s is left behind", names.name[i]);
    fs_names_free(&names);
}

static bool any_durable(size_t k)
{
    for (size_t i = 0; i < mark_count; i++)
        if (marks[i].durable <= k)
            return true;
    return false;
}

/* Opens, loads, checks, goes on to one more save. */
static spt_status recover(memfs *m, size_t k, const char *where, spt_err *err)
{
    struct content *c = malloc(sizeof *c);
    ckpt *ck = NULL;
    ckpt_loaded *l = NULL;
    int64_t from = 0;
    spt_status st = ckpt_open("/runs/a", &opts, &ck, err);
    if (!st) {
        st = ckpt_load_latest("/runs/a", &l, err);
        if (!st) {
            check_allowed(check_content(l), k, where);
            check_log(m, l, "loss.jsonl");
            check_log(m, l, "train/a/events");
            from = ckpt_loaded_step(l);
        } else if (st == SPT_E_NOTFOUND && !any_durable(k)) {
            st = SPT_OK;
        }
        ckpt_loaded_free(l);
    }
    if (!st)
        st = fs_make_dirs("/runs/a/train/a", err);
    if (!st)
        st = append("/runs/a/loss.jsonl", from + 1, 20, err);
    if (!st)
        st = append("/runs/a/train/a/events", from + 1, 20, err);
    if (!st)
        st = ckpt_save(ck, content(c, 20, 7), err);
    ckpt_close(ck);
    free(c);
    return st;
}

static void recover_and_check(memfs *m, size_t k, const char *where)
{
    spt_err err = {0};
    ckpt_loaded *l;
    const spt_status st = recover(m, k, where, &err);
    if (st && getenv("SPT_TEST_DUMP"))
        memfs_dump(m, SIZE_MAX);
    if (st)
        fail_msg("%s: %s", where, err.msg);
    EXPECT_OK(ckpt_load_latest("/runs/a", &l, &err), &err);
    EXPECT_EQ_I64(ckpt_loaded_step(l), 20);
    check_log(m, l, "train/a/events");
    ckpt_loaded_free(l);
    check_no_leftovers();
    if (memfs_broken_rule(m))
        fail_msg("%s: %s", where, memfs_broken_rule(m));
    EXPECT_EQ_I64(memfs_open_count(m), 0);
}

static size_t env_number(const char *name, size_t otherwise)
{
    const char *v = getenv(name);
    return v ? (size_t)strtoul(v, NULL, 10) : otherwise;
}

/* K3: during the recovery one system call fails; then the machine is healthy again. */
static size_t compound(const memfs *m, size_t k, enum memfs_outcome o, uint64_t seed,
                       const char *where)
{
    size_t runs = 0;
    for (size_t n = 1;; n++, runs++) {
        spt_err err = {0};
        memfs *boot = memfs_cut(m, k, o, seed);
        memfs_use(boot);
        memfs_fail(boot, MEMFS_ANY, n, false, EIO);
        const spt_status st = recover(boot, k, where, &err);
        const bool reached = memfs_seen(boot, MEMFS_ANY) >= n;
        memfs_fail(boot, MEMFS_ANY, 0, false, 0);
        if (st && st != SPT_E_IO && st != SPT_E_FORMAT && st != SPT_E_NOTFOUND)
            fail_msg("%s, call %zu failing: %s (%s)", where, n, spt_status_text(st), err.msg);
        EXPECT_EQ_I64(memfs_open_count(boot), 0);
        ckpt *ck;
        ckpt_loaded *l;
        EXPECT_OK(ckpt_open("/runs/a", &opts, &ck, &err), &err);
        const spt_status got = ckpt_load_latest("/runs/a", &l, &err);
        if (!got && ckpt_loaded_step(l) != 20)
            check_allowed(check_content(l), k, where);
        else if (got && (got != SPT_E_NOTFOUND || any_durable(k)))
            fail_msg("%s, call %zu failing, then: %s", where, n, err.msg);
        if (!got)
            ckpt_loaded_free(l);
        ckpt_close(ck);
        memfs_use(NULL);
        memfs_free(boot);
        if (!reached)
            return runs;
    }
}

static void power_goes_after_every_operation(void **state)
{
    memfs *m = recorded();
    if (getenv("SPT_TEST_DUMP"))
        memfs_dump(m, SIZE_MAX);
    const size_t seeds = env_number("SPT_TEST_SEEDS", 1);
    const bool with_faults = env_number("SPT_TEST_COMPOUND", 0) != 0;
    size_t recoveries = 0, faulty = 0;
    for (size_t k = 0; k <= memfs_events(m); k++)
        for (int o = 0; o < CUT_OUTCOMES; o++)
            for (uint64_t seed = 1; seed <= seeds; seed++) {
                char where[80];
                snprintf(where, sizeof where, "cut after event %zu, outcome %d, seed %llu", k, o,
                         (unsigned long long)seed);
                memfs *boot = memfs_cut(m, k, (enum memfs_outcome)o, seed);
                memfs_use(boot);
                recover_and_check(boot, k, where);
                memfs_use(NULL);
                memfs_free(boot);
                recoveries++;
                /* In the short form every 23rd cut point. */
                if (with_faults || (k % 23 == 5 && seed == 1 && (o == CUT_RANDOM || o == CUT_ALL_LOST)))
                    faulty += compound(m, k, (enum memfs_outcome)o, seed, where);
                if (o <= CUT_ALL_LOST)
                    break; /* these two know no chance */
            }
    print_message("power: %zu operations, %zu recoveries, %zu with a fault on top, 0 failures\n",
                  memfs_events(m), recoveries, faulty);
    memfs_free(m);
}

/* A save meets a fault at its n-th call of a kind, once or for good. The earlier state must be
 * whole, the save must say so, and after the fault is gone the next save leaves nothing behind. */
static size_t faults_in(enum memfs_call kind, int errno_value, bool persistent, bool replacing)
{
    struct content *c = malloc(sizeof *c);
    size_t n = 1;
    for (bool reached = true; reached; n++) {
        spt_err err = {0};
        ckpt *ck;
        ckpt_loaded *l;
        memfs *m = memfs_new();
        memfs_use(m);
        EXPECT_OK(ckpt_open("/a", &opts, &ck, &err), &err);
        EXPECT_OK(fs_make_dirs("/a/train/a", &err), &err);
        for (int64_t step = 1; step <= 3; step++)
            EXPECT_OK(ckpt_save(ck, content(c, step, 0), &err), &err);
        memfs_fail(m, kind, n, persistent, errno_value);
        const spt_status st = ckpt_save(ck, content(c, replacing ? 3 : 4, replacing), &err);
        reached = memfs_seen(m, kind) >= n;
        memfs_fail(m, kind, 0, false, 0);
        int64_t variant;
        EXPECT_OK(ckpt_load_latest("/a", &l, &err), &err);
        memcpy(&variant, ckpt_loaded_tensor(l, "variant")->data, sizeof variant);
        if (ckpt_loaded_step(l) != (st || replacing ? 3 : 4) || variant != (!st && replacing))
            fail_msg("call %zu failing: save says %s, newest state is %lld (%lld)", n,
                     spt_status_text(st), (long long)ckpt_loaded_step(l), (long long)variant);
        ckpt_loaded_free(l);
        if (!reached)
            EXPECT_EQ_I64(st, SPT_OK);
        else if (st)
            EXPECT_TRUE(st == SPT_E_IO && err.msg[0]);
        EXPECT_OK(ckpt_save(ck, content(c, 5, 0), &err), &err);
        fs_names names;
        EXPECT_OK(fs_list("/a", &names, &err), &err);
        for (size_t i = 0; i < names.count; i++)
            if (strstr(names.name[i], "tmp") || strstr(names.name[i], "trash"))
                fail_msg("call %zu failing: %s is left after the next save", n, names.name[i]);
        fs_names_free(&names);
        ckpt_close(ck);
        EXPECT_EQ_I64(memfs_open_count(m), 0);
        if (memfs_broken_rule(m))
            fail_msg("call %zu failing: %s", n, memfs_broken_rule(m));
        memfs_use(NULL);
        memfs_free(m);
    }
    free(c);
    return n - 1;
}

static size_t faults_in_a_save(enum memfs_call kind, int errno_value, bool persistent)
{
    return faults_in(kind, errno_value, persistent, false) +
           faults_in(kind, errno_value, persistent, true);
}

static void full_disk_at_every_write(void **state)
{
    size_t n = 0;
    for (int persistent = 0; persistent < 2; persistent++) {
        n += faults_in_a_save(MEMFS_WRITE, ENOSPC, persistent);
        n += faults_in_a_save(MEMFS_WRITE, EDQUOT, persistent);
    }
    print_message("full disk: %zu positions, old state intact at each\n", n);
    EXPECT_TRUE(n >= 24);
}

static void failing_sync_at_every_sync(void **state)
{
    const size_t n = faults_in_a_save(MEMFS_FSYNC, EIO, false) +
                     faults_in_a_save(MEMFS_FSYNC, EIO, true);
    print_message("failing fsync: %zu positions, never reported as saved\n", n);
    EXPECT_TRUE(n >= 20);
}

static void every_call_fails_once(void **state)
{
    const size_t n = faults_in_a_save(MEMFS_ANY, EIO, false) +
                     faults_in_a_save(MEMFS_RENAME, EIO, true) +
                     faults_in_a_save(MEMFS_OPEN, EMFILE, true);
    print_message("failing calls: %zu positions\n", n);
    EXPECT_TRUE(n >= 80);
}

/* K4 on a larger state: SPT_TEST_ROT (default 3,000) random damages of 1 to 8 bytes. */
static void random_damage_on_a_larger_state(void **state)
{
    enum { LARGE = 40000 };
    static float values[LARGE];
    static const char *const files[] = {"/a/state-2/state.safetensors", "/a/state-2/MANIFEST"};
    const struct ckpt_item item = {"values", {DT_F32, shape_1d(LARGE), values}};
    const size_t rounds = env_number("SPT_TEST_ROT", 3000);
    uint64_t x = 0x9e3779b97f4a7c15u;
    spt_err err;
    ckpt *ck;
    memfs *m = memfs_new();
    memfs_use(m);
    for (int i = 0; i < LARGE; i++)
        values[i] = (float)i * 0.001f;
    EXPECT_OK(ckpt_open("/a", NULL, &ck, &err), &err);
    for (int64_t step = 1; step <= 2; step++)
        EXPECT_OK(ckpt_save(ck, &(struct ckpt_state){.step = step, .items = &item, .item_count = 1},
                            &err),
                  &err);
    ckpt_close(ck);
    for (size_t round = 0; round < rounds; round++) {
        const char *file = files[round % 8 == 0];
        ckpt_loaded *l;
        size_t size;
        unsigned char *bytes = (unsigned char *)memfs_bytes(m, file, &size), before[8];
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const size_t n = 1 + x % 8, at = (x >> 16) % (size - n + 1);
        memcpy(before, bytes + at, n);
        for (size_t i = 0; i < n; i++)
            bytes[at + i] ^= (unsigned char)(1 + (x >> (8 * i)) % 255);
        EXPECT_OK(ckpt_load_latest("/a", &l, &err), &err);
        if (ckpt_loaded_step(l) != 1)
            fail_msg("%zu damaged bytes at %zu of %s were not seen", n, at, file);
        ckpt_loaded_free(l);
        memcpy(bytes + at, before, n);
    }
    memfs_use(NULL);
    memfs_free(m);
    print_message("rot: %zu random damages, all detected\n", rounds);
}

/* The checker itself: a save without syncs must be caught, or the tests above prove nothing. */
static void the_checker_sees_a_rename_before_its_sync(void **state)
{
    memfs *m = memfs_new();
    memfs_use(m);
    const int fd = os_open("/x", OS_WRITE | OS_CREATE);
    EXPECT_EQ_I64(os_write(fd, "abc", 3), 3);
    os_close(fd);
    EXPECT_EQ_I64(os_rename("/x", "/y"), 0);
    EXPECT_TRUE(memfs_broken_rule(m) != NULL);
    EXPECT_EQ_I64(memfs_unsynced_renames(m), 1);
    size_t size;
    memfs *lost = memfs_cut(m, memfs_events(m), CUT_ALL_LOST, 1);
    EXPECT_TRUE(!memfs_bytes(lost, "/x", &size) && !memfs_bytes(lost, "/y", &size));
    memfs *kept = memfs_cut(m, memfs_events(m), CUT_ALL_KEPT, 1);
    EXPECT_TRUE(memfs_bytes(kept, "/y", &size) && size == 3);
    bool empty = false; /* the famous one: the name without the bytes */
    for (uint64_t seed = 1; seed <= 50; seed++) {
        memfs *r = memfs_cut(m, memfs_events(m), CUT_REORDERED, seed);
        empty |= memfs_bytes(r, "/y", &size) && size == 0;
        memfs_free(r);
    }
    EXPECT_TRUE(empty);
    memfs_use(NULL);
    memfs_free(lost);
    memfs_free(kept);
    memfs_free(m);
}

static void sink(void *ctx, enum log_level level, const char *line)
{
    fprintf(stderr, "log: %s\n", line);
}

int main(void)
{
    if (getenv("SPT_TEST_DUMP"))
        log_set_sink(sink, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_checker_sees_a_rename_before_its_sync),
        cmocka_unit_test(power_goes_after_every_operation),
        cmocka_unit_test(full_disk_at_every_write),
        cmocka_unit_test(failing_sync_at_every_sync),
        cmocka_unit_test(every_call_fails_once),
        cmocka_unit_test(random_damage_on_a_larger_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
