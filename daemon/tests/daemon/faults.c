/* Stands before the C library's calls that write a database, and has them fail for as long as the file $FAULTS is there: its first letter says
   which, w for writes, l for those of the write-ahead log and s for waiting for the disk, the number behind it with which error, and a second number after how many milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(char call) {
    const char *path = getenv("FAULTS");
    FILE *file = path ? fopen(path, "re") : NULL;
    char said;
    int error, pause = 0, is_said = file && fscanf(file, "%c%d %d", &said, &error, &pause) >= 2;
    if (file) fclose(file);
    if (!is_said || said != call) return 0;
    usleep(pause * 1000);
    errno = error;
    return 1;
}

static int is_log(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length >= 4 && memcmp(path + length - 4, "-wal", 4) == 0;
}

#define STAND_BEFORE(fault, result, name, parameters, arguments)                  \
    result name parameters {                                                      \
        static result (*behind) parameters;                                       \
        if (!behind) behind = (result (*) parameters) dlsym(RTLD_NEXT, #name);    \
        return (fault) ? -1 : behind arguments;                                   \
    }

#define WRITE_FAILS fails('w') || (is_log(file) && fails('l'))

STAND_BEFORE(WRITE_FAILS, ssize_t, pwrite64, (int file, const void *bytes, size_t count, off64_t at), (file, bytes, count, at))
STAND_BEFORE(WRITE_FAILS, ssize_t, pwrite, (int file, const void *bytes, size_t count, off_t at), (file, bytes, count, at))
STAND_BEFORE(fails('s'), int, fdatasync, (int file), (file))
STAND_BEFORE(fails('s'), int, fsync, (int file), (file))
