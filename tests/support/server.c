#include "support/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/http.h"
#include "support/test.h"

enum { MAX_ARGS = 40, START_MS = 20000 };

void test_server_start(struct test_server *s, const char *const *args)
{
    char file[512], parent[32];
    snprintf(file, sizeof file, "%s/port-%p", test_tmpdir(), (void *)s);
    snprintf(parent, sizeof parent, "%d", (int)getpid());
    const char *argv[MAX_ARGS] = {"python3", "tests/server/server.py", "--port-file", file,
                                  "--parent", parent};
    int n = 6;
    for (; *args && n + 1 < MAX_ARGS; args++)
        argv[n++] = *args;
    unlink(file);
    s->pid = fork();
    if (s->pid == 0) {
        execvp("python3", (char *const *)(void *)argv);
        _exit(127);
    }
    EXPECT_TRUE(s->pid > 0);
    s->port = 0;
    for (int ms = 0; !s->port; ms += 20) {
        FILE *f = fopen(file, "r");
        if (f && fscanf(f, "%d", &s->port) != 1)
            s->port = 0;
        if (f)
            fclose(f);
        if (!s->port && (ms > START_MS || waitpid(s->pid, NULL, WNOHANG) == s->pid))
            fail_msg("tests/server/server.py does not start");
        nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    snprintf(s->host, sizeof s->host, "127.0.0.1:%d", s->port);
    snprintf(s->url, sizeof s->url, "http://127.0.0.1:%d", s->port);
}

void test_server_stop(struct test_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
    }
    s->pid = 0;
}

static char *control(const struct test_server *s, const char *what, const char *method,
                     const char *body)
{
    char url[1024];
    spt_err err;
    http_client *c;
    struct http_response r;
    snprintf(url, sizeof url, "%s/_control/%s", s->url, what);
    const struct http_request q = {.url = url,
                                   .method = method,
                                   .body = body,
                                   .body_size = body ? strlen(body) : 0,
                                   .has_body = body != NULL};
    EXPECT_OK(http_client_new(&c, &err), &err);
    http_response_init(&r);
    EXPECT_OK(http_run(c, &q, &r, &err), &err);
    EXPECT_EQ_I64(r.status, 200);
    char *text = mem_strdup(buf_str(&r.body));
    http_response_release(&r);
    http_client_free(c);
    return text;
}

void test_server_control(const struct test_server *s, const char *what, const char *body)
{
    mem_free(control(s, what, "POST", body ? body : ""));
}

char *test_server_log(const struct test_server *s)
{
    return control(s, "log", NULL, NULL);
}

/* The log is a list of {"method": "GET", "path": "/x", ...}. */
int test_server_count(const struct test_server *s, const char *part)
{
    char *log = test_server_log(s);
    char line[4096];
    int n = 0;
    for (const char *p = log; (p = strstr(p, "\"method\": \"")); p++) {
        const char *m = p + strlen("\"method\": \"");
        const char *path = strstr(m, "\"path\": \"");
        if (!path)
            break;
        path += strlen("\"path\": \"");
        snprintf(line, sizeof line, "%.*s %.*s", (int)strcspn(m, "\""), m,
                 (int)strcspn(path, "\""), path);
        n += strstr(line, part) != NULL;
    }
    mem_free(log);
    return n;
}
