/* Stands before the C library's calls that write a database, and has them fail for as long as the file $FAULTS is there: its first letter says
   which, w for writes and s for waiting for the disk, the number behind it with which error, and a second number after how many milliseconds. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

#define STAND_BEFORE(letter, result, name, parameters, arguments)                 \
    result name parameters {                                                      \
        static result (*behind) parameters;                                       \
        if (!behind) behind = (result (*) parameters) dlsym(RTLD_NEXT, #name);    \
        return fails(letter) ? -1 : behind arguments;                             \
    }

STAND_BEFORE('w', ssize_t, pwrite64, (int file, const void *bytes, size_t count, off64_t at), (file, bytes, count, at))
STAND_BEFORE('w', ssize_t, pwrite, (int file, const void *bytes, size_t count, off_t at), (file, bytes, count, at))
STAND_BEFORE('s', int, fdatasync, (int file), (file))
STAND_BEFORE('s', int, fsync, (int file), (file))
