/* A lean caller of aiorchd: keeps DEPTH calls in flight on each of CONNECTIONS Unix-socket connections, and checks every
   answer: well-formed MessagePack, the msgid of a call that waits on this connection, no error, the right text, cache as
   expected, an id that no answer had before.

   unix_load SOCKET QUESTIONS CONNECTIONS DEPTH WARM_S SECONDS PID CACHE

   QUESTIONS: for each question u32 request size, u32 offset of the msgid (a uint 32) in it, u32 text size, request, text;
   sizes in the byte order of the machine. Prints one line of JSON; a wrong answer ends it with code 1. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MOST_DEPTH 256
#define IN_BYTES (1 << 20)

typedef struct { unsigned char *request, *text; uint32_t size, msgid_at, text_size; } Question;
typedef struct { uint32_t msgid; int question; double sent_at; } Slot;
typedef struct { int fd; unsigned char *in; size_t filled; Slot slots[MOST_DEPTH]; } Connection;

static Question *questions;
static int question_count, next_question;
static uint32_t next_turn;
static float *latencies;
static size_t latency_count, latency_room;
static uint64_t *ids;
static size_t id_count, id_room;
static int measuring;
static const char *wanted_cache;

static void die(const char *what) { fprintf(stderr, "unix_load: %s\n", what); exit(1); }

static double now(clockid_t clock) {
    struct timespec t;
    if (clock_gettime(clock, &t)) die("no such process");
    return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t big(const unsigned char *p, int bytes) {
    uint64_t n = 0;
    while (bytes--) n = n << 8 | *p++;
    return n;
}

/* Steps over one value. NULL: not all of it is there. */
static const unsigned char *skip(const unsigned char *p, const unsigned char *end) {
    uint64_t left = 1;
    while (left--) {
        uint64_t bytes = 0;
        if (p >= end) return NULL;
        unsigned char b = *p++;
        if (b <= 0x7f || b >= 0xe0) continue;
        if (b <= 0x8f) left += 2 * (b & 15);
        else if (b <= 0x9f) left += b & 15;
        else if (b <= 0xbf) bytes = b & 31;
        else switch (b) {
            case 0xc0: case 0xc2: case 0xc3: break;
            case 0xcc: case 0xd0: bytes = 1; break;
            case 0xcd: case 0xd1: bytes = 2; break;
            case 0xca: case 0xce: case 0xd2: bytes = 4; break;
            case 0xcb: case 0xcf: case 0xd3: bytes = 8; break;
            case 0xc4: case 0xd9: if (end - p < 1) return NULL; bytes = 1 + big(p, 1); break;
            case 0xc5: case 0xda: if (end - p < 2) return NULL; bytes = 2 + big(p, 2); break;
            case 0xc6: case 0xdb: if (end - p < 4) return NULL; bytes = 4 + big(p, 4); break;
            case 0xdc: if (end - p < 2) return NULL; left += big(p, 2); bytes = 2; break;
            case 0xdd: if (end - p < 4) return NULL; left += big(p, 4); bytes = 4; break;
            case 0xde: if (end - p < 2) return NULL; left += 2 * big(p, 2); bytes = 2; break;
            case 0xdf: if (end - p < 4) return NULL; left += 2 * big(p, 4); bytes = 4; break;
            default: die("not well-formed MessagePack, or an extension type");
        }
        if ((uint64_t)(end - p) < bytes) return NULL;
        p += bytes;
    }
    return p;
}

/* Text at p: its bytes and size. Returns what follows. The value is known to be whole. */
static const unsigned char *text_at(const unsigned char *p, const unsigned char **text, uint32_t *size) {
    unsigned char b = *p++;
    if (b >= 0xa0 && b <= 0xbf) *size = b & 31;
    else if (b == 0xd9) *size = *p, p += 1;
    else if (b == 0xda) *size = big(p, 2), p += 2;
    else if (b == 0xdb) *size = big(p, 4), p += 4;
    else die("text was expected");
    *text = p;
    return p + *size;
}

static void remember_id(const unsigned char *text, uint32_t size) {
    uint64_t hash = 1469598103934665603ull;
    while (size--) hash = (hash ^ *text++) * 1099511628211ull;
    hash ^= hash >> 29;
    if (!hash) hash = 1;
    if (2 * ++id_count > id_room) {
        uint64_t *old = ids;
        size_t old_room = id_room;
        id_room = id_room ? 2 * id_room : 1 << 20;
        ids = calloc(id_room, sizeof *ids);
        if (!ids) die("no memory");
        for (size_t i = 0; i < old_room; i++)
            if (old[i]) {
                size_t at = old[i] & (id_room - 1);
                while (ids[at]) at = (at + 1) & (id_room - 1);
                ids[at] = old[i];
            }
        free(old);
    }
    size_t at = hash & (id_room - 1);
    for (; ids[at]; at = (at + 1) & (id_room - 1))
        if (ids[at] == hash) die("two answers have the same id");
    ids[at] = hash;
}

/* Takes one whole answer; gives the slot it belongs to. */
static int take(Connection *c, int depth, const unsigned char *p, const unsigned char *end) {
    uint32_t msgid, pairs, size, name_size;
    const unsigned char *text, *name;
    int seen_id = 0, seen_text = 0, seen_cache = 0;
    if (*p++ != 0x94 || *p++ != 0x01) die("not an answer");
    if (*p <= 0x7f) msgid = *p++;
    else if (*p == 0xcc) msgid = p[1], p += 2;
    else if (*p == 0xcd) msgid = big(p + 1, 2), p += 3;
    else if (*p == 0xce) msgid = big(p + 1, 4), p += 5;
    else die("a msgid nobody sent");
    int slot = msgid & 255;
    if (slot >= depth || c->slots[slot].msgid != msgid) die("an answer to a call that does not wait");
    Question *q = &questions[c->slots[slot].question];
    if (*p != 0xc0) { fwrite(p, 1, end - p > 300 ? 300 : end - p, stderr); die(" <- an error came"); }
    p++;
    if (*p >= 0x80 && *p <= 0x8f) pairs = *p++ & 15;
    else if (*p == 0xde) pairs = big(p + 1, 2), p += 3;
    else die("the result is no map");
    while (pairs--) {
        p = text_at(p, &name, &name_size);
        if (name_size == 2 && !memcmp(name, "id", 2)) {
            text_at(p, &text, &size);
            remember_id(text, size);
            seen_id++;
        } else if (name_size == 4 && !memcmp(name, "text", 4)) {
            text_at(p, &text, &size);
            if (size != q->text_size || memcmp(text, q->text, size)) die("a wrong answer");
            seen_text++;
        } else if (name_size == 5 && !memcmp(name, "cache", 5)) {
            text_at(p, &text, &size);
            if (size != strlen(wanted_cache) || memcmp(text, wanted_cache, size)) die("not answered from where it should");
            seen_cache++;
        }
        p = skip(p, end);
    }
    if (p != end || seen_id != 1 || seen_text != 1 || seen_cache != 1) die("an answer without id, text or cache");
    c->slots[slot].msgid = 0;
    return slot;
}

static size_t put(Connection *c, int slot, unsigned char *out) {
    Question *q = &questions[next_question];
    uint32_t msgid = 0x01000000u + ((next_turn++ & 0xfffff) << 8) + slot;
    c->slots[slot] = (Slot){msgid, next_question, now(CLOCK_MONOTONIC)};
    next_question = (next_question + 1) % question_count;
    memcpy(out, q->request, q->size);
    for (int i = 0; i < 4; i++) out[q->msgid_at + i] = msgid >> (24 - 8 * i);
    return q->size;
}

static void send_all(int fd, const unsigned char *p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0) die("the daemon closed the connection");
        p += sent, n -= sent;
    }
}

static void note(double latency) {
    if (latency_count == latency_room) {
        latency_room = latency_room ? 2 * latency_room : 1 << 20;
        latencies = realloc(latencies, latency_room * sizeof *latencies);
        if (!latencies) die("no memory");
    }
    latencies[latency_count++] = latency;
}

static int by_size(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void load_questions(const char *path) {
    FILE *f = fopen(path, "rb");
    uint32_t head[3];
    if (!f) die("the questions cannot be read");
    while (fread(head, sizeof head, 1, f) == 1) {
        questions = realloc(questions, (question_count + 1) * sizeof *questions);
        Question *q = &questions[question_count++];
        *q = (Question){malloc(head[0]), malloc(head[2] + 1), head[0], head[1], head[2]};
        if (fread(q->request, 1, q->size, f) != q->size || fread(q->text, 1, q->text_size, f) != q->text_size)
            die("the questions are cut");
    }
    fclose(f);
    if (!question_count) die("no questions");
}

int main(int argc, char **argv) {
    if (argc != 9) die("SOCKET QUESTIONS CONNECTIONS DEPTH WARM_S SECONDS PID CACHE");
    load_questions(argv[2]);
    int connections = atoi(argv[3]), depth = atoi(argv[4]), in_flight = 0;
    double warm = atof(argv[5]), seconds = atof(argv[6]);
    clockid_t server;
    wanted_cache = argv[8];
    if (connections < 1 || depth < 1 || depth > MOST_DEPTH) die("bad shape");
    if (clock_getcpuclockid(atoi(argv[7]), &server)) die("no such process");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
    Connection *all = calloc(connections, sizeof *all);
    size_t most = 0;
    for (int i = 0; i < question_count; i++) if (questions[i].size > most) most = questions[i].size;
    unsigned char *out = malloc(most * depth);
    int poll = epoll_create1(0);
    for (int i = 0; i < connections; i++) {
        Connection *c = &all[i];
        c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
        c->in = malloc(IN_BYTES);
        if (connect(c->fd, (struct sockaddr *)&address, sizeof address)) die("cannot connect");
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &e);
    }
    double began = now(CLOCK_MONOTONIC), start = began + warm, stop = start + seconds;
    double server_0 = 0, own_0 = 0, ended = 0, server_1 = 0, own_1 = 0;
    for (int i = 0; i < connections; i++) {
        size_t n = 0;
        for (int slot = 0; slot < depth; slot++) n += put(&all[i], slot, out + n), in_flight++;
        send_all(all[i].fd, out, n);
    }
    while (in_flight) {
        struct epoll_event ready[256];
        int count = epoll_wait(poll, ready, 256, 5000);
        if (count <= 0) die("no answer for five seconds");
        for (int i = 0; i < count; i++) {
            Connection *c = ready[i].data.ptr;
            ssize_t got = recv(c->fd, c->in + c->filled, IN_BYTES - c->filled, MSG_DONTWAIT);
            if (got <= 0) die("the daemon closed the connection");
            c->filled += got;
            const unsigned char *p = c->in, *end = c->in + c->filled, *next;
            size_t n = 0;
            double t = now(CLOCK_MONOTONIC);
            while (p < end && (next = skip(p, end))) {
                int slot = take(c, depth, p, next);
                p = next;
                if (measuring) note(t - c->slots[slot].sent_at);
                if (t < stop) n += put(c, slot, out + n);
                else in_flight--;
            }
            c->filled = end - p;
            memmove(c->in, p, c->filled);
            if (n) send_all(c->fd, out, n);
            if (!measuring && !ended && t >= start) {
                measuring = 1, start = t;
                server_0 = now(server), own_0 = now(CLOCK_PROCESS_CPUTIME_ID);
            }
            if (measuring && t >= stop) {
                measuring = 0, ended = t;
                server_1 = now(server), own_1 = now(CLOCK_PROCESS_CPUTIME_ID);
            }
        }
    }
    if (!latency_count) die("nothing was answered");
    qsort(latencies, latency_count, sizeof *latencies, by_size);
    double elapsed = ended - start, n = latency_count;
    printf("{\"count\": %zu, \"per_s\": %.1f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"daemon_cpu_us\": %.3f, "
           "\"load_cpu_us\": %.3f, \"load_busy\": %.3f, \"daemon_busy\": %.3f, \"checked\": %zu}\n",
           latency_count, n / elapsed, 1e6 * latencies[latency_count / 2], 1e6 * latencies[latency_count * 99 / 100],
           1e6 * (server_1 - server_0) / n, 1e6 * (own_1 - own_0) / n, (own_1 - own_0) / elapsed,
           (server_1 - server_0) / elapsed, id_count);
    return 0;
}
