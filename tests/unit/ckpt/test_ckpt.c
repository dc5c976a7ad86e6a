/* ckpt/: saving, loading, retention, the lock, and damage of every kind. */
#define _GNU_SOURCE /* kill, getcwd */
#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "ckpt/ckpt.h"
#include "ckpt/ckpt_internal.h"
#include "support/server.h"

static char warnings[8192];

static void sink(void *ctx, enum log_level level, const char *line)
{
    const size_t n = strlen(warnings);
    snprintf(warnings + n, sizeof warnings - n, "%s\n", line);
}

static int setup(void **state)
{
    log_set_sink(sink, NULL);
    return 0;
}

/* A state whose content follows from its step. */
struct sample {
    float prompt[12];
    int64_t position;
    unsigned char blob[5];
    struct ckpt_item items[3];
    struct ckpt_export export;
    char export_name[32];
    struct ckpt_log logs[2];
    struct ckpt_state s;
};

static const struct ckpt_state *sample(struct sample *p, int64_t step)
{
    *p = (struct sample){.position = step * 32};
    for (int i = 0; i < 12; i++)
        p->prompt[i] = (float)step + (float)i * 0.25f;
    memset(p->blob, (int)(step & 127), sizeof p->blob);
    p->items[0] = (struct ckpt_item){"prompt", {DT_F32, shape_2d(3, 4), p->prompt}};
    p->items[1] = (struct ckpt_item){"data/position", {DT_I64, {0}, &p->position}};
    p->items[2] = (struct ckpt_item){"early_stop", {DT_U8, shape_1d(5), p->blob}};
    snprintf(p->export_name, sizeof p->export_name, "prompt-%lld.txt", (long long)step);
    p->export = (struct ckpt_export){p->export_name, p->prompt, sizeof p->prompt};
    p->logs[0] = (struct ckpt_log){"loss.jsonl", (uint64_t)step * 10};
    p->logs[1] = (struct ckpt_log){"train/events file", (uint64_t)step};
    p->s = (struct ckpt_state){.step = step, .items = p->items, .item_count = 3,
                               .exports = &p->export, .export_count = 1,
                               .logs = p->logs, .log_count = 2};
    return &p->s;
}

static void expect_state(const ckpt_loaded *l, int64_t step)
{
    struct sample want;
    spt_err err;
    const void *data;
    uint64_t size;
    sample(&want, step);
    EXPECT_EQ_I64(ckpt_loaded_step(l), step);
    EXPECT_EQ_I64(ckpt_loaded_count(l), 3);
    for (int i = 0; i < 3; i++) {
        const struct ckpt_item *it = &want.items[i];
        size_t n, bytes;
        EXPECT_OK(ckpt_loaded_get(l, it->name, it->view.dtype, &it->view.shape, &data, &err), &err);
        EXPECT_OK(tensor_size(it->view.dtype, &it->view.shape, &n, &bytes, &err), &err);
        EXPECT_TRUE(!memcmp(data, it->view.data, bytes));
    }
    EXPECT_TRUE(ckpt_loaded_log(l, "loss.jsonl", &size) && size == (uint64_t)step * 10);
    EXPECT_TRUE(ckpt_loaded_log(l, "train/events file", &size) && size == (uint64_t)step);
    EXPECT_TRUE(!ckpt_loaded_log(l, "other", &size));
}

static const char *fresh(const char *name)
{
    spt_err err;
    static char dir[512]; /* test_path() reuses its buffers */
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), name));
    EXPECT_OK(fs_remove_tree(dir, &err), &err);
    EXPECT_OK(fs_make_dirs(test_path(dir, "train"), &err), &err);
    warnings[0] = '\0';
    return dir;
}

static void save(ckpt *ck, int64_t step)
{
    struct sample s;
    spt_err err;
    EXPECT_OK(ckpt_save(ck, sample(&s, step), &err), &err);
}

static void expect_steps(const char *dir, const int64_t *want, size_t count)
{
    int64_t *steps;
    size_t n;
    spt_err err;
    EXPECT_OK(ckpt_list(dir, &steps, &n, &err), &err);
    EXPECT_EQ_I64(n, count);
    for (size_t i = 0; i < n; i++)
        EXPECT_EQ_I64(steps[i], want[i]);
    mem_free(steps);
}

static void save_and_load(void **state)
{
    const char *dir = fresh("save");
    spt_err err;
    ckpt *ck;
    ckpt_loaded *l;
    const void *data;
    struct tensor_shape shape = shape_2d(4, 3);
    EXPECT_STATUS(ckpt_load_latest(dir, &l, &err), SPT_E_NOTFOUND);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 0);
    save(ck, 120);
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
    expect_state(l, 120);
    double score;
    EXPECT_TRUE(!ckpt_loaded_score(l, &score));
    EXPECT_STATUS(ckpt_loaded_get(l, "prompt", DT_F32, &shape, &data, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "[3, 4]");
    EXPECT_STATUS(ckpt_loaded_get(l, "nothing", DT_F32, &shape, &data, &err), SPT_E_FORMAT);
    ckpt_loaded_free(l);
    EXPECT_OK(ckpt_load(dir, 0, &l, &err), &err);
    expect_state(l, 0);
    ckpt_loaded_free(l);
    EXPECT_STATUS(ckpt_load(dir, 7, &l, &err), SPT_E_NOTFOUND);
    EXPECT_TRUE(fs_exists(test_path(dir, "prompt-120.txt")));
    ckpt_close(ck);
    ckpt_close(NULL);
    EXPECT_STR(warnings, "");
}

static void scores_are_exact(void **state)
{
    const char *dir = fresh("score");
    static const double scores[] = {0.1, 1.0 / 3.0, -0.0, 1e-310, 1.7976931348623157e308};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    for (size_t i = 0; i < sizeof scores / sizeof *scores; i++) {
        struct sample p;
        ckpt_loaded *l;
        double back = 5;
        sample(&p, (int64_t)i + 1);
        p.s.has_score = true;
        p.s.score = scores[i];
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
        EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
        EXPECT_TRUE(ckpt_loaded_score(l, &back) && !memcmp(&back, &scores[i], sizeof back));
        ckpt_loaded_free(l);
    }
    ckpt_close(ck);
}

static void bad_requests(void **state)
{
    const char *dir = fresh("bad");
    spt_err err;
    ckpt *ck;
    struct sample p;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    sample(&p, 5);
    p.s.step = -1;
    EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_USAGE);
    sample(&p, 5);
    p.items[1].name = "prompt";
    EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_USAGE);
    static const char *const names[] = {"prompt-6", "../prompt-5", "a/prompt-5", "", "..5/.."};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sample(&p, 5);
        p.export.name = names[i];
        EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_USAGE);
    }
    static const char *const logs[] = {"", "/etc/x", "../x", "a/../b", "two\nlines", "a//b", "."};
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++) {
        sample(&p, 5);
        p.logs[0].name = logs[i];
        EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_FORMAT);
    }
    sample(&p, 5);
    p.export.bytes = NULL; /* written by the caller, but it is not there */
    EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_NOTFOUND);
    expect_steps(dir, NULL, 0);
    EXPECT_OK(fs_write_all(test_path(dir, "prompt-5.txt"), "x", 1, &err), &err);
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    ckpt_close(ck);
}

static void a_second_trainer_is_refused(void **state)
{
    const char *dir = fresh("lock");
    spt_err err;
    ckpt *ck, *other;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    EXPECT_STATUS(ckpt_open(dir, NULL, &other, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "another trainer (process ");
    save(ck, 1);
    ckpt_loaded *l;
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err); /* reading needs no lock */
    ckpt_loaded_free(l);
    ckpt_close(ck);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    ckpt_close(ck);
    int ready[2];
    EXPECT_EQ_I64(pipe(ready), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        const char got = ckpt_open(dir, NULL, &ck, &err) == SPT_OK;
        if (write(ready[1], &got, 1) == 1)
            for (;;)
                pause();
        _exit(1);
    }
    char got = 0;
    EXPECT_EQ_I64(read(ready[0], &got, 1), 1);
    EXPECT_EQ_I64(got, 1);
    EXPECT_STATUS(ckpt_open(dir, NULL, &other, &err), SPT_E_CONFIG);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err); /* the crash left no lock */
    ckpt_close(ck);
    close(ready[0]);
    close(ready[1]);
}

static void retention(void **state)
{
    const char *dir = fresh("keep");
    const struct ckpt_opts opts = {.keep = 2, .keep_best = true};
    static const double scores[] = {0.5, 0.9, 0.9, 0.1, (double)NAN, 0.2};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    for (int i = 0; i < 6; i++) {
        struct sample p;
        sample(&p, (i + 1) * 10);
        p.s.has_score = true;
        p.s.score = scores[i];
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
        if (i == 3) { /* what is known of earlier states survives reopening */
            ckpt_close(ck);
            EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
        }
    }
    expect_steps(dir, (const int64_t[]){20, 50, 60}, 3); /* the earlier of the two best */
    for (int i = 1; i <= 6; i++) {
        char name[32];
        snprintf(name, sizeof name, "prompt-%d.txt", i * 10);
        EXPECT_EQ_I64(fs_exists(test_path(dir, name)), i == 2 || i >= 5);
    }
    ckpt_close(ck);
    fs_names names;
    EXPECT_OK(fs_list(dir, &names, &err), &err);
    EXPECT_EQ_I64(names.count, 1 + 1 + 3 + 3); /* .lock, train, states, prompts */
    fs_names_free(&names);
}

static bool spared(void *ctx, const char *name)
{
    return !strcmp(name, ctx);
}

/* A prune that a crash ended can leave an export whose state is gone. */
static void exports_without_state(void **state)
{
    const char *dir = fresh("orphans");
    const struct ckpt_opts all = {0};
    const struct ckpt_opts opts = {.keep = 2, .spare = spared, .ctx = (void *)"prompt-7.txt"};
    static const char *const name[] = {"prompt-7.txt",  "prompt-9.txt",   "prompt-15.txt",
                                       "prompt-40.txt", "prompt-015.txt", "prompt-x.txt",
                                       "prompt-.txt",   "my-9.txt"};
    const bool goes[] = {false, true, true};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    save(ck, 10);
    save(ck, 20);
    ckpt_close(ck);
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        EXPECT_OK(fs_write_all(test_path(dir, name[i]), "x", 1, &err), &err);
    EXPECT_OK(ckpt_open(dir, &all, &ck, &err), &err); /* all are to be kept: nothing was pruned */
    ckpt_close(ck);
    EXPECT_TRUE(fs_exists(test_path(dir, "prompt-9.txt")));
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        if (fs_exists(test_path(dir, name[i])) == (i < 3 && goes[i]))
            fail_msg("%s", name[i]);
    EXPECT_TRUE(fs_exists(test_path(dir, "prompt-10.txt")) &&
                fs_exists(test_path(dir, "prompt-20.txt")));
    EXPECT_OK(fs_write_all(test_path(dir, "prompt-9.txt"), "x", 1, &err), &err);
    save(ck, 30); /* a save tidies, too; the name is known from the save */
    EXPECT_TRUE(!fs_exists(test_path(dir, "prompt-9.txt")) &&
                fs_exists(test_path(dir, "prompt-40.txt")));
    expect_steps(dir, (const int64_t[]){20, 30}, 2);
    ckpt_close(ck);
    EXPECT_STR(warnings, "");
}

static void lower_can_be_better(void **state)
{
    const char *dir = fresh("lower");
    const struct ckpt_opts opts = {.keep = 1, .keep_best = true, .lower_is_better = true};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    for (int i = 1; i <= 4; i++) {
        struct sample p;
        sample(&p, i);
        p.s.has_score = true;
        p.s.score = i == 2 ? 0.1 : i;
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    }
    expect_steps(dir, (const int64_t[]){2, 4}, 2);
    struct sample p;
    sample(&p, 5);
    p.s.has_score = true;
    p.s.score = 0.1; /* as good is not better */
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    save(ck, 6);
    expect_steps(dir, (const int64_t[]){2, 6}, 2);
    ckpt_close(ck);
}

static void damage_that_no_block_shows(void **state)
{
    unsigned char bytes[2 * CKPT_BLOCK + 5] = {0};
    struct manifest m = {0};
    spt_err err;
    EXPECT_OK(manifest_describe_state(&m, bytes, sizeof bytes, &err), &err);
    EXPECT_EQ_I64(m.crc_count, 3);
    EXPECT_OK(manifest_check_state(&m, bytes, sizeof bytes, "x", &err), &err);
    EXPECT_STATUS(manifest_check_state(&m, bytes, sizeof bytes - 1, "x", &err), SPT_E_FORMAT);
    EXPECT_STR(err.msg, "x has 32772 bytes, its manifest says 32773");
    EXPECT_EQ_I64(err.offset, 32772);
    for (size_t at = 0; at < sizeof bytes; at += CKPT_BLOCK / 2) {
        bytes[at] = 1;
        char want[80];
        const size_t first = at / CKPT_BLOCK * CKPT_BLOCK,
                     end = first + CKPT_BLOCK < sizeof bytes ? first + CKPT_BLOCK : sizeof bytes;
        snprintf(want, sizeof want, "x is damaged between byte %zu and byte %zu", first, end - 1);
        EXPECT_STATUS(manifest_check_state(&m, bytes, sizeof bytes, "x", &err), SPT_E_FORMAT);
        EXPECT_STR(err.msg, want);
        bytes[at] = 0;
    }
    m.state.hash = hash_bytes("", 0);
    EXPECT_STATUS(manifest_check_state(&m, bytes, sizeof bytes, "x", &err), SPT_E_FORMAT);
    EXPECT_STR(err.msg, "x: wrong checksum");
    manifest_release(&m);
}

/* Both exports of a state go with it; a pattern is learned once, however many states there were. */
static void two_exports(void **state)
{
    const char *dir = fresh("two");
    const struct ckpt_opts opts = {.keep = 1};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    for (int i = 1; i <= 12; i++) {
        struct sample p;
        char name[4][32];
        sample(&p, i);
        snprintf(name[0], sizeof name[0], "a-%d.txt", i);
        snprintf(name[1], sizeof name[1], "b-%d.txt", i);
        snprintf(name[2], sizeof name[2], "c-%d.txt", i);
        struct ckpt_export e[3] = {{name[0], "x", 1}, {name[1], "y", 1}, {name[2], "z", 1}};
        p.s.exports = e;
        p.s.export_count = i < 12 ? 2 : 3;
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
        for (int k = 1; k <= i; k++) {
            char path[32];
            snprintf(path, sizeof path, "a-%d.txt", k);
            EXPECT_EQ_I64(fs_exists(test_path(dir, path)), k == i);
            path[0] = 'b';
            EXPECT_EQ_I64(fs_exists(test_path(dir, path)), k == i);
        }
    }
    EXPECT_OK(fs_write_all(test_path(dir, "c-3.txt"), "x", 1, &err), &err); /* of a state that is gone */
    EXPECT_OK(fs_write_all(test_path(dir, "d-3.txt"), "x", 1, &err), &err);
    save(ck, 13);
    EXPECT_TRUE(!fs_exists(test_path(dir, "c-3.txt")) && fs_exists(test_path(dir, "d-3.txt")));
    ckpt_close(ck);
}

static void the_same_step_again(void **state)
{
    const char *dir = fresh("again");
    spt_err err;
    struct sample p;
    ckpt *ck;
    ckpt_loaded *l;
    struct fs_info before, after;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 3);
    EXPECT_OK(fs_stat(test_path(dir, "state-3"), &before, &err), &err);
    save(ck, 3);
    EXPECT_OK(fs_stat(test_path(dir, "state-3"), &after, &err), &err);
    EXPECT_EQ_I64(before.inode, after.inode); /* left alone */
    sample(&p, 3);
    p.position = 77;
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err); /* other content: replaced */
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
    int64_t position;
    memcpy(&position, ckpt_loaded_tensor(l, "data/position")->data, sizeof position);
    EXPECT_EQ_I64(position, 77);
    ckpt_loaded_free(l);
    EXPECT_TRUE(!fs_exists(test_path(dir, "trash.state-3")));
    EXPECT_TRUE(fs_exists(test_path(dir, "prompt-3.txt")));
    /* a damaged one is replaced by the same content, too */
    test_write(test_path(dir, "state-3/MANIFEST"), "rubbish", 7);
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    EXPECT_OK(ckpt_load(dir, 3, &l, &err), &err);
    ckpt_loaded_free(l);
    ckpt_close(ck);
}

static void crash_leftovers_are_removed(void **state)
{
    const char *dir = fresh("left");
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 1);
    save(ck, 2);
    ckpt_close(ck);
    EXPECT_OK(fs_make_dirs(test_path(dir, "tmp.3.0123abcd/sub"), &err), &err);
    EXPECT_OK(fs_make_dirs(test_path(dir, "tmp.notes"), &err), &err);
    test_write(test_path(dir, "prompt-3.txt.tmp-0123456789abcdef"), "x", 1);
    EXPECT_OK(fs_rename(test_path(dir, "state-1"), test_path(dir, "trash.state-1"), &err), &err);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    EXPECT_TRUE(!fs_exists(test_path(dir, "tmp.3.0123abcd")));
    EXPECT_TRUE(fs_exists(test_path(dir, "tmp.notes"))); /* not ours */
    EXPECT_TRUE(!fs_exists(test_path(dir, "prompt-3.txt.tmp-0123456789abcdef")));
    EXPECT_TRUE(!fs_exists(test_path(dir, "trash.state-1")));
    EXPECT_TRUE(!fs_exists(test_path(dir, "prompt-1.txt")));
    expect_steps(dir, (const int64_t[]){2}, 1);
    ckpt_close(ck);
    /* the only state, caught between the two renames of a replacement */
    EXPECT_OK(fs_rename(test_path(dir, "state-2"), test_path(dir, "trash.state-2"), &err), &err);
    ckpt_loaded *l;
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
    expect_state(l, 2);
    ckpt_loaded_free(l);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    expect_steps(dir, (const int64_t[]){2}, 1);
    EXPECT_TRUE(fs_exists(test_path(dir, "prompt-2.txt")));
    ckpt_close(ck);
}

/* --- K4: bit rot --- */

static void expect_fallback(const char *dir, const char *file)
{
    spt_err err;
    ckpt_loaded *l;
    warnings[0] = '\0';
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
    if (ckpt_loaded_step(l) != 1)
        fail_msg("damaged %s was used", file);
    ckpt_loaded_free(l);
    if (!strstr(warnings, file) || !strstr(warnings, "byte"))
        fail_msg("the warning names neither file nor byte: %s", warnings);
}

static void every_flipped_byte_is_seen(void **state)
{
    const char *dir = fresh("rot");
    static const char *const files[] = {"state-2/MANIFEST", "state-2/state.safetensors"};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 1);
    save(ck, 2);
    ckpt_close(ck);
    size_t flips = 0;
    for (int f = 0; f < 2; f++) {
        const char *path = test_path(dir, files[f]);
        char *data;
        size_t n;
        EXPECT_OK(fs_read_all(path, 1 << 20, &data, &n, &err), &err);
        for (size_t i = 0; i < n; i++) {
            const char was = data[i];
            for (int bit = 0; bit < 9; bit++) {
                data[i] = (char)(bit < 8 ? was ^ (1 << bit) : ~was);
                test_write(path, data, n);
                expect_fallback(dir, files[f]);
                flips++;
            }
            data[i] = was;
        }
        for (size_t cut = 0; cut < n; cut++) {
            test_write(path, data, cut);
            expect_fallback(dir, files[f]);
        }
        test_write(path, data, n);
        mem_free(data);
    }
    ckpt_loaded *l;
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err);
    expect_state(l, 2);
    ckpt_loaded_free(l);
    print_message("rot: %zu flips, all detected\n", flips);
}

static void damage_is_located(void **state)
{
    const char *dir = fresh("where");
    static float big[50000];
    const struct ckpt_item item = {"big", {DT_F32, shape_1d(50000), big}};
    const struct ckpt_state s = {.step = 9, .items = &item, .item_count = 1};
    spt_err err;
    ckpt *ck;
    ckpt_loaded *l;
    char *data;
    size_t n;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    EXPECT_OK(ckpt_save(ck, &s, &err), &err);
    ckpt_close(ck);
    const char *path = test_path(dir, "state-9/state.safetensors");
    EXPECT_OK(fs_read_all(path, 1 << 20, &data, &n, &err), &err);
    data[100000] ^= 1;
    test_write(path, data, n);
    mem_free(data);
    EXPECT_STATUS(ckpt_load_latest(dir, &l, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "between byte 98304 and byte 114687");
    EXPECT_STATUS(ckpt_load(dir, 9, &l, &err), SPT_E_FORMAT);
    EXPECT_EQ_I64(err.offset, 98304);
}

static void a_state_under_another_name(void **state)
{
    const char *dir = fresh("renamed");
    spt_err err;
    ckpt *ck;
    ckpt_loaded *l;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 1);
    ckpt_close(ck);
    EXPECT_OK(fs_rename(test_path(dir, "state-1"), test_path(dir, "state-5"), &err), &err);
    EXPECT_STATUS(ckpt_load_latest(dir, &l, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "step 1");
}

/* --- the manifest as text --- */

static spt_status parse_text(const char *body, spt_err *err)
{
    struct manifest m;
    buf b;
    char hex[HASH_TEXT];
    buf_init(&b, 10000);
    buf_adds(&b, body);
    hash_text(hash_bytes(b.data, b.len), hex);
    buf_addf(&b, "end %s\n", hex);
    const spt_status st = manifest_parse(b.data, b.len, "M", &m, err);
    if (!st)
        manifest_release(&m);
    buf_release(&b);
    return st;
}

#define H "99aa06d3014798d86001c324468d497f"
#define FILE0 "file 0 " H " state.safetensors\nblocks 16384\n"

static void manifests_by_verdict(void **state)
{
    static const char *const ok[] = {
        "spt-state 1\nstep 0\n" FILE0,
        "spt-state 1\nstep 9223372036854775799\nscore 0.1\n" FILE0,
        "spt-state 1\nstep 1\nfile 16385 " H " state.safetensors\nblocks 16384 01234567 89abcdef\n",
        "spt-state 1\nstep 1\n" FILE0 "export 1 " H " a b-1\nlog 18446744073709551600 x/y z\n",
    };
    static const struct {
        const char *text, *why;
    } bad[] = {
        {"spt-state 2\nstep 0\n" FILE0, "newer"},
        {"spt-state 01\nstep 0\n" FILE0, "would write"},
        {"step 0\n" FILE0, "byte 0"},
        {"spt-state 1\nstep 00\n" FILE0, "would write"},
        {"spt-state 1\nstep -1\n" FILE0, "byte 12"},
        {"spt-state 1\nstep 9223372036854775808\n" FILE0, "byte 12"},
        {"spt-state 1\nstep 1\nstep 1\n" FILE0, "would write"},
        {"spt-state 1\nstep 1\nscore 0.10\n" FILE0, "would write"},
        {"spt-state 1\nstep 1\nscore x\n" FILE0, "byte 19"},
        {"spt-state 1\nstep 1\n", "not described"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks 16384\n", "not described"},
        {"spt-state 1\nstep 1\nfile 0 " H " other\nblocks 16384\n", "byte 19"},
        {"spt-state 1\nstep 1\nfile 0 " H " state.safetensors\nblocks 4096\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log 1 ../x\n", "log"},
        {"spt-state 1\nstep 1\n" FILE0 "export 1 " H " a/b-1\n", "export"},
        {"spt-state 1\nstep 1\n" FILE0 "unknown 1\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log 1 x", "byte"},
        {"spt-state 1\n\nstep 1\n" FILE0, "byte 12"},
        {"spt-state x\nstep 1\n" FILE0, "byte 0"},
        {"spt-state \nstep 1\n" FILE0, "byte 0"},
        {"spt-state 1 2\nstep 1\n" FILE0, "byte 0"},
        {"spt-state 99999999999999999999\nstep 1\n" FILE0, "byte 0"},
        {"spt-state 1\nstep x\n" FILE0, "byte 12"},
        {"spt-state 1\nstep 1 2\n" FILE0, "byte 12"},
        {"spt-state 1\nstep  1\n" FILE0, "byte 12"},
        {"spt-state 1\nstep 1\nscore \n" FILE0, "byte 19"},
        {"spt-state 1\nstep 1\nfile x " H " state.safetensors\nblocks 16384\n", "byte 19"},
        {"spt-state 1\nstep 1\nfile 0 zz state.safetensors\nblocks 16384\n", "byte 19"},
        {"spt-state 1\nstep 1\nfile 0 " H " state.safetensorz\nblocks 16384\n", "byte 19"},
        {"spt-state 1\nstep 1\nfile 0 " H "\nblocks 16384\n", "byte 19"},
        {"spt-state 1\nstep 1\n" FILE0 FILE0, "byte"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks 16384 0123456\n", "byte"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks 16384 0123456G\n", "byte"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks 16384 0123456/\n", "byte"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks 16384  01234567\n", "byte"},
        {"spt-state 1\nstep 1\nfile 1 " H " state.safetensors\nblocks x\n", "byte"},
        {"spt-state 1\nstep 1\nfile 32768 " H " state.safetensors\nblocks 16384 01234567\n",
         "not described"},
        {"spt-state 1\nstep 1\n" FILE0 "export x " H " a-1\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "export 1 zz a-1\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "export 1 " H "\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "export 1\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log x y\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log 1 \n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log 1\n", "byte"},
        {"spt-state 1\nstep 1\n" FILE0 "log 1 a\nexport 1 " H " a-1\n", "would write"},
    };
    spt_err err;
    for (size_t i = 0; i < sizeof ok / sizeof *ok; i++)
        EXPECT_OK(parse_text(ok[i], &err), &err);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse_text(bad[i].text, &err) != SPT_E_FORMAT)
            fail_msg("accepted: %s", bad[i].text);
        EXPECT_MSG(&err, bad[i].why);
    }
}

/* Entries that only look like ours, a state and its manifest of different sizes, no error wanted. */
static void odd_entries(void **state)
{
    const char *dir = fresh("odd");
    static const char *const names[] = {"state-", "state-01", "state-1x", "state--1", "xstate-9",
                                        "state-99999999999999999999", "trash.state-x", "tmp.x.0",
                                        "tmp.5", "tmp.5.0123456", "tmp.5.0123456g", "tmp.5x01234567",
                                        "tmp..01234567", "tmp.5.012345678", "x.tmp-0123456789abcde"};
    static char long_name[5000];
    spt_err err;
    ckpt *ck;
    ckpt_loaded *l;
    struct sample p;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_OK(fs_make_dirs(test_path(dir, names[i]), &err), &err);
    test_write(test_path(dir, ".tmp-0123456789abcdeg"), "x", 1);
    EXPECT_STATUS(ckpt_load_latest(dir, &l, NULL), SPT_E_NOTFOUND);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    EXPECT_STR(ckpt_dir(ck), dir);
    save(ck, 3);
    memset(long_name, 'n', sizeof long_name - 1);
    sample(&p, 4);
    p.logs[0].name = long_name;
    EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_FORMAT);
    expect_steps(dir, (const int64_t[]){3}, 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        EXPECT_TRUE(fs_exists(test_path(dir, names[i])));
    EXPECT_OK(ckpt_load(dir, 3, &l, &err), &err);
    EXPECT_EQ_I64(ckpt_loaded_log_count(l), 2);
    EXPECT_STR(ckpt_loaded_log_name(l, 1), "train/events file");
    EXPECT_TRUE(ckpt_loaded_tensor(l, ckpt_loaded_name(l, 0)) != NULL);
    const void *data;
    const struct tensor_shape shape = shape_2d(3, 4);
    EXPECT_STATUS(ckpt_loaded_get(l, "prompt", DT_F64, &shape, &data, &err), SPT_E_FORMAT);
    ckpt_loaded_free(l);
    ckpt_loaded_free(NULL);
    /* a damaged one among those to be deleted, and one claimed by two states */
    save(ck, 5);
    test_write(test_path(dir, "state-3/MANIFEST"), "rubbish", 7);
    ckpt_close(ck);
    const struct ckpt_opts one = {.keep = 1};
    EXPECT_OK(ckpt_open(dir, &one, &ck, &err), &err);
    sample(&p, 15);
    p.export.name = "prompt-5.txt"; /* contains "5": allowed for step 5 and, by its text, not for 15 */
    EXPECT_STATUS(ckpt_save(ck, &p.s, &err), SPT_E_USAGE);
    sample(&p, 51);
    p.export.name = "both-5-51.txt";
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    expect_steps(dir, (const int64_t[]){51}, 1);
    ckpt_close(ck);
    /* the manifest says another size */
    test_write(test_path(dir, "state-51/state.safetensors"), "short", 5);
    EXPECT_STATUS(ckpt_load(dir, 51, &l, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "its manifest says");
    EXPECT_OK(fs_remove_tree(test_path(dir, "state-51/state.safetensors"), &err), &err);
    EXPECT_STATUS(ckpt_load(dir, 51, &l, NULL), SPT_E_FORMAT);
}

static void relative_and_odd_directories(void **state)
{
    char where[4096];
    spt_err err;
    ckpt *ck;
    EXPECT_TRUE(getcwd(where, sizeof where) != NULL);
    EXPECT_EQ_I64(chdir(test_tmpdir()), 0);
    static const char *const dirs[] = {"rel", "rel2/", "a/b//c/", "./d"};
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        EXPECT_OK(ckpt_open(dirs[i], NULL, &ck, &err), &err);
        struct sample p;
        sample(&p, 1);
        p.s.log_count = 0;
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
        ckpt_close(ck);
        expect_steps(dirs[i], (const int64_t[]){1}, 1);
    }
    EXPECT_EQ_I64(chdir(where), 0);
    EXPECT_STATUS(ckpt_open("", NULL, &ck, &err), SPT_E_USAGE);
}

/* --- old files (one sample per format version, read for ever) --- */

static void states_of_every_version(void **state)
{
    spt_err err;
    ckpt_loaded *l;
    double score;
    EXPECT_OK(ckpt_load_latest("tests/fixtures/ckpt/v1", &l, &err), &err);
    expect_state(l, 120);
    EXPECT_TRUE(ckpt_loaded_score(l, &score) && score == 0.93);
    ckpt_loaded_free(l);
}

/* SPT_TEST_MAKE_FIXTURE=DIR writes the sample of this version. */
static void make_fixture(void **state)
{
    const char *dir = getenv("SPT_TEST_MAKE_FIXTURE");
    if (!dir)
        return;
    struct sample p;
    spt_err err;
    ckpt *ck;
    EXPECT_OK(fs_make_dirs(test_path(dir, "train"), &err), &err);
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    sample(&p, 120);
    p.s.has_score = true;
    p.s.score = 0.93;
    EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    ckpt_close(ck);
}

/* --- faults --- */

/* Eight patterns of names are remembered, each once. */
static void eight_patterns(void **state)
{
    const char *dir = fresh("eight");
    const struct ckpt_opts opts = {.keep = 1};
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, &opts, &ck, &err), &err);
    for (int step = 1; step <= 3; step++) {
        struct sample p;
        char name[9][16];
        struct ckpt_export e[9];
        sample(&p, step);
        for (int i = 0; i < 9; i++) {
            snprintf(name[i], sizeof name[i], "%c-%d.txt", 'a' + i, step);
            e[i] = (struct ckpt_export){name[i], "x", 1};
        }
        p.s.exports = e;
        p.s.export_count = step < 3 ? 1 : 9;
        EXPECT_OK(ckpt_save(ck, &p.s, &err), &err);
    }
    for (char c = 'a'; c <= 'i'; c++) { /* of states that are gone */
        const char name[] = {c, '-', '1', '.', 't', 'x', 't', '\0'};
        EXPECT_OK(fs_write_all(test_path(dir, name), "x", 1, &err), &err);
    }
    save(ck, 4);
    for (char c = 'a'; c <= 'i'; c++) {
        const char name[] = {c, '-', '1', '.', 't', 'x', 't', '\0'};
        EXPECT_EQ_I64(fs_exists(test_path(dir, name)), c == 'i');
    }
    EXPECT_TRUE(!fs_exists(test_path(dir, "i-3.txt"))); /* that one its state told */
    ckpt_close(ck);
}

/* In a bucket a directory does not appear whole: without its manifest it is a save that was not finished,
 * which is no damage; with a damaged one it is. */
static void states_in_a_bucket(void **state)
{
    const char *dir = fresh("bucket");
    char bucket[600];
    spt_err err;
    ckpt *ck;
    struct test_server server;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    for (int i = 1; i <= 4; i++)
        save(ck, i);
    ckpt_close(ck);
    EXPECT_EQ_I64(unlink(test_path(dir, "state-4/MANIFEST")), 0);
    test_write(test_path(dir, "state-3/MANIFEST"), "x", 1);
    snprintf(bucket, sizeof bucket, "runs=%s", dir);
    test_server_start(&server, (const char *[]){"--bucket", bucket, NULL});
    setenv("STORAGE_EMULATOR_HOST", server.host, 1);
    setenv("SPT_HTTP_RETRIES", "0", 1);
    ckpt_loaded *l;
    EXPECT_OK(ckpt_load_latest("gs://runs", &l, &err), &err);
    expect_state(l, 2);
    ckpt_loaded_free(l);
    EXPECT_TRUE(!strstr(warnings, "state of step 4 is not used"));
    EXPECT_TRUE(strstr(warnings, "state of step 3 is not used") != NULL);
    EXPECT_TRUE(strstr(warnings, "continuing from the state of step 2") != NULL);
    warnings[0] = '\0';
    EXPECT_OK(ckpt_load_latest(dir, &l, &err), &err); /* on a disk it is damage */
    ckpt_loaded_free(l);
    EXPECT_TRUE(strstr(warnings, "state of step 4 is not used") != NULL);
    fs_release();
    test_server_stop(&server);
    unsetenv("STORAGE_EMULATOR_HOST");
}

static spt_status whole_life(void *ctx, spt_err *err)
{
    const char *dir = ctx;
    const struct ckpt_opts opts = {.keep = 1};
    struct sample p;
    ckpt *ck = NULL;
    ckpt_loaded *l = NULL;
    spt_status st = ckpt_open(dir, &opts, &ck, err);
    for (int64_t step = 1; !st && step <= 2; step++)
        st = ckpt_save(ck, sample(&p, step), err);
    if (!st)
        st = ckpt_load_latest(dir, &l, err);
    if (!st)
        expect_state(l, ckpt_loaded_step(l));
    ckpt_loaded_free(l);
    ckpt_close(ck);
    return st;
}

static void out_of_memory_everywhere(void **state)
{
    char *dir = mem_strdup(fresh("oom"));
    EXPECT_TRUE(fault_every_alloc(whole_life, dir) > 50);
    mem_free(dir);
}

/* A replacement that the power interrupted, beside leftovers: recovery under every failure keeps the
 * state. */
static spt_status recovery(void *ctx, spt_err *err)
{
    const char *dir = ctx;
    char live[600], trash[600], tmp[600];
    ckpt *ck = NULL;
    ckpt_loaded *l = NULL;
    snprintf(live, sizeof live, "%s/state-1", dir);
    snprintf(trash, sizeof trash, "%s/trash.state-1", dir);
    snprintf(tmp, sizeof tmp, "%s/tmp.1.01234567", dir);
    if (fs_exists(live))
        TRY(fs_rename(live, trash, err));
    TRY(fs_make_dirs(tmp, err));
    spt_status st = ckpt_open(dir, NULL, &ck, err);
    if (!st) {
        st = ckpt_load_latest(dir, &l, err);
    }
    if (!st)
        expect_state(l, 1);
    ckpt_loaded_free(l);
    ckpt_close(ck);
    return st;
}

static void recovery_under_faults(void **state)
{
    char *dir = mem_strdup(fresh("recovery"));
    spt_err err;
    ckpt *ck;
    EXPECT_OK(ckpt_open(dir, NULL, &ck, &err), &err);
    save(ck, 1);
    ckpt_close(ck);
    EXPECT_TRUE(fault_every_alloc(recovery, dir) > 30);
    EXPECT_TRUE(fault_every_syscall(recovery, dir, EIO) > 30);
    EXPECT_OK(recovery(dir, &err), &err);
    mem_free(dir);
}

static void system_calls_fail(void **state)
{
    char *dir = mem_strdup(fresh("sys"));
    static const int errors[] = {EIO, ENOSPC};
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        EXPECT_TRUE(fault_every_syscall(whole_life, dir, errors[i]) > 50);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(save_and_load),
        cmocka_unit_test(scores_are_exact),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(a_second_trainer_is_refused),
        cmocka_unit_test(retention),
        cmocka_unit_test(exports_without_state),
        cmocka_unit_test(lower_can_be_better),
        cmocka_unit_test(damage_that_no_block_shows), cmocka_unit_test(two_exports), cmocka_unit_test(eight_patterns), cmocka_unit_test(states_in_a_bucket), cmocka_unit_test(the_same_step_again),
        cmocka_unit_test(crash_leftovers_are_removed),
        cmocka_unit_test(every_flipped_byte_is_seen),
        cmocka_unit_test(damage_is_located),
        cmocka_unit_test(a_state_under_another_name),
        cmocka_unit_test(manifests_by_verdict),
        cmocka_unit_test(odd_entries),
        cmocka_unit_test(relative_and_odd_directories),
        cmocka_unit_test(make_fixture),
        cmocka_unit_test(states_of_every_version),
        cmocka_unit_test(out_of_memory_everywhere),
        cmocka_unit_test(system_calls_fail),
        cmocka_unit_test(recovery_under_faults),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
