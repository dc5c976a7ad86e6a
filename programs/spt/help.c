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
    if (json)
        printf("{\"version\": \"%s\", \"abi\": %u}\n", spt_version(), spt_version_num());
    else
        printf("spt %s\n", spt_version());
    return 0;
}

static void overview(FILE *to)
{
    fprintf(to, "spt: soft prompt tuning for frozen T5\n\nUsage: spt COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < spt_command_count(); i++)
        fprintf(to, "  %-10s %s\n", spt_command_at(i)->name, spt_command_at(i)->summary);
    fprintf(to, "\n`spt help COMMAND` lists its options. Answers go to stdout, the story to stderr.\n"
                "Exit codes: 0 done, 1 the check said no, 2 usage, 3 configuration, 4 bad input\n"
                "file, 5 input/output, 6 memory or device, 75 interrupted after saving.\n");
}

int cli_help(FILE *to, const char *command)
{
    if (!command) {
        overview(to);
        return 0;
    }
    const spt_command *c = spt_command_find(command);
    if (!c) {
        fprintf(stderr, "spt: help: unknown command \"%s\" (see `spt help`)\n", command);
        return spt_status_exit_code(SPT_E_USAGE);
    }
    fprintf(to, "Usage: spt %s %s\n\n%s\n\nOptions:\n", c->name, c->usage, c->details);
    const spt_option *o;
    for (size_t i = 0; (o = spt_command_option(command, i)); i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->metavar ? " " : "",
                 o->metavar ? o->metavar : "");
        fprintf(to, "  %-28s%s %s", left, strlen(left) > 27 ? "\n                              " : "",
                o->help);
        if (o->default_value[0])
            fprintf(to, " [%s]", o->default_value);
        fputc('\n', to);
    }
    return 0;
}
