#include "fs/gs_auth.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs_internal.h"
#include "fs/remote.h"
#include "text/json.h"

enum {
    MAX_FILE = 1 << 20,
    MAX_TEXT = 1 << 16,
    JWT_SECONDS = 3600,
    EARLY_SECONDS = 60, /* a token is renewed this long before its end */
    CLOCK_TOLERANCE = 300,
};
#define SCOPE "https://www.googleapis.com/auth/devstorage.read_write"
#define SECOND ((int64_t)1000000000)

enum kind { UNKNOWN, NOBODY, SERVICE, USER, MACHINE };

static struct {
    enum kind kind;
    char *file;                             /* where the credentials were found */
    char *email, *key, *key_id;             /* service account */
    char *client, *client_secret, *refresh; /* user */
    char *token_uri;
    char *machine;                          /* metadata server's host */
    buf token;
    int64_t expires; /* os_monotonic_ns */
} me;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static bool set(const char *s)
{
    return s && s[0];
}

/* --- base64 --------------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

void gs_add_base64(buf *out, const void *bytes, size_t n, bool url)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++)
            v = v << 8 | (i + k < n ? p[i + k] : 0);
        for (size_t k = 0; k < 4; k++) {
            const unsigned d = v >> (18 - 6 * k) & 63;
            if (i + k > n)
                url ? (void)0 : buf_addc(out, '=');
            else
                buf_addc(out, d < 62 ? digits[d] : d == 62 ? (url ? '-' : '+') : (url ? '_' : '/'));
        }
    }
}

bool gs_from_base64(const char *text, size_t len, unsigned char *out, size_t n)
{
    size_t made = 0, bits = 0;
    uint32_t v = 0;
    while (len && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        const char *d = text[i] ? strchr(digits, text[i]) : NULL;
        const int value = d ? (int)(d - digits) : text[i] == '+' ? 62 : text[i] == '/' ? 63 : -1;
        if (value < 0)
            return false;
        v = v << 6 | (uint32_t)value;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        if (made == n)
            return false;
        out[made++] = (unsigned char)(v >> bits);
    }
    return made == n && bits < 6;
}

/* --- the endpoint --------------------------------------------------------------------------- */

spt_status gs_endpoint(buf *out, spt_err *err)
{
    const char *emulator = os_getenv("STORAGE_EMULATOR_HOST");
    const char *other = os_getenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE");
    const char *base = set(emulator) ? emulator : set(other) ? other : "https://storage.googleapis.com";
    buf_clear(out);
    buf_addf(out, "%s%s", strstr(base, "://") ? "" : "http://", base);
    while (out->len && out->data[out->len - 1] == '/')
        out->data[--out->len] = '\0';
    return buf_status(out, "the address of the storage service", err);
}

/* --- finding out ---------------------------------------------------------------------------- */

static void wipe(char **s)
{
    if (*s)
        OPENSSL_cleanse(*s, strlen(*s));
    mem_free(*s);
    *s = NULL;
}

static void forget_token(void)
{
    if (me.token.data)
        OPENSSL_cleanse(me.token.data, me.token.len);
    buf_release(&me.token);
    me.expires = 0;
}

static void forget(void)
{
    wipe(&me.file);
    wipe(&me.email);
    wipe(&me.key);
    wipe(&me.key_id);
    wipe(&me.client);
    wipe(&me.client_secret);
    wipe(&me.refresh);
    wipe(&me.token_uri);
    wipe(&me.machine);
    forget_token();
    me.kind = UNKNOWN;
}

void gs_auth_release(void)
{
    pthread_mutex_lock(&mutex);
    forget();
    pthread_mutex_unlock(&mutex);
}

static spt_status read_text(json_reader *r, char **out, spt_err *err)
{
    buf b;
    buf_init(&b, MAX_TEXT);
    wipe(out);
    spt_status st = json_read_text(r, &b, err);
    if (!st)
        st = buf_status(&b, "text", err);
    if (!st && !(*out = mem_strndup(buf_str(&b), b.len)))
        st = err_nomem(err, b.len);
    if (b.data)
        OPENSSL_cleanse(b.data, b.len);
    buf_release(&b);
    return st;
}

/* The members that we know; `type` says what it is. */
static spt_status parse_file(const char *text, size_t size, char **type, spt_err *err)
{
    const struct {
        const char *name;
        char **to;
    } members[] = {
        {"type", type},
        {"client_email", &me.email},
        {"private_key", &me.key},
        {"private_key_id", &me.key_id},
        {"token_uri", &me.token_uri},
        {"client_id", &me.client},
        {"client_secret", &me.client_secret},
        {"refresh_token", &me.refresh},
    };
    json_reader r;
    bool more;
    struct json_event key;
    json_open(&r, text, size, 0);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        char **to = NULL;
        for (size_t i = 0; i < sizeof members / sizeof *members; i++)
            if (json_is(&key, members[i].name))
                to = members[i].to;
        st = to ? read_text(&r, to, err) : json_skip(&r, err);
    }
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    return st;
}

static spt_status judge_file(const char *type, spt_err *err)
{
    if (!strcmp(type, "service_account")) {
        if (!set(me.email) || !set(me.key))
            return err_set(err, SPT_E_CONFIG, "client_email or private_key is missing");
        me.kind = SERVICE;
    } else if (!strcmp(type, "authorized_user")) {
        if (!set(me.client) || !set(me.client_secret) || !set(me.refresh))
            return err_set(err, SPT_E_CONFIG, "client_id, client_secret or refresh_token is missing");
        me.kind = USER;
    } else {
        return err_set(err, SPT_E_CONFIG,
                       "credentials of type \"%s\" are not supported (service_account and "
                       "authorized_user are)",
                       type);
    }
    if (!me.token_uri && !(me.token_uri = mem_strdup("https://oauth2.googleapis.com/token")))
        return err_nomem(err, 0);
    if (strncmp(me.token_uri, "https://", 8) && !http_is_loopback(me.token_uri))
        return err_set(err, SPT_E_CONFIG, "its token_uri is not https");
    return SPT_OK;
}

static spt_status load_file(const char *file, spt_err *err)
{
    char *text = NULL, *type = NULL;
    size_t size = 0;
    const struct fs_backend *be;
    TRY(fs_backend_of(file, &be, err));
    if (be != &fs_local)
        return err_set(err, SPT_E_CONFIG, "%s: credentials must be a local file", file);
    TRY(fs_read_all(file, MAX_FILE, &text, &size, err));
    spt_status st = parse_file(text, size, &type, err);
    if (!st)
        st = set(type) ? judge_file(type, err)
                       : err_set(err, SPT_E_CONFIG, "no \"type\": not a file of credentials");
    if (!st && !(me.file = mem_strdup(file)))
        st = err_nomem(err, strlen(file));
    OPENSSL_cleanse(text, size);
    mem_free(text);
    wipe(&type);
    return st ? err_wrap(err, st, "credentials in %s", file) : SPT_OK;
}

/* Only machines of that cloud say so; elsewhere asking the network would cost seconds. */
static bool on_cloud_machine(void)
{
    char name[64] = "";
    const char *no = os_getenv("NO_GCE_CHECK");
    if (set(no) && (!strcmp(no, "true") || !strcmp(no, "True") || !strcmp(no, "1")))
        return false;
    const int fd = os_open("/sys/class/dmi/id/product_name", OS_READ);
    if (fd < 0)
        return false;
    const int64_t n = os_read(fd, name, sizeof name - 1);
    os_close(fd);
    return n > 0 && !strncmp(name, "Google", 6);
}

static spt_status find_machine(spt_err *err)
{
    const char *host = os_getenv("GCE_METADATA_HOST");
    me.kind = NOBODY;
    if (!set(host) && !on_cloud_machine())
        return SPT_OK;
    me.machine = mem_strdup(set(host) ? host : "metadata.google.internal");
    if (!me.machine)
        return err_nomem(err, 0);
    me.kind = MACHINE;
    return SPT_OK;
}

static spt_status find_out(spt_err *err)
{
    const char *file = os_getenv("GOOGLE_APPLICATION_CREDENTIALS");
    const char *config = os_getenv("CLOUDSDK_CONFIG"), *home = os_getenv("HOME");
    char path[PATH_MAX] = "";
    if (me.kind != UNKNOWN)
        return SPT_OK;
    if (set(os_getenv("STORAGE_EMULATOR_HOST"))) {
        me.kind = NOBODY;
        return SPT_OK;
    }
    if (set(file))
        return load_file(file, err);
    if (set(config))
        snprintf(path, sizeof path, "%s/application_default_credentials.json", config);
    else if (set(home))
        snprintf(path, sizeof path, "%s/.config/gcloud/application_default_credentials.json", home);
    struct fs_info info;
    return set(path) && !local_stat(path, &info, NULL) ? load_file(path, err) : find_machine(err);
}

/* --- tokens --------------------------------------------------------------------------------- */

/* Signs with the account's key; no password is ever asked for. */
static int no_password(char *p, int n, int writing, void *ctx)
{
    (void)p, (void)n, (void)writing, (void)ctx;
    return -1;
}

static spt_status sign(const buf *text, buf *out, spt_err *err)
{
    unsigned char signature[1024];
    size_t n = sizeof signature;
    BIO *bio = BIO_new_mem_buf(me.key, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    const bool rsa = key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    const bool ok = rsa && ctx && EVP_PKEY_get_size(key) <= (int)sizeof signature &&
                    EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                    EVP_DigestSign(ctx, signature, &n, (const unsigned char *)buf_str(text),
                                   text->len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
    BIO_free(bio);
    ERR_clear_error();
    if (!ok)
        return err_set(err, SPT_E_CONFIG, "%s: its private_key is not an RSA key that can sign",
                       me.file);
    gs_add_base64(out, signature, n, true);
    return buf_status(out, "signature", err);
}

static void add_member(buf *b, json_writer *w, const char *name, const char *value)
{
    (void)b;
    json_key(w, name);
    json_string(w, value);
}

/* header.claims.signature, each in base64. */
static spt_status make_jwt(buf *out, spt_err *err)
{
    buf part;
    json_writer w;
    const int64_t now = os_clock_ns() / SECOND;
    buf_init(&part, MAX_TEXT);
    json_write_init(&w, &part, 0);
    json_begin_object(&w);
    add_member(&part, &w, "alg", "RS256");
    add_member(&part, &w, "typ", "JWT");
    if (set(me.key_id))
        add_member(&part, &w, "kid", me.key_id);
    json_end_object(&w);
    gs_add_base64(out, buf_str(&part), part.len, true);
    buf_addc(out, '.');
    spt_status st = buf_status(&part, "signed request", err);
    buf_clear(&part);
    json_write_init(&w, &part, 0);
    json_begin_object(&w);
    add_member(&part, &w, "iss", me.email);
    add_member(&part, &w, "scope", SCOPE);
    add_member(&part, &w, "aud", me.token_uri);
    json_key(&w, "iat");
    json_i64(&w, now);
    json_key(&w, "exp");
    json_i64(&w, now + JWT_SECONDS);
    json_end_object(&w);
    gs_add_base64(out, buf_str(&part), part.len, true);
    if (!st)
        st = buf_status(&part, "signed request", err);
    buf_clear(&part);
    if (!st)
        st = buf_status(out, "signed request", err);
    if (!st)
        st = sign(out, &part, err);
    buf_addc(out, '.');
    buf_add(out, part.data, part.len);
    buf_release(&part);
    return st ? st : buf_status(out, "signed request", err);
}

static void add_field(buf *b, const char *name, const char *value)
{
    buf_addf(b, "%s%s=", b->len ? "&" : "", name);
    http_add_escaped(b, value, false);
}

static spt_status take_answer(const struct http_response *r, spt_err *err)
{
    json_reader j;
    bool more;
    struct json_event key;
    int64_t seconds = 0;
    forget_token();
    buf_init(&me.token, MAX_TEXT);
    json_open(&j, r->body.data, r->body.len, 0);
    spt_status st = json_enter_object(&j, err);
    while (!st && !(st = json_next_key(&j, &more, &key, err)) && more) {
        if (json_is(&key, "access_token"))
            st = json_read_text(&j, &me.token, err);
        else if (json_is(&key, "expires_in"))
            st = json_read_i64(&j, &seconds, err);
        else
            st = json_skip(&j, err);
    }
    json_close(&j);
    if (!st)
        st = buf_status(&me.token, "token", err);
    if (!st && !me.token.len)
        st = err_set(err, SPT_E_IO, "no access_token in the answer");
    for (size_t i = 0; i < me.token.len && !st; i++)
        if (me.token.data[i] <= ' ' || me.token.data[i] > '~')
            st = err_set(err, SPT_E_IO, "a malformed access_token in the answer");
    if (st) {
        forget_token();
        return st;
    }
    seconds = seconds < 1 ? 300 : seconds > 86400 ? 86400 : seconds;
    seconds -= seconds > 2 * EARLY_SECONDS ? EARLY_SECONDS : seconds / 2;
    me.expires = os_monotonic_ns() + seconds * SECOND;
    return SPT_OK;
}

static spt_status blame_clock(const struct http_response *r, const char *who, spt_err *err)
{
    const int64_t off = os_clock_ns() / SECOND - r->date;
    if (!r->date || (off < CLOCK_TOLERANCE && off > -CLOCK_TOLERANCE))
        return SPT_OK;
    const double hours = (double)(off < 0 ? -off : off) / 3600;
    return err_set(err, SPT_E_CONFIG,
                   "%s: the clock of this machine is %.1f %s %s that of the server, so that its "
                   "signed request counts as expired: set the clock",
                   who, hours < 2 ? hours * 60 : hours, hours < 2 ? "minutes" : "hours",
                   off < 0 ? "behind" : "ahead of");
}

/* The server's "error" and "error_description", without anything of ours. */
static void refusal(const struct http_response *r, char *out, size_t cap)
{
    json_reader j;
    bool more;
    struct json_event key;
    buf text;
    buf_init(&text, MAX_TEXT);
    json_open(&j, r->body.data, r->body.len, 0);
    spt_status st = json_enter_object(&j, NULL);
    while (!st && !(st = json_next_key(&j, &more, &key, NULL)) && more) {
        if (json_is(&key, "error") || json_is(&key, "error_description")) {
            if (text.len)
                buf_adds(&text, ": ");
            st = json_read_text(&j, &text, NULL);
        } else {
            st = json_skip(&j, NULL);
        }
    }
    json_close(&j);
    snprintf(out, cap, "%.200s", buf_str(&text));
    buf_release(&text);
}

static void identity(char *out, size_t cap)
{
    switch (me.kind) {
    case SERVICE:
        snprintf(out, cap, "the service account %s", me.email);
        break;
    case USER:
        snprintf(out, cap, "the user of %s", me.file);
        break;
    case MACHINE:
        snprintf(out, cap, "this machine's service account");
        break;
    default:
        snprintf(out, cap, "nobody (no credentials were found)");
    }
}

void gs_auth_identity(char *out, size_t cap)
{
    pthread_mutex_lock(&mutex);
    identity(out, cap);
    pthread_mutex_unlock(&mutex);
}

static spt_status request_token(const struct http_request *q, spt_err *err)
{
    http_client *c;
    struct http_response r;
    char who[300], why[256], number[64];
    TRY(remote_client_take(&c, err));
    identity(who, sizeof who);
    http_response_init(&r);
    spt_status st = http_run(c, q, &r, err);
    if (!st && r.status == 200)
        st = take_answer(&r, err);
    else if (!st && me.kind == SERVICE)
        st = blame_clock(&r, who, err);
    if (!st && r.status != 200) {
        refusal(&r, why, sizeof why);
        st = err_set(err, SPT_E_CONFIG, "%s gets no token: the server answered %s%s%s", who,
                     http_status_text(r.status, number, sizeof number), why[0] ? ": " : "", why);
    }
    if (r.body.data)
        OPENSSL_cleanse(r.body.data, r.body.len);
    http_response_release(&r);
    remote_client_give(c);
    return st;
}

static spt_status from_machine(spt_err *err)
{
    static const char *const headers[] = {"Metadata-Flavor: Google"};
    buf url;
    buf_init(&url, MAX_TEXT);
    buf_addf(&url, "http://%s/computeMetadata/v1/instance/service-accounts/default/token",
             me.machine);
    spt_status st = buf_status(&url, "URL", err);
    const struct http_request q = {.url = buf_str(&url),
                                   .what = "the metadata server",
                                   .headers = headers,
                                   .header_count = 1,
                                   .follow = HTTP_NO_FOLLOW};
    if (!st)
        st = request_token(&q, err);
    buf_release(&url);
    return st;
}

static spt_status from_service(spt_err *err)
{
    static const char *const headers[] = {"Content-Type: application/x-www-form-urlencoded"};
    buf form, jwt;
    buf_init(&form, MAX_TEXT);
    buf_init(&jwt, MAX_TEXT);
    spt_status st = SPT_OK;
    if (me.kind == SERVICE) {
        st = make_jwt(&jwt, err);
        add_field(&form, "grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
        add_field(&form, "assertion", buf_str(&jwt));
    } else {
        add_field(&form, "grant_type", "refresh_token");
        add_field(&form, "client_id", me.client);
        add_field(&form, "client_secret", me.client_secret);
        add_field(&form, "refresh_token", me.refresh);
    }
    if (!st)
        st = buf_status(&form, "request for a token", err);
    const struct http_request q = {.url = me.token_uri,
                                   .what = "asking for a token",
                                   .headers = headers,
                                   .header_count = 1,
                                   .body = buf_str(&form),
                                   .body_size = form.len,
                                   .follow = HTTP_NO_FOLLOW};
    if (!st)
        st = request_token(&q, err);
    if (form.data)
        OPENSSL_cleanse(form.data, form.len);
    if (jwt.data)
        OPENSSL_cleanse(jwt.data, jwt.len);
    buf_release(&form);
    buf_release(&jwt);
    return st;
}

spt_status gs_auth_token(buf *out, spt_err *err)
{
    pthread_mutex_lock(&mutex);
    spt_status st = find_out(err);
    if (st)
        forget();
    else if (me.kind != NOBODY && (!me.token.len || os_monotonic_ns() >= me.expires))
        st = me.kind == MACHINE ? from_machine(err) : from_service(err);
    buf_clear(out);
    if (!st)
        buf_add(out, me.token.data, me.token.len);
    pthread_mutex_unlock(&mutex);
    return st ? st : buf_status(out, "token", err);
}

void gs_auth_reject(const char *token)
{
    pthread_mutex_lock(&mutex);
    if (me.token.len && !strcmp(buf_str(&me.token), token))
        forget_token();
    pthread_mutex_unlock(&mutex);
}

char *gs_auth_library_version(char *text)
{
    const unsigned long v = OpenSSL_version_num(); /* 0xMNN00PP0 from 3.0 on */
    snprintf(text, 32, "%lu.%lu.%lu", v >> 28 & 0xf, v >> 20 & 0xff, v >> 4 & 0xffff);
    return text;
}
