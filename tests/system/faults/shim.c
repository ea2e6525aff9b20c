/* Between the appliance and the kernel (LD_PRELOAD): a disk that fails, a clock that jumps or is kept by nothing; set live.
 *
 * The control block is a file that both sides map: see `shim.py`, whose layout this is. Only files under the state folder
 * are struck, and only writing: what is read stays readable. The monotonic clock stays as it is.
 */
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
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    _Atomic int64_t clock_offset;   /* seconds that the wall clock is ahead */
    _Atomic int32_t error;          /* errno of a struck call; -1: a short write; 0: none is struck */
    _Atomic uint32_t one_in;        /* how many calls come on one that is struck */
    _Atomic uint32_t state;         /* of the random numbers */
    _Atomic uint32_t struck;        /* how many calls were */
    _Atomic int32_t largest_error;  /* microseconds by which the wall clock may be wrong, as adjtimex says; 0: as it is */
};

static struct control *control;
static char folder[4096];

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SCANSIDE_SHIM"), *under = getenv("SCANSIDE_SHIM_FOLDER");
    int descriptor = path && under ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (mapped == MAP_FAILED) return;
    snprintf(folder, sizeof folder, "%s/", under);
    control = mapped;
}

static int under_the_folder(int descriptor) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return !strncmp(path, folder, strlen(folder));
}

/* What happens to this call: an errno, -1 for a short write, 0 for nothing. */
static int strikes(int descriptor) {
    int error = control ? atomic_load(&control->error) : 0;
    if (!error || !under_the_folder(descriptor)) return 0;
    uint32_t random = atomic_fetch_add(&control->state, 0x9E3779B9u); /* a Weyl sequence, mixed (MurmurHash3's finalizer) */
    random ^= random >> 16; random *= 0x85EBCA6Bu; random ^= random >> 13; random *= 0xC2B2AE35u; random ^= random >> 16;
    if (random % atomic_load(&control->one_in)) return 0;
    atomic_fetch_add(&control->struck, 1);
    return error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRITES(name, parameters, whole, part)                 \
    ssize_t name parameters {                                 \
        static __typeof__(&name) real;                        \
        if (!real) real = REAL(name);                         \
        int error = strikes(fd);                              \
        if (error > 0) { errno = error; return -1; }          \
        if (error < 0 && n > 1) { size_t half = n / 2; return part; } \
        return whole;                                         \
    }
WRITES(write, (int fd, const void *data, size_t n), real(fd, data, n), real(fd, data, half))
WRITES(pwrite, (int fd, const void *data, size_t n, off_t at), real(fd, data, n, at), real(fd, data, half, at))
WRITES(pwrite64, (int fd, const void *data, size_t n, off64_t at), real(fd, data, n, at), real(fd, data, half, at))

#define FLUSHES(name, parameters, call)                       \
    int name parameters {                                     \
        static __typeof__(&name) real;                        \
        if (!real) real = REAL(name);                         \
        int error = strikes(fd);                              \
        if (error > 0 && error != ENOSPC) { errno = error; return -1; } \
        return call;                                          \
    }
FLUSHES(fsync, (int fd), real(fd))
FLUSHES(fdatasync, (int fd), real(fd))

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int status = real(clock, now);
    if (!status && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += atomic_load(&control->clock_offset);
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    static __typeof__(&gettimeofday) real;
    if (!real) real = REAL(gettimeofday);
    int status = real(now, zone);
    if (!status && control) now->tv_sec += atomic_load(&control->clock_offset);
    return status;
}

int adjtimex(struct timex *asked) {
    static __typeof__(&adjtimex) real;
    if (!real) real = REAL(adjtimex);
    int status = real(asked);
    int error = control ? atomic_load(&control->largest_error) : 0;
    if (!error) return status;
    asked->maxerror = error;
    return TIME_OK;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
