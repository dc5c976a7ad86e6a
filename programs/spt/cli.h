/* What the program adds to the library: help texts. */
#ifndef SPT_PROGRAMS_CLI_H
#define SPT_PROGRAMS_CLI_H

#include <stdio.h>

/* Help of a command, or the overview (NULL). Returns the exit code. */
int cli_help(FILE *to, const char *command);
int cli_version(int json);
/* Whether a value follows the option's name: 0 for switches and for names that the command does not
 * know; MAY_COME (a metavar in brackets) unless the next word is an option or missing. */
enum { CLI_VALUE_COMES = 1, CLI_VALUE_MAY_COME = 2 };
int cli_option_wants_value(const char *command, const char *name);

#endif
