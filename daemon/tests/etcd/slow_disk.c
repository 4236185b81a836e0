/* Stands before the C library's calls that wait for the disk: each takes as many milliseconds longer as the file $SLOW_DISK says, while it is there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_long(void) {
    const char *path = getenv("SLOW_DISK");
    FILE *file = path ? fopen(path, "re") : NULL;
    unsigned milliseconds;
    if (file && fscanf(file, "%u", &milliseconds) == 1) usleep(milliseconds * 1000);
    if (file) fclose(file);
}

#define STAND_BEFORE(name)                                                        \
    int name(int file) {                                                          \
        static int (*behind)(int);                                                \
        if (!behind) behind = (int (*)(int)) dlsym(RTLD_NEXT, #name);             \
        wait_long();                                                              \
        return behind(file);                                                      \
    }

STAND_BEFORE(fdatasync)
STAND_BEFORE(fsync)
