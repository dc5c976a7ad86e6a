/* libcurl's own failures (rulings 26): each of its calls that can fail for want of memory or by an
 * error of its own is an answer of ours, and nothing leaks. The names below stand in front of the
 * library's. */
#define _GNU_SOURCE
#include "support/server.h"
#include "support/test.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <string.h>

#include "fs/http.h"

static enum site { NONE, EASY, LIST, MULTI, ADD, PERFORM, POLL, URL } failing;

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

CURL *curl_easy_init(void)
{
    return failing == EASY ? NULL : REAL(CURL *, curl_easy_init, void)();
}
CURLM *curl_multi_init(void)
{
    return failing == MULTI ? NULL : REAL(CURLM *, curl_multi_init, void)();
}
struct curl_slist *curl_slist_append(struct curl_slist *l, const char *s)
{
    return failing == LIST ? NULL
                           : REAL(struct curl_slist *, curl_slist_append, struct curl_slist *,
                                  const char *)(l, s);
}
CURLMcode curl_multi_add_handle(CURLM *m, CURL *e)
{
    return failing == ADD ? CURLM_OUT_OF_MEMORY
                          : REAL(CURLMcode, curl_multi_add_handle, CURLM *, CURL *)(m, e);
}
CURLMcode curl_multi_perform(CURLM *m, int *n)
{
    return failing == PERFORM ? CURLM_INTERNAL_ERROR
                              : REAL(CURLMcode, curl_multi_perform, CURLM *, int *)(m, n);
}
CURLMcode curl_multi_poll(CURLM *m, struct curl_waitfd *w, unsigned n, int ms, int *got)
{
    return failing == POLL ? CURLM_OUT_OF_MEMORY
                           : REAL(CURLMcode, curl_multi_poll, CURLM *, struct curl_waitfd *, unsigned,
                                  int, int *)(m, w, n, ms, got);
}
CURLU *curl_url(void)
{
    return failing == URL ? NULL : REAL(CURLU *, curl_url, void)();
}

static struct test_server server;

static spt_status get(spt_err *err)
{
    char url[128];
    http_client *c = NULL;
    struct http_response r;
    snprintf(url, sizeof url, "%s/files/small?redirect=1", server.url);
    const struct http_request q = {.url = url};
    http_response_init(&r);
    spt_status st = http_client_new(&c, err);
    if (!st)
        st = http_run(c, &q, &r, err);
    if (!st)
        EXPECT_STR(buf_str(&r.body), "hello");
    http_response_release(&r);
    http_client_free(c);
    return st;
}

static void failures_are_answers(void **state)
{
    static const spt_status want[] = {SPT_OK,      SPT_E_NOMEM, SPT_E_NOMEM, SPT_E_NOMEM,
                                      SPT_E_NOMEM, SPT_E_IO,    SPT_E_NOMEM, SPT_E_IO};
    const char *dir = test_tmpdir();
    spt_err err;
    test_write(test_path(dir, "small"), "hello", 5);
    test_server_start(&server, (const char *[]){"--files", dir, NULL});
    for (int i = NONE; i <= URL; i++) {
        failing = (enum site)i;
        fault_install();
        EXPECT_STATUS(get(&err), want[i]);
        fault_remove();
        failing = NONE;
        EXPECT_OK(get(&err), &err);
    }
    test_server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(failures_are_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
