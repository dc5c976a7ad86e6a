#include "run/reference/gin_job.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "codec/hash.h"
#include "fs/fs.h"
#include "os/os.h"
#include "run/gin_options.h"
#include "run/share.h"
#include "run/ranks.h"
#include "run/reference/t5x_base.h"

enum { CONFIG_BYTES = 64 << 20, MAX_DIRS = 4 };

/* --- where gin files lie ------------------------------------------------------------------------ */

static void add_dir(buf *out, const char *dir)
{
    buf probe;
    buf_init(&probe, 65536);
    buf_addf(&probe, "%s/prompt_tuning/configs", dir);
    if (probe.st)
        out->st = out->st ? out->st : probe.st;
    else if (fs_is_dir(buf_str(&probe)))
        buf_addf(out, "%s\n", dir);
    buf_release(&probe);
}

void gin_config_dirs(buf *out)
{
    buf dir;
    const char *given = os_getenv("SPT_CONFIGS");
    if (given && *given)
        add_dir(out, given);
    buf_init(&dir, 65536);
    for (size_t i = 0; share_candidate(i, "configs", &dir); i++) {
        if (dir.st && !out->st)
            out->st = dir.st;
        add_dir(out, buf_str(&dir));
    }
    buf_release(&dir);
}

/* --- complaints ---------------------------------------------------------------------------------- */

/* The name may be one that a plug-in brings. */
static spt_status hint_plugin(const struct gin_job *j, spt_status st, spt_err *err)
{
    static const char *const unknown[] = {"No configurable matching", "No module named"};
    const char *loaded = j->s->plugin;
    for (size_t i = 0; err && st == SPT_E_CONFIG && i < sizeof unknown / sizeof *unknown; i++) {
        if (!strstr(err->msg, unknown[i]))
            continue;
        const spt_err was = *err;
        return err_set(err, st, "%s; %s", was.msg,
                       loaded && *loaded ? "none of the plug-ins that --plugin loads has it"
                                         : "if a plug-in has it, load that with --plugin FILE.so");
    }
    return st;
}

/* The complete text as gin words it goes to the story; the error is its first line. */
static spt_status explain(struct gin_job *j, spt_status st, spt_err *err)
{
    buf text;
    buf_init(&text, 1 << 20);
    gin_error_print(j->config, &text);
    const char *p = buf_str(&text);
    if (strchr(p, '\n') && strlen(p) > sizeof err->msg - 1)
        for (size_t n = 0; *p && n < 200; n++) {
            const size_t len = strcspn(p, "\n");
            if (len)
                log_info("%.*s", (int)len, p);
            p += len + (p[len] == '\n');
        }
    buf_release(&text);
    return hint_plugin(j, st, err);
}

/* Every missing value at once, each with its meaning. */
static spt_status complain_missing(struct gin_job *j, spt_err *err)
{
    buf text, names;
    buf_init(&text, 1 << 16);
    buf_init(&names, 400);
    const size_t n = gin_missing(j->config, &text);
    for (const char *p = buf_str(&text); n && *p;) {
        const size_t len = strcspn(p, "\n"), name = strcspn(p, ": \n");
        log_info("missing: %.*s", (int)len, p);
        if (names.len + name + 4 < 400)
            buf_addf(&names, "%s%.*s", names.len ? ", " : "", (int)name, p);
        p += len + (p[len] == '\n');
    }
    spt_status st = SPT_OK;
    if (n)
        st = err_set(err, SPT_E_CONFIG, "%zu required value%s missing: %s", n,
                     n == 1 ? " is" : "s are", buf_str(&names));
    buf_release(&text);
    buf_release(&names);
    return st;
}

/* gin takes '#' outside quotes as a comment, on the command line, too. */
static void warn_comments(const gin_flags *f)
{
    for (size_t i = 0; i < f->gin_bindings.count; i++) {
        const char *text = f->gin_bindings.item[i];
        char quote = 0;
        for (const char *p = text; *p; p++) {
            if (quote && *p == '\\' && p[1]) {
                p++;
            } else if (quote) {
                quote = *p == quote ? 0 : quote;
            } else if (*p == '\'' || *p == '"') {
                quote = *p;
            } else if (*p == '#') {
                log_warning("binding \"%s\": gin takes everything from '#' on as a comment; put "
                            "the value into quotes if it is part of it",
                            text);
                break;
            }
        }
    }
}

/* --- configuration ---------------------------------------------------------------------------------- */

/* Commands that use the tasks of a configuration, complete or not. */
static bool wants_tasks_only(const struct settings *s)
{
    return !strcmp(s->command, "cache") || !strcmp(s->command, "tasks");
}

static const char *entry_of(const struct settings *s)
{
    return !strcmp(s->command, "train") || wants_tasks_only(s) ? "__main__.train"
           : !strcmp(s->command, "eval") ? "__main__.evaluate"
                                         : "__main__.infer";
}

static spt_status read_files(struct gin_job *j, spt_err *err)
{
    char *dirs[MAX_DIRS];
    size_t n = 0;
    buf text;
    buf_init(&text, 1 << 18);
    gin_config_dirs(&text);
    for (char *p = text.data; p && *p && n < MAX_DIRS;) {
        char *end = strchr(p, '\n');
        *end = '\0';
        dirs[n++] = p;
        p = end + 1;
    }
    warn_comments(j->flags);
    spt_status st = buf_status(&text, "directories of gin files", err);
    if (!st)
        st = gin_config_entry(j->config, entry_of(j->s), err);
    if (!st)
        st = gin_flags_apply(j->flags, j->config, (const char *const *)dirs, n, err);
    buf_release(&text);
    return st;
}

static spt_status complete(struct gin_job *j, spt_err *err)
{
    if (!wants_tasks_only(j->s)) {
        TRY(complain_missing(j, err));
        TRY(gin_finalize(j->config, err));
    }
    return extensions_apply(j->x, j->config, err);
}

/* What of the files that come with the program does not act is known after their reading. */
static spt_status name_unused(struct gin_job *j)
{
    struct gin_train train = {0};
    struct gin_use use = {0};
    spt_err ignored = {0};
    const char *command = j->s->command;
    const spt_status st = !strcmp(command, "train")  ? gin_train_read(j->config, &train, &ignored)
                          : !strcmp(command, "eval") ? gin_eval_read(j->config, &use, &ignored)
                                                     : gin_infer_read(j->config, &use, &ignored);
    if (!st)
        gin_name_unused(j->config);
    gin_train_release(&train);
    gin_use_release(&use);
    return st == SPT_E_NOMEM ? st : SPT_OK;
}

static spt_status print_config(struct gin_job *j, spt_err *err)
{
    buf text;
    buf_init(&text, CONFIG_BYTES);
    spt_status st = gin_config_text(j->config, false, &text, err);
    if (!st)
        st = output_text(j->out, &text, err);
    buf_release(&text);
    if (!st && name_unused(j))
        st = err_nomem(err, 0);
    return st;
}

spt_status gin_job_write_config(struct gin_job *j, const char *dir, const char *drawn, buf *text,
                                spt_err *err)
{
    buf path, own;
    bool provenance = false;
    gin_value v;
    spt_err ignored = {0};
    buf_init(&path, 65536);
    buf_init(&own, CONFIG_BYTES);
    if (!gin_call(j->config, "t5x.gin_utils.get_gin_config_str", NULL, 0, &v, &ignored)) {
        gin_value flag;
        if (gin_get(j->config, &v, "show_provenance", &flag))
            gin_as_bool(&flag, &provenance);
    }
    spt_status st = gin_config_text(j->config, provenance, &own, err);
    if (!st)
        st = fs_make_dirs(dir, err);
    if (!st)
        st = path_join(&path, dir, "config.gin", err);
    if (!st && text)
        buf_add(text, buf_str(&own), own.len);
    if (!st && drawn && *drawn) {
        buf_addf(&own, "\n# Drawn at random; these flags give the same run again:\n#%s\n", drawn);
        st = buf_status(&own, "config.gin", err);
    }
    if (!st)
        st = fs_write_all(buf_str(&path), buf_str(&own), own.len, err);
    buf_release(&path);
    buf_release(&own);
    return st;
}

/* One process holds the whole model, whatever the configuration says about devices. */
spt_status gin_job_ranks(struct gin_job *j, int64_t partitions, spt_err *err)
{
    struct settings *s = j->s;
    if (settings_given(s, "num-partitions"))
        return ranks_split(s, err);
    if (!s->comm && partitions > 1)
        log_info("PjitPartitioner.num_partitions = %lld: one process holds the whole model",
                 (long long)partitions);
    s->partitions = s->comm ? partitions : 1;
    return ranks_split(s, err);
}

/* What ranks must have in common before the first step. */
spt_status gin_job_same_work(struct gin_job *j, struct t5x_base *b, const char *more, spt_err *err)
{
    comm *ranks = j->s->comm;
    buf text, config;
    char hex[HASH_TEXT], base[33];
    if (!ranks)
        return SPT_OK;
    buf_init(&text, 1 << 20);
    buf_init(&config, CONFIG_BYTES);
    spt_status st = t5_source_hash(b->engine.source, base, err);
    if (!st)
        st = gin_config_text(j->config, false, &config, err);
    buf_addf(&text, "program = spt %s\nbase = %s\ncheckpoint = %s at step %lld\n%s", SPT_VERSION,
             st ? "" : base, b->path, (long long)b->step, more);
    buf_addf(&text, "configuration = %s\n",
             hash_text(hash_bytes(buf_str(&config), config.len), hex));
    if (b->prompt) {
        const size_t n = (size_t)(b->prompt->P * b->prompt->E) * sizeof *b->prompt->rows;
        buf_addf(&text, "prompt = %s\n", hash_text(hash_bytes(b->prompt->rows, n), hex));
    }
    if (!st)
        st = buf_status(&text, "settings", err);
    st = ranks_same_text(ranks, &text, st, err);
    buf_release(&config);
    buf_release(&text);
    return st;
}

/* Options of ours that mean the same beside gin: how to compute and to tell. */
static spt_status check_options(const struct settings *s, spt_err *err)
{
    static const char *const fine[] = {"threads",  "isa",  "quiet",
                                       "progress", "json", "plugin",
                                       "num-partitions", "comm-timeout"};
    for (size_t i = 0; i < option_count; i++) {
        bool ok = !s->given[i];
        for (size_t k = 0; !ok && k < sizeof fine / sizeof *fine; k++)
            ok = !strcmp(option_table[i].pub.name, fine[k]);
        if (!ok)
            return err_set(err, SPT_E_USAGE,
                           "--%s does not go together with gin flags: give a binding "
                           "(--gin.NAME=VALUE) instead",
                           option_table[i].pub.name);
    }
    if (s->arguments)
        return err_set(err, SPT_E_USAGE, "Too many command-line arguments: \"%s\"", s->argument[0]);
    return SPT_OK;
}

/* --- options of ours ------------------------------------------------------------------------------ */

static bool has_program(const struct settings *s)
{
    return wants_tasks_only(s) || !strcmp(s->command, "train") || !strcmp(s->command, "eval") ||
           !strcmp(s->command, "infer");
}

static spt_status check_plain_flags(const struct gin_job *j, spt_err *err)
{
    const gin_flags *f = j->flags;
    const struct {
        const char *name;
        bool given;
    } flags[] = {
        {"tfds_data_dir", f->tfds_data_dir != NULL},
        {"seqio_additional_cache_dirs", f->cache_dirs.count > 0},
        {"shard_id", f->has_shard_id},
        {"run_mode", f->run_mode != NULL},
    };
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (flags[i].given)
            return err_set(err, SPT_E_USAGE,
                           "--%s is a flag of the reference's programs; beside options of ours "
                           "(spt.model, --model, ...) it does nothing",
                           flags[i].name);
    return SPT_OK;
}

static spt_status print_settings(struct gin_job *j, spt_err *err)
{
    buf text;
    buf_init(&text, CONFIG_BYTES);
    spt_status st = settings_text(j->s, &text, err);
    if (!st)
        st = output_text(j->out, &text, err);
    buf_release(&text);
    return st;
}

static spt_status run_plain(struct gin_job *j, plain_fn plain, spt_err *err)
{
    TRY(check_plain_flags(j, err));
    TRY(gin_options_apply(j->config, j->s, err));
    if (j->flags->dry_run)
        return print_settings(j, err);
    TRY(ranks_split(j->s, err));
    j->s->gin = j->config;
    const spt_status st = plain(j->s, j->out, err);
    j->s->gin = NULL;
    return st;
}

/* --- the command ------------------------------------------------------------------------------------ */

static bool wants_plain(const struct gin_job *j)
{
    const struct settings *s = j->s;
    if (wants_tasks_only(s))
        return false;
    return gin_options_bound(j->config) || settings_given(s, "model") ||
           (!j->flags->any && s->plugin && *s->plugin);
}

static spt_status check_program(const struct gin_job *j, spt_err *err)
{
    if (!has_program(j->s))
        return err_set(err, SPT_E_USAGE,
                       "spt %s reads options of ours from gin (spt.model = ..., as in a run's "
                       "config.gin), and there are none in what was given",
                       j->s->command);
    if (wants_tasks_only(j->s))
        return SPT_OK;
    TRY(check_options(j->s, err));
    return j->flags->any ? SPT_OK
                         : err_set(err, SPT_E_USAGE,
                                   "%s: --gin_file or --gin.NAME=VALUE is missing", j->s->command);
}

static spt_status run_program(struct gin_job *j, spt_err *err)
{
    if (!strcmp(j->s->command, "cache"))
        return run_cache_job(j, err);
    if (!strcmp(j->s->command, "tasks"))
        return run_tasks_job(j, err);
    if (j->flags->dry_run)
        return print_config(j, err);
    if (!strcmp(j->s->command, "train"))
        return run_t5x_train(j, err);
    return !strcmp(j->s->command, "eval") ? run_t5x_eval(j, err) : run_t5x_infer(j, err);
}

static spt_status run(struct gin_job *j, plain_fn plain, spt_err *err)
{
    spt_status st = read_files(j, err);
    const bool is_plain = !st && wants_plain(j);
    if (!st && !is_plain)
        TRY(check_program(j, err));
    if (!st)
        st = complete(j, err);
    if (st)
        return explain(j, st, err);
    return is_plain ? run_plain(j, plain, err) : run_program(j, err);
}

spt_status run_gin(const gin_flags *f, struct settings *s, plain_fn plain, struct run_output *out,
                   spt_err *err)
{
    struct gin_job j = {.flags = f, .s = s, .out = out};
    spt_status st = extensions_open(s->plugin, &j.x, err);
    if (!st)
        st = gin_registry_upstream(&j.registry, err);
    if (!st)
        st = extensions_define(j.x, j.registry, err);
    if (!st)
        st = gin_config_new(j.registry, &j.config, err);
    if (!st)
        st = run(&j, plain, err);
    gin_config_free(j.config);
    gin_registry_free(j.registry);
    extensions_close(j.x);
    return st;
}
