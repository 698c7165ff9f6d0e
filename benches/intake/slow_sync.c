/* Every call that waits for the disk takes 10 ms longer: a stand-in for a card. Built and preloaded by benches/intake.rs. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static void wait_longer(void)
{
    struct timespec pause = {0, 10 * 1000 * 1000};
    nanosleep(&pause, NULL);
}

int fsync(int fd)
{
    wait_longer();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    wait_longer();
    return (int)syscall(SYS_fdatasync, fd);
}

/* sled calls it in its flush. It waits for the write, too, though it is no promise for a power cut. */
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags)
{
    wait_longer();
    return (int)syscall(SYS_sync_file_range, fd, offset, bytes, flags);
}
