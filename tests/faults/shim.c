/* Makes writes below one folder fail in any process that preloads this library: Python, SQLite, Rust and C++.
 *
 * FAULT_UNDER names the folder. FAULT_CONTROL names a file with a `struct control` that all processes share: the
 * harness writes `kind` and `limit` into it and reads the rest (shim.py). The library does not see writes through mmap,
 * and fputs and fprintf of C's stdio. It overrides fwrite too, because stdio's calls of write stay inside libc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT_ONLY, FULL_DISK, FAILED_WRITE, FAILED_FSYNC };
struct control {
    _Atomic int64_t written; /* bytes that were written, or that a process tried to write */
    _Atomic int64_t limit;   /* the fault strikes after this many bytes */
    _Atomic int32_t kind;
    _Atomic int32_t struck;
    char where[1024]; /* the file that the fault hit first, and the process */
};
static struct control *control;
static const char *under;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULT_CONTROL");
    under = getenv("FAULT_UNDER");
    int fd = path && under ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared != MAP_FAILED) control = shared;
}

/* Returns whether a descriptor is a file below the folder; writes its path into `path`. */
static int ours(int fd, char *path, size_t size) {
    if (!control) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int before = errno;
    ssize_t length = readlink(link, path, size - 1);
    errno = before;
    if (length < 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(under);
    return strncmp(path, under, prefix) == 0 && path[prefix] == '/';
}

/* Records that the fault struck; returns true only the first time. */
static int strike(const char *path) {
    int32_t no = 0;
    if (!atomic_compare_exchange_strong(&control->struck, &no, 1)) return 0;
    snprintf(control->where, sizeof control->where, "%s (process %d)", path, (int)getpid());
    return 1;
}

/* Returns how many of `count` bytes may be written; -1, with errno set, if none may. */
static ssize_t allowed(int fd, size_t count) {
    char path[768];
    if (count == 0 || !ours(fd, path, sizeof path)) return (ssize_t)count;
    int64_t before = atomic_fetch_add(&control->written, (int64_t)count), room = control->limit - before;
    if (room >= (int64_t)count) return (ssize_t)count;
    if (control->kind == FULL_DISK) {
        if (room > 0) return room; /* the rest that fits: a short write, as on a real disk */
        strike(path);
        errno = ENOSPC;
        return -1;
    }
    if (control->kind == FAILED_WRITE && strike(path)) {
        errno = EIO;
        return -1;
    }
    return (ssize_t)count;
}

/* Subtracts bytes that were counted but not written: copies request more bytes than the file has. */
static void spare(int fd, size_t counted, ssize_t done) {
    char path[768];
    size_t written = done < 0 ? 0 : (size_t)done;
    if (written < counted && ours(fd, path, sizeof path)) atomic_fetch_sub(&control->written, (int64_t)(counted - written));
}

static int sync_fails(int fd) {
    char path[768];
    if (!ours(fd, path, sizeof path) || control->kind != FAILED_FSYNC || control->written <= control->limit) return 0;
    if (!strike(path)) return 0;
    errno = EIO;
    return 1;
}

static size_t total(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    return bytes;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define LIMITED(name, result, fd, bytes, whole, part, ...)                                      \
    result name(__VA_ARGS__) {                                                                  \
        static __typeof__(&name) real;                                                          \
        if (!real) real = REAL(name);                                                           \
        ssize_t room = allowed(fd, bytes);                                                      \
        if (room < 0) return -1;                                                                \
        size_t asked = (bytes);                                                                 \
        result done = room == (ssize_t)asked ? real whole : real part;                          \
        spare(fd, (size_t)room, done);                                                          \
        return done;                                                                            \
    }

LIMITED(write, ssize_t, fd, size, (fd, data, size), (fd, data, (size_t)room), int fd, const void *data, size_t size)
LIMITED(pwrite, ssize_t, fd, size, (fd, data, size, at), (fd, data, (size_t)room, at),
        int fd, const void *data, size_t size, off_t at)
LIMITED(pwrite64, ssize_t, fd, size, (fd, data, size, at), (fd, data, (size_t)room, at),
        int fd, const void *data, size_t size, off64_t at)
LIMITED(sendfile, ssize_t, to, size, (to, from, at, size), (to, from, at, (size_t)room),
        int to, int from, off_t *at, size_t size)
LIMITED(sendfile64, ssize_t, to, size, (to, from, at, size), (to, from, at, (size_t)room),
        int to, int from, off64_t *at, size_t size)
LIMITED(copy_file_range, ssize_t, to, size, (from, at, to, there, size, flags), (from, at, to, there, (size_t)room, flags),
        int from, off64_t *at, int to, off64_t *there, size_t size, unsigned flags)

/* Writes of several parts: if they do not all fit, only the first part is written. */
#define FIRST(room) ((size_t)(room) < parts[0].iov_len ? (struct iovec[]){{parts[0].iov_base, (size_t)(room)}} : parts)
LIMITED(writev, ssize_t, fd, total(parts, count), (fd, parts, count), (fd, FIRST(room), 1),
        int fd, const struct iovec *parts, int count)
LIMITED(pwritev, ssize_t, fd, total(parts, count), (fd, parts, count, at), (fd, FIRST(room), 1, at),
        int fd, const struct iovec *parts, int count, off_t at)
LIMITED(pwritev64, ssize_t, fd, total(parts, count), (fd, parts, count, at), (fd, FIRST(room), 1, at),
        int fd, const struct iovec *parts, int count, off64_t at)
LIMITED(fallocate, int, fd, (size_t)size, (fd, mode, at, size), (fd, mode, at, size), int fd, int mode, off_t at, off_t size)

int posix_fallocate(int fd, off_t at, off_t size) {
    return allowed(fd, (size_t)size) < 0 ? errno : REAL(posix_fallocate)(fd, at, size);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    static __typeof__(&fwrite) real;
    if (!real) real = REAL(fwrite);
    ssize_t room = allowed(fileno(stream), size * count);
    if (room == (ssize_t)(size * count)) return real(data, size, count, stream);
    size_t done = room < 0 ? 0 : real(data, size, (size_t)room / size, stream);
    allowed(fileno(stream), 1); /* stdio would try to write the rest immediately */
    return done;
}

int fsync(int fd) { return sync_fails(fd) ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return sync_fails(fd) ? -1 : REAL(fdatasync)(fd); }
