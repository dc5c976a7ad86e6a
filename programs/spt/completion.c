/* Completion scripts for bash, zsh and fish, made of the tables. What a value may be follows from
 * the option's placeholder: words between '|', "FILE", "DIR", "MODEL", lists of files. */
#include <ctype.h>
#include <string.h>

#include <spt/spt.h>

#include "cli.h"

enum value { VALUE_NONE, VALUE_TEXT, VALUE_WORDS, VALUE_FILE, VALUE_DIR, VALUE_MODEL };

static enum value value_of(const spt_option *o)
{
    const char *m = o->metavar;
    return !m                                                  ? VALUE_NONE
           : !strncmp(m, "FILE", 4)                            ? VALUE_FILE
           : !strcmp(m, "A,B,..") && strcmp(o->name, "splits") ? VALUE_FILE
           : !strcmp(m, "DIR")                                 ? VALUE_DIR
           : !strcmp(m, "MODEL")                               ? VALUE_MODEL
           : strchr(m, '|')                                    ? VALUE_WORDS
                                                               : VALUE_TEXT;
}

/* The lower-case words of "auto|yes|no" or "CHAR|tab", separated by spaces. */
static void words(FILE *to, const char *metavar)
{
    int some = 0;
    for (const char *p = metavar; *p;) {
        const size_t len = strcspn(p, "|");
        if (islower((unsigned char)*p))
            fprintf(to, "%s%.*s", some++ ? " " : "", (int)len, p);
        p += len + (p[len] == '|');
    }
}

/* The words that a command's usage begins with: "list | get NAME" has list and get. */
static void actions(FILE *to, const spt_command *c)
{
    int some = 0;
    for (const char *p = c->usage; *p;) {
        const size_t part = strcspn(p, "|");
        size_t at = strspn(p, " []");
        const size_t len = at < part ? strspn(p + at, "abcdefghijklmnopqrstuvwxyz-") : 0;
        if (len && p[at] != '-' && at + len <= part &&
            (at + len == part || strchr(" ]", p[at + len])))
            fprintf(to, "%s%.*s", some++ ? " " : "", (int)len, p + at);
        p += part + (p[part] == '|');
    }
}

static void commands(FILE *to)
{
    for (size_t i = 0; i < spt_command_count(); i++)
        fprintf(to, "%s ", spt_command_at(i)->name);
    fputs("help version completion", to);
}

static void topics(FILE *to)
{
    for (size_t i = 0; i < spt_command_count(); i++)
        fprintf(to, "%s ", spt_command_at(i)->name);
    for (size_t i = 0; i < spt_topic_count(); i++)
        if (!spt_command_find(spt_topic_at(i)->name))
            fprintf(to, "%s ", spt_topic_at(i)->name);
}

/* --- bash ---------------------------------------------------------------------------------------
 */

static void bash_tables(FILE *to)
{
    const spt_option *o;
    fputs("# Options of command $1; negated ones when $2 begins so.\n"
          "_spt_options() {\n    case $1 in\n",
          to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        const char *name = spt_command_at(k)->name;
        fprintf(to, "    %s) echo \"--help", name);
        for (size_t i = 0; (o = spt_command_option(name, i)); i++)
            fprintf(to, " --%s", o->name);
        for (size_t i = 0; spt_command_flag(name, i); i++)
            fprintf(to, " --%s", spt_command_flag(name, i));
        fputs("\"\n        [[ $2 != --no-* ]] || echo \"", to);
        for (size_t i = 0; (o = spt_command_option(name, i)); i++)
            if (spt_option_negates(o))
                fprintf(to, " --no-%s", o->name);
        fputs("\" ;;\n", to);
    }
    fputs("    esac\n}\n\n# What follows an option: words W..., file, dir, model, text; nothing: "
          "no value.\n"
          "_spt_value() {\n    case \"$1 $2\" in\n",
          to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        const char *name = spt_command_at(k)->name;
        for (size_t i = 0; (o = spt_command_option(name, i)); i++) {
            static const char *const text[] = {[VALUE_TEXT] = "text",
                                               [VALUE_WORDS] = "words ",
                                               [VALUE_FILE] = "file",
                                               [VALUE_DIR] = "dir",
                                               [VALUE_MODEL] = "model"};
            const enum value v = value_of(o);
            if (v == VALUE_NONE)
                continue;
            fprintf(to, "    \"%s --%s\") echo \"%s", name, o->name, text[v]);
            if (v == VALUE_WORDS)
                words(to, o->metavar);
            fputs("\" ;;\n", to);
        }
        for (size_t i = 0; spt_command_flag(name, i); i++)
            if (!spt_flag_is_switch(spt_command_flag(name, i)))
                fprintf(to, "    \"%s --%s\") echo file ;;\n", name, spt_command_flag(name, i));
    }
    fputs("    esac\n}\n\n# Words that may stand first behind a command.\n"
          "_spt_actions() {\n    case $1 in\n    help) echo \"",
          to);
    topics(to);
    fputs("\" ;;\n    completion) echo \"bash zsh fish\" ;;\n", to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        fprintf(to, "    %s) echo \"", spt_command_at(k)->name);
        actions(to, spt_command_at(k));
        fputs("\" ;;\n", to);
    }
    fputs("    esac\n}\n\n", to);
}

static void bash(FILE *to)
{
    fprintf(to, "# bash completion for spt %s, made by `spt completion bash`\n\n", spt_version());
    bash_tables(to);
    fputs("# Data sets and tasks, as the program lists them.\n"
          "_spt_names() { # PROGRAM COMMAND ACTION\n"
          "    case \"$2 $3\" in\n"
          "    'data info' | 'data prepare') \"$1\" data list --quiet ;;\n"
          "    'tasks show' | 'cache '*) \"$1\" tasks ;;\n"
          "    esac 2>/dev/null | cut -f 1\n"
          "}\n\n"
          "_spt_files() { # file|dir WORD\n"
          "    compopt -o filenames 2>/dev/null\n"
          "    local line\n"
          "    while IFS= read -r line; do COMPREPLY+=(\"$line\"); done \\\n"
          "        < <(if [ \"$1\" = dir ]; then compgen -d -- \"$2\"; else compgen -f -- \"$2\"; "
          "fi)\n"
          "}\n\n"
          "_spt() {\n"
          "    COMPREPLY=()\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=\n"
          "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W \"",
          to);
    commands(to);
    fputs(" --version --help\" -- \"$cur\"))\n"
          "        return\n"
          "    fi\n"
          "    command=${COMP_WORDS[1]}\n"
          "    # --name=value comes as three words\n"
          "    if [ \"$cur\" = = ]; then cur=\n"
          "    elif [ \"$prev\" = = ]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    local value=\n"
          "    [[ $prev == --* ]] && value=$(_spt_value \"$command\" \"$prev\")\n"
          "    case $value in\n"
          "    words*) COMPREPLY=($(compgen -W \"${value#words}\" -- \"$cur\")); return ;;\n"
          "    file | dir) _spt_files \"$value\" \"$cur\"; return ;;\n"
          "    model) _spt_files dir \"$cur\"\n"
          "        COMPREPLY+=($(compgen -W \"$(\"${COMP_WORDS[0]}\" models --names 2>/dev/null)\" "
          "-- \"$cur\"))\n"
          "        return ;;\n"
          "    text) return ;;\n"
          "    esac\n"
          "    if [[ $cur == -* ]]; then\n"
          "        COMPREPLY=($(compgen -W \"$(_spt_options \"$command\" \"$cur\")\" -- \"$cur\"))\n"
          "        return\n"
          "    fi\n"
          "    [ \"$COMP_CWORD\" -eq 2 ] && COMPREPLY=($(compgen -W \"$(_spt_actions "
          "\"$command\")\" -- \"$cur\"))\n"
          "    case $command in help | completion) return ;; esac\n"
          "    local action=; [ \"$COMP_CWORD\" -gt 2 ] && action=${COMP_WORDS[2]}\n"
          "    COMPREPLY+=($(compgen -W \"$(_spt_names \"${COMP_WORDS[0]}\" \"$command\" \"$action\")\" "
          "-- \"$cur\"))\n"
          "    _spt_files file \"$cur\"\n"
          "}\n"
          "complete -F _spt spt\n",
          to);
}

/* --- zsh ----------------------------------------------------------------------------------------
 */

/* Inside '...' of a specification of _arguments. */
static void zsh_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (strchr("[]:\\", *text))
            fputc('\\', to);
        fputs(*text == '\'' ? "'\\''" : (const char[]){*text, 0}, to);
    }
}

static void zsh_option(FILE *to, const spt_option *o)
{
    static const char *const action[] = {[VALUE_TEXT] = ":",
                                         [VALUE_WORDS] = ":(",
                                         [VALUE_FILE] = ":_files",
                                         [VALUE_DIR] = ":_files -/",
                                         [VALUE_MODEL] = ":_spt_models"};
    const enum value v = value_of(o);
    fprintf(to, "            '--%s%s[", o->name, v == VALUE_NONE ? "" : "=");
    zsh_text(to, o->help);
    fputc(']', to);
    if (v != VALUE_NONE) {
        fputs(o->metavar[0] == '[' ? "::" : ":", to);
        zsh_text(to, v == VALUE_WORDS ? o->name : o->metavar);
        fputs(action[v], to);
        if (v == VALUE_WORDS) {
            words(to, o->metavar);
            fputc(')', to);
        }
    }
    fputs("' \\\n", to);
}

static void zsh(FILE *to)
{
    const spt_option *o;
    fprintf(to, "#compdef spt\n# zsh completion for spt %s, made by `spt completion zsh`\n\n",
            spt_version());
    fputs("_spt_models() {\n"
          "    local -a names\n"
          "    names=(${(f)\"$(_call_program models spt models --names 2>/dev/null)\"})\n"
          "    _alternative 'dirs:directory:_files -/' 'names:model:compadd -a names'\n"
          "}\n\n"
          "_spt_names() { # data sets, tasks: what the program lists\n"
          "    local -a names\n"
          "    names=(${(f)\"$(_call_program names spt $1 2>/dev/null | cut -f 1)\"})\n"
          "    (( $#names )) && compadd -a names\n"
          "}\n\n"
          "_spt() {\n"
          "    local -a commands\n"
          "    commands=(\n",
          to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        fprintf(to, "        '%s:", spt_command_at(k)->name);
        zsh_text(to, spt_command_at(k)->summary);
        fputs("'\n", to);
    }
    fputs(
        "        'help:what a command or a concept is'\n        'completion:a completion script'\n"
        "    )\n"
        "    if (( CURRENT == 2 )); then\n"
        "        _describe command commands\n"
        "        return\n"
        "    fi\n"
        "    local command=$words[2]\n"
        "    shift words\n"
        "    (( CURRENT-- ))\n"
        "    case $command in\n"
        "    help) _arguments '1:topic:(",
        to);
    topics(to);
    fputs(")' ;;\n    completion) _arguments '1:shell:(bash zsh fish)' ;;\n", to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        const spt_command *c = spt_command_at(k);
        fprintf(to, "    %s)\n        _arguments \\\n", c->name);
        for (size_t i = 0; (o = spt_command_option(c->name, i)); i++)
            zsh_option(to, o);
        for (size_t i = 0; spt_command_flag(c->name, i); i++)
            fprintf(to, "            '*--%s%s' \\\n", spt_command_flag(c->name, i),
                    spt_flag_is_switch(spt_command_flag(c->name, i)) ? "" : "=:value:_files");
        fputs("            '1: :{ local -a actions; actions=(", to);
        actions(to, c);
        fputs("); (( $#actions )) && compadd -a actions; _files }' \\\n"
              "            '*: :{ case $command-$words[2] in (data-info|data-prepare) _spt_names "
              "\"data list\" ;; (tasks-show|cache-*) _spt_names tasks ;; esac; _files }' ;;\n",
              to);
    }
    fputs("    esac\n}\n\n_spt \"$@\"\n", to);
}

/* --- fish ---------------------------------------------------------------------------------------
 */

static void fish_text(FILE *to, const char *text)
{
    for (; *text; text++) {
        if (strchr("'\\", *text))
            fputc('\\', to);
        fputc(*text, to);
    }
}

static void fish_option(FILE *to, const char *command, const spt_option *o)
{
    const enum value v = value_of(o);
    fprintf(to, "complete -c spt -n '__fish_seen_subcommand_from %s' -l %s -d '", command, o->name);
    fish_text(to, o->help);
    fputc('\'', to);
    if (v == VALUE_FILE)
        fputs(" -r -F", to);
    else if (v == VALUE_DIR)
        fputs(" -x -a '(__fish_complete_directories)'", to);
    else if (v == VALUE_MODEL)
        fputs(" -x -a '(__fish_complete_directories) (spt models --names 2>/dev/null)'", to);
    else if (v == VALUE_TEXT)
        fputs(o->metavar[0] == '[' ? "" : " -x", to);
    if (v == VALUE_WORDS) {
        fputs(" -x -a '", to);
        words(to, o->metavar);
        fputc('\'', to);
    }
    fputc('\n', to);
}

static void fish(FILE *to)
{
    const spt_option *o;
    fprintf(to, "# fish completion for spt %s, made by `spt completion fish`\n", spt_version());
    fputs("complete -c spt -n __fish_use_subcommand -f\n"
          "complete -c spt -n '__fish_seen_subcommand_from data; and __fish_seen_subcommand_from "
          "info prepare' -a '(spt data list 2>/dev/null | cut -f 1)'\n"
          "complete -c spt -n '__fish_seen_subcommand_from tasks; and __fish_seen_subcommand_from "
          "show' -a '(spt tasks 2>/dev/null | cut -f 1)'\n",
          to);
    for (size_t k = 0; k < spt_command_count(); k++) {
        const spt_command *c = spt_command_at(k);
        fprintf(to, "complete -c spt -n __fish_use_subcommand -a %s -d '", c->name);
        fish_text(to, c->summary);
        fputs("'\n", to);
        fprintf(to, "complete -c spt -n '__fish_seen_subcommand_from %s' -a '", c->name);
        actions(to, c);
        fputs("'\n", to);
        for (size_t i = 0; (o = spt_command_option(c->name, i)); i++)
            fish_option(to, c->name, o);
        for (size_t i = 0; spt_command_flag(c->name, i); i++)
            fprintf(to, "complete -c spt -n '__fish_seen_subcommand_from %s' -l %s%s\n", c->name,
                    spt_command_flag(c->name, i),
                    spt_flag_is_switch(spt_command_flag(c->name, i)) ? "" : " -r -F");
    }
    fputs("complete -c spt -n __fish_use_subcommand -a help -d 'what a command or a concept is'\n"
          "complete -c spt -n __fish_use_subcommand -a completion -d 'a completion script'\n"
          "complete -c spt -n '__fish_seen_subcommand_from help' -f -a '",
          to);
    topics(to);
    fputs("'\ncomplete -c spt -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n",
          to);
}

int cli_completion(FILE *to, const char *shell)
{
    if (shell && !strcmp(shell, "bash"))
        bash(to);
    else if (shell && !strcmp(shell, "zsh"))
        zsh(to);
    else if (shell && !strcmp(shell, "fish"))
        fish(to);
    else {
        fprintf(stderr, "spt: completion: which shell? spt completion bash|zsh|fish\n");
        return spt_status_exit_code(SPT_E_USAGE);
    }
    return 0;
}
