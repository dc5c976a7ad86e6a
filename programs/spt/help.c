#include <string.h>

#include <spt/spt.h>

#include "cli.h"

int cli_option_wants_value(const char *command, const char *name)
{
    const spt_option *o;
    for (size_t i = 0; (o = spt_command_option(command, i)); i++)
        if (!strcmp(o->name, name))
            return !o->metavar ? 0 : o->metavar[0] == '[' ? CLI_VALUE_MAY_COME : CLI_VALUE_COMES;
    return 0;
}

int cli_version(int json)
{
    char text[8192];
    spt_err err;
    if (!json) {
        printf("spt %s\n", spt_version());
        return 0;
    }
    const spt_status st = spt_build_info(text, sizeof text, &err);
    if (st)
        fprintf(stderr, "spt: version: %s\n", err.msg);
    else
        puts(text);
    return st ? spt_status_exit_code(st) : 0;
}

static void overview(FILE *to)
{
    fprintf(to, "spt: soft prompt tuning for frozen T5\n\nUsage: spt COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < spt_command_count(); i++)
        fprintf(to, "  %-12s %s\n", spt_command_at(i)->name, spt_command_at(i)->summary);
    fprintf(to, "\nConcepts, with `spt help TOPIC`:\n\n");
    for (size_t i = 0; i < spt_topic_count(); i++)
        fprintf(to, "  %-12s %s\n", spt_topic_at(i)->name, spt_topic_at(i)->summary);
    fprintf(
        to,
        "\n`spt help COMMAND` lists its options, `spt completion bash|zsh|fish` prints a "
        "completion\n"
        "script, `spt --version [--json]` what this build is made of. Answers go to stdout, the\n"
        "story to stderr. Exit codes: 0 done, 1 the check said no, 2 usage, 3 configuration, 4 "
        "bad\n"
        "input file, 5 input/output, 6 memory or device, 75 interrupted after saving. Files named\n"
        "docs/... are in PREFIX/share/doc/spt, examples/... in PREFIX/share/spt.\n");
}

static void options(FILE *to, const char *command)
{
    const spt_option *o;
    for (size_t i = 0; (o = spt_command_option(command, i)); i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->metavar ? " " : "",
                 o->metavar ? o->metavar : "");
        fprintf(to, "%s  %-28s%s %s", i ? "" : "\nOptions:\n", left,
                strlen(left) > 27 ? "\n                              " : "", o->help);
        if (o->default_value[0])
            fprintf(to, " [%s]", o->default_value);
        fputc('\n', to);
    }
    const char *flag;
    for (size_t i = 0; (flag = spt_command_flag(command, i)); i++)
        fprintf(to, "%s--%s",
                i ? ", " : "\nFlags of the reference's program (`spt help gin`): ", flag);
    if (spt_command_flag(command, 0))
        fputs(", --gin.NAME=VALUE\n", to);
}

int cli_help(FILE *to, const char *name)
{
    if (!name) {
        overview(to);
        return 0;
    }
    const spt_command *c = spt_command_find(name);
    const spt_topic *t = spt_topic_find(name);
    if (!c && !t) {
        fprintf(stderr, "spt: help: no command and no topic \"%s\" (see `spt help`)\n", name);
        return spt_status_exit_code(SPT_E_USAGE);
    }
    if (c) {
        fprintf(to, "Usage: spt %s %s\n\n%s\n", c->name, c->usage, c->details);
        options(to, name);
    }
    if (t)
        fprintf(to, "%s%s: %s\n\n%s\n", c ? "\n" : "", t->name, t->summary, t->text);
    return 0;
}
