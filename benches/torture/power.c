/* A power cut's model. Whatever a file below $POWER_WATCH holds when a sync of it has returned is copied to $POWER_SHADOW; a power cut
 * leaves that, and of what was written later as much as whoever restores it likes. sync_file_range counts for nothing, as on a real disk.
 * With $POWER_DEAF, fdatasync counts for nothing either: what a database does by itself, without its user's own sync.
 * Built and preloaded by benches/torture_power.rs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* The file is known by its inode and the moment at which it was made: a name may move on, an inode may be used again. */
static void keep(int fd)
{
    const char *watch = getenv("POWER_WATCH"), *shadow = getenv("POWER_SHADOW");
    char link[64], path[4096], name[4200], draft[4300], block[65536];
    struct statx about;
    if (!watch || !shadow)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0)
        return;
    path[length] = 0;
    if (strncmp(path, watch, strlen(watch)) != 0)
        return;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &about) != 0 || !S_ISREG(about.stx_mode))
        return;
    pthread_mutex_lock(&lock);
    snprintf(name, sizeof name, "%s/%llu_%lld_%u", shadow, (unsigned long long)about.stx_ino,
             (long long)about.stx_btime.tv_sec, about.stx_btime.tv_nsec);
    snprintf(draft, sizeof draft, "%s.draft", name);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    int to = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int whole = from >= 0 && to >= 0;
    for (ssize_t got; whole && (got = read(from, block, sizeof block)) != 0;)
        whole = got > 0 && write(to, block, (size_t)got) == got;
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    if (whole)
        rename(draft, name);
    else
        abort(); /* A model that can't remember proves nothing. */
    pthread_mutex_unlock(&lock);
}

int fsync(int fd)
{
    int result = (int)syscall(SYS_fsync, fd);
    if (result == 0)
        keep(fd);
    return result;
}

int fdatasync(int fd)
{
    int result = (int)syscall(SYS_fdatasync, fd);
    if (result == 0 && !getenv("POWER_DEAF"))
        keep(fd);
    return result;
}
