/* Manual pages in man(7) form: spt(1), one page per command in section 1, one per concept in
 * section 7; a concept with the name of a command stands in the command's page. */
#include <string.h>

#include <spt/spt.h>

#include "cli.h"

/* Text with the characters that roff would take for itself written out. */
static void put(FILE *to, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\\')
            fputs("\\e", to);
        else if (text[i] == '-')
            fputs("\\-", to);
        else if (text[i] == '`')
            fputs("\\(ga", to);
        else if (text[i] == '\'')
            fputs("\\(aq", to);
        else if (text[i] == '^')
            fputs("\\(ha", to);
        else if (text[i] == '~')
            fputs("\\(ti", to);
        else if (text[i] == '.' && (i == 0 || text[i - 1] == '\n'))
            fputs("\\&.", to);
        else
            fputc(text[i], to);
    }
}

static void puts_roff(FILE *to, const char *text)
{
    put(to, text, strlen(text));
}

/* Paragraphs; lines that begin with two spaces stay as they are. */
static void prose(FILE *to, const char *text)
{
    int shown = 0, fresh = 0; /* directly behind .SH there is no .PP */
    for (const char *p = text; *p;) {
        const size_t len = strcspn(p, "\n");
        const int as_is = len > 2 && p[0] == ' ' && p[1] == ' ';
        if (!len) {
            fresh = 1;
        } else {
            if (shown && !as_is)
                fputs(".fi\n.RE\n", to);
            if (fresh)
                fputs(".PP\n", to);
            if (!shown && as_is)
                fputs(".RS 4\n.nf\n", to);
            shown = as_is;
            fresh = 0;
            put(to, as_is ? p + 2 : p, as_is ? len - 2 : len);
            fputc('\n', to);
        }
        p += len + (p[len] == '\n');
    }
    if (shown)
        fputs(".fi\n.RE\n", to);
}

static void head(FILE *to, const char *name, int section, const char *summary)
{
    fputs(".TH ", to);
    for (const char *p = name; *p; p++) {
        if (*p == '-')
            fputc('\\', to);
        fputc(*p >= 'a' && *p <= 'z' ? *p - 'a' + 'A' : *p, to);
    }
    fprintf(to, " %d \"%s\" \"spt %s\" \"spt manual\"\n.SH NAME\n", section, SPT_RELEASED,
            spt_version());
    puts_roff(to, name);
    fputs(" \\- ", to);
    puts_roff(to, summary);
    fputc('\n', to);
}

static void options(FILE *to, const char *command)
{
    const spt_option *o;
    for (size_t i = 0; (o = spt_command_option(command, i)); i++) {
        fprintf(to, "%s.TP\n\\fB\\-\\-", i ? "" : ".SH OPTIONS\n");
        puts_roff(to, o->name);
        fputs("\\fR", to);
        if (o->metavar) {
            fputs(" \\fI", to);
            puts_roff(to, o->metavar);
            fputs("\\fR", to);
        }
        fputc('\n', to);
        puts_roff(to, o->help);
        if (o->default_value[0]) {
            fputs(" [", to);
            puts_roff(to, o->default_value);
            fputc(']', to);
        }
        fputc('\n', to);
    }
    const char *flag;
    for (size_t i = 0; (flag = spt_command_flag(command, i)); i++) {
        fputs(i ? ",\n" : ".SH FLAGS OF THE REFERENCE\n", to);
        fputs("\\fB\\-\\-", to);
        puts_roff(to, flag);
        fputs("\\fR", to);
    }
    if (spt_command_flag(command, 0))
        fputs(",\n\\fB\\-\\-gin.\\fINAME\\fB=\\fIVALUE\\fR: see spt\\-gin(7).\n", to);
}

static void exit_status(FILE *to)
{
    fputs(".SH EXIT STATUS\n0 done, 1 the check said no or a number was not finite, 2 usage,\n"
          "3 configuration, 4 bad input file, 5 input/output, 6 memory or device, 75 interrupted\n"
          "after saving.\n",
          to);
}

static void topic_name(FILE *to, const spt_topic *t)
{
    fputs(".BR spt\\-", to);
    puts_roff(to, t->name);
    fprintf(to, " (%d)", spt_command_find(t->name) ? 1 : 7);
}

static void program_page(FILE *to)
{
    head(to, "spt", 1, "soft prompt tuning for frozen T5");
    fputs(".SH SYNOPSIS\n.B spt\n.I COMMAND\n[\\fIOPTIONS\\fR]\n.br\n"
          ".B spt help\n[\\fICOMMAND\\fR|\\fITOPIC\\fR]\n.br\n"
          ".B spt completion\nbash|zsh|fish\n.br\n"
          ".B spt \\-\\-version\n[\\fB\\-\\-json\\fR]\n"
          ".SH DESCRIPTION\nAnswers go to standard output, the story to standard error.\n"
          ".SH COMMANDS\n",
          to);
    for (size_t i = 0; i < spt_command_count(); i++) {
        fputs(".TP\n.BR spt\\-", to);
        puts_roff(to, spt_command_at(i)->name);
        fputs(" (1)\n", to);
        puts_roff(to, spt_command_at(i)->summary);
        fputc('\n', to);
    }
    fputs(".SH CONCEPTS\n", to);
    for (size_t i = 0; i < spt_topic_count(); i++) {
        fputs(".TP\n", to);
        topic_name(to, spt_topic_at(i));
        fputc('\n', to);
        puts_roff(to, spt_topic_at(i)->summary);
        fputc('\n', to);
    }
    exit_status(to);
    const spt_topic *environment = spt_topic_find("environment");
    if (environment) {
        fputs(".SH ENVIRONMENT\n", to);
        prose(to, environment->text);
    }
}

static void command_page(FILE *to, const spt_command *c)
{
    char name[64];
    snprintf(name, sizeof name, "spt-%s", c->name);
    head(to, name, 1, c->summary);
    fputs(".SH SYNOPSIS\n.B spt ", to);
    puts_roff(to, c->name);
    fputc('\n', to);
    puts_roff(to, c->usage);
    fputs("\n.SH DESCRIPTION\n", to);
    prose(to, c->details);
    options(to, c->name);
    const spt_topic *t = spt_topic_find(c->name);
    if (t) {
        fputs(".SH CONCEPT\n", to);
        prose(to, t->text);
    }
    exit_status(to);
    fputs(".SH SEE ALSO\n.BR spt (1)\n", to);
}

static void topic_page(FILE *to, const spt_topic *t)
{
    char name[64];
    snprintf(name, sizeof name, "spt-%s", t->name);
    head(to, name, 7, t->summary);
    fputs(".SH DESCRIPTION\n", to);
    prose(to, t->text);
    fputs(".SH SEE ALSO\n.BR spt (1)\n", to);
}

int cli_man(FILE *to, const char *page)
{
    char name[64];
    const size_t n = strlen(page);
    if (!strcmp(page, "spt.1")) {
        program_page(to);
        return 0;
    }
    if (n > 6 && n < sizeof name && !strncmp(page, "spt-", 4) && page[n - 2] == '.') {
        snprintf(name, sizeof name, "%.*s", (int)(n - 6), page + 4);
        const spt_command *c = spt_command_find(name);
        const spt_topic *t = spt_topic_find(name);
        if (c && page[n - 1] == '1') {
            command_page(to, c);
            return 0;
        }
        if (t && !c && page[n - 1] == '7') {
            topic_page(to, t);
            return 0;
        }
    }
    fprintf(stderr, "spt: help: no manual page \"%s\" (see `spt help --man`)\n", page);
    return spt_status_exit_code(SPT_E_USAGE);
}

int cli_man_list(FILE *to)
{
    fputs("spt.1\n", to);
    for (size_t i = 0; i < spt_command_count(); i++)
        fprintf(to, "spt-%s.1\n", spt_command_at(i)->name);
    for (size_t i = 0; i < spt_topic_count(); i++)
        if (!spt_command_find(spt_topic_at(i)->name))
            fprintf(to, "spt-%s.7\n", spt_topic_at(i)->name);
    return 0;
}
