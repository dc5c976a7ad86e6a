/* The program: words of the command line to a job, answers to stdout, the story to stderr. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <spt/spt.h>

#include "cli.h"

/* A descriptor that the caller closed would go to the first file opened, and the story into it. It
 * is taken here, the wrong way round, so that using it still fails. */
static void keep_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
            (void)!open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static int line_is_open; /* a progress line stands on the terminal */

static void end_line(void)
{
    if (line_is_open)
        fputs("\r\033[K", stderr);
    line_is_open = 0;
}

static int stdout_errno; /* of the write that failed */

static int write_stdout(void *ctx, const void *bytes, size_t n)
{
    (void)ctx;
    end_line();
    if (!n || (fwrite(bytes, 1, n, stdout) == n && !fflush(stdout)))
        return 0;
    stdout_errno = errno;
    return 1;
}

struct story {
    const char *command;
    int quiet;
};

static void show_progress(void *ctx, const char *line)
{
    (void)ctx;
    end_line();
    if (line) {
        fprintf(stderr, "\r%s", line);
        fflush(stderr);
        line_is_open = 1;
    }
}

static void tell(void *ctx, int level, const char *line)
{
    const struct story *s = ctx;
    end_line();
    if (level)
        fprintf(stderr, "spt: %s: warning: %s\n", s->command, line);
    else if (!s->quiet)
        fprintf(stderr, "%s\n", line);
}

/* The first signal asks for a save at the next step; the second one ends at once. */
static void on_signal(int sig)
{
    static volatile sig_atomic_t seen;
    if (seen++) {
        signal(sig, SIG_DFL);
        raise(sig);
    }
    spt_job_stop();
}

/* A mapped file that became shorter, or whose disk failed, is bad input and no crash of ours. What is
 * on disk is as after any kill: complete states, which the next run continues. */
static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    static const char spt[] = "spt: ", why[] = " was cut short, or its disk failed, while it was read; "
                                               "do not change a model's files while they are in use\n";
    (void)context;
    const char *file = info->si_code == BUS_ADRERR ? spt_mapped_file(info->si_addr) : NULL;
    if (!file) { /* not ours: as without a handler */
        signal(sig, SIG_DFL);
        raise(sig);
        return;
    }
    if (line_is_open)
        (void)!write(STDERR_FILENO, "\n", 1);
    (void)!write(STDERR_FILENO, spt, sizeof spt - 1);
    (void)!write(STDERR_FILENO, file, strlen(file));
    (void)!write(STDERR_FILENO, why, sizeof why - 1);
    _exit(spt_status_exit_code(SPT_E_FORMAT));
}

static int complain(const char *command, const spt_err *err)
{
    end_line();
    fprintf(stderr, "spt: %s%s%s\n", command ? command : "", command ? ": " : "", err->msg);
    return spt_status_exit_code(err->code);
}

/* The exit code once everything is said. A reader that has gone (head) is not an error of ours, an
 * answer that a full disk swallowed is. */
static int finish(const char *command, int code)
{
    if (!stdout_errno && (fflush(stdout) || ferror(stdout)))
        stdout_errno = errno;
    if (code || !stdout_errno || stdout_errno == EPIPE)
        return code;
    end_line();
    fprintf(stderr, "spt: %s: cannot write standard output: %s; the answers are not complete\n",
            command, strerror(stdout_errno));
    return spt_status_exit_code(SPT_E_IO);
}

/* "--name=value", "--name value", "--switch"; everything else is an argument. */
static spt_status parse(spt_job *job, const char *command, int argc, char **argv,
                        struct story *story, spt_err *err)
{
    int only_arguments = 0;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        spt_status st;
        if (only_arguments || word[0] != '-' || word[1] == '\0') {
            st = spt_job_add(job, word, err);
        } else if (!strcmp(word, "--")) {
            only_arguments = 1;
            continue;
        } else {
            while (*word == '-')
                word++;
            char name[128];
            const size_t len = strcspn(word, "=");
            snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1),
                     word);
            const char *value = word[len] ? word + len + 1 : NULL;
            const int wants = value ? 0 : cli_option_wants_value(command, name);
            if (wants && i + 1 < argc &&
                (wants == CLI_VALUE_COMES || strncmp(argv[i + 1], "--", 2)))
                value = argv[++i];
            if (!strcmp(name, "quiet"))
                story->quiet = 1;
            st = spt_job_set(job, name, value, err);
        }
        if (st)
            return st;
    }
    return SPT_OK;
}

/* `spt help [NAME]`; with --man [PAGE] what the manual is built from. */
static int help(int argc, char **argv)
{
    if (argc && !strcmp(argv[0], "--man"))
        return argc > 1 ? cli_man(stdout, argv[1]) : cli_man_list(stdout);
    return cli_help(stdout, argc ? argv[0] : NULL);
}

int main(int argc, char **argv)
{
    keep_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* a reader that has gone is seen in what is written */
    if (argc < 2) {
        cli_help(stderr, NULL);
        return spt_status_exit_code(SPT_E_USAGE);
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "version"))
        return finish("version", cli_version(argc > 2 && !strcmp(argv[2], "--json")));
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return finish("help", help(argc - 2, argv + 2));
    if (!strcmp(argv[1], "completion"))
        return finish("completion", cli_completion(stdout, argc > 2 ? argv[2] : NULL));
    const char *command = argv[1];
    for (int i = 2; i < argc && strcmp(argv[i], "--"); i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return finish("help", cli_help(stdout, command));

    struct story story = {command, 0};
    spt_set_log(tell, &story);
    spt_err err = {0};
    spt_job *job;
    if (spt_job_new(command, &job, &err))
        return spt_job_speaks(NULL) ? complain(NULL, &err) : spt_status_exit_code(err.code);
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO},
              NULL);
    signal(SIGXFSZ, SIG_IGN); /* ulimit -f: the write fails and says so */
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    const spt_sink sink = {
        .take = write_stdout,
        .progress = show_progress,
        .terminal = isatty(STDERR_FILENO),
    };
    int taken = 0;
    spt_status st = spt_job_args(job, argc - 2, argv + 2, &taken, &err);
    for (int i = 2; taken && i < argc; i++)
        story.quiet |= !strcmp(argv[i], "--quiet");
    if (!st && !taken)
        st = parse(job, command, argc - 2, argv + 2, &story, &err);
    if (!st)
        st = spt_job_run(job, &sink, &err);
    int code = st ? spt_status_exit_code(st) : 0;
    if (!st || spt_job_speaks(job))
        code = finish(command, st ? complain(command, &err) : 0);
    spt_job_free(job); /* under mpirun: leaves, now that it is said */
    return code;
}
