/* A disk that waits or fails, for tests: loaded before libc, it stands between the sidecar and `fdatasync`. The file that
 * RINGLANE_TEST_DISK names says what becomes of a call: "hold", it waits until the file says something else; "fail", EIO;
 * "once", EIO and then nothing; anything else, it is the kernel's. Beside it, NAME.calls tells what was synced, a line each. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *disk;

__attribute__((constructor)) static void begin(void) { disk = getenv("RINGLANE_TEST_DISK"); }

static void tell(int fd, const char *what) {
    char name[64], path[4096], file[4096], line[4200];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, file, sizeof file - 1);
    file[length < 0 ? 0 : length] = 0;
    snprintf(path, sizeof path, "%s.calls", disk);
    const char *slash = strrchr(file, '/');
    int size = snprintf(line, sizeof line, "%s %s\n", what, slash ? slash + 1 : file);
    int calls = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (calls >= 0 && write(calls, line, size) < 0) perror(path);
    close(calls);
}

int fdatasync(int fd) {
    for (int is_told = 0; disk;) {
        char word[8] = "";
        int file = open(disk, O_RDONLY | O_CLOEXEC);
        ssize_t length = file < 0 ? 0 : read(file, word, sizeof word - 1);
        close(file);
        word[length < 0 ? 0 : length] = 0;
        if (strcmp(word, "hold") == 0) {
            if (!is_told++) tell(fd, "held");
            usleep(500);
            continue;
        }
        if (strcmp(word, "fail") == 0 || strcmp(word, "once") == 0) {
            if (word[0] == 'o') truncate(disk, 0);
            tell(fd, "failed");
            errno = EIO;
            return -1;
        }
        tell(fd, "synced");
        break;
    }
    return (int)syscall(SYS_fdatasync, fd);
}
