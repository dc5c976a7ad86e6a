/* What the program adds to the library: texts made of the library's tables (help, manual pages,
 * completion). No option, command or concept is written down here a second time. */
#ifndef SPT_PROGRAMS_CLI_H
#define SPT_PROGRAMS_CLI_H

#include <stdio.h>

/* Help of a command or a topic, or the overview (NULL). Returns the exit code. */
int cli_help(FILE *to, const char *name);
/* `spt help --man PAGE`: a manual page in man(7) form; PAGE is one of those of cli_man_list, e.g.
 * "spt-train.1". Returns the exit code. */
int cli_man(FILE *to, const char *page);
/* `spt help --man`: the names of all pages, one a line. */
int cli_man_list(FILE *to);
/* `spt completion bash|zsh|fish`: the script for a shell. Returns the exit code. */
int cli_completion(FILE *to, const char *shell);
int cli_version(int json);
/* Whether a value follows the option's name: 0 for switches and for names that the command does not
 * know; MAY_COME (a metavar in brackets) unless the next word is an option or missing. */
enum { CLI_VALUE_COMES = 1, CLI_VALUE_MAY_COME = 2 };
int cli_option_wants_value(const char *command, const char *name);

#endif
